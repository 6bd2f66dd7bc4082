// What each controller may do in the cluster: no more than it needs.
import type { KubeObject } from "../kube/types.ts";
import { COMPONENTS, type ComponentNames, DESTINATION_LEASE, KEYS, POLICY_LEASE, WEBHOOKS } from "./names.ts";
import type { Values } from "./values.ts";

interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

/** What a reflector does. */
const WATCH = ["list", "watch"];
const rule = (verbs: readonly string[], group: string, ...resources: string[]): PolicyRule => ({
  apiGroups: [group],
  resources,
  verbs,
});
/** The rule for these objects alone. */
const named = (of: PolicyRule, ...resourceNames: string[]): PolicyRule => ({ ...of, resourceNames });
/** What a leader election does; a creation cannot be bound to a name. */
const leaseRules = (name: string): PolicyRule[] => [
  rule(["create"], "coordination.k8s.io", "leases"),
  named(rule(["get", "update"], "coordination.k8s.io", "leases"), name),
];
const events = rule(["create"], "", "events");

type ComponentKey = keyof typeof COMPONENTS;

/** Rules for the whole cluster. */
const clusterRules: Readonly<Record<ComponentKey, readonly PolicyRule[]>> = {
  identity: [rule(["create"], "authentication.k8s.io", "tokenreviews"), events],
  destination: [
    rule(WATCH, "", "namespaces", "nodes", "services", "pods"),
    // Those of ExternalWorkloads are ours to write.
    rule([...WATCH, "create", "update", "delete"], "discovery.k8s.io", "endpointslices"),
    rule(WATCH, "linkerd.io", "serviceprofiles"),
    rule(WATCH, "split.smi-spec.io", "trafficsplits"),
    rule(WATCH, "policy.linkerd.io", "servers"),
    rule(WATCH, "workload.linkerd.io", "externalworkloads"),
  ],
  policy: [
    rule(WATCH, "", "namespaces", "services", "pods"),
    rule(
      WATCH,
      "policy.linkerd.io",
      "servers",
      "serverauthorizations",
      "authorizationpolicies",
      "meshtlsauthentications",
      "networkauthentications",
      "httproutes",
      "httplocalratelimitpolicies",
      "egressnetworks",
    ),
    rule(WATCH, "gateway.networking.k8s.io", "httproutes", "grpcroutes", "tlsroutes", "tcproutes"),
    rule(WATCH, "workload.linkerd.io", "externalworkloads"),
    rule(WATCH, "split.smi-spec.io", "trafficsplits"),
    rule(
      ["patch"],
      "policy.linkerd.io",
      "servers/status",
      "httproutes/status",
      "httplocalratelimitpolicies/status",
      "egressnetworks/status",
    ),
    rule(
      ["patch"],
      "gateway.networking.k8s.io",
      "httproutes/status",
      "grpcroutes/status",
      "tlsroutes/status",
      "tcproutes/status",
    ),
    events,
  ],
  proxyInjector: [
    // One that the watch has not brought yet is asked for by name.
    rule(["get", ...WATCH], "", "namespaces"),
    // Events name their object by its uid.
    rule(["get"], "", "replicationcontrollers"),
    rule(["get"], "apps", "deployments", "replicasets", "daemonsets", "statefulsets"),
    rule(["get"], "batch", "jobs", "cronjobs"),
    events,
  ],
  metricsApi: [rule(WATCH, "", "pods")],
};

/** What the renewal of a webhook's certificate does: in the cluster, and in the mesh's own namespace. */
function renewalRules(
  values: Values,
  key: ComponentKey,
): { readonly cluster: readonly PolicyRule[]; readonly own: readonly PolicyRule[] } {
  const mine = WEBHOOKS.filter(({ component, value }) => component === key && !values[value].externalSecret);
  return {
    cluster: mine.map(({ verifier: { kind, name } }) =>
      named(rule(["get", "update"], "admissionregistration.k8s.io", `${kind.toLowerCase()}s`), name),
    ),
    own: mine.flatMap(({ secret, lease }) => [
      named(rule(["get", "update"], "", "secrets"), secret),
      ...leaseRules(lease),
    ]),
  };
}

/** Rules inside the mesh's own namespace. */
const ownRules: Partial<Record<ComponentKey, readonly PolicyRule[]>> = {
  // Events about the issuer and about the webhook are told of their Deployments.
  identity: [named(rule(["get"], "apps", "deployments"), COMPONENTS.identity.workload)],
  // The replica that holds the Lease writes slices.
  destination: leaseRules(DESTINATION_LEASE),
  policy: [
    named(rule(["get"], "apps", "deployments"), COMPONENTS.policy.workload),
    // The replica that holds the Lease writes statuses.
    ...leaseRules(POLICY_LEASE),
  ],
};

export function rbacOf(key: ComponentKey, values: Values): KubeObject[] {
  const { namespace } = values;
  const component: ComponentNames = COMPONENTS[key];
  const labels = { [KEYS.controlPlaneComponent]: component.name, [KEYS.controlPlaneNs]: namespace };
  const subjects = [{ kind: "ServiceAccount", name: component.workload, namespace }];
  const renewal = renewalRules(values, key);
  const own = [...(ownRules[key] ?? []), ...renewal.own];
  // Cluster-wide names carry the namespace, so that two meshes do not overwrite each other's.
  const clusterName = `${namespace}-${component.name}`;
  const group = "rbac.authorization.k8s.io";
  const role = (kind: string, name: string, rules: readonly PolicyRule[], scope: { namespace?: string }) => [
    { apiVersion: `${group}/v1`, kind, metadata: { name, ...scope, labels }, rules },
    {
      apiVersion: `${group}/v1`,
      kind: `${kind}Binding`,
      metadata: { name, ...scope, labels },
      roleRef: { apiGroup: group, kind, name },
      subjects,
    },
  ];
  return [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: component.workload, namespace, labels },
    },
    ...role("ClusterRole", clusterName, [...clusterRules[key], ...renewal.cluster], {}),
    ...(own.length > 0 ? role("Role", component.workload, own, { namespace }) : []),
  ];
}
