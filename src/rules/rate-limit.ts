// Local rate limits of a server: of all requests, of each client, and of clients named (reference/data-planes.md
// §1.14). The generic cell rate algorithm (ITU-T I.371): each request moves a theoretical arrival time on by its share
// of a second, and one that would be more than a second ahead is over the limit. Two numbers a bucket, no timer.
import type { MessageOf } from "../api/codec.ts";
import type { HttpLocalRateLimit } from "../api/inbound.ts";
import type { Trace } from "./trace.ts";

/** What of a second's quota may come at once, ms. */
const WINDOW = 1_000;
/** Clients that are told apart; beyond it those that are within their limits anyway are forgotten. */
const MAX_CLIENTS = 10_000;

/** Whose limit was reached. */
export type LimitScope = "total" | "identity" | "override";

class Bucket {
  readonly #interval: number;
  #arrival = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#interval = WINDOW / perSecond;
  }

  /** @param now ms, monotonic */
  conforms(now: number): boolean {
    return Math.max(this.#arrival, now) + this.#interval - now <= WINDOW + 1e-6;
  }

  take(now: number): void {
    this.#arrival = Math.max(this.#arrival, now) + this.#interval;
  }

  /** Nothing of what it has seen matters any more. */
  isFull(now: number): boolean {
    return this.#arrival <= now;
  }
}

export class RateLimiter {
  readonly #total: Bucket | undefined;
  readonly #perClient: number;
  readonly #named = new Map<string, Bucket>();
  readonly #clients = new Map<string, Bucket>();
  /** Of clients that there is no more room to tell apart. */
  readonly #rest: Bucket | undefined;

  constructor(limits: MessageOf<typeof HttpLocalRateLimit>) {
    const bucketOf = (perSecond: number) => (perSecond > 0 ? new Bucket(perSecond) : undefined);
    this.#total = bucketOf(limits.total?.requestsPerSecond ?? 0);
    this.#perClient = limits.identity?.requestsPerSecond ?? 0;
    this.#rest = bucketOf(this.#perClient);
    for (const { limit, clients } of limits.overrides) {
      const bucket = bucketOf(limit?.requestsPerSecond ?? 0);
      // The clients of one override share its quota.
      if (bucket) for (const { name } of clients?.identities ?? []) this.#named.set(name, bucket);
    }
  }

  /**
   * Counts a request; or says whose limit it is beyond, and counts nothing.
   * @param identity undefined: unauthenticated, and of one bucket with all others that are
   */
  check(identity: string | undefined, now: number, trace?: Trace): LimitScope | undefined {
    const named = identity === undefined ? undefined : this.#named.get(identity);
    const own = named ?? this.#bucket(identity ?? "", now);
    const over: LimitScope | undefined =
      own && !own.conforms(now)
        ? named
          ? "override"
          : "identity"
        : this.#total && !this.#total.conforms(now)
          ? "total"
          : undefined;
    trace?.add("rate limit", over === undefined, over ? `the ${over} limit is reached` : "within the limits");
    if (over !== undefined) return over;
    own?.take(now);
    this.#total?.take(now);
    return undefined;
  }

  #bucket(client: string, now: number): Bucket | undefined {
    if (this.#perClient === 0) return undefined;
    let bucket = this.#clients.get(client);
    if (bucket) return bucket;
    if (this.#clients.size >= MAX_CLIENTS) {
      for (const [known, old] of this.#clients) if (old.isFull(now)) this.#clients.delete(known);
      // Nobody gets a fresh quota by making the proxy forget.
      if (this.#clients.size >= MAX_CLIENTS) return this.#rest;
    }
    bucket = new Bucket(this.#perClient);
    this.#clients.set(client, bucket);
    return bucket;
  }
}
