// Time and randomness come in from outside (control plane, balancer, retry, breaker, identity), so that a
// seeded process can simulate them. `systemClock` is what production uses; tests bring their own.

/** A timer that `Clock.clear` ends; opaque to its holder. */
export type Timer = { readonly id: unknown };

export interface Clock {
  /** Wall time in milliseconds since the epoch. */
  now(): number;
  /** Monotonic time in milliseconds, for durations. */
  monotonic(): number;
  /** Runs `fn` once after `ms` milliseconds; the timer does not keep the process alive. */
  after(ms: number, fn: () => void): Timer;
  clear(timer: Timer | undefined): void;
  /** Uniform in [0, 1). */
  random(): number;
}

/** setTimeout fires at once beyond this many ms; longer waits are cut to it. */
const MAX_DELAY = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, fn) => ({ id: setTimeout(fn, Math.min(Math.max(ms, 0), MAX_DELAY)).unref() }),
  clear: (timer) => {
    if (timer) clearTimeout(timer.id as NodeJS.Timeout);
  },
  random: Math.random,
};
