// Durations, statuses and body sizes of the requests of one route or backend, as linkerd2-proxy's newer families have
// them (reference/data-planes.md §1.22): few labels, and a status by its own counter.
import { STATUS_NAMES } from "../../api/grpc-status.ts";
import type { CounterSeries, Family, HistogramSeries, Labels, Registry } from "../../metrics/registry.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { Outcome } from "../http/exchange.ts";

/** Linkerd's (0.05, 0.5, 1, 10 s and, of responses, 0.025, 0.1, 0.25), and finer ones: few buckets yield no p99. */
export const DURATION_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Linkerd's, bytes. */
const FRAME_BUCKETS = [128, 1_024, 10_240];

export const frameSizes = (registry: Registry, name: string, help: string): Family<HistogramSeries> =>
  registry.histogram(name, help, FRAME_BUCKETS);

/** What ended a stream before its time, in Linkerd's words. */
const ERRORS: Partial<Record<PassportKey, string>> = {
  "fail-fast": "FAIL_FAST",
  "load-shed": "LOAD_SHED",
  "request-timeout": "REQUEST_TIMEOUT",
  "response-timeout": "RESPONSE_HEADERS_TIMEOUT",
  "idle-timeout": "IDLE_TIMEOUT",
  "stream-reset": "RESET",
  connect: "IO",
  "connect-timeout": "IO",
  "upstream-closed": "IO",
};
/** Nobody ended it but the client. */
const CANCELLED = "CANCEL";
const UNKNOWN_CODE = 2;

/** The statuses of one kind of streams: found once each, then only added to. */
export class StatusSeries {
  readonly #family: Family<CounterSeries>;
  readonly #labels: Labels;
  readonly #grpc: boolean;
  /** By status, or gRPC code; sparse. */
  readonly #statuses: (CounterSeries | undefined)[] = [];

  constructor(family: Family<CounterSeries>, labels: Labels, grpc: boolean) {
    this.#family = family;
    this.#labels = labels;
    this.#grpc = grpc;
  }

  /** @param status of HTTP, or of gRPC where that is what is served */
  answered(status: number): void {
    this.#statuses[status] ??= this.#family.labels({
      ...this.#labels,
      ...this.#statusLabel(status),
      error: "",
    });
    this.#statuses[status].inc();
  }

  /** @param outcome undefined: there was no response */
  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void {
    const status = this.#grpc ? (outcome?.grpcStatus ?? UNKNOWN_CODE) : outcome?.status;
    if (outcome?.complete) this.answered(status!);
    else this.failed(broken, outcome && status);
  }

  /** Errors are rare enough to be looked up each time. */
  failed(broken: PassportKey | undefined, status?: number): void {
    const error = broken === undefined ? CANCELLED : (ERRORS[broken] ?? "UNKNOWN");
    this.#family.labels({ ...this.#labels, ...this.#statusLabel(status), error }).inc();
  }

  #statusLabel(status: number | undefined): Labels {
    if (!this.#grpc) return { http_status: status };
    return { grpc_status: STATUS_NAMES[status ?? UNKNOWN_CODE] ?? "UNKNOWN" };
  }
}
