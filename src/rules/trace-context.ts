// The context of a distributed trace in a request's header fields, in any of the forms that are in use, and the same
// context handed on with a new span: W3C (w3.org/TR/trace-context), gRPC's binary form (OpenCensus), and B3.

export interface TraceContext {
  /** 16 bytes, in lower-case hexadecimal. */
  readonly traceId: string;
  /** 8 bytes: the caller's span. */
  readonly spanId: string;
  readonly sampled: boolean;
  /** How it was told, and is told on. */
  readonly form: "w3c" | "grpc" | "b3-single" | "b3-multi";
  /** W3C's `tracestate`, handed on as it is. */
  readonly state: string;
}

const NO_TRACE = "0".repeat(32);
const NO_SPAN = "0".repeat(16);

/** The context of a request; undefined when it has none that can be read. @param get field values by name */
export function readTraceContext(get: (name: string) => string | undefined): TraceContext | undefined {
  return w3c(get) ?? grpc(get) ?? b3(get);
}

function context(
  traceId: string,
  spanId: string,
  sampled: boolean,
  form: TraceContext["form"],
  state = "",
): TraceContext | undefined {
  const padded = traceId.toLowerCase().padStart(32, "0");
  if (padded === NO_TRACE || spanId === NO_SPAN) return undefined;
  return { traceId: padded, spanId: spanId.toLowerCase(), sampled, form, state };
}

function w3c(get: (name: string) => string | undefined): TraceContext | undefined {
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(
    get("traceparent") ?? "",
  );
  // Version ff is none; version 00 has nothing behind the flags, later ones may have.
  if (!match || match[1] === "ff" || (match[1] === "00" && match[5] !== undefined)) return undefined;
  const state = get("tracestate") ?? "";
  const sampled = (Number.parseInt(match[4]!, 16) & 1) === 1;
  return context(match[2]!, match[3]!, sampled, "w3c", state.length <= 512 ? state : "");
}

function grpc(get: (name: string) => string | undefined): TraceContext | undefined {
  const text = get("grpc-trace-bin");
  if (text === undefined || text.length > 64) return undefined;
  const bytes = Buffer.from(text, "base64");
  // Version 0, then fields: 0 the trace, 1 the span, 2 the options.
  if (bytes.length !== 29 || bytes[0] !== 0 || bytes[1] !== 0 || bytes[18] !== 1 || bytes[27] !== 2)
    return undefined;
  return context(bytes.toString("hex", 2, 18), bytes.toString("hex", 19, 27), (bytes[28]! & 1) === 1, "grpc");
}

function b3(get: (name: string) => string | undefined): TraceContext | undefined {
  const single =
    /^([0-9a-fA-F]{16}|[0-9a-fA-F]{32})-([0-9a-fA-F]{16})(?:-([01d])(?:-[0-9a-fA-F]{16})?)?$/.exec(
      get("b3") ?? "",
    );
  if (single) return context(single[1]!, single[2]!, single[3] === "1" || single[3] === "d", "b3-single");
  const [trace, span] = [get("x-b3-traceid") ?? "", get("x-b3-spanid") ?? ""];
  if (!/^(?:[0-9a-fA-F]{16}){1,2}$/.test(trace) || !/^[0-9a-fA-F]{16}$/.test(span)) return undefined;
  const sampled = get("x-b3-flags") === "1" || /^(?:1|true)$/i.test(get("x-b3-sampled") ?? "");
  return context(trace, span, sampled, "b3-multi");
}

/** The fields that tell of `spanId` within the context's trace. */
export function traceFields(
  { traceId, spanId: parent, sampled, form }: TraceContext,
  spanId: string,
): readonly (readonly [name: string, value: string])[] {
  switch (form) {
    case "w3c":
      return [["traceparent", `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`]];
    case "grpc":
      return [
        [
          "grpc-trace-bin",
          Buffer.from(`0000${traceId}01${spanId}02${sampled ? "01" : "00"}`, "hex").toString("base64"),
        ],
      ];
    case "b3-single":
      return [["b3", `${traceId}-${spanId}-${sampled ? "1" : "0"}-${parent}`]];
    default:
      return [
        ["x-b3-traceid", traceId],
        ["x-b3-parentspanid", parent],
        ["x-b3-spanid", spanId],
        ["x-b3-sampled", sampled ? "1" : "0"],
      ];
  }
}
