// Work that is asked for again and again, done at once when it was quiet, and else at most so often.
import type { Clock } from "./clock.ts";

/**
 * A scheduler: runs `fn` at the end of this turn of the event loop when it was quiet for `interval` ms, else once that is
 * over. What it runs must take up everything that was asked for meanwhile.
 */
export function paced(clock: Clock, interval: number): (fn: () => void) => void {
  let last = Number.NEGATIVE_INFINITY;
  return (fn) => {
    const run = () => {
      last = clock.monotonic();
      fn();
    };
    const wait = last + interval - clock.monotonic();
    if (wait <= 0) setImmediate(run);
    else clock.after(wait, run);
  };
}
