// `npm run bench:soak`: a long life in a short time. Ten million requests, HTTP/1 and HTTP/2 mixed, through meshed pairs
// while applications restart and crash, pods are replaced, endpoints come and go, certificates are renewed and the
// control plane goes away. Fails when a request failed that the application did not cause, or when memory grows: what a
// proxy holds each ten seconds after it has given back what it does not need. SIGUSR2, or the end of --seconds, ends it
// early with a verdict on what was seen.
//
//   npm run bench:soak -- [--requests 10000000] [--seconds N] [--pods 4] [--every 700] [--leaf 10] [--seed N] [--events restart,crash,…]
import { writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/util/package-root.ts";
import { Bench, LOAD_CORE } from "./harness.ts";
import { Mesh, PROXY_BUNDLE } from "./mesh.ts";
import { Progress } from "./progress.ts";
import { seeded } from "./random.ts";
import type { LoadReport, LoadSettings } from "./soak/load.ts";
import { Pods } from "./soak/pods.ts";
import {
  type Failure,
  isApplications,
  type MemorySample,
  type MemoryVerdict,
  memoryTrend,
} from "./soak/verdict.ts";

const { values: flags } = parseArgs({
  options: {
    /** How many are sent. */
    requests: { type: "string", default: "10000000" },
    /** At most; without: until all are sent. */
    seconds: { type: "string" },
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
/** Between two lines of progress, ms. */
const PROGRESS = 1_000;
/** Between two times at which proxies give memory back and tell what is left, ms. */
const SAMPLING = 10_000;

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
    { ...PROXY_BUNDLE, entryPoints: { "soak/proxy": here("proxy.ts") } },
    programs,
  ]);
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
    const cut = () => {
      cutShort = true;
      load.process.kill("SIGKILL");
    };
    process.once("SIGUSR2", cut);
    const limit = flags.seconds === undefined ? undefined : setTimeout(cut, Number(flags.seconds) * 1_000);
    const samples: Record<string, MemorySample[]> = { "the client's proxy": [], "a server's proxy": [] };
    const failures: Failure[] = [];
    let answered = 0;
    let ended = false;
    const started = performance.now();
    const began = Date.now();
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
      const rate = (answered / (performance.now() - started)) * 1_000;
      const events = Object.values(weather.counts).reduce((sum, count) => sum + count, 0);
      progress.say(
        `${((answered / requests) * 100).toFixed(1)} %, ${rate.toFixed(0)}/s, ${events} events, ${mesh.plane.certified} certificates, failed ${failures.length} (the mesh's: ${guilty().length}), memory ${client.toFixed(1)} and ${server.toFixed(1)} MB`,
      );
    }, PROGRESS);
    const problems: string[] = [];
    const sampler = setInterval(async () => {
      if (pods.dead.length > 0) return;
      try {
        const [client, server] = await pods.rest();
        samples["the client's proxy"]!.push({ requests: answered, mb: client });
        samples["a server's proxy"]!.push({ requests: answered, mb: server });
      } catch (error) {
        problems.push((error as Error).message);
      }
    }, SAMPLING);
    if (EVENTS.length > 0) weather.begin();
    await load.exited;
    clearTimeout(limit);
    clearInterval(timer);
    clearInterval(sampler);
    problems.push(...(await weather.end()), ...pods.dead.map((child) => child.obituary));
    if (!ended && !cutShort) problems.push(load.obituary);
    progress.end();
    return conclude({
      began,
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
  /** ms since the epoch. */
  readonly began: number;
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

const TOLD: Readonly<Record<MemoryVerdict, string>> = {
  flat: "flat",
  grows: "GROWS",
  unsure: "more requests would tell",
  "too short": "too short to judge",
};

/** Failures of a kind whose times are told. */
const TIMES_TOLD = 5;

/** Tells how it went. @returns whether all was well */
function conclude(it: Conclusion): boolean {
  const say = (line: string) => writeSync(1, `${line}\n`);
  const events = Object.entries(it.events).map(([name, count]) => `${count} × ${name}`);
  say(`${it.answered} requests answered in ${it.seconds.toFixed(0)} s (seed ${flags.seed})`);
  say(`happened meanwhile: ${events.join(", ") || "nothing"}; ${it.certificates} certificates`);
  say(`failed because an application was dead: ${it.failures.length - it.guilty.length}`);
  say(`failed though no application caused it: ${it.guilty.length}`);
  const kinds = new Map<string, Failure[]>();
  for (const failure of it.guilty) {
    const { version, method, kind, detail } = failure;
    const name = `HTTP/${version} ${method} ${kind}: ${detail.replace(/\d{4,}/g, "…")}`;
    const alike = kinds.get(name);
    if (alike) alike.push(failure);
    else kinds.set(name, [failure]);
  }
  for (const [name, failures] of kinds) {
    const times = failures.slice(0, TIMES_TOLD).map(({ startedAt, endedAt }) => {
      const [from, to] = [startedAt, endedAt].map((at) => ((at - it.began) / 1_000).toFixed(1));
      return `${from}–${to} s`;
    });
    say(`  ${failures.length} × ${name} (${times.join(", ")}${failures.length > TIMES_TOLD ? ", …" : ""})`);
  }
  for (const problem of it.problems) say(`problem: ${problem}`);
  let grows = false;
  for (const [name, samples] of Object.entries(it.samples)) {
    if (samples.length === 0) continue;
    const { median, last, perMillion, low, high, verdict } = memoryTrend(samples);
    grows ||= verdict === "grows";
    const told = [perMillion, low, high].map((mb) => mb.toFixed(2));
    const trend = `${told[0]} MB per million requests (99 %: ${told[1]} to ${told[2]}): `;
    say(
      `memory of ${name}: median ${median.toFixed(1)} MB, ${last.toFixed(1)} MB at the end; ${verdict === "too short" ? "" : trend}${TOLD[verdict]}`,
    );
  }
  const well = it.guilty.length === 0 && it.problems.length === 0 && !grows;
  say(well ? "all is well" : "FAILED");
  return well;
}

process.exitCode = (await main()) ? 0 : 1;
