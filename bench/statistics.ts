// What is made of repeated measurements: a middle, a spread, a trend.

/** The middle value; the mean of the two middle ones of an even number. @throws RangeError for none */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("no values");
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Half the distance between the extremes, as a share of the median: 0.05 reads as ±5 %. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  return middle === 0 ? 0 : (Math.max(...values) - Math.min(...values)) / 2 / middle;
}

/** How fast something grows, and between which bounds that is with the confidence that was asked for. */
export interface Slope {
  readonly slope: number;
  readonly low: number;
  readonly high: number;
}

/**
 * How fast `ys` grow with `xs`, by the median of the slopes of all pairs (Theil–Sen), which what strays here and there
 * does not move, and Sen's interval from the variance of Kendall's statistic (Sen 1968). Where what strays lasts, so many
 * points are worth fewer: the variance grows by what neighbours have in common (Hamed and Rao 1998, of the first order).
 * At most a few hundred points, in order.
 * @param z of the confidence, in standard deviations: 2.58 for 99 %
 * @returns 0 between infinities when there are too few points to tell
 */
export function slopeOf(xs: readonly number[], ys: readonly number[], z: number): Slope {
  const slopes: number[] = [];
  for (let i = 0; i < xs.length; i += 1) {
    for (let j = i + 1; j < xs.length; j += 1) {
      const run = xs[j]! - xs[i]!;
      if (run !== 0) slopes.push((ys[j]! - ys[i]!) / run);
    }
  }
  const unknown = { slope: 0, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  if (slopes.length === 0) return unknown;
  slopes.sort((a, b) => a - b);
  const n = xs.length;
  const slope = median(slopes);
  const common = Math.max(0, neighbours(ys.map((y, i) => y - slope * xs[i]!)));
  const variance = ((n * (n - 1) * (2 * n + 5)) / 18) * ((1 + common) / (1 - common));
  const below = Math.floor((slopes.length - z * Math.sqrt(variance)) / 2);
  return {
    slope,
    low: slopes[below] ?? unknown.low,
    high: slopes[slopes.length - 1 - below] ?? unknown.high,
  };
}

/** What each value has in common with the next, from -1 to 1 (exclusive): the autocorrelation at a lag of one. */
function neighbours(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  let [together, all] = [0, 0];
  for (const [i, value] of values.entries()) {
    all += (value - mean) ** 2;
    if (i > 0) together += (value - mean) * (values[i - 1]! - mean);
  }
  return all === 0 ? 0 : together / all;
}
