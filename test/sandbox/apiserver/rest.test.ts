// The REST face: create to delete, watches, tables, patches, access.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json } from "../../../src/sandbox/cluster.ts";
import { type Harness, startHarness } from "./harness.ts";

const test = suite<{ api: Harness }>("api server");
test.before(async (context) => {
  context.api = await startHarness();
  await context.api.call("POST", "/api/v1/namespaces/default/serviceaccounts", {
    body: { metadata: { name: "default" } },
  });
});
test.after(async ({ api }) => api.close());

const MAPS = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments";
const deployment = (name: string, image = "busybox") => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name },
  spec: {
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: "c", image }] } },
  },
});

test("an object is created once, read, replaced only with the current version, and deleted", async ({
  api,
}) => {
  const created = await api.call("POST", MAPS, { body: { metadata: { name: "life" }, data: { a: "1" } } });
  assert.is(created.status, 201);
  const again = await api.call("POST", MAPS, { body: { metadata: { name: "life" } } });
  assert.is(again.status, 409);
  assert.is(again.body.reason, "AlreadyExists");
  const next = await api.call("PUT", `${MAPS}/life`, { body: { ...created.body, data: { a: "2" } } });
  assert.is(next.status, 200);
  const stale = await api.call("PUT", `${MAPS}/life`, { body: { ...created.body, data: { a: "3" } } });
  assert.is(stale.status, 409);
  assert.is(stale.body.reason, "Conflict");
  assert.is((await api.call("DELETE", `${MAPS}/life`)).body.status, "Success");
  assert.is((await api.call("GET", `${MAPS}/life`)).status, 404);
});

test("a dry run validates and stores nothing", async ({ api }) => {
  const dry = await api.call("POST", `${MAPS}?dryRun=All`, { body: { metadata: { name: "dry" } } });
  assert.is(dry.status, 201);
  assert.is((await api.call("GET", `${MAPS}/dry`)).status, 404);
});

test("invalid objects are refused with every mistake listed", async ({ api }) => {
  const bad = {
    ...deployment("bad"),
    spec: { selector: { matchLabels: { app: "x" } }, template: { spec: {} } },
  };
  const { status, body } = await api.call("POST", DEPLOYMENTS, { body: bad });
  assert.is(status, 422);
  assert.equal(
    body.details.causes.map((cause: { field: string }) => cause.field),
    ["spec.template.metadata.labels", "spec.template.spec.containers"],
  );
});

test("objects of the wrong shape are client errors, not crashes", async ({ api }) => {
  for (const spec of [5, "x", [], { template: 3 }, { template: { spec: { containers: "x" } } }]) {
    const { status } = await api.call("POST", DEPLOYMENTS, { body: { metadata: { name: "odd" }, spec } });
    assert.ok(status === 400 || status === 422, `${JSON.stringify(spec)}: ${status}`);
  }
});

test("fields that a kind does not have are an error when the client asks for strictness", async ({ api }) => {
  const typo: Json = deployment("typo");
  typo.spec.replica = 3;
  typo.spec.template.spec.containers[0].envs = [];
  typo.spec.template.spec.volumes = [{ name: "v", emptyDir: {} }];
  const strict = await api.call("POST", `${DEPLOYMENTS}?fieldValidation=Strict`, { body: typo });
  assert.is(strict.status, 400);
  assert.match(
    strict.body.message,
    'strict decoding error: unknown field "spec.template.spec.containers[0].envs", unknown field "spec.replica"',
  );
  const warned = await api.call("POST", `${DEPLOYMENTS}?fieldValidation=Warn&dryRun=All`, { body: typo });
  assert.is(warned.status, 201);
  assert.match(String(warned.headers.warning), "spec.replica");
});

test("a watch replays what was missed and goes on, and says 410 when it cannot", async ({ api }) => {
  const { body: list } = await api.call("GET", MAPS);
  await api.call("POST", MAPS, { body: { metadata: { name: "seen", labels: { w: "1" } } } });
  const watch = api.watch(
    `${MAPS}?watch=1&labelSelector=w%3D1&resourceVersion=${list.metadata.resourceVersion}`,
  );
  assert.is((await watch.next()).object.metadata.name, "seen");
  await api.call("PATCH", `${MAPS}/seen`, {
    body: { metadata: { labels: { w: "2" } } },
    headers: { "content-type": "application/merge-patch+json" },
  });
  const left = await watch.next();
  assert.is(left.type, "DELETED", "leaving the selection looks like a deletion");
  watch.close();
  for (let i = 0; i < 2100; i++) {
    await api.cluster.modify(
      { group: "", resource: "configmaps", namespace: "default", name: "seen" },
      (map) => ({
        ...map,
        data: { i: String(i) },
      }),
    );
  }
  const late = api.watch(`${MAPS}?watch=1&resourceVersion=${list.metadata.resourceVersion}`);
  const error = await late.next();
  assert.is(error.type, "ERROR");
  assert.is(error.object.code, 410);
  late.close();
});

test("pages carry on where the last one ended", async ({ api }) => {
  for (const name of ["p1", "p2", "p3"]) {
    await api.call("POST", MAPS, { body: { metadata: { name, labels: { page: "y" } } } });
  }
  const first = await api.call("GET", `${MAPS}?limit=2&labelSelector=page`);
  assert.is(first.body.items.length, 2);
  const second = await api.call(
    "GET",
    `${MAPS}?limit=2&labelSelector=page&continue=${first.body.metadata.continue}`,
  );
  assert.equal(
    second.body.items.map((item: { metadata: { name: string } }) => item.metadata.name),
    ["p3"],
  );
});

test("tables have the columns of kubectl", async ({ api }) => {
  await api.call("POST", DEPLOYMENTS, { body: deployment("table") });
  const { body } = await api.call("GET", DEPLOYMENTS, {
    headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" },
  });
  assert.is(body.kind, "Table");
  assert.equal(
    body.columnDefinitions.slice(0, 4).map((column: { name: string }) => column.name),
    ["Name", "Ready", "Up-to-date", "Available"],
  );
  assert.equal(body.rows[0].cells.slice(0, 4), ["table", "0/1", 0, 0]);
});

test("status and spec are written apart, and only a new spec is a new generation", async ({ api }) => {
  await api.call("POST", DEPLOYMENTS, { body: deployment("halves") });
  const { body } = await api.call("PATCH", `${DEPLOYMENTS}/halves/status`, {
    body: { spec: { replicas: 9 }, status: { replicas: 3 } },
    headers: { "content-type": "application/merge-patch+json" },
  });
  assert.equal([body.spec.replicas, body.status.replicas, body.metadata.generation], [1, 3, 1]);
  const scaled = await api.call("PUT", `${DEPLOYMENTS}/halves/scale`, { body: { spec: { replicas: 4 } } });
  assert.equal([scaled.body.kind, scaled.body.spec.replicas], ["Scale", 4]);
  const { body: after } = await api.call("GET", `${DEPLOYMENTS}/halves`);
  assert.equal([after.spec.replicas, after.status.replicas, after.metadata.generation], [4, 3, 2]);
});

test("services get addresses of their own", async ({ api }) => {
  const service = (name: string, clusterIP?: string) => ({
    metadata: { name },
    spec: { ports: [{ port: 80 }], ...(clusterIP ? { clusterIP } : {}) },
  });
  const path = "/api/v1/namespaces/default/services";
  const { body: first } = await api.call("POST", path, { body: service("one") });
  assert.match(first.spec.clusterIP, /^10\.96\.\d+\.\d+$/);
  const taken = await api.call("POST", path, { body: service("two", first.spec.clusterIP) });
  assert.is(taken.status, 422);
  assert.is((await api.call("POST", path, { body: service("three", "None") })).body.spec.clusterIP, "None");
});

test("a pod bound to a node ends gracefully; finalizers hold it until they are gone", async ({ api }) => {
  const pods = "/api/v1/namespaces/default/pods";
  const ref = { group: "", resource: "pods", namespace: "default", name: "end" };
  const { body: pod } = await api.call("POST", pods, {
    body: {
      metadata: { name: "end", finalizers: ["x/y"] },
      spec: { nodeName: "n", containers: [{ name: "c", image: "i" }] },
    },
  });
  assert.match(pod.spec.volumes[0].name, /^kube-api-access-/);
  const deleted = await api.call("DELETE", `${pods}/end`);
  assert.is(deleted.body.metadata.deletionGracePeriodSeconds, 30);
  api.cluster.finalizeDelete(ref);
  assert.ok(api.cluster.get(ref), "the finalizer still holds it");
  await api.cluster.modify(ref, (held) => ({ ...held, metadata: { ...held.metadata, finalizers: [] } }));
  assert.not(api.cluster.get(ref));
});

test("server-side apply: conflicts, force, and removal of what is no longer wanted", async ({ api }) => {
  const apply = (manager: string, data: object, force = false) =>
    api.call("PATCH", `${MAPS}/ssa?fieldManager=${manager}&force=${force}`, {
      body: { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "ssa" }, data },
      headers: { "content-type": "application/apply-patch+yaml" },
    });
  assert.is((await apply("one", { a: "1", b: "1" })).status, 201);
  const conflict = await apply("two", { a: "2" });
  assert.is(conflict.status, 409);
  assert.is(conflict.body.details.causes[0].field, ".data.a");
  assert.is((await apply("two", { a: "2" }, true)).body.data.a, "2");
  const shrunk = await apply("one", { c: "3" });
  assert.equal(shrunk.body.data, { a: "2", c: "3" }, "b went with its owner; a belongs to two");
});

test("roles decide, and refusals read like Kubernetes'", async ({ api }) => {
  const { body: issued } = await api.call(
    "POST",
    "/api/v1/namespaces/default/serviceaccounts/default/token",
    {
      body: { spec: { audiences: ["https://kubernetes.default.svc.cluster.local"], expirationSeconds: 600 } },
    },
  );
  const { token } = issued.status;
  const denied = await api.call("GET", MAPS, { token });
  assert.is(denied.status, 403);
  assert.is(
    denied.body.message,
    'configmaps is forbidden: User "system:serviceaccount:default:default" cannot list resource "configmaps" in API group "" in the namespace "default"',
  );
  await api.call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", {
    body: {
      metadata: { name: "viewers" },
      roleRef: { kind: "ClusterRole", name: "view" },
      subjects: [{ kind: "ServiceAccount", name: "default", namespace: "default" }],
    },
  });
  assert.is((await api.call("GET", MAPS, { token })).status, 200, "view aggregates its rules");
  assert.is((await api.call("POST", MAPS, { token, body: { metadata: { name: "no" } } })).status, 403);
  assert.is((await api.call("GET", MAPS, { token: "bogus" })).status, 401);
  assert.is((await api.call("GET", MAPS, { token: "" })).status, 403);
  assert.is((await api.call("GET", "/healthz", { token: "" })).body, "ok");
  const review = await api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {
    body: { spec: { token } },
  });
  assert.is(review.body.status.user.username, "system:serviceaccount:default:default");
  const wrong = await api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {
    body: { spec: { token, audiences: ["identity.l5d.io"] } },
  });
  assert.not(wrong.body.status.authenticated);
});

test("bodies beyond the limit are refused", async ({ api }) => {
  const body = { metadata: { name: "big" }, data: { a: "x".repeat(3 * 1024 * 1024) } };
  const { status } = await api.call("POST", MAPS, { body }).catch(() => ({ status: 413 }));
  assert.is(status, 413);
});

test("an eviction takes what a disruption budget allows, once, and is refused after", async ({ api }) => {
  const pods = "/api/v1/namespaces/default/pods";
  const budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
  for (const name of ["evict-a", "evict-b", "evict-c"]) {
    await api.call("POST", pods, {
      body: {
        metadata: { name, labels: { app: "evict" } },
        spec: { containers: [{ name: "c", image: "x" }] },
      },
    });
    if (name === "evict-c") continue;
    const { body } = await api.call("GET", `${pods}/${name}`);
    await api.call("PUT", `${pods}/${name}/status`, { body: { ...body, status: { phase: "Running" } } });
  }
  const budget = await api.call("POST", budgets, {
    body: {
      metadata: { name: "evict" },
      spec: { maxUnavailable: 1, selector: { matchLabels: { app: "evict" } } },
    },
  });
  await api.call("PUT", `${budgets}/evict/status`, {
    body: { ...budget.body, status: { disruptionsAllowed: 1, desiredHealthy: 1, currentHealthy: 2 } },
  });
  const evict = (name: string) =>
    api.call("POST", `${pods}/${name}/eviction`, {
      body: { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace: "default" } },
    });
  assert.is((await evict("evict-a")).status, 201);
  const refused = await evict("evict-b");
  assert.is(refused.status, 429);
  assert.is(refused.body.details.causes[0].reason, "DisruptionBudget");
  assert.is((await evict("evict-c")).status, 201, "one that does no work yet may always go");
});

test.run();
