// Unused connections to one endpoint, last in first out: the freshest is the least likely to be closing, and the
// rest can age out. One timer a pool, and only while it holds something.
import type { Clock, Timer } from "../../util/clock.ts";
import type { ClientConnection } from "./client-connection.ts";

export interface PoolOptions {
  readonly clock: Clock;
  /** ms */
  readonly idleTimeout: number;
  readonly maxIdle: number;
}

/** An upstream that promises to keep a connection for n seconds may close it a moment earlier, ms. */
const SAFETY_MARGIN = 500;

export class Http1Pool {
  /** Ascending by `idleSince`. */
  readonly #idle: ClientConnection[] = [];
  readonly #options: PoolOptions;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#idle.length;
  }

  /** The connection used last that has not outlived its time. */
  take(now: number): ClientConnection | undefined {
    for (;;) {
      const client = this.#idle.pop();
      if (!client) return undefined;
      // A socket that was just found dead leaves the pool only when its end is announced.
      if (now - client.idleSince < client.idleLimit && !client.socket.destroyed) return client;
      client.cancel();
    }
  }

  /** @param now monotonic, ms */
  put(client: ClientConnection, now: number): void {
    const { idleTimeout, maxIdle } = this.#options;
    client.idleLimit = Math.min(client.idleLimit - SAFETY_MARGIN, idleTimeout);
    if (this.#closed || client.idleLimit <= 0 || this.#idle.length >= maxIdle) {
      client.cancel();
      return;
    }
    client.idleSince = now;
    this.#idle.push(client);
    this.#timer ??= this.#options.clock.after(client.idleLimit, this.#sweep);
  }

  remove(client: ClientConnection): void {
    const index = this.#idle.lastIndexOf(client);
    if (index >= 0) this.#idle.splice(index, 1);
  }

  /** Ends what is idle and keeps nothing more. */
  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    this.#timer = undefined;
    for (const client of this.#idle.splice(0)) client.cancel();
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    const now = this.#options.clock.monotonic();
    const expired = this.#idle.filter((client) => now - client.idleSince >= client.idleLimit);
    for (const client of expired) {
      this.remove(client);
      client.cancel();
    }
    let next = Number.POSITIVE_INFINITY;
    for (const client of this.#idle) next = Math.min(next, client.idleSince + client.idleLimit - now);
    if (next !== Number.POSITIVE_INFINITY)
      this.#timer = this.#options.clock.after(Math.max(next, 100), this.#sweep);
  };
}
