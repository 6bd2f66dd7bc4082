// A container's log on disk, in the container runtimes' format, one line an event:
//   2026-01-02T03:04:05.678000000Z stdout F the line
// `P` instead of `F` marks a part of a longer line. Bounded: at the limit the file moves to `.1`.
import { createReadStream, readFileSync, renameSync, statSync, unlinkSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { Clock } from "../../util/clock.ts";

/** Bytes of one file; two are kept. */
export const MAX_LOG_BYTES = 10 * 1024 * 1024;
/** Longest line stored as one; as container runtimes have it. */
const MAX_LINE = 16 * 1024;
/** Bytes that wait for the disk before the container has to. */
const MAX_QUEUED = 1024 * 1024;

/** Writes what a container says. Reading a stream stops while the disk is behind. */
export class LogWriter {
  readonly path: string;
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #listeners = new Set<() => void>();
  readonly #paused = new Set<Readable>();
  #queue: Buffer[] = [];
  #queued = 0;
  #written: number;
  #flushing: Promise<void> | undefined;
  #sources = 0;
  #closed = false;
  readonly #taps = new Set<(stream: "stdout" | "stderr", chunk: Buffer) => void>();
  #end: () => void = () => {};
  /** Resolves when all sources have ended. */
  readonly ended = new Promise<void>((resolve) => {
    this.#end = resolve;
  });

  constructor(path: string, clock: Clock, limit = MAX_LOG_BYTES) {
    this.path = path;
    this.#clock = clock;
    this.#limit = limit;
    this.#written = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** The log of a container that has ended. */
  static ended(path: string, clock: Clock): LogWriter {
    const log = new LogWriter(path, clock);
    log.#closed = true;
    log.#end();
    return log;
  }

  /** Takes everything that comes until the stream ends. */
  consume(source: Readable, stream: "stdout" | "stderr"): void {
    let rest: Buffer = Buffer.alloc(0);
    this.#sources += 1;
    source.on("data", (chunk: Buffer) => {
      for (const tap of this.#taps) tap(stream, chunk);
      let data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      for (;;) {
        const end = data.indexOf(10);
        if (end < 0 && data.length < MAX_LINE) break;
        const cut = end >= 0 && end <= MAX_LINE ? end : MAX_LINE;
        this.#line(stream, cut === end ? "F" : "P", data.subarray(0, cut));
        data = data.subarray(cut === end ? cut + 1 : cut);
      }
      rest = data;
      if (this.#queued > MAX_QUEUED) {
        source.pause();
        this.#paused.add(source);
      }
    });
    const end = () => {
      source.off("close", end);
      if (rest.length > 0) this.#line(stream, "F", rest);
      rest = Buffer.alloc(0);
      this.#sources -= 1;
      if (this.#sources === 0) void this.#finish();
    };
    source.on("error", () => {});
    source.on("close", end);
  }

  /** Whether nothing more will come and all is on disk. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Calls `listener` after new lines are on disk, and at the end. Returns the stop function. */
  onWritten(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Hands over what comes from now on, as it comes. Returns the stop function. */
  tap(listener: (stream: "stdout" | "stderr", chunk: Buffer) => void): () => void {
    this.#taps.add(listener);
    return () => void this.#taps.delete(listener);
  }

  /** The last lines said, at most so many bytes and lines, for a termination message. */
  tail(bytes: number, lines: number): string {
    const stored = Buffer.concat([readEnd(this.path, bytes * 2), ...this.#queue]).toString("utf8");
    const texts = stored.split("\n").map((line) => line.split(" ").slice(3).join(" "));
    return texts
      .slice(-lines - 1)
      .join("\n")
      .slice(-bytes);
  }

  #line(stream: string, tag: "F" | "P", text: Buffer): void {
    // Nine digits, as runtimes write them: Date gives three.
    const time = new Date(this.#clock.now()).toISOString().replace("Z", "000000Z");
    const line = Buffer.concat([Buffer.from(`${time} ${stream} ${tag} `), text, Buffer.from("\n")]);
    this.#queue.push(line);
    this.#queued += line.length;
    this.#flushing ??= this.#flush();
  }

  async #finish(): Promise<void> {
    while (this.#flushing) await this.#flushing;
    this.#closed = true;
    this.#notify();
    this.#end();
  }

  async #flush(): Promise<void> {
    // Lines of the same turn go out in one write.
    await Promise.resolve();
    let file: FileHandle | undefined;
    try {
      while (this.#queue.length > 0) {
        if (this.#written + this.#queue[0]!.length > this.#limit && this.#written > 0) {
          await file?.close();
          file = undefined;
          renameSync(this.path, `${this.path}.1`);
          this.#written = 0;
        }
        const batch = this.#nextBatch(this.#limit - this.#written);
        file ??= await open(this.path, "a");
        await file.write(batch);
        this.#written += batch.length;
        for (const source of this.#paused) source.resume();
        this.#paused.clear();
        this.#notify();
      }
    } catch {
      // A full disk loses log lines, not the container.
      this.#queue = [];
      this.#queued = 0;
      for (const source of this.#paused) source.resume();
      this.#paused.clear();
    } finally {
      await file?.close().catch(() => {});
      // Lines may have come while the file was closed.
      this.#flushing = this.#queue.length > 0 ? this.#flush() : undefined;
    }
  }

  /** At least one line, and as many as fit into `room` bytes. */
  #nextBatch(room: number): Buffer {
    let count = 0;
    let bytes = 0;
    for (const line of this.#queue) {
      if (count > 0 && bytes + line.length > room) break;
      bytes += line.length;
      count += 1;
    }
    this.#queued -= bytes;
    return Buffer.concat(this.#queue.splice(0, count));
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

function readEnd(path: string, bytes: number): Buffer {
  try {
    return readFileSync(path).subarray(-bytes);
  } catch {
    return Buffer.alloc(0);
  }
}

export function removeLog(path: string): void {
  for (const each of [path, `${path}.1`]) {
    try {
      unlinkSync(each);
    } catch {
      // never written
    }
  }
}

export interface ReadOptions {
  readonly follow: boolean;
  readonly timestamps: boolean;
  readonly tailLines?: number | undefined;
  /** Lines before it are left out, ms since the epoch. */
  readonly since?: number | undefined;
  readonly limitBytes?: number | undefined;
}

interface Line {
  readonly time: string;
  readonly partial: boolean;
  readonly text: Buffer;
}

/**
 * The log as a client sees it. With `follow` it goes on until the writer is closed, then `more` is asked for the
 * next instance's file.
 */
export async function* readLog(
  path: string,
  options: ReadOptions,
  writer?: LogWriter,
): AsyncGenerator<Buffer> {
  let budget = options.limitBytes ?? Number.POSITIVE_INFINITY;
  const render = (line: Line): Buffer | undefined => {
    if (budget <= 0) return undefined;
    if (options.since !== undefined && Date.parse(line.time) < options.since) return Buffer.alloc(0);
    const parts = [line.text, Buffer.from(line.partial ? "" : "\n")];
    if (options.timestamps) parts.unshift(Buffer.from(`${line.time} `));
    let bytes = Buffer.concat(parts);
    if (bytes.length > budget) bytes = bytes.subarray(0, budget);
    budget -= bytes.length;
    return bytes;
  };

  const start = { offset: 0, size: statSync(path, { throwIfNoEntry: false })?.size ?? 0 };
  const files = [`${path}.1`, path].filter((each) => statSync(each, { throwIfNoEntry: false }));
  const tail: Line[] = [];
  const { tailLines } = options;
  for (const file of files) {
    const reader = new LineReader();
    const end = file === path ? start.size : undefined;
    for await (const chunk of createReadStream(file, end ? { end: end - 1 } : {})) {
      for (const line of reader.feed(chunk as Buffer)) {
        if (tailLines !== undefined) {
          tail.push(line);
          if (tail.length > tailLines) tail.shift();
          continue;
        }
        const bytes = render(line);
        if (bytes === undefined) return;
        if (bytes.length > 0) yield bytes;
      }
    }
    if (file === path) start.offset = start.size - reader.pending;
  }
  for (const line of tail) {
    const bytes = render(line);
    if (bytes === undefined) return;
    if (bytes.length > 0) yield bytes;
  }
  if (!options.follow || !writer) return;

  let offset = start.offset;
  let wake = () => {};
  const stop = writer.onWritten(() => wake());
  try {
    for (;;) {
      const changed = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const closed = writer.closed;
      const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
      if (size < offset) offset = 0; // the file has moved to .1
      if (size > offset) {
        const reader = new LineReader();
        for await (const chunk of createReadStream(path, { start: offset, end: size - 1 })) {
          for (const line of reader.feed(chunk as Buffer)) {
            const bytes = render(line);
            if (bytes === undefined) return;
            if (bytes.length > 0) yield bytes;
          }
        }
        offset = size - reader.pending;
        continue;
      }
      if (closed) return;
      await changed;
    }
  } finally {
    stop();
  }
}

/** Splits stored bytes into lines. */
class LineReader {
  #rest: Buffer = Buffer.alloc(0);

  /** Bytes of a line that has not ended yet. */
  get pending(): number {
    return this.#rest.length;
  }

  feed(chunk: Buffer): Line[] {
    let data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const lines: Line[] = [];
    for (;;) {
      const end = data.indexOf(10);
      if (end < 0) break;
      const line = parseLine(data.subarray(0, end));
      if (line) lines.push(line);
      data = data.subarray(end + 1);
    }
    this.#rest = data;
    return lines;
  }
}

function parseLine(line: Buffer): Line | undefined {
  const time = line.indexOf(32);
  const stream = line.indexOf(32, time + 1);
  const tag = line.indexOf(32, stream + 1);
  if (time < 0 || stream < 0 || tag < 0) return undefined;
  return {
    time: line.toString("latin1", 0, time),
    partial: line[stream + 1] === 0x50,
    text: line.subarray(tag + 1),
  };
}
