// The destination controller: the cluster's records in, what proxies are told over real gRPC out.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressText } from "../../../src/api/address.ts";
import { Get, GetProfile } from "../../../src/api/destination.ts";
import { STATUS } from "../../../src/api/grpc-status.ts";
import { durationMs } from "../../../src/api/time.ts";
import { DestinationIndex } from "../../../src/controller/destination/index.ts";
import { profileRecord } from "../../../src/controller/destination/service-profile.ts";
import type { ServiceProfile } from "../../../src/crds/service-profile.ts";
import { parsePortSet } from "../../../src/util/port-set.ts";
import { until } from "../../support/until.ts";
import { AUTHORITY, added, MESH, pod, removed, service, slice, withServer, workload } from "./rig.ts";

const test = suite("destination");

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
    index.putSlice(slice("web-2", { a: { ip: "10.0.0.1", ready: false } }));
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
    index.putService(service({}, { annotations: { "config.linkerd.io/opaque-ports": "80" } }));
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
  const index = new DestinationIndex(MESH);
  index.putService(service());
  const ips = Object.fromEntries(
    Array.from({ length: 1000 }, (_, i) => [`p${i}`, `10.1.${i >> 8}.${i & 255}`]),
  );
  for (const [name, ip] of Object.entries(ips)) index.putPod(pod(name, ip));
  for (let i = 0; i < 10; i += 1) {
    index.putSlice(slice(`s${i}`, Object.fromEntries(Object.entries(ips).slice(i * 100, i * 100 + 100))));
  }
  const changes: [number, number][] = [];
  const subscription = index.watchEndpoints(
    { namespace: "emoji", service: "web", port: 80 },
    {},
    {
      update: (change) => changes.push([change.added.length, change.removed.length]),
    },
  );
  index.putPod(pod("p5", ips["p5"]!, { annotations: { "config.linkerd.io/inbound-port": "5143" } }));
  // What says nothing to anybody.
  index.putPod(
    pod("p5", ips["p5"]!, {
      resourceVersion: "77",
      annotations: { "config.linkerd.io/inbound-port": "5143" },
    }),
  );
  index.flush();
  index.putSlice(slice("s9", {}));
  index.flush();
  subscription.close();
  assert.equal(changes, [
    [1000, 0],
    [1, 0],
    [0, 100],
  ]);
});

test("a target that a slice names twice is followed until it names it no more", () => {
  const index = new DestinationIndex(MESH);
  index.putService(service());
  index.putPod(pod("a", "10.0.0.1", { ips: ["10.0.0.1", "10.0.0.9"] }));
  const [first] = slice("web-1", { a: "10.0.0.1" }).endpoints;
  const [second] = slice("web-1", { a: "10.0.0.9" }).endpoints;
  const told: number[] = [];
  index.watchEndpoints(
    { namespace: "emoji", service: "web", port: 80 },
    {},
    { update: ({ size }) => told.push(size) },
  );
  const web = slice("web-1", {});
  for (const endpoints of [[first!, second!], [second!]]) {
    index.putSlice({ ...web, endpoints });
    index.flush();
  }
  index.removePod("emoji", "a");
  index.flush();
  assert.equal(told, [0, 2, 1, 0]);
});

const HOUR = (hours: number) => new Date(hours * 3_600_000).toISOString();

test("an address that another pod has now is not told of with the old one's identity", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putPod(pod("a", "10.0.0.1", { creationTimestamp: HOUR(1) }));
    index.putSlice(slice("web-1", { a: { ip: "10.0.0.1", uid: "uid-a" } }));
    const call = client.call(Get, AUTHORITY);
    assert.ok((await call.message(0)).add?.addrs[0]?.tlsIdentity);
    // The new pod has the address; that the old one is gone has not come yet, nor has its slice changed.
    const other = { creationTimestamp: HOUR(2), spec: { serviceAccountName: "other" } };
    index.putPod(pod("b", "10.0.0.1", other));
    assert.equal(removed(await call.message(1)), ["10.0.0.1"]);
    index.removePod("emoji", "a");
    index.putSlice(slice("web-1", { b: { ip: "10.0.0.1", uid: "uid-b" } }));
    await until(() => call.messages.some((each) => each.add && each !== call.messages[0]));
    const identity = call.messages.at(-1)!.add!.addrs[0]!.tlsIdentity?.dnsLikeIdentity?.name;
    assert.match(identity ?? "", /^other\.emoji\./);
    // A pod of the same name that was made anew: the slice still means the old one.
    index.putPod(pod("b", "10.0.0.1", { ...other, uid: "uid-b2", creationTimestamp: HOUR(3) }));
    await until(() => removed(call.messages.at(-2)!).length > 0 || removed(call.messages.at(-1)!).length > 0);
  }));

test("each pod's own number of a named port is told", () =>
  withServer(async ({ index, client }) => {
    index.putService(service({ ports: [{ name: "http", port: 80, targetPort: "web" }] }));
    index.putPod(pod("a", "10.0.0.1"));
    index.putPod(pod("b", "10.0.0.2"));
    index.putSlice(slice("web-1", { a: "10.0.0.1" }, { port: 8080 }));
    index.putSlice(slice("web-2", { b: "10.0.0.2" }, { port: 9090 }));
    const { add } = await client.call(Get, AUTHORITY).message(0);
    const told = add!.addrs.map(({ addr }) => addressText(addr));
    assert.equal(told, [
      { ip: "10.0.0.1", port: 8080 },
      { ip: "10.0.0.2", port: 9090 },
    ]);
  }));

const V6 = "fd00:0:0:0:0:0:0:1";

test("a proxy is told one address of each pod, of a family that it has", () =>
  withServer(async ({ index, client }) => {
    index.putService(service({ ipFamilies: ["IPv4", "IPv6"] }));
    index.putPod(pod("a", "", { ips: ["10.0.0.1", "fd00::1"] }));
    index.putSlice(slice("web-4", { a: "10.0.0.1" }));
    index.putSlice(slice("web-6", { a: "fd00::1" }, { addressType: "IPv6" }));
    for (const [name, ips, expected] of [
      ["four", ["10.0.0.7"], ["10.0.0.1"]],
      ["six", ["fd00::7"], [V6]],
      ["both", ["10.0.0.8", "fd00::8"], ["10.0.0.1"]],
      ["six-first", ["fd00::9", "10.0.0.9"], [V6]],
      ["unknown", undefined, ["10.0.0.1"]],
    ] as const) {
      if (ips) index.putPod(pod(name, "", { ips }));
      const contextToken = JSON.stringify({ ns: "emoji", nodeName: "n", pod: name });
      const call = client.call(Get, { ...AUTHORITY, contextToken });
      assert.equal(added(await call.message(0)), expected, name);
    }
    const profile = await client.call(GetProfile, { path: "[fd00::1]:80" }).message(0);
    assert.equal(addressText(profile.endpoint?.addr), { ip: V6, port: 80 });
  }));

test("a proxy is told the endpoints that are meant for its zone and node, and follows its node", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    for (const name of ["a", "b"]) index.putPod(pod(name, `10.0.0.${name === "a" ? 1 : 2}`));
    index.putNode({ name: "n1", zone: "east" });
    const hinted = {
      a: { ip: "10.0.0.1", forZones: ["east"], node: "n1" },
      b: { ip: "10.0.0.2", forZones: ["west"], zone: "west", node: "n2" },
    };
    index.putSlice(slice("web-1", hinted));
    const contextToken = '{"ns":"emoji","nodeName":"n1","pod":"x"}';
    const call = client.call(Get, { ...AUTHORITY, contextToken });
    const first = await call.message(0);
    assert.equal(added(first), ["10.0.0.1"]);
    assert.is(first.add?.addrs[0]?.metricLabels["zone_locality"], "local");
    const everyone = client.call(Get, { ...AUTHORITY, contextToken: "{broken" });
    assert.equal(added(await everyone.message(0)), ["10.0.0.1", "10.0.0.2"]);
    index.putNode({ name: "n1", zone: "west" });
    assert.equal(added(await call.message(1)), ["10.0.0.2"]);
    assert.equal(removed(await call.message(2)), ["10.0.0.1"]);
    index.putService(service({ internalTrafficPolicy: "Local" }));
    assert.equal(added(await call.message(3)), ["10.0.0.1"]);
    assert.equal(removed(await call.message(4)), ["10.0.0.2"]);
    assert.equal(everyone.messages.length, 1);
  }));

test("endpoints that are ending serve on when no other is ready", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putPod(pod("a", "10.0.0.1"));
    index.putPod(pod("b", "10.0.0.2"));
    const ending = { ip: "10.0.0.1", ready: false, terminating: true };
    index.putSlice(slice("web-1", { a: ending, b: "10.0.0.2" }));
    const call = client.call(Get, AUTHORITY);
    assert.equal(added(await call.message(0)), ["10.0.0.2"]);
    index.putSlice(slice("web-1", { a: ending, b: { ip: "10.0.0.2", ready: false } }));
    assert.equal(added(await call.message(1)), ["10.0.0.1"]);
    assert.equal(removed(await call.message(2)), ["10.0.0.2"]);
  }));

test("a Server makes a port opaque, the oldest one where several select it", () =>
  withServer(async ({ index, client }) => {
    const server = (name: string, created: number, protocol: "opaque" | "HTTP/1") => ({
      namespace: "emoji",
      name,
      created,
      labels: {},
      podSelector: { matchLabels: { app: "db" } },
      externalWorkloadSelector: undefined,
      port: "sql",
      protocol,
      accessPolicy: "deny",
    });
    index.putService(service());
    index.putPod(
      pod("a", "10.0.0.1", {
        labels: { app: "db" },
        spec: { containers: [{ name: "c", ports: [{ name: "sql", containerPort: 8080 }] }] },
      }),
    );
    index.putSlice(slice("web-1", { a: "10.0.0.1" }));
    const call = client.call(Get, AUTHORITY);
    const profile = client.call(GetProfile, { path: "10.0.0.1:8080" });
    const isOpaque = async (at: number) =>
      (await call.message(at)).add!.addrs[0]!.protocolHint?.opaque !== undefined;
    assert.is(await isOpaque(0), false);
    index.putServer(server("late", 2, "opaque"));
    assert.is(await isOpaque(1), true);
    assert.is((await profile.message(1)).opaqueProtocol, true);
    index.putServer(server("early", 1, "HTTP/1"));
    assert.is(await isOpaque(2), false);
    index.removeServer("emoji", "early");
    assert.is(await isOpaque(3), true);
    index.removeServer("emoji", "late");
    assert.is(await isOpaque(4), false);
  }));

test("who has no proxy of ours on the port has no identity", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const call = client.call(Get, AUTHORITY);
    await call.message(0);
    for (const [at, change] of [
      { labels: { "linkerd.io/control-plane-ns": "another-mesh" } },
      { spec: { hostNetwork: true } },
      { meshed: false },
    ].entries()) {
      index.putPod(pod("a", "10.0.0.1", change));
      index.putSlice(slice("web-1", { a: "10.0.0.1" }));
      const { add } = await call.message(at + 1);
      assert.is(add?.addrs[0]?.tlsIdentity, undefined);
      assert.is(add?.addrs[0]?.protocolHint, undefined);
    }
  }));

test("a port of a node that leads to a pod is that pod's", () =>
  withServer(async ({ index, client }) => {
    const ports = [{ containerPort: 8080, hostPort: 30_000 }];
    index.putPod(
      pod("a", "10.0.0.1", {
        spec: { containers: [{ name: "c", ports }] },
        status: { hostIP: "192.168.0.1", hostIPs: [{ ip: "192.168.0.1" }] },
      }),
    );
    const call = client.call(GetProfile, { path: "192.168.0.1:30000" });
    const { endpoint } = await call.message(0);
    assert.equal(addressText(endpoint?.addr), { ip: "10.0.0.1", port: 8080 });
    assert.ok(endpoint?.tlsIdentity);
    assert.is((await client.call(GetProfile, { path: "192.168.0.1:80" }).message(0)).endpoint, undefined);
    index.removePod("emoji", "a");
    assert.is((await call.message(1)).endpoint, undefined);
  }));

test("a pod of a headless Service by name: its endpoint, at any port of its own", () =>
  withServer(async ({ index, client }) => {
    index.putService(service({ clusterIP: "None", clusterIPs: ["None"] }));
    index.putPod(pod("web-0", "10.0.0.1"));
    index.putSlice(slice("s", { "web-0": "10.0.0.1" }));
    const path = "web-0.web.emoji.svc.cluster.local:7000";
    const profile = await client.call(GetProfile, { path }).message(0);
    assert.equal(addressText(profile.endpoint?.addr), { ip: "10.0.0.1", port: 7000 });
    const { add } = await client.call(Get, { path }).message(0);
    assert.equal(
      add!.addrs.map(({ addr }) => addressText(addr)?.port),
      [7000],
    );
  }));

test("a Service that becomes an ExternalName ends its streams", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const call = client.call(Get, AUTHORITY);
    await call.message(0);
    index.putService(service({ type: "ExternalName", externalName: "example.com" }));
    assert.is(await call.end(), STATUS.INVALID_ARGUMENT);
    assert.match(call.text, /ExternalName/);
    assert.is(index.watched, 0);
  }));

test("ExternalWorkloads are endpoints with the identity that they say", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.putSlice(slice("linkerd-external-web-x", { vm: { ip: "192.0.2.7", kind: "ExternalWorkload" } }));
    const call = client.call(Get, AUTHORITY);
    assert.equal((await call.message(0)).noEndpoints, { exists: true });
    index.putWorkload(workload("vm", "192.0.2.7"));
    const told = (await call.message(1)).add!.addrs[0]!;
    assert.is(told.tlsIdentity?.uriLikeIdentity?.uri, "spiffe://root.linkerd.cluster.local/vm");
    assert.is(told.tlsIdentity?.serverName?.name, "vm.cluster.local");
    assert.is(told.protocolHint?.opaqueTransport?.inboundPort, 4143);
    assert.is(told.resourceRef?.resource?.kind, "ExternalWorkload");
    assert.is(told.metricLabels["external_workload"], "vm");
    const profile = await client.call(GetProfile, { path: "192.0.2.7:9090" }).message(0);
    assert.is(profile.endpoint?.resourceRef?.resource?.name, "vm");
    index.putWorkload(workload("vm", "192.0.2.7", {}, false));
    assert.equal(removed(await call.message(2)), ["192.0.2.7"]);
  }));

test("the gateway of another cluster has its identity, and is asked for what it calls the Service", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const annotations = {
      "mirror.linkerd.io/remote-gateway-identity": "gateway.identity",
      "mirror.linkerd.io/remote-svc-fq-name": "web.emoji.svc.remote:80",
    };
    index.putSlice(slice("web-east", { gateway: "203.0.113.1" }, { annotations, targets: false }));
    const [told] = (await client.call(Get, AUTHORITY).message(0)).add!.addrs;
    assert.is(told!.tlsIdentity?.dnsLikeIdentity?.name, "gateway.identity");
    assert.is(told!.authorityOverride?.authorityOverride, "web.emoji.svc.remote:80");
  }));

test("a Service that stands for another cluster's has the endpoints of that", async () => {
  const remote = new DestinationIndex({ ...MESH, trustDomain: "east" });
  remote.putService(service());
  remote.putPod(pod("far", "10.9.0.1"));
  remote.putSlice(slice("s", { far: "10.9.0.1" }));
  const labels = (cluster: string) => ({
    "multicluster.linkerd.io/remote-discovery": cluster,
    "multicluster.linkerd.io/remote-service": "web",
  });
  await withServer(
    async ({ index, client }) => {
      index.putService(service({}, { name: "web-east", labels: labels("east") }));
      index.putService(service({}, { name: "web-west", labels: labels("west") }));
      const east = client.call(Get, { path: "web-east.emoji.svc.cluster.local:80" });
      assert.equal(added(await east.message(0)), ["10.9.0.1"]);
      const west = client.call(Get, { path: "web-west.emoji.svc.cluster.local:80" });
      assert.is(await west.end(), STATUS.NOT_FOUND);
      assert.match(west.text, /west, which is not linked/);
    },
    new Map([["east", remote]]),
  );
});

const profileOf = (namespace: string, spec: ServiceProfile["spec"]) =>
  profileRecord({ metadata: { name: "web.emoji.svc.cluster.local", namespace }, spec } as ServiceProfile);

test("a ServiceProfile: routes, budget, overrides; the client's own before the Service's", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const server = client.call(GetProfile, { path: "10.96.1.1:80" });
    const own = client.call(GetProfile, { ...AUTHORITY, contextToken: '{"ns":"client","pod":"x"}' });
    assert.equal((await server.message(0)).routes, []);
    await own.message(0);
    index.putProfile(
      profileOf("emoji", {
        routes: [
          {
            name: "GET /books",
            condition: { method: "get", pathRegex: "/books/.*", not: { pathRegex: "/books/0" } },
            responseClasses: [{ condition: { status: { min: 500 } }, isFailure: true }],
            isRetryable: true,
            timeout: "250ms",
          },
        ],
        retryBudget: { retryRatio: 0.5, minRetriesPerSecond: 3, ttl: "1m" },
        dstOverrides: [
          { authority: "v2.emoji.svc.cluster.local", weight: "500m" },
          { authority: "v1.emoji.svc.cluster.local:8080", weight: 1 },
        ],
        opaquePorts: ["80"],
      }),
    );
    const told = await server.message(1);
    assert.is(told.opaqueProtocol, true);
    assert.is(told.profileRef?.resource?.namespace, "emoji");
    const [route] = told.routes;
    assert.equal({ ...route!.metricsLabels }, { route: "GET /books" });
    assert.is(route!.isRetryable, true);
    assert.is(durationMs(route!.timeout!), 250);
    const parts = route!.condition!.all!.matches;
    assert.is(parts.find((part) => part.method)?.method?.registered, 0);
    assert.ok(parts.some((part) => part.path?.regex === "/books/.*"));
    assert.is(parts.find((part) => part.not)?.not?.path?.regex, "/books/0");
    assert.equal(route!.responseClasses[0]!.condition?.status, { min: 500, max: 599 });
    assert.is(told.retryBudget?.minRetriesPerSecond, 3);
    assert.equal(
      told.dstOverrides.map(({ authority, weight, backendRef }) => [
        authority,
        weight,
        backendRef?.resource?.name,
      ]),
      [
        ["v2.emoji.svc.cluster.local:80", 5_000, "v2"],
        ["v1.emoji.svc.cluster.local:8080", 10_000, "v1"],
      ],
    );
    assert.is((await own.message(1)).routes[0]!.metricsLabels["route"], "GET /books");
    index.putProfile(profileOf("client", { routes: [{ name: "mine", condition: { method: "PURGE" } }] }));
    const mine = await own.message(2);
    assert.equal(
      mine.routes.map((each) => [each.metricsLabels["route"], each.condition?.method?.unregistered]),
      [["mine", "PURGE"]],
    );
    index.removeProfile("client", "web.emoji.svc.cluster.local");
    assert.is((await own.message(3)).routes[0]!.metricsLabels["route"], "GET /books");
    index.removeProfile("emoji", "web.emoji.svc.cluster.local");
    assert.equal((await server.message(2)).routes, []);
  }));

test("a TrafficSplit is the policy's, and a profile's only beside its routes, unless the profile says where", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const call = client.call(GetProfile, AUTHORITY);
    await call.message(0);
    const split = (name: string, created: number, backend: string) => ({
      namespace: "emoji",
      name,
      created,
      service: "web",
      backends: [{ service: backend, weight: 9 }],
    });
    const authorities = async (at: number) =>
      (await call.message(at)).dstOverrides.map(({ authority }) => authority);
    index.putSplit(split("younger", 2, "web-b"));
    index.flush();
    // Nothing that would make a proxy pass its policy over.
    assert.equal(await authorities(0), []);
    const routes = [{ name: "all", condition: { method: "GET" } }];
    index.putProfile(profileOf("emoji", { routes }));
    assert.equal(await authorities(1), ["web-b.emoji.svc.cluster.local:80"]);
    index.putSplit(split("older", 1, "web-a"));
    assert.equal(await authorities(2), ["web-a.emoji.svc.cluster.local:80"]);
    index.putProfile(
      profileOf("emoji", { routes, dstOverrides: [{ authority: "x.emoji.svc.cluster.local", weight: 1 }] }),
    );
    assert.equal(await authorities(3), ["x.emoji.svc.cluster.local:80"]);
    index.removeProfile("emoji", "web.emoji.svc.cluster.local");
    index.removeSplit("emoji", "older");
    index.removeSplit("emoji", "younger");
    await until(() => call.messages.at(-1)!.dstOverrides.length === 0);
  }));

test.run();
