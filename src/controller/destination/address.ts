// What one endpoint looks like to a proxy: where it is, who it must prove to be, how to speak to it.
import { addressOf } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import type { WeightedAddr } from "../../api/destination.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import type { PodRecord, SliceRecord } from "../cluster-objects.ts";
import type { WorkloadRecord } from "./external-workload.ts";

export type Address = Pick<
  MessageOf<typeof WeightedAddr>,
  "addr" | "weight" | "metricLabels" | "tlsIdentity" | "protocolHint" | "authorityOverride" | "resourceRef"
>;

export interface MeshFacts {
  /** Namespace of this control plane. */
  readonly namespace: string;
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly defaultOpaquePorts: readonly PortRange[];
}

/** An address with what is behind it now. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
  /** The pod or workload that has the address; undefined for an address that is nobody's. */
  readonly target: PodRecord | WorkloadRecord | undefined;
  readonly zone: string | undefined;
  /** Whether the client is in that zone; undefined when either is not known. */
  readonly local: boolean | undefined;
  /** Bytes to the port are to be left alone. */
  readonly opaque: boolean;
  /** It is the gateway of another cluster. */
  readonly gateway: SliceRecord["gateway"];
}

/** Every endpoint weighs the same until the API says otherwise (Linkerd's default). */
const WEIGHT = 10_000;
/** Where the proxy of an ExternalWorkload listens; it has no annotation for another port. */
const WORKLOAD_INBOUND_PORT = 4143;

export const isPod = (target: PodRecord | WorkloadRecord): target is PodRecord => target.kind === "Pod";

/** Whether two say the same to a proxy. */
export const isSame = (a: Endpoint, b: Endpoint): boolean =>
  a === b ||
  (a.target === b.target &&
    a.zone === b.zone &&
    a.local === b.local &&
    a.opaque === b.opaque &&
    a.gateway?.identity === b.gateway?.identity &&
    a.gateway?.authority === b.gateway?.authority);

/** The message of an endpoint. */
export function addressFor(endpoint: Endpoint, mesh: MeshFacts): Address {
  const { ip, port, target, gateway } = endpoint;
  const base = { addr: addressOf(ip, port), weight: WEIGHT, metricLabels: labelsOf(endpoint) };
  if (gateway) {
    return {
      ...base,
      tlsIdentity: identityOf(gateway.identity, gateway.identity),
      protocolHint: { h2: {} },
      authorityOverride: { authorityOverride: gateway.authority },
    };
  }
  if (!target) return base;
  const { kind, name, namespace } = target;
  const group = kind === "Pod" ? "" : "workload.linkerd.io";
  return {
    ...base,
    resourceRef: { resource: { group, kind, name, namespace, section: "", port } },
    ...meshedParts(target, endpoint, mesh),
  };
}

/** Identity and hints of an endpoint that has a proxy of this control plane on the port. */
function meshedParts(
  target: PodRecord | WorkloadRecord,
  { port, opaque }: Endpoint,
  mesh: MeshFacts,
): Pick<Address, "tlsIdentity" | "protocolHint"> | undefined {
  const hint = (inboundPort: number) => ({
    ...(opaque ? { opaque: {} } : { h2: {} }),
    opaqueTransport: { inboundPort },
  });
  if (!isPod(target)) {
    const { identity, serverName } = target;
    if (identity === "") return undefined;
    return {
      tlsIdentity: identityOf(identity, serverName),
      protocolHint: hint(WORKLOAD_INBOUND_PORT),
    };
  }
  const { controlPlane, hostNetwork, skipInbound, serviceAccount, namespace, inboundPort } = target;
  // The address of a node says nothing about a pod there.
  if (controlPlane !== mesh.namespace || hostNetwork || portSetHas(skipInbound, port)) return undefined;
  const name = `${serviceAccount}.${namespace}.serviceaccount.identity.${mesh.namespace}.${mesh.trustDomain}`;
  return { tlsIdentity: identityOf(name, name), protocolHint: hint(inboundPort) };
}

const identityOf = (identity: string, serverName: string): NonNullable<Address["tlsIdentity"]> => ({
  ...(identity.startsWith("spiffe://")
    ? { uriLikeIdentity: { uri: identity } }
    : { dnsLikeIdentity: { name: identity } }),
  serverName: { name: serverName },
});

/** Labels that the proxy puts, with `dst_` in front, on its metrics about this endpoint. */
function labelsOf({ target, zone, local }: Endpoint): Record<string, string> {
  const labels: Record<string, string> = {};
  if (target) {
    labels["namespace"] = target.namespace;
    labels[isPod(target) ? "pod" : "external_workload"] = target.name;
    if (target.owner) labels[target.owner.kind.toLowerCase()] = target.owner.name;
    if (isPod(target)) {
      labels["serviceaccount"] = target.serviceAccount;
      if (target.templateHash) labels["pod_template_hash"] = target.templateHash;
      if (target.controlPlane) labels["control_plane_ns"] = target.controlPlane;
    }
  }
  if (zone) labels["zone"] = zone;
  if (local !== undefined) labels["zone_locality"] = local ? "local" : "remote";
  return labels;
}
