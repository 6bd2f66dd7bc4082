// All objects of the cluster, in memory, under one counter of resource versions, with the recent changes of each
// collection kept so that watches can resume. A `Journal` makes each change durable before it becomes visible.

import type { EventType, KubeObject } from "../cluster.ts";

export interface Change {
  readonly type: EventType;
  readonly version: number;
  readonly collection: string;
  readonly key: string;
  /** After the change; for DELETED its last state with the version of the deletion. */
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
}

/** Where changes are written before they are applied. A throw refuses the change. */
export interface Journal {
  append(change: Change): void;
  /** Called after each applied change, when a compaction may be due. */
  settled(): void;
}

/** Changes kept per collection for watches that resume. */
const HISTORY = 1024;

interface Collection {
  readonly objects: Map<string, KubeObject>;
  /** Oldest first; between HISTORY and 2·HISTORY long, cut in one go. */
  history: Change[];
  /** Changes at or below this version are no longer known. */
  forgotten: number;
}

export class Store {
  #collections = new Map<string, Collection>();
  #version = 1;
  /** Versions up to this one were made before this process, or a compaction, and are not in the history. */
  #floor = 1;
  #journal: Journal | undefined;
  #listeners = new Set<(change: Change) => void>();

  /** The version of the last change. */
  get version(): number {
    return this.#version;
  }

  writeTo(journal: Journal): void {
    this.#journal = journal;
  }

  get(collection: string, key: string): KubeObject | undefined {
    return this.#collections.get(collection)?.objects.get(key);
  }

  has(collection: string): boolean {
    return (this.#collections.get(collection)?.objects.size ?? 0) > 0;
  }

  collections(): string[] {
    return [...this.#collections.keys()];
  }

  /** Every object of a collection as [key, object], unsorted. */
  entries(collection: string): Iterable<[string, KubeObject]> {
    return this.#collections.get(collection)?.objects ?? [];
  }

  /** Stores `object` under a new resource version and returns it frozen. */
  put(collection: string, key: string, object: KubeObject): KubeObject {
    const version = this.#version + 1;
    object.metadata.resourceVersion = String(version);
    const previous = this.get(collection, key);
    const change: Change = {
      type: previous ? "MODIFIED" : "ADDED",
      version,
      collection,
      key,
      object: deepFreeze(object),
      previous,
    };
    this.#journal?.append(change);
    this.apply(change);
    this.#journal?.settled();
    return object;
  }

  /** Removes an object; `last` is what watchers see as its final state (default: as stored). */
  remove(collection: string, key: string, last?: KubeObject): KubeObject | undefined {
    const previous = this.get(collection, key);
    if (!previous) return undefined;
    const version = this.#version + 1;
    const object = structuredClone(last ?? previous);
    object.metadata.resourceVersion = String(version);
    const change: Change = {
      type: "DELETED",
      version,
      collection,
      key,
      object: deepFreeze(object),
      previous,
    };
    this.#journal?.append(change);
    this.apply(change);
    this.#journal?.settled();
    return object;
  }

  /** Makes a journaled change visible. Also how a journal is replayed. */
  apply(change: Change): void {
    const target = this.#collection(change.collection);
    this.#version = change.version;
    if (change.type === "DELETED") target.objects.delete(change.key);
    else target.objects.set(change.key, change.object);
    target.history.push(change);
    if (target.history.length > 2 * HISTORY) {
      target.forgotten = (target.history[target.history.length - HISTORY - 1] as Change).version;
      target.history = target.history.slice(-HISTORY);
    }
    for (const listener of this.#listeners) listener(change);
  }

  /** Applies a change read back from a journal. */
  replay(change: Omit<Change, "previous">): void {
    const previous = this.get(change.collection, change.key);
    const type = change.type === "DELETED" ? "DELETED" : previous ? "MODIFIED" : "ADDED";
    this.apply({ ...change, type, object: deepFreeze(change.object), previous });
  }

  /** Puts back one object of a snapshot. */
  restore(collection: string, key: string, object: KubeObject): void {
    this.#collection(collection).objects.set(key, deepFreeze(object));
  }

  /** Ends the restoring of a snapshot taken at `version`. */
  restored(version: number): void {
    this.#version = version;
    this.#floor = version;
    for (const collection of this.#collections.values()) collection.forgotten = version;
  }

  /** Changes of a collection after `version`, or undefined when they are no longer all known. */
  since(collection: string, version: number): Change[] | undefined {
    const known = this.#collections.get(collection);
    if (version < (known?.forgotten ?? this.#floor)) return undefined;
    const history = known?.history ?? [];
    let low = 0;
    let high = history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((history[middle] as Change).version > version) high = middle;
      else low = middle + 1;
    }
    return history.slice(low);
  }

  /** Forgets all that has been, as etcd does when it is compacted: who watches from before must list anew. */
  compact(): void {
    this.#floor = this.#version;
    for (const collection of this.#collections.values()) {
      collection.history = [];
      collection.forgotten = this.#version;
    }
  }

  /** Calls `listener` within each change, after it is applied. It must not throw nor write. */
  listen(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #collection(name: string): Collection {
    let found = this.#collections.get(name);
    if (!found) {
      found = { objects: new Map(), history: [], forgotten: this.#floor };
      this.#collections.set(name, found);
    }
    return found;
  }
}

/** Freezes plain JSON all the way down: stored objects are shared by every reader. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const item of Array.isArray(value) ? value : Object.values(value)) deepFreeze(item);
  return value;
}
