// The destination index of one cluster: its objects as records in, what subscribers must know out. Pure but for the
// callbacks; work grows with a change and with who subscribed to it, not with the cluster.
//
//   slices, pods, workloads, Services, Servers …
//        └→ Services they touch → views (Service, port) that someone watches → candidates
//                                        └→ lenses (where clients are) → diff → listeners
import { isDeepStrictEqual } from "node:util";
import {
  type ClientPlace,
  chooseByTopology,
  dependsOnNode,
  type PlacedEndpoint,
} from "../../rules/endpoint-topology.ts";
import { byAge, type ServerRecord, type TrafficSplitRecord } from "../../rules/policy-records.ts";
import { chooseServer, selectsWorkload } from "../../rules/server-choice.ts";
import { portSetHas } from "../../util/port-set.ts";
import type {
  EndpointRecord,
  NamespaceRecord,
  NodeRecord,
  PodRecord,
  ServiceRecord,
  SliceRecord,
} from "../cluster-objects.ts";
import { type Endpoint, isPod, isSame, type MeshFacts } from "./address.ts";
import type { WorkloadRecord } from "./external-workload.ts";
import type { Override, ProfileRecord } from "./service-profile.ts";

/** The endpoints of one port of one Service that a client is told of: added and removed since the last call. */
export interface EndpointChange {
  readonly query: EndpointQuery;
  readonly added: readonly Endpoint[];
  readonly removed: readonly { readonly ip: string; readonly port: number }[];
  /** How many there are now. */
  readonly size: number;
  /** Whether the Service exists with that port. */
  readonly exists: boolean;
  /** The Service is a name for something outside (ExternalName): there will be no endpoints. */
  readonly externalName: boolean;
}

export interface EndpointQuery {
  readonly namespace: string;
  readonly service: string;
  readonly port: number;
  /** One named pod of a headless Service. */
  readonly hostname?: string | undefined;
}

/** Who asks: what its context token says of it. */
export interface Client {
  readonly namespace?: string | undefined;
  readonly pod?: string | undefined;
  readonly nodeName?: string | undefined;
}

/** What a proxy is told of an address. */
export interface Profile {
  /** The Service that has the address. */
  readonly service: ServiceRecord | undefined;
  /** The pod or workload that has it. */
  readonly endpoint: Endpoint | undefined;
  readonly opaque: boolean;
  /** The ServiceProfile that holds for the client. */
  readonly profile: ProfileRecord | undefined;
  /** Where the traffic goes instead. */
  readonly overrides: readonly Override[];
}

export type ProfileQuery =
  | { readonly kind: "ip"; readonly ip: string; readonly port: number }
  | {
      readonly kind: "service";
      readonly namespace: string;
      readonly name: string;
      readonly hostname?: string | undefined;
      readonly port: number;
    };

/** Told of a value, and of each that follows. An object: there are many of them. */
export interface Listener<T> {
  update(value: T): void;
}

export interface Subscription {
  close(): void;
}

/** The endpoints of a cluster, whichever it is: the local one, or another that multicluster links. */
export interface ClusterEndpoints {
  service(namespace: string, name: string): ServiceRecord | undefined;
  /** Tells the whole set at once (as added), then each change. */
  watchEndpoints(query: EndpointQuery, client: Client, listener: Listener<EndpointChange>): Subscription;
}

/** What can be behind an address. */
type Target = PodRecord | WorkloadRecord;

/** An endpoint that any client might be told of. */
interface Candidate extends PlacedEndpoint {
  readonly key: string;
  readonly ip: string;
  readonly port: number;
  readonly target: Target | undefined;
  readonly opaque: boolean;
  readonly gateway: SliceRecord["gateway"];
}

interface View {
  readonly query: EndpointQuery;
  readonly service: string;
  readonly lenses: Map<string, Lens>;
  candidates: readonly Candidate[];
  exists: boolean;
  externalName: boolean;
}

/** A view as clients of one place see it. */
interface Lens {
  readonly view: View;
  readonly key: string;
  readonly place: ClientPlace;
  readonly listeners: Set<EndpointSubscription>;
  entries: Map<string, Endpoint>;
  /** What a new listener is told; the same object for all until something changes, so that it is encoded once. */
  snapshot: EndpointChange | undefined;
}

interface ProfileView {
  readonly query: ProfileQuery;
  readonly namespace: string;
  readonly key: string;
  readonly listeners: Set<Listener<Profile>>;
  current: Profile;
}

class EndpointSubscription implements Subscription {
  readonly index: DestinationIndex;
  readonly client: Client;
  readonly listener: Listener<EndpointChange>;
  lens: Lens;
  constructor(index: DestinationIndex, client: Client, listener: Listener<EndpointChange>, lens: Lens) {
    this.index = index;
    this.client = client;
    this.listener = listener;
    this.lens = lens;
  }
  close(): void {
    this.index.leave(this);
  }
}

class ProfileSubscription implements Subscription {
  readonly #index: DestinationIndex;
  readonly #view: ProfileView;
  readonly #listener: Listener<Profile>;
  constructor(index: DestinationIndex, view: ProfileView, listener: Listener<Profile>) {
    this.#index = index;
    this.#view = view;
    this.#listener = listener;
  }
  close(): void {
    this.#index.leaveProfile(this.#view, this.#listener);
  }
}

const NO_PROFILE: Profile = {
  service: undefined,
  endpoint: undefined,
  opaque: false,
  profile: undefined,
  overrides: [],
};

const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;
const targetKey = (kind: string, namespace: string, name: string) => `${kind}/${namespace}/${name}`;
const addressKey = (ip: string, port: number) => `${ip} ${port}`;
const isLive = (target: Target) => (isPod(target) ? target.live : target.ready && !target.ending);
const familyOf = (ip: string): 4 | 6 => (ip.includes(":") ? 6 : 4);

/** Adds to a set in a map of sets. */
function link<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function unlink<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set?.delete(value) && set.size === 0) map.delete(key);
}

export class DestinationIndex implements ClusterEndpoints {
  readonly #mesh: MeshFacts;
  readonly #services = new Map<string, ServiceRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  /** Pods and ExternalWorkloads. */
  readonly #targets = new Map<string, Target>();
  readonly #slices = new Map<string, SliceRecord>();
  readonly #zones = new Map<string, string | undefined>();
  readonly #profiles = new Map<string, ProfileRecord>();
  readonly #splits = new Map<string, Map<string, TrafficSplitRecord>>();
  readonly #servers = new Map<string, Map<string, ServerRecord>>();
  readonly #slicesOf = new Map<string, Set<string>>();
  /** How many endpoints of a Service's slices name a target. */
  readonly #servicesOfTarget = new Map<string, Map<string, number>>();
  readonly #serviceByIp = new Map<string, string>();
  /** Who says to have an address; those on their node's network aside. */
  readonly #targetsByIp = new Map<string, Set<string>>();
  readonly #podsByHostPort = new Map<string, Set<string>>();
  /** Ports that Servers make opaque or not, as far as they were asked for. */
  readonly #serverOpaque = new WeakMap<Target, Map<number, boolean>>();
  /** Views by Service, then by port and hostname. */
  readonly #views = new Map<string, Map<string, View>>();
  readonly #profileViews = new Map<string, ProfileView>();
  readonly #profilesByIp = new Map<string, Set<ProfileView>>();
  readonly #profilesByService = new Map<string, Set<ProfileView>>();
  readonly #dirtyServices = new Set<string>();
  readonly #dirtyProfiles = new Set<ProfileView>();
  readonly #schedule: (fn: () => void) => void;
  #scheduled = false;

  /** @param schedule runs the work that changes of one moment cause, once; a microtask by default. */
  constructor(mesh: MeshFacts, schedule: (fn: () => void) => void = queueMicrotask) {
    this.#mesh = mesh;
    this.#schedule = schedule;
  }

  // ---- the cluster's changes ----

  putService(service: ServiceRecord): void {
    const key = keyOf(service.namespace, service.name);
    if (isDeepStrictEqual(this.#services.get(key), service)) return;
    this.#forgetIps(key);
    this.#services.set(key, service);
    for (const ip of service.clusterIPs) {
      this.#serviceByIp.set(ip, key);
      this.#touchIp(ip);
    }
    this.#regroup(key);
    this.#touchService(key);
  }

  removeService(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    this.#forgetIps(key);
    this.#services.delete(key);
    this.#touchService(key);
  }

  #forgetIps(key: string): void {
    for (const ip of this.#services.get(key)?.clusterIPs ?? []) {
      if (this.#serviceByIp.get(ip) === key) this.#serviceByIp.delete(ip);
      this.#touchIp(ip);
    }
  }

  putSlice(slice: SliceRecord): void {
    const key = keyOf(slice.namespace, slice.name);
    this.#dropSlice(key);
    this.#slices.set(key, slice);
    const service = keyOf(slice.namespace, slice.service);
    link(this.#slicesOf, service, key);
    for (const { target } of slice.endpoints) {
      if (target) this.#count(targetKey(target.kind, slice.namespace, target.name), service, 1);
    }
    this.#touchService(service);
  }

  removeSlice(namespace: string, name: string): void {
    this.#dropSlice(keyOf(namespace, name));
  }

  #dropSlice(key: string): void {
    const old = this.#slices.get(key);
    if (!old) return;
    this.#slices.delete(key);
    const service = keyOf(old.namespace, old.service);
    unlink(this.#slicesOf, service, key);
    for (const { target } of old.endpoints) {
      if (target) this.#count(targetKey(target.kind, old.namespace, target.name), service, -1);
    }
    this.#touchService(service);
  }

  #count(target: string, service: string, change: number): void {
    const counts = this.#servicesOfTarget.get(target) ?? new Map<string, number>();
    this.#servicesOfTarget.set(target, counts);
    const count = (counts.get(service) ?? 0) + change;
    if (count > 0) counts.set(service, count);
    else if (counts.delete(service) && counts.size === 0) this.#servicesOfTarget.delete(target);
  }

  putPod(pod: PodRecord): void {
    this.#putTarget(pod);
  }

  removePod(namespace: string, name: string): void {
    this.#removeTarget(targetKey("Pod", namespace, name));
  }

  putWorkload(workload: WorkloadRecord): void {
    this.#putTarget(workload);
  }

  removeWorkload(namespace: string, name: string): void {
    this.#removeTarget(targetKey("ExternalWorkload", namespace, name));
  }

  #putTarget(target: Target): void {
    const key = targetKey(target.kind, target.namespace, target.name);
    // Nearly all changes of pods are of their status, and say nothing here.
    if (isDeepStrictEqual(this.#targets.get(key), target)) return;
    this.#unlinkTarget(key);
    this.#targets.set(key, target);
    if (isLive(target)) {
      if (!(isPod(target) && target.hostNetwork))
        for (const ip of target.ips) link(this.#targetsByIp, ip, key);
      if (isPod(target))
        for (const { ip, hostPort } of target.hostPorts)
          link(this.#podsByHostPort, addressKey(ip, hostPort), key);
    }
    this.#touchTarget(key, target);
  }

  #removeTarget(key: string): void {
    const old = this.#targets.get(key);
    if (!old) return;
    this.#unlinkTarget(key);
    this.#targets.delete(key);
    this.#touchTarget(key, old);
  }

  #unlinkTarget(key: string): void {
    const old = this.#targets.get(key);
    if (!old) return;
    for (const ip of old.ips) unlink(this.#targetsByIp, ip, key);
    if (isPod(old))
      for (const { ip, hostPort } of old.hostPorts)
        unlink(this.#podsByHostPort, addressKey(ip, hostPort), key);
    this.#touchTarget(key, old);
  }

  putNamespace(namespace: NamespaceRecord): void {
    const old = this.#namespaces.get(namespace.name);
    this.#namespaces.set(namespace.name, namespace);
    if (!isDeepStrictEqual(old?.opaquePorts, namespace.opaquePorts)) this.#touchProfiles();
  }

  removeNamespace(name: string): void {
    if (this.#namespaces.delete(name)) this.#touchProfiles();
  }

  putNode({ name, zone }: NodeRecord): void {
    if (this.#zones.has(name) && this.#zones.get(name) === zone) return;
    this.#zones.set(name, zone);
    this.#regroupNode(name);
  }

  removeNode(name: string): void {
    if (this.#zones.delete(name)) this.#regroupNode(name);
  }

  putProfile(profile: ProfileRecord): void {
    this.#profiles.set(keyOf(profile.namespace, profile.name), profile);
    this.#touchNamed(profile.name);
  }

  removeProfile(namespace: string, name: string): void {
    if (this.#profiles.delete(keyOf(namespace, name.toLowerCase()))) this.#touchNamed(name.toLowerCase());
  }

  putSplit(split: TrafficSplitRecord): void {
    this.removeSplit(split.namespace, split.name);
    const key = this.#apexOf(split);
    const splits = this.#splits.get(key) ?? new Map<string, TrafficSplitRecord>();
    this.#splits.set(key, splits.set(split.name, split));
    this.#touchServiceProfiles(key);
  }

  removeSplit(namespace: string, name: string): void {
    for (const [key, splits] of this.#splits) {
      if (!key.startsWith(`${namespace}/`) || !splits.delete(name)) continue;
      if (splits.size === 0) this.#splits.delete(key);
      this.#touchServiceProfiles(key);
    }
  }

  /** The Service whose traffic is split: a name in the split's namespace, or a full one. */
  #apexOf({ namespace, service }: TrafficSplitRecord): string {
    return keyOf(namespace, service.split(".")[0]!);
  }

  putServer(server: ServerRecord): void {
    const servers = this.#servers.get(server.namespace) ?? new Map<string, ServerRecord>();
    const old = servers.get(server.name);
    this.#servers.set(server.namespace, servers.set(server.name, server));
    this.#forgetServerOpaque(server.namespace, old, server);
  }

  removeServer(namespace: string, name: string): void {
    const servers = this.#servers.get(namespace);
    const old = servers?.get(name);
    if (!servers || !old) return;
    servers.delete(name);
    if (servers.size === 0) this.#servers.delete(namespace);
    this.#forgetServerOpaque(namespace, old);
  }

  /** Servers change seldom; what they select, or selected, is looked at again. */
  #forgetServerOpaque(namespace: string, ...servers: (ServerRecord | undefined)[]): void {
    for (const [key, target] of this.#targets) {
      if (target.namespace !== namespace) continue;
      if (!servers.some((server) => server && selectsWorkload(server, target))) continue;
      this.#serverOpaque.delete(target);
      this.#touchTarget(key, target);
    }
  }

  // ---- subscribers ----

  service(namespace: string, name: string): ServiceRecord | undefined {
    return this.#services.get(keyOf(namespace, name));
  }

  watchEndpoints(query: EndpointQuery, client: Client, listener: Listener<EndpointChange>): Subscription {
    const place = this.#lensOf(this.#viewOf(query), client);
    const subscription = new EndpointSubscription(this, client, listener, place);
    const { lens } = subscription;
    const { view } = lens;
    lens.listeners.add(subscription);
    lens.snapshot ??= {
      query: view.query,
      added: [...lens.entries.values()],
      removed: [],
      size: lens.entries.size,
      exists: view.exists,
      externalName: view.externalName,
    };
    listener.update(lens.snapshot);
    return subscription;
  }

  #viewOf(query: EndpointQuery): View {
    const service = keyOf(query.namespace, query.service);
    const part = `${query.port}/${query.hostname ?? ""}`;
    const views = this.#views.get(service) ?? new Map<string, View>();
    this.#views.set(service, views);
    let view = views.get(part);
    if (!view) {
      view = {
        query,
        service,
        lenses: new Map(),
        candidates: [],
        exists: false,
        externalName: false,
      };
      views.set(part, view);
      this.#refresh(view);
    }
    return view;
  }

  #lensOf(view: View, client: Client): Lens {
    const place = this.#placeOf(view, client);
    const key = `${place.zone ?? ""}|${place.families.join("")}|${place.node ?? ""}`;
    let lens = view.lenses.get(key);
    if (!lens) {
      lens = { view, key, place, listeners: new Set(), entries: new Map(), snapshot: undefined };
      view.lenses.set(key, lens);
      lens.entries = this.#entriesOf(lens);
    }
    return lens;
  }

  /** Where a client is, as far as it matters for this Service: clients that see the same share a lens. */
  #placeOf(view: View, client: Client): ClientPlace {
    const service = this.#services.get(view.service);
    const record = this.#podOf(client);
    const node = client.nodeName ?? record?.nodeName;
    return {
      node: node !== undefined && service && dependsOnNode(service) ? node : undefined,
      zone: node === undefined ? undefined : this.#zones.get(node),
      families: record ? [...new Set(record.ips.map(familyOf))] : [],
    };
  }

  #podOf({ namespace, pod }: Client): PodRecord | undefined {
    if (namespace === undefined || pod === undefined) return undefined;
    return this.#targets.get(targetKey("Pod", namespace, pod)) as PodRecord | undefined;
  }

  /** Ends a subscription; for the subscription itself. */
  leave(subscription: EndpointSubscription): void {
    const { lens } = subscription;
    const { view } = lens;
    lens.listeners.delete(subscription);
    if (lens.listeners.size > 0) return;
    if (view.lenses.get(lens.key) === lens) view.lenses.delete(lens.key);
    if (view.lenses.size > 0) return;
    const views = this.#views.get(view.service);
    const part = `${view.query.port}/${view.query.hostname ?? ""}`;
    if (views?.get(part) !== view) return;
    views.delete(part);
    if (views.size === 0) this.#views.delete(view.service);
  }

  /** Tells what is asked for is now, then whenever that changes. */
  watchProfile(query: ProfileQuery, client: Client, listener: Listener<Profile>): Subscription {
    const namespace = client.namespace ?? "";
    const name =
      query.kind === "ip" ? query.ip : `${keyOf(query.namespace, query.name)}/${query.hostname ?? ""}`;
    const key = `${name} ${query.port} ${namespace}`;
    let view = this.#profileViews.get(key);
    if (!view) {
      view = { query, namespace, key, listeners: new Set(), current: NO_PROFILE };
      this.#profileViews.set(key, view);
      if (query.kind === "ip") link(this.#profilesByIp, query.ip, view);
      else link(this.#profilesByService, keyOf(query.namespace, query.name), view);
      view.current = this.#profileOf(view);
    }
    view.listeners.add(listener);
    listener.update(view.current);
    return new ProfileSubscription(this, view, listener);
  }

  /** Ends a subscription; for the subscription itself. */
  leaveProfile(view: ProfileView, listener: Listener<Profile>): void {
    view.listeners.delete(listener);
    if (view.listeners.size > 0 || this.#profileViews.get(view.key) !== view) return;
    this.#profileViews.delete(view.key);
    this.#dirtyProfiles.delete(view);
    const { query } = view;
    if (query.kind === "ip") unlink(this.#profilesByIp, query.ip, view);
    else unlink(this.#profilesByService, keyOf(query.namespace, query.name), view);
  }

  /** For metrics: how many views are watched. */
  get watched(): number {
    let count = this.#profileViews.size;
    for (const views of this.#views.values()) count += views.size;
    return count;
  }

  // ---- from changes to views ----

  #touchTarget(key: string, target: Target): void {
    for (const service of this.#servicesOfTarget.get(key)?.keys() ?? []) this.#touchService(service);
    for (const ip of target.ips) {
      this.#touchIp(ip);
      // Who else says to have the address may have it now, or no more.
      for (const other of this.#targetsByIp.get(ip) ?? []) {
        if (other === key) continue;
        for (const service of this.#servicesOfTarget.get(other)?.keys() ?? []) this.#touchService(service);
      }
    }
    if (isPod(target)) for (const { ip } of target.hostPorts) this.#touchIp(ip);
  }

  #touchService(key: string): void {
    if (this.#views.has(key)) {
      this.#dirtyServices.add(key);
      this.#later();
    }
    for (const view of this.#profilesByService.get(key) ?? []) this.#touchProfile(view);
  }

  #touchIp(ip: string): void {
    for (const view of this.#profilesByIp.get(ip) ?? []) this.#touchProfile(view);
  }

  /** The profile views of a Service by whichever of its names. */
  #touchServiceProfiles(key: string): void {
    for (const view of this.#profilesByService.get(key) ?? []) this.#touchProfile(view);
    for (const ip of this.#services.get(key)?.clusterIPs ?? []) this.#touchIp(ip);
  }

  /** The same, by the full name. */
  #touchNamed(name: string): void {
    const [service, namespace] = name.split(".");
    if (service !== undefined && namespace !== undefined)
      this.#touchServiceProfiles(keyOf(namespace, service));
  }

  #touchProfiles(): void {
    for (const view of this.#profileViews.values()) this.#touchProfile(view);
  }

  #touchProfile(view: ProfileView): void {
    this.#dirtyProfiles.add(view);
    this.#later();
  }

  #later(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }

  /** Works off all changes so far. */
  flush(): void {
    this.#scheduled = false;
    const services = [...this.#dirtyServices];
    const profiles = [...this.#dirtyProfiles];
    this.#dirtyServices.clear();
    this.#dirtyProfiles.clear();
    for (const key of services)
      for (const view of [...(this.#views.get(key)?.values() ?? [])]) this.#tell(view);
    for (const view of profiles) {
      const fresh = this.#profileOf(view);
      if (isSameProfile(view.current, fresh)) continue;
      view.current = fresh;
      for (const listener of [...view.listeners]) listener.update(fresh);
    }
  }

  #tell(view: View): void {
    const changed = this.#refresh(view);
    for (const lens of [...view.lenses.values()]) {
      const change = this.#advance(lens, changed);
      if (change) for (const { listener } of [...lens.listeners]) listener.update(change);
    }
  }

  /** Brings what all lenses of a view see up to date. @returns whether there is another Service behind it */
  #refresh(view: View): boolean {
    const service = this.#services.get(view.service);
    const { exists, externalName } = view;
    const port = service && portOf(service, view.query.port);
    view.externalName = service?.externalName ?? false;
    view.exists = port !== undefined && !view.externalName;
    view.candidates = view.exists ? this.#candidatesOf(view.query, port!) : [];
    return exists !== view.exists || externalName !== view.externalName;
  }

  #advance(lens: Lens, changed: boolean): EndpointChange | undefined {
    const before = lens.entries;
    lens.entries = this.#entriesOf(lens);
    const change = this.#diff(before, lens);
    if (!changed && change.added.length === 0 && change.removed.length === 0) return undefined;
    lens.snapshot = undefined;
    return change;
  }

  #diff(before: ReadonlyMap<string, Endpoint>, { entries, view }: Lens): EndpointChange {
    const added: Endpoint[] = [];
    const removed: Endpoint[] = [];
    for (const [key, entry] of entries) {
      const old = before.get(key);
      if (!old || !isSame(old, entry)) added.push(entry);
    }
    for (const [key, old] of before) if (!entries.has(key)) removed.push(old);
    return {
      query: view.query,
      added,
      removed,
      size: entries.size,
      exists: view.exists,
      externalName: view.externalName,
    };
  }

  #entriesOf({ view, place }: Lens): Map<string, Endpoint> {
    const entries = new Map<string, Endpoint>();
    const service = this.#services.get(view.service);
    if (!service) return entries;
    for (const candidate of chooseByTopology(view.candidates, place, service)) {
      const { key, ip, port, target, zone, opaque, gateway } = candidate;
      const local = zone === undefined || place.zone === undefined ? undefined : zone === place.zone;
      entries.set(key, { ip, port, target, zone, local, opaque, gateway });
    }
    return entries;
  }

  #candidatesOf({ namespace, service, hostname }: EndpointQuery, port: ServicePort): Candidate[] {
    const found = new Map<string, Candidate>();
    for (const key of this.#slicesOf.get(keyOf(namespace, service)) ?? []) {
      const slice = this.#slices.get(key)!;
      const number =
        port.name === undefined
          ? port.port
          : slice.ports.find((candidate) => candidate.name === port.name)?.port;
      if (number === undefined) continue;
      for (const endpoint of slice.endpoints) {
        if (hostname !== undefined && endpoint.hostname !== hostname) continue;
        const candidate = this.#candidateOf(slice, endpoint, number);
        // In two slices, as while one is replaced: ready if either says so.
        if (candidate && !(found.get(candidate.key)?.ready && !candidate.ready))
          found.set(candidate.key, candidate);
      }
    }
    return [...found.values()];
  }

  /** Undefined for an endpoint that must not be told of. */
  #candidateOf(slice: SliceRecord, endpoint: EndpointRecord, port: number): Candidate | undefined {
    const { ip, ready, zone, nodeName, forZones, forNodes } = endpoint;
    let target: Target | undefined;
    if (endpoint.target) {
      const { kind, name, uid } = endpoint.target;
      target = this.#targets.get(targetKey(kind, slice.namespace, name));
      // An address whose pod is not known (yet), or that moved on, would be called without its identity, in plain
      // text, or with that of another: it waits for its pod, or goes.
      if (!target || (uid !== undefined && uid !== target.uid) || !this.#has(target, ip)) return undefined;
    }
    return {
      key: addressKey(ip, port),
      ip,
      port,
      family: slice.family,
      ready,
      zone,
      nodeName,
      forZones,
      forNodes,
      target,
      opaque: target ? this.#isOpaqueAt(target, port) : false,
      gateway: slice.gateway,
    };
  }

  /** Whether the address is the target's now. */
  #has(target: Target, ip: string): boolean {
    if (!isLive(target) || !target.ips.includes(ip)) return false;
    return (isPod(target) && target.hostNetwork) || this.#ownerOf(ip) === target;
  }

  /** Who has an address: of several that say so the one that was made last, since an address is given once it is free. */
  #ownerOf(ip: string): Target | undefined {
    let owner: Target | undefined;
    let tied = false;
    for (const key of this.#targetsByIp.get(ip) ?? []) {
      const target = this.#targets.get(key)!;
      if (!owner || target.created > owner.created) {
        owner = target;
        tied = false;
      } else if (target.created === owner.created) tied = true;
    }
    return tied ? undefined : owner;
  }

  /** What the workload says of its port, or its Server. */
  #isOpaqueAt(target: Target, port: number): boolean {
    if (portSetHas(target.opaquePorts ?? this.#mesh.defaultOpaquePorts, port)) return true;
    const servers = this.#servers.get(target.namespace);
    if (!servers) return false;
    const known = this.#serverOpaque.get(target) ?? new Map<number, boolean>();
    this.#serverOpaque.set(target, known);
    let opaque = known.get(port);
    if (opaque === undefined) {
      opaque = chooseServer([...servers.values()], target, port)?.protocol === "opaque";
      known.set(port, opaque);
    }
    return opaque;
  }

  // ---- clients that moved to another lens ----

  /** A node's zone is another now. */
  #regroupNode(node: string): void {
    for (const [key, views] of this.#views) {
      for (const view of views.values()) {
        const has = [...view.lenses.values()].some(({ listeners }) =>
          [...listeners].some(({ client }) => (client.nodeName ?? this.#podOf(client)?.nodeName) === node),
        );
        if (has) this.#regroup(key);
      }
    }
  }

  /** Gives each listener of a Service the lens that is right for it now, and tells it the difference. */
  #regroup(service: string): void {
    for (const view of [...(this.#views.get(service)?.values() ?? [])]) {
      for (const old of [...view.lenses.values()]) {
        for (const subscription of [...old.listeners]) {
          const lens = this.#lensOf(view, subscription.client);
          if (lens === old) continue;
          old.listeners.delete(subscription);
          lens.listeners.add(subscription);
          subscription.lens = lens;
          const change = this.#diff(old.entries, lens);
          if (change.added.length > 0 || change.removed.length > 0) subscription.listener.update(change);
        }
        if (old.listeners.size === 0) view.lenses.delete(old.key);
      }
    }
  }

  // ---- profiles ----

  #profileOf({ query, namespace }: ProfileView): Profile {
    if (query.kind === "service") {
      const service = this.service(query.namespace, query.name);
      if (query.hostname === undefined) return this.#profileOfService(service, query.port, namespace);
      return this.#profileOfEndpoint(this.#instanceOf(service, query.hostname, query.port), query.port);
    }
    const { ip, port } = query;
    const service = this.#services.get(this.#serviceByIp.get(ip) ?? "");
    if (service) return this.#profileOfService(service, port, namespace);
    return this.#profileOfEndpoint(this.#behind(ip, port), port);
  }

  #profileOfService(service: ServiceRecord | undefined, port: number, client: string): Profile {
    if (!service) return { ...NO_PROFILE, opaque: portSetHas(this.#mesh.defaultOpaquePorts, port) };
    const name = `${service.name}.${service.namespace}.svc.${this.#mesh.clusterDomain}`;
    // The client's word counts more than the Service's.
    const profile =
      this.#profiles.get(keyOf(client, name)) ?? this.#profiles.get(keyOf(service.namespace, name));
    const inherited = this.#namespaces.get(service.namespace)?.opaquePorts;
    const opaque =
      portSetHas(service.opaquePorts ?? inherited ?? this.#mesh.defaultOpaquePorts, port) ||
      portSetHas(profile?.opaquePorts ?? [], port);
    const own = profile?.overrides ?? [];
    return {
      service,
      endpoint: undefined,
      opaque,
      profile,
      // Any proxy that speaks the API goes by a profile once that has routes or targets, and passes the policy over, with
      // all that routes, retries and timeouts say (reference/data-planes.md §1.7). The policy has the split too: so the
      // profile has it only where its own routes make proxies go by it anyway.
      overrides: own.length > 0 || !profile?.routes.length ? own : this.#splitOf(service),
    };
  }

  #splitOf({ namespace, name }: ServiceRecord): readonly Override[] {
    const [split] = [...(this.#splits.get(keyOf(namespace, name))?.values() ?? [])].sort(byAge);
    return (split?.backends ?? []).map(({ service, weight }) => ({
      authority: service.includes(".") ? service : `${service}.${namespace}.svc.${this.#mesh.clusterDomain}`,
      weight,
    }));
  }

  #profileOfEndpoint(endpoint: Endpoint | undefined, port: number): Profile {
    // A database outside the cluster speaks first like any other.
    const opaque = endpoint?.opaque ?? portSetHas(this.#mesh.defaultOpaquePorts, port);
    return { ...NO_PROFILE, endpoint, opaque };
  }

  /** A pod or workload by an address of its own, or by a port of its node that leads to it. */
  #behind(ip: string, port: number): Endpoint | undefined {
    const byPort = this.#podsByHostPort.get(addressKey(ip, port));
    if (byPort) {
      const [pod] = [...byPort]
        .map((key) => this.#targets.get(key) as PodRecord)
        .sort((a, b) => b.created - a.created);
      const to = pod!.hostPorts.find((each) => each.ip === ip && each.hostPort === port)!.port;
      const own = pod!.ips.find((each) => familyOf(each) === familyOf(ip)) ?? pod!.ips[0];
      if (own !== undefined && this.#ownerOf(own) === pod) return this.#endpointAt(own, to, pod!);
    }
    const owner = this.#ownerOf(ip);
    return owner && this.#endpointAt(ip, port, owner);
  }

  /** A pod of a headless Service by its host name, at a port of its own. */
  #instanceOf(service: ServiceRecord | undefined, hostname: string, port: number): Endpoint | undefined {
    if (!service) return undefined;
    for (const key of this.#slicesOf.get(keyOf(service.namespace, service.name)) ?? []) {
      const slice = this.#slices.get(key)!;
      for (const endpoint of slice.endpoints) {
        if (endpoint.hostname !== hostname) continue;
        const candidate = this.#candidateOf(slice, endpoint, port);
        if (candidate?.target) return this.#endpointAt(candidate.ip, port, candidate.target);
      }
    }
    return undefined;
  }

  #endpointAt(ip: string, port: number, target: Target): Endpoint {
    const opaque = this.#isOpaqueAt(target, port);
    return { ip, port, target, zone: undefined, local: undefined, opaque, gateway: undefined };
  }
}

/** Which port of the endpoints is asked for: the slices' one of a name, or a number. */
interface ServicePort {
  readonly name: string | undefined;
  readonly port: number;
}

function portOf({ ports, headless }: ServiceRecord, port: number): ServicePort | undefined {
  const found = ports.find((each) => each.port === port);
  if (found) return { name: found.name, port };
  // The pods of a headless Service are called at whatever port they have.
  return headless ? { name: undefined, port } : undefined;
}

const isSameProfile = (a: Profile, b: Profile): boolean =>
  a.service === b.service &&
  a.opaque === b.opaque &&
  a.profile === b.profile &&
  isDeepStrictEqual(a.overrides, b.overrides) &&
  (a.endpoint === b.endpoint ||
    (a.endpoint !== undefined &&
      b.endpoint !== undefined &&
      a.endpoint.ip === b.endpoint.ip &&
      a.endpoint.port === b.endpoint.port &&
      isSame(a.endpoint, b.endpoint)));
