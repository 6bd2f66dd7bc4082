// What the soak is judged by: whose fault a failed request was, and whether memory grows.
import { median, slope } from "../statistics.ts";

export type FailureKind = "status" | "closed" | "timeout" | "wrong answer";

export interface Failure {
  readonly version: 1 | 2;
  readonly method: string;
  /** ms since the epoch. */
  readonly startedAt: number;
  readonly endedAt: number;
  readonly kind: FailureKind;
  /** Status and error of the proxy's, or what happened. */
  readonly detail: string;
}

/** A time in which an application was dead though its pod was listed. */
export interface Outage {
  readonly from: number;
  /** Infinity while it lasts. */
  readonly to: number;
}

/** A mesh tells of a dead application by these; everything else is the mesh's own doing. */
const APPLICATION_GONE = /^(502|503|504) /;

/**
 * Whether the application caused the failure: it was dead at some time while the request was under way, and the failure
 * is of a kind that a dead application brings. Wrong answers and waiting for ever are never its fault.
 */
export function isApplications(failure: Failure, outages: readonly Outage[]): boolean {
  const { startedAt, endedAt, kind, detail } = failure;
  if (kind === "wrong answer" || kind === "timeout") return false;
  if (kind === "status" && !APPLICATION_GONE.test(detail)) return false;
  return outages.some(({ from, to }) => startedAt <= to && endedAt >= from);
}

export interface MemorySample {
  /** Requests answered by then. */
  readonly requests: number;
  /** Anonymous, MB. */
  readonly mb: number;
}

export interface MemoryTrend {
  /** MB */
  readonly median: number;
  readonly last: number;
  /** MB for a million requests, once warm. */
  readonly perMillion: number;
  /** MB over all that was watched. */
  readonly growth: number;
  readonly flat: boolean;
}

/** What is seen before this share of the run is warming up. */
const WARM = 0.2;
/** Points that a trend is drawn through: with more, their pairs would take minutes. */
const MOST_POINTS = 400;
/** Growth that is noise, MB and share of the median: garbage comes and goes in steps of this size. */
const NOISE = { mb: 3, share: 0.1 };

/** How memory went with requests. @throws RangeError without samples */
export function memoryTrend(samples: readonly MemorySample[]): MemoryTrend {
  const end = samples.at(-1)?.requests ?? 0;
  const warm = samples.filter(({ requests }) => requests >= WARM * end);
  const step = Math.ceil(warm.length / MOST_POINTS);
  const points = warm.filter((_, index) => index % step === 0);
  const mbs = warm.map(({ mb }) => mb);
  const perRequest = slope(
    points.map(({ requests }) => requests),
    points.map(({ mb }) => mb),
  );
  const middle = median(mbs);
  const growth = perRequest * (end - (warm[0]?.requests ?? end));
  return {
    median: middle,
    last: mbs.at(-1)!,
    perMillion: perRequest * 1e6,
    growth,
    flat: growth <= Math.max(NOISE.mb, NOISE.share * middle),
  };
}
