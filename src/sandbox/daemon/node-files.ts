// Prepares the node's own file system view: the /dev that containers get, with a terminal file system of its own.
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "../network/command.ts";

const DEVICES = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: readonly (readonly [string, string])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
  ["ptmx", "pts/ptmx"],
  ["core", "/proc/kcore"],
];

/** Fills `directory` (on a file system of this namespace) with the devices of containers. */
export async function prepareDevices(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  for (const [name, target] of LINKS) symlinkSync(target, join(directory, name));
  for (const name of ["pts", "shm", "mqueue"]) mkdirSync(join(directory, name));
  // Mount points of every container's own.
  writeFileSync(join(directory, "termination-log"), "");
  // Devices cannot be made in a user namespace, but bound.
  for (const name of DEVICES) {
    if (!existsSync(`/dev/${name}`)) continue;
    const path = join(directory, name);
    writeFileSync(path, "");
    await runCommand("mount", ["--bind", `/dev/${name}`, path]);
  }
  const pts = join(directory, "pts");
  await runCommand("mount", ["-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620", "devpts", pts]);
  chmodSync(join(pts, "ptmx"), 0o666);
  // Terminals are opened out here and used in there: both must be the same file system.
  await runCommand("mount", ["--bind", pts, "/dev/pts"]);
  await runCommand("mount", ["--bind", join(pts, "ptmx"), "/dev/ptmx"]);
}
