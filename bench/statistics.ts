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

/**
 * How fast `ys` grow with `xs`, by the median of the slopes of all pairs (Theil–Sen): a garbage collection here and
 * there does not move it. At most a few hundred points.
 * @returns 0 when no two `xs` differ
 */
export function slope(xs: readonly number[], ys: readonly number[]): number {
  const slopes: number[] = [];
  for (let i = 0; i < xs.length; i += 1) {
    for (let j = i + 1; j < xs.length; j += 1) {
      const run = xs[j]! - xs[i]!;
      if (run !== 0) slopes.push((ys[j]! - ys[i]!) / run);
    }
  }
  return slopes.length === 0 ? 0 : median(slopes);
}
