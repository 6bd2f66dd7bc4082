// The benchmarks' histogram: percentiles close to the exact ones, and the same whether pooled or counted together.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Histogram } from "../../bench/histogram.ts";

const test = suite("bench histogram");

const latencies = fc.array(fc.oneof(fc.nat(1_000), fc.nat(1_000_000), fc.nat(2 ** 31 - 1)), { minLength: 1 });

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

test("percentiles are never below the exact ones, and at most 0.8 % above", () => {
  fc.assert(
    fc.property(latencies, fc.constantFrom(1, 50, 90, 99, 99.9, 100), (values, percent) => {
      const sorted = [...values].sort((a, b) => a - b);
      const exact = sorted[Math.max(1, Math.ceil((percent / 100) * values.length - 1e-6)) - 1]!;
      const found = histogramOf(values).percentile(percent);
      assert.ok(found >= exact && found <= exact * 1.008, `${found} for ${exact}`);
    }),
  );
});

test("values below 256 µs are exact", () => {
  for (let value = 0; value < 256; value += 1) assert.is(histogramOf([value]).percentile(50), value);
});

test("two merged, or one sent as counts, are as one that counted all", () => {
  fc.assert(
    fc.property(latencies, latencies, (a, b) => {
      const merged = Histogram.of(histogramOf(a).counts());
      merged.merge(histogramOf(b));
      assert.equal(merged.counts(), histogramOf([...a, ...b]).counts());
      assert.is(merged.count, a.length + b.length);
    }),
  );
});

test("what is out of range counts at the range's end", () => {
  assert.is(histogramOf([-5]).percentile(50), 0);
  assert.ok(histogramOf([2 ** 40]).percentile(50) >= 2 ** 31 - 1);
});

test("without samples there is no percentile", () => {
  assert.ok(Number.isNaN(new Histogram().percentile(99)));
});

test.run();
