// Peak EWMA and the choice between two endpoints.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chooseOfTwo, EndpointChoice, endpointLoad, nextEstimate } from "../../src/rules/endpoint-choice.ts";
import { classifyResponse } from "../../src/rules/response-class.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("endpoint choice");

test("a worse round trip counts at once, a better one by and by", () => {
  assert.is(nextEstimate(30, 0, 100), 100);
  const better = nextEstimate(100, 5_000, 10);
  assert.ok(better < 100 && better > 10);
  assert.ok(Math.abs(nextEstimate(100, 1_000_000, 10) - 10) < 0.001);
});

test("load grows with what is pending", () => assert.ok(endpointLoad(10, 1) > endpointLoad(10, 0)));

test("the less loaded of two different endpoints is chosen, and any can be drawn", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1_000), { minLength: 1, maxLength: 8 }),
      fc.array(fc.double({ min: 0, max: 0.999999, noNaN: true }), { minLength: 2, maxLength: 2 }),
      (loads, draws) => {
        let at = 0;
        const trace = new Trace();
        const chosen = chooseOfTwo(
          loads.length,
          (i) => loads[i]!,
          () => draws[at++ % 2]!,
          trace,
        );
        assert.ok(chosen >= 0 && chosen < loads.length);
        const rules = trace.steps.map((step) => step.rule);
        assert.is(new Set(rules).size, rules.length);
        if (loads.length > 1) {
          const others = rules.map((rule) => loads[Number(rule.slice(9))]!);
          assert.is(loads[chosen], Math.min(...others));
        }
      },
    ),
  );
  assert.is(
    chooseOfTwo(0, () => 0, Math.random),
    -1,
  );
});

test("responses: 5xx and broken ones are failures", () => {
  assert.is(classifyResponse(200, true), "success");
  assert.is(classifyResponse(499, true), "success");
  assert.is(classifyResponse(500, true), "failure");
  assert.is(classifyResponse(200, false), "failure");
});

/** Shares of many requests among endpoints that answer at once. */
function shares(candidates: readonly { weight: number; local: boolean }[], localTotal = 0): number[] {
  const choice = new EndpointChoice();
  choice.update(candidates, localTotal);
  const counts = candidates.map(() => 0);
  // A generator of our own (Numerical Recipes' constants): the same draws in every run.
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  const load = () => 1;
  for (let i = 0; i < 20_000; i += 1) counts[choice.choose(load, () => 0, i, random)]! += 1;
  return counts.map((count) => count / 20_000);
}

const remote = (weight: number) => ({ weight, local: false });

for (const [weights, wanted] of [
  [
    [1, 1],
    [0.5, 0.5],
  ],
  [
    [3, 1],
    [0.75, 0.25],
  ],
  [
    [98, 1, 1],
    [0.98, 0.01, 0.01],
  ],
  [
    [2, 1, 1],
    [0.5, 0.25, 0.25],
  ],
  [
    [0, 1, 1],
    [0, 0.5, 0.5],
  ],
  [
    [0, 0],
    [0.5, 0.5],
  ],
] as const) {
  test(`weights ${weights} make shares ${wanted}`, () => {
    for (const [index, share] of shares(weights.map(remote)).entries())
      assert.ok(Math.abs(share - wanted[index]!) < 0.02, `${share} for ${weights[index]}`);
  });
}

test("a zone whose endpoints are idle and ready keeps everything", () => {
  const here = { weight: 1, local: true };
  assert.equal(shares([here, remote(1), remote(1)], 1), [1, 0, 0]);
  const [near, ...far] = shares([here, remote(1), remote(1)], 10);
  assert.ok(near! > 0.3 && near! < 0.6, `one of ten that should be here: ${near}`);
  assert.ok(far.every((share) => share > 0.2));
});

test.run();
