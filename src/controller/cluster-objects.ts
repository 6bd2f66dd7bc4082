// Small records of the cluster's objects, as destination and policy index them: a cluster's Pods and Services whole
// would cost ten times the memory.
import { ownerOf, reviewAnnotations } from "../inject/index.ts";
import type { EndpointSlice, Namespace, Pod, Service } from "../kube/types.ts";
import {
  type AnnotationProblem,
  type TrafficSettings,
  trafficSettings,
} from "../rules/traffic-annotations.ts";
import { type PortRange, parsePortSet } from "../util/port-set.ts";

/** Keys of Linkerd's that decide here. */
export const ANNOTATION = {
  opaquePorts: "config.linkerd.io/opaque-ports",
  skipInbound: "config.linkerd.io/skip-inbound-ports",
  inboundPort: "config.linkerd.io/inbound-port",
  defaultPolicy: "config.linkerd.io/default-inbound-policy",
} as const;
const CONTROL_PLANE_NS = "linkerd.io/control-plane-ns";

export interface PodRecord {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly nodeName: string;
  readonly serviceAccount: string;
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
  /** HTTP probes, which reach the pod without a rule. */
  readonly probes: readonly { readonly port: number; readonly path: string }[];
  /** Not finished: it still has its addresses. One that is being deleted serves on until it is gone. */
  readonly live: boolean;
}

export interface ServiceRecord {
  readonly namespace: string;
  readonly name: string;
  readonly clusterIPs: readonly string[];
  readonly headless: boolean;
  readonly externalName: boolean;
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
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  readonly endpoints: readonly {
    readonly ip: string;
    readonly hostname: string | undefined;
    readonly zone: string | undefined;
    /** Name of the Pod behind it, in the slice's namespace. */
    readonly pod: string | undefined;
  }[];
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
  const probes = containers.flatMap((container) =>
    [container.livenessProbe, container.readinessProbe, container.startupProbe].flatMap((probe) => {
      if (!probe?.httpGet) return [];
      const { port, path = "/" } = probe.httpGet;
      const number = typeof port === "number" ? port : names.get(port);
      // The kubelet takes the path as a URL's: what follows ? is no part of it.
      return number === undefined ? [] : [{ port: number, path: path.split("?")[0] || "/" }];
    }),
  );
  const inbound = Number(annotations[ANNOTATION.inboundPort] ?? 4143);
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    uid: metadata.uid ?? "",
    ips: status?.podIPs?.map(({ ip }) => ip) ?? (status?.podIP ? [status.podIP] : []),
    labels: metadata.labels ?? {},
    nodeName: spec.nodeName ?? "",
    serviceAccount: spec.serviceAccountName ?? "default",
    controlPlane: metadata.labels?.[CONTROL_PLANE_NS],
    owner: ownerOf(metadata),
    templateHash: metadata.labels?.["pod-template-hash"],
    inboundPort: Number.isInteger(inbound) && inbound > 0 && inbound < 65_536 ? inbound : 4143,
    opaquePorts: portsOf(annotations[ANNOTATION.opaquePorts], names),
    skipInbound: portsOf(annotations[ANNOTATION.skipInbound]) ?? [],
    defaultPolicy: annotations[ANNOTATION.defaultPolicy],
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
    clusterIPs: headless ? [] : ips,
    headless,
    externalName: spec.type === "ExternalName",
    ports: (spec.ports ?? [])
      .filter((port) => (port.protocol ?? "TCP") === "TCP")
      .map(({ name = "", port, targetPort, appProtocol }) => ({ name, port, targetPort, appProtocol })),
    opaquePorts: portsOf(metadata.annotations?.[ANNOTATION.opaquePorts]),
    traffic: trafficSettings(metadata.annotations, "parent"),
    // Items of lists do not name their kind.
    annotationProblems: metadata.annotations
      ? reviewAnnotations({ apiVersion: "v1", kind: "Service", metadata, spec })
      : [],
  };
}

export function sliceRecord(slice: EndpointSlice): SliceRecord {
  return {
    namespace: slice.metadata.namespace ?? "",
    name: slice.metadata.name,
    service: slice.metadata.labels?.["kubernetes.io/service-name"] ?? "",
    ports: (slice.ports ?? [])
      .filter((port) => (port.protocol ?? "TCP") === "TCP" && port.port !== undefined)
      .map((port) => ({ name: port.name ?? "", port: port.port! })),
    endpoints: (slice.endpoints ?? [])
      // An absent condition means ready (EndpointSlice v1).
      .filter((endpoint) => endpoint.conditions?.ready !== false && endpoint.addresses.length > 0)
      .map((endpoint) => ({
        ip: endpoint.addresses[0]!,
        hostname: endpoint.hostname,
        zone: endpoint.zone,
        pod: endpoint.targetRef?.kind === "Pod" ? endpoint.targetRef.name : undefined,
      })),
  };
}

export function namespaceRecord(namespace: Namespace): NamespaceRecord {
  const annotations = namespace.metadata.annotations ?? {};
  return {
    name: namespace.metadata.name,
    opaquePorts: portsOf(annotations[ANNOTATION.opaquePorts]),
    defaultPolicy: annotations[ANNOTATION.defaultPolicy],
  };
}
