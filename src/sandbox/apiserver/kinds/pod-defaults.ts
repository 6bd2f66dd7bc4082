// What the API server fills into a pod spec that leaves it out (k8s.io/kubernetes pkg/apis/core/v1/defaults.go).

import type { Json } from "../../cluster.ts";

const set = (object: Json, field: string, value: Json) => {
  if (object[field] === undefined) object[field] = value;
};

/** Defaults of a pod, in place. */
export function podDefaults(pod: Json): void {
  pod.spec ??= {};
  podSpecDefaults(pod.spec);
  set(pod.spec, "enableServiceLinks", true);
  pod.status ??= {};
  set(pod.status, "phase", "Pending");
  pod.status.qosClass ??= qosClass(pod.spec);
}

/** Defaults of a pod template's spec, in place. */
export function podSpecDefaults(spec: Json): void {
  set(spec, "restartPolicy", "Always");
  set(spec, "terminationGracePeriodSeconds", 30);
  set(spec, "dnsPolicy", "ClusterFirst");
  set(spec, "securityContext", {});
  set(spec, "schedulerName", "default-scheduler");
  if (spec.serviceAccount !== undefined && spec.serviceAccountName === undefined) {
    spec.serviceAccountName = spec.serviceAccount;
  }
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  for (const list of ["initContainers", "containers", "ephemeralContainers"]) {
    if (Array.isArray(spec[list])) for (const container of spec[list]) containerDefaults(container);
  }
  if (Array.isArray(spec.volumes)) for (const volume of spec.volumes) volumeDefaults(volume);
}

function containerDefaults(container: Json): void {
  if (typeof container !== "object" || container === null) return;
  set(container, "resources", {});
  limitsAsRequests(container.resources);
  set(container, "terminationMessagePath", "/dev/termination-log");
  set(container, "terminationMessagePolicy", "File");
  if (typeof container.image === "string") {
    const name = container.image.split("/").at(-1) ?? "";
    const latest = !name.includes("@") && (!name.includes(":") || name.endsWith(":latest"));
    set(container, "imagePullPolicy", latest ? "Always" : "IfNotPresent");
  }
  for (const port of container.ports ?? []) set(port, "protocol", "TCP");
  for (const variable of container.env ?? []) {
    if (variable?.valueFrom?.fieldRef) set(variable.valueFrom.fieldRef, "apiVersion", "v1");
    if (variable?.valueFrom?.resourceFieldRef) set(variable.valueFrom.resourceFieldRef, "divisor", "0");
  }
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (container[probe]) probeDefaults(container[probe]);
  }
  for (const hook of [container.lifecycle?.postStart, container.lifecycle?.preStop]) {
    if (hook?.httpGet) httpGetDefaults(hook.httpGet);
  }
}

function limitsAsRequests(resources: Json): void {
  if (!resources?.limits) return;
  resources.requests ??= {};
  for (const [name, amount] of Object.entries(resources.limits)) set(resources.requests, name, amount);
}

function probeDefaults(probe: Json): void {
  set(probe, "timeoutSeconds", 1);
  set(probe, "periodSeconds", 10);
  set(probe, "successThreshold", 1);
  set(probe, "failureThreshold", 3);
  if (probe.httpGet) httpGetDefaults(probe.httpGet);
  if (probe.grpc) set(probe.grpc, "service", "");
}

function httpGetDefaults(get: Json): void {
  set(get, "path", "/");
  set(get, "scheme", "HTTP");
}

function volumeDefaults(volume: Json): void {
  if (typeof volume !== "object" || volume === null) return;
  const sources = Object.keys(volume).filter((key) => key !== "name");
  if (sources.length === 0) volume.emptyDir = {};
  for (const source of ["secret", "configMap", "projected", "downwardAPI"]) {
    if (volume[source]) set(volume[source], "defaultMode", 420);
  }
  if (volume.hostPath) set(volume.hostPath, "type", "");
  const fields = [...(volume.downwardAPI?.items ?? [])];
  for (const source of volume.projected?.sources ?? []) {
    if (source.serviceAccountToken) set(source.serviceAccountToken, "expirationSeconds", 3600);
    fields.push(...(source.downwardAPI?.items ?? []));
  }
  for (const item of fields) if (item?.fieldRef) set(item.fieldRef, "apiVersion", "v1");
}

function qosClass(spec: Json): string {
  let guaranteed = true;
  let any = false;
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) {
    const { requests = {}, limits = {} } = container?.resources ?? {};
    if (Object.keys(requests).length + Object.keys(limits).length > 0) any = true;
    for (const name of ["cpu", "memory"]) {
      if (limits[name] === undefined || (requests[name] ?? limits[name]) !== limits[name]) guaranteed = false;
    }
  }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}
