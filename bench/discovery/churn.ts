// Whether memory stays the same while endpoints come and go for a long time.
import { slopeOf } from "../statistics.ts";
import type { MemorySample } from "./run.ts";

export interface ChurnTrend {
  /** Anonymous memory, MB an hour, once warm, and between which bounds that is in 99 of 100 runs. */
  readonly perHour: number;
  readonly low: number;
  readonly high: number;
  /** Bytes for each change. */
  readonly perChange: number;
  readonly verdict: "flat" | "grows" | "unsure";
}

/** Before this share of the run code is still being compiled, and the heap finds its size. */
const WARM_UP = 0.15;
/** Points that a trend is drawn through, at most. */
const MOST_POINTS = 400;
/** What an hour may add, as a share of what there is: a day then doubles nothing. */
const LEAK = 0.04;
/** Standard deviations: 99 % on both sides together. */
const CONFIDENCE = 2.58;

/** How memory went. @throws RangeError without samples */
export function churnTrend(samples: readonly MemorySample[]): ChurnTrend {
  const last = samples.at(-1);
  if (!last) throw new RangeError("no samples");
  const warm = samples.filter(({ at }) => at >= last.at * WARM_UP);
  const step = Math.ceil(warm.length / MOST_POINTS);
  const points = warm.filter((_, index) => index % step === 0);
  const { slope, low, high } = slopeOf(
    points.map(({ at }) => at / 3_600),
    points.map(({ anonymous }) => anonymous),
    CONFIDENCE,
  );
  const leak = LEAK * last.anonymous;
  let verdict: ChurnTrend["verdict"] = "unsure";
  if (low > 0 && slope >= leak / 2) verdict = "grows";
  else if (high < leak) verdict = "flat";
  const changesPerHour = (last.changes / last.at) * 3_600;
  return { perHour: slope, low, high, perChange: (slope * 1_048_576) / changesPerHour, verdict };
}
