// metadata.managedFields: who owns which field, kept up to date by every write that names a manager.

import type { Json, KubeObject } from "../../cluster.ts";
import { apiVersionOf, deepEqual, type ResourceDef, timestamp } from "../resource.ts";
import { flatten, fromFieldsV1, toFieldsV1 } from "./fields.ts";

export interface Owner {
  manager: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  subresource: string;
  time: string | undefined;
  fields: Set<string>;
}

/** Updaters remembered one by one; older ones are folded together, as Kubernetes does. */
const MAX_UPDATERS = 10;

export function ownersOf(object: KubeObject | undefined): Owner[] {
  return (object?.metadata.managedFields ?? [])
    .filter((entry: Json) => entry?.manager !== undefined || entry?.fieldsV1)
    .map((entry: Json) => ({
      manager: entry.manager ?? "unknown",
      operation: entry.operation === "Apply" ? "Apply" : "Update",
      apiVersion: entry.apiVersion ?? "",
      subresource: entry.subresource ?? "",
      time: entry.time,
      fields: fromFieldsV1(entry.fieldsV1),
    }));
}

export function toManagedFields(owners: readonly Owner[]): Json[] {
  return owners
    .filter((owner) => owner.fields.size > 0)
    .map((owner) => ({
      manager: owner.manager,
      operation: owner.operation,
      apiVersion: owner.apiVersion,
      ...(owner.time ? { time: owner.time } : {}),
      fieldsType: "FieldsV1",
      fieldsV1: toFieldsV1(owner.fields),
      ...(owner.subresource ? { subresource: owner.subresource } : {}),
    }));
}

/** Ownership after `manager` wrote `next` over `current` by anything but an apply: what it changed is its own. */
export function trackUpdate(
  def: ResourceDef,
  current: KubeObject | undefined,
  next: KubeObject,
  manager: string,
  subresource: string,
  now: number,
): void {
  const managed = next.metadata.managedFields;
  // A client may reset ownership by sending an empty list, or a list of one empty entry.
  const reset =
    managed !== undefined && (managed.length === 0 || (managed.length === 1 && !managed[0].manager));
  const owners = reset ? [] : ownersOf(next);
  const before = current ? flatten(current, def.topology) : new Map<string, Json>();
  const after = flatten(next, def.topology);
  const changed = new Set<string>();
  for (const [path, value] of after) {
    if (!before.has(path) || !deepEqual(before.get(path), value)) changed.add(path);
  }
  const lost = (path: string) => changed.has(path) || (before.has(path) && !after.has(path));
  for (const owner of owners) {
    for (const path of owner.fields) {
      if (lost(path) || !covered(path, after)) owner.fields.delete(path);
    }
  }
  if (changed.size > 0) {
    const apiVersion = apiVersionOf(def);
    let own = owners.find(
      (o) =>
        o.operation === "Update" &&
        o.manager === manager &&
        o.apiVersion === apiVersion &&
        o.subresource === subresource,
    );
    if (!own) {
      own = { manager, operation: "Update", apiVersion, subresource, time: undefined, fields: new Set() };
      owners.push(own);
    }
    own.time = timestamp(now);
    for (const path of changed) own.fields.add(path);
  }
  const result = toManagedFields(folded(owners));
  if (result.length > 0) next.metadata.managedFields = result;
  else delete next.metadata.managedFields;
}

/** A path still means something: it, or something below it, exists. */
function covered(path: string, after: Map<string, Json>): boolean {
  if (after.has(path)) return true;
  for (const other of after.keys()) if (other.startsWith(`${path}\n`)) return true;
  return false;
}

function folded(owners: Owner[]): Owner[] {
  const updaters = owners.filter((owner) => owner.operation === "Update");
  if (updaters.length <= MAX_UPDATERS) return owners;
  const oldest = updaters.slice(0, updaters.length - MAX_UPDATERS + 1);
  const merged: Owner = { ...(oldest[0] as Owner), manager: "ancient-changes", fields: new Set() };
  for (const owner of oldest) for (const path of owner.fields) merged.fields.add(path);
  return [merged, ...owners.filter((owner) => !oldest.includes(owner))];
}
