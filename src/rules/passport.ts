// The catalogue of the errors that the mesh itself makes. One entry gives the answer to the caller (HTTP, gRPC),
// the log line, the metric's `error` label, `kubectl mesh explain CODE` and the docs page.
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
  readonly cause: string;
  readonly remedy: string;
}

const entry = (
  code: number,
  status: number,
  grpcStatus: number,
  metric: string,
  text: string,
  cause: string,
  remedy: string,
): Passport => ({ code: `MESH-${code}`, status, grpcStatus, metric, text, cause, remedy });

const CLIENT_FIX =
  "Fix the client: its bytes could be read as a different request by another server on the way.";
const SERVER_FIX = "Fix the server that answers: look at its own log and at the raw bytes it sends.";

export const PASSPORTS = {
  "request-line": entry(
    101,
    400,
    13,
    "bad request",
    "invalid request line",
    "The first line is not `METHOD target HTTP/1.x`.",
    CLIENT_FIX,
  ),
  "http-version": entry(
    102,
    505,
    13,
    "bad request",
    "unsupported HTTP version",
    "The request names an HTTP version other than 1.0 or 1.1.",
    "Use HTTP/1.1, or HTTP/2 with its own preface.",
  ),
  "header-syntax": entry(
    103,
    400,
    13,
    "bad request",
    "invalid header line",
    "A header name is empty, folded, or holds a character that is not allowed (such as a space before the colon).",
    CLIENT_FIX,
  ),
  "line-ending": entry(
    104,
    400,
    13,
    "bad request",
    "invalid line ending",
    "A line of the head ends in a bare CR or LF, or holds a control character.",
    CLIENT_FIX,
  ),
  "content-length": entry(
    105,
    400,
    13,
    "bad request",
    "invalid content-length",
    "Content-Length is not a plain decimal number.",
    CLIENT_FIX,
  ),
  "ambiguous-length": entry(
    106,
    400,
    13,
    "bad request",
    "ambiguous message length",
    "The message states its length more than once (two Content-Length, or one with Transfer-Encoding).",
    CLIENT_FIX,
  ),
  "transfer-encoding": entry(
    107,
    400,
    13,
    "bad request",
    "unsupported transfer-encoding",
    "Transfer-Encoding is repeated, not `chunked`, or used with HTTP/1.0.",
    CLIENT_FIX,
  ),
  "duplicate-host": entry(
    108,
    400,
    13,
    "bad request",
    "more than one host header",
    "The request has more than one Host header.",
    CLIENT_FIX,
  ),
  "head-too-large": entry(
    109,
    431,
    8,
    "request head too large",
    "request head too large",
    "The head is over 64 KiB or has more than 100 header lines.",
    "Send smaller headers: look for cookies or tokens that grow.",
  ),
  chunk: entry(
    110,
    400,
    13,
    "bad request",
    "invalid chunked body",
    "The request body does not follow chunked coding.",
    CLIENT_FIX,
  ),
  "head-timeout": entry(
    111,
    408,
    4,
    "request head timeout",
    "request head not received in time",
    "The client began a request and did not finish its head within 30 s.",
    "Look for a stalled or overloaded client; slow requests are cut so that they cannot hold the proxy.",
  ),

  unauthorized: entry(
    201,
    403,
    7,
    "unauthorized",
    "unauthorized request on route",
    "No authorization of the server's policy admits this client.",
    "See `kubectl mesh authz` for what admits whom; mesh the client, or add an AuthorizationPolicy or change the default inbound policy.",
  ),
  "invalid-policy": entry(
    202,
    500,
    13,
    "invalid policy",
    "invalid policy",
    "The control plane sent a policy that this proxy cannot apply, so nothing is let through.",
    "Bring control plane and proxies to one version: `kubectl mesh check --proxy`.",
  ),
  "rate-limited": entry(
    203,
    429,
    8,
    "rate limited",
    "rate limit exceeded",
    "The server's local rate limit admits no more requests of this client in this second.",
    "Slow the client, or raise the limit: `kubectl get httplocalratelimitpolicies`.",
  ),

  "fail-fast": entry(
    301,
    504,
    4,
    "fail-fast",
    "service in fail-fast",
    "The destination has had no endpoint that can be used for longer than the fail-fast timeout.",
    "See whether its pods are ready: `kubectl get endpointslices`, `kubectl get pods`.",
  ),
  loop: entry(
    302,
    508,
    10,
    "loop detected",
    "loop detected",
    "The destination is this proxy itself, or an address of its own loopback.",
    "Call the address of the service, not a port of the proxy (4140, 4143).",
  ),
  "no-route": entry(
    303,
    404,
    5,
    "no route",
    "no route found for request",
    "No route of the destination matches the request.",
    "Compare the request with the routes of the service: `kubectl get httproutes`.",
  ),
  "fault-injected": entry(
    304,
    503,
    14,
    "fault injected",
    "fault injected by a route",
    "A route of the destination answers a share of its requests with a failure, on purpose.",
    "Nothing, if it is a test; else take the filter out of the route.",
  ),
  "request-timeout": entry(
    305,
    504,
    4,
    "request timeout",
    "request timed out",
    "The request, with all its tries, took longer than its route or the caller allows.",
    "See where the time goes: `kubectl mesh stat`; raise `timeout.linkerd.io/request` if the work takes so long.",
  ),
  "response-timeout": entry(
    306,
    504,
    4,
    "response timeout",
    "response headers timed out",
    "No response began within the time that the route or the caller allows for one try.",
    "See how long the server takes; raise `timeout.linkerd.io/response` if the work takes so long.",
  ),
  "idle-timeout": entry(
    307,
    504,
    4,
    "stream idle timeout",
    "stream idle for too long",
    "Neither side sent a byte for as long as the route allows; or one had ended, and the other was silent for 5 min.",
    "Raise `timeout.linkerd.io/idle`, or let the application send something from time to time.",
  ),

  connect: entry(
    401,
    502,
    14,
    "connect",
    "connection failed",
    "The connection to the endpoint was refused or reset while it was made; every endpoint tried did so.",
    "See whether the process listens on the port on all addresses of its pod, and whether a NetworkPolicy blocks the way.",
  ),
  "connect-timeout": entry(
    402,
    504,
    4,
    "connect timeout",
    "connect timed out",
    "The endpoint did not accept the connection in time.",
    "Maybe a NetworkPolicy or a firewall drops the packets, or the endpoint is overloaded.",
  ),
  "upstream-closed": entry(
    403,
    502,
    14,
    "upstream closed",
    "upstream connection closed before the response",
    "The endpoint closed the connection after the request was sent and before a response.",
    "Look at the log of the server for a crash; if it closes idle connections early, raise its keep-alive timeout.",
  ),
  "bad-response": entry(
    404,
    502,
    14,
    "bad response",
    "invalid response from upstream",
    "The endpoint's answer is not valid HTTP/1.",
    SERVER_FIX,
  ),
  "unexpected-upgrade": entry(
    405,
    502,
    14,
    "bad response",
    "upstream switched protocols unasked",
    "The endpoint answered 101 to a request that asked for no upgrade.",
    SERVER_FIX,
  ),
  "stream-reset": entry(
    406,
    502,
    14,
    "stream reset",
    "upstream reset the stream",
    "The endpoint, or its proxy, ended the request's HTTP/2 stream before the response was complete.",
    "The reset's code tells why: look at the log of the server, and for limits on time or streams that it sets.",
  ),

  "tls-identity": entry(
    501,
    502,
    14,
    "identity mismatch",
    "required identity not presented",
    "The peer's certificate does not carry the identity that discovery names for the endpoint.",
    "The address may have been taken over by another pod: the next endpoint update corrects it. If it stays, compare `kubectl mesh identity` with the endpoint's service account.",
  ),
  "tls-handshake": entry(
    502,
    502,
    14,
    "tls handshake",
    "TLS handshake failed",
    "The TLS handshake with the peer failed.",
    "Compare the trust anchors of both sides: `kubectl mesh check --proxy`.",
  ),
  "no-certificate": entry(
    503,
    503,
    14,
    "no certificate",
    "no certificate yet",
    "This proxy has no certificate yet, or its certificate has expired.",
    "See the proxy's log and `kubectl -n mesh-system logs deploy/mesh-identity`.",
  ),
  "direct-unauthenticated": entry(
    504,
    0,
    16,
    "direct connection without identity",
    "direct connections need a client certificate",
    "A connection to the proxy's own port 4143 came without mesh TLS, a client certificate or the transport header.",
    "Only proxies dial this port; applications call the service's port.",
  ),

  "load-shed": entry(
    601,
    503,
    14,
    "load shed",
    "service overloaded",
    "More requests wait than the proxy allows, or it holds more bytes in its buffers than it may.",
    "Scale the destination, or slow the callers; see `mesh_buffer_bytes` of the proxy's metrics.",
  ),
  shutdown: entry(
    602,
    503,
    14,
    "shutting down",
    "proxy shutting down",
    "The proxy is ending and its deadline has passed.",
    "Nothing, if it is a rollout; else raise the shutdown grace period.",
  ),
  "connection-limit": entry(
    603,
    0,
    14,
    "connection limit",
    "too many connections",
    "As many connections are open as this side of the proxy may have; further ones are closed as they come.",
    "Find the client that opens so many (`tcp_open_connections`), or raise LINKERD2_PROXY_INBOUND_MAX_CONNECTIONS or LINKERD2_PROXY_OUTBOUND_MAX_CONNECTIONS with `config.linkerd.io/proxy-additional-env`.",
  ),
  "out-of-sockets": entry(
    604,
    503,
    14,
    "out of sockets",
    "no socket left for the connection",
    "The proxy could not make a connection: it has no descriptor, port or kernel memory left. The endpoint is not to blame.",
    "Look at `process_open_fds` and `process_max_fds`, and at how many connections go to one address: some 28,000 ports can be used for each.",
  ),
} as const satisfies Record<string, Passport>;

export type PassportKey = keyof typeof PASSPORTS;

/** The entry with this code (`MESH-201`, any case, or just `201`), with its key. */
export function findPassport(code: string): { key: PassportKey; passport: Passport } | undefined {
  const wanted = code.toUpperCase().replace(/^(MESH-)?/, "MESH-");
  for (const [key, passport] of Object.entries(PASSPORTS)) {
    if (passport.code === wanted) return { key: key as PassportKey, passport };
  }
  return undefined;
}
