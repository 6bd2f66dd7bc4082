// Replaces all files of a volume at once, as Kubernetes does: readers of `..data` see the old set or the new one,
// never a mix (k8s.io/kubernetes pkg/volume/util/atomic_writer.go).
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

export interface VolumeFile {
  readonly data: Buffer;
  /** Permission bits. */
  readonly mode: number;
}

const DATA = "..data";

/**
 * Makes `directory` hold exactly `files` (relative path to content). Unchanged content is left alone, so that
 * watchers stay quiet. `group` owns the files and may read them.
 */
export function writeAtomically(
  directory: string,
  files: ReadonlyMap<string, VolumeFile>,
  group?: number,
): void {
  mkdirSync(directory, { recursive: true });
  const data = join(directory, DATA);
  const current = linkOf(data);
  if (current !== undefined && isSame(join(directory, current), files)) return;

  const fresh = mkdtempSync(join(directory, `..${new Date().toISOString().replace(/[-:TZ.]/g, "_")}`));
  chmodSync(fresh, 0o755);
  for (const [path, file] of files) {
    const target = join(fresh, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, file.data);
    chmodSync(target, group === undefined ? file.mode : file.mode | 0o440);
    if (group !== undefined) chownSync(target, -1, group);
  }
  const next = join(directory, "..data_tmp");
  rmSync(next, { force: true });
  symlinkSync(fresh.slice(directory.length + 1), next);
  renameSync(next, data);

  const visible = new Set([...files.keys()].map((path) => path.split("/")[0]!));
  for (const name of visible) {
    if (linkOf(join(directory, name)) === undefined) symlinkSync(join(DATA, name), join(directory, name));
  }
  for (const name of readdirSync(directory)) {
    if (!name.startsWith("..") && !visible.has(name)) rmSync(join(directory, name), { force: true });
  }
  if (current !== undefined) rmSync(join(directory, current), { recursive: true, force: true });
}

function linkOf(path: string): string | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : undefined;
}

function isSame(directory: string, files: ReadonlyMap<string, VolumeFile>): boolean {
  const present = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  if (present.length !== files.size) return false;
  return present.every((path) => {
    const file = files.get(path);
    return file !== undefined && readFileSync(join(directory, path)).equals(file.data);
  });
}
