// Notices that a silent peer is gone: after an interval without a byte it is asked by PING, and after a timeout
// without an answer it is given up.
import type { Clock, Timer } from "../util/clock.ts";

export interface KeepAliveOptions {
  /** A PING is sent when nothing came for this long, ms. */
  readonly interval: number;
  /** The connection is given up when nothing came for this long after a PING, ms. */
  readonly timeout: number;
  /** Also while no stream is open. */
  readonly whileIdle: boolean;
}

export interface KeepAliveOwner {
  /** Streams open. */
  readonly active: number;
  ping(): void;
  onSilence(): void;
}

export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #clock: Clock;
  readonly #owner: KeepAliveOwner;
  #heard: number;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: KeepAliveOptions, clock: Clock, owner: KeepAliveOwner) {
    this.#options = options;
    this.#clock = clock;
    this.#owner = owner;
    this.#heard = clock.monotonic();
    if (options.whileIdle) this.#watch(options.interval);
  }

  /** Bytes came. */
  heard(): void {
    this.#heard = this.#clock.monotonic();
  }

  /** A stream was opened: from now on silence counts. */
  wake(): void {
    if (this.#timer !== undefined || this.#stopped) return;
    this.heard();
    this.#watch(this.#options.interval);
  }

  stop(): void {
    this.#stopped = true;
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }

  #watch(ms: number): void {
    this.#timer = this.#clock.after(ms, () => this.#look());
  }

  #look(): void {
    const { interval, timeout, whileIdle } = this.#options;
    this.#timer = undefined;
    if (!whileIdle && this.#owner.active === 0) return;
    const now = this.#clock.monotonic();
    const silence = now - this.#heard;
    if (silence < interval) {
      this.#watch(interval - silence);
      return;
    }
    this.#owner.ping();
    this.#timer = this.#clock.after(timeout, () => {
      this.#timer = undefined;
      if (this.#heard < now) this.#owner.onSilence();
      else this.#watch(interval);
    });
  }
}
