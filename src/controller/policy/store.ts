// Everything that policy is decided from, as tables of small records, found the ways that decisions look for it.
import type {
  AuthorizationPolicyRecord,
  EgressNetworkRecord,
  MeshTlsAuthenticationRecord,
  NetworkAuthenticationRecord,
  RateLimitRecord,
  RouteRecord,
  ServerAuthorizationRecord,
  ServerRecord,
  TargetRef,
  TrafficSplitRecord,
} from "../../rules/policy-records.ts";
import { type Parent, parentKind } from "../../rules/route-parents.ts";
import { canonicalIp } from "../../util/ip.ts";
import type { NamespaceRecord, PodRecord, ServiceRecord } from "../cluster-objects.ts";
import type { ExternalWorkloadRecord } from "./records.ts";
import { Table } from "./tables.ts";

export const keyOf = ({ namespace, name }: { namespace: string; name: string }): string =>
  `${namespace}/${name}`;

const inNamespace = ({ namespace }: { namespace: string }) => [namespace];

/** The group of what is aimed at one object. */
export const targetKey = ({ kind, namespace, name }: Omit<TargetRef, "group">): string =>
  `${kind} ${namespace}/${name}`;

export const parentKey = (parent: Parent): string => targetKey(parent);

export class PolicyStore {
  readonly namespaces = new Table<NamespaceRecord>({});
  readonly pods = new Table<PodRecord, "namespace" | "ip">({
    namespace: inNamespace,
    ip: ({ ips, live }) => (live ? ips.map(canonicalIp) : []),
  });
  readonly externalWorkloads = new Table<ExternalWorkloadRecord, "namespace" | "ip">({
    namespace: inNamespace,
    ip: ({ ips }) => ips.map(canonicalIp),
  });
  readonly services = new Table<ServiceRecord, "ip">({ ip: ({ clusterIPs }) => clusterIPs.map(canonicalIp) });
  readonly servers = new Table<ServerRecord, "namespace">({ namespace: inNamespace });
  readonly serverAuthorizations = new Table<ServerAuthorizationRecord, "namespace">({
    namespace: inNamespace,
  });
  /** By what they protect. */
  readonly authorizationPolicies = new Table<AuthorizationPolicyRecord, "target">({
    target: ({ target }) => [targetKey(target)],
  });
  readonly meshTlsAuthentications = new Table<MeshTlsAuthenticationRecord>({});
  readonly networkAuthentications = new Table<NetworkAuthenticationRecord>({});
  readonly rateLimits = new Table<RateLimitRecord, "target">({ target: ({ target }) => [targetKey(target)] });
  readonly egressNetworks = new Table<EgressNetworkRecord, "namespace">({ namespace: inNamespace });
  /** By the parents of the mesh's that they name. */
  readonly routes = new Table<RouteRecord, "parent">({
    parent: ({ parents }) => [
      ...new Set(
        parents.flatMap((ref) => {
          const kind = parentKind(ref);
          return kind ? [parentKey({ kind, namespace: ref.namespace, name: ref.name })] : [];
        }),
      ),
    ],
  });
  readonly trafficSplits = new Table<TrafficSplitRecord, "service">({
    service: ({ namespace, service }) => [keyOf({ namespace, name: service })],
  });
}
