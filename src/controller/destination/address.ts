// What one endpoint of a Service, or a pod by itself, looks like to a proxy.
import { addressOf } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import type { WeightedAddr } from "../../api/destination.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import type { PodRecord } from "../cluster-objects.ts";

export type Address = Pick<
  MessageOf<typeof WeightedAddr>,
  "addr" | "weight" | "metricLabels" | "tlsIdentity" | "protocolHint" | "resourceRef"
>;

export interface MeshFacts {
  /** Namespace of this control plane. */
  readonly namespace: string;
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly defaultOpaquePorts: readonly PortRange[];
}

/** Every endpoint weighs the same until the API says otherwise (Linkerd's default). */
const WEIGHT = 10_000;

/** Whether bytes to a pod's port are to be left alone: what the pod says, else the default. */
export function isOpaqueAt(pod: PodRecord, port: number, mesh: MeshFacts): boolean {
  return portSetHas(pod.opaquePorts ?? mesh.defaultOpaquePorts, port);
}

/** @param pod the pod that has this address now; undefined for an address that is no (known) pod's. */
export function addressAt(
  ip: string,
  port: number,
  pod: PodRecord | undefined,
  zone: string | undefined,
  mesh: MeshFacts,
): Address {
  const addr = addressOf(ip, port);
  if (!pod) return { addr, weight: WEIGHT, metricLabels: zone ? { zone } : {} };
  const ours = pod.controlPlane === mesh.namespace && !portSetHas(pod.skipInbound, port);
  const name = `${pod.serviceAccount}.${pod.namespace}.serviceaccount.identity.${mesh.namespace}.${mesh.trustDomain}`;
  const opaque = isOpaqueAt(pod, port, mesh);
  return {
    addr,
    weight: WEIGHT,
    metricLabels: labelsOf(pod, zone),
    resourceRef: {
      resource: { group: "", kind: "Pod", name: pod.name, namespace: pod.namespace, section: "", port },
    },
    ...(ours
      ? {
          tlsIdentity: { dnsLikeIdentity: { name }, serverName: { name } },
          protocolHint: {
            ...(opaque ? { opaque: {} } : { h2: {} }),
            opaqueTransport: { inboundPort: pod.inboundPort },
          },
        }
      : {}),
  };
}

/** Labels that the proxy puts, with `dst_` in front, on its metrics about this endpoint. */
function labelsOf(pod: PodRecord, zone: string | undefined): Record<string, string> {
  const labels: Record<string, string> = {
    namespace: pod.namespace,
    pod: pod.name,
    serviceaccount: pod.serviceAccount,
  };
  if (pod.owner) labels[pod.owner.kind.toLowerCase()] = pod.owner.name;
  if (pod.templateHash) labels["pod_template_hash"] = pod.templateHash;
  if (pod.controlPlane) labels["control_plane_ns"] = pod.controlPlane;
  if (zone) labels["zone"] = zone;
  return labels;
}
