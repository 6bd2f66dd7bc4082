// Services and pods → EndpointSlices: pure. One slice for each set of port numbers that the service's target ports
// come to on the pods (named ports may differ from pod to pod), cut at MAX_ENDPOINTS.
import type { Json, KubeObject } from "../cluster.ts";
import { isFinished, isReady } from "./pods.ts";

/** Kubernetes' default for --max-endpoints-per-slice. */
export const MAX_ENDPOINTS = 100;

export interface SlicePort {
  name: string;
  protocol: string;
  port: number;
  appProtocol?: string;
}

export interface SliceContent {
  ports: SlicePort[];
  endpoints: Json[];
}

/** Zone of a node by name, if it has one. */
export type ZoneOf = (node: string) => string | undefined;

/** What the slices of a service should hold, in a stable order. */
export function sliceContents(
  service: KubeObject,
  pods: readonly KubeObject[],
  zoneOf: ZoneOf,
): SliceContent[] {
  const groups = new Map<string, SliceContent>();
  const sorted = [...pods].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const pod of sorted) {
    if (!pod["status"]?.podIP || isFinished(pod)) continue;
    const ports = resolvePorts(service, pod);
    const key = JSON.stringify(ports);
    let group = groups.get(key);
    if (!group) {
      group = { ports, endpoints: [] };
      groups.set(key, group);
    }
    group.endpoints.push(endpointOf(service, pod, zoneOf));
  }
  const contents: SliceContent[] = [];
  for (const key of [...groups.keys()].sort()) {
    const { ports, endpoints } = groups.get(key)!;
    for (let start = 0; start < endpoints.length; start += MAX_ENDPOINTS) {
      contents.push({ ports, endpoints: endpoints.slice(start, start + MAX_ENDPOINTS) });
    }
  }
  return contents;
}

/** The service's ports as this pod has them; a named port that the pod lacks is left out. */
export function resolvePorts(service: KubeObject, pod: KubeObject): SlicePort[] {
  const ports: SlicePort[] = [];
  for (const port of service["spec"].ports ?? []) {
    const protocol: string = port.protocol ?? "TCP";
    const number = targetPort(port.targetPort ?? port.port, protocol, pod);
    if (number === undefined) continue;
    ports.push({
      name: port.name ?? "",
      protocol,
      port: number,
      ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}),
    });
  }
  return ports;
}

function targetPort(target: number | string, protocol: string, pod: KubeObject): number | undefined {
  if (typeof target === "number") return target;
  const sidecars = (pod["spec"].initContainers ?? []).filter(
    (container: Json) => container.restartPolicy === "Always",
  );
  for (const container of [...(pod["spec"].containers ?? []), ...sidecars]) {
    for (const port of container.ports ?? []) {
      if (port.name === target && (port.protocol ?? "TCP") === protocol) return port.containerPort;
    }
  }
  return undefined;
}

function endpointOf(service: KubeObject, pod: KubeObject, zoneOf: ZoneOf): Json {
  const serving = isReady(pod);
  const terminating = Boolean(pod.metadata.deletionTimestamp);
  const node: string | undefined = pod["spec"].nodeName;
  const zone = node === undefined ? undefined : zoneOf(node);
  const { hostname, subdomain } = pod["spec"];
  return {
    addresses: [pod["status"].podIP],
    conditions: {
      ready: Boolean(service["spec"].publishNotReadyAddresses) || (serving && !terminating),
      serving,
      terminating,
    },
    ...(hostname && subdomain === service.metadata.name ? { hostname } : {}),
    targetRef: {
      kind: "Pod",
      namespace: pod.metadata.namespace,
      name: pod.metadata.name,
      uid: pod.metadata.uid,
    },
    ...(node ? { nodeName: node } : {}),
    ...(zone ? { zone } : {}),
  };
}

/** The subsets of the classic Endpoints object, which `kubectl describe service` shows. */
export function endpointSubsets(service: KubeObject, pods: readonly KubeObject[]): Json[] {
  const publish = Boolean(service["spec"].publishNotReadyAddresses);
  const groups = new Map<string, { ports: Json[]; addresses: Json[]; notReadyAddresses: Json[] }>();
  for (const pod of [...pods].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    if (!pod["status"]?.podIP || isFinished(pod) || pod.metadata.deletionTimestamp) continue;
    const ports = resolvePorts(service, pod).map(({ name, ...port }) => ({
      ...(name ? { name } : {}),
      ...port,
    }));
    const key = JSON.stringify(ports);
    const group = groups.get(key) ?? { ports, addresses: [], notReadyAddresses: [] };
    groups.set(key, group);
    const { hostname, subdomain, nodeName } = pod["spec"];
    (publish || isReady(pod) ? group.addresses : group.notReadyAddresses).push({
      ip: pod["status"].podIP,
      ...(hostname && subdomain === service.metadata.name ? { hostname } : {}),
      ...(nodeName ? { nodeName } : {}),
      targetRef: {
        kind: "Pod",
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        uid: pod.metadata.uid,
      },
    });
  }
  return [...groups.values()].map(({ ports, addresses, notReadyAddresses }) => ({
    ...(addresses.length > 0 ? { addresses } : {}),
    ...(notReadyAddresses.length > 0 ? { notReadyAddresses } : {}),
    ...(ports.length > 0 ? { ports } : {}),
  }));
}
