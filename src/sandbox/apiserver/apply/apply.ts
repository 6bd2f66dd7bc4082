// Server-side apply: merge what a manager wants into the live object, remove what it no longer wants and nobody else
// owns, and refuse to take over others' fields unless forced.

import type { Json, KubeObject } from "../../cluster.ts";
import { apiVersionOf, deepEqual, type ResourceDef, timestamp } from "../resource.ts";
import { ApiError, badRequest } from "../status.ts";
import type { Topology } from "../topology.ts";
import { flatten, itemKey, keyedItems, pathText, STEP } from "./fields.ts";
import { type Owner, ownersOf, toManagedFields } from "./ownership.ts";

export interface ApplyOptions {
  manager: string;
  force: boolean;
  subresource: string;
  now: number;
}

/** The object after applying `wanted`, with its managedFields. `live` is a copy that may be altered. */
export function applied(
  def: ResourceDef,
  live: KubeObject | undefined,
  wanted: Json,
  options: ApplyOptions,
): KubeObject {
  if ((wanted.metadata?.managedFields ?? []).length > 0)
    throw badRequest("metadata.managedFields must be nil");
  const config = structuredClone(wanted);
  const values = flatten(config, def.topology);
  const apiVersion = apiVersionOf(def);
  const owners = ownersOf(live);
  const isSelf = (o: Owner) =>
    o.operation === "Apply" && o.manager === options.manager && o.subresource === options.subresource;
  const self = owners.find(isSelf);
  const others = owners.filter((owner) => !isSelf(owner));

  if (live) {
    const present = flatten(live, def.topology);
    const conflicts = new Map<Owner, string[]>();
    for (const owner of others) {
      const paths = [...owner.fields].filter(
        (path) => values.has(path) && !deepEqual(values.get(path), present.get(path)),
      );
      if (paths.length > 0) conflicts.set(owner, paths);
    }
    if (conflicts.size > 0 && !options.force) throw conflictError(conflicts);
    for (const [owner, paths] of conflicts) for (const path of paths) owner.fields.delete(path);
  }

  const next: KubeObject = live ? mergedObject(live, config, def.topology, true) : config;
  if (live && self) {
    const dropped = [...self.fields].filter((path) => !values.has(path));
    // Shorter paths first: a list item goes whole, before its key fields could go from under it.
    for (const path of dropped.sort((a, b) => a.length - b.length)) {
      if (others.some((owner) => owns(owner, path))) continue;
      if ([...values.keys()].some((kept) => kept.startsWith(`${path}${STEP}`))) continue;
      removePath(next, path.split(STEP), def.topology);
    }
  }
  const fields = new Set(values.keys());
  const unchanged = self && self.apiVersion === apiVersion && sameSet(self.fields, fields);
  const own: Owner = {
    manager: options.manager,
    operation: "Apply",
    apiVersion,
    subresource: options.subresource,
    time: unchanged ? self.time : timestamp(options.now),
    fields,
  };
  next.metadata.managedFields = toManagedFields([own, ...others]);
  return next;
}

const owns = (owner: Owner, path: string) =>
  owner.fields.has(path) || [...owner.fields].some((field) => field.startsWith(`${path}${STEP}`));

const sameSet = (a: Set<string>, b: Set<string>) => a.size === b.size && [...a].every((item) => b.has(item));

function conflictError(conflicts: Map<Owner, string[]>): ApiError {
  const causes = [];
  const parts = [];
  let count = 0;
  for (const [owner, paths] of conflicts) {
    const who = `${JSON.stringify(owner.manager)}${owner.subresource ? ` with subresource ${JSON.stringify(owner.subresource)}` : ""}${owner.operation === "Update" && owner.apiVersion ? ` using ${owner.apiVersion}` : ""}`;
    const fields = paths.map(pathText).sort();
    count += fields.length;
    for (const field of fields) {
      causes.push({ reason: "FieldManagerConflict", message: `conflict with ${who}`, field });
    }
    parts.push(
      fields.length === 1
        ? `conflict with ${who}: ${fields[0]}`
        : `conflicts with ${who}:\n${fields.map((field) => `- ${field}`).join("\n")}`,
    );
  }
  return new ApiError(
    409,
    "Conflict",
    `Apply failed with ${count} conflict${count === 1 ? "" : "s"}: ${parts.join("\n")}`,
    { causes },
  );
}

function merged(live: Json, wanted: Json, topology: Topology): Json {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(live)) return wanted;
    const ours = keyedItems(wanted, topology.list);
    const theirs = keyedItems(live, topology.list);
    if (!ours || !theirs || topology.list.kind === "atomic") return wanted;
    const out = [];
    for (const [key, item] of theirs) {
      out.push(ours.has(key) ? merged(item, ours.get(key), topology.item) : item);
    }
    for (const [key, item] of ours) if (!theirs.has(key)) out.push(item);
    return out;
  }
  if (isObject(wanted) && isObject(live) && !topology.atomic)
    return mergedObject(live, wanted, topology, false);
  return wanted;
}

function mergedObject(live: Json, wanted: Json, topology: Topology, root: boolean): Json {
  for (const [field, value] of Object.entries(wanted)) {
    if (root && (field === "apiVersion" || field === "kind")) continue;
    live[field] = Object.hasOwn(live, field) ? merged(live[field], value, topology.child(field)) : value;
  }
  return live;
}

const isObject = (value: Json) => typeof value === "object" && value !== null && !Array.isArray(value);

const isKeyField = ({ list }: Topology, step: string) =>
  list.kind === "map" && list.keys.includes(step.slice(2));

/** Deletes what a path means, and the maps and lists that this leaves empty. */
function removePath(parent: Json, steps: string[], topology: Topology): void {
  const [step, ...rest] = steps as [string, ...string[]];
  if (Array.isArray(parent)) {
    const index = parent.findIndex((item) => itemKey(item, topology.list) === step);
    if (index < 0) return;
    if (rest.length === 0) parent.splice(index, 1);
    else if (!(rest.length === 1 && isKeyField(topology, rest[0] as string))) {
      removePath(parent[index], rest, topology.item);
    }
    return;
  }
  const field = step.slice(2);
  if (!isObject(parent) || !Object.hasOwn(parent, field)) return;
  if (rest.length === 0) {
    delete parent[field];
    return;
  }
  const value = parent[field];
  if (typeof value !== "object" || value === null) return;
  removePath(value, rest, topology.child(field));
  const empty = Array.isArray(value) ? value.length === 0 : Object.keys(value).length === 0;
  if (empty && !["spec", "metadata", "template"].includes(field)) delete parent[field];
}
