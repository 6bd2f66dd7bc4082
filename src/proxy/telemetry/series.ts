// The metric series of the data path: found once per connection, endpoint or status, then only added to.
// Names and labels are linkerd2-proxy's (reference/data-planes.md §1.22, reference/linkerd-interfaces.md §7.1).
import {
  type CounterSeries,
  type Family,
  type GaugeSeries,
  type HistogramSeries,
  LATENCY_BUCKETS_MS,
  type Labels,
  type Registry,
} from "../../metrics/registry.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import { type Classification, classifyResponse } from "../../rules/response-class.ts";
import type { Clock } from "../../util/clock.ts";
import type { Outcome } from "../http/exchange.ts";

export type Direction = "inbound" | "outbound";

/** Where bytes are counted. */
export interface ByteCounters {
  readonly read: CounterSeries;
  readonly write: CounterSeries;
}

/** Counts in two places. */
class BothSeries implements CounterSeries {
  readonly #own: CounterSeries;
  readonly #other: CounterSeries;

  constructor(own: CounterSeries, other: CounterSeries) {
    this.#own = own;
    this.#other = other;
  }

  get value(): number {
    return this.#own.value;
  }

  inc(by?: number): void {
    this.#own.inc(by);
    this.#other.inc(by);
  }
}

/** Counters of one kind of connection. */
export class TcpSeries {
  readonly open: CounterSeries;
  readonly connections: GaugeSeries;
  readonly read: CounterSeries;
  readonly write: CounterSeries;
  readonly #families: Families;
  readonly #labels: Labels;
  #close: CloseSeries | undefined;

  /** @param also where its bytes are counted beside */
  constructor(families: Families, labels: Labels, also?: ByteCounters) {
    this.open = families.tcpOpen.labels(labels);
    this.connections = families.tcpConnections.labels(labels);
    const read = families.tcpRead.labels(labels);
    const write = families.tcpWrite.labels(labels);
    this.read = also ? new BothSeries(read, also.read) : read;
    this.write = also ? new BothSeries(write, also.write) : write;
    this.#families = families;
    this.#labels = labels;
  }

  /** @returns when, for `closed` */
  opened(): number {
    this.open.inc();
    this.connections.inc();
    return this.#families.clock.monotonic();
  }

  /**
   * @param errno system error that ended the connection, such as `ECONNRESET`
   * @param since what `opened` returned
   */
  closed(errno: string | undefined, since: number): void {
    this.connections.dec();
    if (errno === undefined) this.#close ??= this.#closes("");
    const series = errno === undefined ? this.#close! : this.#closes(errno);
    series.count.inc();
    series.duration.observe(this.#families.clock.monotonic() - since);
  }

  #closes(errno: string): CloseSeries {
    const labels = { ...this.#labels, errno };
    const { tcpClose, tcpDuration } = this.#families;
    return { count: tcpClose.labels(labels), duration: tcpDuration.labels(labels) };
  }
}

/** Of connections that ended in one way. */
interface CloseSeries {
  readonly count: CounterSeries;
  readonly duration: HistogramSeries;
}

/** The codes that gRPC defines; what a server makes up beyond them counts as Unknown, as clients read it. */
const GRPC_CODES = 17;
const GRPC_UNKNOWN = 2;
/** In place of a code: the response had none. */
const NO_GRPC = GRPC_CODES;

/** Counters of the responses with one status. */
interface StatusSeries {
  /** By gRPC code, or {@link NO_GRPC}; sparse. */
  readonly success: (CounterSeries | undefined)[];
  readonly failure: (CounterSeries | undefined)[];
  readonly latency: HistogramSeries;
}

/** Counters of the requests between one kind of client and one endpoint. */
export class HttpSeries {
  readonly requests: CounterSeries;
  readonly #families: Families;
  readonly #labels: Labels;
  /** By status; sparse. */
  readonly #statuses: (StatusSeries | undefined)[] = [];

  constructor(families: Families, labels: Labels) {
    this.#families = families;
    this.#labels = labels;
    this.requests = families.requests.labels(labels);
  }

  /** @param error why a response broke off */
  ended(outcome: Outcome, error?: PassportKey): void {
    const { status, complete, latency } = outcome;
    const series = this.#statuses[status] ?? this.#status(status);
    const given = outcome.grpcStatus;
    const code = given === undefined ? NO_GRPC : given < GRPC_CODES ? given : GRPC_UNKNOWN;
    const verdict = classifyResponse(status, complete, given === undefined ? undefined : code);
    // Rare enough to be looked up each time.
    if (!complete && error !== undefined) this.#response(status, code, verdict, error).inc();
    else {
      series[verdict][code] ??= this.#response(status, code, verdict);
      series[verdict][code].inc();
    }
    series.latency.observe(latency);
  }

  #status(status: number): StatusSeries {
    const { latency } = this.#families;
    const made = {
      success: [],
      failure: [],
      latency: latency.labels({ ...this.#labels, status_code: status }),
    };
    this.#statuses[status] = made;
    return made;
  }

  #response(
    status: number,
    code: number,
    classification: Classification,
    error?: PassportKey,
  ): CounterSeries {
    return this.#families.responses.labels({
      ...this.#labels,
      status_code: status,
      grpc_status: code === NO_GRPC ? undefined : code,
      error: error && PASSPORTS[error].metric,
      classification,
    });
  }
}

/** All families of one direction. */
export class Families {
  readonly direction: Direction;
  readonly clock: Clock;
  readonly requests: Family<CounterSeries>;
  readonly responses: Family<CounterSeries>;
  readonly latency: Family<HistogramSeries>;
  readonly tcpOpen: Family<CounterSeries>;
  readonly tcpConnections: Family<GaugeSeries>;
  readonly tcpClose: Family<CounterSeries>;
  readonly tcpDuration: Family<HistogramSeries>;
  readonly tcpRead: Family<CounterSeries>;
  readonly tcpWrite: Family<CounterSeries>;
  readonly #httpErrors: Family<CounterSeries>;
  readonly #tcpErrors: Family<CounterSeries>;
  readonly #authz: Readonly<
    Record<"http_allow" | "http_deny" | "tcp_allow" | "tcp_deny", Family<CounterSeries>>
  >;

  readonly #routeNotFound: Family<CounterSeries>;
  readonly #rateLimited: Family<CounterSeries>;

  readonly #accepted: Family<GaugeSeries>;
  readonly #acceptLimit: Family<GaugeSeries>;
  readonly #registry: Registry;

  constructor(registry: Registry, direction: Direction, clock: Clock) {
    this.direction = direction;
    this.clock = clock;
    this.#registry = registry;
    this.#accepted = registry.gauge(
      "mesh_accepted_connections",
      "Connections accepted and open, those included whose protocol is not known yet.",
    );
    this.#acceptLimit = registry.gauge(
      "mesh_accepted_connections_limit",
      "Accepted connections beyond which further ones are closed as they come.",
    );
    this.#routeNotFound = registry.counter(
      "inbound_http_route_not_found_total",
      "The total number of inbound HTTP requests that could not be associated with a route.",
    );
    this.#rateLimited = registry.counter(
      "inbound_http_local_ratelimit_total",
      "The total number of inbound HTTP requests that were rate-limited.",
    );
    this.requests = registry.counter("request_total", "Total count of HTTP requests.");
    this.responses = registry.counter("response_total", "Total count of HTTP responses.");
    this.latency = registry.histogram(
      "response_latency_ms",
      "Elapsed times between a request's headers being received and its response stream completing, in milliseconds.",
      LATENCY_BUCKETS_MS,
    );
    this.tcpOpen = registry.counter("tcp_open_total", "Total count of opened connections.");
    this.tcpConnections = registry.gauge("tcp_open_connections", "Number of currently-open connections.");
    this.tcpClose = registry.counter("tcp_close_total", "Total count of closed connections.");
    this.tcpDuration = registry.histogram(
      "tcp_connection_duration_ms",
      "Connection lifetimes.",
      LATENCY_BUCKETS_MS,
    );
    this.tcpRead = registry.counter("tcp_read_bytes_total", "Total count of bytes read from peers.");
    this.tcpWrite = registry.counter("tcp_write_bytes_total", "Total count of bytes written to peers.");
    this.#httpErrors = registry.counter(
      `${direction}_http_errors_total`,
      `The total number of ${direction} HTTP requests that could not be processed due to a proxy error.`,
    );
    this.#tcpErrors = registry.counter(
      `${direction}_tcp_errors_total`,
      `The total number of ${direction} TCP connections that could not be processed due to a proxy error.`,
    );
    const authz = (protocol: string, verdict: string) =>
      registry.counter(
        `inbound_${protocol}_authz_${verdict}_total`,
        `The total number of inbound ${protocol.toUpperCase()} ${protocol === "http" ? "requests" : "connections"} that were ${verdict === "allow" ? "authorized" : "denied"}.`,
      );
    this.#authz = {
      http_allow: authz("http", "allow"),
      http_deny: authz("http", "deny"),
      tcp_allow: authz("tcp", "allow"),
      tcp_deny: authz("tcp", "deny"),
    };
  }

  /** Shows how many connections are accepted and open, and how many may be. */
  accepted(open: () => number, limit: number): void {
    const { direction } = this;
    const connections = this.#accepted.labels({ direction });
    this.#registry.onCollect(() => connections.set(open()));
    this.#acceptLimit.labels({ direction }).set(limit);
  }

  authz(protocol: "http" | "tcp", allowed: boolean, labels: Labels): CounterSeries {
    return this.#authz[`${protocol}_${allowed ? "allow" : "deny"}`].labels(labels);
  }

  /** Requests that none of the server's routes takes. */
  routeNotFound(labels: Labels): void {
    this.#routeNotFound.labels(labels).inc();
  }

  /** @param scope whose limit it was */
  rateLimited(scope: string, labels: Labels): void {
    this.#rateLimited.labels({ ...labels, scope }).inc();
  }

  /** Errors are rare enough to be looked up each time. */
  httpError(key: PassportKey, labels: Labels = {}): void {
    const { code, metric } = PASSPORTS[key];
    this.#httpErrors.labels({ ...labels, error: metric, code }).inc();
  }

  tcpError(key: PassportKey, labels: Labels = {}): void {
    const { code, metric } = PASSPORTS[key];
    this.#tcpErrors.labels({ ...labels, error: metric, code }).inc();
  }
}
