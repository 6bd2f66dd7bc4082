// The rules that hold once the faults have stopped and time has passed: everything is as a control plane from scratch
// would have it, nothing more is written, and of whoever leaves nothing stays.
import { addressOf } from "../../src/api/address.ts";
import { GetProfile } from "../../src/api/destination.ts";
import { WatchPort } from "../../src/api/inbound.ts";
import { Watch as WatchOutbound } from "../../src/api/outbound.ts";
import { serviceRecord } from "../../src/controller/cluster-objects.ts";
import { MANAGED_BY_LABEL, sliceChanges } from "../../src/controller/destination/external-slices.ts";
import { workloadRecord } from "../../src/controller/destination/external-workload.ts";
import type { EndpointSlice, Service } from "../../src/kube/types.ts";
import { COLLECTION, PORT } from "./cluster.ts";
import { endpointsOf, FreshControlPlane, textOf } from "./oracle.ts";
import type { VirtualProxy } from "./proxy.ts";
import type { Finding, Rule } from "./rules.ts";
import type { World } from "./world.ts";

/** What is not as a control plane from scratch would have it. */
export function unsettled(world: World): Finding[] {
  const fresh = new FreshControlPlane(world.api);
  return [
    ...[...world.proxies.values()].flatMap((proxy) => staleIn(world, fresh, proxy)),
    ...fresh.statuses().map((what) => ({ rule: "statuses" as const, what })),
    ...fresh
      .warnings()
      .filter(({ involved, reason, message }) => {
        const isOf = (event: typeof involved) =>
          event.kind === involved.kind &&
          event.namespace === involved.namespace &&
          event.name === involved.name &&
          event.uid === involved.uid;
        return !world.api.events.some(
          (event) => event.reason === reason && event.message === message && isOf(event.involvedObject),
        );
      })
      .map(({ involved, message }) => ({
        rule: "events" as const,
        what: `nobody was told of ${involved.kind} ${involved.namespace}/${involved.name}: ${message}`,
      })),
    ...staleSlices(world),
    ...leaderless(world),
  ];
}

/** What a proxy holds that is not as it should be. */
function staleIn(world: World, fresh: FreshControlPlane, proxy: VirtualProxy): Finding[] {
  const { api } = world;
  const found: Finding[] = [];
  const same = (rule: Rule, what: string, held: string | undefined, wanted: string | undefined) => {
    if (held === wanted) return;
    found.push({
      rule,
      what: `${proxy.name} ${what} is stale\n    it holds  ${held}\n    should be ${wanted}`,
    });
  };
  const { namespace, name } = proxy.pod.metadata;
  const context = JSON.stringify({ ns: namespace, nodeName: proxy.pod.spec.nodeName, pod: name });
  const workload = JSON.stringify({ ns: namespace, pod: name });
  for (const [path, watch] of proxy.endpoints) {
    const [service, ns] = path.split(".") as [string, string];
    const wanted = endpointsOf(api, ns, service);
    const held = new Map(
      [...(watch.current?.endpoints ?? [])].map(([key, { tlsIdentity }]) => [
        key,
        tlsIdentity?.dnsLikeIdentity?.name ?? tlsIdentity?.uriLikeIdentity?.uri ?? "",
      ]),
    );
    same("endpoints", `endpoints of ${path}`, sorted(held), sorted(wanted ?? new Map()));
    if (watch.current?.exists !== (wanted !== undefined))
      found.push({
        rule: "endpoints",
        what: `${proxy.name} takes ${path} for ${watch.current?.exists ? "something" : "nothing"}`,
      });
  }
  for (const [address, watch] of proxy.profiles)
    same(
      "profiles",
      `profile of ${address}`,
      watch.current ? textOf(watch.current) : undefined,
      fresh.first(GetProfile, { path: address, contextToken: context }),
    );
  for (const [ip, watch] of proxy.outbound)
    same(
      "outbound",
      `outbound policy of ${ip}`,
      watch.current ? textOf(watch.current) : undefined,
      fresh.first(WatchOutbound, { sourceWorkload: workload, addr: addressOf(ip, 80) }),
    );
  same(
    "inbound",
    "policy of its port",
    proxy.server?.current ? textOf(proxy.server.current) : undefined,
    fresh.first(WatchPort, { workload, port: PORT }),
  );
  return found;
}

/** Services whose slices of external workloads are not as they should be. */
function staleSlices({ api, cluster }: World): Finding[] {
  const workloads = api.list(COLLECTION.workloads).map((each) => workloadRecord(each as never));
  return cluster.apps.flatMap(({ namespace, name }) => {
    const service = api.get<Service>(COLLECTION.services, namespace, name);
    const own = api
      .list<EndpointSlice>(COLLECTION.slices)
      .filter(
        ({ metadata }) =>
          metadata.namespace === namespace &&
          metadata.labels?.["kubernetes.io/service-name"] === name &&
          metadata.labels?.[MANAGED_BY_LABEL] !== undefined,
      );
    const inside = workloads.filter((each) => each.namespace === namespace);
    const { create, update, remove } = sliceChanges(service && serviceRecord(service), inside, own);
    return create.length + update.length + remove.length > 0
      ? [
          {
            rule: "slices" as const,
            what: `the slices of external workloads of ${namespace}/${name} are not as they should be`,
          },
        ]
      : [];
  });
}

/** Leases that nobody holds. */
function leaderless({ replicas }: World): Finding[] {
  const led = new Map<string, boolean>();
  for (const { elections } of replicas.values())
    for (const { name, election } of elections) led.set(name, led.get(name) || election.isLeader);
  return [...led].flatMap(([name, has]) =>
    has ? [] : [{ rule: "leases" as const, what: `nobody holds the Lease ${name}` }],
  );
}

/** What is left of proxies when none is there any more. */
export function remains({ replicas, network }: World): Finding[] {
  const found: Finding[] = [];
  const left = (what: string) => found.push({ rule: "remains", what });
  for (const { name, destination, policy } of replicas.values()) {
    if (destination && destination.index.watched > 0)
      left(`${name} still has ${destination.index.watched} views, and nobody watches`);
    if (policy && policy.index.watched.ports + policy.index.watched.policies > 0)
      left(`${name} still has ${textOf(policy.index.watched)}, and nobody watches`);
  }
  for (const { machine } of network.sockets)
    if (replicas.has(machine.name)) left(`${machine.name} still has a connection`);
  return found;
}

const sorted = (map: ReadonlyMap<string, string>): string => JSON.stringify([...map].sort());
