// The arithmetic of a rollout: pure, so that its tables can be tested.
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { Json } from "../cluster.ts";

/** An int or a percentage of `total`, percentages rounded up or down. */
export function resolveIntOrPercent(value: number | string | undefined, total: number, up: boolean): number {
  if (value === undefined) return 0;
  if (typeof value === "number") return value;
  const percent = /^(\d+)%$/.exec(value);
  if (!percent) return Number(value) || 0;
  const exact = (total * Number(percent[1])) / 100;
  return up ? Math.ceil(exact) : Math.floor(exact);
}

export interface Fenceposts {
  readonly surge: number;
  readonly unavailable: number;
}

/** How many pods may exist above, and be missing below, the wanted number; never both zero. */
export function fenceposts(deployment: Json): Fenceposts {
  const { replicas, strategy } = deployment.spec;
  if (strategy?.type === "Recreate") return { surge: 0, unavailable: 0 };
  const surge = resolveIntOrPercent(strategy?.rollingUpdate?.maxSurge ?? "25%", replicas, true);
  const unavailable = Math.min(
    resolveIntOrPercent(strategy?.rollingUpdate?.maxUnavailable ?? "25%", replicas, false),
    replicas,
  );
  return surge === 0 && unavailable === 0 ? { surge, unavailable: 1 } : { surge, unavailable };
}

/** Replicas that the new ReplicaSet may have now: as far as the surge lets it grow. */
export function newReplicas(wanted: number, current: number, total: number, posts: Fenceposts): number {
  if (current >= wanted) return wanted;
  const room = wanted + posts.surge - total;
  return room <= 0 ? current : current + Math.min(room, wanted - current);
}

export interface OldSet {
  readonly name: string;
  readonly replicas: number;
  readonly available: number;
}

/**
 * New sizes of the old ReplicaSets (oldest first): first what never became available goes, then available pods as
 * far as enough others are available.
 */
export function shrinkOld(
  old: readonly OldSet[],
  fresh: { replicas: number; available: number },
  wanted: number,
  posts: Fenceposts,
): Map<string, number> {
  const sizes = new Map(old.map((set) => [set.name, set.replicas]));
  const minAvailable = wanted - posts.unavailable;
  const total = old.reduce((sum, set) => sum + set.replicas, fresh.replicas);
  const newUnavailable = Math.max(0, fresh.replicas - fresh.available);
  let budget = total - minAvailable - newUnavailable;
  if (budget <= 0) return sizes;
  for (const set of old) {
    const gone = Math.min(budget, Math.max(0, set.replicas - set.available));
    sizes.set(set.name, set.replicas - gone);
    budget -= gone;
  }
  // A status may still count pods that an earlier step has already taken away.
  const standing = (set: { replicas: number; available: number }) => Math.min(set.replicas, set.available);
  const available = old.reduce((sum, set) => sum + standing(set), standing(fresh));
  let spare = available - minAvailable;
  for (const set of old) {
    const size = sizes.get(set.name)!;
    const gone = Math.min(Math.max(spare, 0), size);
    sizes.set(set.name, size - gone);
    spare -= gone;
  }
  return sizes;
}

/** Shares `wanted` among ReplicaSets in proportion to their sizes: scaling in the middle of a rollout. */
export function proportional(
  sets: readonly { name: string; replicas: number }[],
  allowed: number,
): Map<string, number> {
  const total = sets.reduce((sum, set) => sum + set.replicas, 0);
  const sizes = new Map(sets.map((set) => [set.name, set.replicas]));
  let left = allowed - total;
  if (left === 0 || total === 0) return sizes;
  const bySize = [...sets].sort((a, b) => b.replicas - a.replicas);
  for (const set of bySize) {
    const share = Math.round((set.replicas * allowed) / total) - set.replicas;
    const change = left > 0 ? Math.min(Math.max(share, 0), left) : Math.max(Math.min(share, 0), left);
    sizes.set(set.name, set.replicas + change);
    left -= change;
  }
  // What rounding left over goes to the biggest; what it took too little is taken from the biggest on.
  for (const { name } of bySize) {
    const size = sizes.get(name)!;
    const change = Math.max(left, -size);
    sizes.set(name, size + change);
    left -= change;
  }
  return sizes;
}

const HASH_LABEL = "pod-template-hash";
const SAFE = "bcdfghjklmnpqrstvwxz2456789";

/** Whether two pod templates are the same but for the hash label. */
export function sameTemplate(a: Json, b: Json): boolean {
  return isDeepStrictEqual(withoutHash(a), withoutHash(b));
}

function withoutHash(template: Json): Json {
  const { labels, ...metadata } = template.metadata ?? {};
  const { [HASH_LABEL]: _, ...rest } = labels ?? {};
  const { creationTimestamp: __, ...others } = metadata;
  return { ...template, metadata: { ...others, labels: rest } };
}

/** The name suffix of a template's ReplicaSet: ten letters that spell no words. */
export function templateHash(template: Json, collisions: number): string {
  const digest = createHash("sha256")
    .update(`${stable(withoutHash(template))}#${collisions}`)
    .digest();
  return Array.from(digest.subarray(0, 10), (byte) => SAFE[byte % SAFE.length]).join("");
}

/** JSON with sorted keys. */
export function stable(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(stable).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const fields = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${stable(value[key])}`);
  return `{${fields.join(",")}}`;
}
