// What a chaos run is judged by, and how it tells.
import type { EventName } from "./events.ts";

export interface RequestFailure {
  readonly kind: "web" | "rpc" | "tcp";
  readonly id: number;
  /** ms since the epoch. */
  readonly at: number;
  /** ms */
  readonly took: number;
  readonly outcome: string;
}

export interface Happened {
  /** ms since the epoch. */
  readonly at: number;
  readonly until: number;
  readonly event: EventName;
  readonly target: string;
}

export interface Sum {
  readonly sent: number;
  readonly ok: number;
  readonly failed: number;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** RSS of the processes of one program over a run, MB. */
export interface MemoryOf {
  readonly program: string;
  readonly samples: readonly { readonly at: number; readonly rss: number }[];
}

export interface ChaosReport {
  readonly seconds: number;
  readonly seed: number;
  readonly replicas: number;
  /** Mean load of the machine, and its cores. */
  readonly busy: number;
  readonly cores: number;
  readonly sums: Readonly<Record<string, Sum>>;
  readonly percentiles: Readonly<Record<string, Percentiles>>;
  readonly failures: readonly RequestFailure[];
  readonly events: readonly Happened[];
  /** Whatever is not as it should be, beside failed requests. */
  readonly problems: readonly string[];
  readonly memory: readonly MemoryOf[];
  readonly restarts: number;
  /** How often each Lease changed hands. */
  readonly leaders: Readonly<Record<string, number>>;
}

/** Growth of the largest process from the first third to the last that is no leak: share and MB. */
const GROWTH = { share: 0.3, mb: 15 };

export interface Growth {
  readonly first: number;
  readonly last: number;
  readonly peak: number;
  readonly grows: boolean;
}

/** Largest process of a program in the first and the last third of a run. */
export function growth({ samples }: MemoryOf): Growth {
  const largest = (of: typeof samples) => of.reduce((most, { rss }) => Math.max(most, rss), 0);
  const [begin, end] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0];
  const third = (end - begin) / 3;
  const first = largest(samples.filter(({ at }) => at <= begin + third));
  const last = largest(samples.filter(({ at }) => at >= end - third));
  return { first, last, peak: largest(samples), grows: last > first * (1 + GROWTH.share) + GROWTH.mb };
}

/** The events that were under way or had begun last when a request failed. */
export function before({ at, took }: RequestFailure, events: readonly Happened[]): Happened[] {
  const begun = events.filter((each) => each.at <= at + took);
  return begun.slice(-3);
}

/** A line each, and whether all was well. */
export function conclude(report: ChaosReport): { readonly lines: string[]; readonly well: boolean } {
  const lines: string[] = [];
  const counts = new Map<string, number>();
  for (const { event } of report.events) counts.set(event, (counts.get(event) ?? 0) + 1);
  const happened = [...counts].map(([event, count]) => `${count} × ${event}`).join(", ");
  lines.push(
    `${report.seconds} s, seed ${report.seed}, ${report.replicas} of each controller; load of the machine ${report.busy.toFixed(1)} on ${report.cores} cores`,
    `${report.events.length} events: ${happened || "none"}; ${report.restarts} restarts of containers`,
  );
  for (const [kind, { sent, ok, failed }] of Object.entries(report.sums)) {
    const { p50, p99, p999, max } = report.percentiles[kind] ?? { p50: 0, p99: 0, p999: 0, max: 0 };
    lines.push(
      `${kind}: ${sent} sent, ${ok} answered, ${failed} failed; p50 ${p50} ms, p99 ${p99}, p99.9 ${p999}, longest ${max}`,
    );
  }
  let flat = true;
  for (const memory of report.memory) {
    const { first, last, peak, grows } = growth(memory);
    flat &&= !grows;
    lines.push(
      `memory of ${memory.program}: ${first.toFixed(0)} MB at first, ${last.toFixed(0)} at last, at most ${peak.toFixed(0)}${grows ? ": GROWS" : ""}`,
    );
  }
  for (const [lease, changes] of Object.entries(report.leaders))
    lines.push(`leader of ${lease}: changed ${changes} times`);
  for (const failure of report.failures.slice(0, 50)) {
    lines.push(`failed: ${failure.kind} ${time(failure.at)} after ${failure.took} ms: ${failure.outcome}`);
    for (const { at, event, target } of before(failure, report.events))
      lines.push(`    ${((failure.at - at) / 1_000).toFixed(1)} s after ${event} of ${target}`);
  }
  if (report.failures.length > 50) lines.push(`… and ${report.failures.length - 50} further ones`);
  for (const problem of report.problems) lines.push(`problem: ${problem}`);
  const answered = Object.values(report.sums).reduce((sum, { ok }) => sum + ok, 0);
  const well = report.failures.length === 0 && report.problems.length === 0 && flat && answered > 0;
  lines.push(well ? "all is well: no request failed" : "FAILED");
  return { lines, well };
}

const time = (at: number) => new Date(at).toISOString().slice(11, 23);
