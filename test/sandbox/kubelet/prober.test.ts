// Probes: thresholds, periods, and looking early without counting.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json } from "../../../src/sandbox/cluster.ts";
import { Prober } from "../../../src/sandbox/kubelet/prober.ts";
import { ManualClock } from "../../support/clock.ts";

const test = suite("prober");

function run(probe: Json, answers: (now: number) => boolean, eager: boolean) {
  const clock = new ManualClock();
  const verdicts: [number, boolean][] = [];
  const failures: number[] = [];
  const prober = new Prober({
    probe,
    clock,
    eager,
    run: async () => ({ ok: answers(clock.now()), message: "no" }),
    onVerdict: (ok) => verdicts.push([clock.now(), ok]),
    onFailure: () => failures.push(clock.now()),
  });
  return { clock, verdicts, failures, prober };
}

test("a verdict needs its threshold, and changes once", async () => {
  const probe = { periodSeconds: 10, failureThreshold: 3 };
  const { clock, verdicts, failures } = run(probe, (now) => now < 15_000 || now > 60_000, false);
  await clock.advance(100_000);
  assert.equal(verdicts, [
    [0, true],
    [40_000, false],
    [70_000, true],
  ]);
  assert.equal(failures, [20_000, 30_000, 40_000, 50_000, 60_000]);
});

test("an initial delay is waited for", async () => {
  const { clock, verdicts } = run({ periodSeconds: 10, initialDelaySeconds: 7 }, () => true, false);
  await clock.advance(6_999);
  assert.equal(verdicts, []);
  await clock.advance(1);
  assert.equal(verdicts, [[7_000, true]]);
});

test("what becomes ready between two periods is seen soon, and early failures do not count", async () => {
  const probe = { periodSeconds: 10, failureThreshold: 1 };
  const { clock, verdicts, failures } = run(probe, (now) => now >= 300, true);
  await clock.advance(9_000);
  assert.is(verdicts.length, 1);
  assert.ok(verdicts[0]![0] < 1_000, `seen after ${verdicts[0]![0]} ms`);
  assert.equal(failures, []);
});

test("what never succeeds fails by its threshold", async () => {
  const { clock, verdicts } = run({ periodSeconds: 1, failureThreshold: 3 }, () => false, true);
  await clock.advance(10_000);
  assert.equal(verdicts, [[3_000, false]]);
});

test("a stopped prober is silent", async () => {
  const { clock, verdicts, prober } = run({ periodSeconds: 1 }, () => true, false);
  prober.stop();
  await clock.advance(5_000);
  assert.equal(verdicts, []);
});

test.run();
