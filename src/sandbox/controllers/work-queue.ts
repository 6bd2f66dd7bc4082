// A queue of keys to reconcile: a key waits once however often it is added, is never worked on twice at a time,
// and comes back with growing delay when its work fails.
import type { Clock, Timer } from "../../util/clock.ts";

const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 30_000;

export interface WorkQueueOptions {
  readonly clock: Clock;
  /** Reconciles one key; a rejection asks for a retry. */
  readonly work: (key: string) => Promise<void>;
  readonly failed: (key: string, error: unknown, retryInMs: number) => void;
  /** Keys worked on at a time. Default 4. */
  readonly workers?: number;
}

export class WorkQueue {
  readonly #clock: Clock;
  readonly #work: WorkQueueOptions["work"];
  readonly #failed: WorkQueueOptions["failed"];
  readonly #workers: number;
  readonly #waiting = new Set<string>();
  readonly #running = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { timer: Timer; due: number }>();
  #stopped = false;
  #idle: (() => void) | undefined;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#work = options.work;
    this.#failed = options.failed;
    this.#workers = options.workers ?? 4;
  }

  add(key: string): void {
    if (this.#stopped) return;
    if (this.#running.has(key)) this.#again.add(key);
    else {
      this.#waiting.add(key);
      queueMicrotask(() => this.#pump());
    }
  }

  /** Adds `key` after `ms`; of several such wishes for one key the earliest counts. */
  addAfter(key: string, ms: number): void {
    if (this.#stopped) return;
    const due = this.#clock.monotonic() + ms;
    const planned = this.#timers.get(key);
    if (planned && planned.due <= due) return;
    this.#clock.clear(planned?.timer);
    const timer = this.#clock.after(ms, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { timer, due });
  }

  /** Takes no more work; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { timer } of this.#timers.values()) this.#clock.clear(timer);
    this.#timers.clear();
    this.#waiting.clear();
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  #pump(): void {
    while (!this.#stopped && this.#running.size < this.#workers) {
      const [key] = this.#waiting;
      if (key === undefined) return;
      this.#waiting.delete(key);
      this.#running.add(key);
      void this.#run(key);
    }
  }

  async #run(key: string): Promise<void> {
    try {
      await this.#work(key);
      this.#failures.delete(key);
    } catch (error) {
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      const delay = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(failures, 20));
      if (!this.#stopped) {
        this.#failed(key, error, delay);
        this.addAfter(key, delay);
      }
    }
    this.#running.delete(key);
    if (this.#stopped) {
      if (this.#running.size === 0) this.#idle?.();
      return;
    }
    if (this.#again.delete(key)) this.#waiting.add(key);
    this.#pump();
  }
}
