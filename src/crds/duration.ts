// Durations as Go writes them, which routes and profiles use: `1h30m`, `250ms`, `.5s`.

import { parsed } from "../schema/index.ts";

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
const PART = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;

/**
 * Milliseconds (with fractions) of a Go duration (time.ParseDuration).
 * @throws RangeError
 */
export function parseGoDuration(source: string): number {
  const fail = (): never => {
    throw new RangeError(`expected a duration such as 10s, 250ms or 1h30m, got ${JSON.stringify(source)}`);
  };
  const sign = source.startsWith("-") ? -1 : 1;
  const rest = source.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  if (rest === "" || rest.length > 64) return fail();
  let total = 0;
  PART.lastIndex = 0;
  while (PART.lastIndex < rest.length) {
    const match = PART.exec(rest);
    if (!match) return fail();
    total += Number(match[1]) * UNITS[match[2]!]!;
  }
  return sign * total;
}

/** A duration that is not negative. */
export const goDuration = parsed({ expects: "a duration such as 10s, 250ms or 1h30m" }, (source) => {
  if (parseGoDuration(source) < 0)
    throw new RangeError(`expected a duration that is not negative, got ${JSON.stringify(source)}`);
});
