// Medians, spreads and trends of benchmark rounds.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { median, slope, spread } from "../../bench/statistics.ts";

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
  assert.is(
    slope(
      xs,
      xs.map((x) => 3 * x + 7),
    ),
    3,
  );
  assert.is(
    slope(
      xs,
      xs.map((x) => (x % 10 === 5 ? 1_000 : 20)),
    ),
    0,
  );
  assert.is(slope([1, 1], [5, 9]), 0);
});

test.run();
