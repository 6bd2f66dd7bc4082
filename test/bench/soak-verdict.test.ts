// What the soak is judged by: the application's failures told from the mesh's, growth told from garbage.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Failure, isApplications, memoryTrend } from "../../bench/soak/verdict.ts";

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

const samples = (mb: (requests: number) => number) =>
  Array.from({ length: 600 }, (_, i) => ({ requests: i * 10_000, mb: mb(i * 10_000) }));

test("a sawtooth is flat, a leak is not", () => {
  const sawtooth = memoryTrend(samples((requests) => 20 + ((requests / 10_000) % 7)));
  assert.ok(sawtooth.flat, `${sawtooth.growth} MB`);
  const leak = memoryTrend(samples((requests) => 20 + ((requests / 10_000) % 7) + requests / 1e6));
  assert.not(leak.flat);
  assert.ok(Math.abs(leak.perMillion - 1) < 0.1, `${leak.perMillion}`);
});

test("warming up is no leak", () => {
  assert.ok(memoryTrend(samples((requests) => Math.min(30, 10 + requests / 20_000))).flat);
});

test.run();
