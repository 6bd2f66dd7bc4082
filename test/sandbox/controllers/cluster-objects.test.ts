// EndpointSlices, namespaces, ownership and nodes, against the real cluster in memory.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json, KubeObject } from "../../../src/sandbox/cluster.ts";
import { eventually, startTestCluster, type TestCluster } from "../../support/sandbox-cluster.ts";

const test = suite<{ t: TestCluster }>("cluster objects");
test.before.each(async (context) => {
  context.t = await startTestCluster(2);
});
test.after.each(async (context) => context.t.close());

const pod = (name: string, extra: Json = {}): Json => ({
  metadata: { name, labels: { app: "web" } },
  spec: {
    containers: [{ name: "c", image: "x", ports: [{ name: "http", containerPort: extra.port ?? 8080 }] }],
    ...extra.spec,
  },
});
const service = (spec: Json = {}): Json => ({
  metadata: { name: "web", labels: { team: "shop" } },
  spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: "http" }], ...spec },
});
const slices = (t: TestCluster, name = "web") =>
  t.cluster
    .list("discovery.k8s.io", "endpointslices", "default")
    .filter((slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === name);
const endpoints = (t: TestCluster): Json[] => slices(t).flatMap((slice) => slice["endpoints"] ?? []);
const podRef = (name: string) => ({ group: "", resource: "pods", namespace: "default", name });
const endpointOf = (t: TestCluster, name: string) =>
  endpoints(t).find((each) => each.targetRef.name === name);

test("a service's slices follow its pods: ready, not ready, terminating, gone", async ({ t }) => {
  t.fate = (made) => (made.metadata.name === "b" ? "unready" : "ready");
  await t.create("", "services", service());
  await eventually(() => slices(t).length === 1);
  assert.equal(endpoints(t), [], "known and empty");
  await t.create("", "pods", pod("a"));
  await t.create("", "pods", pod("b"));
  await eventually(() => endpoints(t).length === 2 && endpointOf(t, "a").conditions.ready);
  const [slice] = slices(t);
  assert.match(slice!.metadata.name, /^web-[a-z0-9]{5}$/);
  assert.is(slice!["addressType"], "IPv4");
  assert.equal(slice!["ports"], [{ name: "http", protocol: "TCP", port: 8080 }]);
  assert.is(slice!.metadata.labels?.["team"], "shop");
  const a = endpointOf(t, "a");
  assert.equal(a.conditions, { ready: true, serving: true, terminating: false });
  assert.is(a.targetRef.uid, t.cluster.get(podRef("a"))!.metadata.uid);
  assert.ok(["mesh-0", "mesh-1"].includes(a.nodeName));
  assert.match(a.zone, /^zone-/);
  assert.equal(endpointOf(t, "b").conditions, { ready: false, serving: false, terminating: false });
  const legacy = () =>
    t.cluster.get({ group: "", resource: "endpoints", namespace: "default", name: "web" })?.["subsets"][0];
  await eventually(() => legacy()?.notReadyAddresses?.length === 1);
  assert.is(legacy().addresses.length, 1);

  t.stuck.add("a");
  await t.cluster.delete(podRef("a"));
  await eventually(() => endpointOf(t, "a").conditions.terminating);
  assert.equal(endpointOf(t, "a").conditions, { ready: false, serving: true, terminating: true });
  t.cluster.finalizeDelete(podRef("a"));
  await eventually(() => endpoints(t).length === 1);
});

test("pods that name different ports get slices of their own", async ({ t }) => {
  await t.create("", "services", service());
  await t.create("", "pods", pod("a", { port: 8080 }));
  await t.create("", "pods", pod("b", { port: 9090 }));
  await eventually(() => slices(t).length === 2);
  assert.equal(
    slices(t)
      .map((slice) => slice["ports"][0].port)
      .sort(),
    [8080, 9090],
  );
});

test("not ready addresses are published where the service asks for it", async ({ t }) => {
  t.fate = () => "unready";
  await t.create("", "services", service({ clusterIP: "None", publishNotReadyAddresses: true }));
  await t.create("", "pods", pod("a", { spec: { hostname: "first", subdomain: "web" } }));
  await eventually(() => endpoints(t).length === 1);
  assert.equal(endpointOf(t, "a").conditions, { ready: true, serving: false, terminating: false });
  assert.is(endpointOf(t, "a").hostname, "first");
  assert.is(slices(t)[0]!.metadata.labels?.["service.kubernetes.io/headless"], "");
});

test("slices of a service without selector are left alone; those of a deleted service go", async ({ t }) => {
  await t.create("", "services", { metadata: { name: "manual" }, spec: { ports: [{ port: 80 }] } });
  await t.create("discovery.k8s.io", "endpointslices", {
    metadata: { name: "manual-1", labels: { "kubernetes.io/service-name": "manual" } },
    addressType: "IPv4",
    ports: [{ port: 80 }],
    endpoints: [{ addresses: ["10.244.0.99"] }],
  });
  await t.create("", "services", service());
  await eventually(() => slices(t).length === 1);
  assert.is(slices(t, "manual").length, 1);
  await t.cluster.delete({ group: "", resource: "services", namespace: "default", name: "web" });
  await eventually(() => slices(t).length === 0);
  await eventually(
    () => !t.cluster.get({ group: "", resource: "endpoints", namespace: "default", name: "web" }),
  );
  assert.is(slices(t, "manual").length, 1);
});

test("the cluster's own services have endpoints", ({ t }) => {
  const dns = t.cluster
    .list("discovery.k8s.io", "endpointslices", "kube-system")
    .find((slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === "kube-dns");
  assert.equal(dns?.["endpoints"][0].addresses, ["10.244.0.1"]);
  const kubeDns = t.cluster.get({
    group: "",
    resource: "services",
    namespace: "kube-system",
    name: "kube-dns",
  });
  assert.is(kubeDns?.["spec"].clusterIP, "10.96.0.10");
});

test("a namespace gets its ServiceAccount and root CA, and dies with all it holds", async ({ t }) => {
  await t.create("", "namespaces", { metadata: { name: "shop", namespace: null } });
  const inside = (group: string, resource: string) => t.cluster.list(group, resource, "shop");
  await eventually(() => inside("", "serviceaccounts").length === 1 && inside("", "configmaps").length === 1);
  assert.is(inside("", "configmaps")[0]!["data"]["ca.crt"], "PEM");
  await t.cluster.delete({ group: "", resource: "serviceaccounts", namespace: "shop", name: "default" });
  await eventually(() => inside("", "serviceaccounts").length === 1, "the ServiceAccount made again");

  await t.create("", "services", { ...service(), metadata: { name: "web", namespace: "shop" } });
  await eventually(() => inside("", "endpoints").length === 1);
  t.stuck.add("slow");
  await t.create("", "pods", { ...pod("slow"), metadata: { name: "slow", namespace: "shop" } });
  await eventually(() => Boolean(inside("", "pods")[0]?.["spec"].nodeName));
  await t.cluster.delete({ group: "", resource: "namespaces", name: "shop" });
  const namespace = () => t.cluster.get({ group: "", resource: "namespaces", name: "shop" });
  await eventually(() => inside("", "configmaps").length === 0);
  assert.is(namespace()?.["status"].phase, "Terminating", "it waits for the pod to end");
  t.cluster.finalizeDelete({ group: "", resource: "pods", namespace: "shop", name: "slow" });
  await eventually(() => namespace() === undefined);
  assert.equal(inside("", "serviceaccounts"), []);
  assert.equal(t.warnings, [], "no controller fights the deletion");
});

const configMap = (name: string, owners: KubeObject[] = [], blockOwnerDeletion = false): Json => ({
  metadata: {
    name,
    ownerReferences: owners.map((owner) => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      name: owner.metadata.name,
      uid: owner.metadata.uid,
      blockOwnerDeletion,
    })),
  },
});
const mapRef = (name: string) => ({ group: "", resource: "configmaps", namespace: "default", name });

test("background: what belongs to nobody any more goes, what has another owner stays", async ({ t }) => {
  const first = await t.create("", "configmaps", configMap("first"));
  const second = await t.create("", "configmaps", configMap("second"));
  const child = await t.create("", "configmaps", configMap("child", [first]));
  await t.create("", "configmaps", configMap("grandchild", [child]));
  await t.create("", "configmaps", configMap("shared", [first, second]));
  await t.cluster.delete(mapRef("first"));
  await eventually(() => !t.cluster.get(mapRef("child")) && !t.cluster.get(mapRef("grandchild")));
  await eventually(() => t.cluster.get(mapRef("shared"))?.metadata.ownerReferences?.length === 1);
});

test("an object whose owner was replaced by a namesake is garbage", async ({ t }) => {
  await t.create("", "configmaps", configMap("owner"));
  await t.create("", "configmaps", {
    metadata: {
      name: "stale",
      ownerReferences: [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid: "not-this-one" }],
    },
  });
  await eventually(() => !t.cluster.get(mapRef("stale")));
  assert.ok(t.cluster.get(mapRef("owner")));
});

test("foreground: the owner waits for its dependents", async ({ t }) => {
  const owner = await t.create("", "configmaps", configMap("owner"));
  const child = configMap("child", [owner], true);
  child.metadata.finalizers = ["example.com/hold"];
  await t.create("", "configmaps", child);
  await t.cluster.delete(mapRef("owner"), { propagationPolicy: "Foreground" });
  await eventually(() => Boolean(t.cluster.get(mapRef("child"))?.metadata.deletionTimestamp));
  assert.ok(t.cluster.get(mapRef("owner"))?.metadata.deletionTimestamp);
  await t.cluster.modify(mapRef("child"), (object) => {
    object.metadata.finalizers = [];
    return object;
  });
  await eventually(() => !t.cluster.get(mapRef("child")) && !t.cluster.get(mapRef("owner")));
});

test("orphan: the dependents stay and belong to nobody", async ({ t }) => {
  const owner = await t.create("", "configmaps", configMap("owner"));
  await t.create("", "configmaps", configMap("child", [owner]));
  await t.cluster.delete(mapRef("owner"), { propagationPolicy: "Orphan" });
  await eventually(() => !t.cluster.get(mapRef("owner")));
  assert.is(t.cluster.get(mapRef("child"))?.metadata.ownerReferences, undefined);
});

test("nodes are registered, ready and leased; pods of a lost node are removed", async ({ t }) => {
  const nodes = t.cluster.list("", "nodes");
  assert.equal(nodes.map((node) => node.metadata.name).sort(), ["mesh-0", "mesh-1"]);
  const second = nodes.find((node) => node.metadata.name === "mesh-1")!;
  assert.equal(second["status"].addresses, [
    { type: "InternalIP", address: "10.244.1.1" },
    { type: "Hostname", address: "mesh-1" },
  ]);
  assert.is(second["spec"].podCIDR, "10.244.1.0/24");
  assert.is(t.cluster.list("coordination.k8s.io", "leases", "kube-node-lease").length, 2);

  await t.create("", "pods", { ...pod("a"), spec: { ...pod("a").spec, nodeName: "mesh-1" } });
  await t.cluster.delete({ group: "", resource: "nodes", name: "mesh-1" });
  await eventually(() => !t.cluster.get(podRef("a")));
});

test("a disruption budget's status follows its pods and what their owner wants", async ({ t }) => {
  const budget = (name: string, spec: Json) =>
    t.create("policy", "poddisruptionbudgets", {
      metadata: { name },
      spec: { selector: { matchLabels: { app: "web" } }, ...spec },
    });
  const statusOf = (name: string) =>
    t.cluster.get({ group: "policy", resource: "poddisruptionbudgets", namespace: "default", name })?.[
      "status"
    ];
  await budget("most", { maxUnavailable: 1 });
  await budget("half", { minAvailable: "50%" });
  await budget("two", { minAvailable: 2 });
  await t.create("apps", "deployments", {
    metadata: { name: "web" },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: "web" } },
      template: {
        metadata: { labels: { app: "web" } },
        spec: { containers: [{ name: "c", image: "x" }] },
      },
    },
  });
  const table: [string, number, number][] = [
    ["most", 2, 1],
    ["half", 2, 1],
    ["two", 2, 1],
  ];
  for (const [name, desiredHealthy, disruptionsAllowed] of table) {
    await eventually(() => statusOf(name)?.currentHealthy === 3, name);
    assert.equal(statusOf(name), {
      observedGeneration: 1,
      expectedPods: 3,
      currentHealthy: 3,
      desiredHealthy,
      disruptionsAllowed,
    });
  }
  await t.settle(t.pods({ app: "web" })[0]!, "unready");
  for (const [name] of table)
    await eventually(
      () => statusOf(name).disruptionsAllowed === 0 && statusOf(name).currentHealthy === 2,
      name,
    );
});

test.run();
