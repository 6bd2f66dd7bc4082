// Ends a sandbox, gently first; and removes its state when asked to.
import { spawnSync } from "node:child_process";
import { existsSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { MeshError } from "../../util/error.ts";
import { isRoot, TOOL_PATH } from "./requirements.ts";
import {
  CONTENTS,
  isAlive,
  namespaceInit,
  type ProcessRecord,
  readRecord,
  removeRecord,
} from "./state-directory.ts";

/** The daemon gives pods 3 s; the rest is for writing its state. */
const GRACE_MS = 15_000;
const KILL_MS = 5_000;
const POLL_MS = 20;

export interface DownOptions {
  readonly directory: string;
  /** Remove the state, too. */
  readonly delete?: boolean | undefined;
}

export interface DownResult {
  /** It was running. */
  readonly stopped: boolean;
  /** It did not end by itself in time. */
  readonly killed: boolean;
  readonly deleted: boolean;
}

/** Resolves when nothing of the sandbox runs any more. */
export async function down(options: DownOptions): Promise<DownResult> {
  const { directory } = options;
  const record = readRecord(directory);
  const stopped = record !== undefined && isAlive(record);
  const killed = stopped && !(await stop(record));
  removeRecord(directory);
  const deleted = options.delete === true && existsSync(directory);
  if (deleted) deleteState(directory);
  return { stopped, killed, deleted };
}

/** False when it had to be killed. */
async function stop(record: ProcessRecord): Promise<boolean> {
  signal(namespaceInit(record) ?? record.pid, "SIGTERM");
  if (await ended(record, GRACE_MS)) return true;
  // The first process of the namespace takes all others with it.
  signal(namespaceInit(record) ?? record.pid, "SIGKILL");
  if (await ended(record, KILL_MS)) return false;
  throw new MeshError(`the sandbox's process ${record.pid} does not end`, {
    hints: [`end it as its owner: kill -9 ${record.pid}`],
  });
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return;
    throw new MeshError("the sandbox belongs to another user", {
      hints: ["run the command as the user who started it"],
      cause: error,
    });
  }
}

async function ended(record: ProcessRecord, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (isAlive(record)) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}

/** Only what the sandbox has made: the directory may be one that the user keeps other things in. */
function deleteState(directory: string): void {
  const paths = CONTENTS.map((name) => join(directory, name));
  // Files of pods belong to subordinate ids, which only the user namespace may remove.
  const command = ["rm", "-rf", "--one-file-system", "--", ...paths];
  const argv = isRoot() ? command : ["unshare", "--user", "--map-root-user", "--map-auto", ...command];
  const result = spawnSync(argv[0]!, argv.slice(1), {
    env: { ...process.env, PATH: TOOL_PATH },
    encoding: "utf8",
  });
  if (result.status !== 0) {
    throw new MeshError(`cannot remove the sandbox's state in ${directory}: ${result.stderr.trim()}`);
  }
  try {
    rmdirSync(directory);
  } catch {
    // not empty: it holds something else
  }
}
