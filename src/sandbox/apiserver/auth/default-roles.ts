// The roles that come with every cluster (a working subset of Kubernetes' bootstrap policy).

import type { Json, NewObject } from "../../cluster.ts";

interface Entry {
  resource: "clusterroles" | "clusterrolebindings" | "roles" | "rolebindings";
  namespace?: string;
  object: NewObject;
}

const READ = ["get", "list", "watch"];
const WRITE = ["create", "delete", "deletecollection", "patch", "update"];
const LABELS = { "kubernetes.io/bootstrapping": "rbac-defaults" };

const rule = (apiGroups: string, resources: string, verbs: string[]): Json => ({
  apiGroups: apiGroups.split(" ").map((group) => (group === "core" ? "" : group)),
  resources: resources.split(" "),
  verbs,
});
const urls = (...nonResourceURLs: string[]): Json => ({ nonResourceURLs, verbs: ["get"] });

const clusterRole = (name: string, rules: Json[], labels: Record<string, string> = {}): Entry => ({
  resource: "clusterroles",
  object: { metadata: { name, labels: { ...LABELS, ...labels } }, rules },
});

const aggregated = (name: string, label: string, labels: Record<string, string> = {}): Entry => ({
  resource: "clusterroles",
  object: {
    metadata: { name, labels: { ...LABELS, ...labels } },
    aggregationRule: {
      clusterRoleSelectors: [
        { matchLabels: { [`rbac.authorization.k8s.io/aggregate-to-${label}`]: "true" } },
      ],
    },
    rules: [],
  },
});

const bound = (name: string, role: string, ...groups: string[]): Entry => ({
  resource: "clusterrolebindings",
  object: {
    metadata: { name, labels: LABELS },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
    subjects: groups.map((group) => ({
      apiGroup: "rbac.authorization.k8s.io",
      kind: "Group",
      name: group,
    })),
  },
});

const VIEW: Json[] = [
  rule(
    "core",
    "configmaps endpoints persistentvolumeclaims pods replicationcontrollers replicationcontrollers/scale serviceaccounts services bindings events limitranges namespaces namespaces/status pods/log pods/status resourcequotas services/status",
    READ,
  ),
  rule("discovery.k8s.io", "endpointslices", READ),
  rule(
    "apps",
    "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    READ,
  ),
  rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", READ),
  rule("batch", "cronjobs cronjobs/status jobs jobs/status", READ),
  rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", READ),
  rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
  rule("events.k8s.io", "events", READ),
];

const EDIT: Json[] = [
  rule("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
  rule("core", "serviceaccounts", ["impersonate"]),
  rule("core", "pods pods/attach pods/exec pods/portforward pods/proxy", WRITE),
  rule("core", "pods/eviction serviceaccounts/token", ["create"]),
  rule(
    "core",
    "configmaps endpoints events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    WRITE,
  ),
  rule(
    "apps",
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
    WRITE,
  ),
  rule("autoscaling", "horizontalpodautoscalers", WRITE),
  rule("batch", "cronjobs jobs", WRITE),
  rule("networking.k8s.io", "ingresses networkpolicies", WRITE),
  rule("policy", "poddisruptionbudgets", WRITE),
  rule("coordination.k8s.io", "leases", [...WRITE, ...READ]),
];

const ADMIN: Json[] = [
  rule("authorization.k8s.io", "localsubjectaccessreviews", ["create"]),
  rule("rbac.authorization.k8s.io", "rolebindings roles", [...WRITE, ...READ]),
];

export function defaultRoles(): Entry[] {
  const toView = { "rbac.authorization.k8s.io/aggregate-to-view": "true" };
  const toEdit = { "rbac.authorization.k8s.io/aggregate-to-edit": "true" };
  const toAdmin = { "rbac.authorization.k8s.io/aggregate-to-admin": "true" };
  return [
    clusterRole("cluster-admin", [
      { apiGroups: ["*"], resources: ["*"], verbs: ["*"] },
      { nonResourceURLs: ["*"], verbs: ["*"] },
    ]),
    aggregated("admin", "admin"),
    aggregated("edit", "edit", toAdmin),
    aggregated("view", "view", toEdit),
    clusterRole("system:aggregate-to-admin", ADMIN, toAdmin),
    clusterRole("system:aggregate-to-edit", EDIT, toEdit),
    clusterRole("system:aggregate-to-view", VIEW, toView),
    clusterRole("system:discovery", [
      urls(
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
      ),
    ]),
    clusterRole("system:public-info-viewer", [
      urls("/healthz", "/livez", "/readyz", "/version", "/version/"),
    ]),
    clusterRole("system:basic-user", [
      rule("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", ["create"]),
      rule("authentication.k8s.io", "selfsubjectreviews", ["create"]),
    ]),
    clusterRole("system:auth-delegator", [
      rule("authentication.k8s.io", "tokenreviews", ["create"]),
      rule("authorization.k8s.io", "subjectaccessreviews", ["create"]),
    ]),
    clusterRole("system:service-account-issuer-discovery", [
      urls(
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
      ),
    ]),
    bound("cluster-admin", "cluster-admin", "system:masters"),
    bound("system:discovery", "system:discovery", "system:authenticated"),
    bound("system:basic-user", "system:basic-user", "system:authenticated"),
    bound(
      "system:public-info-viewer",
      "system:public-info-viewer",
      "system:authenticated",
      "system:unauthenticated",
    ),
    bound(
      "system:service-account-issuer-discovery",
      "system:service-account-issuer-discovery",
      "system:serviceaccounts",
    ),
    {
      resource: "roles",
      namespace: "kube-system",
      object: {
        metadata: { name: "extension-apiserver-authentication-reader", labels: LABELS },
        rules: [
          {
            apiGroups: [""],
            resources: ["configmaps"],
            resourceNames: ["extension-apiserver-authentication"],
            verbs: READ,
          },
        ],
      },
    },
  ];
}
