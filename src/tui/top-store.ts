// The state behind `top`: what the source last said, a history of request rates, and what the person chose.
// Knows no terminal and no React.
import type { EdgeRow, StatRow } from "../api/stat.ts";
import type { Clock, Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";

const SORTS = ["rps", "success", "p99", "tcp", "name"] as const;
export type Sort = (typeof SORTS)[number];

export interface TopState {
  readonly rows: readonly StatRow[];
  readonly edges: readonly EdgeRow[];
  /** Requests a second by row key, oldest first. */
  readonly history: ReadonlyMap<string, readonly number[]>;
  readonly sort: Sort;
  readonly filter: string;
  /** The filter is being typed. */
  readonly typing: boolean;
  readonly paused: boolean;
  /** Key of the row whose edges are shown. */
  readonly selected: string | undefined;
  /** Why the last question failed; the rows are the last good ones. */
  readonly error: string | undefined;
  /** An answer has come. */
  readonly loaded: boolean;
}

export interface TopAnswer {
  readonly rows: readonly StatRow[];
  readonly edges: readonly EdgeRow[];
}

export interface TopStoreOptions {
  readonly ask: () => Promise<TopAnswer>;
  readonly clock: Clock;
  /** ms between two questions. */
  readonly interval: number;
}

/** Values kept of each row's history. */
const HISTORY = 120;

export const rowKey = (row: { readonly namespace: string; readonly name: string }): string =>
  `${row.namespace}/${row.name}`;

export class TopStore {
  readonly #options: TopStoreOptions;
  readonly #listeners = new Set<() => void>();
  #timer: Timer | undefined;
  #stopped = false;
  #state: TopState = {
    rows: [],
    edges: [],
    history: new Map(),
    sort: "rps",
    filter: "",
    typing: false,
    paused: false,
    selected: undefined,
    error: undefined,
    loaded: false,
  };

  constructor(options: TopStoreOptions) {
    this.#options = options;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): TopState => this.#state;

  start(): void {
    void this.#poll();
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
  }

  nextSort(): void {
    const next = SORTS[(SORTS.indexOf(this.#state.sort) + 1) % SORTS.length]!;
    this.#set({ sort: next });
  }

  togglePause(): void {
    this.#set({ paused: !this.#state.paused });
  }

  /** Moves the selection by `by` rows among those that are shown. */
  move(by: number): void {
    const rows = shownRows(this.#state);
    if (rows.length === 0) return;
    const at = rows.findIndex((row) => rowKey(row) === this.#state.selected);
    const next = Math.min(rows.length - 1, Math.max(0, Math.max(at, 0) + by));
    this.#set({ selected: rowKey(rows[next]!) });
  }

  startTyping(): void {
    this.#set({ typing: true });
  }

  /** Ends typing; `keep` false clears the filter. */
  endTyping(keep: boolean): void {
    this.#set({ typing: false, ...(keep ? {} : { filter: "" }) });
  }

  setFilter(filter: string): void {
    this.#set({ filter });
  }

  async #poll(): Promise<void> {
    const { ask, clock, interval } = this.#options;
    const started = clock.monotonic();
    if (!this.#state.paused) {
      try {
        const answer = await ask();
        if (!this.#state.paused) this.#take(answer);
      } catch (error) {
        this.#set({ error: errorMessage(error) });
      }
    }
    if (this.#stopped) return;
    this.#timer = clock.after(
      Math.max(100, interval - (clock.monotonic() - started)),
      () => void this.#poll(),
    );
  }

  #take({ rows, edges }: TopAnswer): void {
    const history = new Map<string, readonly number[]>();
    for (const row of rows) {
      const past = this.#state.history.get(rowKey(row)) ?? [];
      history.set(rowKey(row), [...past, row.requests?.rps ?? 0].slice(-HISTORY));
    }
    this.#set({ rows, edges, history, error: undefined, loaded: true });
  }

  #set(change: Partial<TopState>): void {
    if (this.#stopped) return;
    const next = { ...this.#state, ...change };
    const rows = shownRows(next);
    // A selection always points at a row that is shown.
    const selected = rows.some((row) => rowKey(row) === next.selected)
      ? next.selected
      : rows[0] && rowKey(rows[0]);
    this.#state = { ...next, selected };
    for (const listener of this.#listeners) listener();
  }
}

/** Rows that pass the filter, in the chosen order. */
export function shownRows(state: Pick<TopState, "rows" | "filter" | "sort">): StatRow[] {
  const words = state.filter.toLowerCase().split(" ").filter(Boolean);
  const rows = state.rows.filter((row) => words.every((word) => rowKey(row).toLowerCase().includes(word)));
  const by = (value: (row: StatRow) => number) => (a: StatRow, b: StatRow) =>
    value(b) - value(a) || (rowKey(a) < rowKey(b) ? -1 : 1);
  switch (state.sort) {
    case "name":
      return rows.sort((a, b) => (rowKey(a) < rowKey(b) ? -1 : 1));
    case "success":
      // The worst first: that is what one looks for.
      return rows.sort(by((row) => -(row.requests?.successRate ?? 2)));
    case "p99":
      return rows.sort(by((row) => row.requests?.p99 ?? -1));
    case "tcp":
      return rows.sort(by((row) => row.tcp?.openConnections ?? -1));
    default:
      return rows.sort(by((row) => row.requests?.rps ?? -1));
  }
}

/** Edges that begin or end at the selected row, busiest first. */
export function shownEdges(state: TopState): EdgeRow[] {
  return state.edges
    .filter((edge) => rowKey(edge.from) === state.selected || rowKey(edge.to) === state.selected)
    .sort((a, b) => (b.requests?.rps ?? 0) - (a.requests?.rps ?? 0));
}
