// What controllers ask of a pod.
import type { KubeObject } from "../cluster.ts";

interface PodCondition {
  type: string;
  status: string;
  lastTransitionTime?: string;
}

function readyCondition(pod: KubeObject): PodCondition | undefined {
  return (pod["status"]?.conditions ?? []).find((condition: PodCondition) => condition.type === "Ready");
}

export function isReady(pod: KubeObject): boolean {
  return readyCondition(pod)?.status === "True";
}

/** Milliseconds until a ready pod counts as available; 0 when it does, undefined when it is not ready. */
export function availableIn(pod: KubeObject, minReadySeconds: number, now: number): number | undefined {
  const condition = readyCondition(pod);
  if (condition?.status !== "True") return undefined;
  if (minReadySeconds === 0) return 0;
  const since = Date.parse(condition.lastTransitionTime ?? "");
  return Number.isNaN(since) ? 0 : Math.max(0, since + minReadySeconds * 1000 - now);
}

export function isFinished(pod: KubeObject): boolean {
  const phase = pod["status"]?.phase;
  return phase === "Succeeded" || phase === "Failed";
}

/** Counts towards replicas: neither ended nor on its way out. */
export function isActive(pod: KubeObject): boolean {
  return !isFinished(pod) && !pod.metadata.deletionTimestamp;
}

export function restarts(pod: KubeObject): number {
  const statuses = pod["status"]?.containerStatuses ?? [];
  return statuses.reduce(
    (sum: number, status: { restartCount?: number }) => sum + (status.restartCount ?? 0),
    0,
  );
}

const PHASE_RANK: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };

/**
 * Orders pods by how little is lost when they go: unscheduled, then pending, not ready, on a crowded node, ready
 * for the shortest time, most restarts, newest (controller.ActivePodsWithRanks).
 */
export function byVictim(pods: readonly KubeObject[]): KubeObject[] {
  const perNode = new Map<string, number>();
  for (const pod of pods) {
    const node = pod["spec"]?.nodeName ?? "";
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const crowd = (pod: KubeObject) => perNode.get(pod["spec"]?.nodeName ?? "") ?? 0;
  const cost = (pod: KubeObject) =>
    Number(pod.metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"] ?? 0) || 0;
  const since = (pod: KubeObject) => Date.parse(readyCondition(pod)?.lastTransitionTime ?? "") || 0;
  const created = (pod: KubeObject) => Date.parse(pod.metadata.creationTimestamp ?? "") || 0;
  return [...pods].sort(
    (a, b) =>
      Number(Boolean(a["spec"]?.nodeName)) - Number(Boolean(b["spec"]?.nodeName)) ||
      (PHASE_RANK[a["status"]?.phase] ?? 0) - (PHASE_RANK[b["status"]?.phase] ?? 0) ||
      Number(isReady(a)) - Number(isReady(b)) ||
      cost(a) - cost(b) ||
      crowd(b) - crowd(a) ||
      (isReady(a) ? since(b) - since(a) : 0) ||
      restarts(b) - restarts(a) ||
      created(b) - created(a),
  );
}
