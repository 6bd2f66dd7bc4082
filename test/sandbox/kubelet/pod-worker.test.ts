// The life of a pod: order of its containers, restarts, completion, deletion and what survives a crash of the node.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json } from "../../../src/sandbox/cluster.ts";
import { container, FakeNode, fastClock } from "../../support/kubelet-node.ts";
import { until } from "../../support/until.ts";

const test = suite<{ node: FakeNode }>("pod worker");
test.before.each(async (context) => {
  context.node = await FakeNode.start();
});
test.after.each((context) => context.node.close());

const sidecar = (name: string, more: Json = {}) => container(name, { restartPolicy: "Always", ...more });
const condition = (pod: Json, type: string) =>
  pod.status.conditions?.find((each: Json) => each.type === type)?.status;

test("init containers run one by one, sidecars stay, then the main containers start", async ({ node }) => {
  await node.create("p", {
    initContainers: [container("first"), sidecar("side"), container("second")],
    containers: [container("a"), container("b")],
  });
  (await node.running("first")).end(0);
  (await node.running("second")).end(0);
  await node.running("b");
  assert.equal(node.journal, ["sandbox", "start first", "start side", "start second", "start a", "start b"]);
  const pod = await until(() => {
    const found = node.pod("p");
    return found && condition(found, "Ready") === "True" ? found : undefined;
  });
  assert.is(pod["status"].phase, "Running");
  assert.is(pod["status"].podIP, "10.244.0.7");
  assert.is(pod["status"].initContainerStatuses[0].state.terminated.reason, "Completed");
  assert.is(pod["status"].initContainerStatuses[1].started, true);
});

test("a container's postStart hook holds back those after it, until it is over or the container is", async ({
  node,
}) => {
  const hooked = (name: string, seconds: number) =>
    container(name, { lifecycle: { postStart: { sleep: { seconds } } } });
  await node.create("p", { containers: [hooked("first", 2), container("second")] });
  await node.running("first");
  assert.not(node.journal.includes("start second"));
  await node.running("second");
  await node.create("q", { restartPolicy: "Never", containers: [hooked("ends", 3600), container("next")] });
  const ends = await node.running("ends");
  assert.not(node.journal.includes("start next"));
  ends.end(0);
  await node.running("next");
});

test("a failing init container is tried again and holds the others back", async ({ node }) => {
  await node.create("p", { initContainers: [container("init")], containers: [container("a")] });
  (await node.running("init")).end(1);
  (await node.running("init", 2)).end(0);
  await node.running("a");
  const pod = await node.phase("p", "Running");
  assert.is(pod["status"].initContainerStatuses[0].restartCount, 1);
});

test("a failing init container of a pod that never restarts fails the pod", async ({ node }) => {
  await node.create("p", {
    restartPolicy: "Never",
    initContainers: [container("init")],
    containers: [container("a")],
  });
  (await node.running("init")).end(3);
  await node.phase("p", "Failed");
  assert.not(node.journal.includes("start a"));
});

test("the first restart comes at once, the next ones after a back-off that doubles", async () => {
  const node = await FakeNode.start(fastClock(200));
  try {
    await node.create("p", { containers: [container("a")] });
    (await node.running("a")).end(1);
    (await node.running("a", 2)).end(1);
    const waiting = await until(() => {
      const state = node.pod("p")?.["status"].containerStatuses?.[0]?.state?.waiting;
      return state?.reason === "CrashLoopBackOff" ? state : undefined;
    });
    assert.match(waiting.message, /^back-off 10s restarting failed container=a pod=p_default\(/);
    (await node.running("a", 3)).end(1);
    await until(() =>
      /back-off 20s/.test(node.pod("p")?.["status"].containerStatuses[0].state.waiting?.message ?? ""),
    );
    assert.is(node.pod("p")?.["status"].containerStatuses[0].restartCount, 2);
    assert.is(node.pod("p")?.["status"].containerStatuses[0].lastState.terminated.exitCode, 1);
  } finally {
    await node.close();
  }
});

test("a pod of a job completes although its sidecar would run on", async ({ node }) => {
  await node.create("p", {
    restartPolicy: "Never",
    initContainers: [sidecar("one"), sidecar("two")],
    containers: [container("work")],
  });
  (await node.running("work")).end(0);
  const pod = await node.phase("p", "Succeeded");
  assert.equal(node.journal.slice(-3), ["TERM two", "TERM one", "sandbox removed"]);
  assert.is(condition(pod, "Ready"), "False");
  assert.is(pod["status"].containerStatuses[0].state.terminated.exitCode, 0);
});

test("a container that failed decides the phase of a pod that never restarts", async ({ node }) => {
  await node.create("p", { restartPolicy: "Never", containers: [container("a"), container("b")] });
  (await node.running("a")).end(0);
  (await node.running("b")).end(2);
  await node.phase("p", "Failed");
});

test("OnFailure restarts what failed and leaves what succeeded", async ({ node }) => {
  await node.create("p", { restartPolicy: "OnFailure", containers: [container("a"), container("b")] });
  (await node.running("a")).end(0);
  (await node.running("b")).end(1);
  (await node.running("b", 2)).end(0);
  await node.phase("p", "Succeeded");
  assert.is(node.instances.filter((each) => each.container === "a").length, 1);
});

test("deletion ends main containers first, then sidecars from last to first, then the object", async ({
  node,
}) => {
  await node.create("p", {
    initContainers: [sidecar("one"), sidecar("two")],
    containers: [container("a")],
  });
  await node.running("a");
  await node.cluster.delete({ group: "", resource: "pods", namespace: "default", name: "p" });
  await until(() => node.pod("p") === undefined);
  assert.equal(node.journal.slice(-4), ["TERM a", "TERM two", "TERM one", "sandbox removed"]);
  await until(() => node.workers.size === 0);
});

test("what does not heed SIGTERM is killed when the grace period is over", async () => {
  const node = await FakeNode.start(fastClock(100));
  try {
    node.onTerm = () => undefined;
    await node.create("p", { containers: [container("a")] });
    const instance = await node.running("a");
    await node.cluster.delete({ group: "", resource: "pods", namespace: "default", name: "p" });
    await until(() => node.pod("p") === undefined);
    assert.equal(instance.signals, ["SIGTERM", "SIGKILL"]);
  } finally {
    await node.close();
  }
});

test("a forced deletion kills at once", async ({ node }) => {
  node.onTerm = () => undefined;
  await node.create("p", { containers: [container("a")] });
  const instance = await node.running("a");
  await node.cluster.delete(
    { group: "", resource: "pods", namespace: "default", name: "p" },
    { gracePeriodSeconds: 0 },
  );
  await until(() => node.workers.size === 0);
  assert.equal(instance.signals, ["SIGKILL"]);
});

test("a sandbox that cannot be made is tried again, with an event that says why", async () => {
  const node = await FakeNode.start(fastClock(50));
  try {
    node.failSandbox = 2;
    await node.create("p", { containers: [container("a")] });
    await node.running("a");
    const events = node.cluster.list("", "events", "default");
    const event = events.find((each) => each["reason"] === "FailedCreatePodSandBox");
    assert.is(event?.["message"], "no network today");
  } finally {
    await node.close();
  }
});

test("a missing ConfigMap is waited for and used as soon as it is there", async ({ node }) => {
  const env = [{ name: "A", valueFrom: { configMapKeyRef: { name: "late", key: "a" } } }];
  await node.create("p", { containers: [container("a", { env })] });
  await until(
    () =>
      node.pod("p")?.["status"].containerStatuses?.[0].state.waiting?.reason === "CreateContainerConfigError",
  );
  await node.cluster.create("", "configmaps", "default", { metadata: { name: "late" }, data: { a: "1" } });
  for (const worker of node.workers.values()) worker.sourceChanged("configmaps", "late");
  await node.running("a");
});

test("after a crash of the node, containers start again and say so", async ({ node }) => {
  await node.create("always", { initContainers: [sidecar("side")], containers: [container("a")] });
  await node.create("never", { restartPolicy: "Never", containers: [container("b")] });
  await node.create("done", { restartPolicy: "Never", containers: [container("c")] });
  await node.running("a");
  await node.running("b");
  (await node.running("c")).end(0);
  await node.phase("always", "Running");
  await node.phase("never", "Running");
  await node.phase("done", "Succeeded");

  node.crash();
  node.takeUp();
  await node.running("a");
  const always = await until(() => {
    const pod = node.pod("always");
    return pod?.["status"].containerStatuses[0].restartCount === 1 && condition(pod, "Ready") === "True"
      ? pod
      : undefined;
  });
  assert.is(always["status"].containerStatuses[0].lastState.terminated.reason, "Unknown");
  assert.is(always["status"].initContainerStatuses[0].restartCount, 1);
  const never = await node.phase("never", "Failed");
  assert.is(never["status"].containerStatuses[0].state.terminated.reason, "ContainerStatusUnknown");
  await node.phase("done", "Succeeded");
  assert.equal([...new Set(node.instances.map((each) => each.container))].sort(), ["a", "side"]);
});

test.run();
