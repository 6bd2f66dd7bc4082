// The simulation itself: the same seed is the same run, a few seeds keep all rules, and what is broken on purpose is found.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MUTATIONS } from "./mutations.ts";
import { simulate } from "./simulation.ts";

const test = suite("simulation");
/** Within so many seeds each mutation is found. */
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

for (const mutation of MUTATIONS)
  test(`noticed: ${mutation.name}`, async () => {
    const tried: number[] = [];
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const { broken } = await simulate({ seed, mutation });
      if (broken.length > 0) return;
      tried.push(seed);
    }
    assert.unreachable(`none of the seeds ${tried.join(", ")} noticed it`);
  });

test.run();
