// A quality gate on traffic for pipelines: `--fail-under success=99,p99=500ms,rps=1`.
import type { StatRow } from "../api/stat.ts";
import { parseDuration } from "../util/duration.ts";
import { formatResource } from "./resource.ts";
import { percent } from "./stat-rows.ts";

type Measure = "success" | "rps" | "p50" | "p95" | "p99";

export interface Limit {
  readonly measure: Measure;
  /** Success as 0 to 1, requests a second, or ms. */
  readonly value: number;
}

/**
 * Reads a comma list of limits: `success=PERCENT` and `rps=NUMBER` are the least, `p50|p95|p99=DURATION` the most.
 * @throws RangeError naming the item that cannot be read
 */
export function parseLimits(text: string): Limit[] {
  return text.split(",").map((item) => {
    const [measure = "", value = ""] = item.trim().split("=");
    const number = Number(value.replace(/%$/, ""));
    const fits = value !== "" && Number.isFinite(number) && number >= 0;
    if (measure === "success" && fits && number <= 100) return { measure, value: number / 100 };
    if (measure === "rps" && fits) return { measure, value: number };
    if (measure === "p50" || measure === "p95" || measure === "p99")
      return { measure, value: parseDuration(value) };
    throw new RangeError(
      `expected success=PERCENT, rps=NUMBER or p50|p95|p99=DURATION, got ${JSON.stringify(item.trim())}`,
    );
  });
}

/** What falls short, one sentence each. Rows without requests are not judged; if none has any, that is said. */
export function breaches(rows: readonly StatRow[], limits: readonly Limit[]): string[] {
  const judged = rows.filter((row) => row.requests !== null);
  if (judged.length === 0) return ["no requests were seen, so there is nothing to judge"];
  return judged.flatMap((row) =>
    limits.flatMap(({ measure, value }) => {
      const requests = row.requests!;
      const name = formatResource(row);
      if (measure === "success") {
        return requests.successRate < value
          ? [`${name}: success is ${percent(requests.successRate)}, under ${percent(value)}`]
          : [];
      }
      if (measure === "rps") {
        return requests.rps < value ? [`${name}: ${requests.rps.toFixed(1)}rps, under ${value}rps`] : [];
      }
      const latency = requests[measure];
      return latency !== null && latency > value
        ? [`${name}: ${measure} is ${Math.round(latency)}ms, over ${value}ms`]
        : [];
    }),
  );
}
