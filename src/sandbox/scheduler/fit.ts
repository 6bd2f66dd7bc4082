// Which nodes may take a pod, and which of them is best: pure.

import { type LabelSelector, requirementMatches, selectorMatches } from "../../rules/label-selector.ts";
import type { Json, KubeObject } from "../cluster.ts";

export interface Placement {
  readonly node?: string;
  /** Why not, as FailedScheduling says it: `0/2 nodes are available: 2 node(s) didn't match …`. */
  readonly message?: string;
}

/** Places `pod` among `nodes`, knowing all pods that are already placed. */
export function place(
  pod: KubeObject,
  nodes: readonly KubeObject[],
  placed: readonly KubeObject[],
): Placement {
  if (nodes.length === 0) return { message: "no nodes available to schedule pods" };
  const reasons = new Map<string, number>();
  const fitting: KubeObject[] = [];
  for (const node of nodes) {
    const reason = unfit(pod, node, nodes, placed);
    if (reason === undefined) fitting.push(node);
    else reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  if (fitting.length === 0) {
    const why = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
    return { message: `0/${nodes.length} nodes are available: ${why.join(", ")}.` };
  }
  let best: { name: string; score: number } | undefined;
  for (const node of fitting) {
    const score = crowding(pod, node, placed);
    if (!best || score < best.score) best = { name: node.metadata.name, score };
  }
  return { node: best!.name };
}

/** Siblings on a node weigh most (spread one workload), then all its pods; less is better. */
function crowding(pod: KubeObject, node: KubeObject, placed: readonly KubeObject[]): number {
  const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller)?.uid;
  let score = 0;
  for (const other of placed) {
    if (other["spec"].nodeName !== node.metadata.name) continue;
    if (other.metadata.namespace === pod.metadata.namespace) {
      if (owner && other.metadata.ownerReferences?.some((reference) => reference.uid === owner))
        score += 1_000;
      for (const preferred of pod["spec"].affinity?.podAntiAffinity
        ?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
        if (termTakes(preferred.podAffinityTerm, pod, other)) score += 20 * preferred.weight;
      }
    }
    score += 10;
  }
  for (const taint of node["spec"]?.taints ?? []) {
    if (taint.effect === "PreferNoSchedule" && !tolerated(taint, pod)) score += 500;
  }
  return score;
}

function unfit(
  pod: KubeObject,
  node: KubeObject,
  nodes: readonly KubeObject[],
  placed: readonly KubeObject[],
): string | undefined {
  const labels = node.metadata.labels ?? {};
  if (node["spec"]?.unschedulable) return "node(s) were unschedulable";
  const ready = (node["status"]?.conditions ?? []).find((condition: Json) => condition.type === "Ready");
  if (ready?.status !== "True" && !tolerates(pod, "node.kubernetes.io/not-ready"))
    return "node(s) were not ready";
  for (const taint of node["spec"]?.taints ?? []) {
    if ((taint.effect === "NoSchedule" || taint.effect === "NoExecute") && !tolerated(taint, pod)) {
      return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`;
    }
  }
  const mismatch = "node(s) didn't match Pod's node affinity/selector";
  for (const [key, value] of Object.entries(pod["spec"].nodeSelector ?? {})) {
    if (labels[key] !== value) return mismatch;
  }
  const terms =
    pod["spec"].affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms && !terms.some((term: Json) => nodeTermMatches(term, node))) return mismatch;
  const limit = Number(node["status"]?.allocatable?.pods ?? Number.POSITIVE_INFINITY);
  const here = placed.filter((other) => other["spec"].nodeName === node.metadata.name);
  if (here.length >= limit) return "Too many pods";
  return unfitByAffinity(pod, node, nodes, placed);
}

function unfitByAffinity(
  pod: KubeObject,
  node: KubeObject,
  nodes: readonly KubeObject[],
  placed: readonly KubeObject[],
): string | undefined {
  const nodeOf = new Map(nodes.map((each) => [each.metadata.name, each]));
  const sameDomain = (other: KubeObject, key: string) => {
    const value = node.metadata.labels?.[key];
    return value !== undefined && nodeOf.get(other["spec"].nodeName)?.metadata.labels?.[key] === value;
  };
  const required = (kind: "podAffinity" | "podAntiAffinity", of: KubeObject): Json[] =>
    of["spec"].affinity?.[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  for (const term of required("podAntiAffinity", pod)) {
    if (placed.some((other) => termTakes(term, pod, other) && sameDomain(other, term.topologyKey))) {
      return "node(s) didn't match pod anti-affinity rules";
    }
  }
  for (const other of placed) {
    for (const term of required("podAntiAffinity", other)) {
      if (termTakes(term, other, pod) && sameDomain(other, term.topologyKey)) {
        return "node(s) didn't satisfy existing pods anti-affinity rules";
      }
    }
  }
  for (const term of required("podAffinity", pod)) {
    const matching = placed.filter((other) => termTakes(term, pod, other));
    // The first of a group that wants to be together may go anywhere.
    if (matching.length === 0 && termTakes(term, pod, pod)) continue;
    if (!matching.some((other) => sameDomain(other, term.topologyKey))) {
      return "node(s) didn't match pod affinity rules";
    }
  }
  return undefined;
}

/** Whether an affinity term of `owner` speaks of `other`. */
function termTakes(
  term: { labelSelector?: LabelSelector; namespaces?: string[] },
  owner: KubeObject,
  other: KubeObject,
): boolean {
  const namespaces = term.namespaces?.length ? term.namespaces : [owner.metadata.namespace];
  return (
    namespaces.includes(other.metadata.namespace!) &&
    selectorMatches(term.labelSelector, other.metadata.labels)
  );
}

function nodeTermMatches(term: Json, node: KubeObject): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length + fields.length === 0) return false;
  return (
    expressions.every((each: Json) => requirementMatches(each, node.metadata.labels)) &&
    fields.every((each: Json) => requirementMatches(each, { "metadata.name": node.metadata.name }))
  );
}

function tolerated(taint: { key: string; value?: string; effect: string }, pod: KubeObject): boolean {
  return (pod["spec"].tolerations ?? []).some((toleration: Json) => {
    if (toleration.effect && toleration.effect !== taint.effect) return false;
    if (toleration.operator === "Exists") return !toleration.key || toleration.key === taint.key;
    return toleration.key === taint.key && (toleration.value ?? "") === (taint.value ?? "");
  });
}

/** Tolerates the taint of a broken node by name, as DaemonSets' pods do. */
function tolerates(pod: KubeObject, key: string): boolean {
  return (pod["spec"].tolerations ?? []).some(
    (toleration: Json) =>
      toleration.key === key && (toleration.effect === undefined || toleration.effect === "NoExecute"),
  );
}
