// What people read of the mesh's own errors: why each comes about and what to do. Beside the catalogue (passport.ts),
// whose keys it has, since every proxy carries that one.
import { PASSPORTS, type Passport, type PassportKey } from "./passport.ts";

export interface PassportHelp {
  readonly cause: string;
  readonly remedy: string;
}

/** An entry of the catalogue with all there is to say of it. */
export type ExplainedPassport = Passport & PassportHelp;

const CLIENT_FIX =
  "Fix the client: its bytes could be read as a different request by another server on the way.";
const SERVER_FIX = "Fix the server that answers: look at its own log and at the raw bytes it sends.";

const HELP: Readonly<Record<PassportKey, PassportHelp>> = {
  "request-line": {
    cause: "The first line is not `METHOD target HTTP/1.x`.",
    remedy: CLIENT_FIX,
  },
  "http-version": {
    cause: "The request names an HTTP version other than 1.0 or 1.1.",
    remedy: "Use HTTP/1.1, or HTTP/2 with its own preface.",
  },
  "header-syntax": {
    cause:
      "A header name is empty, folded, or holds a character that is not allowed (such as a space before the colon).",
    remedy: CLIENT_FIX,
  },
  "line-ending": {
    cause: "A line of the head ends in a bare CR or LF, or holds a control character.",
    remedy: CLIENT_FIX,
  },
  "content-length": {
    cause: "Content-Length is not a plain decimal number.",
    remedy: CLIENT_FIX,
  },
  "ambiguous-length": {
    cause:
      "The message states its length more than once (two Content-Length, or one with Transfer-Encoding).",
    remedy: CLIENT_FIX,
  },
  "transfer-encoding": {
    cause: "Transfer-Encoding is repeated, not `chunked`, or used with HTTP/1.0.",
    remedy: CLIENT_FIX,
  },
  "duplicate-host": {
    cause: "The request has more than one Host header.",
    remedy: CLIENT_FIX,
  },
  "head-too-large": {
    cause: "The head is over 64 KiB or has more than 100 header lines.",
    remedy: "Send smaller headers: look for cookies or tokens that grow.",
  },
  chunk: {
    cause: "The request body does not follow chunked coding.",
    remedy: CLIENT_FIX,
  },
  "head-timeout": {
    cause: "The client began a request and did not finish its head within 30 s.",
    remedy:
      "Look for a stalled or overloaded client; slow requests are cut so that they cannot hold the proxy.",
  },
  unauthorized: {
    cause: "No authorization of the server's policy admits this client.",
    remedy:
      "See `kubectl mesh authz` for what admits whom; mesh the client, or add an AuthorizationPolicy or change the default inbound policy.",
  },
  "invalid-policy": {
    cause: "The control plane sent a policy that this proxy cannot apply, so nothing is let through.",
    remedy: "Bring control plane and proxies to one version: `kubectl mesh check --proxy`.",
  },
  "rate-limited": {
    cause: "The server's local rate limit admits no more requests of this client in this second.",
    remedy: "Slow the client, or raise the limit: `kubectl get httplocalratelimitpolicies`.",
  },
  "fail-fast": {
    cause: "The destination has had no endpoint that can be used for longer than the fail-fast timeout.",
    remedy: "See whether its pods are ready: `kubectl get endpointslices`, `kubectl get pods`.",
  },
  loop: {
    cause: "The destination is this proxy itself, or an address of its own loopback.",
    remedy: "Call the address of the service, not a port of the proxy (4140, 4143).",
  },
  "no-route": {
    cause: "No route of the destination matches the request.",
    remedy: "Compare the request with the routes of the service: `kubectl get httproutes`.",
  },
  "fault-injected": {
    cause: "A route of the destination answers a share of its requests with a failure, on purpose.",
    remedy: "Nothing, if it is a test; else take the filter out of the route.",
  },
  "request-timeout": {
    cause: "The request, with all its tries, took longer than its route or the caller allows.",
    remedy:
      "See where the time goes: `kubectl mesh stat`; raise `timeout.linkerd.io/request` if the work takes so long.",
  },
  "response-timeout": {
    cause: "No response began within the time that the route or the caller allows for one try.",
    remedy: "See how long the server takes; raise `timeout.linkerd.io/response` if the work takes so long.",
  },
  "idle-timeout": {
    cause:
      "Neither side sent a byte for as long as the route allows; or one had ended, and the other was silent for 5 min.",
    remedy: "Raise `timeout.linkerd.io/idle`, or let the application send something from time to time.",
  },
  connect: {
    cause:
      "The connection to the endpoint was refused or reset while it was made; every endpoint tried did so.",
    remedy:
      "See whether the process listens on the port on all addresses of its pod, and whether a NetworkPolicy blocks the way.",
  },
  "connect-timeout": {
    cause: "The endpoint did not accept the connection in time.",
    remedy: "Maybe a NetworkPolicy or a firewall drops the packets, or the endpoint is overloaded.",
  },
  "upstream-closed": {
    cause: "The endpoint closed the connection after the request was sent and before a response.",
    remedy:
      "Look at the log of the server for a crash; if it closes idle connections early, raise its keep-alive timeout.",
  },
  "bad-response": {
    cause: "The endpoint's answer is not valid HTTP/1.",
    remedy: SERVER_FIX,
  },
  "unexpected-upgrade": {
    cause: "The endpoint answered 101 to a request that asked for no upgrade.",
    remedy: SERVER_FIX,
  },
  "stream-reset": {
    cause: "The endpoint, or its proxy, ended the request's HTTP/2 stream before the response was complete.",
    remedy:
      "The reset's code tells why: look at the log of the server, and for limits on time or streams that it sets.",
  },
  "tls-identity": {
    cause: "The peer's certificate does not carry the identity that discovery names for the endpoint.",
    remedy:
      "The address may have been taken over by another pod: the next endpoint update corrects it. If it stays, compare `kubectl mesh identity` with the endpoint's service account.",
  },
  "tls-handshake": {
    cause: "The TLS handshake with the peer failed.",
    remedy: "Compare the trust anchors of both sides: `kubectl mesh check --proxy`.",
  },
  "no-certificate": {
    cause: "This proxy has no certificate yet, or its certificate has expired.",
    remedy: "See the proxy's log and `kubectl -n mesh-system logs deploy/mesh-identity`.",
  },
  "direct-unauthenticated": {
    cause:
      "A connection to the proxy's own port 4143 came without mesh TLS, a client certificate or the transport header.",
    remedy: "Only proxies dial this port; applications call the service's port.",
  },
  "load-shed": {
    cause: "More requests wait than the proxy allows, or it holds more bytes in its buffers than it may.",
    remedy: "Scale the destination, or slow the callers; see `mesh_buffer_bytes` of the proxy's metrics.",
  },
  shutdown: {
    cause: "The proxy is ending and its deadline has passed.",
    remedy: "Nothing, if it is a rollout; else raise the shutdown grace period.",
  },
  "connection-limit": {
    cause:
      "As many connections are open as this side of the proxy may have; further ones are closed as they come.",
    remedy:
      "Find the client that opens so many (`tcp_open_connections`), or raise LINKERD2_PROXY_INBOUND_MAX_CONNECTIONS or LINKERD2_PROXY_OUTBOUND_MAX_CONNECTIONS with `config.linkerd.io/proxy-additional-env`.",
  },
  "out-of-sockets": {
    cause:
      "The proxy could not make a connection: it has no descriptor, port or kernel memory left. The endpoint is not to blame.",
    remedy:
      "Look at `process_open_fds` and `process_max_fds`, and at how many connections go to one address: some 28,000 ports can be used for each.",
  },
};

/** The whole catalogue, in the order of its codes. */
export const EXPLAINED: readonly ExplainedPassport[] = Object.entries(PASSPORTS).map(([key, passport]) => ({
  ...passport,
  ...HELP[key as PassportKey],
}));

/** The entry with this code (`MESH-201`, any case, or just `201`). */
export function findPassport(code: string): ExplainedPassport | undefined {
  const wanted = code.toUpperCase().replace(/^(MESH-)?/, "MESH-");
  return EXPLAINED.find((passport) => passport.code === wanted);
}
