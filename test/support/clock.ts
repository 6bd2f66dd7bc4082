// Clocks that tests hold in their hands.
import * as assert from "uvu/assert";
import { type Clock, systemClock, type Timer } from "../../src/util/clock.ts";

/** The system's clock with other waits, so that none slows a test; its timers keep the process alive. */
export const withWaits = (change: (ms: number) => number): Clock => ({
  ...systemClock,
  after: (ms, fn) => ({ id: setTimeout(fn, change(ms)) }),
});

/** The system's clock, running so many times as fast; its timers keep the process alive. */
export const hurried = (factor: number): Clock => ({
  ...systemClock,
  monotonic: () => systemClock.monotonic() * factor,
  after: (ms, fn) => ({ id: setTimeout(fn, ms / factor) }),
});

/** A clock that starts at 0 and moves only when told to. */
export class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; wait: number; fn: () => void }[] = [];
  now = () => this.#now;
  monotonic = () => this.#now;
  random = () => 0.5;

  after(ms: number, fn: () => void): Timer {
    const timer = { at: this.#now + ms, wait: ms, fn };
    this.#timers.push(timer);
    return { id: timer };
  }

  clear(timer: Timer | undefined): void {
    this.#timers = this.#timers.filter((each) => each !== timer?.id);
  }

  /** Whether no timer waits. */
  get idle(): boolean {
    return this.#timers.length === 0;
  }

  /** How many timers were set for just `ms`. */
  waits(ms: number): number {
    return this.#timers.filter(({ wait }) => wait === ms).length;
  }

  /** Lets time pass, and what was begun settle in between. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#fire(next);
      await settled();
    }
    this.#now = end;
  }

  /** Moves on to the next timer. @returns how long that took, ms */
  step(): number {
    const [next] = this.#timers.sort((a, b) => a.at - b.at);
    assert.ok(next, "no timer waits");
    const before = this.#now;
    this.#fire(next!);
    return this.#now - before;
  }

  #fire(timer: { at: number; fn: () => void }): void {
    this.#now = Math.max(this.#now, timer.at);
    this.clear({ id: timer });
    timer.fn();
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
