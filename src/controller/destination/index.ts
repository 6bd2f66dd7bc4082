// The destination index: Services, EndpointSlices, Pods and Namespaces in, what subscribers must know out. Pure but
// for the callbacks; work grows with a change and with who subscribed to it, not with the cluster.
//
//   slice, pod, service, namespace changes
//        └→ services they touch → views (service:port) that someone watches → diff → listeners

import { portSetHas } from "../../util/port-set.ts";
import type { NamespaceRecord, PodRecord, ServiceRecord, SliceRecord } from "../cluster-objects.ts";
import { type Address, addressAt, isOpaqueAt, type MeshFacts } from "./address.ts";

/** The endpoints of one port of one Service: added and removed since the last call, keyed `ip:port`. */
export interface EndpointChange {
  readonly added: readonly Address[];
  readonly removed: readonly { readonly ip: string; readonly port: number }[];
  /** How many there are now. */
  readonly size: number;
  /** Whether the Service exists with that port. */
  readonly exists: boolean;
}

export interface EndpointQuery {
  readonly namespace: string;
  readonly service: string;
  readonly port: number;
  /** One named pod of a headless Service. */
  readonly hostname?: string | undefined;
}

/** What a proxy is told of an address. */
export interface Profile {
  /** `name.ns.svc.domain` of the Service that has the address. */
  readonly service: ServiceRecord | undefined;
  /** The pod that has it. */
  readonly endpoint: Address | undefined;
  readonly opaque: boolean;
}

type Listener<T> = (value: T) => void;

interface Entry {
  readonly ip: string;
  readonly port: number;
  readonly address: Address;
  /** For comparing: the address as text. */
  readonly text: string;
}

class View {
  readonly query: EndpointQuery;
  readonly listeners = new Set<Listener<EndpointChange>>();
  entries = new Map<string, Entry>();
  exists = false;
  /** What a new listener is told; the same object for all until something changes, so that it is encoded once. */
  snapshot: EndpointChange | undefined;
  constructor(query: EndpointQuery) {
    this.query = query;
  }
}

class ProfileView {
  readonly ip: string;
  readonly port: number;
  readonly listeners = new Set<Listener<Profile>>();
  text = "";
  current: Profile = { service: undefined, endpoint: undefined, opaque: false };
  constructor(ip: string, port: number) {
    this.ip = ip;
    this.port = port;
  }
}

const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;

/** All of an address but where it is, for comparing. */
const textOf = ({ addr: _where, ...rest }: Address): string => JSON.stringify(rest);

/** Adds to a set in a map of sets. */
function link(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function unlink(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set?.delete(value) && set.size === 0) map.delete(key);
}

export class DestinationIndex {
  readonly #mesh: MeshFacts;
  readonly #services = new Map<string, ServiceRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #pods = new Map<string, PodRecord>();
  readonly #slices = new Map<string, SliceRecord>();
  readonly #slicesOf = new Map<string, Set<string>>();
  /** Which Services' slices name a pod. */
  readonly #servicesOfPod = new Map<string, Set<string>>();
  readonly #serviceByIp = new Map<string, string>();
  readonly #podsByIp = new Map<string, Set<string>>();
  readonly #entriesOfPod = new WeakMap<PodRecord, Map<string, Entry>>();
  /** Views by Service, then by port and hostname. */
  readonly #views = new Map<string, Map<string, View>>();
  /** Profile views by IP, then by port. */
  readonly #profiles = new Map<string, Map<number, ProfileView>>();
  readonly #dirtyServices = new Set<string>();
  readonly #dirtyIps = new Set<string>();
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
    this.#forgetIps(key);
    this.#services.set(key, service);
    for (const ip of service.clusterIPs) {
      this.#serviceByIp.set(ip, key);
      this.#touchIp(ip);
    }
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
    for (const { pod } of slice.endpoints) {
      if (pod !== undefined) link(this.#servicesOfPod, keyOf(slice.namespace, pod), service);
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
    const others = [...(this.#slicesOf.get(service) ?? [])].flatMap(
      (other) => this.#slices.get(other)!.endpoints,
    );
    const stillNamed = new Set(others.map((endpoint) => endpoint.pod));
    for (const { pod } of old.endpoints) {
      if (pod !== undefined && !stillNamed.has(pod))
        unlink(this.#servicesOfPod, keyOf(old.namespace, pod), service);
    }
    this.#touchService(service);
  }

  putPod(pod: PodRecord): void {
    const key = keyOf(pod.namespace, pod.name);
    this.#unlinkPod(key);
    this.#pods.set(key, pod);
    for (const ip of pod.ips) {
      link(this.#podsByIp, ip, key);
      this.#touchIp(ip);
    }
    this.#touchPod(key);
  }

  removePod(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    this.#unlinkPod(key);
    this.#pods.delete(key);
    this.#touchPod(key);
  }

  #unlinkPod(key: string): void {
    for (const ip of this.#pods.get(key)?.ips ?? []) {
      unlink(this.#podsByIp, ip, key);
      this.#touchIp(ip);
    }
  }

  putNamespace(namespace: NamespaceRecord): void {
    const old = this.#namespaces.get(namespace.name);
    this.#namespaces.set(namespace.name, namespace);
    if (JSON.stringify(old?.opaquePorts) === JSON.stringify(namespace.opaquePorts)) return;
    // Rare, and only the watched are worked on.
    for (const ip of this.#profiles.keys()) this.#touchIp(ip);
  }

  removeNamespace(name: string): void {
    this.#namespaces.delete(name);
  }

  // ---- subscribers ----

  /** The Service of a query. */
  service(namespace: string, name: string): ServiceRecord | undefined {
    return this.#services.get(keyOf(namespace, name));
  }

  /** Tells the whole set at once (as added), then each change. Returns the way to stop. */
  watchEndpoints(query: EndpointQuery, listener: Listener<EndpointChange>): () => void {
    const key = keyOf(query.namespace, query.service);
    const part = `${query.port}/${query.hostname ?? ""}`;
    const views = this.#views.get(key) ?? new Map<string, View>();
    this.#views.set(key, views);
    let view = views.get(part);
    if (!view) {
      view = new View(query);
      views.set(part, view);
      this.#compute(view);
    }
    view.listeners.add(listener);
    const { entries, exists } = view;
    view.snapshot ??= {
      added: [...entries.values()].map((entry) => entry.address),
      removed: [],
      size: entries.size,
      exists,
    };
    listener(view.snapshot);
    const watched = view;
    return () => {
      watched.listeners.delete(listener);
      if (watched.listeners.size > 0) return;
      views.delete(part);
      if (views.size === 0 && this.#views.get(key) === views) this.#views.delete(key);
    };
  }

  /** Tells what the address is now, then whenever that changes. Returns the way to stop. */
  watchProfile(ip: string, port: number, listener: Listener<Profile>): () => void {
    const views = this.#profiles.get(ip) ?? new Map<number, ProfileView>();
    this.#profiles.set(ip, views);
    let view = views.get(port);
    if (!view) {
      view = new ProfileView(ip, port);
      views.set(port, view);
      this.#profile(view);
    }
    view.listeners.add(listener);
    listener(view.current);
    const watched = view;
    return () => {
      watched.listeners.delete(listener);
      if (watched.listeners.size > 0) return;
      views.delete(port);
      if (views.size === 0 && this.#profiles.get(ip) === views) this.#profiles.delete(ip);
    };
  }

  /** For metrics: how many views are watched. */
  get watched(): number {
    let count = this.#profiles.size;
    for (const views of this.#views.values()) count += views.size;
    return count;
  }

  // ---- from changes to views ----

  #touchPod(key: string): void {
    for (const service of this.#servicesOfPod.get(key) ?? []) this.#touchService(service);
  }

  #touchService(key: string): void {
    if (this.#views.has(key)) this.#later(this.#dirtyServices, key);
  }

  #touchIp(ip: string): void {
    if (this.#profiles.has(ip)) this.#later(this.#dirtyIps, ip);
  }

  #later(set: Set<string>, key: string): void {
    set.add(key);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }

  /** Works off all changes so far. */
  flush(): void {
    this.#scheduled = false;
    const services = [...this.#dirtyServices];
    const ips = [...this.#dirtyIps];
    this.#dirtyServices.clear();
    this.#dirtyIps.clear();
    for (const key of services) {
      for (const view of this.#views.get(key)?.values() ?? []) {
        const change = this.#compute(view);
        if (change) for (const listener of [...view.listeners]) listener(change);
      }
    }
    for (const ip of ips) {
      for (const view of this.#profiles.get(ip)?.values() ?? []) {
        if (this.#profile(view)) for (const listener of [...view.listeners]) listener(view.current);
      }
    }
  }

  /** Brings a view up to date; undefined when nothing changed. */
  #compute(view: View): EndpointChange | undefined {
    const service = this.#services.get(keyOf(view.query.namespace, view.query.service));
    const servicePort = service?.ports.find((port) => port.port === view.query.port);
    const exists = servicePort !== undefined;
    const fresh = exists ? this.#entriesOf(view.query, servicePort.name) : new Map<string, Entry>();
    const added: Address[] = [];
    const removed: { ip: string; port: number }[] = [];
    for (const [key, entry] of fresh)
      if (view.entries.get(key)?.text !== entry.text) added.push(entry.address);
    for (const [key, { ip, port }] of view.entries) if (!fresh.has(key)) removed.push({ ip, port });
    const changed = added.length > 0 || removed.length > 0 || exists !== view.exists;
    view.entries = fresh;
    view.exists = exists;
    if (changed) view.snapshot = undefined;
    return changed ? { added, removed, size: fresh.size, exists } : undefined;
  }

  #entriesOf(query: EndpointQuery, portName: string): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (const key of this.#slicesOf.get(keyOf(query.namespace, query.service)) ?? []) {
      const slice = this.#slices.get(key)!;
      const port = slice.ports.find((candidate) => candidate.name === portName)?.port;
      if (port === undefined) continue;
      for (const { ip, hostname, zone, pod: name } of slice.endpoints) {
        if (query.hostname !== undefined && hostname !== query.hostname) continue;
        const pod = name === undefined ? undefined : this.#pods.get(keyOf(slice.namespace, name));
        // An address whose pod is not known (yet), or that moved on, would be called without its identity, in plain
        // text: it waits for its pod, or goes.
        if (name !== undefined && !(pod?.live && pod.ips.includes(ip))) continue;
        entries.set(`${ip}:${port}`, this.#entryOf(ip, port, pod, zone));
      }
    }
    return entries;
  }

  /** Kept with the pod's record, so that a change elsewhere in a large Service costs a look-up each, no more. */
  #entryOf(ip: string, port: number, pod: PodRecord | undefined, zone: string | undefined): Entry {
    const key = `${ip}:${port}/${zone ?? ""}`;
    const known = pod && this.#entriesOfPod.get(pod);
    const found = known?.get(key);
    if (found) return found;
    const address = addressAt(ip, port, pod, zone, this.#mesh);
    const entry = { ip, port, address, text: textOf(address) };
    if (known) known.set(key, entry);
    else if (pod) this.#entriesOfPod.set(pod, new Map([[key, entry]]));
    return entry;
  }

  /** Brings a profile up to date; false when nothing changed. */
  #profile(view: ProfileView): boolean {
    const { ip, port } = view;
    const service = this.#services.get(this.#serviceByIp.get(ip) ?? "");
    const pods = [...(this.#podsByIp.get(ip) ?? [])]
      .map((key) => this.#pods.get(key)!)
      .filter((pod) => pod.live);
    // Two live pods with one address share the node's network: the address says nothing about either.
    const pod = !service && pods.length === 1 ? pods[0] : undefined;
    const endpoint = pod ? addressAt(ip, port, pod, undefined, this.#mesh) : undefined;
    const opaque = service
      ? this.#isOpaqueService(service, port)
      : pod
        ? isOpaqueAt(pod, port, this.#mesh)
        : // A database outside the cluster speaks first like any other.
          portSetHas(this.#mesh.defaultOpaquePorts, port);
    const text = JSON.stringify([service?.namespace, service?.name, endpoint && textOf(endpoint), opaque]);
    if (text === view.text) return false;
    view.text = text;
    view.current = { service, endpoint, opaque };
    return true;
  }

  /** What the Service says, else its namespace, else the default. */
  #isOpaqueService(service: ServiceRecord, port: number): boolean {
    const inherited = this.#namespaces.get(service.namespace)?.opaquePorts;
    return portSetHas(service.opaquePorts ?? inherited ?? this.#mesh.defaultOpaquePorts, port);
  }
}
