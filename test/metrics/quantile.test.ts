// Quantiles out of histogram buckets.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { histogramQuantile } from "../../src/metrics/quantile.ts";

const test = suite("quantile");

test("interpolates within the bucket that holds the rank", () => {
  const bounds = [10, 20, 50];
  const cases: [number, number[], number | null][] = [
    [0.5, [0, 0, 0, 0], null],
    [0.5, [10, 10, 10, 10], 5],
    [0.5, [10, 20, 20, 20], 10],
    [0.75, [10, 20, 20, 20], 15],
    [0.99, [0, 0, 100, 100], 49.7],
    [0.99, [0, 0, 0, 5], 50],
    [0, [5, 5, 5, 5], 0],
  ];
  for (const [q, cumulative, expected] of cases) {
    const value = histogramQuantile(q, bounds, cumulative);
    assert.is(value === null ? null : Math.round(value * 100) / 100, expected, `${q} of ${cumulative}`);
  }
});

test.run();
