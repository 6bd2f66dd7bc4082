// Simulated time: one queue of timers for every machine, and the clocks that they see.
import type { Clock, Timer } from "../../src/util/clock.ts";
import type { Chance } from "../support/chance.ts";

/** When simulations begin, ms since the epoch. */
export const EPOCH = Date.parse("2030-01-01T00:00:00Z");

interface Entry {
  readonly at: number;
  readonly fn: () => void;
  cancelled: boolean;
}

/** What was begun in this turn runs on until it waits for a timer: turn writers and paced work take three immediates. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 4; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class Scheduler {
  /** Ms since the beginning. */
  now = 0;
  /** Timers by their millisecond, those of one in the order in which they were set. */
  readonly #due = new Map<number, Entry[]>();
  /** The keys of `#due` as a binary heap. */
  readonly #heap: number[] = [];
  /** Turns of the simulation so far. */
  turns = 0;

  at(ms: number, fn: () => void): Entry {
    const at = Math.max(Math.ceil(ms), this.now);
    const entry: Entry = { at, fn, cancelled: false };
    const due = this.#due.get(at);
    if (due) due.push(entry);
    else {
      this.#due.set(at, [entry]);
      this.#push(at);
    }
    return entry;
  }

  after(ms: number, fn: () => void): Entry {
    return this.at(this.now + Math.max(ms, 0), fn);
  }

  /** Lets time pass, and everything happen that falls into it. */
  async run(ms: number): Promise<void> {
    const end = this.now + ms;
    await settled();
    while (this.#heap.length > 0 && this.#heap[0]! <= end) {
      const at = this.#heap[0]!;
      this.now = at;
      const due = this.#due.get(at)!;
      this.#due.delete(at);
      this.#pop();
      let any = false;
      for (const entry of due) {
        if (entry.cancelled) continue;
        any = true;
        entry.fn();
      }
      if (any) {
        this.turns += 1;
        await settled();
      }
    }
    this.now = end;
  }

  #push(value: number): void {
    const heap = this.#heap;
    let at = heap.push(value) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= value) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const { length } = heap;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && heap[child + 1]! < heap[child]!) child += 1;
      if (heap[child]! >= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

/** The clock of one machine: its wall clock may be wrong, its timers die with it. */
export class MachineClock implements Clock {
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  /** What its wall clock is ahead, ms. */
  skew = 0;
  running = true;

  constructor(scheduler: Scheduler, chance: Chance) {
    this.#scheduler = scheduler;
    this.#chance = chance;
  }

  now = (): number => EPOCH + this.#scheduler.now + this.skew;
  monotonic = (): number => this.#scheduler.now;
  random = (): number => this.#chance.next();

  after(ms: number, fn: () => void): Timer {
    return {
      id: this.#scheduler.after(ms, () => {
        if (this.running) fn();
      }),
    };
  }

  clear(timer: Timer | undefined): void {
    if (timer) (timer.id as Entry).cancelled = true;
  }
}
