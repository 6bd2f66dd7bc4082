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
  Workload,
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

/** Where selectors stand that name no label. */
const anyLabel = (namespace: string): string => `${namespace} *`;
const labelKey = (namespace: string, key: string, value: string): string => `${namespace} ${key}=${value}`;

/** What a Server's selectors are found by: a label that each of its workloads has, where they name one. */
function selectorKeys({ namespace, podSelector, externalWorkloadSelector }: ServerRecord): string[] {
  const keys = new Set<string>();
  for (const selector of [podSelector, externalWorkloadSelector]) {
    if (!selector) continue;
    const [label] = Object.entries(selector.matchLabels ?? {});
    keys.add(label ? labelKey(namespace, ...label) : anyLabel(namespace));
  }
  return [...keys];
}

/** Under which of these a Server may be that selects the workload. */
export const labelKeys = ({ namespace, labels }: Workload): string[] => [
  anyLabel(namespace),
  ...Object.entries(labels).map(([key, value]) => labelKey(namespace, key, value)),
];

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
  readonly servers = new Table<ServerRecord, "namespace" | "selected">({
    namespace: inNamespace,
    selected: selectorKeys,
  });
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
