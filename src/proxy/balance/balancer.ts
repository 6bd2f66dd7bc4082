// Spreads requests over the endpoints that discovery names: power of two choices by load among those that can be
// reached. When none can, the one that failed longest ago is tried all the same: better a chance than none. When
// none is named, requests wait a little, then fail fast until one is.

import { chooseOfTwo } from "../../rules/endpoint-choice.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { EndpointSet, Watch, WeightedAddr } from "../ports.ts";
import type { Endpoint } from "./endpoint.ts";

/** Something that waits until there is an endpoint. */
export interface Waiter {
  onEndpoints(): void;
  onFailfast(): void;
}

export interface BalancerOptions {
  readonly clock: Clock;
  readonly watch: Watch<EndpointSet>;
  readonly create: (
    key: string,
    address: WeightedAddr,
    set: EndpointSet,
    onReadyChange: (endpoint: Endpoint) => void,
  ) => Endpoint;
  /** Tells two states of an endpoint apart that need different connections or labels. */
  readonly signature: (address: WeightedAddr, set: EndpointSet) => string;
  readonly failfastTimeout: number;
  readonly queueCapacity: number;
  readonly onCounts: (ready: number, pending: number) => void;
}

interface Member {
  readonly endpoint: Endpoint;
  readonly signature: string;
}

export class Balancer {
  readonly #options: BalancerOptions;
  readonly #members = new Map<string, Member>();
  #ready: Endpoint[] = [];
  #failing: Endpoint[] = [];
  readonly #waiters = new Set<Waiter>();
  #failfast = false;
  #timer: Timer | undefined;
  readonly #unsubscribe: () => void;
  #now = 0;

  constructor(options: BalancerOptions) {
    this.#options = options;
    this.#unsubscribe = options.watch.subscribe((set) => this.#update(set));
    if (options.watch.current) this.#update(options.watch.current);
  }

  /** How many endpoints discovery names. */
  get size(): number {
    return this.#members.size;
  }

  /** Whether an endpoint can be reached, or it is not known yet. */
  get available(): boolean {
    return this.#ready.length > 0 || this.#options.watch.current === undefined;
  }

  /** The endpoint for the next request; undefined when there is none at all: `wait`. */
  pick(): Endpoint | undefined {
    const { clock } = this.#options;
    if (this.#ready.length > 0) {
      if (this.#ready.length === 1) return this.#ready[0];
      this.#now = clock.monotonic();
      return this.#ready[chooseOfTwo(this.#ready.length, this.#loadAt, clock.random)];
    }
    let oldest = this.#failing[0];
    for (const endpoint of this.#failing) if (endpoint.failedAt < oldest!.failedAt) oldest = endpoint;
    return oldest;
  }

  readonly #loadAt = (index: number): number => this.#ready[index]!.load(this.#now);

  /** `waiting`, or why not: `failfast` at once, or `full`. */
  wait(waiter: Waiter): "waiting" | "failfast" | "full" {
    const { watch, failfastTimeout, queueCapacity, clock } = this.#options;
    if (this.#failfast || watch.current?.exists === false) return "failfast";
    if (this.#waiters.size >= queueCapacity) return "full";
    this.#waiters.add(waiter);
    this.#timer ??= clock.after(failfastTimeout, () => this.#enterFailfast());
    return "waiting";
  }

  forget(waiter: Waiter): void {
    this.#waiters.delete(waiter);
  }

  close(): void {
    this.#unsubscribe();
    this.#options.watch.close();
    this.#options.clock.clear(this.#timer);
    for (const { endpoint } of this.#members.values()) endpoint.retire();
    this.#members.clear();
    this.#regroup();
    this.#enterFailfast();
  }

  #enterFailfast(): void {
    this.#timer = undefined;
    this.#failfast = true;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.onFailfast();
  }

  #update(set: EndpointSet): void {
    const { create, signature } = this.#options;
    for (const [key, member] of this.#members) {
      if (set.endpoints.has(key)) continue;
      member.endpoint.retire();
      this.#members.delete(key);
    }
    for (const [key, address] of set.endpoints) {
      const wanted = signature(address, set);
      const known = this.#members.get(key);
      if (known?.signature === wanted) continue;
      known?.endpoint.retire();
      const endpoint = create(key, address, set, this.#regroup);
      this.#members.set(key, { endpoint, signature: wanted });
    }
    this.#regroup();
  }

  readonly #regroup = (): void => {
    this.#ready = [];
    this.#failing = [];
    for (const { endpoint } of this.#members.values())
      (endpoint.ready ? this.#ready : this.#failing).push(endpoint);
    this.#options.onCounts(this.#ready.length, this.#failing.length);
    if (this.#members.size === 0) return;
    this.#failfast = false;
    this.#options.clock.clear(this.#timer);
    this.#timer = undefined;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.onEndpoints();
  };
}
