// How much of the traffic may leave our own zone. It stays there while the zone's endpoints can take it:
// - as many are ready as are needed: the zone keeps 1.4 × ready / all of the traffic, at most all of it (Envoy's
//   over-provisioning factor for localities: 72 % ready is as good as all);
// - they are not overloaded: above 2.0 requests in flight per endpoint the share that leaves grows, below 0.8 it
//   shrinks, between it stays (the load band of Buoyant's HAZL, whose load, latency × rate, is just that by Little's
//   law). Growing takes a second from none to all, shrinking ten, so that the two do not chase each other.
// Traffic that leaves is balanced over all zones, as if there were none.

/** Which load of an endpoint is neither too much nor too little, requests in flight. */
export interface LoadBand {
  readonly low: number;
  readonly high: number;
}

const HAZL_BAND: LoadBand = { low: 0.8, high: 2.0 };
const OVERPROVISIONING = 1.4;
const SAMPLE_MS = 100;
/** Time constant over which samples of the load are smoothed. */
const SMOOTHING_MS = 1_000;
const GROWTH_PER_MS = 1 / 1_000;
const SHRINK_PER_MS = 1 / 10_000;

export class ZoneSpill {
  readonly #band: LoadBand;
  #ready = 0;
  #total = 0;
  #byReadiness = 0;
  #byLoad = 0;
  #load = 0;
  #sampledAt = Number.NEGATIVE_INFINITY;

  constructor(band: LoadBand = HAZL_BAND) {
    this.#band = band;
  }

  /** Share of the requests that choose among the endpoints of all zones, 0 to 1. */
  get share(): number {
    return Math.max(this.#byReadiness, this.#byLoad);
  }

  /** Why, for a trace. */
  get reason(): string {
    return `${this.#ready} of ${this.#total} endpoints of the zone are ready, with ${this.#load.toFixed(2)} requests each: ${(100 * this.share).toFixed(0)} % leave`;
  }

  /** How many of our zone's endpoints are ready. */
  ready(ready: number, total: number): void {
    this.#ready = ready;
    this.#total = total;
    this.#byReadiness = ready === 0 ? 1 : 1 - Math.min(1, (OVERPROVISIONING * ready) / total);
  }

  /** Whether it is time for another sample of the load. @param now monotonic, ms */
  due(now: number): boolean {
    return now - this.#sampledAt >= SAMPLE_MS;
  }

  /** @param load requests in flight per ready endpoint of our zone */
  observe(load: number, now: number): void {
    if (this.#sampledAt === Number.NEGATIVE_INFINITY) {
      this.#load = load;
      this.#sampledAt = now;
      return;
    }
    const elapsed = now - this.#sampledAt;
    this.#sampledAt = now;
    const old = Math.exp(-elapsed / SMOOTHING_MS);
    this.#load = this.#load * old + load * (1 - old);
    if (this.#load > this.#band.high)
      // A pause says nothing of overload while it lasted: it must not open the zone in one step.
      this.#byLoad = Math.min(1, this.#byLoad + Math.min(elapsed, SAMPLE_MS) * GROWTH_PER_MS);
    else if (this.#load < this.#band.low) this.#byLoad = Math.max(0, this.#byLoad - elapsed * SHRINK_PER_MS);
  }
}

/**
 * Whether an endpoint is in our own zone, by its labels: the control plane, which knows our node, has compared.
 * Unknown is not local.
 */
export function isLocal(labels: Readonly<Record<string, string>>): boolean {
  return labels["zone_locality"] === "local";
}
