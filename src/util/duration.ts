// Durations as annotations, flags and LINKERD2_PROXY_* write them: an integer and ms, s, m, h or d; a bare 0.

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Milliseconds of a duration such as `10s` or `250ms`.
 * @throws RangeError that names what was expected and what came.
 */
export function parseDuration(text: string): number {
  const match = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text.trim());
  if (match) return Number(match[1]) * UNITS[match[2] as string]!;
  if (text.trim() === "0") return 0;
  throw new RangeError(`expected a duration such as 10s, 250ms, 5m, 1h or 1d, got ${JSON.stringify(text)}`);
}

/** The shortest exact way to write `ms`; the inverse of {@link parseDuration}. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const size = UNITS[unit]!;
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${Math.round(ms)}ms`;
}
