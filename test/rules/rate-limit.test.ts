// Local rate limits.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RateLimiter } from "../../src/rules/rate-limit.ts";

const test = suite("rate limits");

const limit = (requestsPerSecond: number) => ({ requestsPerSecond });
const admitted = (limiter: RateLimiter, identity: string | undefined, at: number, count: number) => {
  let passed = 0;
  for (let i = 0; i < count; i += 1) if (limiter.check(identity, at) === undefined) passed += 1;
  return passed;
};

test("a second's quota may come at once, and again when the second is over", () => {
  const limiter = new RateLimiter({ total: limit(10), overrides: [] });
  assert.is(admitted(limiter, "a", 0, 30), 10);
  assert.is(limiter.check("a", 99), "total");
  assert.is(admitted(limiter, "a", 100, 30), 1);
  assert.is(admitted(limiter, "a", 1_100, 30), 10);
});

test("each identity has its own quota; all without one share one", () => {
  const limiter = new RateLimiter({ identity: limit(5), overrides: [] });
  assert.is(admitted(limiter, "a", 0, 9), 5);
  assert.is(admitted(limiter, "b", 0, 9), 5);
  assert.is(admitted(limiter, undefined, 0, 9), 5);
  assert.is(limiter.check(undefined, 0), "identity");
});

test("clients that are named have the quota of their override, together", () => {
  const limiter = new RateLimiter({
    identity: limit(1),
    overrides: [{ limit: limit(7), clients: { identities: [{ name: "a" }, { name: "b" }] } }],
  });
  assert.is(admitted(limiter, "a", 0, 4) + admitted(limiter, "b", 0, 9), 7);
  assert.is(limiter.check("a", 0), "override");
  assert.is(admitted(limiter, "c", 0, 9), 1);
});

test("what one limit refuses counts for no other", () => {
  const limiter = new RateLimiter({ total: limit(4), identity: limit(1), overrides: [] });
  assert.is(admitted(limiter, "a", 0, 100), 1);
  assert.is(["b", "c", "d", "e"].filter((name) => limiter.check(name, 0) === undefined).length, 3);
});

test("no client gets a fresh quota by making the limiter forget", () => {
  const limiter = new RateLimiter({ identity: limit(1), overrides: [] });
  for (let i = 0; i < 10_000; i += 1) limiter.check(`client ${i}`, 0);
  assert.is(limiter.check("client 0", 0), "identity");
  assert.is(admitted(limiter, "new 1", 0, 5) + admitted(limiter, "new 2", 0, 5), 1);
  assert.is(admitted(limiter, "new 3", 2_000, 5), 1);
});

test("in no second more than the quota, and never two seconds' worth in less than one", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 120 }), { minLength: 1, maxLength: 300 }),
      (perSecond, waits) => {
        const limiter = new RateLimiter({ total: limit(perSecond), overrides: [] });
        const passed: number[] = [];
        let now = 0;
        for (const wait of waits) {
          now += wait;
          if (limiter.check("a", now) === undefined) passed.push(now);
        }
        // In any stretch: what may come at once, and what a steady flow brings meanwhile.
        for (let i = 0; i < passed.length; i += 1) {
          for (let j = i; j < passed.length; j += 1) {
            const allowed = perSecond + ((passed[j]! - passed[i]!) * perSecond) / 1_000 + 1e-6;
            assert.ok(j - i + 1 <= allowed, `${j - i + 1} in ${passed[j]! - passed[i]!} ms`);
          }
        }
      },
    ),
    { numRuns: 50 },
  );
});

test.run();
