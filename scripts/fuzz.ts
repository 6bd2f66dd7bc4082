// Feeds mutated inputs to the targets of test/fuzz for a bounded time each. An input that breaks a promise, or takes
// too long, is kept in the target's corpus, where the unit tests replay it, and the run fails.
//
//   node --import tsx scripts/fuzz.ts [--seconds 10] [--seed N] [--keep] [target ...]
//
// With --keep, inputs with an outcome that the corpus does not have yet are kept too.
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { corpus, corpusOf, TARGETS } from "../test/fuzz/targets.ts";
import { Chance } from "../test/support/chance.ts";

/** Inputs above this are cut, bytes. */
const MAX_INPUT = 4_096;
/** An input that takes longer than this is a find, ms. */
const PATIENCE = 5_000;
/** Inputs with outcomes of their own that are mutated further. */
const MAX_POOL = 2_000;

interface Job {
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
  /** The input under test, so that it is known even when it never comes back: its number, its length, its bytes. */
  readonly current: SharedArrayBuffer;
}

interface Report {
  readonly runs: number;
  readonly outcomes: readonly (readonly [outcome: string, bytes: Uint8Array])[];
  readonly find: { readonly bytes: Uint8Array; readonly why: string } | undefined;
}

const INTERESTING = [
  0x00, 0x01, 0x04, 0x05, 0x08, 0x0d, 0x0a, 0x20, 0x3a, 0x3f, 0x40, 0x7f, 0x80, 0x82, 0xbe, 0xff,
];

/** One to eight random changes to `input`; parts may come from `other`. */
function mutate(input: Buffer, other: Buffer, random: (below: number) => number): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let count = 1 + random(8); count > 0; count -= 1) {
    const at = random(bytes.length + 1);
    const size = 1 + random(Math.min(64, bytes.length + 1));
    switch (random(8)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << random(8);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = INTERESTING[random(INTERESTING.length)]!;
        break;
      case 2:
        if (at < bytes.length) bytes[at]! += random(2) === 0 ? 1 : 255;
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + size)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([random(256)]), bytes.subarray(at)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + size), bytes.subarray(at)]);
        break;
      case 6: {
        const from = random(other.length + 1);
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + size), bytes.subarray(at)]);
        break;
      }
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random(other.length + 1))]);
    }
  }
  return bytes.subarray(0, MAX_INPUT);
}

async function hunt({ target, seconds, seed, current }: Job): Promise<Report> {
  const { fuzz } = await TARGETS[target]!();
  const chance = new Chance(seed);
  const random = (limit: number) => chance.below(limit);
  const number = new Int32Array(current, 0, 2);
  const shown = Buffer.from(current, 8);
  const seeds = corpus(target).map(([, bytes]) => bytes);
  const known = new Set<string>();
  const outcomes: [string, Uint8Array][] = [];
  let runs = 0;
  /** Whether the input's outcome is new. */
  const look = (bytes: Buffer): string | undefined => {
    runs += 1;
    bytes.copy(shown);
    Atomics.store(number, 1, bytes.length);
    Atomics.store(number, 0, runs);
    const outcome = fuzz(bytes);
    if (known.has(outcome)) return undefined;
    known.add(outcome);
    return outcome;
  };
  const pool = [...seeds];
  let bytes: Buffer = Buffer.alloc(0);
  try {
    for (bytes of seeds) look(bytes);
    for (const end = performance.now() + seconds * 1_000; performance.now() < end; ) {
      const [one, other] = [pool[random(pool.length)]!, pool[random(pool.length)]!];
      bytes = mutate(one, other, random);
      const outcome = look(bytes);
      if (outcome === undefined) continue;
      outcomes.push([outcome, bytes]);
      if (pool.length < MAX_POOL) pool.push(bytes);
    }
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { runs, outcomes, find: { bytes, why } };
  }
  return { runs, outcomes, find: undefined };
}

/** Runs a job in a thread of its own, and ends it when an input does not come back. */
function watched(job: Job): Promise<Report> {
  return new Promise((resolve, reject) => {
    // The loader of TypeScript is not inherited by threads.
    const [loader, self] = [import.meta.resolve("tsx/esm/api"), import.meta.url].map((url) =>
      JSON.stringify(url),
    );
    const start = `import(${loader}).then(({ register }) => { register(); return import(${self}); })`;
    const worker = new Worker(start, { eval: true, workerData: job });
    const number = new Int32Array(job.current, 0, 2);
    let last = 0;
    const timer = setInterval(() => {
      const runs = Atomics.load(number, 0);
      if (runs === last && runs > 0) {
        const bytes = Buffer.from(Buffer.from(job.current, 8, Atomics.load(number, 1)));
        resolve({ runs, outcomes: [], find: { bytes, why: `no end within ${PATIENCE} ms` } });
        void worker.terminate();
      }
      last = runs;
    }, PATIENCE);
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", () => clearInterval(timer));
  });
}

function keep(target: string, bytes: Uint8Array, prefix: string): string {
  const name = `${prefix}-${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}`;
  mkdirSync(corpusOf(target), { recursive: true });
  writeFileSync(join(corpusOf(target), name), bytes);
  return name;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string", default: "10" },
      seed: { type: "string", default: String(Date.now() % 1e9) },
      keep: { type: "boolean", default: false },
    },
  });
  const names = positionals.length > 0 ? positionals : Object.keys(TARGETS);
  for (const target of names) {
    if (!TARGETS[target])
      throw new Error(`no target ${target}; there are ${Object.keys(TARGETS).join(", ")}`);
    const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
    const current = new SharedArrayBuffer(8 + MAX_INPUT * 16);
    const { runs, outcomes, find } = await watched({ target, seconds, seed, current });
    process.stdout.write(`${target}: ${runs} inputs, ${outcomes.length} new outcomes (seed ${seed})\n`);
    if (values.keep) for (const [, bytes] of outcomes) keep(target, bytes, "seen");
    if (!find) continue;
    process.exitCode = 1;
    process.stdout.write(`${find.why}\nkept as ${target}/${keep(target, find.bytes, "find")}\n`);
  }
}

if (isMainThread) await main();
else {
  const { parentPort } = await import("node:worker_threads");
  parentPort!.postMessage(await hunt(workerData as Job));
}
