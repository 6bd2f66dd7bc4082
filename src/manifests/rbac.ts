// What each controller may do in the cluster: no more than it needs.
import type { KubeObject } from "../kube/types.ts";
import { COMPONENTS, type ComponentNames, KEYS } from "./names.ts";

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
const events = rule(["create"], "", "events");

type ComponentKey = keyof typeof COMPONENTS;

const CLUSTER_RULES: Readonly<Record<ComponentKey, readonly PolicyRule[]>> = {
  identity: [rule(["create"], "authentication.k8s.io", "tokenreviews"), events],
  destination: [
    rule(WATCH, "", "namespaces", "services", "pods"),
    rule(WATCH, "discovery.k8s.io", "endpointslices"),
  ],
  policy: [rule(WATCH, "", "namespaces", "services", "pods")],
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

/** Rules inside the mesh's own namespace. */
const OWN_RULES: Partial<Record<ComponentKey, readonly PolicyRule[]>> = {
  // Events about the issuer are told of its Deployment.
  identity: [{ ...rule(["get"], "apps", "deployments"), resourceNames: [COMPONENTS.identity.workload] }],
};

export function rbacOf(key: ComponentKey, namespace: string): KubeObject[] {
  const component: ComponentNames = COMPONENTS[key];
  const labels = { [KEYS.controlPlaneComponent]: component.name, [KEYS.controlPlaneNs]: namespace };
  const subjects = [{ kind: "ServiceAccount", name: component.workload, namespace }];
  const own = OWN_RULES[key];
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
    ...role("ClusterRole", clusterName, CLUSTER_RULES[key], {}),
    ...(own ? role("Role", component.workload, own, { namespace }) : []),
  ];
}
