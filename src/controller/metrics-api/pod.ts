// What the metrics API keeps of a pod: enough to scrape it, to group its traffic and to count it.
import { STAT_KINDS, type StatKind } from "../../api/stat.ts";

export interface PodRecord {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ip: string | undefined;
  readonly phase: string;
  /** Its phase, or why it waits. */
  readonly status: string;
  /** Has a proxy of this mesh. */
  readonly meshed: boolean;
  /** The workload above it, by kind: deployment, statefulset … */
  readonly owners: Readonly<Partial<Record<StatKind, string>>>;
}

/** The parts of a Pod that are read here. */
export interface PodLike {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
    readonly ownerReferences?: readonly {
      readonly kind?: string;
      readonly name?: string;
      readonly controller?: boolean;
    }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly reason?: string;
    readonly containerStatuses?: readonly {
      readonly state?: { readonly waiting?: { readonly reason?: string } };
    }[];
  };
}

const CONTROL_PLANE_LABEL = "linkerd.io/control-plane-ns";
/** The injector names the workload in labels such as linkerd.io/proxy-deployment. */
const WORKLOAD_LABEL = "linkerd.io/proxy-";

export function podRecord(pod: PodLike, meshNamespace: string): PodRecord {
  const metadata = pod.metadata ?? {};
  const labels = metadata.labels ?? {};
  const phase = pod.status?.phase ?? "Unknown";
  const waiting = pod.status?.containerStatuses?.find((status) => status.state?.waiting?.reason)?.state
    ?.waiting?.reason;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name ?? "",
    labels,
    ip: pod.status?.podIP,
    phase,
    status: metadata.deletionTimestamp ? "Terminating" : (waiting ?? pod.status?.reason ?? phase),
    meshed: labels[CONTROL_PLANE_LABEL] === meshNamespace,
    owners: ownersOf(metadata, labels),
  };
}

function ownersOf(
  metadata: NonNullable<PodLike["metadata"]>,
  labels: Readonly<Record<string, string>>,
): PodRecord["owners"] {
  const owners: Partial<Record<StatKind, string>> = {};
  for (const kind of STAT_KINDS) {
    const name = labels[`${WORKLOAD_LABEL}${kind}`];
    if (name !== undefined) owners[kind] = name;
  }
  const owner =
    metadata.ownerReferences?.find((reference) => reference.controller) ?? metadata.ownerReferences?.[0];
  const kind = owner?.kind?.toLowerCase() as StatKind | undefined;
  if (owner?.name === undefined || kind === undefined || !STAT_KINDS.includes(kind)) return owners;
  owners[kind] ??= owner.name;
  // A Deployment names its ReplicaSets NAME-HASH and labels the pods with the hash; a CronJob its Jobs NAME-TIME.
  const hash = labels["pod-template-hash"];
  if (kind === "replicaset" && hash && owner.name.endsWith(`-${hash}`)) {
    owners.deployment ??= owner.name.slice(0, -hash.length - 1);
  }
  const scheduled = kind === "job" ? /^(.+)-\d{8,}$/.exec(owner.name)?.[1] : undefined;
  if (scheduled !== undefined) owners.cronjob ??= scheduled;
  return owners;
}

/** A pod that is over holds no traffic and is not counted. */
export function hasEnded(pod: PodRecord): boolean {
  return pod.phase === "Succeeded" || pod.phase === "Failed";
}

/** The pod's resource of a kind, by name; undefined when it belongs to none. */
export function resourceName(pod: PodRecord, kind: StatKind): string | undefined {
  if (kind === "pod") return pod.name;
  if (kind === "namespace") return pod.namespace;
  return pod.owners[kind];
}
