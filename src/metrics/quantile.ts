// Quantiles of a histogram, as Prometheus' histogram_quantile estimates them.

/**
 * The value below which a share `q` (0 to 1) of the observations lies, interpolated within its bucket.
 * @param bounds ascending upper bounds, the +Inf bucket left out
 * @param cumulative observations up to each bound, and last those of +Inf: one more than `bounds`
 * @returns null without observations; the highest bound when the quantile lies beyond it
 */
export function histogramQuantile(
  q: number,
  bounds: readonly number[],
  cumulative: ArrayLike<number>,
): number | null {
  const total = cumulative[bounds.length] ?? 0;
  if (total <= 0 || bounds.length === 0) return null;
  const rank = q * total;
  for (let i = 0; i < bounds.length; i += 1) {
    const upTo = cumulative[i]!;
    if (upTo < rank) continue;
    const lower = i === 0 ? 0 : bounds[i - 1]!;
    const before = i === 0 ? 0 : cumulative[i - 1]!;
    if (upTo === before) return bounds[i]!;
    return lower + (bounds[i]! - lower) * ((rank - before) / (upTo - before));
  }
  return bounds.at(-1)!;
}
