// The catalogue of the errors that the mesh itself makes. One entry gives the answer to the caller (HTTP, gRPC),
// the log line, the metric's `error` label, `kubectl mesh explain CODE` and the docs page. What people read of an entry,
// its cause and what to do, is in passport-help.ts: a proxy needs none of it.
//
// Codes are for ever: an entry may be reworded, never renumbered. Hundreds: 1 the request's framing, 2 permission,
// 3 where to send it, 4 the upstream connection, 5 TLS and identity, 6 overload and shutdown.
// Statuses are Linkerd's (reference/data-planes.md §1.13) wherever it has the case.

export interface Passport {
  /** Stable, e.g. `MESH-201`. */
  readonly code: string;
  /** HTTP status of the answer; 0 when there is nobody to answer (the connection is closed). */
  readonly status: number;
  readonly grpcStatus: number;
  /** Text of the `l5d-proxy-error` header. */
  readonly text: string;
  /** Value of the `error` label of *_errors_total. */
  readonly metric: string;
}

const entry = (code: number, status: number, grpcStatus: number, metric: string, text: string): Passport => ({
  code: `MESH-${code}`,
  status,
  grpcStatus,
  metric,
  text,
});

export const PASSPORTS = {
  "request-line": entry(101, 400, 13, "bad request", "invalid request line"),
  "http-version": entry(102, 505, 13, "bad request", "unsupported HTTP version"),
  "header-syntax": entry(103, 400, 13, "bad request", "invalid header line"),
  "line-ending": entry(104, 400, 13, "bad request", "invalid line ending"),
  "content-length": entry(105, 400, 13, "bad request", "invalid content-length"),
  "ambiguous-length": entry(106, 400, 13, "bad request", "ambiguous message length"),
  "transfer-encoding": entry(107, 400, 13, "bad request", "unsupported transfer-encoding"),
  "duplicate-host": entry(108, 400, 13, "bad request", "more than one host header"),
  "head-too-large": entry(109, 431, 8, "request head too large", "request head too large"),
  chunk: entry(110, 400, 13, "bad request", "invalid chunked body"),
  "head-timeout": entry(111, 408, 4, "request head timeout", "request head not received in time"),

  unauthorized: entry(201, 403, 7, "unauthorized", "unauthorized request on route"),
  "invalid-policy": entry(202, 500, 13, "invalid policy", "invalid policy"),
  "rate-limited": entry(203, 429, 8, "rate limited", "rate limit exceeded"),

  "fail-fast": entry(301, 504, 4, "fail-fast", "service in fail-fast"),
  loop: entry(302, 508, 10, "loop detected", "loop detected"),
  "no-route": entry(303, 404, 5, "no route", "no route found for request"),
  "fault-injected": entry(304, 503, 14, "fault injected", "fault injected by a route"),
  "request-timeout": entry(305, 504, 4, "request timeout", "request timed out"),
  "response-timeout": entry(306, 504, 4, "response timeout", "response headers timed out"),
  "idle-timeout": entry(307, 504, 4, "stream idle timeout", "stream idle for too long"),

  connect: entry(401, 502, 14, "connect", "connection failed"),
  "connect-timeout": entry(402, 504, 4, "connect timeout", "connect timed out"),
  "upstream-closed": entry(403, 502, 14, "upstream closed", "upstream connection closed before the response"),
  "bad-response": entry(404, 502, 14, "bad response", "invalid response from upstream"),
  "unexpected-upgrade": entry(405, 502, 14, "bad response", "upstream switched protocols unasked"),
  "stream-reset": entry(406, 502, 14, "stream reset", "upstream reset the stream"),

  "tls-identity": entry(501, 502, 14, "identity mismatch", "required identity not presented"),
  "tls-handshake": entry(502, 502, 14, "tls handshake", "TLS handshake failed"),
  "no-certificate": entry(503, 503, 14, "no certificate", "no certificate yet"),
  "direct-unauthenticated": entry(
    504,
    0,
    16,
    "direct connection without identity",
    "direct connections need a client certificate",
  ),

  "load-shed": entry(601, 503, 14, "load shed", "service overloaded"),
  shutdown: entry(602, 503, 14, "shutting down", "proxy shutting down"),
  "connection-limit": entry(603, 0, 14, "connection limit", "too many connections"),
  "out-of-sockets": entry(604, 503, 14, "out of sockets", "no socket left for the connection"),
} as const satisfies Record<string, Passport>;

export type PassportKey = keyof typeof PASSPORTS;
