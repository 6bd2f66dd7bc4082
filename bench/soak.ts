// `npm run bench:soak`: a long life in a short time. Ten million requests, HTTP/1 and HTTP/2 mixed, through meshed pairs
// while applications restart and crash, pods are replaced, endpoints come and go, certificates are renewed and the
// control plane goes away. Fails when a request failed that the application did not cause, or when memory grows. SIGUSR2
// ends it early with a verdict on what was seen.
//
//   npm run bench:soak -- [--requests 10000000] [--pods 4] [--every 700] [--leaf 10] [--seed N] [--events restart,crash,…]
import { writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/util/package-root.ts";
import { Bench, LOAD_CORE } from "./harness.ts";
import { Mesh, PROXY_BUNDLE } from "./mesh.ts";
import { Progress } from "./progress.ts";
import type { LoadReport, LoadSettings } from "./soak/load.ts";
import { Pods } from "./soak/pods.ts";
import { type Failure, isApplications, type MemorySample, memoryTrend } from "./soak/verdict.ts";

const { values: flags } = parseArgs({
  options: {
    /** How many are sent. */
    requests: { type: "string", default: "10000000" },
    pods: { type: "string", default: "4" },
    /** Mean time between two events, ms. */
    every: { type: "string", default: "700" },
    /** Life of a certificate, s. */
    leaf: { type: "string", default: "10" },
    /** Of the events' order. */
    seed: { type: "string", default: String(Date.now() % 100_000) },
    /** What may happen, `none` for nothing but requests. */
    events: { type: "string", default: "restart,crash,replace,unlist,phantom,partition" },
  },
});

/** How often each happens, of all. */
const SHARES = { restart: 0.3, crash: 0.1, replace: 0.2, unlist: 0.2, phantom: 0.15, partition: 0.05 };
type WeatherEvent = keyof typeof SHARES;
const EVENTS = (Object.keys(SHARES) as WeatherEvent[]).filter((event) =>
  flags.events.split(",").includes(event),
);
const SAMPLING = 1_000;
/** Requests below which memory is not judged. */
const LEAST_TO_JUDGE = 1_000_000;

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Makes things happen until told to stop; what goes wrong in them is told by `wait`. */
class Weather {
  readonly counts: Record<string, number> = {};
  readonly #pods: Pods;
  readonly #random: () => number;
  readonly #under = new Set<Promise<void>>();
  #problems: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #partitioned = false;

  constructor(pods: Pods, random: () => number) {
    this.#pods = pods;
    this.#random = random;
  }

  begin(): void {
    this.#timer = setTimeout(
      () => {
        this.#happen(this.#choose());
        this.begin();
      },
      Number(flags.every) * 2 * this.#random(),
    );
  }

  #choose(): WeatherEvent {
    let left = this.#random() * EVENTS.reduce((sum, event) => sum + SHARES[event], 0);
    for (const event of EVENTS) {
      if (left < SHARES[event]) return event;
      left -= SHARES[event];
    }
    return EVENTS[0]!;
  }

  #happen(event: WeatherEvent): void {
    // One at a time, and no news of endpoints while nobody can hear it.
    if (this.#partitioned) return;
    if (event === "partition" && this.#under.size > 0) return;
    this.counts[event] = (this.counts[event] ?? 0) + 1;
    this.#partitioned = event === "partition";
    const under = this.#pods[event]()
      .catch((error: Error) => void this.#problems.push(`${event}: ${error.message}`))
      .finally(() => {
        this.#under.delete(under);
        if (event === "partition") this.#partitioned = false;
      });
    this.#under.add(under);
  }

  /** @returns what went wrong */
  async end(): Promise<readonly string[]> {
    clearTimeout(this.#timer);
    await Promise.all(this.#under);
    return this.#problems;
  }
}

async function main(): Promise<boolean> {
  const requests = Number(flags.requests);
  const here = (file: string) => join(packageRoot(), "bench/soak", file);
  const programs = { entryPoints: { "soak/app": here("app.ts"), "soak/load": here("load.ts") } };
  const bench = await Bench.open({ seconds: 0, rounds: 0, quick: false, profile: undefined }, [
    PROXY_BUNDLE,
    programs,
  ]);
  const stop = () => void bench.close().then(() => process.exit(130));
  process.once("SIGINT", stop).once("SIGTERM", stop);
  const progress = new Progress(process.stderr);
  try {
    const random = seeded(Number(flags.seed));
    const mesh = await Mesh.open(bench, { leafLifetime: Number(flags.leaf) * 1_000 });
    const pods = await Pods.start(bench, mesh, Number(flags.pods), random);
    const weather = new Weather(pods, random);
    const settings: LoadSettings = { port: pods.client.outbound, http1: 24, http2: 4, streams: 6, requests };
    const load = bench.start("soak load", LOAD_CORE, process.execPath, [bench.program("soak/load.ts")], {
      SOAK_LOAD: JSON.stringify(settings),
    });
    let cutShort = false;
    process.once("SIGUSR2", () => {
      cutShort = true;
      load.process.kill("SIGKILL");
    });
    const samples: Record<string, MemorySample[]> = { "the client's proxy": [], "a server's proxy": [] };
    const failures: Failure[] = [];
    let answered = 0;
    let ended = false;
    const started = performance.now();
    createInterface({ input: load.process.stdout! }).on("line", (line) => {
      const report = JSON.parse(line) as LoadReport;
      answered = report.answered;
      failures.push(...report.failures);
      ended = report.ended;
    });
    const guilty = () => failures.filter((failure) => !isApplications(failure, pods.outages));
    const timer = setInterval(() => {
      if (pods.dead.length > 0) return;
      const [client, server] = [pods.client.child.memory().anonymous, pods.eldest.child.memory().anonymous];
      samples["the client's proxy"]!.push({ requests: answered, mb: client });
      samples["a server's proxy"]!.push({ requests: answered, mb: server });
      const rate = (answered / (performance.now() - started)) * 1_000;
      const events = Object.values(weather.counts).reduce((sum, count) => sum + count, 0);
      progress.say(
        `${((answered / requests) * 100).toFixed(1)} %, ${rate.toFixed(0)}/s, ${events} events, ${mesh.plane.certified} certificates, failed ${failures.length} (the mesh's: ${guilty().length}), memory ${client.toFixed(1)} and ${server.toFixed(1)} MB`,
      );
    }, SAMPLING);
    if (EVENTS.length > 0) weather.begin();
    await load.exited;
    clearInterval(timer);
    const problems = [...(await weather.end()), ...pods.dead.map((child) => child.obituary)];
    if (!ended && !cutShort) problems.push(load.obituary);
    progress.end();
    return conclude({
      answered,
      failures,
      guilty: guilty(),
      problems,
      samples,
      events: weather.counts,
      certificates: mesh.plane.certified,
      seconds: (performance.now() - started) / 1_000,
    });
  } finally {
    progress.end();
    await bench.close();
  }
}

interface Conclusion {
  readonly answered: number;
  readonly failures: readonly Failure[];
  /** Those that the application did not cause. */
  readonly guilty: readonly Failure[];
  readonly problems: readonly string[];
  readonly samples: Readonly<Record<string, readonly MemorySample[]>>;
  readonly events: Readonly<Record<string, number>>;
  readonly certificates: number;
  readonly seconds: number;
}

/** Tells how it went. @returns whether all was well */
function conclude(it: Conclusion): boolean {
  const say = (line: string) => writeSync(1, `${line}\n`);
  const events = Object.entries(it.events).map(([name, count]) => `${count} × ${name}`);
  say(`${it.answered} requests answered in ${it.seconds.toFixed(0)} s (seed ${flags.seed})`);
  say(`happened meanwhile: ${events.join(", ") || "nothing"}; ${it.certificates} certificates`);
  say(`failed because an application was dead: ${it.failures.length - it.guilty.length}`);
  say(`failed though no application caused it: ${it.guilty.length}`);
  const kinds = new Map<string, number>();
  for (const { version, method, kind, detail } of it.guilty) {
    const name = `HTTP/${version} ${method} ${kind}: ${detail.replace(/\d{4,}/g, "…")}`;
    kinds.set(name, (kinds.get(name) ?? 0) + 1);
  }
  for (const [name, count] of kinds) say(`  ${count} × ${name}`);
  for (const problem of it.problems) say(`problem: ${problem}`);
  let flat = true;
  for (const [name, samples] of Object.entries(it.samples)) {
    if (samples.length === 0) continue;
    const trend = memoryTrend(samples);
    // A short life is all youth: it tells nothing of growth.
    const judged = it.answered >= LEAST_TO_JUDGE;
    if (judged) flat &&= trend.flat;
    say(
      `memory of ${name}: median ${trend.median.toFixed(1)} MB, ${trend.last.toFixed(1)} MB at the end, ${trend.perMillion.toFixed(2)} MB per million requests: ${!judged ? "too short to judge" : trend.flat ? "flat" : "GROWS"}`,
    );
  }
  const well = it.guilty.length === 0 && it.problems.length === 0 && flat;
  say(well ? "all is well" : "FAILED");
  return well;
}

process.exitCode = (await main()) ? 0 : 1;
