// The kinds that are served and the objects of each: lookups and reads. Writes are in writer.ts and deletion.ts.

import type { Clock } from "../../util/clock.ts";
import type { EventType, KubeObject } from "../cluster.ts";
import type { Change, Store } from "../store/store.ts";
import { apiVersionOf, keyOf, type ResourceDef } from "./resource.ts";
import { notFound } from "./status.ts";

export class Registry {
  readonly store: Store;
  readonly clock: Clock;
  /** `group/version/resource` → kind, in discovery order. */
  #served = new Map<string, ResourceDef>();
  /** `group/resource` → its preferred version. */
  #preferred = new Map<string, ResourceDef>();
  #listeners = new Set<() => void>();

  constructor(store: Store, clock: Clock) {
    this.store = store;
    this.clock = clock;
  }

  /** Serves one more kind. */
  serve(def: ResourceDef): void {
    this.#put(def);
    for (const listener of this.#listeners) listener();
  }

  #put(def: ResourceDef): void {
    this.#served.set(`${def.group}/${def.version}/${def.resource}`, def);
    const key = `${def.group}/${def.resource}`;
    if (!def.secondary || !this.#preferred.has(key)) this.#preferred.set(key, def);
  }

  /** Serves exactly these versions of a kind from now on; none: it is no longer served. */
  replace(group: string, resource: string, defs: readonly ResourceDef[]): void {
    for (const [key, def] of this.#served) {
      if (def.group === group && def.resource === resource) this.#served.delete(key);
    }
    this.#preferred.delete(`${group}/${resource}`);
    for (const def of defs) this.#put(def);
    for (const listener of this.#listeners) listener();
  }

  /** Calls back after each change of what is served. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  find(group: string, version: string, resource: string): ResourceDef | undefined {
    return this.#served.get(`${group}/${version}/${resource}`);
  }

  preferred(group: string, resource: string): ResourceDef | undefined {
    return this.#preferred.get(`${group}/${resource}`);
  }

  all(): ResourceDef[] {
    return [...this.#served.values()];
  }

  /** One description per stored collection: what storage-wide walks go over. */
  preferredAll(): ResourceDef[] {
    return [...this.#preferred.values()].filter((def) => def.collection === `${def.group}/${def.resource}`);
  }

  byKind(group: string, version: string, kind: string): ResourceDef | undefined {
    for (const def of this.#served.values()) {
      if (def.kind === kind && def.group === group && def.version === version) return def;
    }
    return undefined;
  }

  /** The object as this version shows it; throws 404. */
  get(def: ResourceDef, namespace: string | undefined, name: string): KubeObject {
    const object = this.store.get(def.collection, keyOf(def.namespaced ? namespace : undefined, name));
    if (!object) throw notFound(def.group, def.resource, name);
    return shown(def, object);
  }

  /** Stored objects of a collection, sorted by namespace and name. */
  listStored(collection: string, namespace?: string): KubeObject[] {
    const prefix = namespace ? `${namespace}/` : "";
    const found: Array<[string, KubeObject]> = [];
    for (const entry of this.store.entries(collection)) {
      if (entry[0].startsWith(prefix)) found.push(entry);
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return found.map(([, object]) => object);
  }
}

/** An object in the form of the version that `def` describes. */
export function shown(def: ResourceDef, object: KubeObject): KubeObject {
  if (def.fromStored) return def.fromStored(object);
  const apiVersion = apiVersionOf(def);
  return object.apiVersion === apiVersion ? object : { ...object, apiVersion };
}

/** A change as a watch of a selection sees it: entering and leaving the selection look like birth and death. */
export function visible(
  change: Change,
  matches: (object: KubeObject) => boolean,
): { type: EventType; object: KubeObject } | undefined {
  const before = change.previous !== undefined && matches(change.previous);
  if (change.type === "DELETED") {
    return before ? { type: "DELETED", object: change.object } : undefined;
  }
  const after = matches(change.object);
  if (after) return { type: before ? "MODIFIED" : "ADDED", object: change.object };
  if (!before) return undefined;
  // Leaving the selection: the last state inside it, at the version of the change.
  const last = change.previous as KubeObject;
  const metadata = { ...last.metadata, resourceVersion: String(change.version) };
  return { type: "DELETED", object: { ...last, metadata } };
}
