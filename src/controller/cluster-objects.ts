// Small records of the cluster's objects, as destination and policy index them: a cluster's Pods and Services whole
// would cost ten times the memory.
import { isIP } from "node:net";
import { ownerOf, reviewAnnotations } from "../inject/index.ts";
import type { EndpointSlice, Namespace, Node, Pod, Service } from "../kube/types.ts";
import { KEYS } from "../manifests/names.ts";
import type { Probe } from "../rules/default-policy.ts";
import {
  type AnnotationProblem,
  type TrafficSettings,
  trafficSettings,
} from "../rules/traffic-annotations.ts";
import { intern } from "../util/intern.ts";
import { canonicalIp } from "../util/ip.ts";
import { type PortRange, parsePortSet } from "../util/port-set.ts";

export interface PodRecord {
  readonly kind: "Pod";
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly nodeName: string;
  readonly serviceAccount: string;
  /** It has the addresses of its node, as others there have. */
  readonly hostNetwork: boolean;
  /** Creation, ms since the epoch; 0 when it is not said. */
  readonly created: number;
  /** Ports of its node that lead to ports of the pod. */
  readonly hostPorts: readonly { readonly ip: string; readonly hostPort: number; readonly port: number }[];
  /** Namespace of the control plane whose proxy it has; undefined when it is not meshed. */
  readonly controlPlane: string | undefined;
  readonly owner: { readonly kind: string; readonly name: string } | undefined;
  readonly templateHash: string | undefined;
  readonly inboundPort: number;
  readonly opaquePorts: readonly PortRange[] | undefined;
  readonly skipInbound: readonly PortRange[];
  readonly defaultPolicy: string | undefined;
  /** Container ports by name. */
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  /** Probes, which reach the pod without a rule. */
  readonly probes: readonly (Probe & { readonly port: number })[];
  /** Not finished: it still has its addresses. One that is being deleted serves on until it is gone. */
  readonly live: boolean;
}

export interface ServiceRecord {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly families: readonly (4 | 6)[];
  readonly clusterIPs: readonly string[];
  readonly headless: boolean;
  readonly externalName: boolean;
  /** Clients are served by endpoints of their own node alone (internalTrafficPolicy: Local). */
  readonly nodeLocal: boolean;
  /** `spec.trafficDistribution`: which endpoints clients are to prefer. */
  readonly distribution: string | undefined;
  /** It stands for a Service of another cluster. */
  readonly remote: { readonly cluster: string; readonly service: string } | undefined;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly ports: readonly {
    readonly name: string;
    readonly port: number;
    readonly targetPort: number | string | undefined;
    readonly appProtocol: string | undefined;
  }[];
  readonly opaquePorts: readonly PortRange[] | undefined;
  /** Retries, timeouts and circuit breaking of its clients. */
  readonly traffic: TrafficSettings;
  /** Annotations about them that are not understood. */
  readonly annotationProblems: readonly AnnotationProblem[];
}

export interface SliceRecord {
  readonly namespace: string;
  readonly name: string;
  readonly service: string;
  /** IP family of all its addresses. */
  readonly family: 4 | 6;
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  readonly endpoints: readonly EndpointRecord[];
  /** The gateway of another cluster that the addresses are, and what it calls the Service. */
  readonly gateway: { readonly identity: string; readonly authority: string } | undefined;
}

export interface EndpointRecord {
  readonly ip: string;
  /** False: it is ending, and serves on until it is gone. */
  readonly ready: boolean;
  readonly hostname: string | undefined;
  readonly zone: string | undefined;
  readonly nodeName: string | undefined;
  /** Zones and nodes whose clients it is meant for; undefined: it does not say. */
  readonly forZones: readonly string[] | undefined;
  readonly forNodes: readonly string[] | undefined;
  /** What is behind it, in the slice's namespace; its uid where the slice says it. */
  readonly target: TargetReference | undefined;
}

export interface TargetReference {
  readonly kind: "Pod" | "ExternalWorkload";
  readonly name: string;
  readonly uid: string | undefined;
  /** What it is found by. */
  readonly key: string;
}

/** What pods and ExternalWorkloads are found by. */
export const targetKey = (kind: string, namespace: string, name: string) => `${kind}/${namespace}/${name}`;

export interface NodeRecord {
  readonly name: string;
  readonly zone: string | undefined;
}

export interface NamespaceRecord {
  readonly name: string;
  readonly opaquePorts: readonly PortRange[] | undefined;
  readonly defaultPolicy: string | undefined;
}

/** A port set from an annotation; what cannot be read counts as not there (injection reports it to the user). */
export function portsOf(
  text: string | undefined,
  names: ReadonlyMap<string, number> = new Map(),
): PortRange[] | undefined {
  if (text === undefined) return undefined;
  try {
    return parsePortSet(
      text
        .split(",")
        .map((item) => String(names.get(item.trim()) ?? item))
        .join(","),
    );
  } catch {
    return undefined;
  }
}

/** The one text of an address; what is none stays as it is, and equals no address. */
export function addressOfText(text: string): string {
  const family = isIP(text);
  return family === 6 ? canonicalIp(text) : text;
}

/** Labels whose text is kept once. */
function labelsOf(labels: Readonly<Record<string, string>> = {}): Record<string, string> {
  const out: Record<string, string> = {};
  for (const key in labels) out[intern(key)] = intern(labels[key]!);
  return out;
}

/** Addresses of a status, the list or, of old servers, the one. */
const addressesOf = (
  list: readonly { readonly ip: string }[] | undefined,
  one: string | undefined,
): string[] => list?.map(({ ip }) => addressOfText(ip)) ?? (one ? [addressOfText(one)] : []);

/** The kubelet takes a probe's path as a URL's, with a slash before it where there is none (pkg/probe/http). */
function probePath(text: string): string {
  const path = text.split(/[?#]/)[0]!;
  return path.startsWith("/") ? path : `/${path}`;
}

export function podRecord(pod: Pod): PodRecord {
  const { metadata, spec, status } = pod;
  const annotations = metadata.annotations ?? {};
  const containers = [
    ...(spec.initContainers ?? []).filter((c) => c.restartPolicy === "Always"),
    ...spec.containers,
  ];
  const ports = containers.flatMap((container) =>
    (container.ports ?? []).map((port) => ({ name: port.name ?? "", port: port.containerPort })),
  );
  const names = new Map(ports.map(({ name, port }) => [name, port]));
  const owner = ownerOf(metadata);
  const probes = containers.flatMap((container) =>
    [container.livenessProbe, container.readinessProbe, container.startupProbe].flatMap(
      (probe): PodRecord["probes"] => {
        if (probe?.grpc) return [{ kind: "grpc", port: probe.grpc.port }];
        if (!probe?.httpGet) return [];
        const { port, path = "/" } = probe.httpGet;
        const number = typeof port === "number" ? port : names.get(port);
        return number === undefined ? [] : [{ kind: "http", port: number, path: probePath(path) }];
      },
    ),
  );
  const hostIps = addressesOf(status?.hostIPs, status?.hostIP);
  const hostPorts = containers.flatMap((container) =>
    (container.ports ?? []).flatMap(({ hostPort, hostIP, containerPort, protocol = "TCP" }) => {
      if (!hostPort || protocol !== "TCP" || spec.hostNetwork) return [];
      const any = !hostIP || hostIP === "0.0.0.0" || hostIP === "::";
      return (any ? hostIps : [addressOfText(hostIP)]).map((ip) => ({ ip, hostPort, port: containerPort }));
    }),
  );
  const inbound = Number(annotations[KEYS.inboundPort] ?? 4143);
  return {
    kind: "Pod",
    namespace: intern(metadata.namespace ?? ""),
    name: metadata.name,
    uid: metadata.uid ?? "",
    ips: addressesOf(status?.podIPs, status?.podIP),
    labels: labelsOf(metadata.labels),
    nodeName: intern(spec.nodeName ?? ""),
    serviceAccount: intern(spec.serviceAccountName ?? "default"),
    hostNetwork: spec.hostNetwork === true,
    created: Date.parse(metadata.creationTimestamp ?? "") || 0,
    hostPorts,
    controlPlane: metadata.labels?.[KEYS.controlPlaneNs],
    owner: owner && { kind: intern(owner.kind), name: intern(owner.name) },
    templateHash: metadata.labels?.["pod-template-hash"],
    inboundPort: Number.isInteger(inbound) && inbound > 0 && inbound < 65_536 ? inbound : 4143,
    opaquePorts: portsOf(annotations[KEYS.opaquePorts], names),
    skipInbound: portsOf(annotations[KEYS.skipInboundPorts]) ?? [],
    defaultPolicy: annotations[KEYS.defaultInboundPolicy],
    ports,
    probes,
    live: status?.phase !== "Succeeded" && status?.phase !== "Failed",
  };
}

export function serviceRecord(service: Service): ServiceRecord {
  const { metadata, spec } = service;
  const ips = spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : []);
  const headless = spec.clusterIP === "None";
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    uid: metadata.uid ?? "",
    families: (spec.ipFamilies ?? ["IPv4"]).map((family) => (family === "IPv6" ? 6 : 4)),
    clusterIPs: headless ? [] : ips.filter((ip) => ip !== "").map(addressOfText),
    headless,
    externalName: spec.type === "ExternalName",
    nodeLocal: spec.internalTrafficPolicy === "Local",
    distribution: spec.trafficDistribution,
    remote: remoteOf(metadata.labels),
    selector: spec.selector,
    ports: (spec.ports ?? [])
      .filter((port) => (port.protocol ?? "TCP") === "TCP")
      .map(({ name = "", port, targetPort, appProtocol }) => ({ name, port, targetPort, appProtocol })),
    opaquePorts: portsOf(
      metadata.annotations?.[KEYS.opaquePorts],
      new Map((spec.ports ?? []).flatMap(({ name, port }) => (name ? [[name, port] as const] : []))),
    ),
    traffic: trafficSettings(metadata.annotations, "parent"),
    // Items of lists do not name their kind.
    annotationProblems: metadata.annotations
      ? reviewAnnotations({ apiVersion: "v1", kind: "Service", metadata, spec })
      : [],
  };
}

function remoteOf(labels: Readonly<Record<string, string>> = {}): ServiceRecord["remote"] {
  const { [KEYS.remoteCluster]: cluster, [KEYS.remoteService]: service } = labels;
  return cluster === undefined || service === undefined ? undefined : { cluster, service };
}

const namesOf = (list: Names): string[] | undefined =>
  list && list.length > 0 ? list.map(({ name }) => intern(name)) : undefined;

/** @param old what the slice was before: its endpoints that are the same stay the same objects, that none grows old in vain */
export function sliceRecord(slice: EndpointSlice, old?: SliceRecord): SliceRecord {
  const { metadata, addressType } = slice;
  const namespace = intern(metadata.namespace ?? "");
  const identity = metadata.annotations?.[KEYS.remoteGatewayIdentity];
  const authority = metadata.annotations?.[KEYS.remoteServiceName];
  return {
    namespace,
    name: metadata.name,
    service: intern(metadata.labels?.["kubernetes.io/service-name"] ?? ""),
    family: addressType === "IPv6" ? 6 : 4,
    ports: (slice.ports ?? [])
      .filter((port) => (port.protocol ?? "TCP") === "TCP" && port.port !== undefined)
      .map((port) => ({ name: port.name ?? "", port: port.port! })),
    // Names are not addresses (addressType FQDN).
    endpoints:
      addressType === "FQDN" ? [] : endpointsOf(slice.endpoints ?? [], namespace, old?.endpoints ?? []),
    gateway: identity && authority ? { identity, authority } : undefined,
  };
}

type SliceEndpoint = NonNullable<EndpointSlice["endpoints"]>[number];

/** Those that take connections. */
function endpointsOf(
  endpoints: readonly SliceEndpoint[],
  namespace: string,
  old: readonly EndpointRecord[],
): EndpointRecord[] {
  const out: EndpointRecord[] = [];
  let byIp: Map<string, EndpointRecord> | undefined;
  for (const endpoint of endpoints) {
    const [address] = endpoint.addresses;
    if (address === undefined || !(isReady(endpoint) || isServing(endpoint))) continue;
    // Nearly always at the same place.
    let known = old[out.length];
    if (known !== undefined && known.ip !== address) {
      byIp ??= new Map(old.map((each) => [each.ip, each]));
      known = byIp.get(address);
    }
    out.push(known && isSame(known, endpoint) ? known : endpointRecord(endpoint, address, namespace));
  }
  return out;
}

// An absent condition means ready (EndpointSlice v1).
const isReady = ({ conditions = {} }: SliceEndpoint) => conditions.ready !== false;
const isServing = ({ conditions = {} }: SliceEndpoint) => conditions.serving && conditions.terminating;

/** Whether the record of an endpoint would be the same, all but for its address. */
function isSame(known: EndpointRecord, endpoint: SliceEndpoint): boolean {
  const { hints, targetRef } = endpoint;
  const { target } = known;
  return (
    known.ready === isReady(endpoint) &&
    known.zone === (endpoint.zone || undefined) &&
    known.nodeName === (endpoint.nodeName || undefined) &&
    known.hostname === endpoint.hostname &&
    haveSameNames(known.forZones, hints?.forZones) &&
    haveSameNames(known.forNodes, hints?.forNodes) &&
    (isTarget(targetRef)
      ? target?.name === targetRef.name && target.kind === targetRef.kind && target.uid === targetRef.uid
      : target === undefined)
  );
}

const haveSameNames = (known: readonly string[] | undefined, list: Names = []) =>
  known === undefined
    ? list.length === 0
    : known.length === list.length && list.every(({ name }, at) => name === known[at]);

type Names = readonly { readonly name: string }[] | undefined;

type TargetRef = NonNullable<SliceEndpoint["targetRef"]>;

const isTarget = (
  ref: TargetRef | undefined,
): ref is TargetRef & { readonly kind: TargetReference["kind"]; readonly name: string } =>
  (ref?.kind === "Pod" || ref?.kind === "ExternalWorkload") && ref.name !== undefined;

function endpointRecord(endpoint: SliceEndpoint, address: string, namespace: string): EndpointRecord {
  const { hostname, zone, nodeName, hints, targetRef: ref } = endpoint;
  return {
    ip: addressOfText(address),
    ready: isReady(endpoint),
    hostname,
    zone: zone ? intern(zone) : undefined,
    nodeName: nodeName ? intern(nodeName) : undefined,
    forZones: namesOf(hints?.forZones),
    forNodes: namesOf(hints?.forNodes),
    target: isTarget(ref)
      ? { kind: ref.kind, name: ref.name, uid: ref.uid, key: targetKey(ref.kind, namespace, ref.name) }
      : undefined,
  };
}

export const nodeRecord = (node: Node): NodeRecord => ({
  name: node.metadata.name,
  zone: node.metadata.labels?.["topology.kubernetes.io/zone"],
});

export function namespaceRecord(namespace: Namespace): NamespaceRecord {
  const annotations = namespace.metadata.annotations ?? {};
  return {
    name: namespace.metadata.name,
    opaquePorts: portsOf(annotations[KEYS.opaquePorts]),
    defaultPolicy: annotations[KEYS.defaultInboundPolicy],
  };
}
