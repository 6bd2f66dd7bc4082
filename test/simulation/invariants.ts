// The rules that a mesh keeps whatever happens: some at every step, some once the faults have stopped.

import { addressOf } from "../../src/api/address.ts";
import { GetProfile } from "../../src/api/destination.ts";
import { WatchPort } from "../../src/api/inbound.ts";
import { Watch as WatchOutbound } from "../../src/api/outbound.ts";
import { type PodRecord, serviceRecord } from "../../src/controller/cluster-objects.ts";
import { isPod } from "../../src/controller/destination/address.ts";
import { MANAGED_BY_LABEL, sliceChanges } from "../../src/controller/destination/external-slices.ts";
import { workloadRecord } from "../../src/controller/destination/external-workload.ts";
import type { EndpointSlice, KubeObject, Service } from "../../src/kube/types.ts";
import { type Client, compileAuthorization } from "../../src/rules/authorization.ts";
import { API } from "./api-server.ts";
import { COLLECTION, identityOf, PORT } from "./cluster.ts";
import { MAX_QUEUED } from "./network.ts";
import { endpointsOf, FreshControlPlane, POLICY_COLLECTIONS, policyOf, textOf } from "./oracle.ts";
import type { VirtualProxy } from "./proxy.ts";
import type { Replica } from "./replica.ts";
import { EPOCH } from "./time.ts";
import type { World } from "./world.ts";

/** A replica tells of what it knows within this, ms: its pace, and a turn. */
const PACE = 100;
/** A message was made at most this long before it was sent, ms. */
const MAKING = 200;
/** With identity in reach for this long, a proxy has a valid certificate, ms. */
const CERTIFYING = 45_000;
/** More mixtures of collections than this are not tried. */
const MAX_MIXTURES = 3_000;

/** Who might come; a policy's decision about all of them is a set of bits. */
const CLIENTS: readonly Client[] = [
  { ip: "10.1.0.9", tls: false },
  { ip: "192.168.0.9", tls: false },
  { ip: "8.8.8.8", tls: false },
  ...["a web", "a db", "b web"].map((each) => {
    const [namespace, name] = each.split(" ") as [string, string];
    return { ip: "10.1.0.9", tls: true, identity: identityOf(namespace, name) };
  }),
];

type Authorizations = Parameters<typeof compileAuthorization>[0];

/** Whom the authorizations admit. */
function admitted(authorizations: Authorizations): number {
  const compiled = compileAuthorization(authorizations);
  return CLIENTS.reduce((bits, client, at) => (compiled.check(client).allowed ? bits | (1 << at) : bits), 0);
}

interface Decision {
  readonly version: number;
  readonly bits: number;
}

export class Invariants {
  readonly #world: World;
  /** The policy of the cluster as the API server has it, and what each pod's port was open for since when. */
  readonly #policy = policyOf([]);
  readonly #decisions = new Map<string, Decision[]>();
  #version = 0;
  /** Since when a replica's view and what it told disagree. */
  readonly #strays = new Map<string, number>();
  readonly #reachable = new Map<string, number>();
  /** Words on policy that were found to be no wider than the rules, by the version up to which. */
  readonly #checked = new WeakMap<object, number>();

  constructor(world: World) {
    this.#world = world;
    for (const collection of POLICY_COLLECTIONS)
      for (const object of world.api.list(collection)) this.#follow(collection, "ADDED", object);
    this.#decide(0);
    world.api.onChange = ({ collection, type, object, version }) => {
      world.trace(`${type} ${collection} ${object.metadata.namespace ?? ""}/${object.metadata.name}`);
      if (!POLICY_COLLECTIONS.includes(collection)) return;
      this.#version = version;
      this.#follow(collection, type, object);
      this.#decide(version);
    };
    world.onWrite = ({ machine, what }) => {
      if (what === "lease") return;
      const rivals = this.#leaders().filter(({ replica }) => replica.name !== machine);
      const role = world.replicas.get(machine)?.role;
      for (const { replica } of rivals)
        if (replica.role === role) world.break(`${machine} writes a ${what} while ${replica.name} leads`);
    };
    world.onCertified = (proxy, expiresAt) => {
      const { now } = world.scheduler;
      const recent = world.authority.history.filter(({ until }) => until >= now - 30_000);
      if (!recent.some(({ expires }) => expiresAt <= expires))
        world.break(`${proxy.name} was given a certificate that outlives every issuer in use`);
      if (expiresAt <= EPOCH + now - 20_000) world.break(`${proxy.name} was given an expired certificate`);
    };
  }

  // ---- at every step ----

  check(): void {
    this.#addresses();
    this.#leadership();
    this.#authorization();
    this.#certificates();
    this.#bounds();
  }

  /** No replica goes on telling of an address that, as it knows itself, is not that pod's. */
  #addresses(): void {
    const { replicas, scheduler } = this.#world;
    for (const replica of replicas.values()) {
      if (!replica.destination) continue;
      const owners = new Map<string, PodRecord>();
      for (const { record } of replica.pods() as Iterable<{ record: PodRecord }>) {
        if (!record.live) continue;
        for (const ip of record.ips) {
          const other = owners.get(ip);
          if (!other || other.created < record.created) owners.set(ip, record);
        }
      }
      for (const probe of replica.probes)
        for (const [address, { ip, target }] of probe.told) {
          const key = `${replica.name} ${address} ${target?.uid}`;
          if (!target || !isPod(target) || owners.get(ip)?.uid === target.uid) {
            this.#strays.delete(key);
            continue;
          }
          const since = this.#strays.get(key) ?? scheduler.now;
          this.#strays.set(key, since);
          if (scheduler.now - since > PACE)
            this.#world.break(
              `${replica.name} tells of ${address} as ${target.namespace}/${target.name}, and knows that it is ${owners.get(ip)?.name ?? "nobody"}'s`,
            );
        }
    }
  }

  #leaders(): { readonly replica: Replica; readonly lease: string }[] {
    return [...this.#world.replicas.values()].flatMap((replica) =>
      replica.elections
        .filter(({ election }) => election.isLeader)
        .map(({ name }) => ({ replica, lease: name })),
    );
  }

  #leadership(): void {
    const leaders = new Map<string, string>();
    for (const { replica, lease } of this.#leaders()) {
      const other = leaders.get(lease);
      if (other) this.#world.break(`${other} and ${replica.name} both lead ${lease}`);
      leaders.set(lease, replica.name);
    }
  }

  /** The policy of a proxy's port admits nobody whom no state since that it was made from admitted. */
  #authorization(): void {
    for (const proxy of this.#world.proxies.values()) {
      const word = proxy.serverWord;
      if (!word || this.#checked.get(word) !== undefined) continue;
      this.#checked.set(word, 1);
      const bits = admitted(word.server.authorizations);
      const { namespace, name } = proxy.pod.metadata;
      const from = this.#knownAt(word.replica, word.sentAt - MAKING);
      const since = Math.min(...from.values());
      const decisions = this.#decisions.get(`${namespace}/${name}`) ?? [];
      let allowed = 0;
      decisions.forEach((decision, at) => {
        const next = decisions[at + 1];
        if (!next || next.version > since) allowed |= decision.bits;
      });
      let wider = bits & ~allowed;
      if (wider !== 0) wider &= ~this.#mixed(proxy, from);
      if (wider === 0) continue;
      const clients = CLIENTS.filter((_, at) => wider & (1 << at)).map(({ ip, identity }) => identity ?? ip);
      this.#world.break(
        `${proxy.name} admits ${clients.join(", ")} by ${textOf(word.server.labels)} of ${word.replica}, which no rule since version ${since} did`,
      );
    }
  }

  /** Up to which version a replica knew each collection: nothing before that counts. */
  #knownAt(replica: string, at: number): Map<string, number> {
    const { api } = this.#world;
    return new Map(
      POLICY_COLLECTIONS.map((collection) => {
        const told = api.told.get(`${replica} ${collection}`) ?? [];
        let version = 0;
        for (const each of told) if (each.at <= at) version = Math.max(version, each.version);
        const next = api.changes.find((each) => each.collection === collection && each.version > version);
        return [collection, next ? next.version - 1 : Number.POSITIVE_INFINITY];
      }),
    );
  }

  /** Streams of different collections do not wait for each other: what any mixture of their states admits. */
  #mixed(proxy: VirtualProxy, from: ReadonlyMap<string, number>): number {
    const { api } = this.#world;
    const { namespace, name } = proxy.pod.metadata;
    type State = readonly (readonly [string, KubeObject])[];
    const choices: State[][] = [];
    let count = 1;
    for (const collection of POLICY_COLLECTIONS) {
      const changes = api.changes.filter((each) => each.collection === collection);
      const objects = new Map<string, KubeObject>();
      const states: State[] = [];
      const keep = () => states.push([...objects.values()].map((object) => [collection, object] as const));
      for (const { version, type, object } of changes) {
        // As it was when the replica knew it, and after each change since.
        if (version > from.get(collection)! && states.length === 0) keep();
        const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
        if (type === "DELETED") objects.delete(key);
        else objects.set(key, object);
        if (version > from.get(collection)!) keep();
      }
      if (states.length === 0) keep();
      choices.push(states);
      count *= states.length;
    }
    // So long a silence is no news; there is nothing to be said about it.
    if (count > MAX_MIXTURES) return -1;
    let bits = 0;
    for (let at = 0; at < count; at += 1) {
      let rest = at;
      const objects = choices.flatMap((states) => {
        const state = states[rest % states.length]!;
        rest = Math.floor(rest / states.length);
        return state;
      });
      policyOf(objects).watchServer({ kind: "Pod", namespace: namespace!, name }, PORT, (server) => {
        if (server) bits |= admitted(server.authorizations);
      })();
    }
    return bits;
  }

  #follow(collection: string, type: string, object: KubeObject): void {
    const [[, kinded]] = [[collection, policyOf([[collection, object]]).objects[0]!]] as const;
    if (type === "DELETED") this.#policy.delete(kinded);
    else this.#policy.apply(kinded);
  }

  /** Follows what the policy of the cluster says of each pod's port. */
  #decide(version: number): void {
    this.#version = version;
    for (const { metadata } of this.#world.cluster.pods()) {
      const key = `${metadata.namespace}/${metadata.name}`;
      if (this.#decisions.has(key)) continue;
      const known: Decision[] = [];
      this.#decisions.set(key, known);
      const pod = { kind: "Pod", namespace: metadata.namespace!, name: metadata.name } as const;
      this.#policy.watchServer(pod, PORT, (server) =>
        known.push({ version: this.#version, bits: server ? admitted(server.authorizations) : 0 }),
      );
    }
  }

  /** A proxy that could have had a valid certificate has one. */
  #certificates(): void {
    const { proxies, replicas, network, scheduler, authority } = this.#world;
    for (const proxy of proxies.values()) {
      const reachable =
        proxy.lag === 0 &&
        !proxy.deaf &&
        authority.usable(scheduler.now + 180_000) &&
        [...replicas.values()]
          .filter(({ role, leaving }) => role === "identity" && !leaving)
          .every(
            ({ name, ready, lag }) =>
              ready &&
              lag === 0 &&
              !network.isCut(name, API) &&
              !network.isCut(name, proxy.name) &&
              !this.#world.api.failing.has(name),
          );
      if (!reachable) {
        this.#reachable.delete(proxy.name);
        continue;
      }
      const since = this.#reachable.get(proxy.name) ?? scheduler.now;
      this.#reachable.set(proxy.name, since);
      const expires = proxy.identity?.current?.expiresAt ?? 0;
      if (scheduler.now - since > CERTIFYING && expires <= EPOCH + scheduler.now)
        this.#world.break(`${proxy.name} has no valid certificate, and could have one since ${since}`);
    }
  }

  #bounds(): void {
    const { network, replicas } = this.#world;
    for (const socket of network.sockets)
      if (replicas.has(socket.machine.name) && socket.writableLength > MAX_QUEUED)
        this.#world.break(`${socket.writableLength} bytes wait for ${socket.peer.machine.name}`);
    for (const { name, destination } of replicas.values()) {
      // Each path and address of the simulated cluster, for each namespace.
      if (destination && destination.index.watched > 100)
        this.#world.break(`${name} has ${destination.index.watched} views`);
    }
  }

  // ---- when the faults have stopped, and time has passed ----

  /** What is not yet as a control plane from scratch would have it. */
  unsettled(): string[] {
    const { api, proxies, cluster } = this.#world;
    const found: string[] = [];
    const same = (what: string, held: string | undefined, wanted: string | undefined) => {
      if (held !== wanted) found.push(`${what} is stale\n    it holds  ${held}\n    should be ${wanted}`);
    };
    const fresh = new FreshControlPlane(api);
    for (const proxy of proxies.values()) {
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
        same(`${proxy.name} endpoints of ${path}`, sorted(held), sorted(wanted ?? new Map()));
        if (watch.current?.exists !== (wanted !== undefined))
          found.push(`${proxy.name} takes ${path} for ${watch.current?.exists ? "something" : "nothing"}`);
      }
      for (const [ip, watch] of proxy.profiles)
        same(
          `${proxy.name} profile of ${ip}`,
          watch.current ? textOf(watch.current) : undefined,
          fresh.first(GetProfile, { path: `${ip}:80`, contextToken: context }),
        );
      for (const [ip, watch] of proxy.outbound)
        same(
          `${proxy.name} outbound policy of ${ip}`,
          watch.current ? textOf(watch.current) : undefined,
          fresh.first(WatchOutbound, { sourceWorkload: workload, addr: addressOf(ip, 80) }),
        );
      same(
        `${proxy.name} policy of its port`,
        proxy.server?.current ? textOf(proxy.server.current) : undefined,
        fresh.first(WatchPort, { workload, port: PORT }),
      );
    }
    for (const { namespace, name } of cluster.apps) {
      const service = api.get<Service>(COLLECTION.services, namespace, name);
      const workloads = api.list(COLLECTION.workloads).map((each) => workloadRecord(each as never));
      const own = api
        .list<EndpointSlice>(COLLECTION.slices)
        .filter(
          ({ metadata }) =>
            metadata.namespace === namespace &&
            metadata.labels?.["kubernetes.io/service-name"] === name &&
            metadata.labels?.[MANAGED_BY_LABEL] !== undefined,
        );
      const inside = workloads.filter((each) => each.namespace === namespace);
      const changes = sliceChanges(service && serviceRecord(service), inside, own);
      if (changes.create.length + changes.update.length + changes.remove.length > 0)
        found.push(`the slices of external workloads of ${namespace}/${name} are not as they should be`);
    }
    return found;
  }

  /** What is left of proxies when none is there any more. */
  remains(): string[] {
    const { replicas, network } = this.#world;
    const found: string[] = [];
    for (const { name, destination, policy } of replicas.values()) {
      if (destination && destination.index.watched > 0)
        found.push(`${name} still has ${destination.index.watched} views, and nobody watches`);
      if (policy && policy.index.watched.ports + policy.index.watched.policies > 0)
        found.push(`${name} still has ${textOf(policy.index.watched)}, and nobody watches`);
    }
    for (const { machine } of network.sockets)
      if (replicas.has(machine.name)) found.push(`${machine.name} still has a connection`);
    return found;
  }
}

const sorted = (map: ReadonlyMap<string, string>): string => JSON.stringify([...map].sort());
