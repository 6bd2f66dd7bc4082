// The API client against a server that pages, refuses or hangs; its configuration and paths.
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  inApplyOrder,
  KubeApiError,
  KubeClient,
  loadKubeConfig,
  objectPath,
  pluralOf,
  resourcePath,
} from "../../src/kube/index.ts";
import { MeshError } from "../../src/util/error.ts";
import { ApiServer } from "../support/api-server.ts";

const test = suite("kube client");

async function withServer(run: (server: ApiServer, client: KubeClient) => Promise<void>): Promise<void> {
  const server = new ApiServer();
  const client = new KubeClient(await server.listen());
  try {
    await run(server, client);
  } finally {
    client.close();
    await server.close();
  }
}

async function rejection(promise: Promise<unknown>): Promise<MeshError> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, MeshError);
    return error as MeshError;
  }
  throw new Error("expected a rejection");
}

test("a list is read page by page over one connection", () =>
  withServer(async (server, client) => {
    for (const name of "abcde") server.put(name);
    const list = await client.list("/api/v1/pods", { labelSelector: "a=b" });
    assert.equal(
      list.items.map((item) => item.metadata.name),
      [..."abcde"],
    );
    assert.is(server.seen.length, 3);
    assert.ok(
      server.seen.every(
        (s) => s.url.searchParams.get("labelSelector") === "a=b" && s.headers.authorization === "Bearer t",
      ),
    );
    assert.is(server.connections, 1);
  }));

test("a refusal carries the server's status, reason and message", () =>
  withServer(async (server, client) => {
    server.answer = (_seen, response) => {
      response.writeHead(403, { "content-type": "application/json" });
      response.end(
        JSON.stringify({ kind: "Status", reason: "Forbidden", message: "pods is forbidden", code: 403 }),
      );
      return true;
    };
    const error = (await rejection(client.get("/api/v1/pods"))) as KubeApiError;
    assert.instance(error, KubeApiError);
    assert.is(error.status, 403);
    assert.is(error.reason, "Forbidden");
    assert.match(error.message, /pods is forbidden \(GET \/api\/v1\/pods\)/);
    assert.match(error.hints[0]!, /auth can-i/);
  }));

test("server-side apply says who applies, and goes where the object says", () =>
  withServer(async (server, client) => {
    await client.apply(
      { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace: "demo" } },
      { dryRun: true },
    );
    const { method, url, headers, body } = server.seen[0]!;
    assert.is(method, "PATCH");
    assert.is(url.pathname, "/apis/apps/v1/namespaces/demo/deployments/web");
    assert.is(url.search, "?fieldManager=kubectl-mesh&force=true&dryRun=All");
    assert.is(headers["content-type"], "application/apply-patch+yaml");
    assert.is(JSON.parse(body).metadata.name, "web");
  }));

test("a cluster that is not there is named, with what to do", async () => {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as { port: number };
  await new Promise((resolve) => listener.close(resolve));
  const client = new KubeClient({
    server: `http://127.0.0.1:${port}`,
    basePath: "",
    tls: {},
    context: "x",
    namespace: "d",
    headers: async () => ({}),
  });
  const error = await rejection(client.get("/version"));
  assert.match(
    error.message,
    new RegExp(`cannot reach the cluster at http://127.0.0.1:${port}: ECONNREFUSED`),
  );
  assert.match(error.hints[0]!, /current-context/);
});

test("a server that never answers is given up after the time limit", () =>
  withServer(async (server, client) => {
    server.answer = () => true;
    assert.match((await rejection(client.request("/version", { timeout: 50 }))).message, /timeout/i);
  }));

test("a kubeconfig is read; an unknown context lists those there are; none at all is explained", async () => {
  const directory = await mkdtemp(join(tmpdir(), "mesh-kube-"));
  try {
    const file = join(directory, "config");
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1/base/" } }],
      users: [{ name: "u", user: { token: "secret" } }],
      contexts: [{ name: "here", context: { cluster: "c", user: "u", namespace: "n" } }],
      "current-context": "here",
    };
    writeFileSync(file, JSON.stringify(config));
    const loaded = await loadKubeConfig({ kubeconfig: file, as: "eve", asGroups: ["a", "b"] });
    assert.is(loaded.server + loaded.basePath, "https://127.0.0.1:1/base");
    assert.is(loaded.namespace, "n");
    const headers = await loaded.headers();
    assert.is(headers["Authorization"], "Bearer secret");
    assert.is(headers["Impersonate-User"], "eve");
    assert.equal(headers["Impersonate-Group"], ["a", "b"]);
    const unknown = await rejection(loadKubeConfig({ kubeconfig: file, context: "there" }));
    assert.match(unknown.message, /no context "there"/);
    assert.match(unknown.hints[0]!, /here/);
    assert.match(
      (await rejection(loadKubeConfig({ kubeconfig: join(directory, "none") }))).message,
      /cannot read the kubeconfig/,
    );
    const plain = { ...config, clusters: [{ name: "c", cluster: { server: "http://127.0.0.1:1" } }] };
    writeFileSync(file, JSON.stringify(plain));
    const insecure = await rejection(loadKubeConfig({ kubeconfig: file }));
    assert.match(insecure.message, /context here cannot be used/);
    assert.match(insecure.hints[0]!, /plain HTTP/);
    writeFileSync(file, "clusters: [");
    assert.match(
      (await rejection(loadKubeConfig({ kubeconfig: file }))).message,
      /cannot read the kubeconfig/,
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("paths are formed by Kubernetes' rules", () => {
  assert.equal(["Pod", "NetworkPolicy", "Ingress", "EndpointSlice", "Endpoints", "Gateway"].map(pluralOf), [
    "pods",
    "networkpolicies",
    "ingresses",
    "endpointslices",
    "endpoints",
    "gateways",
  ]);
  assert.is(
    resourcePath({ apiVersion: "v1", resource: "pods", namespace: "a", name: "b", subresource: "log" }),
    "/api/v1/namespaces/a/pods/b/log",
  );
  assert.is(
    objectPath({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "a:b" },
    }),
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab",
  );
});

test("objects are applied after what they need, webhooks last", () => {
  const object = (kind: string) => ({ kind, metadata: { name: kind } });
  const kinds = [
    "MutatingWebhookConfiguration",
    "Deployment",
    "ServiceAccount",
    "CustomResourceDefinition",
    "Namespace",
  ];
  assert.equal(
    inApplyOrder(kinds.map(object)).map((o) => o.kind),
    kinds.reverse(),
  );
});

test.run();
