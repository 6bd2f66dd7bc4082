// Counters of the copies of requests that routes send to mirrors: not Linkerd's, which has none.
import type { CounterSeries, Family, Labels, Registry } from "../../metrics/registry.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { Account, Outcome } from "../http/exchange.ts";
import { StatusSeries } from "./stream-series.ts";

/**
 * Why a copy was not made, or not to its end:
 * - `limit`: as many are under way as may be
 * - `slow`: the mirror took the body slower than the client sent it
 * - `timeout`: it did not answer in time
 * - `original`: the request itself ended before its body
 */
export type MirrorDrop = "limit" | "slow" | "timeout" | "original";

export class MirrorFamilies {
  readonly requests: Family<CounterSeries>;
  readonly statuses: Family<CounterSeries>;
  readonly dropped: Family<CounterSeries>;

  constructor(registry: Registry) {
    const counter = (rest: string, help: string) => registry.counter(`outbound_route_mirror_${rest}`, help);
    this.requests = counter("requests_total", "Copies of requests that were sent to mirrors.");
    this.statuses = counter("response_statuses_total", "Responses of mirrors, which nobody reads.");
    this.dropped = counter("dropped_total", "Copies of requests that were not made, or not to their end.");
  }
}

export class MirrorSeries implements Account {
  readonly #families: MirrorFamilies;
  readonly #labels: Labels;
  readonly #requests: CounterSeries;
  readonly #statuses: StatusSeries;

  /** @param labels of the route and of the mirror */
  constructor(families: MirrorFamilies, labels: Labels, grpc: boolean) {
    this.#families = families;
    this.#labels = labels;
    this.#requests = families.requests.labels(labels);
    this.#statuses = new StatusSeries(families.statuses, labels, grpc);
  }

  began(): void {
    this.#requests.inc();
  }

  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void {
    this.#statuses.ended(outcome, broken);
  }

  /** It was not sent anywhere. */
  failed(key: PassportKey): void {
    this.#statuses.failed(key);
  }

  dropped(reason: MirrorDrop): void {
    this.#families.dropped.labels({ ...this.#labels, reason }).inc();
  }

  requestFrame(): void {}

  responseFrame(): void {}
}
