// What names mean inside the cluster: the Kubernetes DNS specification 1.1.0 over Services, EndpointSlices and
// Namespaces. Answers questions from memory; knows nothing of sockets.
import { isIPv4 } from "node:net";
import { cidrHas, parseCidr } from "../../util/ip.ts";
import type { Cluster, KubeObject } from "../cluster.ts";
import { CLUSTER_DOMAIN, DNS_SERVICE_IP, POD_CIDR, SERVICE_CIDR } from "./addresses.ts";

/** Short, so that what was moved is found soon. Seconds; negative answers too. */
export const TTL = 5;

export type DnsRecord =
  | { type: "A"; name: string; ttl: number; data: string }
  | { type: "CNAME" | "PTR"; name: string; ttl: number; data: string }
  | {
      type: "SRV";
      name: string;
      ttl: number;
      data: { priority: number; weight: number; port: number; target: string };
    };

export type ZoneAnswer =
  /** Not ours: ask the world. `prefix` are CNAMEs that led there. */
  | { kind: "forward"; name: string; prefix: readonly DnsRecord[] }
  /** The name does not exist. */
  | { kind: "nxdomain" }
  /** It exists; `answers` may be empty (no record of that type). */
  | { kind: "answer"; answers: readonly DnsRecord[]; additionals: readonly DnsRecord[] };

interface Endpoint {
  readonly ip: string;
  /** First label of its own name: the pod's hostname, or its address with dashes. */
  readonly host: string;
  readonly ports: readonly { name: string; protocol: string; port: number }[];
}

const NXDOMAIN: ZoneAnswer = { kind: "nxdomain" };
const NODATA: ZoneAnswer = { kind: "answer", answers: [], additionals: [] };
const OWN_NETWORKS = [parseCidr(POD_CIDR), parseCidr(SERVICE_CIDR)];

/**
 * What a pod's /etc/resolv.conf says: short names are looked for in its own namespace first.
 */
export function resolvConf(namespace: string): string {
  const search = [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN];
  return `search ${search.join(" ")}\nnameserver ${DNS_SERVICE_IP}\noptions ndots:5\n`;
}

export class DnsZone {
  readonly #services = new Map<string, KubeObject>();
  readonly #slices = new Map<string, Map<string, KubeObject>>();
  readonly #namespaces = new Set<string>();
  #unwatch: (() => void)[] = [];

  /** Follows a cluster until {@link stop}. */
  watch(cluster: Cluster): void {
    this.#unwatch.push(
      cluster.watch("", "namespaces", (type, object) => this.namespace(type !== "DELETED", object)),
      cluster.watch("", "services", (type, object) => this.service(type !== "DELETED", object)),
      cluster.watch("discovery.k8s.io", "endpointslices", (type, object) =>
        this.endpointSlice(type !== "DELETED", object),
      ),
    );
  }

  stop(): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [];
  }

  namespace(exists: boolean, object: KubeObject): void {
    if (exists) this.#namespaces.add(object.metadata.name);
    else this.#namespaces.delete(object.metadata.name);
  }

  service(exists: boolean, object: KubeObject): void {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    if (exists) this.#services.set(key, object);
    else this.#services.delete(key);
  }

  endpointSlice(exists: boolean, object: KubeObject): void {
    const service = object.metadata.labels?.["kubernetes.io/service-name"];
    if (!service) return;
    const key = `${object.metadata.namespace}/${service}`;
    let slices = this.#slices.get(key);
    if (exists) {
      if (!slices) {
        slices = new Map();
        this.#slices.set(key, slices);
      }
      slices.set(object.metadata.name, object);
    } else {
      slices?.delete(object.metadata.name);
      if (slices?.size === 0) this.#slices.delete(key);
    }
  }

  /** `name` as asked (case is kept in the answer); `type` a DNS record type such as A, AAAA, SRV, PTR. */
  resolve(name: string, type: string): ZoneAnswer {
    const labels = name.toLowerCase().replace(/\.$/, "").split(".");
    const domain = CLUSTER_DOMAIN.split(".");
    if (labels.slice(-2).join(".") === "in-addr.arpa") return this.#reverse(name, labels, type);
    if (labels.length < domain.length || labels.slice(-domain.length).join(".") !== CLUSTER_DOMAIN) {
      return { kind: "forward", name, prefix: [] };
    }
    const path = labels.slice(0, -domain.length).reverse();
    const [kind, namespace, service, ...rest] = path;
    if (kind === undefined) return NODATA;
    if (kind === "pod") return this.#pod(name, type, path);
    if (kind !== "svc") return NXDOMAIN;
    if (namespace === undefined) return NODATA;
    if (!this.#namespaces.has(namespace)) return NXDOMAIN;
    if (service === undefined) return NODATA;
    const object = this.#services.get(`${namespace}/${service}`);
    return object ? this.#service(name, type, object, rest) : NXDOMAIN;
  }

  #pod(name: string, type: string, path: readonly string[]): ZoneAnswer {
    const [, namespace, dashed, ...rest] = path;
    if (namespace === undefined) return NODATA;
    if (!this.#namespaces.has(namespace) || rest.length > 0) return NXDOMAIN;
    if (dashed === undefined) return NODATA;
    const ip = dashed.replaceAll("-", ".");
    if (!isIPv4(ip)) return NXDOMAIN;
    return type === "A" ? answer([{ type: "A", name, ttl: TTL, data: ip }]) : NODATA;
  }

  #service(name: string, type: string, service: KubeObject, rest: readonly string[]): ZoneAnswer {
    const spec = service["spec"] ?? {};
    const fqdn = serviceName(service);
    if (spec.type === "ExternalName") {
      return rest.length === 0 ? this.#alias(name, type, String(spec.externalName)) : NXDOMAIN;
    }
    const headless = spec.clusterIP === "None" || !spec.clusterIP;
    const [first, second, ...more] = rest;

    if (first === undefined) {
      if (type === "SRV") return this.#srv(name, service, headless, undefined, undefined);
      if (type !== "A") return NODATA;
      const ips = headless ? this.#endpoints(service).map((endpoint) => endpoint.ip) : [spec.clusterIP];
      return answer([...new Set<string>(ips)].map((data) => ({ type: "A", name, ttl: TTL, data })));
    }
    if (first.startsWith("_")) {
      if (more.length > 0) return NXDOMAIN;
      const protocol = first.slice(1);
      if (second === undefined) return protocol === "tcp" || protocol === "udp" ? NODATA : NXDOMAIN;
      if (!second.startsWith("_")) return NXDOMAIN;
      const port = second.slice(1);
      const known = (spec.ports ?? []).some(
        (p: { name?: string; protocol?: string }) =>
          p.name === port && (p.protocol ?? "TCP").toLowerCase() === protocol,
      );
      if (!known) return NXDOMAIN;
      return type === "SRV" ? this.#srv(name, service, headless, protocol, port) : NODATA;
    }
    if (second !== undefined) return NXDOMAIN;
    const found = this.#endpoints(service).filter((endpoint) => endpoint.host === first);
    if (found.length === 0) return NXDOMAIN;
    if (type === "SRV") {
      return answer(
        found.flatMap((e) => e.ports.map((p) => srvRecord(name, p.port, `${e.host}.${fqdn}`, 100))),
      );
    }
    return type === "A" ? answer(found.map((e) => ({ type: "A", name, ttl: TTL, data: e.ip }))) : NODATA;
  }

  #srv(
    name: string,
    service: KubeObject,
    headless: boolean,
    protocol: string | undefined,
    port: string | undefined,
  ): ZoneAnswer {
    const fqdn = serviceName(service);
    const wanted = (p: { name?: string; protocol?: string }) =>
      protocol === undefined || ((p.name ?? "") === port && (p.protocol ?? "TCP").toLowerCase() === protocol);
    if (!headless) {
      const ports = (service["spec"].ports ?? []).filter(wanted);
      const weight = Math.max(1, Math.floor(100 / Math.max(1, ports.length)));
      return answer(
        ports.map((p: { port: number }) => srvRecord(name, p.port, fqdn, weight)),
        [{ type: "A", name: fqdn, ttl: TTL, data: service["spec"].clusterIP }],
      );
    }
    const endpoints = this.#endpoints(service);
    const weight = Math.max(1, Math.floor(100 / Math.max(1, endpoints.length)));
    const records: DnsRecord[] = [];
    const additionals: DnsRecord[] = [];
    for (const endpoint of endpoints) {
      const target = `${endpoint.host}.${fqdn}`;
      const ports = endpoint.ports.filter(wanted);
      for (const p of ports) records.push(srvRecord(name, p.port, target, weight));
      if (ports.length > 0) additionals.push({ type: "A", name: target, ttl: TTL, data: endpoint.ip });
    }
    return answer(records, additionals);
  }

  #alias(name: string, type: string, target: string): ZoneAnswer {
    const alias: DnsRecord = { type: "CNAME", name, ttl: TTL, data: target };
    if (type === "CNAME") return answer([alias]);
    const next = this.#services.get(serviceKey(target));
    // One step only: an ExternalName that names another could run in a circle.
    if (next?.["spec"]?.type === "ExternalName") return answer([alias]);
    const resolved = this.resolve(target, type);
    if (resolved.kind === "forward") return { kind: "forward", name: target, prefix: [alias] };
    return answer(resolved.kind === "answer" ? [alias, ...resolved.answers] : [alias]);
  }

  #reverse(name: string, labels: readonly string[], type: string): ZoneAnswer {
    const ip = labels.slice(0, -2).reverse().join(".");
    if (!isIPv4(ip) || !OWN_NETWORKS.some((network) => cidrHas(network, ip))) {
      return { kind: "forward", name, prefix: [] };
    }
    const targets: string[] = [];
    for (const service of this.#services.values()) {
      if (service["spec"]?.clusterIP === ip) targets.push(serviceName(service));
      else if (service["spec"]?.clusterIP === "None") {
        for (const endpoint of this.#endpoints(service)) {
          if (endpoint.ip === ip) targets.push(`${endpoint.host}.${serviceName(service)}`);
        }
      }
    }
    if (targets.length === 0) return NXDOMAIN;
    if (type !== "PTR") return NODATA;
    return answer(targets.sort().map((data) => ({ type: "PTR", name, ttl: TTL, data })));
  }

  #endpoints(service: KubeObject): Endpoint[] {
    const found = new Map<string, Endpoint>();
    const slices = this.#slices.get(`${service.metadata.namespace}/${service.metadata.name}`);
    for (const slice of slices?.values() ?? []) {
      if (slice["addressType"] !== "IPv4") continue;
      const ports = (slice["ports"] ?? []).map((p: { name?: string; protocol?: string; port: number }) => ({
        name: p.name ?? "",
        protocol: p.protocol ?? "TCP",
        port: p.port,
      }));
      for (const endpoint of slice["endpoints"] ?? []) {
        const ip = endpoint.addresses?.[0];
        if (!ip || !(endpoint.conditions?.ready ?? true)) continue;
        const before = found.get(ip);
        const host = endpoint.hostname ?? ip.replaceAll(".", "-");
        found.set(ip, { ip, host, ports: before ? [...before.ports, ...ports] : ports });
      }
    }
    return [...found.values()];
  }
}

function answer(answers: readonly DnsRecord[], additionals: readonly DnsRecord[] = []): ZoneAnswer {
  return { kind: "answer", answers, additionals };
}

function srvRecord(name: string, port: number, target: string, weight: number): DnsRecord {
  return { type: "SRV", name, ttl: TTL, data: { priority: 0, weight, port, target } };
}

function serviceName(service: KubeObject): string {
  return `${service.metadata.name}.${service.metadata.namespace}.svc.${CLUSTER_DOMAIN}`;
}

function serviceKey(fqdn: string): string {
  const [name, namespace] = fqdn.toLowerCase().split(".");
  return `${namespace}/${name}`;
}
