// ExternalWorkloads as destination keeps them: machines outside the cluster that are part of the mesh.
import type { ExternalWorkload } from "../../crds/external-workload.ts";
import { ownerOf } from "../../inject/workload.ts";
import { KEYS } from "../../manifests/names.ts";
import type { PortRange } from "../../util/port-set.ts";
import { addressOfText, portsOf } from "../cluster-objects.ts";

export interface WorkloadRecord {
  readonly kind: "ExternalWorkload";
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ips: readonly string[];
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  readonly opaquePorts: readonly PortRange[] | undefined;
  /** DNS-like, or a SPIFFE URI; empty when it has none. */
  readonly identity: string;
  readonly serverName: string;
  /** Its Ready condition says so. */
  readonly ready: boolean;
  /** It is being deleted. */
  readonly ending: boolean;
  /** Creation, ms since the epoch. */
  readonly created: number;
  readonly owner: { readonly kind: string; readonly name: string } | undefined;
}

/** Of an object in v1beta1, or in v1alpha1, which writes `meshTls`. */
export function workloadRecord(object: ExternalWorkload): WorkloadRecord {
  const { metadata, status } = object;
  const spec = (object.spec ?? {}) as Partial<ExternalWorkload["spec"]> & {
    readonly meshTls?: ExternalWorkload["spec"]["meshTLS"];
  };
  const tls = spec.meshTLS ?? spec.meshTls;
  const ports = (spec.ports ?? [])
    .filter(({ protocol = "TCP" }) => protocol === "TCP")
    .map(({ name = "", port }) => ({ name, port }));
  return {
    kind: "ExternalWorkload",
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    uid: metadata.uid ?? "",
    labels: metadata.labels ?? {},
    ips: (spec.workloadIPs ?? []).map(({ ip }) => addressOfText(ip)),
    ports,
    opaquePorts: portsOf(
      metadata.annotations?.[KEYS.opaquePorts],
      new Map(ports.map(({ name, port }) => [name, port])),
    ),
    identity: tls?.identity ?? "",
    serverName: tls?.serverName ?? tls?.identity ?? "",
    ready: (status?.conditions ?? []).some((c) => c.type === "Ready" && c.status === "True"),
    ending: metadata.deletionTimestamp !== undefined,
    created: Date.parse(metadata.creationTimestamp ?? "") || 0,
    owner: ownerOf(metadata),
  };
}
