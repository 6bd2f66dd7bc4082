// Tables whose readers are told of changes. Whoever computes something from them reads through a Reading, which notes
// what was looked at; a change then concerns exactly those that looked at what changed. So work grows with the change
// and with who watches, and nothing that a decision depends on can be forgotten.
//
//   Table.put ──→ who read this key, or this group and would take the old or the new record ──→ Graph.settle: refresh
import { isDeepStrictEqual } from "node:util";
import { MultiMap } from "../../util/multi-map.ts";

/** Something computed from tables. */
export interface Dependent {
  /** What it read was changed. Told once, until it reads again. */
  changed(): void;
}

interface GroupReader<T> {
  readonly dependent: Dependent;
  readonly takes: ((record: T) => boolean) | undefined;
}

/** One thing that was read: among whose readers it is noted, under which name, as which reader. */
interface Note {
  readonly readers: MultiMap<object>;
  readonly name: string;
  readonly reader: object;
}

/** Takes part in one computation: notes what is read. */
export class Reading {
  readonly dependent: Dependent;
  #notes: Note[] = [];

  constructor(dependent: Dependent) {
    this.dependent = dependent;
  }

  note<R extends object>(readers: MultiMap<R>, name: string, reader: R): void {
    readers.add(name, reader);
    this.#notes.push({ readers: readers as unknown as MultiMap<object>, name, reader });
  }

  /** Nothing that was read concerns the dependent any longer. */
  forget(): void {
    const notes = this.#notes;
    this.#notes = [];
    for (const { readers, name, reader } of notes) readers.delete(name, reader);
  }
}

/** One way to find records: the values that each is found under, the keys of the records, and who read a value. */
interface Grouping<T> {
  readonly valuesOf: (record: T) => readonly string[];
  readonly keys: MultiMap<string>;
  readonly readers: MultiMap<GroupReader<T>>;
}

const NONE: readonly string[] = [];

export class Table<T, G extends string = never> {
  readonly #records = new Map<string, T>();
  readonly #groupings: Readonly<Record<G, Grouping<T>>>;
  readonly #keyReaders = new MultiMap<Dependent>();

  /** @param grouping by name, the values under which a record is found */
  constructor(grouping: Readonly<Record<G, (record: T) => readonly string[]>>) {
    const groupings = {} as Record<G, Grouping<T>>;
    for (const name of Object.keys(grouping) as G[])
      groupings[name] = { valuesOf: grouping[name], keys: new MultiMap(), readers: new MultiMap() };
    this.#groupings = groupings;
  }

  get size(): number {
    return this.#records.size;
  }

  keys(): IterableIterator<string> {
    return this.#records.keys();
  }

  get(key: string, reading?: Reading): T | undefined {
    reading?.note(this.#keyReaders, key, reading.dependent);
    return this.#records.get(key);
  }

  /**
   * The records of a group, in no order of meaning.
   * @param takes which of them matter; changes of others do not concern the reader
   */
  group(grouping: G, value: string, reading: Reading, takes?: (record: T) => boolean): T[] {
    const { keys, readers } = this.#groupings[grouping];
    reading.note(readers, value, { dependent: reading.dependent, takes });
    const found: T[] = [];
    for (const key of keys.get(value)) {
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
    for (const dependent of [...this.#keyReaders.get(key)]) dependent.changed();
    for (const name in this.#groupings) {
      const { valuesOf, keys, readers } = this.#groupings[name];
      const before = old === undefined ? NONE : valuesOf(old);
      const after = now === undefined ? NONE : valuesOf(now);
      for (const value of before) if (!after.includes(value)) keys.delete(value, key);
      for (const value of after) keys.add(value, key);
      for (const value of new Set([...before, ...after])) {
        const was = before.includes(value) ? old : undefined;
        const is = after.includes(value) ? now : undefined;
        for (const { dependent, takes } of [...readers.get(value)]) {
          const concerned = !takes || (was !== undefined && takes(was)) || (is !== undefined && takes(is));
          if (concerned) dependent.changed();
        }
      }
    }
  }
}

/** Something that a graph brings up to date. */
export interface Computed {
  /** Comes before those of later stages, which are computed from it. */
  readonly stage: number;
  refresh(): void;
}

/** Brings up to date what was changed, once for a change however often it was told of it. */
export class Graph {
  /** By stage. */
  readonly #pending: Set<Computed>[] = [];
  #settling = false;
  recomputed = 0;

  /** To be brought up to date by `settle`. */
  add(computed: Computed): void {
    for (let stage = this.#pending.length; stage <= computed.stage; stage += 1) this.#pending.push(new Set());
    this.#pending[computed.stage]!.add(computed);
  }

  cancel(computed: Computed): void {
    this.#pending[computed.stage]?.delete(computed);
  }

  /** Whether it is to be brought up to date. */
  has(computed: Computed): boolean {
    return this.#pending[computed.stage]?.has(computed) ?? false;
  }

  get isSettled(): boolean {
    return this.#pending.every(({ size }) => size === 0);
  }

  settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      for (let next = this.#next(); next; next = this.#next()) {
        this.cancel(next);
        this.recomputed += 1;
        next.refresh();
      }
    } finally {
      this.#settling = false;
    }
  }

  #next(): Computed | undefined {
    for (const pending of this.#pending) for (const computed of pending) return computed;
    return undefined;
  }
}
