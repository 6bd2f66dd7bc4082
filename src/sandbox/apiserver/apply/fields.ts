// Field sets: which fields of an object are meant, as paths, and their FieldsV1 form in managedFields. A path is its
// steps joined by newlines: `f:name` a field, `k:{…}` a list item by key, `v:…` a member of a set.

import type { Json } from "../../cluster.ts";
import type { ListTopology, Topology } from "../topology.ts";

export const STEP = "\n";

/** Never owned by anyone: they identify the object or belong to the API server. */
const UNOWNED = new Set([
  "apiVersion",
  "kind",
  "metadata.name",
  "metadata.namespace",
  "metadata.uid",
  "metadata.creationTimestamp",
  "metadata.generation",
  "metadata.managedFields",
  "metadata.resourceVersion",
  "metadata.selfLink",
  "metadata.deletionTimestamp",
  "metadata.deletionGracePeriodSeconds",
]);

/** The key step of a list item, or undefined when it lacks a key field. */
export function itemKey(item: Json, list: ListTopology): string | undefined {
  if (list.kind === "set") return `v:${JSON.stringify(item)}`;
  if (list.kind !== "map" || typeof item !== "object" || item === null) return undefined;
  const key: Record<string, Json> = {};
  for (const field of [...list.keys].sort()) {
    const value = item[field] ?? list.defaults?.[field];
    if (value !== undefined) key[field] = value;
  }
  return Object.keys(key).length === 0 ? undefined : `k:${JSON.stringify(key)}`;
}

/** Items by key, or undefined when the list cannot be treated as keyed (then it is one atomic value). */
export function keyedItems(items: Json[], list: ListTopology): Map<string, Json> | undefined {
  if (list.kind === "atomic") return undefined;
  const byKey = new Map<string, Json>();
  for (const item of items) {
    const key = itemKey(item, list);
    if (key === undefined || byKey.has(key)) return undefined;
    byKey.set(key, item);
  }
  return byKey;
}

/** Every owned place of an object with its value; keyed items themselves count, with the value true. */
export function flatten(object: Json, topology: Topology): Map<string, Json> {
  const out = new Map<string, Json>();
  for (const [field, value] of Object.entries(object)) {
    if (UNOWNED.has(field)) continue;
    if (field !== "metadata") walk(value, topology.child(field), `f:${field}`, out);
    else {
      for (const [inner, part] of Object.entries(value as Json)) {
        if (UNOWNED.has(`metadata.${inner}`)) continue;
        walk(part, topology.child("metadata").child(inner), `f:metadata${STEP}f:${inner}`, out);
      }
    }
  }
  return out;
}

function walk(value: Json, topology: Topology, path: string, out: Map<string, Json>): void {
  if (Array.isArray(value)) {
    const items = value.length > 0 ? keyedItems(value, topology.list) : undefined;
    if (!items) {
      out.set(path, value);
      return;
    }
    for (const [key, item] of items) {
      const inner = `${path}${STEP}${key}`;
      out.set(inner, true);
      if (topology.list.kind === "map") {
        for (const [field, part] of Object.entries(item)) {
          walk(part, topology.item.child(field), `${inner}${STEP}f:${field}`, out);
        }
      }
    }
    return;
  }
  if (typeof value === "object" && value !== null && !topology.atomic && Object.keys(value).length > 0) {
    for (const [field, part] of Object.entries(value)) {
      walk(part, topology.child(field), `${path}${STEP}f:${field}`, out);
    }
    return;
  }
  out.set(path, value);
}

/** Paths → the nested form of managedFields[].fieldsV1. */
export function toFieldsV1(paths: Iterable<string>): Json {
  const root: Json = {};
  for (const path of [...paths].sort()) {
    let node = root;
    const steps = path.split(STEP);
    for (const step of steps) {
      if (!Object.hasOwn(node, step)) node[step] = {};
      node = node[step];
    }
    if (steps.at(-1)?.startsWith("k:")) node["."] = {};
  }
  return root;
}

export function fromFieldsV1(fields: Json): Set<string> {
  const out = new Set<string>();
  const descend = (node: Json, path: string) => {
    const steps = Object.keys(node);
    if (path && (steps.length === 0 || (Object.hasOwn(node, ".") && /(^|\n)k:[^\n]*$/.test(path))))
      out.add(path);
    for (const step of steps) {
      if (step !== ".") descend(node[step], path ? `${path}${STEP}${step}` : step);
    }
  };
  descend(fields ?? {}, "");
  return out;
}

/** `.spec.containers[name="a"].image`, as conflicts are reported. */
export function pathText(path: string): string {
  return path
    .split(STEP)
    .map((step) => {
      if (step.startsWith("f:")) return `.${step.slice(2)}`;
      if (step.startsWith("v:")) return `[=${step.slice(2)}]`;
      const key = JSON.parse(step.slice(2)) as Record<string, Json>;
      return `[${Object.entries(key)
        .map(([k, v]) => `${k}=${JSON.stringify(v)}`)
        .join(",")}]`;
    })
    .join("");
}
