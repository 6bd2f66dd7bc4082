// Measures how many requests a proxy carries when there is always another one, and what each costs.

import { type Child, type CpuTime, coreTime, PROXY_CORE, type Running } from "./harness.ts";
import type { Percentiles } from "./histogram.ts";
import type { Column, RowResult, Table, TableRow, Verdict } from "./report.ts";
import { failuresOf, type Outcome, type Stage, type Subject } from "./stage.ts";
import { median, spread } from "./statistics.ts";

/** Keeps a port busy. @throws Error when it cannot */
export type Load = (port: number, seconds: number) => Promise<LoadResult>;

export interface LoadResult {
  /** Requests, messages, connections or megabytes carried. */
  readonly units: number;
  readonly seconds: number;
  readonly latency?: Percentiles;
  /** Units that failed, few enough for the rest to count. */
  readonly failed?: number;
}

/** One round of one subject; CPU and memory for each of its proxies, on the mean. */
export interface Sample {
  readonly perSecond: number;
  /** µs of CPU per unit. */
  readonly cpu: number;
  readonly user: number;
  readonly system: number;
  /** Share of the proxies' core that they used. */
  readonly busy: number;
  /** Share of it that something else used. */
  readonly others: number;
  readonly latency: Percentiles | undefined;
  readonly failed: number;
  readonly units: number;
  /** MB */
  readonly anonymous: number;
  readonly rss: number;
}

/** Long enough for a just-in-time compiler to settle at tens of thousands of units a second, s. */
const WARM_UP = 1;
/** And at hundreds, where each unit is much work. All subjects are warmed up alike. */
export const LONG_WARM_UP = 4;

/** With more failures than this share, nothing was measured. */
const MOST_FAILED = 0.001;

/** With more than this share of the core gone to others, rates and latencies are not the proxy's. */
const MOST_OTHERS = 0.1;

/**
 * Runs `load` against what runs, once to warm up and once to measure.
 * @param stretch for loads that take long to get going: both last so many times longer
 * @param warmUp s
 */
export async function measureLoad(
  stage: Stage,
  running: Running,
  load: Load,
  stretch = 1,
  warmUp = WARM_UP,
): Promise<Sample> {
  const { seconds, quick } = stage.bench.options;
  // A second may be too short for a thousand handshakes; what is measured afterwards must succeed.
  await load(running.port, (quick ? WARM_UP : warmUp) * stretch).catch(() => {});
  return stage.leastDisturbed(
    () => measureOnce(running, load, seconds * stretch),
    ({ others }) => others,
    MOST_OTHERS,
  );
}

async function measureOnce({ port, processes }: Running, load: Load, length: number): Promise<Sample> {
  const before = processes.map((child) => child.cpu());
  const started = performance.now();
  const coreBefore = coreTime(PROXY_CORE).busy;
  const { units, seconds, latency, failed = 0 } = carried(await load(port, length));
  const elapsed = (performance.now() - started) * 1_000;
  const spent = cpuSince(processes, before);
  const others = Math.max(0, coreTime(PROXY_CORE).busy - coreBefore - spent.user - spent.system);
  const passes = processes.length || 1;
  const memory = processes.map((child) => child.memory());
  return {
    perSecond: units / seconds,
    cpu: (spent.user + spent.system) / units / passes,
    user: spent.user / units / passes,
    system: spent.system / units / passes,
    busy: (spent.user + spent.system) / elapsed,
    others: others / elapsed,
    latency,
    failed,
    units,
    anonymous: memory.reduce((sum, each) => sum + each.anonymous, 0) / passes,
    rss: memory.reduce((sum, each) => sum + each.rss, 0) / passes,
  };
}

/** @throws Error when so much of the load failed, or so little was carried, that it was no load */
export function carried(result: LoadResult): LoadResult {
  const { units, failed = 0 } = result;
  if (failed > units * MOST_FAILED) throw new Error(`${failed} failed, ${units} did not`);
  if (!(units > 0)) throw new Error("nothing was carried");
  return result;
}

/** CPU that all of them used since then, µs. */
export function cpuSince(processes: readonly Child[], before: readonly CpuTime[]): CpuTime {
  let [user, system] = [0, 0];
  processes.forEach((child, index) => {
    const now = child.cpu();
    user += now.user - before[index]!.user;
    system += now.system - before[index]!.system;
  });
  return { user, system };
}

/** Medians over the rounds. @throws RangeError for none */
export function middle(samples: readonly Sample[]): Sample & { readonly cpuSpread: number } {
  const of = (pick: (sample: Sample) => number) => median(samples.map(pick));
  const latencies = samples.flatMap(({ latency }) => (latency ? [latency] : []));
  const latency = (name: keyof Percentiles) => median(latencies.map((each) => each[name]));
  return {
    perSecond: of((s) => s.perSecond),
    cpu: of((s) => s.cpu),
    user: of((s) => s.user),
    system: of((s) => s.system),
    busy: of((s) => s.busy),
    others: of((s) => s.others),
    latency:
      latencies.length > 0
        ? { p50: latency("p50"), p90: latency("p90"), p99: latency("p99"), p999: latency("p999") }
        : undefined,
    failed: samples.reduce((sum, sample) => sum + sample.failed, 0),
    units: samples.reduce((sum, sample) => sum + sample.units, 0),
    anonymous: of((s) => s.anonymous),
    rss: of((s) => s.rss),
    cpuSpread: spread(samples.map((s) => s.cpu)),
  };
}

export interface Comparison {
  readonly caption?: string;
  readonly subjects: readonly Subject[];
  readonly load: Load;
  /** What is counted, in the singular: `request`. */
  readonly unit: string;
  /** s */
  readonly warmUp?: number;
}

/** Compares subjects under the same load. @returns the table, and the outcomes to judge by */
export async function closedLoop(
  stage: Stage,
  { caption, subjects, load, unit, warmUp }: Comparison,
): Promise<{ table: Table; outcomes: Outcome<Sample>[]; failures: string[] }> {
  const outcomes = await stage.compare(subjects, (running) => measureLoad(stage, running, load, 1, warmUp));
  const baseline = cpuOf(outcomes, "haproxy");
  const where = caption ? ` (${caption})` : "";
  const columns: Column[] = [
    { head: `${unit}s/s` },
    { head: `CPU µs/${unit}`, digits: 1 },
    { head: "±", digits: 0, suffix: " %" },
    { head: "user", digits: 1 },
    { head: "system", digits: 1 },
    { head: "vs HAProxy", digits: 2, suffix: "×" },
    { head: `core ${PROXY_CORE} busy`, digits: 0, suffix: " %" },
    { head: "p50 ms", digits: 2 },
    { head: "p90", digits: 2 },
    { head: "p99", digits: 2 },
    { head: "p99.9", digits: 2 },
    { head: "anonymous MB", digits: 1 },
    { head: "RSS MB", digits: 1 },
  ];
  const rows = outcomes.map(({ subject, samples }): TableRow => {
    if (samples.length === 0) return { name: subject.name, cells: ["not measured"] };
    const { perSecond, cpu, cpuSpread, user, system, busy, latency, anonymous, rss } = middle(samples);
    const [p50, p90, p99, p999] = latency
      ? [latency.p50 / 1_000, latency.p90 / 1_000, latency.p99 / 1_000, latency.p999 / 1_000]
      : [null, null, null, null];
    const proxied = subject.kind !== "direct";
    const ofProxy = (value: number) => (proxied ? value : null);
    return {
      name: subject.name,
      cells: [
        perSecond,
        ...[ofProxy(cpu), ofProxy(cpuSpread * 100), ofProxy(user), ofProxy(system)],
        proxied && baseline !== null ? cpu / baseline : null,
        ofProxy(busy * 100),
        ...[p50!, p90!, p99!, p999!],
        ...[ofProxy(anonymous), ofProxy(rss)],
      ],
    };
  });
  return {
    table: { ...(caption ? { caption } : {}), columns, rows },
    outcomes,
    failures: [
      ...failuresOf(outcomes, where),
      ...lossesOf(outcomes, unit, where),
      ...disturbancesOf(outcomes, where),
    ],
  };
}

/** Who lost some on the way. */
const lossesOf = (outcomes: readonly Outcome<Sample>[], unit: string, where: string): string[] =>
  outcomes.flatMap(({ subject, samples }) => {
    if (samples.length === 0) return [];
    const { failed, units } = middle(samples);
    return failed === 0 ? [] : [`${subject.name}${where}: ${failed} of ${units + failed} ${unit}s failed`];
  });

/** Who was measured while something else ran on the core. */
export const disturbancesOf = (outcomes: readonly Outcome<Sample>[], where: string): string[] =>
  outcomes.flatMap(({ subject, samples }) => {
    const others = samples.length === 0 || subject.kind === "direct" ? 0 : middle(samples).others;
    return others > MOST_OTHERS
      ? [
          `${subject.name}${where}: something else used ${Math.round(others * 100)} % of core ${PROXY_CORE} meanwhile`,
        ]
      : [];
  });

/** Median CPU per unit of the first subject of a kind, and of a name if given; null when there is none. */
export function cpuOf(outcomes: readonly Outcome<Sample>[], kind: Subject["kind"], name = ""): number | null {
  const found = outcomes.find(
    ({ subject, samples }) => subject.kind === kind && subject.name.includes(name) && samples.length > 0,
  );
  return found ? middle(found.samples).cpu : null;
}

/** Median units per second, likewise. */
export function rateOf(outcomes: readonly Outcome<Sample>[], kind: Subject["kind"]): number | null {
  const found = outcomes.find(({ subject, samples }) => subject.kind === kind && samples.length > 0);
  return found ? middle(found.samples).perSecond : null;
}

/** `a / b`, null when either is missing. */
export const ratio = (a: number | null, b: number | null): number | null =>
  a === null || b === null || b === 0 ? null : a / b;

/** The verdict on CPU per unit against HAProxy's. */
export const cpuVerdict = (
  work: string,
  outcomes: readonly Outcome<Sample>[],
  limit: number,
  name = "",
): Verdict => ({
  work,
  sense: "at most",
  limit,
  value: ratio(cpuOf(outcomes, "ours", name), cpuOf(outcomes, "haproxy")),
  unit: "× HAProxy",
});

/** A row of one comparison. */
export const rowResult = (
  { table, failures }: { table: Table; failures: string[] },
  verdicts: readonly Verdict[],
  notes: readonly string[] = [],
): RowResult => ({ tables: [table], verdicts, failures, notes });
