// The pure parts: rollout arithmetic, cron schedules, placement, the work queue.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { selectorMatches } from "../../../src/rules/label-selector.ts";
import type { Json, KubeObject } from "../../../src/sandbox/cluster.ts";
import { parseCron } from "../../../src/sandbox/controllers/cron-schedule.ts";
import {
  fenceposts,
  newReplicas,
  proportional,
  sameTemplate,
  shrinkOld,
  templateHash,
} from "../../../src/sandbox/controllers/deployment-math.ts";
import { WorkQueue } from "../../../src/sandbox/controllers/work-queue.ts";
import { place } from "../../../src/sandbox/scheduler/fit.ts";
import { systemClock } from "../../../src/util/clock.ts";

const test = suite("controllers' decisions");

const posts = (replicas: number, maxSurge: number | string, maxUnavailable: number | string) =>
  fenceposts({
    spec: { replicas, strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge, maxUnavailable } } },
  });

for (const [replicas, surge, unavailable, expected] of [
  [10, "25%", "25%", { surge: 3, unavailable: 2 }],
  [1, "25%", "25%", { surge: 1, unavailable: 0 }],
  [4, 0, 0, { surge: 0, unavailable: 1 }],
  [2, 1, 5, { surge: 1, unavailable: 2 }],
] as const) {
  test(`maxSurge ${surge}, maxUnavailable ${unavailable} of ${replicas}`, () => {
    assert.equal(posts(replicas, surge, unavailable), expected);
  });
}

test("whatever the state, a rollout step keeps enough available and ends", () => {
  const state = fc.record({
    wanted: fc.integer({ min: 1, max: 12 }),
    surge: fc.integer({ min: 0, max: 3 }),
    unavailable: fc.integer({ min: 0, max: 3 }),
    order: fc.array(fc.nat(3), { minLength: 1, maxLength: 8 }),
  });
  fc.assert(
    fc.property(state, ({ wanted, surge, unavailable, order }) => {
      const fence = posts(wanted, surge, unavailable);
      let old = { name: "old", replicas: wanted, available: wanted };
      let fresh = { replicas: 0, available: 0 };
      for (let step = 0; step < 200; step++) {
        const size = newReplicas(wanted, fresh.replicas, old.replicas + fresh.replicas, fence);
        fresh = { ...fresh, replicas: size };
        const replicas = shrinkOld([old], fresh, wanted, fence).get("old")!;
        old = { ...old, replicas, available: Math.min(old.available, replicas) };
        assert.ok(old.replicas + fresh.replicas <= wanted + fence.surge, "too many");
        assert.ok(old.available + fresh.available >= wanted - fence.unavailable, "too few available");
        if (old.replicas === 0 && fresh.available === wanted) return;
        // New pods become ready in some order, at least one a step.
        const ready = Math.max(1, order[step % order.length]!);
        fresh = { ...fresh, available: Math.min(fresh.replicas, fresh.available + ready) };
      }
      assert.unreachable("the rollout did not end");
    }),
  );
});

test("pods that never became available are the first to go", () => {
  const sizes = shrinkOld(
    [
      { name: "broken", replicas: 2, available: 0 },
      { name: "good", replicas: 3, available: 3 },
    ],
    { replicas: 0, available: 0 },
    4,
    { surge: 1, unavailable: 1 },
  );
  assert.equal(
    [...sizes],
    [
      ["broken", 0],
      ["good", 3],
    ],
  );
});

test("scaling in mid-rollout keeps the proportions and the sum", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 5 }),
      fc.nat(60),
      (sizes, allowed) => {
        const sets = sizes.map((replicas, i) => ({ name: `s${i}`, replicas }));
        const result = [...proportional(sets, allowed).values()];
        assert.ok(result.every((size) => size >= 0));
        assert.is(
          result.reduce((sum, size) => sum + size, 0),
          allowed,
        );
      },
    ),
    // Five of one each cannot shrink to three by rounding alone.
    { examples: [[[1, 1, 1, 1, 1], 3]] },
  );
});

test("a template's hash ignores key order and the hash label itself", () => {
  const a = { metadata: { labels: { app: "x", "pod-template-hash": "1" } }, spec: { b: 1, a: [1] } };
  const b = { metadata: { labels: { app: "x" } }, spec: { a: [1], b: 1 } };
  assert.is(templateHash(a, 0), templateHash(b, 0));
  assert.ok(sameTemplate(a, b));
  assert.is.not(templateHash(a, 0), templateHash(a, 1));
  assert.not.ok(sameTemplate(a, { ...b, spec: { a: [2], b: 1 } }));
});

for (const [selector, labels, expected] of [
  [undefined, { a: "1" }, false],
  [{}, {}, true],
  [{ matchLabels: { a: "1" } }, { a: "1", b: "2" }, true],
  [{ matchLabels: { a: "1" } }, undefined, false],
  [{ matchExpressions: [{ key: "a", operator: "In", values: ["1", "2"] }] }, { a: "2" }, true],
  [{ matchExpressions: [{ key: "a", operator: "NotIn", values: ["1"] }] }, {}, true],
  [{ matchExpressions: [{ key: "a", operator: "Exists" }] }, {}, false],
  [{ matchExpressions: [{ key: "a", operator: "DoesNotExist" }] }, {}, true],
] as const) {
  test(`selector ${JSON.stringify(selector)} on ${JSON.stringify(labels)}`, () => {
    assert.is(selectorMatches(selector as Json, labels), expected);
  });
}

for (const [expression, from, expected] of [
  ["*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"],
  ["0 3 * * mon-fri", "2026-11-20T04:00:00Z", "2026-11-23T03:00:00Z"],
  ["0 0 13 * 5", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"],
  ["0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"],
  ["5,10 1-3/2 * jan *", "2026-01-01T01:10:00Z", "2026-01-01T03:05:00Z"],
  ["@daily", "2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"],
  ["0 0 * * 7", "2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z"],
] as const) {
  test(`cron ${expression} after ${from}`, () => {
    const next = parseCron(expression).next(Date.parse(from));
    assert.is(new Date(next!).toISOString().replace(".000", ""), expected);
  });
}

test("cron expressions that cannot be are refused or never come", () => {
  assert.throws(() => parseCron("61 * * * *"), /minute: expected 0-59, got "61"/);
  assert.throws(() => parseCron("* * *"), /expected 5 fields, got 3/);
  assert.throws(() => parseCron("5-1 * * * *"), /minute/);
  assert.is(parseCron("0 0 30 2 *").next(0), undefined);
});

const node = (name: string, extra: Json = {}): KubeObject => ({
  metadata: { name, labels: { "kubernetes.io/hostname": name } },
  spec: extra,
  status: {
    conditions: [{ type: "Ready", status: extra.down ? "False" : "True" }],
    allocatable: { pods: "2" },
  },
});
const pod = (spec: Json = {}): KubeObject => ({ metadata: { name: "p", namespace: "default" }, spec });

for (const [name, asked, nodes, expected] of [
  [
    "a tainted node",
    pod(),
    [node("a", { taints: [{ key: "k", value: "v", effect: "NoSchedule" }] })],
    { message: "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}." },
  ],
  [
    "a tolerated taint",
    pod({ tolerations: [{ key: "k", operator: "Exists" }] }),
    [node("a", { taints: [{ key: "k", effect: "NoSchedule" }] })],
    { node: "a" },
  ],
  [
    "a cordoned and a broken node",
    pod(),
    [node("a", { unschedulable: true }), node("b", { down: true })],
    { message: "0/2 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable." },
  ],
  ["no node at all", pod(), [], { message: "no nodes available to schedule pods" }],
  ["the emptier node", pod(), [node("a"), node("b")], { node: "b" }],
] as [string, KubeObject, KubeObject[], Json][]) {
  test(`placing on ${name}`, () => {
    assert.equal(place(asked, nodes, [pod({ nodeName: "a" })]), expected);
  });
}

test("the queue works on a key once at a time, and again when it was added meanwhile", async () => {
  const log: string[] = [];
  let release = () => {};
  const queue = new WorkQueue({
    clock: systemClock,
    async work(key) {
      log.push(`+${key}`);
      if (log.length === 1) await new Promise<void>((resolve) => (release = resolve));
      log.push(`-${key}`);
    },
    failed: () => {},
  });
  queue.add("a");
  queue.add("a");
  await Promise.resolve();
  await Promise.resolve();
  queue.add("a");
  queue.add("a");
  release();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(log, ["+a", "-a", "+a", "-a"]);
  await queue.stop();
});

test("failed work comes back with growing delay until it succeeds", async () => {
  const delays: number[] = [];
  // The clock's timers do not keep the process alive.
  const alive = setInterval(() => {}, 1_000);
  await new Promise<void>((resolve) => {
    const queue = new WorkQueue({
      clock: systemClock,
      async work() {
        if (delays.length < 2) throw new Error("not yet");
        resolve();
      },
      failed: (_key, _error, delay) => delays.push(delay),
    });
    queue.add("a");
  });
  clearInterval(alive);
  assert.equal(delays, [50, 100]);
});

test.run();
