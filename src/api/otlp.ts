// opentelemetry.proto: what is needed of it to export spans.
import {
  bytes,
  embed,
  enumeration,
  fixed64,
  int64,
  member,
  message,
  method,
  repeated,
  string,
} from "./codec.ts";

const common = (short: string) => `opentelemetry.proto.common.v1.${short}`;
const trace = (short: string) => `opentelemetry.proto.trace.v1.${short}`;

export const AnyValue = message(common("AnyValue"), {
  stringValue: member(string(1)),
  intValue: member(int64(3)),
});
export const KeyValue = message(common("KeyValue"), { key: string(1), value: embed(2, () => AnyValue) });
export const InstrumentationScope = message(common("InstrumentationScope"), {
  name: string(1),
  version: string(2),
});

export const Resource = message("opentelemetry.proto.resource.v1.Resource", {
  attributes: repeated(embed(1, () => KeyValue)),
});

export const Status = message(trace("Status"), { message: string(2), code: enumeration(3) });

/** Values of Span.kind. */
export const SPAN_KIND = { server: 2, client: 3 } as const;
/** Values of Status.code. */
export const SPAN_STATUS = { unset: 0, error: 2 } as const;

export const Span = message(trace("Span"), {
  traceId: bytes(1),
  spanId: bytes(2),
  traceState: string(3),
  parentSpanId: bytes(4),
  name: string(5),
  kind: enumeration(6),
  startTimeUnixNano: fixed64(7),
  endTimeUnixNano: fixed64(8),
  attributes: repeated(embed(9, () => KeyValue)),
  status: embed(15, () => Status),
});

export const ScopeSpans = message(trace("ScopeSpans"), {
  scope: embed(1, () => InstrumentationScope),
  spans: repeated(embed(2, () => Span)),
});
export const ResourceSpans = message(trace("ResourceSpans"), {
  resource: embed(1, () => Resource),
  scopeSpans: repeated(embed(2, () => ScopeSpans)),
});

export const ExportTraceServiceRequest = message(
  "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
  { resourceSpans: repeated(embed(1, () => ResourceSpans)) },
);
export const ExportTraceServiceResponse = message(
  "opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse",
  {},
);

export const Export = method(
  "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
  ExportTraceServiceRequest,
  ExportTraceServiceResponse,
);
