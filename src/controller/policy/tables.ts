// Tables whose readers are told of changes. Whoever computes something from them reads through a Reading, which notes
// what was looked at; a change then concerns exactly those that looked at what changed. So work grows with the change
// and with who watches, and nothing that a decision depends on can be forgotten.
//
//   Table.put ──→ who read this key, or this group and would take the old or the new record ──→ Graph.settle: recompute
import { isDeepStrictEqual } from "node:util";

/** Something computed from tables. */
export interface Dependent {
  /** What it read was changed. Told once, until it reads again. */
  changed(): void;
}

interface GroupReader<T> {
  readonly dependent: Dependent;
  readonly takes: ((record: T) => boolean) | undefined;
}

/** Takes part in one computation: notes what is read. */
export class Reading {
  readonly dependent: Dependent;
  readonly #undo: (() => void)[] = [];

  constructor(dependent: Dependent) {
    this.dependent = dependent;
  }

  note(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** Nothing that was read concerns the dependent any longer. */
  forget(): void {
    for (const undo of this.#undo) undo();
    this.#undo.length = 0;
  }
}

export class Table<T, G extends string = never> {
  readonly #records = new Map<string, T>();
  readonly #grouping: Readonly<Record<G, (record: T) => readonly string[]>>;
  /** Keys of records by group, and who read a group. Names are `grouping value`. */
  readonly #groups = new Map<string, Set<string>>();
  readonly #groupReaders = new Map<string, Set<GroupReader<T>>>();
  readonly #keyReaders = new Map<string, Set<Dependent>>();

  /** @param grouping by name, the values under which a record is found */
  constructor(grouping: Readonly<Record<G, (record: T) => readonly string[]>>) {
    this.#grouping = grouping;
  }

  get size(): number {
    return this.#records.size;
  }

  keys(): IterableIterator<string> {
    return this.#records.keys();
  }

  get(key: string, reading?: Reading): T | undefined {
    if (reading) subscribe(this.#keyReaders, key, reading.dependent, reading);
    return this.#records.get(key);
  }

  /**
   * The records of a group, in no order of meaning.
   * @param takes which of them matter; changes of others do not concern the reader
   */
  group(grouping: G, value: string, reading: Reading, takes?: (record: T) => boolean): T[] {
    const name = groupName(grouping, value);
    subscribe(this.#groupReaders, name, { dependent: reading.dependent, takes }, reading);
    const found: T[] = [];
    for (const key of this.#groups.get(name) ?? []) {
      const record = this.#records.get(key)!;
      if (!takes || takes(record)) found.push(record);
    }
    return found;
  }

  /** Whoever depends on it is told; a record equal to the old one changes nothing. */
  put(key: string, record: T): void {
    const old = this.#records.get(key);
    if (old !== undefined && isDeepStrictEqual(old, record)) return;
    this.#records.set(key, record);
    this.#change(key, old, record);
  }

  remove(key: string): void {
    const old = this.#records.get(key);
    if (old === undefined) return;
    this.#records.delete(key);
    this.#change(key, old, undefined);
  }

  #change(key: string, old: T | undefined, now: T | undefined): void {
    const before = old === undefined ? [] : this.#groupsOf(old);
    const after = now === undefined ? [] : this.#groupsOf(now);
    for (const name of before) if (!after.includes(name)) this.#leave(name, key);
    for (const name of after) this.#join(name, key);
    for (const dependent of [...(this.#keyReaders.get(key) ?? [])]) dependent.changed();
    for (const name of new Set([...before, ...after])) {
      const was = before.includes(name) ? old : undefined;
      const is = after.includes(name) ? now : undefined;
      for (const { dependent, takes } of [...(this.#groupReaders.get(name) ?? [])]) {
        const concerned = !takes || (was !== undefined && takes(was)) || (is !== undefined && takes(is));
        if (concerned) dependent.changed();
      }
    }
  }

  #groupsOf(record: T): string[] {
    const names: string[] = [];
    for (const grouping of Object.keys(this.#grouping) as G[])
      for (const value of this.#grouping[grouping](record)) names.push(groupName(grouping, value));
    return names;
  }

  #join(name: string, key: string): void {
    const keys = this.#groups.get(name);
    if (keys) keys.add(key);
    else this.#groups.set(name, new Set([key]));
  }

  #leave(name: string, key: string): void {
    const keys = this.#groups.get(name);
    keys?.delete(key);
    if (keys?.size === 0) this.#groups.delete(name);
  }
}

const groupName = (grouping: string, value: string): string => `${grouping} ${value}`;

function subscribe<R>(readers: Map<string, Set<R>>, name: string, reader: R, reading: Reading): void {
  let set = readers.get(name);
  if (!set) {
    set = new Set();
    readers.set(name, set);
  }
  if (set.has(reader)) return;
  set.add(reader);
  reading.note(() => {
    const left = readers.get(name);
    left?.delete(reader);
    if (left?.size === 0) readers.delete(name);
  });
}

/** Recomputes what was changed, once for a change however often it was told of it. */
export class Graph {
  readonly #pending = new Set<() => void>();
  #settling = false;
  recomputed = 0;

  /** To be recomputed by `settle`. */
  add(recompute: () => void): void {
    this.#pending.add(recompute);
  }

  cancel(recompute: () => void): void {
    this.#pending.delete(recompute);
  }

  settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      for (const recompute of this.#pending) {
        this.#pending.delete(recompute);
        this.recomputed += 1;
        recompute();
      }
    } finally {
      this.#settling = false;
    }
  }
}
