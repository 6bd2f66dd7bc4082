// Retry-After in both its forms.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { retryAfterMs } from "../../src/rules/retry-after.ts";

const test = suite("Retry-After");
const NOW = Date.UTC(2026, 10, 21, 12, 0, 0);

for (const [value, ms] of [
  [undefined, undefined],
  ["0", 0],
  ["120", 120_000],
  ["Sat, 21 Nov 2026 12:00:30 GMT", 30_000],
  ["Sat, 21 Nov 2026 11:00:00 GMT", 0],
  ["", undefined],
  ["-1", undefined],
  ["1.5", undefined],
  ["9999999999", undefined],
  ["2026-11-21T12:00:30Z", undefined],
  ["Sat, 99 Nov 2026 12:00:30 GMT", undefined],
  ["soon", undefined],
] as const) {
  test(`${JSON.stringify(value)} is ${ms === undefined ? "none" : `${ms} ms`}`, () => {
    assert.is(retryAfterMs(value, NOW), ms);
  });
}

test.run();
