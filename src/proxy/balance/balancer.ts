// Spreads requests and connections over the endpoints that discovery names: power of two choices by load, weight and zone among
// those that can be reached and that their breakers admit. Breakers never take the last ones (the floor). When none
// can be reached, the one that failed longest ago is tried all the same: better a chance than none. When none is
// named, requests wait a little, then fail fast until one is.
import { EndpointChoice, endpointLoad } from "../../rules/endpoint-choice.ts";
import type { Clock } from "../../util/clock.ts";
import type { EndpointSet, Watch, WeightedAddr } from "../ports.ts";
import type { BalancerSeries } from "../telemetry/balancer-series.ts";
import type { Endpoint } from "./endpoint.ts";
import { type QueueLimits, type Waiter, WaitQueue } from "./wait-queue.ts";

/** What waits for an endpoint: each kind in a queue of its own. */
export type Waits = "request" | "connection";

export interface BalancerOptions {
  readonly clock: Clock;
  readonly watch: Watch<EndpointSet>;
  readonly create: (
    key: string,
    address: WeightedAddr,
    set: EndpointSet,
    onChange: (endpoint: Endpoint) => void,
  ) => Endpoint;
  /** Tells two states of an endpoint apart that need different connections or labels. */
  readonly signature: (address: WeightedAddr, set: EndpointSet) => string;
  /** Of requests, and of connections of bytes. */
  readonly queues: Readonly<Record<Waits, QueueLimits>>;
  /** So many endpoints stay in the choice whatever their breakers say. */
  readonly floor: number;
  readonly series: BalancerSeries;
}

interface Member {
  readonly endpoint: Endpoint;
  readonly signature: string;
}

export class Balancer {
  readonly #options: BalancerOptions;
  readonly #members = new Map<string, Member>();
  readonly #choice = new EndpointChoice();
  #ready: Endpoint[] = [];
  #failing: Endpoint[] = [];
  readonly #queues: Readonly<Record<Waits, WaitQueue>>;
  readonly #unsubscribe: () => void;
  #now = 0;

  constructor(options: BalancerOptions) {
    this.#options = options;
    const { clock, queues, series } = options;
    this.#queues = {
      request: new WaitQueue(queues.request, clock, series),
      connection: new WaitQueue(queues.connection, clock, undefined),
    };
    this.#unsubscribe = options.watch.subscribe((set) => this.#update(set));
    if (options.watch.current) this.#update(options.watch.current);
  }

  /** How many endpoints discovery names. */
  get size(): number {
    return this.#members.size;
  }

  /** Whether an endpoint can be reached and is admitted, or it is not known yet. */
  get available(): boolean {
    return this.#ready.length > 0 || this.#options.watch.current === undefined;
  }

  /**
   * The endpoint for the next request or connection; undefined when there is none at all: `wait`. Connections go by how
   * many an endpoint has: nothing in their bytes tells how soon a server answers.
   */
  pick(kind: Waits = "request"): Endpoint | undefined {
    const ready = this.#ready;
    if (ready.length === 1) return ready[0];
    if (ready.length > 1) {
      const { clock } = this.#options;
      this.#now = clock.monotonic();
      const loadAt = kind === "request" ? this.#loadAt : this.#crowdAt;
      return ready[this.#choice.choose(loadAt, this.#pendingAt, this.#now, clock.random)];
    }
    let oldest = this.#failing[0];
    for (const endpoint of this.#failing) if (endpoint.failedAt < oldest!.failedAt) oldest = endpoint;
    return oldest;
  }

  readonly #loadAt = (index: number): number =>
    this.#ready[index]!.load(this.#now, this.#choice.relativeWeight(index));

  readonly #crowdAt = (index: number): number =>
    endpointLoad(1, this.#ready[index]!.pending, this.#choice.relativeWeight(index));

  readonly #pendingAt = (index: number): number => this.#ready[index]!.pending;

  /** `waiting`, or why not: `failfast` at once, or `full`. */
  wait(waiter: Waiter, kind: Waits): "waiting" | "failfast" | "full" {
    return this.#options.watch.current?.exists === false ? "failfast" : this.#queues[kind].wait(waiter);
  }

  forget(waiter: Waiter, kind: Waits): void {
    this.#queues[kind].forget(waiter);
  }

  close(): void {
    this.#unsubscribe();
    this.#options.watch.close();
    for (const { endpoint } of this.#members.values()) endpoint.retire();
    this.#members.clear();
    this.#regroup();
    this.#queues.request.shut();
    this.#queues.connection.shut();
  }

  #update(set: EndpointSet): void {
    const { create, signature, series } = this.#options;
    for (const [key, member] of this.#members) {
      if (set.endpoints.has(key)) continue;
      member.endpoint.retire();
      this.#members.delete(key);
      series.updated("Remove");
    }
    for (const [key, address] of set.endpoints) {
      const wanted = signature(address, set);
      const known = this.#members.get(key);
      if (known?.signature === wanted) {
        known.endpoint.weight = address.weight;
        continue;
      }
      known?.endpoint.retire();
      const endpoint = create(key, address, set, this.#regroup);
      this.#members.set(key, { endpoint, signature: wanted });
      series.updated("Add");
    }
    this.#regroup();
  }

  /** Who is in the choice, anew: an endpoint came or went, or says that its state changed. */
  readonly #regroup = (): void => {
    const { floor, series } = this.#options;
    const ready: Endpoint[] = [];
    const ejected: Endpoint[] = [];
    this.#failing = [];
    let local = 0;
    for (const { endpoint } of this.#members.values()) {
      if (endpoint.local) local += 1;
      if (!endpoint.reachable) this.#failing.push(endpoint);
      else (endpoint.admitted ? ready : ejected).push(endpoint);
    }
    if (ready.length < floor) {
      // Those that were ejected longest ago have had the most time to recover.
      ejected.sort((a, b) => a.ejectedAt - b.ejectedAt);
      ready.push(...ejected.slice(0, floor - ready.length));
    }
    this.#ready = ready;
    this.#choice.update(ready, local);
    series.counts(ready.length, this.#members.size - ready.length);
    if (this.#members.size === 0) return;
    this.#queues.request.open();
    this.#queues.connection.open();
  };
}
