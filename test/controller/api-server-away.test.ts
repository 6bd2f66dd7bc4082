// The API server restarts under a destination controller: what proxies know stays, what changed meanwhile arrives, and
// nothing else does.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressText } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import { Get, type Update } from "../../src/api/destination.ts";
import { main as destination } from "../../src/controller/destination/main.ts";
import { type Controller, createController } from "../../src/controller/process.ts";
import { applyAll, KubeClient } from "../../src/kube/index.ts";
import { createLogger } from "../../src/log/logger.ts";
import { customResourceDefinitions } from "../../src/manifests/index.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { bootstrap } from "../../src/sandbox/apiserver/bootstrap.ts";
import type { LocalCluster } from "../../src/sandbox/apiserver/index.ts";
import { type Harness, startHarness } from "../sandbox/apiserver/harness.ts";
import { freePort } from "../support/free-port.ts";
import { type TestCall, TestGrpcClient } from "../support/grpc-client.ts";
import { toldEndpoints } from "../support/told-endpoints.ts";
import { until } from "../support/until.ts";

const test = suite("api server away");
const PATH = "web.shop.svc.cluster.local:80";

type UpdateMessage = MessageOf<typeof Update>;

const pod = (name: string, ip: string, account = "web") => ({
  metadata: { name, labels: { app: "web", "linkerd.io/control-plane-ns": "mesh-system" } },
  spec: { serviceAccountName: account, containers: [{ name: "c", image: "x" }] },
  status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
});
const endpoint = (name: string, ip: string) => ({
  addresses: [ip],
  conditions: { ready: true },
  targetRef: { kind: "Pod", name, namespace: "shop" },
});
const SLICE = { group: "discovery.k8s.io", resource: "endpointslices", namespace: "shop", name: "web-1" };

async function addPod(cluster: LocalCluster, made: ReturnType<typeof pod>): Promise<void> {
  const { status, ...rest } = made;
  await cluster.create("", "pods", "shop", rest);
  await cluster.modify(
    { group: "", resource: "pods", namespace: "shop", name: made.metadata.name },
    (current) => ({ ...current, status }),
    { subresource: "status" },
  );
}

const setEndpoints = (cluster: LocalCluster, endpoints: object[]) =>
  cluster.modify(SLICE, (current) => ({ ...current, endpoints }));

interface Rig {
  readonly api: Harness;
  readonly controller: Controller;
  /** A new subscription. */
  get(): TestCall<UpdateMessage>;
}

async function withDestination(run: (rig: Rig) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "mesh-restart-"));
  const api = await startHarness(undefined, directory);
  await bootstrap(api.cluster);
  const client = new KubeClient(api.config());
  const controller = createController({
    env: { MESH_NAMESPACE: "mesh-system" },
    log: createLogger({ level: "off" }),
    client,
    registry: new Registry(),
    port: await freePort(),
  });
  let grpc: TestGrpcClient | undefined;
  try {
    await applyAll(client, customResourceDefinitions("mesh-system"));
    for (const name of ["mesh-system", "shop"])
      await api.cluster.create("", "namespaces", undefined, { metadata: { name } });
    for (const name of ["web", "other"])
      await api.cluster.create("", "serviceaccounts", "shop", { metadata: { name } });
    await api.cluster.create("", "services", "shop", {
      metadata: { name: "web" },
      spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
    });
    for (const [name, ip] of [
      ["a", "10.0.0.1"],
      ["b", "10.0.0.2"],
      ["c", "10.0.0.3"],
    ])
      await addPod(api.cluster, pod(name!, ip!));
    await api.cluster.create(SLICE.group, SLICE.resource, "shop", {
      metadata: { name: SLICE.name, labels: { "kubernetes.io/service-name": "web" } },
      addressType: "IPv4",
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      endpoints: [endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2"), endpoint("c", "10.0.0.3")],
    } as never);
    await destination(async (_name, _ports, setUp) => setUp(controller));
    controller.started();
    grpc = new TestGrpcClient(controller.port);
    const connected = grpc;
    await run({ api, controller, get: () => connected.call(Get, { path: PATH }) });
  } finally {
    grpc?.close();
    await controller.stop();
    client.close();
    await api.close();
    await rm(directory, { recursive: true });
  }
}

const THREE = { "10.0.0.1": "web", "10.0.0.2": "web", "10.0.0.3": "web" };
const knows = (call: TestCall<UpdateMessage>, wanted: Record<string, string>) =>
  until(
    () => JSON.stringify(toldEndpoints(call.messages, "serviceaccount")) === JSON.stringify(wanted),
    20_000,
    () => `${JSON.stringify(wanted)}, not ${JSON.stringify(toldEndpoints(call.messages, "serviceaccount"))},`,
  );

test("a restart with nothing changed tells proxies nothing; while it lasts, the controller is ready and answers", () =>
  withDestination(async ({ api, controller, get }) => {
    const call = get();
    await knows(call, THREE);
    const told = call.messages.length;
    await api.stop();
    assert.equal(controller.unready(), []);
    const late = get();
    await knows(late, THREE);
    await api.restart();
    // All of them watch again.
    const series = /kube_reflector_watches_total\{[^}]*\} (\d+)/g;
    await until(
      () => {
        const watches = [...controller.registry.expose().matchAll(series)];
        return watches.length > 0 && watches.every(([, count]) => Number(count) >= 2);
      },
      20_000,
      "watches after the restart",
    );
    assert.is(call.messages.length, told);
    assert.is(call.status, undefined, "the stream goes on");
    assert.is(late.status, undefined);
  }));

test("what went, came and moved while nobody watched is told once the API server is back, and no more than that", () =>
  withDestination(async ({ api, get }) => {
    const call = get();
    await knows(call, THREE);
    const told = call.messages.length;
    await api.stop();
    await api.restart(async (cluster) => {
      const ref = (name: string) => ({ group: "", resource: "pods", namespace: "shop", name });
      for (const name of ["b", "c"]) {
        await cluster.delete(ref(name), { gracePeriodSeconds: 0 });
      }
      // c's address is another pod's now, with another identity.
      await addPod(cluster, pod("d", "10.0.0.3", "other"));
      await addPod(cluster, pod("e", "10.0.0.5"));
      await setEndpoints(cluster, [
        endpoint("a", "10.0.0.1"),
        endpoint("d", "10.0.0.3"),
        endpoint("e", "10.0.0.5"),
      ]);
    });
    await knows(call, { "10.0.0.1": "web", "10.0.0.3": "other", "10.0.0.5": "web" });
    const news = call.messages.slice(told);
    assert.not.ok(
      news.some(({ add, remove }) =>
        [...(add?.addrs ?? []).map(({ addr }) => addr), ...(remove?.addrs ?? [])].some(
          (address) => addressText(address)!.ip === "10.0.0.1",
        ),
      ),
      "of what did not change, nothing is said",
    );
    await knows(get(), { "10.0.0.1": "web", "10.0.0.3": "other", "10.0.0.5": "web" });
  }));

test("restart after restart, with changes each time, the proxy's view follows", () =>
  withDestination(async ({ api, get }) => {
    const call = get();
    await knows(call, THREE);
    for (let round = 0; round < 3; round += 1) {
      const ip = `10.0.1.${round}`;
      await api.stop();
      await api.restart(async (cluster) => {
        await addPod(cluster, pod(`r${round}`, ip));
        await setEndpoints(cluster, [endpoint("a", "10.0.0.1"), endpoint(`r${round}`, ip)]);
      });
      await knows(call, { "10.0.0.1": "web", [ip]: "web" });
    }
  }));

test.run();
