// How loaded an endpoint is believed to be, with and without a penalty for failing fast.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { durationOf } from "../../src/api/time.ts";
import { compileLoad, DEFAULT_LOAD, PeakEwma } from "../../src/rules/endpoint-load.ts";

const test = suite("endpoint load");
const PENALISING = { ...DEFAULT_LOAD, penalty: { amount: 5_000, maxRetryAfter: 300_000, decay: 10_000 } };

test("it grows with what is pending and with a worse response time, and fades", () => {
  const load = new PeakEwma(DEFAULT_LOAD, 0);
  assert.is(load.load(0, 0), 30, "what is assumed of the unknown");
  assert.is(load.load(0, 2), 90);
  assert.is(load.load(0, 2, 2), 60, "twice the weight: half as much");
  load.measured(100, 0);
  assert.is(load.load(0, 0), 100);
  assert.ok(load.load(10_000, 0) < 40);
});

test("failing fast makes no endpoint attractive where it is penalised", () => {
  for (const [config, penalised] of [
    [DEFAULT_LOAD, false],
    [PENALISING, true],
  ] as const) {
    const load = new PeakEwma(config, 0);
    load.measured(1, 0);
    assert.is(load.responded(503, undefined, undefined, 0), penalised);
    assert.is(load.load(0, 0) > 5_000, penalised);
  }
});

test("a penalty fades, and lasts as long as Retry-After asks", () => {
  const load = new PeakEwma(PENALISING, 0);
  load.responded(429, undefined, 20_000, 0);
  const full = load.load(0, 0);
  assert.ok(load.load(20_000, 0) > 5_000 && full > 5_000);
  assert.ok(load.load(30_000, 0) < 2_000);
  assert.ok(load.load(300_000, 0) < 1);
});

test("answers that tell of no trouble are not penalised", () => {
  const load = new PeakEwma(PENALISING, 0);
  for (const [status, grpcStatus] of [
    [200, undefined],
    [404, undefined],
    [200, 0],
    [200, 5],
    [200, 7],
  ] as const)
    assert.not(load.responded(status, grpcStatus, undefined, 0), `${status} ${grpcStatus}`);
  assert.ok(load.responded(200, 8, undefined, 0));
});

test("policies: what they leave out is the default", () => {
  assert.is(compileLoad(undefined), DEFAULT_LOAD);
  assert.is(compileLoad({}), DEFAULT_LOAD);
  assert.equal(compileLoad({ peakEwma: { defaultRtt: durationOf(50), decay: durationOf(0) } }), {
    defaultRtt: 50,
    decay: 10_000,
    penalty: undefined,
  });
  assert.equal(compileLoad({ penaltyPeakEwma: { decay: durationOf(2_000), penalty: durationOf(1_000) } }), {
    defaultRtt: 30,
    decay: 2_000,
    penalty: { amount: 1_000, maxRetryAfter: 300_000, decay: 2_000 },
  });
});

test.run();
