// Retries: conditions, what callers may change, and the budget over all of them.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  DEFAULT_BUDGET,
  grpcRetry,
  headerOverrides,
  httpRetry,
  isRetryable,
  RetryBudget,
  withOverrides,
} from "../../src/rules/retry.ts";

const test = suite("retries");

const policy = httpRetry({
  maxRetries: 2,
  maxRequestBytes: 1_000_000,
  conditions: {
    statusRanges: [
      { start: 500, end: 502 },
      { start: 429, end: 429 },
    ],
  },
})!;

test("an HTTP policy names statuses, within what the proxy keeps of a body", () => {
  assert.is(policy.maxBytes, 65_536);
  for (const status of [429, 500, 502]) assert.ok(isRetryable(policy, { status }));
  for (const status of [200, 428, 503]) assert.not(isRetryable(policy, { status }));
  assert.ok(isRetryable(policy, { cause: "response-timeout" }));
});

test("a gRPC policy names codes", () => {
  const codes = {
    cancelled: false,
    deadineExceeded: true,
    resourceExhausted: false,
    internal: false,
    unavailable: true,
  };
  const grpc = grpcRetry({ maxRetries: 1, maxRequestBytes: 0, conditions: codes })!;
  assert.equal([...grpc.grpc], [4, 14]);
  assert.ok(isRetryable(grpc, { status: 200, grpcStatus: 14 }));
  assert.not(isRetryable(grpc, { status: 200, grpcStatus: 13 }));
});

const overridesOf = (headers: Record<string, string>) => headerOverrides((name) => headers[name]);

test("callers may set limits, conditions and timeouts", () => {
  const { retry, request, response } = overridesOf({
    "l5d-retry-limit": "3",
    "l5d-retry-http": "5xx,429, 408-410",
    "l5d-retry-grpc": "Unavailable,internal",
    "l5d-retry-timeout": "50ms",
    "request-timeout": "2s",
    "l5d-response-timeout": "400ms",
  });
  const changed = withOverrides(policy, retry)!;
  assert.is(changed.maxRetries, 3);
  assert.equal(changed.statuses, [
    [500, 599],
    [429, 429],
    [408, 410],
  ]);
  assert.equal([...changed.grpc], [14, 13]);
  assert.equal([changed.timeout, request, response], [50, 2_000, 400]);
});

test("what cannot be read counts as not there", () => {
  for (const value of ["", "-1", "x", "99999999999", "1,2,3".repeat(100), "600-700", "510-500"]) {
    const { retry, request } = overridesOf({ "l5d-retry-http": value, "l5d-timeout": `${value}q` });
    assert.is(retry, undefined, value);
    assert.is(request, undefined, value);
  }
  assert.is(withOverrides(policy, undefined), policy);
});

test("whenever the budget lets one pass, those of its time are within its share and minimum", () => {
  const events = fc.array(
    fc.record({ wait: fc.integer({ min: 0, max: 3_000 }), requests: fc.nat(20), retries: fc.nat(40) }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(events, fc.constantFrom(0, 0.2, 1), fc.constantFrom(0, 1, 10), (list, ratio, perSecond) => {
      const ttl = 10_000;
      const budget = new RetryBudget({ ratio, perSecond, ttl });
      const log: { at: number; requests: number; passed: number }[] = [];
      let now = 12_345;
      for (const { wait, requests, retries } of list) {
        now += wait;
        for (let i = 0; i < requests; i += 1) budget.deposit(now);
        let passed = 0;
        for (let i = 0; i < retries; i += 1) if (budget.withdraw(now)) passed += 1;
        log.push({ at: now, requests, passed });
        if (passed === 0) continue;
        // The oldest slice may have half gone: count over what is surely still remembered.
        const window = log.filter(({ at }) => at > now - ttl * 0.9);
        const all = log.filter(({ at }) => at > now - ttl);
        const total = window.reduce((sum, entry) => sum + entry.passed, 0);
        const asked = all.reduce((sum, entry) => sum + entry.requests, 0);
        assert.ok(
          total <= ratio * asked + (perSecond * ttl) / 1_000,
          `${total} retries of ${asked} requests`,
        );
      }
    }),
  );
});

test("the default budget: a fifth more, and ten a second", () => {
  const budget = new RetryBudget(DEFAULT_BUDGET);
  for (let i = 0; i < 1_000; i += 1) budget.deposit(0);
  let passed = 0;
  while (budget.withdraw(1)) passed += 1;
  assert.is(passed, 300);
  assert.not(budget.withdraw(9_000));
  assert.ok(budget.withdraw(20_000));
});

test.run();
