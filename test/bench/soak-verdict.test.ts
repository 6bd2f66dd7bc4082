// What the soak is judged by: the application's failures told from the mesh's, growth told from garbage.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seeded } from "../../bench/random.ts";
import {
  type Failure,
  isApplications,
  type MemorySample,
  type MemoryVerdict,
  memoryTrend,
} from "../../bench/soak/verdict.ts";
import { normal } from "../support/random.ts";

const test = suite("soak verdict");

const failure = (changes: Partial<Failure>): Failure => ({
  version: 1,
  method: "GET",
  startedAt: 1_000,
  endedAt: 1_100,
  kind: "status",
  detail: "502 connect error",
  ...changes,
});
const outages = [{ from: 1_050, to: 2_000 }];

test("a dead application is to blame for what was under way while it was dead", () => {
  assert.ok(isApplications(failure({}), outages));
  assert.ok(isApplications(failure({ kind: "closed", detail: "within an answer" }), outages));
  assert.ok(isApplications(failure({ startedAt: 2_000, endedAt: 2_500 }), outages));
  assert.ok(isApplications(failure({}), [{ from: 1_050, to: Number.POSITIVE_INFINITY }]));
});

test("… and for nothing else", () => {
  assert.not(isApplications(failure({}), []));
  assert.not(isApplications(failure({ endedAt: 1_049 }), outages));
  assert.not(isApplications(failure({ startedAt: 2_001, endedAt: 2_500 }), outages));
});

test("nor for refusals of the mesh's own, wrong answers, or answers that never came", () => {
  assert.not(isApplications(failure({ detail: "403 unauthorized" }), outages));
  assert.not(isApplications(failure({ detail: "500 unexpected" }), outages));
  assert.not(isApplications(failure({ kind: "wrong answer" }), outages));
  assert.not(isApplications(failure({ kind: "timeout" }), outages));
});

/**
 * A run in which a proxy warms up by 12 MB, and by `leak` MB for each further million requests; what is in flight when
 * it is looked at comes to some 0.4 MB more or less, and follows what was there a moment ago.
 */
function run(seed: number, { millions, leak = 0 }: { millions: number; leak?: number }): MemoryVerdict {
  const random = seeded(seed);
  let stray = 0;
  const samples = Array.from({ length: 120 }, (_, i): MemorySample => {
    const requests = (i / 120) * millions * 1e6;
    stray = 0.3 * stray + 0.4 * normal(random);
    return { requests, mb: 24 - 12 * Math.exp(-requests / 100_000) + (leak * requests) / 1e6 + stray };
  });
  return memoryTrend(samples).verdict;
}

const RUNS = Array.from({ length: 100 }, (_, seed) => seed);

for (const millions of [2, 10]) {
  test(`in ${millions} million requests a leak of a byte each is found, and noise is none`, () => {
    const leaks = RUNS.filter((seed) => run(seed, { millions, leak: 1 }) === "grows");
    assert.is(leaks.length, RUNS.length);
    const clean = RUNS.filter((seed) => run(seed, { millions }) === "flat");
    assert.is(clean.length, RUNS.length);
  });
}

test("a short run tells nothing, and one that strays far says so", () => {
  assert.is(run(1, { millions: 0.9, leak: 1 }), "too short");
  const random = seeded(2);
  const wild = Array.from({ length: 60 }, (_, i) => ({ requests: i * 25_000, mb: 30 + 10 * normal(random) }));
  assert.is(memoryTrend(wild).verdict, "unsure");
});

test("a leak is told by its size", () => {
  const leaking = Array.from({ length: 100 }, (_, i) => ({
    requests: i * 50_000,
    mb: 20 + (2.5 * i * 50_000) / 1e6,
  }));
  const { perMillion, low, high, last } = memoryTrend(leaking);
  for (const each of [perMillion, low, high]) assert.ok(Math.abs(each - 2.5) < 1e-6, `${each}`);
  assert.is(last, 32.375);
});

test.run();
