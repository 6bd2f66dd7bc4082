// The circuit breaker of an endpoint, as a machine in a time of our own.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { durationOf } from "../../src/api/time.ts";
import {
  Accrual,
  type AccrualConfig,
  type AccrualOutcome,
  compileAccrual,
} from "../../src/rules/failure-accrual.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("failure accrual");

const CONFIG: AccrualConfig = {
  maxFailures: 3,
  rate: undefined,
  backoff: { min: 1_000, max: 60_000, jitter: 0 },
  respectsRetryAfter: false,
  minReadyEndpoints: 1,
};
const RATE = { threshold: 0.8, window: 10_000, minRequests: 5 };

const answer = (status: number, more: Partial<AccrualOutcome> = {}): AccrualOutcome => ({
  status,
  grpcStatus: undefined,
  complete: true,
  retryAfter: undefined,
  ...more,
});
const accrual = (config: Partial<AccrualConfig> = {}, random = () => 0) =>
  new Accrual({ ...CONFIG, ...config }, { now: 0, random });
const tell = (breaker: Accrual, now: number, ...statuses: number[]) => {
  for (const status of statuses) breaker.record(answer(status), now);
};

test("so many failures in a row shut it, a success between starts anew", () => {
  const breaker = accrual();
  tell(breaker, 0, 500, 500, 200, 500, 503);
  assert.is(breaker.state, "open");
  tell(breaker, 0, 500);
  assert.is(breaker.state, "shut");
  assert.not(breaker.admits(999));
  assert.ok(breaker.admits(1_000));
});

for (const [name, outcome, counts] of [
  ["a caller's mistake", answer(404), false],
  ["too many requests", answer(429), false],
  ["a response that broke off", answer(200, { complete: false }), true],
  ["no response", answer(0, { complete: false }), true],
  ["gRPC Unavailable", answer(200, { grpcStatus: 14 }), true],
  ["gRPC NotFound", answer(200, { grpcStatus: 5 }), false],
  ["gRPC ResourceExhausted", answer(200, { grpcStatus: 8 }), false],
] as const) {
  test(`${name} ${counts ? "counts" : "does not count"} as a failure in a row`, () => {
    const breaker = accrual({ maxFailures: 1 });
    breaker.record(outcome, 0);
    assert.is(breaker.state, counts ? "shut" : "open");
  });
}

test("exactly one request decides; others' answers do not count", () => {
  const breaker = accrual();
  tell(breaker, 0, 500, 500, 500);
  tell(breaker, 10, 200, 200);
  assert.is(breaker.state, "shut", "what was under way is ignored");
  assert.ok(breaker.admits(1_000));
  breaker.probe();
  assert.not(breaker.admits(1_000));
  breaker.forgo();
  assert.ok(breaker.admits(1_000), "a probe that was given up is made again");
  breaker.probe();
  tell(breaker, 1_100, 200);
  assert.is(breaker.state, "open");
  assert.ok(breaker.admits(1_100));
  tell(breaker, 1_200, 500, 500);
  assert.is(breaker.state, "open", "failures of before are forgotten");
});

test("each failed probe doubles the wait, up to the limit; a passed one forgets it", () => {
  const breaker = accrual({ backoff: { min: 1_000, max: 3_000, jitter: 0 } });
  tell(breaker, 0, 500, 500, 500);
  let now = 0;
  const waits: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    waits.push(breaker.shutUntil - now);
    now = breaker.shutUntil;
    breaker.probe();
    tell(breaker, now, 500);
  }
  assert.equal(waits, [1_000, 2_000, 3_000]);
  now = breaker.shutUntil;
  breaker.probe();
  tell(breaker, now, 200);
  tell(breaker, now, 500, 500, 500);
  assert.is(breaker.shutUntil - now, 1_000);
});

test("jitter lengthens the wait by up to its share", () => {
  for (const [random, wait] of [
    [0, 1_000],
    [0.5, 1_250],
    [0.999, 1_499.5],
  ] as const) {
    const breaker = accrual({ backoff: { min: 1_000, max: 60_000, jitter: 0.5 } }, () => random);
    tell(breaker, 0, 500, 500, 500);
    assert.is(breaker.shutUntil, wait);
  }
});

test("Retry-After lengthens the wait where it is respected, and not beyond five minutes", () => {
  for (const [respectsRetryAfter, retryAfter, wait] of [
    [false, 20_000, 1_000],
    [true, undefined, 1_000],
    [true, 100, 1_000],
    [true, 20_000, 20_000],
    [true, 9_999_999, 300_000],
  ] as const) {
    const breaker = accrual({ maxFailures: 1, respectsRetryAfter });
    breaker.record(answer(503, { retryAfter }), 0);
    assert.is(breaker.shutUntil, wait);
  }
});

test("too low a rate of successes shuts it, once there are enough answers", () => {
  const breaker = accrual({ maxFailures: 100, rate: RATE });
  tell(breaker, 0, 500, 200, 500, 200);
  assert.is(breaker.state, "open", "four answers say nothing");
  tell(breaker, 0, 200);
  assert.is(breaker.state, "shut", "three of five are too few");
});

test("for the rate, and for its probes, being overloaded is as bad as failing", () => {
  const breaker = accrual({ maxFailures: 100, rate: RATE });
  tell(breaker, 0, 429, 429, 429, 429);
  breaker.record(answer(200, { grpcStatus: 8 }), 0);
  assert.is(breaker.state, "shut");
  breaker.probe();
  tell(breaker, 1_000, 429);
  assert.is(breaker.state, "shut");
});

test("what is older than the window is forgotten", () => {
  const breaker = accrual({ maxFailures: 100, rate: RATE });
  tell(breaker, 0, 500, 500, 500, 500);
  tell(breaker, 10_000, 200);
  assert.is(breaker.state, "open");
  tell(breaker, 11_000, 500, 200, 200, 200);
  assert.is(breaker.state, "open", "four of five");
  tell(breaker, 25_000, 500, 500, 500, 500);
  assert.is(breaker.state, "open", "only four are left in the window");
});

test("a rate at or above the threshold never shuts it, one below always does", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 5, maxLength: 60 }), (answers) => {
      const breaker = accrual({ maxFailures: 1_000, rate: RATE });
      let low = false;
      answers.forEach((ok, index) => {
        if (breaker.state === "open") tell(breaker, index, ok ? 200 : 500);
        const told = answers.slice(0, index + 1);
        low ||= told.length >= 5 && told.filter(Boolean).length < 0.8 * told.length;
        assert.is(breaker.state, low ? "shut" : "open");
      });
    }),
  );
});

test("it says why", () => {
  const breaker = accrual({ maxFailures: 2 });
  const why = (now: number) => {
    const trace = new Trace();
    breaker.admits(now, trace);
    return trace.steps[0]!.why;
  };
  tell(breaker, 0, 500);
  assert.is(why(0), "1 failures in a row, 2 shut it");
  tell(breaker, 0, 500);
  assert.is(why(400), "it is left alone for 600 ms more");
  assert.is(why(1_000), "the next request decides");
  breaker.probe();
  assert.is(why(1_000), "one request is there to decide whether it has recovered");
});

test("policies: what they leave out is Linkerd's default", () => {
  assert.is(compileAccrual(undefined), undefined);
  assert.is(compileAccrual({}), undefined);
  assert.equal(compileAccrual({ consecutiveFailures: { maxFailures: 0 } }), {
    maxFailures: 7,
    rate: undefined,
    backoff: { min: 1_000, max: 60_000, jitter: 0.5 },
    respectsRetryAfter: false,
    minReadyEndpoints: 1,
  });
  assert.equal(
    compileAccrual({
      unified: {
        successRateThreshold: 0.5,
        decay: durationOf(5_000),
        minRequests: 10,
        maxConsecutiveFailures: 4,
        backoff: {
          minBackoff: durationOf(2_000),
          maxBackoff: durationOf(1_000),
          jitterRatio: 7,
          respectRetryAfterHint: true,
        },
      },
      ejection: { minReadyEndpoints: 3 },
    }),
    {
      maxFailures: 4,
      rate: { threshold: 0.5, window: 5_000, minRequests: 10 },
      backoff: { min: 2_000, max: 2_000, jitter: 1 },
      respectsRetryAfter: true,
      minReadyEndpoints: 3,
    },
  );
});

test.run();
