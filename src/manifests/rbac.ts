// What each controller may do in the cluster: no more than it needs.
import type { KubeObject } from "../kube/types.ts";
import { COMPONENTS, CONFIG_MAP, type ComponentNames, KEYS } from "./names.ts";

interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

const READ = ["get", "list", "watch"];
const read = (group: string, ...resources: string[]): PolicyRule => ({
  apiGroups: [group],
  resources,
  verbs: READ,
});
const events: PolicyRule = {
  apiGroups: ["", "events.k8s.io"],
  resources: ["events"],
  verbs: ["create", "patch"],
};

type ComponentKey = keyof typeof COMPONENTS;

const CLUSTER_RULES: Readonly<Record<ComponentKey, readonly PolicyRule[]>> = {
  identity: [
    { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
    events,
  ],
  destination: [
    read("", "pods", "services", "nodes", "namespaces"),
    read("discovery.k8s.io", "endpointslices"),
    read("apps", "replicasets"),
    read("batch", "jobs"),
    read("linkerd.io", "serviceprofiles"),
    read("workload.linkerd.io", "externalworkloads"),
  ],
  policy: [
    read("", "pods", "services", "namespaces"),
    read(
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
    read("gateway.networking.k8s.io", "httproutes", "grpcroutes", "tlsroutes", "tcproutes"),
    read("workload.linkerd.io", "externalworkloads"),
  ],
  proxyInjector: [
    read("", "namespaces", "pods", "replicationcontrollers"),
    read("apps", "deployments", "replicasets", "daemonsets", "statefulsets"),
    read("batch", "jobs", "cronjobs"),
    events,
  ],
  metricsApi: [
    read("", "pods", "services", "namespaces", "replicationcontrollers"),
    read("apps", "deployments", "replicasets", "daemonsets", "statefulsets"),
    read("batch", "jobs", "cronjobs"),
    read("discovery.k8s.io", "endpointslices"),
  ],
};

/** Rules inside the mesh's own namespace. */
const OWN_RULES: Partial<Record<ComponentKey, readonly PolicyRule[]>> = {
  proxyInjector: [{ apiGroups: [""], resources: ["configmaps"], verbs: READ, resourceNames: [CONFIG_MAP] }],
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
