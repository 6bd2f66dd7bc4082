// The built-in kinds, one line or a few each.

import { plainPrinter, printers } from "../printers.ts";
import {
  ALL_VERBS,
  collectionOf,
  type ExtraSubresource,
  type ResourceDef,
  type ScaleDef,
  type Verb,
} from "../resource.ts";
import { builtInTopology } from "../topology.ts";
import { eventFromStored, eventToStored } from "./events.ts";
import { dnsLabel, dnsSubdomain, pathSegment } from "./names.ts";
import { podDefaults } from "./pod-defaults.ts";
import { podErrors } from "./pod-validation.ts";
import {
  bindingErrors,
  cronJobErrors,
  dataErrors,
  jobErrors,
  leaseErrors,
  roleErrors,
  serviceErrors,
  serviceName,
  templateErrors,
  webhookErrors,
} from "./validation.ts";
import {
  apiServiceDefaults,
  crdDefaults,
  cronJobDefaults,
  daemonSetDefaults,
  deploymentDefaults,
  endpointSliceDefaults,
  jobDefaults,
  namespaceDefaults,
  replicaSetDefaults,
  roleBindingDefaults,
  secretDefaults,
  serviceDefaults,
  statefulSetDefaults,
  webhookDefaults,
} from "./workload-defaults.ts";

type Options = Partial<Omit<ResourceDef, "group" | "version" | "resource" | "kind">> & { short?: string };

function kind(groupVersion: string, resource: string, name: string, options: Options = {}): ResourceDef {
  const slash = groupVersion.indexOf("/");
  const group = slash < 0 ? "" : groupVersion.slice(0, slash);
  const { short, ...rest } = options;
  return {
    group,
    version: groupVersion.slice(slash + 1),
    resource,
    kind: name,
    singular: name.toLowerCase(),
    namespaced: true,
    shortNames: short ? short.split(",") : [],
    categories: [],
    verbs: ALL_VERBS,
    collection: collectionOf(group, resource),
    status: false,
    generation: false,
    extras: [],
    topology: builtInTopology,
    validateName: dnsSubdomain,
    printer: printers[`${group}/${resource}`] ?? plainPrinter,
    ...rest,
  };
}

const REPLICAS: ScaleDef = {
  specReplicas: "spec.replicas",
  statusReplicas: "status.replicas",
  selector: "spec.selector",
};
const ALL = { categories: ["all"] };
const CLUSTER = { namespaced: false };
const TOKEN: ExtraSubresource = {
  name: "token",
  kind: "TokenRequest",
  group: "authentication.k8s.io",
  version: "v1",
  verbs: ["create"],
};
const POD_EXTRAS: ExtraSubresource[] = [
  { name: "attach", kind: "PodAttachOptions", verbs: ["create", "get"] },
  { name: "binding", kind: "Binding", verbs: ["create"] },
  { name: "ephemeralcontainers", kind: "Pod", verbs: ["get", "patch", "update"] },
  { name: "eviction", kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
  { name: "exec", kind: "PodExecOptions", verbs: ["create", "get"] },
  { name: "log", kind: "Pod", verbs: ["get"] },
  { name: "portforward", kind: "PodPortForwardOptions", verbs: ["create", "get"] },
  {
    name: "proxy",
    kind: "PodProxyOptions",
    verbs: ["create", "delete", "get", "patch", "update"],
  },
];
const PROXY_VERBS = ["create", "delete", "get", "patch", "update"];
/** Kinds that are answered and never stored. */
const REVIEW: readonly Verb[] = ["create"];

const rbacName = { validateName: pathSegment };

export const builtInKinds: readonly ResourceDef[] = [
  kind("v1", "bindings", "Binding", { verbs: REVIEW }),
  kind("v1", "configmaps", "ConfigMap", { short: "cm", validate: dataErrors }),
  kind("v1", "endpoints", "Endpoints", { short: "ep" }),
  kind("v1", "events", "Event", { short: "ev", validateName: pathSegment }),
  kind("v1", "limitranges", "LimitRange", { short: "limits" }),
  kind("v1", "namespaces", "Namespace", {
    ...CLUSTER,
    short: "ns",
    status: true,
    defaults: namespaceDefaults,
    validateName: dnsLabel,
    verbs: ALL_VERBS.filter((verb) => verb !== "deletecollection"),
    extras: [{ name: "finalize", kind: "Namespace", verbs: ["update"] }],
  }),
  kind("v1", "nodes", "Node", {
    ...CLUSTER,
    short: "no",
    status: true,
    extras: [{ name: "proxy", kind: "NodeProxyOptions", verbs: PROXY_VERBS }],
  }),
  kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", { short: "pvc", status: true }),
  kind("v1", "persistentvolumes", "PersistentVolume", { ...CLUSTER, short: "pv", status: true }),
  kind("v1", "pods", "Pod", {
    ...ALL,
    short: "po",
    status: true,
    defaults: podDefaults,
    validate: podErrors,
    extras: POD_EXTRAS,
  }),
  kind("v1", "podtemplates", "PodTemplate"),
  kind("v1", "replicationcontrollers", "ReplicationController", {
    ...ALL,
    short: "rc",
    status: true,
    generation: true,
    scale: REPLICAS,
  }),
  kind("v1", "resourcequotas", "ResourceQuota", { short: "quota", status: true }),
  kind("v1", "secrets", "Secret", { defaults: secretDefaults, validate: dataErrors }),
  kind("v1", "serviceaccounts", "ServiceAccount", { short: "sa", extras: [TOKEN] }),
  kind("v1", "services", "Service", {
    ...ALL,
    short: "svc",
    status: true,
    defaults: serviceDefaults,
    validate: serviceErrors,
    validateName: serviceName,
    extras: [{ name: "proxy", kind: "ServiceProxyOptions", verbs: PROXY_VERBS }],
  }),
  kind("apps/v1", "controllerrevisions", "ControllerRevision"),
  kind("apps/v1", "daemonsets", "DaemonSet", {
    ...ALL,
    short: "ds",
    status: true,
    generation: true,
    defaults: daemonSetDefaults,
    validate: templateErrors,
  }),
  kind("apps/v1", "deployments", "Deployment", {
    ...ALL,
    short: "deploy",
    status: true,
    generation: true,
    scale: REPLICAS,
    defaults: deploymentDefaults,
    validate: templateErrors,
  }),
  kind("apps/v1", "replicasets", "ReplicaSet", {
    ...ALL,
    short: "rs",
    status: true,
    generation: true,
    scale: REPLICAS,
    defaults: replicaSetDefaults,
    validate: templateErrors,
  }),
  kind("apps/v1", "statefulsets", "StatefulSet", {
    ...ALL,
    short: "sts",
    status: true,
    generation: true,
    scale: REPLICAS,
    defaults: statefulSetDefaults,
    validate: templateErrors,
  }),
  kind("batch/v1", "cronjobs", "CronJob", {
    ...ALL,
    short: "cj",
    status: true,
    generation: true,
    defaults: cronJobDefaults,
    validate: cronJobErrors,
  }),
  kind("batch/v1", "jobs", "Job", {
    ...ALL,
    status: true,
    generation: true,
    defaults: jobDefaults,
    validate: jobErrors,
  }),
  kind("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", {
    ...ALL,
    short: "hpa",
    status: true,
  }),
  kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", { defaults: endpointSliceDefaults }),
  kind("events.k8s.io/v1", "events", "Event", {
    short: "ev",
    validateName: pathSegment,
    collection: collectionOf("", "events"),
    printer: printers["/events"] ?? plainPrinter,
    toStored: eventToStored,
    fromStored: eventFromStored,
  }),
  kind("rbac.authorization.k8s.io/v1", "roles", "Role", { ...rbacName, validate: roleErrors }),
  kind("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", {
    ...CLUSTER,
    ...rbacName,
    validate: roleErrors,
  }),
  kind("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", {
    ...rbacName,
    defaults: roleBindingDefaults,
    validate: bindingErrors,
  }),
  kind("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", {
    ...CLUSTER,
    ...rbacName,
    defaults: roleBindingDefaults,
    validate: bindingErrors,
  }),
  kind("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", {
    ...CLUSTER,
    categories: ["api-extensions"],
    generation: true,
    defaults: webhookDefaults("mutating"),
    validate: webhookErrors,
  }),
  kind(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    {
      ...CLUSTER,
      categories: ["api-extensions"],
      generation: true,
      defaults: webhookDefaults("validating"),
      validate: webhookErrors,
    },
  ),
  kind("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", {
    ...CLUSTER,
    short: "crd,crds",
    categories: ["api-extensions"],
    status: true,
    generation: true,
    defaults: crdDefaults,
  }),
  kind("apiregistration.k8s.io/v1", "apiservices", "APIService", {
    ...CLUSTER,
    categories: ["api-extensions"],
    status: true,
    defaults: apiServiceDefaults,
  }),
  kind("coordination.k8s.io/v1", "leases", "Lease", { validate: leaseErrors }),
  kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", {
    short: "pdb",
    status: true,
    generation: true,
  }),
  kind("networking.k8s.io/v1", "ingresses", "Ingress", { short: "ing", status: true, generation: true }),
  kind("networking.k8s.io/v1", "ingressclasses", "IngressClass", { ...CLUSTER, generation: true }),
  kind("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", { short: "netpol", generation: true }),
  kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", { ...CLUSTER, short: "pc" }),
  kind("storage.k8s.io/v1", "storageclasses", "StorageClass", { ...CLUSTER, short: "sc" }),
  kind("authentication.k8s.io/v1", "tokenreviews", "TokenReview", { ...CLUSTER, verbs: REVIEW }),
  kind("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", { ...CLUSTER, verbs: REVIEW }),
  kind("authorization.k8s.io/v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", {
    verbs: REVIEW,
  }),
  kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", {
    ...CLUSTER,
    verbs: REVIEW,
  }),
  kind("authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", {
    ...CLUSTER,
    verbs: REVIEW,
  }),
  kind("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", {
    ...CLUSTER,
    verbs: REVIEW,
  }),
];
