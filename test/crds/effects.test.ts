// Every field of every kind, and every annotation: what it changes of what proxies are told.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EFFECTS } from "./effects/index.ts";

const test = suite("effects of fields");

for (const { kind, effects } of EFFECTS)
  for (const { field, cases, show } of effects)
    test(`${kind} ${field}`, () => {
      const seen = cases.map(([value]) => show(value));
      for (const [at, [value, expected]] of cases.entries())
        assert.equal(seen[at], expected, JSON.stringify(value) ?? "left out");
      assert.not.equal(seen[0], seen[1], "it makes a difference");
    });

test.run();
