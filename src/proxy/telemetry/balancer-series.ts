// What balancers tell of themselves, by linkerd2-proxy's names (reference/data-planes.md §1.22), and of their
// breakers, by names of our own beside them.
import type {
  CounterSeries,
  Family,
  GaugeSeries,
  HistogramSeries,
  Labels,
  Registry,
} from "../../metrics/registry.ts";

/** Linkerd's, s. */
const QUEUE_LATENCY_BUCKETS = [0.0005, 0.005, 0.05, 0.5, 1, 3];

export class BalancerFamilies {
  readonly endpoints: Family<GaugeSeries>;
  readonly p2cEndpoints: Family<GaugeSeries>;
  readonly p2cUpdates: Family<CounterSeries>;
  readonly queueLength: Family<GaugeSeries>;
  readonly queueRequests: Family<CounterSeries>;
  readonly queueLatency: Family<HistogramSeries>;
  readonly gateOpen: Family<CounterSeries>;
  readonly gateShut: Family<CounterSeries>;
  readonly gateOpenTime: Family<GaugeSeries>;
  readonly gateShutTime: Family<GaugeSeries>;
  readonly gateTimeout: Family<GaugeSeries>;
  readonly ejections: Family<CounterSeries>;
  readonly probes: Family<CounterSeries>;

  constructor(registry: Registry) {
    const name = (rest: string) => `outbound_http_balancer_${rest}`;
    this.endpoints = registry.gauge(
      name("endpoints"),
      "The number of endpoints currently in a HTTP request balancer.",
    );
    this.p2cEndpoints = registry.gauge(
      name("p2c_endpoints"),
      "The number of endpoints currently in the balancer.",
    );
    this.p2cUpdates = registry.counter(
      name("p2c_updates_total"),
      "The total number of service discovery updates received by a balancer.",
    );
    this.queueLength = registry.gauge(
      name("queue_length"),
      "The number of requests waiting for an endpoint.",
    );
    this.queueRequests = registry.counter(
      name("queue_requests_total"),
      "The total number of requests that waited for an endpoint.",
    );
    this.queueLatency = registry.histogram(
      name("queue_latency_seconds"),
      "The time that requests waited for an endpoint.",
      QUEUE_LATENCY_BUCKETS,
    );
    this.gateOpen = registry.counter(
      name("queue_gate_open_total"),
      "The total number of gate state changes to open.",
    );
    this.gateShut = registry.counter(
      name("queue_gate_shut_total"),
      "The total number of gate state changes from open to shut (fail-fast).",
    );
    this.gateOpenTime = registry.gauge(
      name("queue_gate_open_time_seconds"),
      "The time at which the gate was opened; 0 while it is shut.",
    );
    this.gateShutTime = registry.gauge(
      name("queue_gate_shut_time_seconds"),
      "The time at which the gate was shut; 0 while it is open.",
    );
    this.gateTimeout = registry.gauge(
      name("queue_gate_timeout_seconds"),
      "How long requests wait before the gate is shut.",
    );
    this.ejections = registry.counter(
      name("ejections_total"),
      "The total number of times that a circuit breaker took an endpoint out of the choice.",
    );
    this.probes = registry.counter(
      name("probes_total"),
      "The total number of requests that decided whether an endpoint came back into the choice.",
    );
  }
}

/** The series of one balancer. Several may share them: gauges are moved, never set. */
export class BalancerSeries {
  readonly ejections: CounterSeries;
  readonly #families: BalancerFamilies;
  readonly #labels: Labels;
  readonly #ready: GaugeSeries;
  readonly #pending: GaugeSeries;
  readonly #all: GaugeSeries;
  readonly #length: GaugeSeries;
  readonly #openTime: GaugeSeries;
  readonly #shutTime: GaugeSeries;
  #readyCount = 0;
  #pendingCount = 0;

  /** @param failfastTimeout ms */
  constructor(families: BalancerFamilies, labels: Labels, failfastTimeout: number, now: number) {
    this.#families = families;
    this.#labels = labels;
    this.#ready = families.endpoints.labels({ ...labels, endpoint_state: "ready" });
    this.#pending = families.endpoints.labels({ ...labels, endpoint_state: "pending" });
    this.#all = families.p2cEndpoints.labels(labels);
    this.#length = families.queueLength.labels(labels);
    this.#openTime = families.gateOpenTime.labels(labels);
    this.#shutTime = families.gateShutTime.labels(labels);
    this.ejections = families.ejections.labels(labels);
    families.gateTimeout.labels(labels).set(failfastTimeout / 1_000);
    this.opened(now);
  }

  /** How many endpoints are in the choice, and how many are named but not in it. */
  counts(ready: number, pending: number): void {
    this.#all.inc(ready + pending - this.#readyCount - this.#pendingCount);
    this.#ready.inc(ready - this.#readyCount);
    this.#pending.inc(pending - this.#pendingCount);
    this.#readyCount = ready;
    this.#pendingCount = pending;
  }

  updated(op: "Add" | "Remove"): void {
    this.#families.p2cUpdates.labels({ ...this.#labels, op }).inc();
  }

  queued(): void {
    this.#families.queueRequests.labels(this.#labels).inc();
    this.#length.inc();
  }

  /** @param waited ms */
  unqueued(waited: number): void {
    this.#length.dec();
    this.#families.queueLatency.labels(this.#labels).observe(waited / 1_000);
  }

  /** Fail-fast is over. @param now ms since the epoch */
  opened(now: number): void {
    this.#families.gateOpen.labels(this.#labels).inc();
    this.#openTime.set(now / 1_000);
    this.#shutTime.set(0);
  }

  /** Requests fail fast from now on. @param now ms since the epoch */
  shut(now: number): void {
    this.#families.gateShut.labels(this.#labels).inc();
    this.#shutTime.set(now / 1_000);
    this.#openTime.set(0);
  }

  probed(passed: boolean): void {
    const classification = passed ? "success" : "failure";
    this.#families.probes.labels({ ...this.#labels, classification }).inc();
  }
}
