// The simulation itself: the same seed is the same run, a few seeds keep all rules, and what is broken on purpose is found.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MUTATIONS } from "./mutations.ts";
import { RULES } from "./rules.ts";
import { simulate } from "./simulation.ts";
import { seedsOf } from "./themes.ts";

const test = suite("simulation");
/** Within so many seeds of its theme each mutation is found. */
const SEEDS = 12;

test("the same seed gives the same trace, another one another", async () => {
  const [first, again, other] = [
    await simulate({ seed: 7, steps: 25 }),
    await simulate({ seed: 7, steps: 25 }),
    await simulate({ seed: 8, steps: 25 }),
  ];
  assert.is(first.hash, again.hash);
  assert.is(first.turns, again.turns);
  assert.is.not(first.hash, other.hash);
});

test("a few seeds keep all rules", async () => {
  for (let seed = 1; seed <= 3; seed += 1) {
    const { broken } = await simulate({ seed });
    assert.equal(broken, [], `npm run simulate -- --seed ${seed} --verbose`);
  }
});

test("each rule has a fault that it must find", () => {
  const found = new Set(MUTATIONS.flatMap(({ breaks }) => breaks));
  assert.equal(
    RULES.filter((rule) => !found.has(rule)),
    [],
  );
});

for (const mutation of MUTATIONS)
  test(`noticed: ${mutation.name}`, async () => {
    const missing = new Set(mutation.breaks);
    const seeds = seedsOf(mutation.theme, SEEDS);
    for (const seed of seeds) {
      const { broken } = await simulate({ seed, mutation });
      for (const { rule } of broken) missing.delete(rule);
      if (missing.size === 0) return;
    }
    assert.unreachable(`the seeds ${seeds.join(", ")} do not break ${[...missing].join(", ")}`);
  });

test.run();
