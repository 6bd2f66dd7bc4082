// Spans of the requests that belong to a trace: one of each side, continuing the context that a request carries, or
// beginning one for a share of requests when that is asked for. They are exported in batches as OTLP over gRPC; what
// the collector does not take in time is dropped and counted.
import { randomBytes } from "node:crypto";
import type { MessageOf, Method, Partially } from "../../api/codec.ts";
import { Export, type KeyValue, SPAN_KIND, SPAN_STATUS, type Span } from "../../api/otlp.ts";
import type { Logger } from "../../log/logger.ts";
import type { CounterSeries, Registry } from "../../metrics/registry.ts";
import { readTraceContext, type TraceContext, traceFields } from "../../rules/trace-context.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import { VERSION } from "../../util/version.ts";
import type {
  Exchange,
  ExchangeContext,
  ExchangeEnd,
  ExchangeRecord,
  ExchangeWatch,
} from "../http/exchange.ts";
import type { FieldEdit, RequestEdits, ResponseHead } from "../http/message.ts";

type SpanMessage = MessageOf<typeof Span>;
type Attribute = MessageOf<typeof KeyValue>;

/** Spans that wait, and that go out together. */
const MAX_WAITING = 2_048;
const BATCH = 256;
/** How long spans are gathered, and how long the collector may take, ms. */
const GATHER = 1_000;
const EXPORT_TIMEOUT = 10_000;
/** Longest value of an attribute, characters. */
const MAX_VALUE = 1_024;

/** Calls the collector. */
export interface CollectorClient {
  unary<Q, R>(method: Method<Q, R>, request: Partially<Q>, timeout: number): Promise<R>;
}

export interface ExporterOptions {
  readonly client: CollectorClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  /** Of the pod: its service's name among them. */
  readonly resource: Readonly<Record<string, string>>;
}

/** Sends spans to the collector. */
export class SpanExporter {
  readonly #options: ExporterOptions;
  readonly #resource: readonly Attribute[];
  readonly #sent: CounterSeries;
  readonly #dropped: CounterSeries;
  #waiting: SpanMessage[] = [];
  #timer: Timer | undefined;
  #exporting = false;
  #failing = false;

  constructor(options: ExporterOptions) {
    this.#options = options;
    this.#resource = attributes(options.resource);
    const { registry } = options;
    this.#sent = registry.counter("trace_spans_exported_total", "Spans that the collector took.").labels({});
    this.#dropped = registry
      .counter("trace_spans_dropped_total", "Spans that the collector did not take in time.")
      .labels({});
  }

  add(span: SpanMessage): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#dropped.inc();
      return;
    }
    this.#waiting.push(span);
    if (this.#waiting.length >= BATCH) void this.#export();
    else this.#timer ??= this.#options.clock.after(GATHER, () => void this.#export());
  }

  async #export(): Promise<void> {
    const { client, clock, log } = this.#options;
    clock.clear(this.#timer);
    this.#timer = undefined;
    if (this.#exporting) return;
    this.#exporting = true;
    while (this.#waiting.length > 0) {
      const spans = this.#waiting.splice(0, BATCH);
      const scopeSpans = [{ scope: { name: "kubectl-mesh", version: VERSION }, spans }];
      const request = { resourceSpans: [{ resource: { attributes: [...this.#resource] }, scopeSpans }] };
      try {
        await client.unary(Export, request, EXPORT_TIMEOUT);
        this.#sent.inc(spans.length);
        this.#failing = false;
      } catch (error) {
        this.#dropped.inc(spans.length);
        if (!this.#failing) log.warn("spans cannot be exported", { error: errorMessage(error) });
        this.#failing = true;
      }
    }
    this.#exporting = false;
  }
}

export interface TracingOptions {
  readonly exporter: Pick<SpanExporter, "add">;
  readonly clock: Clock;
  /** Of requests that carry no context, this share begins a trace, 0 to 1. */
  readonly ratio: number;
}

/** One side's spans. */
export class Tracing implements ExchangeWatch {
  readonly #options: TracingOptions;

  constructor(options: TracingOptions) {
    this.#options = options;
  }

  begin(
    exchange: Exchange,
    context: ExchangeContext,
  ): { record: ExchangeRecord; edits: RequestEdits } | undefined {
    const { exporter, clock, ratio } = this.#options;
    const known = readTraceContext((name) => exchange.request.get(name));
    const trace = known ?? (ratio > 0 && clock.random() < ratio ? newTrace() : undefined);
    if (!trace?.sampled) return undefined;
    const spanId = newId(8);
    const fields = traceFields(trace, spanId).map(([name, value]): FieldEdit => ({ op: "set", name, value }));
    return {
      record: new ExchangeSpan(exporter, clock, exchange, context, trace, spanId),
      edits: { fields },
    };
  }
}

const newId = (size: number): string => randomBytes(size).toString("hex");
/** A root has no parent: its context names no span. */
const newTrace = (): TraceContext => ({
  traceId: newId(16),
  spanId: "",
  sampled: true,
  form: "w3c",
  state: "",
});

class ExchangeSpan implements ExchangeRecord {
  readonly #exporter: Pick<SpanExporter, "add">;
  readonly #clock: Clock;
  readonly #context: ExchangeContext;
  readonly #trace: TraceContext;
  readonly #spanId: string;
  readonly #startedAt: number;
  readonly #head: Readonly<Record<string, string>>;
  readonly #name: string;
  #status = 0;

  constructor(
    exporter: Pick<SpanExporter, "add">,
    clock: Clock,
    exchange: Exchange,
    context: ExchangeContext,
    trace: TraceContext,
    spanId: string,
  ) {
    const { request, version, grpc } = exchange;
    const path = request.path.split("?", 1)[0]!;
    this.#exporter = exporter;
    this.#clock = clock;
    this.#context = context;
    this.#trace = trace;
    this.#spanId = spanId;
    this.#startedAt = clock.now();
    // Paths are without bound; calls are not.
    this.#name = grpc ? path.slice(1) : request.method;
    this.#head = {
      direction: context.direction,
      "http.request.method": request.method,
      "url.path": path,
      "url.scheme": request.scheme,
      "server.address": request.authority,
      "network.protocol.version": version === 2 ? "2" : `1.${request.minor}`,
      "user_agent.original": request.get("user-agent") ?? "",
      "client.address": context.client.ip,
      ...(context.client.identity === undefined ? {} : { "client.id": context.client.identity }),
    };
  }

  response(_exchange: Exchange, head: ResponseHead): void {
    this.#status = head.status;
  }

  end(exchange: Exchange, end: ExchangeEnd): void {
    const { traceId, spanId: parent, state } = this.#trace;
    const status = end.status || this.#status;
    const failed = !end.complete || end.error !== undefined || status >= 500 || (end.grpcStatus ?? 0) !== 0;
    this.#exporter.add({
      traceId: Buffer.from(traceId, "hex"),
      spanId: Buffer.from(this.#spanId, "hex"),
      parentSpanId: Buffer.from(parent, "hex"),
      traceState: state,
      name: this.#name,
      kind: this.#context.direction === "inbound" ? SPAN_KIND.server : SPAN_KIND.client,
      startTimeUnixNano: nanoseconds(this.#startedAt),
      endTimeUnixNano: nanoseconds(this.#clock.now()),
      attributes: [
        ...attributes({ ...this.#head, ...(end.error === undefined ? {} : { "error.type": end.error }) }),
        number("http.response.status_code", status),
        number("http.request.body.size", exchange.requestBytes),
        number("http.response.body.size", exchange.responseBytes),
        ...(end.grpcStatus === undefined ? [] : [number("rpc.grpc.status_code", end.grpcStatus)]),
      ],
      status: { message: end.error ?? "", code: failed ? SPAN_STATUS.error : SPAN_STATUS.unset },
    });
  }
}

/** @param ms since the epoch */
const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1_000)) * 1_000n;

const number = (key: string, intValue: number): Attribute => ({ key, value: { intValue } });

function attributes(values: Readonly<Record<string, string>>): Attribute[] {
  return Object.entries(values)
    .filter(([, value]) => value !== "")
    .map(([key, value]) => ({ key, value: { stringValue: value.slice(0, MAX_VALUE) } }));
}

/**
 * What a pod says of itself: OTEL_RESOURCE_ATTRIBUTES wins over the extra attributes, these over the labels' file
 * (lines of `key="value"`, as the downward API writes them), and all over the service's name.
 */
export function resourceAttributes(sources: {
  readonly otel: string | undefined;
  readonly extra: string | undefined;
  readonly labels: string | undefined;
  readonly serviceName: string;
}): Record<string, string> {
  return {
    "service.name": sources.serviceName,
    ...pairs(sources.labels ?? "", /\n/),
    ...pairs(sources.extra ?? "", sources.extra?.includes("\n") ? /\n/ : /,/),
    ...pairs(sources.otel ?? "", /,/),
  };
}

function pairs(text: string, separator: RegExp): Record<string, string> {
  const out: Record<string, string> = {};
  for (const part of text.slice(0, 16_384).split(separator)) {
    const at = part.indexOf("=");
    if (at <= 0) continue;
    const value = part.slice(at + 1).trim();
    out[part.slice(0, at).trim()] = /^".*"$/.test(value) ? value.slice(1, -1) : value;
  }
  return out;
}
