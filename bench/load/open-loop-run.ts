// Runs the open-loop generator as a process beside the proxies that it calls.
import { cpuSince } from "../closed-loop.ts";
import { type Bench, type Child, coreTime, LOAD_CORE, PROXY_CORE } from "../harness.ts";
import { Histogram } from "../histogram.ts";
import type { OpenLoopResult, OpenLoopSettings } from "./open-loop.ts";

/** What came of one run. */
export interface OpenLoop {
  /** µs, from when each request was due. */
  readonly latency: Histogram;
  /** CPU µs per request and proxy. */
  readonly cpu: number;
  /** Share of both cores' time that the machine below gave to other machines. */
  readonly stolen: number;
}

export interface OpenLoopRun extends Omit<OpenLoopSettings, "warmUp"> {
  /** Before counting begins, s; long enough for the generator's own compiler to see the work by default. */
  readonly warmUp?: number;
  readonly processes: readonly Child[];
}

const WARM_UP = 2;

const CORES = [PROXY_CORE, LOAD_CORE];
const stolenTime = () => CORES.reduce((sum, core) => sum + coreTime(core).stolen, 0);

/** @throws Error when a request failed */
export async function openLoop(bench: Bench, { processes, ...run }: OpenLoopRun): Promise<OpenLoop> {
  const settings: OpenLoopSettings = { warmUp: WARM_UP, ...run };
  const before = processes.map((child) => child.cpu());
  const began = { at: performance.now(), stolen: stolenTime() };
  const output = await bench.run(
    "open-loop load",
    LOAD_CORE,
    process.execPath,
    [bench.program("load/open-loop.ts")],
    { OPEN_LOOP: JSON.stringify(settings) },
  );
  const { user, system } = cpuSince(processes, before);
  const stolen = (stolenTime() - began.stolen) / (performance.now() - began.at) / 1_000 / CORES.length;
  const { due, failed, latency } = JSON.parse(output) as OpenLoopResult;
  if (failed > 0) throw new Error(`${failed} of ${due} requests failed at ${run.rate}/s`);
  const carried = run.rate * (run.seconds + settings.warmUp) * (processes.length || 1);
  return { latency: Histogram.of(latency), cpu: (user + system) / carried, stolen };
}
