// Peak EWMA and the choice between two endpoints.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chooseOfTwo, endpointLoad, nextEstimate } from "../../src/rules/endpoint-choice.ts";
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

test.run();
