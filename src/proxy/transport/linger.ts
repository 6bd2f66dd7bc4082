// A connection of bytes whose one side has said all it will: the other may go on, but not for ever without a byte. Its
// peer may have forgotten it, and a socket that nobody closes is never given back.
import type { Clock, Timer } from "../../util/clock.ts";

/** Half closed, and no byte either way, ms. */
const LINGER_TIMEOUT = 300_000;
/** Why it ended, for the log. */
export const HALF_CLOSED = `one side had ended, and no byte came for ${LINGER_TIMEOUT / 1_000} s`;

export class Linger {
  readonly #clock: Clock;
  readonly #progress: () => number;
  readonly #onExpired: () => void;
  #timer: Timer | undefined;

  /** @param progress a figure that changes whenever bytes went either way */
  constructor(clock: Clock, progress: () => number, onExpired: () => void) {
    this.#clock = clock;
    this.#progress = progress;
    this.#onExpired = onExpired;
  }

  /** One side has ended. */
  begin(): void {
    if (this.#timer !== undefined) return;
    const before = this.#progress();
    this.#timer = this.#clock.after(LINGER_TIMEOUT, () => {
      this.#timer = undefined;
      if (this.#progress() === before) this.#onExpired();
      else this.begin();
    });
  }

  stop(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }
}
