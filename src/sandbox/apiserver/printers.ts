// The columns of `kubectl get` for built-in kinds, as k8s.io/kubernetes/pkg/printers/internalversion prints them.

import type { Json, KubeObject } from "../cluster.ts";
import { podColumns, podRow } from "./printers-pod.ts";
import type { Column, Printer } from "./resource.ts";
import { age, humanDuration, labelText, selectorText } from "./text-forms.ts";

export const NAME: Column = { name: "Name", type: "string", format: "name" };
export const AGE: Column = { name: "Age", type: "string" };

const text = (name: string, priority = 0): Column => ({ name, type: "string", priority });
const count = (name: string, priority = 0): Column => ({ name, type: "integer", priority });

const created = (o: KubeObject, now: number) => age(o.metadata.creationTimestamp, now);

const containers = (spec: Json) => (spec?.containers ?? []).map((c: Json) => c.name).join(",");
const images = (spec: Json) => (spec?.containers ?? []).map((c: Json) => c.image).join(",");
const WIDE = [text("Containers", 1), text("Images", 1), text("Selector", 1)];
const wide = (o: KubeObject) => [
  containers(o.spec.template?.spec),
  images(o.spec.template?.spec),
  selectorText(o.spec.selector),
];

export const plainPrinter: Printer = {
  columns: [NAME, { ...AGE, name: "Age" }],
  row: (o, now) => [o.metadata.name, created(o, now)],
};

function externalIp(o: KubeObject): string {
  const { spec } = o;
  if (spec.type === "ExternalName") return spec.externalName;
  const ips = spec.externalIPs ?? [];
  if (spec.type !== "LoadBalancer") return ips.length ? ips.join(",") : "<none>";
  const ingress = (o.status?.loadBalancer?.ingress ?? []).map((i: Json) => i.ip ?? i.hostname);
  return [...ingress, ...ips].join(",") || "<pending>";
}

function servicePorts(o: KubeObject): string {
  const ports = (o.spec.ports ?? []).map((p: Json) =>
    p.nodePort ? `${p.port}:${p.nodePort}/${p.protocol}` : `${p.port}/${p.protocol}`,
  );
  return ports.join(",") || "<none>";
}

function nodeStatus(o: KubeObject): string {
  const ready = (o.status?.conditions ?? []).find((c: Json) => c.type === "Ready");
  const status = [ready ? (ready.status === "True" ? "Ready" : "NotReady") : "Unknown"];
  if (o.spec?.unschedulable) status.push("SchedulingDisabled");
  return status.join(",");
}

function nodeRoles(o: KubeObject): string {
  const roles = Object.keys(o.metadata.labels ?? {})
    .filter((key) => key.startsWith("node-role.kubernetes.io/"))
    .map((key) => key.slice("node-role.kubernetes.io/".length))
    .sort();
  return roles.join(",") || "<none>";
}

const nodeAddress = (o: KubeObject, type: string) =>
  (o.status?.addresses ?? []).find((a: Json) => a.type === type)?.address ?? "<none>";

function sliceEndpoints(o: KubeObject): string {
  const all = (o.endpoints ?? []).flatMap((e: Json) => e.addresses ?? []);
  if (all.length === 0) return "<unset>";
  return all.length <= 3 ? all.join(",") : `${all.slice(0, 3).join(",")} + ${all.length - 3} more...`;
}

function legacyEndpoints(o: KubeObject): string {
  const all: string[] = [];
  for (const subset of o.subsets ?? []) {
    for (const address of subset.addresses ?? []) {
      if ((subset.ports ?? []).length === 0) all.push(address.ip);
      for (const port of subset.ports ?? []) all.push(`${address.ip}:${port.port}`);
    }
  }
  if (all.length === 0) return "<none>";
  return all.length <= 3 ? all.join(",") : `${all.slice(0, 3).join(",")} + ${all.length - 3} more...`;
}

function jobStatus(o: KubeObject): string {
  for (const [type, shown] of [
    ["Complete", "Complete"],
    ["Failed", "Failed"],
    ["Suspended", "Suspended"],
  ]) {
    if ((o.status?.conditions ?? []).some((c: Json) => c.type === type && c.status === "True")) {
      return shown as string;
    }
  }
  return o.metadata.deletionTimestamp ? "Terminating" : "Running";
}

function jobDuration(o: KubeObject, now: number): string {
  const start = o.status?.startTime;
  if (!start) return "";
  const end = o.status.completionTime ? Date.parse(o.status.completionTime) : now;
  return humanDuration(end - Date.parse(start));
}

const subjects = (o: KubeObject, kind: string) =>
  (o.subjects ?? [])
    .filter((s: Json) => s.kind === kind)
    .map((s: Json) => (kind === "ServiceAccount" ? `${s.namespace ?? ""}/${s.name}` : s.name))
    .join(", ");

/** Printers by `group/resource`. */
export const printers: Record<string, Printer> = {
  "/pods": { columns: podColumns, row: podRow },
  "/services": {
    columns: [
      NAME,
      text("Type"),
      text("Cluster-IP"),
      text("External-IP"),
      text("Port(s)"),
      AGE,
      text("Selector", 1),
    ],
    row: (o, now) => [
      o.metadata.name,
      o.spec.type,
      o.spec.clusterIP || "<none>",
      externalIp(o),
      servicePorts(o),
      created(o, now),
      labelText(o.spec.selector),
    ],
  },
  "/namespaces": {
    columns: [NAME, text("Status"), AGE],
    row: (o, now) => [o.metadata.name, o.status?.phase ?? "", created(o, now)],
  },
  "/nodes": {
    columns: [
      NAME,
      text("Status"),
      text("Roles"),
      AGE,
      text("Version"),
      text("Internal-IP", 1),
      text("External-IP", 1),
      text("OS-Image", 1),
      text("Kernel-Version", 1),
      text("Container-Runtime", 1),
    ],
    row: (o, now) => [
      o.metadata.name,
      nodeStatus(o),
      nodeRoles(o),
      created(o, now),
      o.status?.nodeInfo?.kubeletVersion ?? "",
      nodeAddress(o, "InternalIP"),
      nodeAddress(o, "ExternalIP"),
      o.status?.nodeInfo?.osImage || "<unknown>",
      o.status?.nodeInfo?.kernelVersion || "<unknown>",
      o.status?.nodeInfo?.containerRuntimeVersion || "<unknown>",
    ],
  },
  "/endpoints": {
    columns: [NAME, text("Endpoints"), AGE],
    row: (o, now) => [o.metadata.name, legacyEndpoints(o), created(o, now)],
  },
  "/configmaps": {
    columns: [NAME, count("Data"), AGE],
    row: (o, now) => [
      o.metadata.name,
      Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length,
      created(o, now),
    ],
  },
  "/secrets": {
    columns: [NAME, text("Type"), count("Data"), AGE],
    row: (o, now) => [o.metadata.name, o.type ?? "", Object.keys(o.data ?? {}).length, created(o, now)],
  },
  "/serviceaccounts": {
    columns: [NAME, count("Secrets"), AGE],
    row: (o, now) => [o.metadata.name, (o.secrets ?? []).length, created(o, now)],
  },
  "/events": {
    columns: [
      text("Last Seen"),
      text("Type"),
      text("Reason"),
      text("Object"),
      text("Subobject", 1),
      text("Source", 1),
      text("Message"),
      text("First Seen", 1),
      count("Count", 1),
      { ...NAME, priority: 1 },
    ],
    row: (o, now) => {
      const first = o.firstTimestamp ?? o.eventTime ?? o.metadata.creationTimestamp;
      const last = o.series?.lastObservedTime ?? o.lastTimestamp ?? first;
      const { kind = "", name = "", fieldPath = "" } = o.involvedObject ?? {};
      return [
        age(last, now),
        o.type ?? "",
        o.reason ?? "",
        name ? `${String(kind).toLowerCase()}/${name}` : String(kind).toLowerCase(),
        fieldPath,
        [o.source?.component ?? o.reportingComponent, o.source?.host].filter(Boolean).join(", "),
        String(o.message ?? "").trim(),
        age(first, now),
        o.series?.count ?? o.count ?? 1,
        o.metadata.name,
      ];
    },
  },
  "/replicationcontrollers": {
    columns: [NAME, count("Desired"), count("Current"), count("Ready"), AGE],
    row: (o, now) => [
      o.metadata.name,
      o.spec?.replicas ?? 0,
      o.status?.replicas ?? 0,
      o.status?.readyReplicas ?? 0,
      created(o, now),
    ],
  },
  "apps/deployments": {
    columns: [NAME, text("Ready"), count("Up-to-date"), count("Available"), AGE, ...WIDE],
    row: (o, now) => [
      o.metadata.name,
      `${o.status?.readyReplicas ?? 0}/${o.spec.replicas}`,
      o.status?.updatedReplicas ?? 0,
      o.status?.availableReplicas ?? 0,
      created(o, now),
      ...wide(o),
    ],
  },
  "apps/replicasets": {
    columns: [NAME, count("Desired"), count("Current"), count("Ready"), AGE, ...WIDE],
    row: (o, now) => [
      o.metadata.name,
      o.spec.replicas,
      o.status?.replicas ?? 0,
      o.status?.readyReplicas ?? 0,
      created(o, now),
      ...wide(o),
    ],
  },
  "apps/statefulsets": {
    columns: [NAME, text("Ready"), AGE, text("Containers", 1), text("Images", 1)],
    row: (o, now) => [
      o.metadata.name,
      `${o.status?.readyReplicas ?? 0}/${o.spec.replicas}`,
      created(o, now),
      ...wide(o).slice(0, 2),
    ],
  },
  "apps/daemonsets": {
    columns: [
      NAME,
      count("Desired"),
      count("Current"),
      count("Ready"),
      count("Up-to-date"),
      count("Available"),
      text("Node Selector"),
      AGE,
      ...WIDE,
    ],
    row: (o, now) => [
      o.metadata.name,
      o.status?.desiredNumberScheduled ?? 0,
      o.status?.currentNumberScheduled ?? 0,
      o.status?.numberReady ?? 0,
      o.status?.updatedNumberScheduled ?? 0,
      o.status?.numberAvailable ?? 0,
      labelText(o.spec.template?.spec?.nodeSelector),
      created(o, now),
      ...wide(o),
    ],
  },
  "apps/controllerrevisions": {
    columns: [NAME, text("Controller"), count("Revision"), AGE],
    row: (o, now) => {
      const owner = (o.metadata.ownerReferences ?? []).find((r) => r.controller);
      return [
        o.metadata.name,
        owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split("/")[0]}/${owner.name}` : "<none>",
        o.revision ?? 0,
        created(o, now),
      ];
    },
  },
  "batch/jobs": {
    columns: [NAME, text("Status"), text("Completions"), text("Duration"), AGE, ...WIDE],
    row: (o, now) => [
      o.metadata.name,
      jobStatus(o),
      `${o.status?.succeeded ?? 0}/${o.spec.completions ?? `1 of ${o.spec.parallelism}`}`,
      jobDuration(o, now),
      created(o, now),
      ...wide(o),
    ],
  },
  "batch/cronjobs": {
    columns: [
      NAME,
      text("Schedule"),
      text("Timezone"),
      text("Suspend"),
      count("Active"),
      text("Last Schedule"),
      AGE,
      ...WIDE,
    ],
    row: (o, now) => [
      o.metadata.name,
      o.spec.schedule,
      o.spec.timeZone ?? "<none>",
      o.spec.suspend ? "True" : "False",
      (o.status?.active ?? []).length,
      o.status?.lastScheduleTime ? age(o.status.lastScheduleTime, now) : "<none>",
      created(o, now),
      containers(o.spec.jobTemplate?.spec?.template?.spec),
      images(o.spec.jobTemplate?.spec?.template?.spec),
      selectorText(o.spec.jobTemplate?.spec?.selector),
    ],
  },
  "discovery.k8s.io/endpointslices": {
    columns: [NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE],
    row: (o, now) => [
      o.metadata.name,
      o.addressType ?? "",
      (o.ports ?? []).map((p: Json) => p.port ?? "*").join(",") || "<unset>",
      sliceEndpoints(o),
      created(o, now),
    ],
  },
  "rbac.authorization.k8s.io/roles": {
    columns: [NAME, { name: "Created At", type: "date" }],
    row: (o) => [o.metadata.name, o.metadata.creationTimestamp],
  },
  "rbac.authorization.k8s.io/clusterroles": {
    columns: [NAME, { name: "Created At", type: "date" }],
    row: (o) => [o.metadata.name, o.metadata.creationTimestamp],
  },
  "rbac.authorization.k8s.io/rolebindings": bindingPrinter(),
  "rbac.authorization.k8s.io/clusterrolebindings": bindingPrinter(),
  "admissionregistration.k8s.io/mutatingwebhookconfigurations": webhookPrinter(),
  "admissionregistration.k8s.io/validatingwebhookconfigurations": webhookPrinter(),
  "apiextensions.k8s.io/customresourcedefinitions": {
    columns: [NAME, { name: "Created At", type: "date" }],
    row: (o) => [o.metadata.name, o.metadata.creationTimestamp],
  },
  "apiregistration.k8s.io/apiservices": {
    columns: [NAME, text("Service"), text("Available"), AGE],
    row: (o, now) => {
      const condition = (o.status?.conditions ?? []).find((c: Json) => c.type === "Available");
      const shown = !condition
        ? "Unknown"
        : condition.status === "True"
          ? "True"
          : `${condition.status} (${condition.reason})`;
      const { service } = o.spec ?? {};
      return [
        o.metadata.name,
        service ? `${service.namespace}/${service.name}` : "Local",
        shown,
        created(o, now),
      ];
    },
  },
  "coordination.k8s.io/leases": {
    columns: [NAME, text("Holder"), AGE],
    row: (o, now) => [o.metadata.name, o.spec?.holderIdentity ?? "", created(o, now)],
  },
  "policy/poddisruptionbudgets": {
    columns: [NAME, text("Min Available"), text("Max Unavailable"), count("Allowed Disruptions"), AGE],
    row: (o, now) => [
      o.metadata.name,
      String(o.spec?.minAvailable ?? "N/A"),
      String(o.spec?.maxUnavailable ?? "N/A"),
      o.status?.disruptionsAllowed ?? 0,
      created(o, now),
    ],
  },
  "networking.k8s.io/ingresses": {
    columns: [NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE],
    row: (o, now) => [
      o.metadata.name,
      o.spec?.ingressClassName ?? "<none>",
      (o.spec?.rules ?? []).map((r: Json) => r.host || "*").join(",") || "*",
      (o.status?.loadBalancer?.ingress ?? []).map((i: Json) => i.ip ?? i.hostname).join(","),
      o.spec?.tls?.length > 0 ? "80, 443" : "80",
      created(o, now),
    ],
  },
  "networking.k8s.io/networkpolicies": {
    columns: [NAME, text("Pod-Selector"), AGE],
    row: (o, now) => [o.metadata.name, selectorText(o.spec?.podSelector), created(o, now)],
  },
  "scheduling.k8s.io/priorityclasses": {
    columns: [
      NAME,
      count("Value"),
      { name: "Global-Default", type: "boolean" },
      AGE,
      text("PreemptionPolicy"),
    ],
    row: (o, now) => [
      o.metadata.name,
      o.value ?? 0,
      o.globalDefault ?? false,
      created(o, now),
      o.preemptionPolicy ?? "PreemptLowerPriority",
    ],
  },
};

function bindingPrinter(): Printer {
  return {
    columns: [NAME, text("Role"), AGE, text("Users", 1), text("Groups", 1), text("ServiceAccounts", 1)],
    row: (o, now) => [
      o.metadata.name,
      `${o.roleRef?.kind}/${o.roleRef?.name}`,
      created(o, now),
      subjects(o, "User"),
      subjects(o, "Group"),
      subjects(o, "ServiceAccount"),
    ],
  };
}

function webhookPrinter(): Printer {
  return {
    columns: [NAME, count("Webhooks"), AGE],
    row: (o, now) => [o.metadata.name, (o.webhooks ?? []).length, created(o, now)],
  };
}
