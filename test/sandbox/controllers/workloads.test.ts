// Deployments, StatefulSets, DaemonSets, Jobs and CronJobs on a cluster whose pods are made up.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json, KubeObject } from "../../../src/sandbox/cluster.ts";
import { eventually, startTestCluster, type TestCluster } from "../../support/sandbox-cluster.ts";

const test = suite<{ t: TestCluster }>("workload controllers");
test.before.each(async (context) => {
  context.t = await startTestCluster(2);
});
test.after.each(async (context) => context.t.close());

const podTemplate = (app: string, version = "1"): Json => ({
  metadata: { labels: { app } },
  spec: { containers: [{ name: "c", image: `app:${version}`, command: ["true"] }] },
});
const workload = (kind: string, name: string, spec: Json = {}): Json => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name },
  spec: { replicas: 3, selector: { matchLabels: { app: name } }, template: podTemplate(name), ...spec },
});
const deployment = (name: string, spec: Json = {}) => workload("Deployment", name, spec);
const ref = (resource: string, name: string, group = "apps") => ({
  group,
  resource,
  namespace: "default",
  name,
});
const sets = (t: TestCluster) => t.cluster.list("apps", "replicasets", "default");
const condition = (object: KubeObject | undefined, type: string): Json =>
  (object?.["status"]?.conditions ?? []).find((each: Json) => each.type === type);

/** What `kubectl rollout status deployment` waits for. */
function rolledOut(t: TestCluster, name: string): boolean {
  const d = t.cluster.get(ref("deployments", name));
  const status = d?.["status"] ?? {};
  return (
    status.observedGeneration === d?.metadata.generation &&
    (status.updatedReplicas ?? 0) === d?.["spec"].replicas &&
    (status.replicas ?? 0) === (status.updatedReplicas ?? 0) &&
    (status.availableReplicas ?? 0) === (status.updatedReplicas ?? 0)
  );
}

test("a Deployment makes a ReplicaSet, pods, conditions and events", async ({ t }) => {
  await t.create("apps", "deployments", deployment("web"));
  await eventually(
    () =>
      rolledOut(t, "web") &&
      condition(t.cluster.get(ref("deployments", "web")), "Progressing")?.reason === "NewReplicaSetAvailable",
  );
  const [set] = sets(t);
  assert.match(set!.metadata.name, /^web-[a-z0-9]{10}$/);
  assert.is(set!.metadata.annotations?.["deployment.kubernetes.io/revision"], "1");
  const pods = t.pods({ app: "web" });
  assert.is(pods.length, 3);
  for (const pod of pods) {
    assert.is(pod.metadata.labels?.["pod-template-hash"], set!.metadata.labels?.["pod-template-hash"]);
    assert.ok(pod.metadata.name.startsWith(`${set!.metadata.name}-`));
  }
  assert.is(new Set(pods.map((pod) => pod["spec"].nodeName)).size, 2, "spread over both nodes");
  assert.is(condition(t.cluster.get(ref("deployments", "web")), "Available").status, "True");
  assert.ok(
    t.events("web").includes(`ScalingReplicaSet: Scaled up replica set ${set!.metadata.name} from 0 to 3`),
  );
  assert.is(t.events(set!.metadata.name).filter((event) => event.startsWith("SuccessfulCreate")).length, 3);
  assert.ok(
    t
      .events(pods[0]!.metadata.name)
      .some((event) => event.startsWith("Scheduled: Successfully assigned default/")),
  );
});

test("a rolling update never has fewer available or more pods than allowed", async ({ t }) => {
  const strategy = { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
  await t.create("apps", "deployments", deployment("web", { replicas: 4, strategy }));
  await eventually(() => rolledOut(t, "web"));
  let fewest = Number.POSITIVE_INFINITY;
  let most = 0;
  const unwatch = t.cluster.watch("", "pods", () => {
    const alive = t.pods({ app: "web" }).filter((pod) => !pod.metadata.deletionTimestamp);
    fewest = Math.min(fewest, alive.filter((pod) => condition(pod, "Ready")?.status === "True").length);
    most = Math.max(most, alive.length);
  });
  await t.cluster.modify(ref("deployments", "web"), (d) => {
    d["spec"].template.spec.containers[0].image = "app:2";
    return d;
  });
  await eventually(() => rolledOut(t, "web") && sets(t).length === 2);
  unwatch();
  assert.ok(fewest >= 4, `fewest available: ${fewest}`);
  assert.ok(most <= 5, `most pods: ${most}`);
  assert.ok(t.pods({ app: "web" }).every((pod) => pod["spec"].containers[0].image === "app:2"));
  assert.is(
    t.cluster.get(ref("deployments", "web"))!.metadata.annotations?.["deployment.kubernetes.io/revision"],
    "2",
  );

  // kubectl rollout undo writes the old template back: the old ReplicaSet becomes revision 3.
  await t.cluster.modify(ref("deployments", "web"), (d) => {
    d["spec"].template.spec.containers[0].image = "app:1";
    return d;
  });
  await eventually(() => rolledOut(t, "web"));
  assert.is(sets(t).length, 2);
  const revisions = sets(t).map((set) => set.metadata.annotations?.["deployment.kubernetes.io/revision"]);
  assert.equal(revisions.sort(), ["2", "3"]);
});

test("a rollout whose pods never become ready keeps the old ones and says so", async ({ t }) => {
  await t.create("apps", "deployments", deployment("web", { replicas: 4, progressDeadlineSeconds: 1 }));
  await eventually(() => rolledOut(t, "web"));
  t.fate = () => "unready";
  await t.cluster.modify(ref("deployments", "web"), (d) => {
    d["spec"].template.spec.containers[0].image = "bad";
    return d;
  });
  await eventually(
    () =>
      condition(t.cluster.get(ref("deployments", "web")), "Progressing")?.reason ===
      "ProgressDeadlineExceeded",
  );
  const ready = t.pods({ app: "web" }).filter((pod) => condition(pod, "Ready")?.status === "True");
  assert.is(ready.length, 3, "25% of 4 may be missing");
  assert.is(condition(t.cluster.get(ref("deployments", "web")), "Available").status, "True");
});

test("Recreate ends every old pod before the first new one starts", async ({ t }) => {
  await t.create("apps", "deployments", deployment("web", { strategy: { type: "Recreate" } }));
  await eventually(() => rolledOut(t, "web"));
  const [first] = t.pods({ app: "web" });
  t.stuck.add(first!.metadata.name);
  await t.cluster.modify(ref("deployments", "web"), (d) => {
    d["spec"].template.spec.containers[0].image = "app:2";
    return d;
  });
  await eventually(() => t.pods({ app: "web" }).length === 1);
  assert.is(sets(t).length, 1, "no new ReplicaSet yet");
  t.stuck.clear();
  t.cluster.finalizeDelete(ref("pods", first!.metadata.name, ""));
  await eventually(() => rolledOut(t, "web") && sets(t).length === 2);
});

test("scaling to zero and back, and pausing", async ({ t }) => {
  await t.create("apps", "deployments", deployment("web"));
  await eventually(() => rolledOut(t, "web"));
  const scale = (replicas: number) =>
    t.cluster.modify(ref("deployments", "web"), (d) => ({ ...d, spec: { ...d["spec"], replicas } }));
  await scale(0);
  await eventually(() => t.pods({ app: "web" }).length === 0 && rolledOut(t, "web"));
  await scale(2);
  await eventually(() => t.pods({ app: "web" }).length === 2 && rolledOut(t, "web"));
  await t.cluster.modify(ref("deployments", "web"), (d) => {
    d["spec"].paused = true;
    d["spec"].template.spec.containers[0].image = "app:2";
    return d;
  });
  await scale(4);
  await eventually(() => t.pods({ app: "web" }).length === 4);
  assert.is(sets(t).length, 1, "a paused Deployment starts no rollout");
  assert.is(condition(t.cluster.get(ref("deployments", "web")), "Progressing").reason, "DeploymentPaused");
});

test("old ReplicaSets beyond the history limit are removed", async ({ t }) => {
  await t.create("apps", "deployments", deployment("web", { replicas: 1, revisionHistoryLimit: 1 }));
  for (const version of ["2", "3", "4"]) {
    await eventually(() => rolledOut(t, "web"));
    await t.cluster.modify(ref("deployments", "web"), (d) => {
      d["spec"].template.spec.containers[0].image = `app:${version}`;
      return d;
    });
  }
  await eventually(() => rolledOut(t, "web") && sets(t).length === 2);
});

test("a ReplicaSet adopts matching orphans, replaces lost pods and removes the not ready first", async ({
  t,
}) => {
  t.fate = (pod) => (pod.metadata.name === "orphan" ? "unready" : "ready");
  await t.create("", "pods", {
    metadata: { name: "orphan", labels: { app: "solo" } },
    spec: podTemplate("solo").spec,
  });
  await t.create("apps", "replicasets", workload("ReplicaSet", "solo"));
  await eventually(() => t.cluster.get(ref("replicasets", "solo"))?.["status"]?.readyReplicas === 2);
  assert.is(t.pods({ app: "solo" }).length, 3);
  const [victim] = t.pods({ app: "solo" }).filter((pod) => pod.metadata.name !== "orphan");
  await t.cluster.delete(ref("pods", victim!.metadata.name, ""));
  await eventually(() => {
    const pods = t.pods({ app: "solo" });
    return pods.length === 3 && !pods.some((pod) => pod.metadata.uid === victim!.metadata.uid);
  });
  await t.cluster.modify(ref("replicasets", "solo"), (set) => ({
    ...set,
    spec: { ...set["spec"], replicas: 2 },
  }));
  await eventually(() => t.pods({ app: "solo" }).length === 2);
  assert.not.ok(t.pods({ app: "solo" }).some((pod) => pod.metadata.name === "orphan"));
});

test("a Job runs to completion and expires", async ({ t }) => {
  t.fate = () => "succeed";
  await t.create("batch", "jobs", {
    metadata: { name: "batch" },
    spec: {
      completions: 3,
      parallelism: 2,
      ttlSecondsAfterFinished: 1,
      template: { spec: { ...podTemplate("batch").spec, restartPolicy: "Never" } },
    },
  });
  await eventually(
    () => condition(t.cluster.get(ref("jobs", "batch", "batch")), "Complete")?.status === "True",
  );
  assert.is(t.cluster.get(ref("jobs", "batch", "batch"))!["status"].succeeded, 3);
  assert.ok(t.events("batch").includes("Completed: Job completed"));
  await eventually(() => !t.cluster.get(ref("jobs", "batch", "batch")) && t.pods().length === 0);
});

test("a Job gives up at its backoff limit", async ({ t }) => {
  t.fate = () => "fail";
  await t.create("batch", "jobs", {
    metadata: { name: "doomed" },
    spec: { backoffLimit: 0, template: { spec: { ...podTemplate("doomed").spec, restartPolicy: "Never" } } },
  });
  await eventually(
    () =>
      condition(t.cluster.get(ref("jobs", "doomed", "batch")), "Failed")?.reason === "BackoffLimitExceeded",
  );
  assert.is(t.cluster.get(ref("jobs", "doomed", "batch"))!["status"].failed, 1);
});

test("an indexed Job gives each pod its index", async ({ t }) => {
  t.fate = () => "succeed";
  await t.create("batch", "jobs", {
    metadata: { name: "indexed" },
    spec: {
      completions: 3,
      parallelism: 3,
      completionMode: "Indexed",
      template: { spec: { ...podTemplate("indexed").spec, restartPolicy: "Never" } },
    },
  });
  await eventually(
    () => t.cluster.get(ref("jobs", "indexed", "batch"))?.["status"]?.completedIndexes === "0-2",
  );
});

test("a StatefulSet makes named pods one after another and removes the last first", async ({ t }) => {
  t.fate = (pod) => (pod.metadata.name === "db-1" ? "held" : "ready");
  await t.create("apps", "statefulsets", workload("StatefulSet", "db", { serviceName: "db" }));
  await eventually(() => t.pods().length === 2);
  assert.equal(
    t
      .pods()
      .map((pod) => pod.metadata.name)
      .sort(),
    ["db-0", "db-1"],
  );
  const second = t.cluster.get(ref("pods", "db-1", ""))!;
  assert.is(second["spec"].hostname, "db-1");
  assert.is(second["spec"].subdomain, "db");
  await t.settle(second, "ready");
  await eventually(() => t.cluster.get(ref("statefulsets", "db"))?.["status"]?.readyReplicas === 3);
  t.fate = () => "ready";

  await t.cluster.modify(ref("statefulsets", "db"), (set) => {
    set["spec"].template.spec.containers[0].image = "app:2";
    return set;
  });
  await eventually(() => {
    const set = t.cluster.get(ref("statefulsets", "db"))!;
    const status = set["status"];
    if (status.observedGeneration !== set.metadata.generation) return false;
    return status.currentRevision === status.updateRevision && status.updatedReplicas === 3;
  });
  assert.ok(t.pods().every((pod) => pod["spec"].containers[0].image === "app:2"));
  assert.is(t.cluster.list("apps", "controllerrevisions", "default").length, 2);
  await t.cluster.modify(ref("statefulsets", "db"), (set) => ({
    ...set,
    spec: { ...set["spec"], replicas: 1 },
  }));
  await eventually(() => t.pods().length === 1);
  assert.is(t.pods()[0]!.metadata.name, "db-0");
});

test("a DaemonSet runs on every node and follows its template", async ({ t }) => {
  await t.create("apps", "daemonsets", workload("DaemonSet", "agent", { replicas: undefined }));
  await eventually(() => t.cluster.get(ref("daemonsets", "agent"))?.["status"]?.numberAvailable === 2);
  assert.equal(
    t
      .pods()
      .map((pod) => pod["spec"].nodeName)
      .sort(),
    ["mesh-0", "mesh-1"],
  );
  await t.cluster.modify(ref("daemonsets", "agent"), (set) => {
    set["spec"].template.spec.containers[0].image = "app:2";
    return set;
  });
  await eventually(() => {
    const set = t.cluster.get(ref("daemonsets", "agent"))!;
    const status = set["status"];
    if (status.observedGeneration !== set.metadata.generation) return false;
    return status.updatedNumberScheduled === 2 && status.numberAvailable === 2;
  });
  assert.ok(t.pods().every((pod) => pod["spec"].containers[0].image === "app:2"));
});

test("a pod that fits no node stays pending with the reason, until one fits", async ({ t }) => {
  const spec = { ...podTemplate("x").spec, nodeSelector: { disk: "ssd" } };
  await t.create("", "pods", { metadata: { name: "picky" }, spec });
  await eventually(
    () => condition(t.cluster.get(ref("pods", "picky", "")), "PodScheduled")?.reason === "Unschedulable",
  );
  assert.ok(
    t
      .events("picky")
      .includes(
        "FailedScheduling: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
      ),
  );
  await t.cluster.modify({ group: "", resource: "nodes", name: "mesh-1" }, (node) => {
    node.metadata.labels = { ...node.metadata.labels, disk: "ssd" };
    return node;
  });
  await eventually(() => t.cluster.get(ref("pods", "picky", ""))?.["spec"].nodeName === "mesh-1");
});

test("anti-affinity on the hostname keeps replicas apart", async ({ t }) => {
  const template = podTemplate("apart");
  template.spec.affinity = {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { labelSelector: { matchLabels: { app: "apart" } }, topologyKey: "kubernetes.io/hostname" },
      ],
    },
  };
  await t.create("apps", "deployments", deployment("apart", { template }));
  await eventually(() => t.pods().filter((pod) => pod["spec"].nodeName).length === 2);
  const [left] = t.pods().filter((pod) => !pod["spec"].nodeName);
  await eventually(() =>
    t.events(left!.metadata.name).some((event) => event.includes("didn't match pod anti-affinity rules")),
  );
});

test.run();
