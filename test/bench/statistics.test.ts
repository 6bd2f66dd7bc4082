// Medians, spreads and trends of benchmark rounds.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seeded } from "../../bench/random.ts";
import { median, slopeOf, spread } from "../../bench/statistics.ts";
import { normal } from "../support/random.ts";

const test = suite("bench statistics");

test("the median is the middle, whatever the order", () => {
  assert.is(median([9, 1, 5]), 5);
  assert.is(median([4, 1, 3, 2]), 2.5);
  assert.throws(() => median([]), RangeError);
});

test("the spread is half the range over the median", () => {
  assert.is(spread([90, 100, 110]), 0.1);
  assert.is(spread([7]), 0);
  assert.is(spread([0, 0]), 0);
});

test("the trend of a line is its slope, and outliers do not move it", () => {
  const xs = Array.from({ length: 50 }, (_, i) => i);
  const line = slopeOf(
    xs,
    xs.map((x) => 3 * x + 7),
    2.58,
  );
  assert.equal(line, { slope: 3, low: 3, high: 3 });
  const outliers = xs.map((x) => (x % 10 === 5 ? 1_000 : 20));
  assert.equal(slopeOf(xs, outliers, 2.58), { slope: 0, low: 0, high: 0 });
});

test("a few points tell nothing", () => {
  const nothing = { slope: 0, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  assert.equal(slopeOf([1, 1], [5, 9], 2.58), nothing);
  const { slope, low, high } = slopeOf([1, 2, 3], [1, 3, 2], 2.58);
  assert.equal([slope, low, high], [0.5, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
});

for (const common of [0, 0.5]) {
  test(`the interval of a noisy line holds its slope as often as it says, neighbours alike by ${common}`, () => {
    const random = seeded(1);
    const xs = Array.from({ length: 80 }, (_, i) => i);
    let held = 0;
    for (let run = 0; run < 400; run += 1) {
      let stray = 0;
      const ys = xs.map((x) => {
        stray = common * stray + normal(random);
        return 0.1 * x + stray;
      });
      const { low, high } = slopeOf(xs, ys, 1.96);
      if (low <= 0.1 && high >= 0.1) held += 1;
    }
    assert.ok(held > 0.91 * 400 && held < 0.99 * 400, `${held} of 400, 380 are expected`);
  });
}

test.run();
