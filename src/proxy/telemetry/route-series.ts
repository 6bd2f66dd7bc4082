// Counters of outbound routes and their backends (reference/data-planes.md §1.22): requests with all their tries, the
// tries by backend, and, of routes that a ServiceProfile names, the older families beside them.
import type { CounterSeries, Family, HistogramSeries, Labels, Registry } from "../../metrics/registry.ts";
import type { RouteBackend, RouteRule } from "../../rules/outbound-routes.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { RouteRef } from "../../rules/route-match.ts";
import type { Account, Outcome } from "../http/exchange.ts";
import { prefixed } from "./labels.ts";
import { MirrorFamilies, MirrorSeries } from "./mirror-series.ts";
import { ProfileFamilies, ProfileSeries } from "./profile-series.ts";
import { DURATION_BUCKETS_S, frameSizes, StatusSeries } from "./stream-series.ts";

interface Families {
  readonly duration: Family<HistogramSeries>;
  readonly statuses: Family<CounterSeries>;
  readonly requests: Family<CounterSeries>;
  readonly requestFrames: Family<HistogramSeries>;
  readonly retries: Family<CounterSeries>;
  readonly successes: Family<CounterSeries>;
  readonly limitExceeded: Family<CounterSeries>;
  readonly overflow: Family<CounterSeries>;
  readonly backendDuration: Family<HistogramSeries>;
  readonly backendStatuses: Family<CounterSeries>;
  readonly backendRequests: Family<CounterSeries>;
  readonly backendFrames: Family<HistogramSeries>;
}

/** The families of both kinds of routes. */
export class RouteFamilies {
  readonly profiles: ProfileFamilies;
  readonly #http: Families;
  readonly #grpc: Families;
  readonly #registry: Registry;
  #mirrors: MirrorFamilies | undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.profiles = new ProfileFamilies(registry);
    this.#http = familiesOf(registry, "http");
    this.#grpc = familiesOf(registry, "grpc");
  }

  of({ grpc }: RouteRule): Families {
    return grpc ? this.#grpc : this.#http;
  }

  /** Made when a route first has a mirror: most have none. */
  get mirrors(): MirrorFamilies {
    this.#mirrors ??= new MirrorFamilies(this.#registry);
    return this.#mirrors;
  }
}

function familiesOf(registry: Registry, kind: "http" | "grpc"): Families {
  const name = (rest: string) => `outbound_${kind}_route_${rest}`;
  const counter = (rest: string, help: string) => registry.counter(name(rest), help);
  return {
    duration: registry.histogram(
      name("request_duration_seconds"),
      "The time between request initialization and response completion.",
      DURATION_BUCKETS_S,
    ),
    statuses: counter("request_statuses_total", "Completed request-response streams."),
    requests: counter("requests_total", "The number of requests of a route."),
    requestFrames: frameSizes(registry, name("request_frame_size_bytes"), "Request data frame sizes."),
    retries: counter("retry_requests_total", "Retry requests emitted."),
    successes: counter("retry_successes_total", "Successful responses to retry requests."),
    limitExceeded: counter("retry_limit_exceeded_total", "Retryable requests not sent due to retry limits."),
    overflow: counter("retry_overflow_total", "Retryable requests not sent due to the retry budget."),
    backendDuration: registry.histogram(
      name("backend_response_duration_seconds"),
      "The time between request completion and response completion.",
      DURATION_BUCKETS_S,
    ),
    backendStatuses: counter("backend_response_statuses_total", "Completed responses."),
    backendRequests: counter("backend_requests_total", "The total number of requests dispatched."),
    backendFrames: frameSizes(
      registry,
      name("backend_response_frame_size_bytes"),
      "Response data frame sizes.",
    ),
  };
}

/** What routes belong to: what the policy is of, or a name where there is none. */
export function parentLabels(parent: RouteRef | undefined, name: string, port: number): Labels {
  return {
    parent_group: parent?.group ?? "",
    parent_kind: parent?.kind ?? "default",
    parent_namespace: parent?.namespace ?? "",
    parent_name: parent?.name || name,
    parent_port: parent?.port || port,
    parent_section_name: parent?.section ?? "",
  };
}

export class RouteSeries {
  /** What taps are told of the route: a profile's own labels, or its name. */
  readonly routeLabels: Readonly<Record<string, string>>;
  readonly #all: RouteFamilies;
  readonly #families: Families;
  readonly #labels: Labels;
  readonly #grpc: boolean;
  readonly #profile: ProfileSeries | undefined;
  readonly #requests: CounterSeries;
  readonly #duration: HistogramSeries;
  readonly #frames: HistogramSeries;
  readonly #statuses: StatusSeries;
  readonly #backends = new Map<RouteBackend, BackendSeries>();
  #mirrors: Map<RouteBackend, MirrorSeries> | undefined;

  /**
   * @param parent see `parentLabels`
   * @param dst the service, `name:port`
   */
  constructor(families: RouteFamilies, parent: Labels, dst: string, rule: RouteRule) {
    const { group, kind, namespace, name } = rule.route;
    const ref = { route_group: group, route_kind: kind, route_namespace: namespace, route_name: name };
    const { profile } = rule;
    this.routeLabels = profile?.labels ?? ref;
    this.#profile = profile && new ProfileSeries(families.profiles, dst, profile);
    this.#all = families;
    this.#families = families.of(rule);
    this.#grpc = rule.grpc;
    this.#labels = { ...parent, ...ref, ...prefixed("rt", profile?.labels ?? {}) };
    this.#requests = this.#families.requests.labels(this.#labels);
    this.#duration = this.#families.duration.labels(this.#labels);
    this.#frames = this.#families.requestFrames.labels(this.#labels);
    this.#statuses = new StatusSeries(this.#families.statuses, this.#labels, this.#grpc);
  }

  began(): void {
    this.#requests.inc();
    this.#profile?.began();
  }

  /** @param outcome undefined: there was no response */
  ended(outcome: Outcome | undefined, broken?: PassportKey): void {
    if (outcome) this.#duration.observe(outcome.latency / 1_000);
    this.#statuses.ended(outcome, broken);
    this.#profile?.ended(outcome);
  }

  /** By a filter. */
  answered(status: number): void {
    this.#statuses.answered(status);
  }

  /** It was not sent anywhere. */
  failed(key: PassportKey): void {
    this.#statuses.failed(key);
  }

  requestFrame(bytes: number): void {
    this.#frames.observe(bytes);
  }

  /** The account of what goes to one of its backends. */
  backend(backend: RouteBackend): BackendSeries {
    let series = this.#backends.get(backend);
    if (!series) {
      series = new BackendSeries(this.#families, this.#labels, this.#grpc, this.#profile, backend);
      this.#backends.set(backend, series);
    }
    return series;
  }

  /** Of the copies that go to `backend`. */
  mirror(backend: RouteBackend): MirrorSeries {
    this.#mirrors ??= new Map();
    let series = this.#mirrors.get(backend);
    if (!series) {
      series = new MirrorSeries(
        this.#all.mirrors,
        { ...this.#labels, ...backendLabels(backend.ref) },
        this.#grpc,
      );
      this.#mirrors.set(backend, series);
    }
    return series;
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

function backendLabels({ group, kind, namespace, name, port, section }: RouteRef): Labels {
  return {
    backend_group: group,
    backend_kind: kind,
    backend_namespace: namespace,
    backend_name: name,
    backend_port: port || "",
    backend_section_name: section,
  };
}

/** Tries that go to one backend of a route. */
class BackendSeries implements Account {
  readonly #profile: ProfileSeries | undefined;
  readonly #requests: CounterSeries;
  readonly #duration: HistogramSeries;
  readonly #frames: HistogramSeries;
  readonly #statuses: StatusSeries;

  constructor(
    families: Families,
    routeLabels: Labels,
    grpc: boolean,
    profile: ProfileSeries | undefined,
    { ref }: RouteBackend,
  ) {
    const labels = { ...routeLabels, ...backendLabels(ref) };
    this.#profile = profile;
    this.#requests = families.backendRequests.labels(labels);
    this.#duration = families.backendDuration.labels(labels);
    this.#frames = families.backendFrames.labels(labels);
    this.#statuses = new StatusSeries(families.backendStatuses, labels, grpc);
  }

  began(): void {
    this.#requests.inc();
    this.#profile?.tryBegan();
  }

  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void {
    if (outcome) this.#duration.observe((outcome.responseLatency ?? outcome.latency) / 1_000);
    this.#statuses.ended(outcome, broken);
    this.#profile?.tryEnded(outcome);
  }

  requestFrame(): void {}

  responseFrame(bytes: number): void {
    this.#frames.observe(bytes);
  }
}

/** Requests that all take one rule, which asks for nothing: the exchange itself is the only try. */
export class OnlyRouteAccount implements Account {
  readonly series: RouteSeries;
  readonly #backend: BackendSeries;

  constructor(series: RouteSeries, backend: RouteBackend) {
    this.series = series;
    this.#backend = series.backend(backend);
  }

  began(): void {
    this.#backend.began();
  }

  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void {
    this.#backend.ended(outcome, broken);
    if (outcome) this.series.ended(outcome, broken);
  }

  requestFrame(bytes: number): void {
    this.series.requestFrame(bytes);
  }

  responseFrame(bytes: number): void {
    this.#backend.responseFrame(bytes);
  }

  retried(status: number): void {
    this.series.retried(status);
  }
}
