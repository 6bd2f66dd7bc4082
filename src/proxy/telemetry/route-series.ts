// Counters of an outbound route (reference/data-planes.md §1.22): requests with all their tries, and the retries.
import type { CounterSeries, Family, HistogramSeries, Labels, Registry } from "../../metrics/registry.ts";
import type { RouteRule } from "../../rules/outbound-routes.ts";
import type { Outcome } from "../http/exchange.ts";
import { prefixed } from "./labels.ts";

/** Linkerd's four (0.05, 0.5, 1, 10 s), and finer ones beside them: four buckets cannot yield a p99. */
const DURATION_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

interface Families {
  readonly duration: Family<HistogramSeries>;
  readonly statuses: Family<CounterSeries>;
  readonly requests: Family<CounterSeries>;
  readonly retries: Family<CounterSeries>;
  readonly successes: Family<CounterSeries>;
  readonly limitExceeded: Family<CounterSeries>;
  readonly overflow: Family<CounterSeries>;
}

/** The families of both kinds of routes. */
export class RouteFamilies {
  readonly #http: Families;
  readonly #grpc: Families;

  constructor(registry: Registry) {
    this.#http = familiesOf(registry, "http");
    this.#grpc = familiesOf(registry, "grpc");
  }

  of({ grpc }: RouteRule): Families {
    return grpc ? this.#grpc : this.#http;
  }
}

function familiesOf(registry: Registry, kind: "http" | "grpc"): Families {
  const name = (rest: string) => `outbound_${kind}_route_${rest}`;
  return {
    duration: registry.histogram(
      name("request_duration_seconds"),
      "The time between request initialization and response completion.",
      DURATION_BUCKETS_S,
    ),
    statuses: registry.counter(name("request_statuses_total"), "Completed request-response streams."),
    requests: registry.counter(name("requests_total"), "The number of requests of a route."),
    retries: registry.counter(name("retry_requests_total"), "Retry requests emitted."),
    successes: registry.counter(name("retry_successes_total"), "Successful responses to retry requests."),
    limitExceeded: registry.counter(
      name("retry_limit_exceeded_total"),
      "Retryable requests not sent due to retry limits.",
    ),
    overflow: registry.counter(
      name("retry_overflow_total"),
      "Retryable requests not sent due to the retry budget.",
    ),
  };
}

export class RouteSeries {
  /** What taps are told of the route: a profile's own labels, or its name. */
  readonly routeLabels: Readonly<Record<string, string>>;
  readonly #families: Families;
  readonly #labels: Labels;
  readonly #grpc: boolean;
  readonly #requests: CounterSeries;
  readonly #duration: HistogramSeries;
  /** By status; sparse. */
  readonly #statuses: (CounterSeries | undefined)[] = [];

  /** @param parent the service, `name:port` */
  constructor(families: RouteFamilies, parent: string, rule: RouteRule) {
    const { group, kind, namespace, name } = rule.route;
    this.routeLabels = rule.profile?.labels ?? {
      route_group: group,
      route_kind: kind,
      route_namespace: namespace,
      route_name: name,
    };
    this.#families = families.of(rule);
    this.#grpc = rule.grpc;
    this.#labels = {
      parent_name: parent,
      route_group: group,
      route_kind: kind,
      route_namespace: namespace,
      route_name: name,
      ...prefixed("rt", rule.profile?.labels ?? {}),
    };
    this.#requests = this.#families.requests.labels(this.#labels);
    this.#duration = this.#families.duration.labels(this.#labels);
  }

  began(): void {
    this.#requests.inc();
  }

  ended(outcome: Outcome | undefined): void {
    if (!outcome) return;
    this.#duration.observe(outcome.latency / 1_000);
    this.answered(this.#grpc ? (outcome.grpcStatus ?? 2) : outcome.status);
  }

  answered(status: number): void {
    const key = this.#grpc ? "grpc_status" : "http_status";
    this.#statuses[status] ??= this.#families.statuses.labels({ ...this.#labels, [key]: status });
    this.#statuses[status].inc();
  }

  retrying(): void {
    this.#families.retries.labels(this.#labels).inc();
  }

  /** A retry was answered. */
  retried(status: number): void {
    if (status < 500) this.#families.successes.labels(this.#labels).inc();
  }

  limitExceeded(): void {
    this.#families.limitExceeded.labels(this.#labels).inc();
  }

  overflowed(): void {
    this.#families.overflow.labels(this.#labels).inc();
  }
}
