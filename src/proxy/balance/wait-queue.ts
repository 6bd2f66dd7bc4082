// Those that wait until there is an endpoint. The first of them waits for as long as may be; if none has come by then all
// are failed, and further ones at once, until one comes.
import type { Clock, Timer } from "../../util/clock.ts";
import type { BalancerSeries } from "../telemetry/balancer-series.ts";

/** Something that waits until there is an endpoint. */
export interface Waiter {
  onEndpoints(): void;
  onFailfast(): void;
}

export interface QueueLimits {
  /** So many may wait. */
  readonly capacity: number;
  /** How long the first of them waits, ms. */
  readonly failfastTimeout: number;
}

export class WaitQueue {
  readonly #limits: QueueLimits;
  readonly #clock: Clock;
  readonly #series: BalancerSeries | undefined;
  /** With the time at which each began to wait, monotonic, ms. */
  readonly #waiters = new Map<Waiter, number>();
  #failfast = false;
  #timer: Timer | undefined;

  /** @param series that show it, if any do */
  constructor(limits: QueueLimits, clock: Clock, series: BalancerSeries | undefined) {
    this.#limits = limits;
    this.#clock = clock;
    this.#series = series;
  }

  /** `waiting`, or why not: `failfast` at once, or `full`. */
  wait(waiter: Waiter): "waiting" | "failfast" | "full" {
    const { capacity, failfastTimeout } = this.#limits;
    if (this.#failfast) return "failfast";
    if (this.#waiters.size >= capacity) return "full";
    this.#waiters.set(waiter, this.#clock.monotonic());
    this.#series?.queued();
    this.#timer ??= this.#clock.after(failfastTimeout, () => this.shut());
    return "waiting";
  }

  forget(waiter: Waiter): void {
    const since = this.#waiters.get(waiter);
    if (since === undefined) return;
    this.#waiters.delete(waiter);
    this.#series?.unqueued(this.#clock.monotonic() - since);
  }

  /** Fails those that wait, and whoever comes. */
  shut(): void {
    this.#stopTimer();
    if (!this.#failfast) this.#series?.shut(this.#clock.now());
    this.#failfast = true;
    for (const waiter of this.#release()) waiter.onFailfast();
  }

  /** There is an endpoint. */
  open(): void {
    this.#stopTimer();
    if (this.#failfast) this.#series?.opened(this.#clock.now());
    this.#failfast = false;
    for (const waiter of this.#release()) waiter.onEndpoints();
  }

  *#release(): Generator<Waiter> {
    for (const waiter of [...this.#waiters.keys()]) {
      // One of those before it may have made it leave.
      if (!this.#waiters.has(waiter)) continue;
      this.forget(waiter);
      yield waiter;
    }
  }

  #stopTimer(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }
}
