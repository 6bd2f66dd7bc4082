// The store on disk: a snapshot and a log of the changes since. Each change is written to the log before it becomes
// visible, so a killed process loses nothing; fdatasync follows in batches, for a killed machine. When the log has
// outgrown the snapshot both are replaced by a new snapshot.
//
//   snapshot     {version} then one record an object     (written beside, synced, renamed)
//   log.<version> one record a change after <version>

import {
  closeSync,
  existsSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Logger } from "../../log/logger.ts";
import { errorCode, errorMessage, MeshError } from "../../util/error.ts";
import type { Json } from "../cluster.ts";
import { encodeRecord, readRecords } from "./records.ts";
import type { Change, Journal, Store } from "./store.ts";

/** A log shorter than this is never compacted. */
const MIN_COMPACTION = 8 * 1024 * 1024;
/** How long a written change may wait for its fdatasync, in ms. */
const SYNC_DELAY = 20;
const SNAPSHOT = "snapshot";

/** Loads `dir` (made when absent) into `store` and journals its changes from then on. */
export function openJournal(dir: string, store: Store, log: Logger): Journal & { close(): void } {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const journal = new FileJournal(dir, store, log);
    store.writeTo(journal);
    return journal;
  } catch (error) {
    if (error instanceof MeshError) throw error;
    throw new MeshError(`cannot use ${dir} for the cluster's state: ${errorMessage(error)}`, {
      hints: hintsFor(error),
      cause: error,
    });
  }
}

function hintsFor(error: unknown): string[] {
  switch (errorCode(error)) {
    case "EROFS":
      return ["The file system is read-only: choose another directory with --dir."];
    case "EACCES":
    case "EPERM":
      return ["You may not write there: choose another directory with --dir, or change its owner."];
    case "ENOSPC":
    case "EDQUOT":
      return ["The disk is full: make room, or choose another directory with --dir."];
    default:
      return ["Choose another directory with --dir."];
  }
}

class FileJournal implements Journal {
  readonly #dir: string;
  readonly #store: Store;
  readonly #log: Logger;
  #fd = -1;
  #path = "";
  #size = 0;
  #snapshotSize = 0;
  #unsynced = false;
  #syncing = false;
  /** Why the disk cannot be trusted: changes are refused until a sync succeeds. */
  #broken: Error | undefined;

  constructor(dir: string, store: Store, log: Logger) {
    this.#dir = dir;
    this.#store = store;
    this.#log = log;
    const base = this.#loadSnapshot();
    this.#loadLog(base);
  }

  append(change: Change): void {
    if (this.#broken) this.#recover();
    const record = encodeRecord(
      change.type === "DELETED"
        ? { d: change.collection, k: change.key, v: change.version, o: change.object }
        : { p: change.collection, k: change.key, v: change.version, o: change.object },
    );
    let written = 0;
    try {
      while (written < record.length) {
        written += writeSync(this.#fd, record, written, record.length - written, this.#size + written);
      }
    } catch (error) {
      // Nothing of this change may stay: the next one would follow half a record.
      try {
        ftruncateSync(this.#fd, this.#size);
      } catch {}
      throw new Error(`the change is refused: cannot write ${this.#path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
    this.#size += record.length;
    this.#sync();
  }

  settled(): void {
    if (this.#size < MIN_COMPACTION || this.#size < this.#snapshotSize) return;
    try {
      this.#compact();
    } catch (error) {
      // The old snapshot and log still hold everything; try again after as much has been written again.
      this.#snapshotSize = this.#size + MIN_COMPACTION;
      this.#log.warn("cannot write a snapshot; the log goes on growing", { error: errorMessage(error) });
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    try {
      fsyncSync(this.#fd);
    } finally {
      closeSync(this.#fd);
      this.#fd = -1;
    }
  }

  #loadSnapshot(): number {
    const path = join(this.#dir, SNAPSHOT);
    if (!existsSync(path)) return this.#store.version;
    const bytes = readFileSync(path);
    let version = 0;
    let expected = -1;
    let count = 0;
    const { damaged } = readRecords(bytes, (record: Json) => {
      if (expected < 0) {
        version = record.version;
        expected = record.objects;
        return;
      }
      this.#store.restore(record.c, record.k, record.o);
      count++;
    });
    if (damaged || count !== expected) {
      throw new MeshError(
        `the cluster's state in ${path} is damaged: ${count} of ${expected} objects can be read`,
        {
          hints: [
            "The disk may be failing. Restore the directory from a copy, or remove it to start with an empty cluster.",
          ],
        },
      );
    }
    this.#snapshotSize = bytes.length;
    this.#store.restored(version);
    return version;
  }

  #loadLog(base: number): void {
    this.#path = join(this.#dir, `log.${base}`);
    for (const name of readdirSync(this.#dir)) {
      // Left by a compaction that was cut short, before or after its rename.
      const stale = (/^log\.\d+$/.test(name) && name !== `log.${base}`) || name === `${SNAPSHOT}.new`;
      if (stale) rmSync(join(this.#dir, name));
    }
    if (existsSync(this.#path)) {
      const bytes = readFileSync(this.#path);
      const { end, damaged } = readRecords(bytes, (record: Json) => this.#replay(record));
      if (damaged) {
        this.#log.warn("the last change was not written whole and is dropped", {
          file: this.#path,
          bytes: bytes.length - end,
        });
      }
      this.#size = end;
    }
    this.#fd = openSync(this.#path, existsSync(this.#path) ? "r+" : "w+", 0o600);
    ftruncateSync(this.#fd, this.#size);
  }

  #replay(record: Json): void {
    const collection = record.p ?? record.d;
    this.#store.replay({
      type: record.d === undefined ? "MODIFIED" : "DELETED",
      collection,
      key: record.k,
      version: record.v,
      object: record.o,
    });
  }

  #compact(): void {
    const version = this.#store.version;
    const records: Buffer[] = [];
    for (const collection of this.#store.collections()) {
      for (const [key, object] of this.#store.entries(collection)) {
        records.push(encodeRecord({ c: collection, k: key, o: object }));
      }
    }
    const bytes = Buffer.concat([encodeRecord({ version, objects: records.length }), ...records]);
    const fresh = join(this.#dir, `${SNAPSHOT}.new`);
    const logPath = join(this.#dir, `log.${version}`);
    const snapshotFd = openSync(fresh, "w", 0o600);
    try {
      let written = 0;
      while (written < bytes.length) written += writeSync(snapshotFd, bytes, written);
      fsyncSync(snapshotFd);
    } finally {
      closeSync(snapshotFd);
    }
    const logFd = openSync(logPath, "w+", 0o600);
    try {
      renameSync(fresh, join(this.#dir, SNAPSHOT));
    } catch (error) {
      closeSync(logFd);
      throw error;
    }
    closeSync(this.#fd);
    rmSync(this.#path, { force: true });
    this.#fd = logFd;
    this.#path = logPath;
    this.#size = 0;
    this.#snapshotSize = bytes.length;
    this.#syncDirectory();
  }

  #syncDirectory(): void {
    const fd = openSync(this.#dir, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  #sync(): void {
    this.#unsynced = true;
    if (this.#syncing) return;
    this.#syncing = true;
    setTimeout(() => {
      this.#unsynced = false;
      const fd = this.#fd;
      if (fd < 0) return;
      fdatasync(fd, (error) => {
        this.#syncing = false;
        // A descriptor that a compaction has closed meanwhile is no failure: the snapshot was synced.
        if (error && fd === this.#fd) {
          this.#broken = error;
          this.#log.error("cannot sync the cluster's state to disk; changes are refused", {
            error: errorMessage(error),
          });
        } else if (this.#unsynced) this.#sync();
      });
    }, SYNC_DELAY).unref();
  }

  #recover(): void {
    try {
      if (fstatSync(this.#fd).size !== this.#size) ftruncateSync(this.#fd, this.#size);
      fsyncSync(this.#fd);
      this.#broken = undefined;
    } catch (error) {
      throw new Error(`the change is refused: cannot write ${this.#path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }
}
