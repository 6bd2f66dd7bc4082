// `npm run bench:discovery`: what discovery costs. The destination controller runs as in the image, alone on a core; a
// generated cluster and its proxies run beside it in this process, so that its memory is its own.
//
//   npm run bench:discovery -- [--only scale,services,endpoints,proxies,rate,churn] [--seconds 10] [--write]
//
// Latency is from the moment at which the API server writes a changed slice to the moment at which a proxy has read the
// new endpoint. --write puts the tables and charts into docs/.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/util/package-root.ts";
import { drawLines } from "./chart.ts";
import { BenchCluster, type ClusterSize } from "./discovery/cluster.ts";
import { Proxies } from "./discovery/proxies.ts";
import { Bench, type Child, PROXY_CORE, sleep } from "./harness.ts";
import { Histogram } from "./histogram.ts";

interface Load extends ClusterSize {
  readonly proxies: number;
  /** Services that each proxy watches. */
  readonly watched: number;
  /** Endpoint changes a second. */
  readonly rate: number;
}

interface Result {
  readonly load: Load;
  readonly streams: number;
  readonly changes: number;
  /** Endpoints told to proxies a second. */
  readonly told: number;
  readonly missed: number;
  /** ms */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Share of a core. */
  readonly cpu: number;
  /** MB: when all proxies are there, and after the changes. */
  readonly idle: { readonly anonymous: number; readonly rss: number };
  readonly after: { readonly anonymous: number; readonly rss: number };
  /** Anonymous memory from time to time, MB. */
  readonly course: readonly number[];
}

const FULL: Load = { services: 1_000, endpoints: 10, proxies: 1_000, watched: 200, rate: 1_000 };
/** Changes go out this often, ms. */
const TICK = 10;
/** Time for what is under way to arrive, ms. */
const SETTLE = 2_000;
/** For packages that are not modules. */
const REQUIRE = 'import{createRequire as r}from"node:module";const require=r(import.meta.url);';
/** Node's flags of the controllers in the image. */
const FLAGS = ["--max-semi-space-size=1", "--single-threaded"];

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "scale,services,endpoints,proxies,rate,churn" },
    seconds: { type: "string", default: "10" },
    write: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const seconds = Number(flags.seconds);

async function measure(bench: Bench, load: Load, duration = seconds): Promise<Result> {
  const cluster = new BenchCluster(load);
  const port = await bench.port();
  const env = { BENCH_API: await cluster.listen(), BENCH_PORT: String(port) };
  const profile = flags.profile ? ["--cpu-prof", `--cpu-prof-dir=${flags.profile}`] : [];
  const command = [...FLAGS, ...profile, bench.program("discovery/controller.ts")];
  const controller = bench.start("destination", PROXY_CORE, process.execPath, command, env);
  await bench.listening(controller, port);
  const proxies = new Proxies();
  const sent = new Map<number, { at: number; left: number }>();
  const latencies = new Histogram();
  const watchers = new Uint32Array(load.services);
  let told = 0;
  const onAdded = (ip: number) => {
    const change = sent.get(ip);
    if (!change) return;
    told += 1;
    latencies.record((performance.now() - change.at) * 1_000);
    change.left -= 1;
    if (change.left === 0) sent.delete(ip);
  };
  for (let number = 0; number < load.proxies; number += 1) {
    // Every Service has as many watchers as another.
    const services = Array.from(
      { length: load.watched },
      (_, at) => (number * load.watched + at) % load.services,
    );
    for (const service of services) watchers[service]! += 1;
    await proxies.add(number, port, services, onAdded);
  }
  await sleep(SETTLE);
  const idle = controller.memory();
  const course: number[] = [idle.anonymous];
  const cpu = total(controller);
  const began = performance.now();
  let changes = 0;
  let expected = 0;
  while (performance.now() - began < duration * 1_000) {
    const due = Math.floor(((performance.now() - began) / 1_000) * load.rate);
    for (; changes < due; changes += 1) {
      const service = (changes * 7_919) % load.services;
      const at = performance.now();
      if (watchers[service]! > 0) sent.set(cluster.change(service), { at, left: watchers[service]! });
      expected += watchers[service]!;
    }
    cluster.flush();
    if (course.length < (performance.now() - began) / 5_000) course.push(controller.memory().anonymous);
    await sleep(TICK);
  }
  const spent = (total(controller) - cpu) / (performance.now() - began) / 1_000;
  await sleep(SETTLE);
  const after = controller.memory();
  proxies.close();
  cluster.close();
  await bench.stop([controller]);
  return {
    load,
    streams: proxies.streams,
    changes,
    told: told / duration,
    missed: expected - told,
    p50: latencies.percentile(50) / 1_000,
    p99: latencies.percentile(99) / 1_000,
    max: latencies.percentile(100) / 1_000,
    cpu: spent,
    idle,
    after,
    course,
  };
}

const total = (child: Child): number => {
  const { user, system } = child.cpu();
  return user + system;
};

interface Sweep {
  readonly title: string;
  readonly head: string;
  readonly steps: readonly { readonly name: string; readonly load: Load; readonly seconds?: number }[];
}

const steps = <K extends keyof Load>(
  key: K,
  sizes: readonly number[],
  base: Load,
  more: (size: number) => Partial<Load> = () => ({}),
) =>
  sizes.map((size) => ({ name: size.toLocaleString("en"), load: { ...base, [key]: size, ...more(size) } }));

/** A fifth of the proxies, so that a step is short; what is swept is the one thing that differs. */
const SMALL: Load = { ...FULL, proxies: 200, rate: 200 };

const SWEEPS: Readonly<Record<string, Sweep>> = {
  scale: {
    title: "1,000 proxies × 200 Services, 10,000 pods, 1,000 changes a second",
    head: "",
    steps: [{ name: "all", load: FULL }],
  },
  services: {
    title: "By the number of Services (10 pods each; each of 200 proxies watches 200; 200 changes a second)",
    head: "Services",
    steps: steps("services", [200, 1_000, 2_000], SMALL),
  },
  endpoints: {
    title: "By the endpoints of a Service (200 Services, 200 proxies, 200 changes a second)",
    head: "endpoints",
    steps: steps("endpoints", [1, 10, 100], { ...SMALL, services: 200 }),
  },
  proxies: {
    title: "By the number of proxies (1,000 Services, each proxy watches 200; 200 changes a second)",
    head: "proxies",
    steps: steps("proxies", [10, 100, 1_000], SMALL),
  },
  rate: {
    title: "By changes a second (200 proxies × 200 of 1,000 Services)",
    head: "changes/s",
    steps: steps("rate", [10, 100, 1_000], SMALL),
  },
  churn: {
    title: "Memory over as many changes as an hour of 30 a second has (108,000, at 1,000 a second)",
    head: "",
    steps: [{ name: "churn", load: { ...FULL, proxies: 200 }, seconds: 108 }],
  },
};

const HEADS = [
  "streams",
  "changes",
  "told/s",
  "missed",
  "p50 ms",
  "p99 ms",
  "max ms",
  "CPU, cores",
  "MB idle",
  "MB after",
  "RSS after",
];

const cellsOf = ({ streams, changes, told, missed, p50, p99, max, cpu, idle, after }: Result): string[] => [
  streams.toLocaleString("en"),
  changes.toLocaleString("en"),
  Math.round(told).toLocaleString("en"),
  String(missed),
  p50.toFixed(1),
  p99.toFixed(1),
  max.toFixed(1),
  cpu.toFixed(2),
  idle.anonymous.toFixed(0),
  after.anonymous.toFixed(0),
  after.rss.toFixed(0),
];

const bench = await Bench.open({ seconds, rounds: 1, quick: false, profile: flags.profile }, [
  {
    entryPoints: [join(packageRoot(), "bench/discovery/controller.ts")],
    outbase: join(packageRoot(), "bench"),
    banner: { js: REQUIRE },
  },
]);
try {
  for (const id of flags.only.split(",")) {
    const sweep = SWEEPS[id];
    if (!sweep) throw new Error(`expected one of ${Object.keys(SWEEPS)}, got ${id}`);
    const results: Result[] = [];
    const lines = [
      `### ${sweep.title}`,
      "",
      `| ${[sweep.head, ...HEADS].join(" | ")} |`,
      `|${"---|".repeat(HEADS.length + 1)}`,
    ];
    for (const step of sweep.steps) {
      const result = await measure(bench, step.load, step.seconds);
      results.push(result);
      lines.push(`| ${[step.name, ...cellsOf(result)].join(" | ")} |`);
      if (id === "churn")
        lines.push(
          "",
          `Anonymous memory each 5 s, MB: ${result.course.map((mb) => mb.toFixed(0)).join(", ")}`,
        );
    }
    process.stdout.write(`${lines.join("\n")}\n\n`);
    if (flags.write && sweep.steps.length > 1) {
      const svg = drawLines({
        title: sweep.title,
        ticks: sweep.steps.map(({ name }) => name),
        lines: [
          { label: "CPU, % of a core", kind: "ours", values: results.map(({ cpu }) => cpu * 100) },
          { label: "memory, MB", kind: "direct", values: results.map(({ after }) => after.anonymous) },
          { label: "p99, ms", kind: "naive", values: results.map(({ p99 }) => p99) },
        ],
        digits: 1,
      });
      writeFileSync(join(packageRoot(), `docs/discovery-${id}.svg`), svg);
    }
  }
} finally {
  await bench.close();
}
