// What is known of a cluster: its objects as records, found by whatever leads to them. A change says what it touches:
// Services, addresses, places of clients.
import { isDeepStrictEqual } from "node:util";
import { byAge, type ServerRecord, type TrafficSplitRecord } from "../../rules/policy-records.ts";
import { chooseServer, selectsWorkload } from "../../rules/server-choice.ts";
import { MultiMap } from "../../util/multi-map.ts";
import { portSetHas } from "../../util/port-set.ts";
import {
  type EndpointRecord,
  type NamespaceRecord,
  type NodeRecord,
  type PodRecord,
  type ServiceRecord,
  type SliceRecord,
  targetKey,
} from "../cluster-objects.ts";
import { type Endpoint, isPod, type MeshFacts } from "./address.ts";
import type { WorkloadRecord } from "./external-workload.ts";
import type { ProfileRecord } from "./service-profile.ts";

/** What can be behind an address. */
export type Target = PodRecord | WorkloadRecord;

/** `namespace/name`. */
export const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;
export const familyOf = (ip: string): 4 | 6 => (ip.includes(":") ? 6 : 4);
export const addressKey = (ip: string, port: number) => `${ip} ${port}`;
const keyOfTarget = ({ kind, namespace, name }: Target) => targetKey(kind, namespace, name);
const isLive = (target: Target) => (isPod(target) ? target.live : target.ready && !target.ending);

/** Services go by `namespace/name`. What becomes of a change is the matter of who extends it. */
export abstract class ClusterRecords {
  readonly mesh: MeshFacts;
  readonly #services = new Map<string, ServiceRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  /** Pods and ExternalWorkloads. */
  readonly #targets = new Map<string, Target>();
  readonly #slices = new Map<string, SliceRecord>();
  readonly #zones = new Map<string, string | undefined>();
  readonly #profiles = new Map<string, ProfileRecord>();
  readonly #splits = new Map<string, Map<string, TrafficSplitRecord>>();
  readonly #servers = new Map<string, Map<string, ServerRecord>>();
  readonly #slicesOf = new MultiMap<SliceRecord>();
  /** Slices, by their keys, whose endpoints name a target. */
  readonly #slicesOfTarget = new MultiMap<string>();
  readonly #serviceByIp = new Map<string, string>();
  /** Who says to have an address; those on their node's network aside. */
  readonly #targetsByIp = new MultiMap<Target>();
  readonly #podsByHostPort = new MultiMap<PodRecord>();
  /** Ports that Servers make opaque or not, as far as they were asked for. */
  readonly #serverOpaque = new WeakMap<Target, Map<number, boolean>>();

  constructor(mesh: MeshFacts) {
    this.mesh = mesh;
  }

  /** Endpoints of a Service, or what it says of itself, may be others. */
  protected abstract touchService(key: string): void;
  /** Somebody else may be behind an address. */
  protected abstract touchAddress(ip: string): void;
  /** What is said of a Service to its clients, profiles and splits, may be different. */
  protected abstract touchProfile(key: string): void;
  /** The same of any Service. */
  protected abstract touchAllProfiles(): void;
  /** Other clients of a Service than before may see the same. */
  protected abstract regroup(key: string): void;
  /** A node is somewhere else. */
  protected abstract regroupNode(name: string): void;

  // ---- Services and their slices ----

  putService(service: ServiceRecord): void {
    const key = keyOf(service.namespace, service.name);
    if (isDeepStrictEqual(this.#services.get(key), service)) return;
    this.#forgetIps(key);
    this.#services.set(key, service);
    for (const ip of service.clusterIPs) {
      this.#serviceByIp.set(ip, key);
      this.touchAddress(ip);
    }
    this.regroup(key);
    this.touchService(key);
  }

  removeService(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    this.#forgetIps(key);
    this.#services.delete(key);
    this.touchService(key);
  }

  #forgetIps(key: string): void {
    for (const ip of this.#services.get(key)?.clusterIPs ?? []) {
      if (this.#serviceByIp.get(ip) === key) this.#serviceByIp.delete(ip);
      this.touchAddress(ip);
    }
  }

  putSlice(slice: SliceRecord): void {
    const key = keyOf(slice.namespace, slice.name);
    const old = this.#slices.get(key);
    if (old) this.#unlinkSlice(old);
    this.#slices.set(key, slice);
    this.#slicesOf.add(keyOf(slice.namespace, slice.service), slice);
    this.#relinkTargets(key, old?.endpoints ?? [], slice.endpoints);
    this.#touchServiceOf(slice);
  }

  removeSlice(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    const old = this.#slices.get(key);
    if (!old) return;
    this.#unlinkSlice(old);
    this.#slices.delete(key);
    this.#relinkTargets(key, old.endpoints, []);
  }

  #unlinkSlice(old: SliceRecord): void {
    this.#slicesOf.delete(keyOf(old.namespace, old.service), old);
    this.#touchServiceOf(old);
  }

  /** Of a slice: a change is of one endpoint or two, and the others are the same objects. */
  #relinkTargets(slice: string, before: readonly EndpointRecord[], now: readonly EndpointRecord[]): void {
    const gone = new Set(before);
    const fresh = now.filter((endpoint) => !gone.delete(endpoint));
    for (const { target } of gone) if (target) this.#slicesOfTarget.delete(target.key, slice);
    // Of two endpoints of one target one may have stayed.
    for (const { target } of gone.size > 0 ? now : fresh)
      if (target) this.#slicesOfTarget.add(target.key, slice);
  }

  #touchServiceOf({ namespace, service }: SliceRecord): void {
    this.touchService(keyOf(namespace, service));
  }

  service(namespace: string, name: string): ServiceRecord | undefined {
    return this.#services.get(keyOf(namespace, name));
  }

  /** The same by its key. */
  serviceOf(key: string): ServiceRecord | undefined {
    return this.#services.get(key);
  }

  serviceAt(ip: string): ServiceRecord | undefined {
    return this.#services.get(this.#serviceByIp.get(ip) ?? "");
  }

  slicesOf(service: string): Iterable<SliceRecord> {
    return this.#slicesOf.get(service);
  }

  // ---- pods and workloads ----

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
    const key = keyOfTarget(target);
    // Nearly all changes of pods are of their status, and say nothing here.
    if (isDeepStrictEqual(this.#targets.get(key), target)) return;
    this.#unlinkTarget(key);
    this.#targets.set(key, target);
    if (isLive(target)) {
      if (!(isPod(target) && target.hostNetwork))
        for (const ip of target.ips) this.#targetsByIp.add(ip, target);
      if (isPod(target))
        for (const { ip, hostPort } of target.hostPorts)
          this.#podsByHostPort.add(addressKey(ip, hostPort), target);
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
    for (const ip of old.ips) this.#targetsByIp.delete(ip, old);
    if (isPod(old))
      for (const { ip, hostPort } of old.hostPorts)
        this.#podsByHostPort.delete(addressKey(ip, hostPort), old);
    this.#touchTarget(key, old);
  }

  #touchTarget(key: string, target: Target): void {
    this.#touchServicesOf(key);
    for (const ip of target.ips) {
      this.touchAddress(ip);
      // Who else says to have the address may have it now, or no more.
      for (const other of this.#targetsByIp.get(ip)) {
        if (other !== target) this.#touchServicesOf(keyOfTarget(other));
      }
    }
    if (isPod(target)) for (const { ip } of target.hostPorts) this.touchAddress(ip);
  }

  /** Those with an endpoint that is the target. */
  #touchServicesOf(target: string): void {
    for (const slice of this.#slicesOfTarget.get(target)) this.#touchServiceOf(this.#slices.get(slice)!);
  }

  pod(namespace: string, name: string): PodRecord | undefined {
    return this.#targets.get(targetKey("Pod", namespace, name)) as PodRecord | undefined;
  }

  /** Pods that are reached by a port of their node. */
  podsAtHostPort(ip: string, port: number): Iterable<PodRecord> {
    return this.#podsByHostPort.get(addressKey(ip, port));
  }

  /** Who has an address: of several that say so the one that was made last, since an address is given once it is free. */
  ownerOf(ip: string): Target | undefined {
    let owner: Target | undefined;
    let tied = false;
    for (const target of this.#targetsByIp.get(ip)) {
      if (!owner || target.created > owner.created) {
        owner = target;
        tied = false;
      } else if (target.created === owner.created) tied = true;
    }
    return tied ? undefined : owner;
  }

  /**
   * Who an endpoint of a slice is: undefined for one that names nobody, `nobody` for one that must not be told of. An
   * address whose pod is not known (yet), or that moved on, would be called without its identity, in plain text, or with
   * that of another: it waits for its pod, or goes.
   */
  targetOf({ ip, target }: EndpointRecord): Target | undefined | "nobody" {
    if (!target) return undefined;
    const found = this.#targets.get(target.key);
    if (!found || (target.uid !== undefined && target.uid !== found.uid)) return "nobody";
    return this.#has(found, ip) ? found : "nobody";
  }

  /** Whether the address is the target's now. */
  #has(target: Target, ip: string): boolean {
    if (!isLive(target) || !target.ips.includes(ip)) return false;
    return (isPod(target) && target.hostNetwork) || this.ownerOf(ip) === target;
  }

  /** Whether bytes to a port are to be left alone: what the workload says of it, or its Server. */
  isOpaqueAt(target: Target, port: number): boolean {
    if (portSetHas(target.opaquePorts ?? this.mesh.defaultOpaquePorts, port)) return true;
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

  /** A target as it is called by an address that is its own. */
  endpointAt(ip: string, port: number, target: Target): Endpoint {
    const opaque = this.isOpaqueAt(target, port);
    return { ip, port, target, zone: undefined, local: undefined, opaque, gateway: undefined };
  }

  // ---- namespaces and nodes ----

  putNamespace(namespace: NamespaceRecord): void {
    const old = this.#namespaces.get(namespace.name);
    this.#namespaces.set(namespace.name, namespace);
    if (!isDeepStrictEqual(old?.opaquePorts, namespace.opaquePorts)) this.touchAllProfiles();
  }

  removeNamespace(name: string): void {
    if (this.#namespaces.delete(name)) this.touchAllProfiles();
  }

  namespace(name: string): NamespaceRecord | undefined {
    return this.#namespaces.get(name);
  }

  putNode({ name, zone }: NodeRecord): void {
    if (this.#zones.has(name) && this.#zones.get(name) === zone) return;
    this.#zones.set(name, zone);
    this.regroupNode(name);
  }

  removeNode(name: string): void {
    if (this.#zones.delete(name)) this.regroupNode(name);
  }

  zoneOf(node: string): string | undefined {
    return this.#zones.get(node);
  }

  // ---- what is said of Services, and of ports ----

  putProfile(profile: ProfileRecord): void {
    this.#profiles.set(keyOf(profile.namespace, profile.name), profile);
    this.#touchNamed(profile.name);
  }

  removeProfile(namespace: string, name: string): void {
    if (this.#profiles.delete(keyOf(namespace, name.toLowerCase()))) this.#touchNamed(name.toLowerCase());
  }

  /** @param name the full name of the Service that it is about */
  #touchNamed(name: string): void {
    const [service, namespace] = name.split(".");
    if (service !== undefined && namespace !== undefined) this.touchProfile(keyOf(namespace, service));
  }

  profile(namespace: string, name: string): ProfileRecord | undefined {
    return this.#profiles.get(keyOf(namespace, name));
  }

  putSplit(split: TrafficSplitRecord): void {
    this.removeSplit(split.namespace, split.name);
    // Its Service is a name in its own namespace, or a full one.
    const key = keyOf(split.namespace, split.service.split(".")[0]!);
    const splits = this.#splits.get(key) ?? new Map<string, TrafficSplitRecord>();
    this.#splits.set(key, splits.set(split.name, split));
    this.touchProfile(key);
  }

  removeSplit(namespace: string, name: string): void {
    for (const [key, splits] of this.#splits) {
      if (!key.startsWith(`${namespace}/`) || !splits.delete(name)) continue;
      if (splits.size === 0) this.#splits.delete(key);
      this.touchProfile(key);
    }
  }

  /** Of several for a Service the oldest holds. */
  splitOf(service: string): TrafficSplitRecord | undefined {
    return [...(this.#splits.get(service)?.values() ?? [])].sort(byAge)[0];
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
}
