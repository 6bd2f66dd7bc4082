// Counters of the routes that a ServiceProfile names, by the names that `routes` and dashboards ask for: `route_…` of
// requests as their clients see them, `route_actual_…` of all their tries.
import {
  type CounterSeries,
  type Family,
  type HistogramSeries,
  LATENCY_BUCKETS_MS,
  type Labels,
  type Registry,
} from "../../metrics/registry.ts";
import type { ProfileRoute } from "../../rules/outbound-routes.ts";
import { type Classification, classifyResponse } from "../../rules/response-class.ts";
import type { Outcome } from "../http/exchange.ts";
import { prefixed } from "./labels.ts";

interface Families {
  readonly requests: Family<CounterSeries>;
  readonly responses: Family<CounterSeries>;
  readonly latency: Family<HistogramSeries>;
}

export class ProfileFamilies {
  readonly effective: Families;
  readonly actual: Families;

  constructor(registry: Registry) {
    this.effective = familiesOf(registry, "route");
    this.actual = familiesOf(registry, "route_actual");
  }
}

function familiesOf(registry: Registry, prefix: string): Families {
  return {
    requests: registry.counter(`${prefix}_request_total`, "Total count of HTTP requests."),
    responses: registry.counter(`${prefix}_response_total`, "Total count of HTTP responses."),
    latency: registry.histogram(
      `${prefix}_response_latency_ms`,
      "Elapsed times between a request's headers being received and its response stream completing, in milliseconds.",
      LATENCY_BUCKETS_MS,
    ),
  };
}

export class ProfileSeries {
  readonly #route: ProfileRoute;
  readonly #effective: Responses;
  readonly #actual: Responses;

  constructor(families: ProfileFamilies, dst: string, route: ProfileRoute) {
    const labels = { direction: "outbound", dst, ...prefixed("rt", route.labels) };
    this.#route = route;
    this.#effective = new Responses(families.effective, labels);
    this.#actual = new Responses(families.actual, labels);
  }

  began(): void {
    this.#effective.requests.inc();
  }

  ended(outcome: Outcome | undefined): void {
    if (outcome) this.#effective.ended(outcome, this.#classify(outcome));
  }

  tryBegan(): void {
    this.#actual.requests.inc();
  }

  tryEnded(outcome: Outcome | undefined): void {
    if (outcome) this.#actual.ended(outcome, this.#classify(outcome));
  }

  /** The profile's own classes go first. */
  #classify({ status, complete, grpcStatus }: Outcome): Classification {
    const fails = complete ? this.#route.isFailure(status) : undefined;
    if (fails === undefined) return classifyResponse(status, complete, grpcStatus);
    return fails ? "failure" : "success";
  }
}

class Responses {
  readonly requests: CounterSeries;
  readonly #families: Families;
  readonly #labels: Labels;
  /** By status; sparse. */
  readonly #statuses: (Record<Classification, CounterSeries | undefined> & { latency: HistogramSeries })[] =
    [];

  constructor(families: Families, labels: Labels) {
    this.requests = families.requests.labels(labels);
    this.#families = families;
    this.#labels = labels;
  }

  ended({ status, latency }: Outcome, classification: Classification): void {
    const { responses, latency: latencies } = this.#families;
    const labels = () => ({ ...this.#labels, status_code: status });
    this.#statuses[status] ??= {
      success: undefined,
      failure: undefined,
      latency: latencies.labels(labels()),
    };
    const series = this.#statuses[status];
    series[classification] ??= responses.labels({ ...labels(), classification });
    series[classification].inc();
    series.latency.observe(latency);
  }
}
