// What the soak is judged by: whose fault a failed request was, and whether memory grows.
import { median, slopeOf } from "../statistics.ts";

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

/** What a proxy held after it had given back all that it did not need. */
export interface MemorySample {
  /** Requests answered by then. */
  readonly requests: number;
  /** Anonymous, MB. */
  readonly mb: number;
}

/** `too short` and `unsure`: what was seen does not tell. */
export type MemoryVerdict = "flat" | "grows" | "unsure" | "too short";

export interface MemoryTrend {
  /** MB, once warm. */
  readonly median: number;
  readonly last: number;
  /** MB for a million requests, once warm, and between which bounds that is in 99 of 100 runs. */
  readonly perMillion: number;
  readonly low: number;
  readonly high: number;
  readonly verdict: MemoryVerdict;
}

/** What is seen before so many requests and this share of the run is warming up: code is still being compiled. */
const WARM = { requests: 500_000, share: 0.25 };
/** Fewer points and requests than these, once warm, tell nothing. */
const LEAST = { points: 20, requests: 500_000 };
/** Points that a trend is drawn through: with more, their pairs would take minutes. */
const MOST_POINTS = 400;
/** A leak, MB for a million requests: of one byte a request. Half of it may be noise. */
const LEAK = 1;
/** Standard deviations: 99 % on both sides together. */
const CONFIDENCE = 2.58;

/** How memory went with requests, once warm. @throws RangeError without samples */
export function memoryTrend(samples: readonly MemorySample[]): MemoryTrend {
  const end = samples.at(-1)?.requests ?? 0;
  const from = Math.max(WARM.requests, WARM.share * end);
  const warm = samples.filter(({ requests }) => requests >= from);
  const step = Math.ceil(warm.length / MOST_POINTS);
  const points = warm.filter((_, index) => index % step === 0);
  const { slope, low, high } = slopeOf(
    points.map(({ requests }) => requests / 1e6),
    points.map(({ mb }) => mb),
    CONFIDENCE,
  );
  const enough = points.length >= LEAST.points && end - from >= LEAST.requests;
  return {
    median: median((warm.length > 0 ? warm : samples).map(({ mb }) => mb)),
    last: samples.at(-1)!.mb,
    perMillion: slope,
    ...{ low, high },
    verdict: enough ? judge(slope, low, high) : "too short",
  };
}

function judge(slope: number, low: number, high: number): MemoryVerdict {
  if (low > 0 && slope >= LEAK / 2) return "grows";
  return high < LEAK ? "flat" : "unsure";
}
