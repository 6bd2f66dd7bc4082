// The policy index: Pods, Services and Namespaces in; for a pod's port its Server, for an address its outbound
// policy out. Decisions are made by rules/; here is what they are told, and who must hear of a change.
import type { MessageOf, Partially } from "../../api/codec.ts";
import type { Server } from "../../api/inbound.ts";
import type { OutboundPolicy } from "../../api/outbound.ts";
import { type DefaultPolicy, defaultServer, isDefaultPolicy } from "../../rules/default-policy.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import type { NamespaceRecord, PodRecord, ServiceRecord } from "../cluster-objects.ts";
import { outboundPolicyOf } from "./outbound.ts";

export interface PolicyFacts {
  readonly defaultPolicy: DefaultPolicy;
  readonly clusterNetworks: readonly string[];
  readonly defaultOpaquePorts: readonly PortRange[];
  readonly clusterDomain: string;
}

export type ServerMessage = MessageOf<typeof Server>;
export type OutboundMessage = Partially<MessageOf<typeof OutboundPolicy>>;

/** Tells a listener the current value (undefined: there is none), then each other one. */
class Watched<T> {
  readonly listeners = new Set<(value: T | undefined) => void>();
  readonly compute: () => T | undefined;
  current: T | undefined;
  #text = "";

  constructor(compute: () => T | undefined) {
    this.compute = compute;
    this.refresh();
  }

  refresh(): void {
    const value = this.compute();
    const text = JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? `${part}n` : part)) ?? "";
    if (text === this.#text) return;
    this.#text = text;
    this.current = value;
    for (const listener of [...this.listeners]) listener(value);
  }
}

const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;

export class PolicyIndex {
  readonly #facts: PolicyFacts;
  readonly #pods = new Map<string, PodRecord>();
  readonly #services = new Map<string, ServiceRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #serviceByIp = new Map<string, string>();
  /** Watched Servers by pod, then by port. */
  readonly #servers = new Map<string, Map<number, Watched<ServerMessage>>>();
  /** Watched outbound policies by IP, then by port. */
  readonly #outbound = new Map<string, Map<number, Watched<OutboundMessage>>>();

  constructor(facts: PolicyFacts) {
    this.#facts = facts;
  }

  putPod(pod: PodRecord): void {
    const key = keyOf(pod.namespace, pod.name);
    this.#pods.set(key, pod);
    this.#refresh(this.#servers.get(key));
  }

  removePod(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    this.#pods.delete(key);
    this.#refresh(this.#servers.get(key));
  }

  putService(service: ServiceRecord): void {
    const key = keyOf(service.namespace, service.name);
    const old = this.#services.get(key)?.clusterIPs ?? [];
    for (const ip of old) if (this.#serviceByIp.get(ip) === key) this.#serviceByIp.delete(ip);
    this.#services.set(key, service);
    for (const ip of service.clusterIPs) this.#serviceByIp.set(ip, key);
    for (const ip of new Set([...old, ...service.clusterIPs])) this.#refresh(this.#outbound.get(ip));
  }

  removeService(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    const ips = this.#services.get(key)?.clusterIPs ?? [];
    this.#services.delete(key);
    for (const ip of ips) {
      if (this.#serviceByIp.get(ip) === key) this.#serviceByIp.delete(ip);
      this.#refresh(this.#outbound.get(ip));
    }
  }

  putNamespace(namespace: NamespaceRecord): void {
    this.#namespaces.set(namespace.name, namespace);
    this.#refreshNamespace(namespace.name);
  }

  removeNamespace(name: string): void {
    this.#namespaces.delete(name);
    this.#refreshNamespace(name);
  }

  #refreshNamespace(name: string): void {
    for (const [key, views] of this.#servers) if (key.startsWith(`${name}/`)) this.#refresh(views);
    for (const [ip, views] of this.#outbound) {
      if (this.#serviceByIp.get(ip)?.startsWith(`${name}/`)) this.#refresh(views);
    }
  }

  #refresh<T>(views: Map<number, Watched<T>> | undefined): void {
    for (const view of views?.values() ?? []) view.refresh();
  }

  /** Follows the Server of a pod's port; undefined while there is no such pod. Returns the way to stop. */
  watchServer(
    namespace: string,
    pod: string,
    port: number,
    listener: (server: ServerMessage | undefined) => void,
  ): () => void {
    return watch(
      this.#servers,
      keyOf(namespace, pod),
      port,
      () => this.#serverOf(namespace, pod, port),
      listener,
    );
  }

  /** Follows the outbound policy of an address; undefined while it belongs to no Service's port. */
  watchOutbound(
    ip: string,
    port: number,
    listener: (policy: OutboundMessage | undefined) => void,
  ): () => void {
    return watch(this.#outbound, ip, port, () => this.#outboundOf(ip, port), listener);
  }

  /** An address of a Service by name; undefined when there is none. */
  addressOf(namespace: string, name: string): string | undefined {
    return this.#services.get(keyOf(namespace, name))?.clusterIPs[0];
  }

  #serverOf(namespace: string, name: string, port: number): ServerMessage | undefined {
    const pod = this.#pods.get(keyOf(namespace, name));
    if (!pod) return undefined;
    const inherited = this.#namespaces.get(namespace)?.defaultPolicy;
    const policy = [pod.defaultPolicy, inherited].find(isDefaultPolicy) ?? this.#facts.defaultPolicy;
    return defaultServer({
      policy,
      clusterNetworks: this.#facts.clusterNetworks,
      opaque: portSetHas(pod.opaquePorts ?? this.#facts.defaultOpaquePorts, port),
      probePaths: pod.probes.filter((probe) => probe.port === port).map((probe) => probe.path),
    });
  }

  #outboundOf(ip: string, port: number): OutboundMessage | undefined {
    const service = this.#services.get(this.#serviceByIp.get(ip) ?? "");
    const servicePort = service?.ports.find((candidate) => candidate.port === port);
    if (!service || !servicePort) return undefined;
    const opaquePorts =
      service.opaquePorts ??
      this.#namespaces.get(service.namespace)?.opaquePorts ??
      this.#facts.defaultOpaquePorts;
    return outboundPolicyOf({
      namespace: service.namespace,
      service: service.name,
      port,
      appProtocol: servicePort.appProtocol,
      opaque: portSetHas(opaquePorts, port),
      clusterDomain: this.#facts.clusterDomain,
    });
  }
}

function watch<T>(
  all: Map<string, Map<number, Watched<T>>>,
  key: string,
  port: number,
  compute: () => T | undefined,
  listener: (value: T | undefined) => void,
): () => void {
  const views = all.get(key) ?? new Map<number, Watched<T>>();
  all.set(key, views);
  const view = views.get(port) ?? new Watched(compute);
  views.set(port, view);
  view.listeners.add(listener);
  listener(view.current);
  return () => {
    view.listeners.delete(listener);
    if (view.listeners.size > 0) return;
    views.delete(port);
    if (views.size === 0 && all.get(key) === views) all.delete(key);
  };
}
