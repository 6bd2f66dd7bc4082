// Where a sandbox keeps its state, and the record of the process that runs it.
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { errorCode, errorMessage, MeshError } from "../../util/error.ts";

/** What the sandbox makes in its directory: all that `down --delete` removes. */
export const CONTENTS = [
  "cluster",
  "pki",
  "pods",
  "roots",
  "kubeconfig",
  "daemon.log",
  "daemon.log.1",
  "process.json",
];

/** `--dir`, else below $XDG_STATE_HOME, else below ~/.local/state. */
export function stateDirectory(flag?: string): string {
  if (flag !== undefined && flag !== "") return resolve(flag);
  const base = process.env["XDG_STATE_HOME"] || join(homedir(), ".local", "state");
  return resolve(base, "kubectl-mesh", "sandbox");
}

export const kubeconfigPath = (directory: string) => join(directory, "kubeconfig");
export const logPath = (directory: string) => join(directory, "daemon.log");
const recordPath = (directory: string) => join(directory, "process.json");

/** The running sandbox, as its launcher wrote it down. */
export interface ProcessRecord {
  /** Of the outermost process (unshare), in the launcher's PID namespace. */
  readonly pid: number;
  /** When that process started, in the kernel's ticks: tells it from a later one with the same number. */
  readonly startTicks: string;
  readonly port: number;
  readonly nodes: number;
  readonly version: string;
  /** RFC 3339. */
  readonly startedAt: string;
}

/** Makes the directory, private to its owner. @throws MeshError that says what to do. */
export function openStateDirectory(directory: string): void {
  try {
    makeDirectories(directory);
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    const probe = join(directory, ".writable");
    writeFileSync(probe, "x".repeat(4096), { flush: true });
    rmSync(probe);
  } catch (error) {
    throw directoryError(directory, error);
  }
}

/** One by one: Node's own recursive mkdir never returns where a file system refuses with ENOENT, as /proc does. */
function makeDirectories(directory: string): void {
  if (existsSync(directory)) return;
  makeDirectories(dirname(directory));
  mkdirSync(directory, { mode: 0o700 });
}

function directoryError(directory: string, error: unknown): MeshError {
  const elsewhere = "choose another directory: kubectl mesh sandbox up --dir DIR";
  const [why, hint] =
    {
      EACCES: ["permission denied", elsewhere],
      EPERM: ["operation not permitted", elsewhere],
      EROFS: ["the file system is read-only", elsewhere],
      ENOSPC: ["no space is left on the device", `make room there, or ${elsewhere}`],
      EDQUOT: ["the disk quota is used up", `make room there, or ${elsewhere}`],
      ENOTDIR: ["a part of the path is not a directory", elsewhere],
      EEXIST: ["it is not a directory", elsewhere],
    }[errorCode(error) ?? ""] ?? [];
  return new MeshError(`cannot keep the sandbox's state in ${directory}: ${why ?? errorMessage(error)}`, {
    hints: hint ? [hint] : [],
    cause: error,
  });
}

/** The record, if it is there and can be read. It may be stale: ask {@link isAlive}. */
export function readRecord(directory: string): ProcessRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(recordPath(directory), "utf8"));
    return Number.isInteger(record?.pid) && typeof record.startTicks === "string" ? record : undefined;
  } catch {
    return undefined;
  }
}

/** @throws EEXIST (a system error) when another launcher was faster. */
export function writeRecord(directory: string, record: ProcessRecord): void {
  writeFileSync(recordPath(directory), `${JSON.stringify(record, undefined, 2)}\n`, {
    flag: "wx",
    mode: 0o600,
  });
}

export function removeRecord(directory: string): void {
  rmSync(recordPath(directory), { force: true });
}

/** Whether the very process of the record still runs (a zombie does not). */
export function isAlive(record: ProcessRecord): boolean {
  const stat = processStat(record.pid);
  return stat !== undefined && stat.state !== "Z" && stat.startTicks === record.startTicks;
}

/** @see proc(5), /proc/pid/stat */
export function processStat(pid: number): { state: string; startTicks: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the name in parentheses; it may hold anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0]!, startTicks: fields[19]! };
  } catch {
    return undefined;
  }
}

/** The first process inside the PID namespace: all others end with it. */
export function namespaceInit(record: ProcessRecord): number | undefined {
  try {
    const text = readFileSync(`/proc/${record.pid}/task/${record.pid}/children`, "utf8").trim();
    return text === "" ? undefined : Number(text.split(" ")[0]);
  } catch {
    return undefined;
  }
}
