// A bound on what a peer may make us do in a second.
import { ConnectionError, ERROR } from "./frame.ts";

/** Counts events of one second. */
export class Budget {
  readonly #limit: number;
  #count = 0;
  #since = Number.NEGATIVE_INFINITY;
  constructor(limit: number) {
    this.#limit = limit;
  }
  /** @throws ConnectionError once there were too many */
  spend(now: number, what: string): void {
    if (now - this.#since > 1_000) {
      this.#since = now;
      this.#count = 0;
    }
    this.#count += 1;
    if (this.#count > this.#limit) throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
  }
}
