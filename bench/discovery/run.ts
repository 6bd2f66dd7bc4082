// One run: a controller with a cluster and its proxies, left alone for a while, then told of changes at a rate.
//
// The controller may use both cores, as it would on a node: its collector and compiler have threads. Everything else shares
// the second one with it, and says how much of it it used: where that comes near to the whole, it is the measuring side that
// was measured.
import { type Bench, type Child, LOAD_CORE, type Memory, PROXY_CORE, sleep } from "../harness.ts";
import { Histogram } from "../histogram.ts";
import { BenchCluster } from "./cluster.ts";
import { Proxies } from "./proxies.ts";
import { type Change, type Load, type SubjectOf, servicesOf } from "./subject.ts";

/** The controller's memory at a time, s since the changes began. */
export interface MemorySample extends Memory {
  readonly at: number;
  readonly changes: number;
}

export interface Result {
  readonly load: Load;
  readonly streams: number;
  readonly changes: number;
  /** Changes told to streams a second: one that goes to 200 of them counts 200 times. */
  readonly told: number;
  /** Those of changes that were not overtaken, and that a stream was not told of. */
  readonly missed: number;
  /** From the API server's write to the proxy's read, ms. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Share of a core: the controller, and all that is around it. */
  readonly cpu: number;
  readonly around: number;
  /** When all proxies are there, and after the changes. */
  readonly idle: Memory;
  readonly after: Memory;
  /** From time to time, while there are changes. */
  readonly course: readonly MemorySample[];
}

export interface RunOptions {
  readonly bench: Bench;
  readonly subject: SubjectOf;
  readonly load: Load;
  /** s */
  readonly seconds: number;
  /** Node's flags of the controller, beside those that it has in the image. */
  readonly flags: readonly string[];
  /** Time between two samples of memory, s. */
  readonly every: number;
  readonly onSample?: (sample: MemorySample) => void;
}

/** Of the controller. */
const CORES = [PROXY_CORE, LOAD_CORE];
/** Changes go out this often, ms. */
const TICK = 10;
/** Changes before those that count, s: for code to be compiled, and memory to take the size that the work needs. */
const WARM_UP = 3;
/** Time for what is under way to arrive, ms. */
const SETTLE = 2_000;

/** Changes that the controller was told of, and which streams have yet to hear of. */
class Expected {
  latencies = new Histogram();
  readonly #changes = new Map<number, { readonly at: number; left: number }>();
  told = 0;

  sent({ id, replaces, watchers }: Change): void {
    this.#changes.delete(replaces);
    if (watchers > 0) this.#changes.set(id, { at: performance.now(), left: watchers });
  }

  heard(id: number, now: number): void {
    const change = this.#changes.get(id);
    if (!change) return;
    this.told += 1;
    this.latencies.record((now - change.at) * 1_000);
    change.left -= 1;
    if (change.left === 0) this.#changes.delete(id);
  }

  /** What was told so far, and what is under way, is not counted. */
  startOver(): void {
    this.latencies = new Histogram();
    this.told = 0;
    this.#changes.clear();
  }

  get missed(): number {
    let missed = 0;
    for (const { left } of this.#changes.values()) missed += left;
    return missed;
  }
}

const total = (child: Child): number => {
  const { user, system } = child.cpu();
  return user + system;
};

const own = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

export async function run(options: RunOptions): Promise<Result> {
  const { bench, load, seconds, flags, every } = options;
  const cluster = new BenchCluster(load);
  const subject = options.subject(cluster, load);
  const port = await bench.port();
  const env = { BENCH_API: await cluster.listen(), BENCH_PORT: String(port) };
  const program = bench.program(`discovery/${subject.controller}-controller.ts`);
  const command = [...subject.flags, ...flags, program];
  const controller = bench.start(subject.controller, CORES, process.execPath, command, env);
  await bench.listening(controller, port);
  const expected = new Expected();
  const proxies = new Proxies(subject.read, (id, now) => expected.heard(id, now));
  const watchers = new Uint32Array(load.services);
  for (let number = 0; number < load.proxies; number += 1) {
    const services = servicesOf(number, load);
    for (const service of services) watchers[service]! += 1;
    await proxies.add(port, subject.asks(number, services));
  }
  await sleep(SETTLE);
  const idle = controller.memory();
  let changes = 0;
  const change = async (seconds: number, onTick?: (at: number) => void): Promise<number> => {
    const [began, from] = [performance.now(), changes];
    const elapsed = () => (performance.now() - began) / 1_000;
    while (elapsed() < seconds) {
      for (const due = from + Math.floor(elapsed() * load.rate); changes < due; changes += 1)
        expected.sent(subject.change(changes, watchers));
      cluster.flush();
      onTick?.(elapsed());
      await sleep(TICK);
    }
    return elapsed();
  };
  await change(WARM_UP);
  expected.startOver();
  const warmedUp = changes;
  const course: MemorySample[] = [];
  const before = { controller: total(controller), around: own() };
  const lasted = await change(seconds, (at) => {
    if (course.length >= at / every) return;
    const sample = { at, changes: changes - warmedUp, ...controller.memory() };
    course.push(sample);
    options.onSample?.(sample);
  });
  const share = (from: number, to: number) => (to - from) / 1e6 / lasted;
  const cpu = share(before.controller, total(controller));
  const around = share(before.around, own());
  await sleep(SETTLE);
  const after = controller.memory();
  proxies.close();
  cluster.close();
  await bench.stop([controller]);
  const { latencies, told, missed } = expected;
  return {
    load,
    streams: proxies.streams,
    changes: changes - warmedUp,
    told: told / lasted,
    missed,
    p50: latencies.percentile(50) / 1_000,
    p99: latencies.percentile(99) / 1_000,
    max: latencies.percentile(100) / 1_000,
    cpu,
    around,
    idle,
    after,
    course,
  };
}
