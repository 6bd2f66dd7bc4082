// The EndpointSlices that Services need for the ExternalWorkloads that they select: Kubernetes makes those of pods, and
// knows no ExternalWorkloads. Pure: what there should be, as the least change of what there is.
import type { EndpointSlice } from "../../kube/types.ts";
import type { ServiceRecord } from "../cluster-objects.ts";
import type { WorkloadRecord } from "./external-workload.ts";

/** Linkerd's name for whoever manages these slices. */
export const MANAGED_BY = "linkerd-external-workloads-controller";
export const MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by";
export const SERVICE_NAME_LABEL = "kubernetes.io/service-name";
/** Endpoints of one slice (Kubernetes' own bound is 100 as well, the API's is 1,000). */
const MAX_ENDPOINTS = 100;

export interface SliceChanges {
  readonly create: readonly EndpointSlice[];
  readonly update: readonly EndpointSlice[];
  readonly remove: readonly EndpointSlice[];
}

type SliceEndpoint = NonNullable<EndpointSlice["endpoints"]>[number];
type SlicePort = NonNullable<EndpointSlice["ports"]>[number];

/** Whether a Service wants workloads: it has a selector, and endpoints of its own. */
export const wantsWorkloads = ({ selector, externalName }: ServiceRecord): boolean =>
  !externalName && selector !== undefined && Object.keys(selector).length > 0;

export const selects = (
  { selector = {}, namespace }: ServiceRecord,
  workload: Pick<WorkloadRecord, "labels" | "namespace">,
): boolean =>
  namespace === workload.namespace &&
  Object.entries(selector).every(([key, value]) => workload.labels[key] === value);

/**
 * @param service undefined when there is none any more
 * @param workloads all of the namespace
 * @param existing the slices that we made for it
 */
export function sliceChanges(
  service: ServiceRecord | undefined,
  workloads: readonly WorkloadRecord[],
  existing: readonly EndpointSlice[],
): SliceChanges {
  const wanted = service && wantsWorkloads(service) ? groupsOf(service, workloads) : new Map<string, Group>();
  const create: EndpointSlice[] = [];
  const update: EndpointSlice[] = [];
  const remove: EndpointSlice[] = [];
  const byGroup = new Map<string, EndpointSlice[]>();
  for (const slice of existing) {
    const key = groupKey(slice.addressType, slice.ports ?? []);
    // One that another Service of the same name left behind goes with that.
    const ours = service && slice.metadata.ownerReferences?.some(({ uid }) => uid === service.uid);
    if (!ours || !wanted.has(key)) remove.push(slice);
    else byGroup.set(key, [...(byGroup.get(key) ?? []), slice]);
  }
  for (const [key, { addressType, ports, endpoints }] of wanted) {
    const left = new Map(endpoints);
    const kept = (byGroup.get(key) ?? []).map((slice) => {
      const own: SliceEndpoint[] = [];
      let changed = false;
      for (const endpoint of slice.endpoints ?? []) {
        const name = endpoint.targetRef?.name ?? "";
        const now = left.get(name);
        // Each stays in the slice that it is in.
        left.delete(name);
        if (now) own.push(now);
        if (!now || JSON.stringify(now) !== JSON.stringify(ordered(endpoint))) changed = true;
      }
      return { slice, own, changed };
    });
    const rest = [...left.values()];
    for (const each of kept) {
      const room = Math.min(MAX_ENDPOINTS - each.own.length, rest.length);
      if (room > 0) {
        each.own.push(...rest.splice(0, room));
        each.changed = true;
      }
      if (each.own.length === 0) remove.push(each.slice);
      else if (each.changed) update.push({ ...each.slice, endpoints: each.own });
    }
    while (rest.length > 0)
      create.push(newSlice(service!, addressType, ports, rest.splice(0, MAX_ENDPOINTS)));
  }
  return { create, update, remove };
}

interface Group {
  readonly addressType: string;
  readonly ports: readonly SlicePort[];
  /** By workload. */
  readonly endpoints: Map<string, SliceEndpoint>;
}

const groupKey = (addressType: string, ports: readonly SlicePort[]): string =>
  JSON.stringify([
    addressType,
    ports.map(({ name = "", port, protocol = "TCP", appProtocol }) => [
      name,
      port,
      protocol,
      appProtocol ?? "",
    ]),
  ]);

/** One group for each family and set of port numbers: the number of a name may differ between workloads. */
function groupsOf(service: ServiceRecord, workloads: readonly WorkloadRecord[]): Map<string, Group> {
  const groups = new Map<string, Group>();
  const sorted = workloads
    .filter((workload) => selects(service, workload))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const workload of sorted) {
    const ports = portsOf(service, workload);
    for (const family of service.families) {
      const ip = workload.ips.find((each) => each.includes(":") === (family === 6));
      if (ip === undefined) continue;
      const addressType = `IPv${family}`;
      const key = groupKey(addressType, ports);
      const group = groups.get(key) ?? { addressType, ports, endpoints: new Map<string, SliceEndpoint>() };
      groups.set(key, group);
      group.endpoints.set(workload.name, endpointOf(workload, ip));
    }
  }
  return groups;
}

function portsOf(service: ServiceRecord, workload: WorkloadRecord): SlicePort[] {
  return service.ports.flatMap(({ name, port, targetPort = port, appProtocol }) => {
    const number =
      typeof targetPort === "number"
        ? targetPort
        : workload.ports.find((each) => each.name === targetPort)?.port;
    if (number === undefined) return [];
    return [{ name, port: number, protocol: "TCP", ...(appProtocol ? { appProtocol } : {}) }];
  });
}

function endpointOf({ name, namespace, uid, ready, ending }: WorkloadRecord, ip: string): SliceEndpoint {
  return ordered({
    addresses: [ip],
    conditions: { ready: ready && !ending, serving: ready, terminating: ending },
    targetRef: { kind: "ExternalWorkload", namespace, name, uid },
  });
}

/** What we write of an endpoint, in one order, for comparing. */
const ordered = ({ addresses, conditions = {}, targetRef = {} }: SliceEndpoint): SliceEndpoint => ({
  addresses,
  conditions: {
    ready: conditions.ready ?? true,
    serving: conditions.serving ?? true,
    terminating: conditions.terminating ?? false,
  },
  targetRef: {
    kind: targetRef.kind ?? "",
    namespace: targetRef.namespace ?? "",
    name: targetRef.name ?? "",
    uid: targetRef.uid ?? "",
  },
});

function newSlice(
  service: ServiceRecord,
  addressType: string,
  ports: readonly SlicePort[],
  endpoints: SliceEndpoint[],
): EndpointSlice {
  const { name, namespace, uid, headless } = service;
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      // The API server makes it unique.
      generateName: `linkerd-external-${name}-`,
      namespace,
      labels: {
        [SERVICE_NAME_LABEL]: name,
        [MANAGED_BY_LABEL]: MANAGED_BY,
        ...(headless ? { "service.kubernetes.io/headless": "" } : {}),
      },
      ownerReferences: [{ apiVersion: "v1", kind: "Service", name, uid, controller: true }],
    } as unknown as EndpointSlice["metadata"],
    addressType,
    endpoints,
    ports: [...ports],
  };
}
