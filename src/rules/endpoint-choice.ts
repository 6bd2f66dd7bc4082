// Which of several endpoints gets the next request: power of two choices over peak-EWMA load, as Finagle and
// Linkerd do it (tower's `load::PeakEwma`; reference/data-planes.md §1.9), with candidates drawn by weight and, as
// long as they can take it, from our own zone. Pure arithmetic; loads are the caller's.
import type { Trace } from "./trace.ts";
import { ZoneSpill } from "./zone-spill.ts";

/** RTT assumed of an endpoint that was not measured yet, ms. */
export const DEFAULT_RTT_MS = 30;
/** Time constant with which old measurements fade, ms. */
export const DECAY_MS = 10_000;

/**
 * The estimate after a measurement. A worse RTT counts at once (peak), a better one gradually.
 * @param estimate the last estimate, ms
 * @param elapsed since the last estimate, ms
 * @param rtt what was measured, ms; 0 to let the estimate fade
 */
export function nextEstimate(estimate: number, elapsed: number, rtt: number, decayMs = DECAY_MS): number {
  if (rtt > estimate) return rtt;
  const weight = Math.exp(-Math.max(elapsed, 0) / decayMs);
  return estimate * weight + rtt * (1 - weight);
}

/**
 * Cost of giving an endpoint one more request. What is pending counts in proportion to capacity: with weights 3 and
 * 1, three requests there weigh as much as one here, so that busy and idle services alike are shared by weight.
 * @param weight relative to the mean of all: see `EndpointChoice.relativeWeight`
 */
export function endpointLoad(estimate: number, pending: number, weight = 1): number {
  return estimate * (pending / weight + 1);
}

/** What the load of an endpoint at an index is. */
export type LoadAt = (index: number) => number;

/**
 * Index of the less loaded of two endpoints drawn at random; -1 when there is none.
 * @param load of the endpoint at an index
 * @param random uniform in [0, 1)
 */
export function chooseOfTwo(count: number, load: LoadAt, random: () => number, trace?: Trace): number {
  if (count === 0) return -1;
  if (count === 1) {
    trace?.add("endpoint 0", true, "it is the only one");
    return 0;
  }
  const a = Math.floor(random() * count);
  let b = Math.floor(random() * (count - 1));
  if (b >= a) b += 1;
  return lessLoaded(a, b, load, trace);
}

function lessLoaded(a: number, b: number, load: LoadAt, trace: Trace | undefined): number {
  if (a === b) {
    trace?.add(`endpoint ${a}`, true, "its weight is over half of all: it was drawn twice");
    return a;
  }
  const loadA = load(a);
  const loadB = load(b);
  const chosen = loadB < loadA ? b : a;
  if (trace) {
    trace.add(`endpoint ${a}`, chosen === a, `its load is ${loadA.toFixed(2)}`);
    trace.add(`endpoint ${b}`, chosen === b, `its load is ${loadB.toFixed(2)}`);
  }
  return chosen;
}

/**
 * Draws two candidates so that each is an endpoint with exactly its weight's share of probability, and so that they
 * differ whenever no weight is over half of the sum. Endpoints are arcs of a circle, as long as their share:
 *
 *     0 ├── a ──┼─ b ─┼──── c ────┼ d ┤ 1        first:  a point u, uniform
 *                 u ─ distance ─→                second: u + distance, around the circle
 *
 * with the distance uniform between the longest arc (at most a half) and what it leaves. Both points are uniform
 * and interchangeable, so that among equal loads, even noisy ones, shares follow weights. (Drawing without putting
 * back would flatten them, with two endpoints down to nothing; Finagle's `Ring.pick2` has the same idea.)
 */
class WeightedDraw {
  /** Where the caller has the endpoint. */
  readonly #indexes: readonly number[];
  /** Where each arc ends; empty when all weights are the same. */
  readonly #ends: Float64Array;
  readonly #longest: number;

  constructor(indexes: readonly number[], weights: readonly number[]) {
    this.#indexes = indexes;
    const own = indexes.map((index) => weights[index]!);
    if (own.every((weight) => weight === own[0])) {
      this.#ends = new Float64Array(0);
      this.#longest = 0;
      return;
    }
    const sum = own.reduce((a, b) => a + b, 0);
    this.#ends = new Float64Array(own.length);
    let end = 0;
    let longest = 0;
    for (const [i, weight] of own.entries()) {
      end += weight / sum;
      this.#ends[i] = end;
      longest = Math.max(longest, weight / sum);
    }
    // What rounding leaves falls to the last endpoint that has a weight.
    const last = own.findLastIndex((weight) => weight > 0);
    this.#ends.fill(1, last);
    this.#longest = Math.min(longest, 0.5);
  }

  choose(load: LoadAt, random: () => number, trace: Trace | undefined): number {
    const indexes = this.#indexes;
    const count = indexes.length;
    if (count === 1) {
      trace?.add(`endpoint ${indexes[0]}`, true, "it is the only one");
      return indexes[0]!;
    }
    let a: number;
    let b: number;
    if (this.#ends.length === 0) {
      a = Math.floor(random() * count);
      b = Math.floor(random() * (count - 1));
      if (b >= a) b += 1;
    } else {
      const first = random();
      const second = first + this.#longest + random() * (1 - 2 * this.#longest);
      a = this.#at(first);
      b = this.#at(second >= 1 ? second - 1 : second);
    }
    return lessLoaded(indexes[a]!, indexes[b]!, load, trace);
  }

  /** The arc that a point in [0, 1) lies on: the first that ends behind it. */
  #at(point: number): number {
    const ends = this.#ends;
    let low = 0;
    let high = ends.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ends[middle]! > point) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** What the choice knows of an endpoint that is ready. */
export interface Candidate {
  /** As discovery gives it; 0: no traffic while others have a weight. */
  readonly weight: number;
  /** It is in our own zone: `isLocal`. */
  readonly local: boolean;
}

/** The choice among the ready endpoints of one balancer; rebuilt by `update` when they change, in O(n). */
export class EndpointChoice {
  #all: WeightedDraw | undefined;
  #local: WeightedDraw | undefined;
  #locals: readonly number[] = [];
  #relative: readonly number[] = [];
  #count = 0;
  readonly #zone: ZoneSpill;

  constructor(zone = new ZoneSpill()) {
    this.#zone = zone;
  }

  /**
   * @param candidates the ready endpoints; `choose` answers with indexes into it
   * @param localTotal how many endpoints of our zone discovery names, ready or not
   */
  update(candidates: readonly Candidate[], localTotal: number): void {
    const given = candidates.map(({ weight }) => Math.max(weight, 0));
    const weights = given.some((weight) => weight > 0) ? given : given.map(() => 1);
    const sum = weights.reduce((a, b) => a + b, 0);
    const all = weights.map((_, index) => index);
    // Locals without weight would get nothing anyway.
    const locals = all.filter((index) => candidates[index]!.local && weights[index]! > 0);
    const zoned = locals.length > 0 && locals.length < all.length;
    this.#count = all.length;
    this.#relative = weights.map((weight) => (weight * all.length) / sum);
    this.#all = all.length > 0 ? new WeightedDraw(all, weights) : undefined;
    this.#local = zoned ? new WeightedDraw(locals, weights) : undefined;
    this.#locals = locals;
    this.#zone.ready(locals.length, Math.max(localTotal, locals.length));
  }

  /** An endpoint's weight relative to the mean of all: 1 when all are the same. For `endpointLoad`. */
  relativeWeight(index: number): number {
    return this.#relative[index]!;
  }

  /**
   * The endpoint for the next request; -1 when there is none.
   * @param pending requests in flight at an index; looked at ten times a second, and only where there are zones
   * @param now monotonic, ms
   * @param random uniform in [0, 1)
   */
  choose(load: LoadAt, pending: LoadAt, now: number, random: () => number, trace?: Trace): number {
    if (this.#local === undefined) {
      if (this.#count < 2 && trace === undefined) return this.#count - 1;
      return this.#all === undefined ? -1 : this.#all.choose(load, random, trace);
    }
    if (this.#zone.due(now)) this.#zone.observe(this.#meanPending(pending), now);
    const { share } = this.#zone;
    const spills = share > 0 && (share >= 1 || random() < share);
    trace?.add("same zone", !spills, `${this.#zone.reason}; this request ${spills ? "may leave" : "stays"}`);
    return (spills ? this.#all! : this.#local).choose(load, random, trace);
  }

  #meanPending(pending: LoadAt): number {
    let sum = 0;
    for (const index of this.#locals) sum += pending(index);
    return sum / this.#locals.length;
  }
}
