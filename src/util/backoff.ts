// Exponential backoff with jitter, as the proxy and the reflector use it.
import type { Clock } from "./clock.ts";

export interface BackoffOptions {
  /** First delay, ms. */
  min: number;
  /** Upper bound of the undisturbed delay, ms. */
  max: number;
  /** Share of the delay that is random on top, 0 to 1. */
  jitter: number;
}

/** Delays that double from `min` to `max`; each is lengthened by up to `jitter` of itself. */
export class Backoff {
  #attempt = 0;
  readonly #options: BackoffOptions;
  readonly #random: Clock["random"];

  constructor(options: BackoffOptions, random: Clock["random"] = Math.random) {
    this.#options = options;
    this.#random = random;
  }

  /** The next delay in ms. */
  next(): number {
    const { min, max, jitter } = this.#options;
    const base = Math.min(max, min * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return base * (1 + jitter * this.#random());
  }

  reset(): void {
    this.#attempt = 0;
  }
}
