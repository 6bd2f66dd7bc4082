// What the bench starts ends with it, however it ends.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";
import { until } from "../support/until.ts";

const test = suite("bench harness");

/** Starts a child that would stay for long, tells of it, and then ends as it is told to. */
const bench = (end: string) => `
import { Bench } from "./bench/harness.ts";
const bench = await Bench.open({ seconds: 0, rounds: 0, quick: true, profile: undefined });
const child = bench.start("sleeper", 0, "sleep", ["3600"]);
await new Promise((resolve) => child.process.once("spawn", resolve));
const directories = [bench.directory, bench.program("load")];
console.log(JSON.stringify({ pid: child.process.pid, directories }));
${end}
setInterval(() => {}, 1_000);
`;

interface Started {
  readonly pid: number;
  readonly directories: readonly string[];
}

/** Whether the process runs; one that has ended may still wait for its parent to notice. */
function runs(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

/** Runs a bench to its end. @returns what it had started */
async function run(end: string, once: (bench: ChildProcess) => void): Promise<Started> {
  const args = ["--import", "tsx", "--input-type=module", "--eval", bench(end)];
  const child = spawn(process.execPath, args, { cwd: packageRoot(), stdio: ["ignore", "pipe", "ignore"] });
  const closed = new Promise((resolve) => child.once("close", resolve));
  let started: Started | undefined;
  createInterface({ input: child.stdout! }).once("line", (line) => {
    started = JSON.parse(line) as Started;
    once(child);
  });
  await closed;
  assert.ok(started, "it had started its child");
  return started;
}

const ENDS: readonly (readonly [name: string, end: string, once?: NodeJS.Signals])[] = [
  ["an error that nobody handles", 'setTimeout(() => { throw new Error("unforeseen"); }, 50);'],
  ["a promise that nobody handles", 'void Promise.reject(new Error("unforeseen"));'],
  ["an exit", "process.exit(3);"],
  ["being closed", "await bench.close(); process.exit(0);"],
  ["an interrupt", "", "SIGINT"],
  ["a termination", "", "SIGTERM"],
  ["a terminal that closes", "", "SIGHUP"],
];

for (const [name, end, signal] of ENDS) {
  test(`nothing outlives ${name}`, async () => {
    const { pid, directories } = await run(end, (child) => void (signal && child.kill(signal)));
    await until(() => !runs(pid), 10_000, `the end of process ${pid}`);
    for (const directory of directories) assert.not(existsSync(directory), directory);
  });
}

test.run();
