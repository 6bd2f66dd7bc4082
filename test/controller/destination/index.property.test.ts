// Whatever happened to the cluster, in whatever order: who listened all the time knows what a fresh look would tell, and
// no address is told of with the identity of somebody who does not have it.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PodRecord } from "../../../src/controller/cluster-objects.ts";
import { addressFor } from "../../../src/controller/destination/address.ts";
import {
  type Client,
  DestinationIndex,
  type EndpointChange,
  type EndpointQuery,
  type Profile,
  type ProfileQuery,
} from "../../../src/controller/destination/index.ts";
import type { ServerRecord } from "../../../src/rules/policy-records.ts";
import { MESH, pod, service, slice, workload } from "./rig.ts";

const test = suite("destination index, any sequence of changes");

const NAMES = ["a", "b", "c"] as const;
const IPS = ["10.0.0.1", "10.0.0.2", "fd00::1"] as const;
const NODES = ["n1", "n2"] as const;

/** A change, as what it does to an index. */
interface Change {
  readonly what: string;
  apply(index: DestinationIndex): void;
}

const name = fc.constantFrom(...NAMES);
const ip = fc.constantFrom(...IPS);
const node = fc.constantFrom(...NODES);
const zone = fc.constantFrom("east", "west");

const putPod = fc
  .record({
    name,
    ips: fc.uniqueArray(ip, { maxLength: 2 }),
    account: fc.constantFrom("web", "other"),
    uid: fc.constantFrom("1", "2"),
    meshed: fc.boolean(),
    done: fc.boolean(),
    hostNetwork: fc.boolean(),
    created: fc.integer({ min: 1, max: 3 }),
    node,
  })
  .map(
    (p): Change => ({
      what: `pod ${JSON.stringify(p)}`,
      apply: (index) =>
        index.putPod(
          pod(p.name, "", {
            ips: p.ips,
            uid: `${p.name}-${p.uid}`,
            meshed: p.meshed,
            phase: p.done ? "Succeeded" : "Running",
            labels: { app: "web" },
            creationTimestamp: new Date(p.created * 1000).toISOString(),
            spec: { serviceAccountName: p.account, nodeName: p.node, hostNetwork: p.hostNetwork },
          }),
        ),
    }),
  );

const putSlice = fc
  .record({
    name: fc.constantFrom("s1", "s2"),
    port: fc.constantFrom(8080, 9090),
    v6: fc.boolean(),
    endpoints: fc.uniqueArray(
      fc.record({
        target: name,
        ip,
        uid: fc.constantFrom(undefined, "1", "2"),
        ready: fc.boolean(),
        terminating: fc.boolean(),
        zone,
        forZones: fc.constantFrom(undefined, ["east"], ["west"]),
        node,
        kind: fc.constantFrom("Pod", "Pod", "Pod", "ExternalWorkload"),
      }),
      { maxLength: 3, selector: ({ target }) => target },
    ),
  })
  .map(
    (s): Change => ({
      what: `slice ${JSON.stringify(s)}`,
      apply: (index) =>
        index.putSlice(
          slice(
            s.name,
            Object.fromEntries(
              s.endpoints.map(({ target, uid, forZones, ...rest }) => [
                target,
                {
                  ...rest,
                  ...(uid ? { uid: `${target}-${uid}` } : {}),
                  ...(forZones ? { forZones } : {}),
                },
              ]),
            ),
            { port: s.port, addressType: s.v6 ? "IPv6" : "IPv4" },
          ),
        ),
    }),
  );

const server = (protocol: ServerRecord["protocol"]): ServerRecord => ({
  namespace: "emoji",
  name: "server",
  created: 0,
  labels: {},
  podSelector: { matchLabels: { app: "web" } },
  externalWorkloadSelector: undefined,
  port: 8080,
  protocol,
  accessPolicy: "deny",
});

const simple = (what: string, apply: (index: DestinationIndex) => void): fc.Arbitrary<Change> =>
  fc.constant({ what, apply });

const change: fc.Arbitrary<Change> = fc.oneof(
  { weight: 6, arbitrary: putPod },
  { weight: 6, arbitrary: putSlice },
  {
    weight: 2,
    arbitrary: name.map((n): Change => ({ what: `no pod ${n}`, apply: (i) => i.removePod("emoji", n) })),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom("s1", "s2").map(
      (n): Change => ({
        what: `no slice ${n}`,
        apply: (i) => i.removeSlice("emoji", n),
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({
        policy: fc.constantFrom("Local", "Cluster"),
        distribution: fc.constantFrom(undefined, "PreferClose", "PreferSameNode"),
        headless: fc.boolean(),
      })
      .map(
        (s): Change => ({
          what: `service ${JSON.stringify(s)}`,
          apply: (i) =>
            i.putService(
              service({
                internalTrafficPolicy: s.policy,
                ...(s.distribution ? { trafficDistribution: s.distribution } : {}),
                ...(s.headless ? { clusterIP: "None", clusterIPs: ["None"] } : {}),
              }),
            ),
        }),
      ),
  },
  { weight: 1, arbitrary: simple("no service", (i) => i.removeService("emoji", "web")) },
  { weight: 1, arbitrary: simple("external name", (i) => i.putService(service({ type: "ExternalName" }))) },
  { weight: 1, arbitrary: simple("server opaque", (i) => i.putServer(server("opaque"))) },
  { weight: 1, arbitrary: simple("server http", (i) => i.putServer(server("HTTP/1"))) },
  { weight: 1, arbitrary: simple("no server", (i) => i.removeServer("emoji", "server")) },
  {
    weight: 1,
    arbitrary: fc.record({ node, zone }).map(
      (n): Change => ({
        what: `node ${JSON.stringify(n)}`,
        apply: (i) => i.putNode({ name: n.node, zone: n.zone }),
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: node.map((n): Change => ({ what: `no node ${n}`, apply: (i) => i.removeNode(n) })),
  },
  {
    weight: 1,
    arbitrary: fc.record({ name, ip, ready: fc.boolean() }).map(
      (w): Change => ({
        what: `workload ${JSON.stringify(w)}`,
        apply: (i) => i.putWorkload(workload(w.name, w.ip, {}, w.ready)),
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: name.map(
      (n): Change => ({ what: `no workload ${n}`, apply: (i) => i.removeWorkload("emoji", n) }),
    ),
  },
);

const CLIENTS: readonly Client[] = [
  {},
  { namespace: "emoji", nodeName: "n1" },
  { namespace: "emoji", nodeName: "n2" },
];
const QUERIES: readonly EndpointQuery[] = [
  { namespace: "emoji", service: "web", port: 80 },
  { namespace: "emoji", service: "web", port: 80, hostname: "a" },
  { namespace: "emoji", service: "web", port: 7000 },
];
const PROFILES: readonly ProfileQuery[] = [
  { kind: "ip", ip: "10.0.0.1", port: 8080 },
  { kind: "ip", ip: "10.96.1.1", port: 80 },
  { kind: "service", namespace: "emoji", name: "web", port: 80 },
  { kind: "service", namespace: "emoji", name: "web", hostname: "a", port: 8080 },
];

/** What a proxy knows of endpoints, by what it was told. */
class Follower {
  readonly known = new Map<string, string>();
  readonly told: EndpointChange[] = [];
  exists: boolean | undefined;
  update(change: EndpointChange): void {
    this.told.push(change);
    for (const endpoint of change.added)
      this.known.set(`${endpoint.ip} ${endpoint.port}`, JSON.stringify(addressFor(endpoint, MESH), big));
    for (const { ip: gone, port } of change.removed)
      assert.ok(this.known.delete(`${gone} ${port}`), "what was not there is told to be gone");
    assert.is(this.known.size, change.size, "the size that was told");
    this.exists = change.exists;
  }
}

class ProfileFollower {
  current = "";
  update({ service: found, endpoint, opaque }: Profile): void {
    this.current = JSON.stringify([found, endpoint && addressFor(endpoint, MESH), opaque], big);
  }
}

const big = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

function listen(index: DestinationIndex): { proxies: Follower[]; profiles: ProfileFollower[] } {
  const proxies = QUERIES.flatMap((query) =>
    CLIENTS.map((client) => {
      const proxy = new Follower();
      index.watchEndpoints(query, client, proxy);
      return proxy;
    }),
  );
  const profiles = PROFILES.map((query) => {
    const proxy = new ProfileFollower();
    index.watchProfile(query, {}, proxy);
    return proxy;
  });
  return { proxies, profiles };
}

const quiet = () => {};

test("who listened all the time knows what a fresh look tells", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(change, fc.boolean()), { maxLength: 30 }), (changes) => {
      const index = new DestinationIndex(MESH, quiet);
      const early = listen(index);
      const fresh = new DestinationIndex(MESH, quiet);
      for (const [{ apply }, flush] of changes) {
        apply(index);
        apply(fresh);
        if (flush) index.flush();
      }
      index.flush();
      const late = listen(fresh);
      for (const [at, proxy] of early.proxies.entries()) {
        const expected = late.proxies[at]!;
        assert.equal([...proxy.known].sort(), [...expected.known].sort());
        assert.is(proxy.exists, expected.exists);
      }
      assert.equal(
        early.profiles.map(({ current }) => current),
        late.profiles.map(({ current }) => current),
      );
      for (const { told } of early.proxies)
        for (const [at, { added, removed, exists, externalName }] of told.entries())
          if (at > 0)
            assert.ok(
              added.length + removed.length > 0 ||
                exists !== told[at - 1]!.exists ||
                externalName !== told[at - 1]!.externalName,
              "nothing is told when nothing changed",
            );
    }),
    { numRuns: 400 },
  );
});

test("an identity is told only with an address that its pod alone has, or has last", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const pods = new Map<string, PodRecord>();
      const watching = new DestinationIndex(MESH, quiet);
      const original = watching.putPod.bind(watching);
      // The pods as the cluster has them now, noted beside the index.
      watching.putPod = (record) => {
        pods.set(record.name, record);
        original(record);
      };
      const remove = watching.removePod.bind(watching);
      watching.removePod = (namespace, gone) => {
        pods.delete(gone);
        remove(namespace, gone);
      };
      const { proxies } = listen(watching);
      for (const { apply } of changes) {
        apply(watching);
        watching.flush();
        for (const { known } of proxies) {
          for (const [key, text] of known) {
            const { tlsIdentity, resourceRef } = JSON.parse(text) as {
              tlsIdentity?: object;
              resourceRef?: { resource: { kind: string; name: string } };
            };
            if (!tlsIdentity || resourceRef?.resource.kind !== "Pod") continue;
            const address = key.split(" ")[0]!;
            const owner = pods.get(resourceRef.resource.name);
            assert.ok(owner, "its pod exists");
            assert.ok(owner!.live && !owner!.hostNetwork && owner!.ips.includes(address));
            assert.is(owner!.controlPlane, "mesh-system");
            for (const other of pods.values()) {
              if (other === owner || !other.live || other.hostNetwork || !other.ips.includes(address))
                continue;
              assert.ok(other.created < owner!.created, "nobody newer has the address");
            }
          }
        }
      }
    }),
    { numRuns: 400 },
  );
});

test.run();
