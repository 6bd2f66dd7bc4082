// Runs simulations of the control plane (test/simulation) over many seeds, on all cores. A seed that breaks a rule is
// printed with the command that replays it, cut to fewer steps where those break one as well.
//
//   node --import tsx scripts/simulate.ts [--seeds 200] [--from 1] [--seed N] [--steps M] [--verbose]
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type SimulationResult, STEPS, simulate } from "../test/simulation/simulation.ts";

interface Job {
  readonly seeds: readonly number[];
  readonly steps: number;
}

/** The same faults, but fewer: the least number of steps that halving finds, if it breaks a rule too. */
async function shortest(failed: SimulationResult): Promise<SimulationResult> {
  let best = failed;
  let least = 0;
  while (least < best.steps) {
    const steps = Math.floor((least + best.steps) / 2);
    const result = await simulate({ seed: failed.seed, steps });
    if (result.broken.length > 0) best = result;
    else least = steps + 1;
  }
  return best;
}

async function work({ seeds, steps }: Job): Promise<void> {
  for (const seed of seeds) {
    const result = await simulate({ seed, steps });
    parentPort!.postMessage(result.broken.length > 0 ? await shortest(result) : result);
  }
}

/** Runs a share of the seeds in a thread of its own. */
function started(job: Job, take: (result: SimulationResult) => void): Promise<void> {
  // The loader of TypeScript is not inherited by threads.
  const [loader, self] = [import.meta.resolve("tsx/esm/api"), import.meta.url].map((url) =>
    JSON.stringify(url),
  );
  const start = `import(${loader}).then(({ register }) => { register(); return import(${self}); })`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(start, { eval: true, workerData: job });
    worker.on("message", take);
    worker.once("error", reject);
    worker.once("exit", () => resolve());
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "200" },
      from: { type: "string", default: "1" },
      seed: { type: "string" },
      steps: { type: "string", default: String(STEPS) },
      verbose: { type: "boolean", default: false },
    },
  });
  const whole = (name: "seeds" | "from" | "seed" | "steps"): number => {
    const number = Number(values[name]);
    if (!Number.isInteger(number) || number < 0)
      throw new Error(`--${name}: expected a whole number, got ${values[name]}`);
    return number;
  };
  const steps = whole("steps");
  const began = Date.now();
  const results: SimulationResult[] = [];
  const take = (result: SimulationResult) => {
    results.push(result);
    if (result.broken.length === 0) return;
    const why = result.broken.map(({ text }) => `  ${text}\n`).join("");
    process.stdout.write(
      `seed ${result.seed} broke a rule:\n${why}  replay: npm run simulate -- --seed ${result.seed} --steps ${result.steps} --verbose\n`,
    );
  };
  if (values.seed !== undefined)
    take(await simulate({ seed: whole("seed"), steps, verbose: values.verbose }));
  else {
    const seeds = Array.from({ length: whole("seeds") }, (_, at) => whole("from") + at);
    const threads = Math.min(availableParallelism(), 8);
    const shares = Array.from({ length: threads }, (_, at) =>
      seeds.filter((_seed, index) => index % threads === at),
    );
    await Promise.all(shares.map((share) => started({ seeds: share, steps }, take)));
  }
  const failed = results.filter(({ broken }) => broken.length > 0).length;
  const sum = (of: (result: SimulationResult) => number) =>
    results.reduce((total, each) => total + of(each), 0);
  const hours = (sum(({ time }) => time) / 3_600_000).toFixed(1);
  const seconds = Math.round((Date.now() - began) / 1_000);
  process.stdout.write(
    `simulated ${results.length} seeds of ${steps} steps: ${failed} broke a rule (${hours} simulated hours, ${sum(({ turns }) => turns)} turns, ${sum(({ cut }) => cut)} slow subscribers cut, in ${seconds} s)\n`,
  );
  process.exitCode = failed > 0 ? 1 : 0;
}

if (isMainThread) await main();
else await work(workerData as Job);
