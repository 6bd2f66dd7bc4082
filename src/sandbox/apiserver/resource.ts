// What the API server knows of one kind: names, scope, subresources, and the rules applied to its objects. Built-in
// kinds are listed in kinds/, those of CRDs are made in crd/.

import type { Json, KubeObject } from "../cluster.ts";
import type { FieldError } from "./status.ts";
import type { Topology } from "./topology.ts";

export type Verb = "create" | "delete" | "deletecollection" | "get" | "list" | "patch" | "update" | "watch";

export const ALL_VERBS: readonly Verb[] = [
  "create",
  "delete",
  "deletecollection",
  "get",
  "list",
  "patch",
  "update",
  "watch",
];

export interface Column {
  name: string;
  type: "string" | "integer" | "number" | "boolean" | "date";
  format?: string;
  description?: string;
  /** 0: always shown; 1: with -o wide. */
  priority?: number;
}

export interface Printer {
  columns: readonly Column[];
  /** One cell a column. `now` in ms since the epoch. */
  row(object: KubeObject, now: number): unknown[];
}

export interface ScaleDef {
  /** Dotted paths into the object, without leading dot. */
  specReplicas: string;
  statusReplicas: string;
  /** Path of the selector in string or object form. */
  selector?: string;
}

/** A subresource that is not status or scale: listed in discovery, served by its own handler. */
export interface ExtraSubresource {
  name: string;
  kind: string;
  group?: string;
  version?: string;
  verbs: readonly string[];
}

export interface ResourceDef {
  group: string;
  version: string;
  resource: string;
  singular: string;
  kind: string;
  namespaced: boolean;
  shortNames: readonly string[];
  categories: readonly string[];
  verbs: readonly Verb[];
  /** Where the store keeps it: kinds that share objects (both Event groups, CRD versions) share the name. */
  collection: string;
  /** Has a status subresource: writes to the object leave status alone and the other way round. */
  status: boolean;
  /** metadata.generation counts changes of what is not metadata or status. */
  generation: boolean;
  scale?: ScaleDef;
  extras: readonly ExtraSubresource[];
  topology: Topology;
  /** Fills in defaults, in place. */
  defaults?(object: Json, now: number): void;
  validate?(object: KubeObject, old: KubeObject | undefined): FieldError[];
  /** On create only: checks the name; undefined when good. */
  validateName?(name: string): string | undefined;
  /** Removes what the kind does not know; returns the dropped paths. */
  prune?(object: Json): string[];
  /** Between this served version and what is stored. */
  toStored?(object: Json): Json;
  fromStored?(object: Json): Json;
  printer?: Printer;
  /** Set for kinds of CRDs. */
  custom?: boolean;
  /** Not the preferred version: left out of short-hand lookups by kind. */
  secondary?: boolean;
}

/** `apps/v1` or `v1`. */
export function apiVersionOf(def: { group: string; version: string }): string {
  return def.group ? `${def.group}/${def.version}` : def.version;
}

export function collectionOf(group: string, resource: string): string {
  return `${group}/${resource}`;
}

/** The store's key of an object: sorts by namespace, then name. */
export function keyOf(namespace: string | undefined, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}

export function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** `metav1.MicroTime`. */
export function microTimestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 23)}000Z`;
}

/** The value at a dotted path, or undefined. */
export function at(object: Json, path: string): Json {
  let value = object;
  for (const step of path.replace(/^\./, "").split(".")) {
    if (typeof value !== "object" || value === null) return undefined;
    value = value[step];
  }
  return value;
}

/** Sets the value at a dotted path, making the objects on the way. */
export function setAt(object: Json, path: string, value: Json): void {
  const steps = path.replace(/^\./, "").split(".");
  let target = object;
  for (const step of steps.slice(0, -1)) {
    if (typeof target[step] !== "object" || target[step] === null) target[step] = {};
    target = target[step];
  }
  target[steps.at(-1) as string] = value;
}

export function deepEqual(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => deepEqual(item, b[i]));
  }
  if (Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && deepEqual(a[k], b[k]))
  );
}
