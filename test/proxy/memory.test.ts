// A process gives back what a load left behind: a real one, with the flags that the proxy is started with.
import { spawn } from "node:child_process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PROXY_NODE_FLAGS } from "../../src/inject/containers.ts";
import { createLogger } from "../../src/log/logger.ts";
import { MemoryKeeper, type ProcessMemory } from "../../src/proxy/memory.ts";
import { ManualClock } from "../support/clock.ts";

const test = suite("memory keeper");

/** Memory that is told what to be, and writes down what is done to it. */
class FakeMemory implements ProcessMemory {
  used = 0;
  pages = 1_000;
  readonly done: string[] = [];
  cpu = () => this.used;
  held = () => this.pages;
  collect(compact: boolean): void {
    this.done.push(compact ? "compact" : "collect");
  }
  trim(): void {
    this.done.push("trim");
    this.pages = 1_000;
  }
}

test("it waits until the load has ended, collects twice and trims, and then is still", async () => {
  const clock = new ManualClock();
  const memory = new FakeMemory();
  new MemoryKeeper(memory, clock, createLogger({ level: "off" }));
  memory.pages = 5_000;
  for (let look = 0; look < 5; look += 1) {
    memory.used += 5_000;
    await clock.advance(10_000);
  }
  assert.equal(memory.done, []);
  await clock.advance(10_000);
  assert.equal(memory.done, ["collect"]);
  await clock.advance(3_600_000);
  assert.equal(memory.done, ["collect", "compact", "trim"]);
});

test("garbage of all kinds leaves the process", async () => {
  const { idle, loaded, after } = JSON.parse(await output(GARBAGE)) as Record<string, number>;
  assert.ok(loaded! > 3 * idle!, `a load that takes memory: ${idle} → ${loaded} pages`);
  assert.ok(after! < 1.5 * idle!, `${loaded} pages were held, ${after} still are; ${idle} are needed`);
});

test("what is used is moved together: pages that garbage leaves half empty are given back too", async () => {
  const { scattered, together } = JSON.parse(await output(SCATTERED)) as Record<string, number>;
  assert.ok(together! < 0.85 * scattered!, `${scattered} KiB of heap, ${together} once compacted`);
});

test("it does without descriptors of its own", async () => {
  assert.ok(Number(await output(EXHAUSTED)) > 0);
});

const EXHAUSTED = `
import { openSync } from "node:fs";
import { processMemory } from "./src/proxy/memory.ts";
const memory = await processMemory();
try { for (;;) openSync("/dev/null"); } catch {}
process.stdout.write(String(memory.held()));
`;

/** Objects, and buffers of malloc's with small ones that stay between them, so that its top never comes free. */
const GARBAGE = `
import { processMemory } from "./src/proxy/memory.ts";
const memory = await processMemory();
const rest = () => { memory.collect(false); memory.collect(true); memory.trim(); return memory.held(); };
const idle = rest();
let garbage = [];
const kept = [];
for (let i = 0; i < 2_000; i += 1) {
  garbage.push(Buffer.alloc(65_536, 1), { text: String(i).repeat(50) });
  if (i % 20 === 0) kept.push(Buffer.alloc(9_000, 1));
}
const loaded = memory.held();
garbage = [];
process.stdout.write(JSON.stringify({ idle, loaded, after: rest(), kept: kept.length }));
`;

/** Old objects of which five in eight stay, in pages that are not worth emptying to V8 then. */
const SCATTERED = `
import { getHeapStatistics } from "node:v8";
import { processMemory } from "./src/proxy/memory.ts";
const memory = await processMemory();
const heap = () => getHeapStatistics().total_physical_size / 1024;
let all = [];
for (let i = 0; i < 400_000; i += 1) all.push({ a: i, b: i + 0.5, c: [i] });
memory.collect(false);
memory.collect(false);
all = all.filter((_, i) => i % 8 < 5);
memory.collect(false);
memory.collect(false);
const scattered = heap();
memory.collect(true);
process.stdout.write(JSON.stringify({ scattered, together: heap(), kept: all.length }));
`;

/** Runs a program with the proxy's flags, and few descriptors. @returns what it wrote */
async function output(program: string): Promise<string> {
  const args = [...PROXY_NODE_FLAGS, "--import", "tsx", "--input-type=module", "--eval", program];
  const limited = ["-c", 'ulimit -n 100 && exec "$0" "$@"', process.execPath, ...args];
  const child = spawn("sh", limited, { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    err += chunk;
  });
  await new Promise((resolve) => child.once("close", resolve));
  assert.is(err, "");
  return out;
}

test.run();
