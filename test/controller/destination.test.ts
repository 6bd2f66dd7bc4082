// The destination controller: the cluster's records in, what proxies are told over real gRPC out.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressText } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import { Get, GetProfile, type Update } from "../../src/api/destination.ts";
import { STATUS } from "../../src/api/grpc-status.ts";
import { podRecord, serviceRecord, sliceRecord } from "../../src/controller/cluster-objects.ts";
import { DestinationIndex } from "../../src/controller/destination/index.ts";
import { serveDestination } from "../../src/controller/destination/service.ts";
import { GrpcServer } from "../../src/controller/grpc-server.ts";
import type { EndpointSlice, Pod, Service } from "../../src/kube/types.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { parsePortSet } from "../../src/util/port-set.ts";
import { TestGrpcClient } from "../support/grpc-client.ts";
import { until } from "../support/until.ts";

const test = suite("destination");

type UpdateMessage = MessageOf<typeof Update>;

const pod = (
  name: string,
  ip: string,
  change: { meshed?: boolean; phase?: string } & Partial<Pod["metadata"]> = {},
) => {
  const { meshed = true, phase = "Running", ...metadata } = change;
  return podRecord({
    metadata: {
      name,
      namespace: "emoji",
      uid: `uid-${name}`,
      labels: {
        "pod-template-hash": "abc",
        ...(meshed ? { "linkerd.io/control-plane-ns": "mesh-system" } : {}),
      },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-abc", uid: "rs", controller: true },
      ],
      ...metadata,
    },
    spec: { serviceAccountName: "web", containers: [{ name: "c" }] },
    status: { phase, podIP: ip, podIPs: [{ ip }] },
  });
};

const service = (change: Partial<Service["spec"]> = {}, annotations: Record<string, string> = {}) =>
  serviceRecord({
    metadata: { name: "web", namespace: "emoji", annotations },
    spec: {
      clusterIP: "10.96.1.1",
      clusterIPs: ["10.96.1.1"],
      ports: [{ name: "http", port: 80 }],
      ...change,
    },
  });

const slice = (name: string, pods: Record<string, string>, change: { ready?: boolean } = {}) =>
  sliceRecord({
    metadata: { name, namespace: "emoji", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080 }],
    endpoints: Object.entries(pods).map(([podName, ip]) => ({
      addresses: [ip],
      conditions: { ready: change.ready ?? true },
      hostname: podName,
      zone: "east",
      targetRef: { kind: "Pod", name: podName, namespace: "emoji" },
    })),
  } as EndpointSlice);

interface Rig {
  readonly index: DestinationIndex;
  readonly client: TestGrpcClient;
  readonly registry: Registry;
}

async function withServer(run: (rig: Rig) => Promise<void>): Promise<void> {
  const registry = new Registry();
  const index = new DestinationIndex({
    namespace: "mesh-system",
    trustDomain: "cluster.local",
    clusterDomain: "cluster.local",
    defaultOpaquePorts: parsePortSet("3306"),
  });
  const server = new GrpcServer({ log: createLogger({ level: "off" }), registry });
  serveDestination(server, index, "cluster.local");
  const client = new TestGrpcClient(await server.listen(0, "127.0.0.1"));
  try {
    await run({ index, client, registry });
  } finally {
    client.close();
    await server.close();
  }
}

const added = (update: UpdateMessage) => update.add?.addrs.map((a) => addressText(a.addr)?.ip) ?? [];
const removed = (update: UpdateMessage) => update.remove?.addrs.map((a) => addressText(a)?.ip) ?? [];
const AUTHORITY = { path: "web.emoji.svc.cluster.local:80" };

test("endpoints carry port, weight, identity, hint and labels; then only what changes is told", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putPod(pod("a", "10.0.0.1"));
    index.putPod(pod("b", "10.0.0.2", { meshed: false }));
    index.putSlice(slice("web-1", { a: "10.0.0.1", b: "10.0.0.2" }));
    const call = client.call(Get, AUTHORITY);
    const first = await call.message(0);
    assert.equal({ ...first.add?.metricLabels }, { namespace: "emoji", service: "web" });
    const [meshed, plain] = first.add!.addrs;
    assert.equal(addressText(meshed!.addr), { ip: "10.0.0.1", port: 8080 });
    assert.is(meshed!.weight, 10_000);
    const name = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
    assert.is(meshed!.tlsIdentity?.dnsLikeIdentity?.name, name);
    assert.is(meshed!.tlsIdentity?.serverName?.name, name);
    assert.ok(meshed!.protocolHint?.h2);
    assert.is(meshed!.protocolHint?.opaqueTransport?.inboundPort, 4143);
    assert.equal(
      { ...meshed!.metricLabels },
      {
        namespace: "emoji",
        pod: "a",
        serviceaccount: "web",
        deployment: "web",
        pod_template_hash: "abc",
        control_plane_ns: "mesh-system",
        zone: "east",
      },
    );
    assert.is(plain!.tlsIdentity, undefined);
    assert.is(plain!.protocolHint, undefined);

    index.putPod(pod("c", "10.0.0.3"));
    index.putSlice(slice("web-1", { a: "10.0.0.1", c: "10.0.0.3" }));
    await call.message(2);
    assert.equal(call.messages.slice(1).flatMap(added), ["10.0.0.3"]);
    assert.equal(call.messages.slice(1).flatMap(removed), ["10.0.0.2"]);
  }));

test("an endpoint waits for its pod, and never loses its identity while the pod ends", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putSlice(slice("web-1", { a: "10.0.0.1" }));
    const call = client.call(Get, AUTHORITY);
    assert.equal((await call.message(0)).noEndpoints, { exists: true });
    index.putPod(pod("a", ""));
    index.putPod(pod("a", "10.0.0.1"));
    assert.equal(added(await call.message(1)), ["10.0.0.1"]);
    index.putPod(pod("a", "10.0.0.1", { deletionTimestamp: "2026-01-01T00:00:00Z" }));
    index.putSlice(slice("web-2", {}));
    index.putPod(pod("b", "10.0.0.2"));
    index.putSlice(slice("web-2", { b: "10.0.0.2" }));
    // Nothing was told about the ending pod in between.
    assert.equal(added(await call.message(2)), ["10.0.0.2"]);
    // The same name with another address: a StatefulSet's pod that came back.
    index.putPod(pod("a", "10.0.0.9", { uid: "other" }));
    assert.equal(removed(await call.message(3)), ["10.0.0.1"]);
  }));

test("an address in two slices stays until both let it go; the last one to go leaves no endpoints", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    for (const [name, ip] of [
      ["a", "10.0.0.1"],
      ["b", "10.0.0.2"],
    ] as const)
      index.putPod(pod(name, ip));
    index.putSlice(slice("web-1", { a: "10.0.0.1" }));
    index.putSlice(slice("web-2", { a: "10.0.0.1", b: "10.0.0.2" }));
    const call = client.call(Get, AUTHORITY);
    assert.equal(added(await call.message(0)).sort(), ["10.0.0.1", "10.0.0.2"]);
    index.removeSlice("emoji", "web-1");
    index.putSlice(slice("web-2", { a: "10.0.0.1" }));
    assert.equal(removed(await call.message(1)), ["10.0.0.2"]);
    index.putSlice(slice("web-2", { a: "10.0.0.1" }, { ready: false }));
    await until(() => call.messages.some((message) => message.noEndpoints));
    assert.equal(call.messages.at(-1)?.noEndpoints, { exists: true });
    index.removeService("emoji", "web");
    await until(() => call.messages.at(-1)?.noEndpoints?.exists === false);
  }));

test("one pod of a headless Service is found by its host name", () =>
  withServer(async ({ index, client }) => {
    index.putService(service({ clusterIP: "None", clusterIPs: ["None"] }));
    for (const [name, ip] of [
      ["web-0", "10.0.0.1"],
      ["web-1", "10.0.0.2"],
    ] as const)
      index.putPod(pod(name, ip));
    index.putSlice(slice("web-1", { "web-0": "10.0.0.1", "web-1": "10.0.0.2" }));
    const call = client.call(Get, { path: "web-1.web.emoji.svc.cluster.local:80" });
    assert.equal(added(await call.message(0)), ["10.0.0.2"]);
  }));

test("ports that a pod skips have no identity; opaque ones are hinted opaque", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putSlice(slice("web-1", { a: "10.0.0.1" }));
    index.putPod(
      pod("a", "10.0.0.1", { annotations: { "config.linkerd.io/skip-inbound-ports": "8000-9000" } }),
    );
    const call = client.call(Get, AUTHORITY);
    assert.is((await call.message(0)).add?.addrs[0]?.tlsIdentity, undefined);
    index.putPod(pod("a", "10.0.0.1", { annotations: { "config.linkerd.io/opaque-ports": "8080" } }));
    const hint = (await call.message(1)).add?.addrs[0]?.protocolHint;
    assert.ok(hint?.opaque);
    assert.is(hint?.h2, undefined);
    assert.is(hint?.opaqueTransport?.inboundPort, 4143);
  }));

test("what cannot be looked up is InvalidArgument", () =>
  withServer(async ({ index, client }) => {
    index.putService(
      service({ type: "ExternalName", clusterIP: "", clusterIPs: [], externalName: "example.com" }),
    );
    for (const path of [
      "web.emoji.svc.cluster.local:80",
      "10.0.0.1:80",
      "example.com:80",
      "web.emoji.svc.cluster.local:99999",
      "a.b.web.emoji.svc.cluster.local:80",
      "",
      `${"x".repeat(10_000)}\u{1f600}`,
    ]) {
      assert.is(await client.call(Get, { path }).end(), STATUS.INVALID_ARGUMENT, path.slice(0, 60));
    }
  }));

test("a profile follows an address: nobody's, a Service's, opaque, nobody's again", () =>
  withServer(async ({ index, client }) => {
    const call = client.call(GetProfile, { path: "10.96.1.1:80" });
    const none = await call.message(0);
    assert.is(none.fullyQualifiedName, "");
    assert.is(none.endpoint, undefined);
    assert.is(none.opaqueProtocol, false);
    const database = client.call(GetProfile, { path: "192.0.2.1:3306" });
    assert.is((await database.message(0)).opaqueProtocol, true);
    index.putService(service());
    const found = await call.message(1);
    assert.is(found.fullyQualifiedName, "web.emoji.svc.cluster.local");
    assert.is(found.parentRef?.resource?.name, "web");
    index.putService(service({}, { "config.linkerd.io/opaque-ports": "80" }));
    assert.is((await call.message(2)).opaqueProtocol, true);
    index.removeService("emoji", "web");
    assert.is((await call.message(3)).fullyQualifiedName, "");
  }));

test("a pod's own address has an endpoint with its identity; two pods of one address have none", () =>
  withServer(async ({ index, client }) => {
    index.putPod(pod("a", "10.0.0.1"));
    const call = client.call(GetProfile, { path: "10.0.0.1:3306" });
    const profile = await call.message(0);
    assert.is(profile.opaqueProtocol, true);
    assert.equal(addressText(profile.endpoint?.addr), { ip: "10.0.0.1", port: 3306 });
    assert.match(profile.endpoint?.tlsIdentity?.dnsLikeIdentity?.name ?? "", /^web\.emoji\./);
    index.putPod(pod("b", "10.0.0.1"));
    assert.is((await call.message(1)).endpoint, undefined);
    index.putPod(pod("b", "10.0.0.1", { phase: "Succeeded" }));
    assert.ok((await call.message(2)).endpoint);
  }));

test("a namespace's opaque ports hold for Services that say nothing", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const call = client.call(GetProfile, AUTHORITY);
    assert.is((await call.message(0)).opaqueProtocol, false);
    index.putNamespace({ name: "emoji", opaquePorts: parsePortSet("80"), defaultPolicy: undefined });
    assert.is((await call.message(1)).opaqueProtocol, true);
  }));

test("what nobody asks about any more is forgotten", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const calls = [
      client.call(Get, AUTHORITY),
      client.call(Get, AUTHORITY),
      client.call(GetProfile, { path: "10.96.1.1:80" }),
    ];
    for (const call of calls) await call.message(0);
    assert.is(index.watched, 2);
    for (const call of calls) call.cancel();
    await until(() => index.watched === 0);
  }));

test("a change in a Service of a thousand endpoints costs its own diff", () => {
  const index = new DestinationIndex({
    namespace: "mesh-system",
    trustDomain: "cluster.local",
    clusterDomain: "cluster.local",
    defaultOpaquePorts: [],
  });
  index.putService(service());
  const ips = Object.fromEntries(
    Array.from({ length: 1000 }, (_, i) => [`p${i}`, `10.1.${i >> 8}.${i & 255}`]),
  );
  for (const [name, ip] of Object.entries(ips)) index.putPod(pod(name, ip));
  for (let i = 0; i < 10; i += 1) {
    index.putSlice(slice(`s${i}`, Object.fromEntries(Object.entries(ips).slice(i * 100, i * 100 + 100))));
  }
  const changes: [number, number][] = [];
  const stop = index.watchEndpoints({ namespace: "emoji", service: "web", port: 80 }, (change) =>
    changes.push([change.added.length, change.removed.length]),
  );
  index.putPod(pod("p5", ips["p5"]!, { labels: { other: "1" } }));
  index.flush();
  index.putSlice(slice("s9", {}));
  index.flush();
  stop();
  assert.equal(changes, [
    [1000, 0],
    [1, 0],
    [0, 100],
  ]);
});

test.run();
