// Where the pod template sits in each kind, and the parts of it that injection reads.

export interface ContainerPort {
  readonly containerPort: number;
  readonly name?: string;
  readonly protocol?: string;
}

interface Probe {
  readonly httpGet?: { readonly port?: number | string; readonly path?: string };
  readonly [other: string]: unknown;
}

export interface Container {
  readonly name: string;
  readonly image?: string;
  readonly ports?: readonly ContainerPort[] | null;
  readonly restartPolicy?: string;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly startupProbe?: Probe;
  readonly securityContext?: {
    readonly capabilities?: {
      readonly add?: readonly string[] | null;
      readonly drop?: readonly string[];
    } | null;
    readonly [other: string]: unknown;
  } | null;
  readonly [other: string]: unknown;
}

export type StringMap = Readonly<Record<string, string>>;

export interface Metadata {
  readonly name?: string;
  readonly generateName?: string;
  readonly namespace?: string;
  readonly labels?: StringMap | null;
  readonly annotations?: StringMap | null;
  readonly ownerReferences?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly controller?: boolean;
  }[];
}

export interface PodSpec {
  readonly containers?: readonly Container[] | null;
  readonly initContainers?: readonly Container[] | null;
  readonly volumes?: readonly { readonly name: string }[] | null;
  readonly hostNetwork?: boolean;
  readonly automountServiceAccountToken?: boolean;
}

/** A pod, or the template of one. */
export interface PodTemplate {
  readonly metadata?: Metadata | null;
  readonly spec?: PodSpec | null;
}

/** Any Kubernetes object, as far as injection cares. */
export interface Resource {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: Metadata | null;
  readonly spec?: unknown;
}

const TEMPLATE = "/spec/template";

/** JSON pointer of the pod template by kind; a Pod is its own template. */
export const TEMPLATE_PATHS: Readonly<Record<string, string>> = {
  Deployment: TEMPLATE,
  ReplicationController: TEMPLATE,
  ReplicaSet: TEMPLATE,
  Job: TEMPLATE,
  DaemonSet: TEMPLATE,
  StatefulSet: TEMPLATE,
  CronJob: "/spec/jobTemplate/spec/template",
  Pod: "",
};

/** Kinds that take annotations for the webhook but have no pods themselves. */
export const ANNOTATED_KINDS: readonly string[] = ["Namespace", "Service"];

const GROUPS: Readonly<Record<string, string>> = {
  Deployment: "apps",
  ReplicaSet: "apps",
  DaemonSet: "apps",
  StatefulSet: "apps",
  Job: "batch",
  CronJob: "batch",
};

/** Whether this is Kubernetes' own kind of that name and not a custom resource's. */
export function isBuiltIn(resource: Resource): boolean {
  const group = GROUPS[resource.kind ?? ""];
  const [given, version] = (resource.apiVersion ?? "").split("/");
  return group === undefined ? version === undefined : given === group;
}

/** The pod template of a resource and its JSON pointer, when it has one. */
export function templateOf(resource: Resource): { template: PodTemplate; path: string } | undefined {
  const path = TEMPLATE_PATHS[resource.kind ?? ""];
  if (path === undefined || !isBuiltIn(resource)) return undefined;
  let at: unknown = resource;
  for (const name of path.split("/").slice(1))
    at = (at as Record<string, unknown> | null | undefined)?.[name];
  return typeof at === "object" && at !== null ? { template: at as PodTemplate, path } : undefined;
}

/** Containers that run as long as the pod: the ordinary ones and native sidecars. */
export function longRunning(spec: PodSpec): Container[] {
  return [
    ...(spec.initContainers ?? []).filter((container) => container.restartPolicy === "Always"),
    ...(spec.containers ?? []),
  ];
}

/** TCP ports that the pod serves: container ports and numeric HTTP probe ports, in numeric order. */
export function inboundPorts(spec: PodSpec): number[] {
  const ports = new Set<number>();
  for (const container of longRunning(spec)) {
    for (const { containerPort, protocol = "TCP" } of container.ports ?? []) {
      if (protocol === "TCP") ports.add(containerPort);
    }
    for (const probe of [container.livenessProbe, container.readinessProbe, container.startupProbe]) {
      if (typeof probe?.httpGet?.port === "number") ports.add(probe.httpGet.port);
    }
  }
  return [...ports].sort((a, b) => a - b);
}

/** Whether a number is minutes since the epoch from 2015 to 2060; what people number by, as 20260131, is none of them. */
const isScheduled = (minutes: number): boolean => minutes >= 23_667_840 && minutes < 47_335_680;

/**
 * The workload a pod belongs to. A ReplicaSet that a Deployment made is named after it plus the template's hash, and a Job
 * that a CronJob made is named after it plus the minute that it was due, so no question to the API server is needed.
 */
export function ownerOf(pod: Metadata): { kind: string; name: string } | undefined {
  const owner = pod.ownerReferences?.find((ref) => ref.controller) ?? pod.ownerReferences?.[0];
  if (!owner) return undefined;
  const hash = pod.labels?.["pod-template-hash"];
  if (owner.kind === "ReplicaSet" && hash && owner.name.endsWith(`-${hash}`)) {
    return { kind: "Deployment", name: owner.name.slice(0, -hash.length - 1) };
  }
  const cron = owner.kind === "Job" ? /^(.+)-(\d{8})$/.exec(owner.name) : null;
  if (cron && isScheduled(Number(cron[2]))) return { kind: "CronJob", name: cron[1]! };
  return { kind: owner.kind, name: owner.name };
}
