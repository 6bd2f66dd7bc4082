// What traffic a question of `stat` is answered with.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatAnswer, StatQuery } from "../../../src/api/stat.ts";
import type { PodRecord } from "../../../src/controller/metrics-api/pod.ts";
import { edges, stat } from "../../../src/controller/metrics-api/stat.ts";
import { TrafficStore } from "../../../src/controller/metrics-api/store.ts";
import { exposition, podOf, type Traffic } from "../../support/exposition.ts";

const test = suite("stat");
const web = podOf("web");
const voting = podOf("voting");
const old = podOf("old", { meshed: false, labels: { app: "old" } });
const done = podOf("job", { phase: "Succeeded", owners: { job: "job" } });
const pods = [web, voting, old, done];

const toVoting = {
  direction: "outbound",
  tls: "true",
  authority: "voting.demo.svc.cluster.local:8080",
  dst_namespace: "demo",
  dst_deployment: "voting",
  dst_pod: voting.name,
};

/** 30 s of traffic: web gets 10 requests a second and passes 5 on to voting, where a fifth fails. */
function context() {
  const store = new TrafficStore<PodRecord>();
  const feed = (pod: PodRecord, at: (second: number) => Traffic[]) => {
    for (let second = 0; second <= 30; second += 3) {
      store.ingest(`${pod.namespace}/${pod.name}`, pod, exposition(at(second)), second * 1_000);
    }
  };
  feed(web, (s) => [
    {
      labels: { direction: "inbound", tls: "no_identity" },
      success: 10 * s,
      latency: { 10: 5 * s, 20: 5 * s },
      open: 3,
      read: 1_000 * s,
      written: 2_000 * s,
    },
    {
      labels: toVoting,
      success: 4 * s,
      failure: s,
      latency: { 5: 5 * s },
      open: 2,
      read: 10 * s,
      written: 20 * s,
    },
  ]);
  feed(voting, (s) => [
    {
      labels: { direction: "inbound", tls: "true" },
      success: 4 * s,
      failure: s,
      latency: { 4: 5 * s },
      open: 2,
    },
  ]);
  return { store, pods: () => pods, now: 30_000 };
}

const ask = (query: Partial<StatQuery> & Pick<StatQuery, "resource">): StatAnswer =>
  stat(context(), { window: 60_000, ...query });
const row = (answer: StatAnswer, name: string) => answer.rows.find((r) => r.name === name);
const rounded = (value: number | null | undefined) => (value == null ? value : Math.round(value * 100) / 100);

test("a workload shows what its own proxies saw inbound", () => {
  const answer = ask({ resource: { kind: "deployment", namespace: "demo" } });
  assert.equal(
    answer.rows.map((r) => r.name),
    ["old", "voting", "web"],
  );
  const first = row(answer, "web")!;
  assert.equal(first.pods, { meshed: 1, total: 1 });
  assert.is(rounded(first.requests?.rps), 10);
  assert.is(first.requests?.successRate, 1);
  assert.is(first.requests?.secured, 0);
  assert.is(rounded(first.requests?.p50), 10);
  assert.is(rounded(first.requests?.p99), 19.8);
  assert.equal(first.tcp, { openConnections: 3, secured: 0, readRate: 1_000, writeRate: 2_000 });
  assert.is(rounded(row(answer, "voting")?.requests?.successRate), 0.8);
  assert.is(row(answer, "voting")?.requests?.secured, 1);
});

test("an unmeshed workload has its pods counted and no traffic; pods that ended are left out", () => {
  const answer = ask({ resource: { kind: "deployment" } });
  assert.equal(row(answer, "old")?.pods, { meshed: 0, total: 1 });
  assert.is(row(answer, "old")?.requests, null);
  assert.equal(ask({ resource: { kind: "job" } }).rows, []);
});

test("a young store answers with the window it has", () => {
  assert.is(ask({ resource: { kind: "deployment" } }).window, 30_000);
  assert.is(ask({ resource: { kind: "deployment" }, window: 15_000 }).window, 15_000);
});

test("--to and services are measured by the senders", () => {
  const to = ask({
    resource: { kind: "deployment" },
    to: { kind: "deployment", name: "voting", namespace: "demo" },
  });
  assert.is(rounded(row(to, "web")?.requests?.rps), 5);
  assert.is(row(to, "voting")?.requests, null);
  const service = ask({ resource: { kind: "service", namespace: "demo" } });
  assert.equal(
    service.rows.map((r) => [r.name, r.pods, rounded(r.requests?.successRate)]),
    [["voting", null, 0.8]],
  );
  const toService = ask({
    resource: { kind: "deployment", name: "web" },
    to: { kind: "service", name: "voting" },
  });
  assert.is(rounded(row(toService, "web")?.requests?.rps), 5);
});

test("--from groups what the sender's proxies saw by its destination", () => {
  const answer = ask({ resource: { kind: "deployment" }, from: { kind: "deployment", name: "web" } });
  assert.equal(
    answer.rows.map((r) => [r.name, r.pods?.meshed, rounded(r.requests?.rps), r.tcp?.openConnections]),
    [["voting", 1, 5, 2]],
  );
});

test("a selector and a namespace narrow the rows", () => {
  assert.equal(
    ask({ resource: { kind: "pod" }, selector: "app in (web)" }).rows.map((r) => [r.name, r.status]),
    [[web.name, "Running"]],
  );
  assert.equal(ask({ resource: { kind: "deployment", namespace: "other" } }).rows, []);
  assert.throws(() => ask({ resource: { kind: "pod" }, selector: "app=(" }), /label selector/);
});

test("a namespace sums all of its pods", () => {
  const answer = ask({ resource: { kind: "namespace" } });
  assert.equal(
    answer.rows.map((r) => [r.name, r.pods, rounded(r.requests?.rps)]),
    [["demo", { meshed: 2, total: 3 }, 15]],
  );
});

test("edges say who talks to whom", () => {
  const answer = edges(context(), { resource: { kind: "deployment", namespace: "demo" }, window: 60_000 });
  assert.equal(
    answer.rows.map((r) => [r.from.name, r.to.name, rounded(r.requests?.rps), r.requests?.secured]),
    [["web", "voting", 5, 1]],
  );
});

test("open connections of a pod that is gone do not count, its recent requests do", () => {
  const ctx = context();
  ctx.store.markGone(`demo/${web.name}`);
  const answer = stat(ctx, { resource: { kind: "deployment", name: "web" }, window: 60_000 });
  assert.is(answer.rows[0]?.tcp?.openConnections, 0);
  assert.is(rounded(answer.rows[0]?.requests?.rps), 10);
});

test.run();
