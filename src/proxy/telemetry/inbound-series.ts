// Counters of the routes of inbound servers (reference/data-planes.md §1.22). They say nothing of clients, so they are
// as few as the routes.
import type { CounterSeries, Family, HistogramSeries, Labels, Registry } from "../../metrics/registry.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { RouteRef } from "../../rules/route-match.ts";
import type { Account, Outcome } from "../http/exchange.ts";
import { DURATION_BUCKETS_S, frameSizes, StatusSeries } from "./stream-series.ts";

interface Families {
  readonly requests: Family<CounterSeries>;
  readonly statuses: Family<CounterSeries>;
  readonly requestDuration: Family<HistogramSeries>;
  readonly responseDuration: Family<HistogramSeries>;
  readonly requestFrames: Family<HistogramSeries>;
  readonly responseFrames: Family<HistogramSeries>;
}

export class InboundRouteFamilies {
  readonly #http: Families;
  readonly #grpc: Families;

  constructor(registry: Registry) {
    this.#http = familiesOf(registry, "http");
    this.#grpc = familiesOf(registry, "grpc");
  }

  of(grpc: boolean): Families {
    return grpc ? this.#grpc : this.#http;
  }
}

function familiesOf(registry: Registry, kind: "http" | "grpc"): Families {
  const name = (rest: string) => `inbound_${kind}_${rest}`;
  return {
    requests: registry.counter(name("requests_total"), "The total number of requests dispatched."),
    statuses: registry.counter(name("response_statuses_total"), "Completed responses."),
    requestDuration: registry.histogram(
      name("request_duration_seconds"),
      "The time between request initialization and response completion.",
      DURATION_BUCKETS_S,
    ),
    responseDuration: registry.histogram(
      name("response_duration_seconds"),
      "The time between request completion and response completion.",
      DURATION_BUCKETS_S,
    ),
    requestFrames: frameSizes(registry, name("request_frame_size_bytes"), "Request data frame sizes."),
    responseFrames: frameSizes(registry, name("response_frame_size_bytes"), "Response data frame sizes."),
  };
}

/** A server, as its policy's labels name it. */
export interface ServerFacts {
  readonly labels: Readonly<Record<string, string>>;
  readonly port: number;
  /** It serves gRPC and nothing else. */
  readonly grpc: boolean;
}

export class InboundRouteSeries implements Account {
  readonly #requests: CounterSeries;
  readonly #statuses: StatusSeries;
  readonly #requestDuration: HistogramSeries;
  readonly #responseDuration: HistogramSeries;
  readonly #requestFrames: HistogramSeries;
  readonly #responseFrames: HistogramSeries;

  constructor(families: InboundRouteFamilies, server: ServerFacts, route: RouteRef) {
    const grpc = server.grpc || route.kind === "GRPCRoute";
    const { requests, statuses, ...histograms } = families.of(grpc);
    const labels: Labels = {
      parent_group: server.labels["group"] ?? "",
      parent_kind: server.labels["kind"] ?? "",
      parent_name: server.labels["name"] ?? "",
      parent_port: server.port,
      route_group: route.group,
      route_kind: route.kind,
      route_name: route.name,
    };
    this.#requests = requests.labels(labels);
    this.#statuses = new StatusSeries(statuses, labels, grpc);
    this.#requestDuration = histograms.requestDuration.labels(labels);
    this.#responseDuration = histograms.responseDuration.labels(labels);
    this.#requestFrames = histograms.requestFrames.labels(labels);
    this.#responseFrames = histograms.responseFrames.labels(labels);
  }

  began(): void {
    this.#requests.inc();
  }

  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void {
    this.#statuses.ended(outcome, broken);
    if (!outcome) return;
    const { latency, responseLatency } = outcome;
    this.#requestDuration.observe(latency / 1_000);
    this.#responseDuration.observe((responseLatency ?? latency) / 1_000);
  }

  requestFrame(bytes: number): void {
    this.#requestFrames.observe(bytes);
  }

  responseFrame(bytes: number): void {
    this.#responseFrames.observe(bytes);
  }
}
