// Strategic merge patch: JSON merge patch that knows the keys of lists, with its directives ($patch, $retainKeys,
// $setElementOrder/…, $deleteFromPrimitiveList/…). After k8s.io/apimachinery/pkg/util/strategicpatch.

import type { Json } from "../../cluster.ts";
import { deepEqual } from "../resource.ts";
import { badRequest } from "../status.ts";
import type { Topology } from "../topology.ts";

const ORDER = "$setElementOrder/";
const DELETE = "$deleteFromPrimitiveList/";

/** Applies `patch` to a copy of `original`. Throws 400 for unknown directives. */
export function strategicMergePatch(original: Json, patch: Json, topology: Topology): Json {
  if (!isObject(patch)) throw badRequest("a strategic merge patch must be an object");
  return mergeMap(structuredClone(original), structuredClone(patch), topology);
}

const isObject = (value: Json) => typeof value === "object" && value !== null && !Array.isArray(value);

function mergeMap(original: Json, patch: Json, topology: Topology): Json {
  if (Object.hasOwn(patch, "$patch")) {
    const directive = patch.$patch;
    const { $patch, ...rest } = patch;
    if (directive === "replace") return rest;
    if (directive === "delete") return {};
    if (directive !== "merge") throw badRequest(`unknown patch directive ${JSON.stringify(directive)}`);
    delete patch.$patch;
  }
  if (Array.isArray(patch.$retainKeys)) {
    const kept = new Set(patch.$retainKeys);
    for (const key of Object.keys(original)) if (!kept.has(key)) delete original[key];
    delete patch.$retainKeys;
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(DELETE)) continue;
    const field = key.slice(DELETE.length);
    if (Array.isArray(original[field])) {
      original[field] = original[field].filter(
        (item: Json) => !(value as Json[]).some((gone) => deepEqual(gone, item)),
      );
    }
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith("$") || key === "__proto__") continue;
    if (value === null) {
      delete original[key];
      continue;
    }
    const child = topology.child(key);
    const present = original[key];
    if (Array.isArray(value)) {
      original[key] = mergeList(Array.isArray(present) ? present : [], value, child, patch[`${ORDER}${key}`]);
    } else if (isObject(value)) {
      original[key] = mergeMap(isObject(present) ? present : {}, value, child);
    } else original[key] = value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(ORDER)) continue;
    const field = key.slice(ORDER.length);
    if (Array.isArray(original[field]) && !Object.hasOwn(patch, field)) {
      original[field] = ordered(original[field], order as Json[], topology.child(field));
    }
  }
  return original;
}

/** The key field that strategic merge uses for a list, if it merges at all. */
function mergeKeyOf(topology: Topology): string | undefined {
  return topology.mergeKey ?? (topology.list.kind === "map" ? topology.list.keys[0] : undefined);
}

function mergeList(original: Json[], patch: Json[], topology: Topology, order: Json[] | undefined): Json[] {
  const replaced = patch.some((item) => isObject(item) && item.$patch === "replace");
  if (replaced) return patch.filter((item) => !(isObject(item) && item.$patch === "replace"));
  const key = mergeKeyOf(topology);
  if (key === undefined) {
    if (topology.list.kind !== "set") return patch;
    const merged = [...original];
    for (const item of patch) if (!merged.some((known) => deepEqual(known, item))) merged.push(item);
    return order ? ordered(merged, order, topology) : merged;
  }
  let merged = [...original];
  for (const item of patch) {
    if (!isObject(item) || item[key] === undefined) {
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    }
    if (item.$patch === "delete") {
      merged = merged.filter((known) => known?.[key] !== item[key]);
      continue;
    }
    const at = merged.findIndex((known) => known?.[key] === item[key]);
    if (at < 0) merged.push(mergeMap({}, item, topology.item));
    else merged[at] = mergeMap(merged[at], item, topology.item);
  }
  return order ? ordered(merged, order, topology) : merged;
}

/** Puts the items that `order` names in its order; others keep their place relative to what follows them. */
function ordered(items: Json[], order: Json[], topology: Topology): Json[] {
  const key = mergeKeyOf(topology);
  const id = (item: Json) => (key !== undefined && isObject(item) ? item[key] : item);
  const rank = new Map(order.map((item, i) => [id(item), i]));
  const named = items.filter((item) => rank.has(id(item)));
  named.sort((a, b) => (rank.get(id(a)) as number) - (rank.get(id(b)) as number));
  const out: Json[] = [];
  let next = 0;
  for (const item of items) {
    if (rank.has(id(item))) out.push(named[next++]);
    else out.push(item);
  }
  return out;
}
