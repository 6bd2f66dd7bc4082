// Defaults of the kinds that hold a pod template, and of the other built-in kinds that have any.

import type { Json } from "../../cluster.ts";
import { podSpecDefaults } from "./pod-defaults.ts";

const set = (object: Json, field: string, value: Json) => {
  if (object[field] === undefined) object[field] = value;
};

function template(spec: Json): void {
  spec.template ??= {};
  spec.template.metadata ??= {};
  spec.template.spec ??= {};
  podSpecDefaults(spec.template.spec);
}

export function deploymentDefaults(object: Json): void {
  object.spec ??= {};
  const spec = object.spec;
  set(spec, "replicas", 1);
  set(spec, "revisionHistoryLimit", 10);
  set(spec, "progressDeadlineSeconds", 600);
  set(spec, "strategy", {});
  set(spec.strategy, "type", "RollingUpdate");
  if (spec.strategy.type === "RollingUpdate") {
    set(spec.strategy, "rollingUpdate", {});
    set(spec.strategy.rollingUpdate, "maxUnavailable", "25%");
    set(spec.strategy.rollingUpdate, "maxSurge", "25%");
  }
  template(spec);
}

export function replicaSetDefaults(object: Json): void {
  object.spec ??= {};
  set(object.spec, "replicas", 1);
  template(object.spec);
}

export function statefulSetDefaults(object: Json): void {
  object.spec ??= {};
  const spec = object.spec;
  set(spec, "replicas", 1);
  set(spec, "revisionHistoryLimit", 10);
  set(spec, "podManagementPolicy", "OrderedReady");
  set(spec, "persistentVolumeClaimRetentionPolicy", { whenDeleted: "Retain", whenScaled: "Retain" });
  set(spec, "updateStrategy", {});
  set(spec.updateStrategy, "type", "RollingUpdate");
  if (spec.updateStrategy.type === "RollingUpdate") {
    set(spec.updateStrategy, "rollingUpdate", {});
    set(spec.updateStrategy.rollingUpdate, "partition", 0);
  }
  template(spec);
}

export function daemonSetDefaults(object: Json): void {
  object.spec ??= {};
  const spec = object.spec;
  set(spec, "revisionHistoryLimit", 10);
  set(spec, "updateStrategy", {});
  set(spec.updateStrategy, "type", "RollingUpdate");
  if (spec.updateStrategy.type === "RollingUpdate") {
    set(spec.updateStrategy, "rollingUpdate", {});
    set(spec.updateStrategy.rollingUpdate, "maxUnavailable", 1);
    set(spec.updateStrategy.rollingUpdate, "maxSurge", 0);
  }
  template(spec);
}

function jobSpecDefaults(spec: Json): void {
  set(spec, "completionMode", "NonIndexed");
  set(spec, "suspend", false);
  set(spec, "backoffLimit", 6);
  if (spec.completions === undefined && spec.parallelism === undefined) {
    spec.completions = 1;
    spec.parallelism = 1;
  }
  set(spec, "parallelism", 1);
  set(spec, "manualSelector", false);
  set(spec, "podReplacementPolicy", "TerminatingOrFailed");
  template(spec);
}

/** A Job, with the selector and labels that the API server generates from the uid. */
export function jobDefaults(object: Json): void {
  object.spec ??= {};
  const { spec } = object;
  jobSpecDefaults(spec);
  if (spec.manualSelector || spec.selector || !object.metadata?.uid) return;
  const { uid, name } = object.metadata;
  spec.template.metadata.labels = {
    ...spec.template.metadata.labels,
    "batch.kubernetes.io/controller-uid": uid,
    "batch.kubernetes.io/job-name": name,
    "controller-uid": uid,
    "job-name": name,
  };
  spec.selector = { matchLabels: { "batch.kubernetes.io/controller-uid": uid } };
}

export function cronJobDefaults(object: Json): void {
  object.spec ??= {};
  const spec = object.spec;
  set(spec, "concurrencyPolicy", "Allow");
  set(spec, "suspend", false);
  set(spec, "successfulJobsHistoryLimit", 3);
  set(spec, "failedJobsHistoryLimit", 1);
  spec.jobTemplate ??= {};
  spec.jobTemplate.metadata ??= {};
  spec.jobTemplate.spec ??= {};
  template(spec.jobTemplate.spec);
}

/** A Service; addresses and node ports come from the allocator. */
export function serviceDefaults(object: Json): void {
  object.spec ??= {};
  const spec = object.spec;
  set(spec, "sessionAffinity", "None");
  if (spec.sessionAffinity === "ClientIP") {
    spec.sessionAffinityConfig ??= {};
    spec.sessionAffinityConfig.clientIP ??= {};
    set(spec.sessionAffinityConfig.clientIP, "timeoutSeconds", 10800);
  }
  set(spec, "type", "ClusterIP");
  for (const port of spec.ports ?? []) {
    set(port, "protocol", "TCP");
    if (spec.type !== "ExternalName" && (port.targetPort === undefined || port.targetPort === "")) {
      port.targetPort = port.port;
    }
  }
  if (spec.type !== "ExternalName") set(spec, "internalTrafficPolicy", "Cluster");
  if (spec.type === "NodePort" || spec.type === "LoadBalancer") {
    set(spec, "externalTrafficPolicy", "Cluster");
    if (spec.type === "LoadBalancer") set(spec, "allocateLoadBalancerNodePorts", true);
  }
  object.status ??= {};
  set(object.status, "loadBalancer", {});
}

export function namespaceDefaults(object: Json): void {
  object.spec ??= {};
  set(object.spec, "finalizers", ["kubernetes"]);
  object.status ??= {};
  set(object.status, "phase", "Active");
  object.metadata.labels ??= {};
  if (object.metadata.name) object.metadata.labels["kubernetes.io/metadata.name"] = object.metadata.name;
}

export function secretDefaults(object: Json): void {
  set(object, "type", "Opaque");
  if (typeof object.stringData !== "object" || object.stringData === null) return;
  object.data ??= {};
  for (const [key, text] of Object.entries(object.stringData)) {
    object.data[key] = Buffer.from(String(text)).toString("base64");
  }
  delete object.stringData;
}

export function webhookDefaults(kind: "mutating" | "validating") {
  return (object: Json): void => {
    for (const hook of object.webhooks ?? []) {
      set(hook, "failurePolicy", "Fail");
      set(hook, "matchPolicy", "Equivalent");
      set(hook, "namespaceSelector", {});
      set(hook, "objectSelector", {});
      set(hook, "timeoutSeconds", 10);
      if (kind === "mutating") set(hook, "reinvocationPolicy", "Never");
      if (hook.clientConfig?.service) set(hook.clientConfig.service, "port", 443);
      for (const rule of hook.rules ?? []) set(rule, "scope", "*");
    }
  };
}

export function endpointSliceDefaults(object: Json): void {
  for (const port of object.ports ?? []) {
    set(port, "name", "");
    set(port, "protocol", "TCP");
  }
}

export function roleBindingDefaults(object: Json): void {
  set(object.roleRef ?? {}, "apiGroup", "rbac.authorization.k8s.io");
  for (const subject of object.subjects ?? []) {
    if (subject.kind === "User" || subject.kind === "Group") {
      set(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
  }
}

export function apiServiceDefaults(object: Json): void {
  if (object.spec?.service) set(object.spec.service, "port", 443);
}

export function crdDefaults(object: Json): void {
  const spec = object.spec ?? {};
  const names = spec.names ?? {};
  if (names.kind) {
    set(names, "singular", String(names.kind).toLowerCase());
    set(names, "listKind", `${names.kind}List`);
  }
  set(spec, "conversion", { strategy: "None" });
}
