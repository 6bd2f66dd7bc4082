// The traffic store: counters, windows, quantiles, its bound on memory.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BOUNDS, sumSlots, TrafficStore } from "../../../src/controller/metrics-api/store.ts";
import { exposition, type Traffic } from "../../support/exposition.ts";

const test = suite("traffic store");
const inbound = { direction: "inbound", tls: "true" };

function total(store: TrafficStore<string>, id: string, window: number, now: number): number {
  const target = store.targets.get(id)!;
  const { slots } = store.slots(target, window, now);
  let sum = 0;
  for (const series of target.series.values())
    if (series.family === "response_total") sum += sumSlots(series, slots);
  return sum;
}

test("counts increases within the window, the first scrape being the base line", () => {
  const store = new TrafficStore<string>();
  for (let i = 0; i <= 20; i += 1) {
    store.ingest("a", "a", exposition([{ labels: inbound, success: 1_000 + i * 30 }]), i * 3_000);
  }
  assert.is(total(store, "a", 60_000, 60_000), 600);
  assert.is(total(store, "a", 15_000, 60_000), 150);
  assert.is(total(store, "a", 3_600_000, 60_000), 600);
});

test("a counter that starts anew is counted from zero, never as a fall", () => {
  const store = new TrafficStore<string>();
  for (const [i, count] of [100, 110, 4, 9].entries()) {
    store.ingest("a", "a", exposition([{ labels: inbound, success: count }]), i * 3_000);
  }
  assert.is(total(store, "a", 60_000, 9_000), 10 + 4 + 5);
});

test("a series that appears counts from zero; one that expires and comes back does too", () => {
  const store = new TrafficStore<string>();
  const other = { ...inbound, client_id: "x" };
  store.ingest("a", "a", exposition([{ labels: inbound, success: 5 }]), 0);
  store.ingest(
    "a",
    "a",
    exposition([
      { labels: inbound, success: 5 },
      { labels: other, success: 7 },
    ]),
    3_000,
  );
  store.ingest("a", "a", exposition([{ labels: inbound, success: 6 }]), 6_000);
  store.ingest(
    "a",
    "a",
    exposition([
      { labels: inbound, success: 6 },
      { labels: other, success: 2 },
    ]),
    9_000,
  );
  assert.is(total(store, "a", 60_000, 9_000), 7 + 1 + 2);
});

test("increases add up whatever the counter does, for any window that holds them all", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 1_000 }), { minLength: 2, maxLength: 50 }), (values) => {
      const store = new TrafficStore<string>();
      let expected = 0;
      for (const [i, value] of values.entries()) {
        store.ingest("a", "a", exposition([{ labels: inbound, success: value }]), i * 3_000);
        if (i > 0) expected += value >= values[i - 1]! ? value - values[i - 1]! : value;
      }
      assert.is(total(store, "a", 1_000_000, values.length * 3_000), expected);
    }),
    { numRuns: 50 },
  );
});

test("the ring turns: only the retention is remembered", () => {
  const store = new TrafficStore<string>({ retention: 30_000, interval: 3_000 });
  for (let i = 0; i <= 100; i += 1) {
    store.ingest("a", "a", exposition([{ labels: inbound, success: i * 10 }]), i * 3_000);
  }
  const sum = total(store, "a", 1_000_000, 300_000);
  assert.ok(sum >= 100 && sum <= 120, String(sum));
});

test("memory stays within the budget under a flood of series, and answers say what is missing", () => {
  const budgetBytes = 2 << 20;
  const store = new TrafficStore<string>({ budgetBytes });
  for (let pod = 0; pod < 50; pod += 1) {
    const traffic: Traffic[] = Array.from({ length: 40 }, (_, i) => ({
      labels: { direction: "outbound", dst_namespace: "n", dst_pod: `p${pod}-${i}` },
      success: 1,
      latency: { 1: 1, 10: 2 },
    }));
    store.ingest(`pod-${pod}`, "x", exposition(traffic), 1_000);
  }
  assert.ok(store.bytes <= budgetBytes);
  assert.ok(store.refused > 0);
  assert.is(store.incomplete(2_000), true);
  assert.is(store.incomplete(1_000_000), false);
});

test("the estimate of its memory is near what the process uses", () => {
  const before = process.memoryUsage();
  const store = new TrafficStore<string>();
  const latency = Object.fromEntries(BOUNDS.map((bound) => [bound, 1]));
  for (let pod = 0; pod < 200; pod += 1) {
    const traffic: Traffic[] = Array.from({ length: 5 }, (_, i) => ({
      labels: { direction: "outbound", dst_namespace: "n", dst_deployment: `d${i}` },
      success: 1,
      latency,
    }));
    for (const now of [0, 3_000]) store.ingest(`pod-${pod}`, "x", exposition(traffic), now);
  }
  const after = process.memoryUsage();
  const used = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
  assert.ok(store.bytes > 10 << 20, `${store.bytes}`);
  assert.ok(store.bytes > used / 2, `estimated ${store.bytes}, used ${used}`);
});

test("pods that are gone are swept after the retention, with their memory", () => {
  const store = new TrafficStore<string>();
  store.ingest("a", "a", exposition([{ labels: inbound, success: 1 }]), 0);
  store.markGone("a");
  store.sweep(200_000);
  assert.is(store.targets.size, 1);
  store.sweep(400_000);
  assert.is(store.targets.size, 0);
  assert.is(store.bytes, 0);
});

test("pods that come and go, and whom others talk to, take no more memory than the retention needs", () => {
  const store = new TrafficStore<string>({ retention: 30_000, interval: 3_000 });
  const peaks = [0, 0, 0, 0];
  for (let round = 0; round < 400; round += 1) {
    const now = round * 3_000;
    // Two rounds each; its peers' series are exposed for a while after they have gone.
    const pod = Math.floor(round / 2);
    store.ingest(
      `pod-${pod}`,
      "x",
      exposition([{ labels: inbound, success: round, latency: { 1: round } }]),
      now,
    );
    const peers: Traffic[] = Array.from({ length: 6 }, (_, i) => ({
      labels: { direction: "outbound", dst_namespace: "n", dst_pod: `pod-${pod - i}` },
      success: i === 0 ? round : 2 * (pod - i) + 1,
      latency: { 1: 1 },
    }));
    store.ingest("client", "x", exposition(peers), now);
    store.markGone(`pod-${pod - 1}`);
    store.sweep(now);
    const quarter = Math.floor(round / 100);
    peaks[quarter] = Math.max(peaks[quarter]!, store.bytes);
  }
  assert.is(store.targets.size, 7);
  for (const peak of peaks.slice(1)) assert.ok(peak <= peaks[0]! * 1.05, peaks.join());
});

test("text that is no exposition is refused", () => {
  const store = new TrafficStore<string>();
  assert.throws(() => store.ingest("a", "a", "response_total{ nonsense\n", 0), /not a metric|expected/);
});

test.run();
