// Which protocol a connection is taken for, and where outbound connections go: from what the control plane said
// about a port or an address (reference/data-planes.md §1.4, §1.7).

import type { MessageOf } from "../api/codec.ts";
import type { DestinationProfile, WeightedAddr } from "../api/destination.ts";
import type { Server } from "../api/inbound.ts";
import type { Backend, HttpRoute, OpaqueRoute, OutboundPolicy } from "../api/outbound.ts";
import { durationMs } from "../api/time.ts";
import type { Trace } from "./trace.ts";

/**
 * - `opaque`: bytes, without a look at them (inbound: not even for mesh TLS)
 * - `tls`: bytes after mesh TLS
 * - `detect`: by the first bytes, opaque when undecided in time
 * - `http1`, `http2`: known
 */
export type ProtocolMode = "opaque" | "tls" | "detect" | "http1" | "http2";

export interface InboundProtocol {
  readonly mode: ProtocolMode;
  /** How long detection waits for bytes, ms. */
  readonly timeout: number;
}

/** How an inbound port is read. undefined: the policy says nothing this proxy understands. */
export function inboundProtocol(
  server: MessageOf<typeof Server>,
  defaultTimeout: number,
  trace?: Trace,
): InboundProtocol | undefined {
  const { detect, opaque, tls, http1, http2, grpc } = server.protocol ?? {};
  const mode: ProtocolMode | undefined = opaque
    ? "opaque"
    : tls
      ? "tls"
      : detect
        ? "detect"
        : http1
          ? "http1"
          : http2 || grpc
            ? "http2"
            : undefined;
  trace?.add("server protocol", mode !== undefined, mode ?? "none that this proxy knows");
  if (!mode) return undefined;
  return { mode, timeout: detect?.timeout ? durationMs(detect.timeout) : defaultTimeout };
}

/** Where an outbound destination's traffic goes. */
export type Target =
  /** Balanced over the endpoints that discovery names for `path`. */
  | { readonly kind: "balance"; readonly path: string }
  /** To one known endpoint. */
  | { readonly kind: "endpoint"; readonly endpoint: MessageOf<typeof WeightedAddr> }
  /** To the original address, as if there were no mesh. */
  | { readonly kind: "original" };

export interface OutboundProtocol {
  readonly mode: ProtocolMode;
  readonly timeout: number;
  readonly http: Target;
  readonly opaque: Target;
  /** The name of the service, `name:port`, for labels; undefined for bare addresses. */
  readonly authority: string | undefined;
}

const ORIGINAL: Target = { kind: "original" };

/**
 * How an outbound destination is read and where it goes, from the answers of both look-ups (null: none).
 * The profile may mark a destination opaque; the policy's routes name the backends; a profile's endpoint or
 * name stands in where there is no policy.
 */
export function outboundProtocol(
  profile: MessageOf<typeof DestinationProfile> | null,
  policy: MessageOf<typeof OutboundPolicy> | null,
  port: number,
  defaultTimeout: number,
  trace?: Trace,
): OutboundProtocol {
  const protocol = policy?.protocol;
  const fallback = fallbackTarget(profile, port, trace);
  const http =
    firstTarget(
      protocol?.detect?.http1?.routes ??
        protocol?.http1?.routes ??
        protocol?.detect?.http2?.routes ??
        protocol?.http2?.routes,
    ) ?? fallback;
  const opaque =
    firstTarget(protocol?.detect?.opaque?.routes ?? protocol?.opaque?.routes) ??
    (protocol?.opaque ? fallback : http);
  let mode: ProtocolMode = "detect";
  if (profile?.opaqueProtocol) {
    mode = "opaque";
    trace?.add("profile", true, "it marks the destination opaque");
  } else if (protocol?.opaque || protocol?.tls) {
    mode = "opaque";
    trace?.add("policy", true, `its protocol is ${protocol.opaque ? "opaque" : "tls"}`);
  } else if (protocol?.http1) mode = "http1";
  else if (protocol?.http2 || protocol?.grpc) mode = "http2";
  trace?.add("protocol", true, mode);
  const name = profile?.fullyQualifiedName;
  return {
    mode,
    timeout: protocol?.detect?.timeout ? durationMs(protocol.detect.timeout) : defaultTimeout,
    http,
    opaque,
    authority: name ? `${name}:${port}` : undefined,
  };
}

function fallbackTarget(
  profile: MessageOf<typeof DestinationProfile> | null,
  port: number,
  trace: Trace | undefined,
): Target {
  if (profile?.endpoint) {
    trace?.add("profile", true, "it names one endpoint");
    return { kind: "endpoint", endpoint: profile.endpoint };
  }
  if (profile?.fullyQualifiedName) {
    trace?.add("profile", true, `it names the service ${profile.fullyQualifiedName}`);
    return { kind: "balance", path: `${profile.fullyQualifiedName}:${port}` };
  }
  trace?.add("profile", false, "it names neither service nor endpoint: the original address is used");
  return ORIGINAL;
}

function targetOf(backend: MessageOf<typeof Backend> | undefined): Target | undefined {
  const path = backend?.balancer?.discovery?.dst?.path;
  if (path) return { kind: "balance", path };
  return backend?.forward ? { kind: "endpoint", endpoint: backend.forward } : undefined;
}

/** The backend of the first rule that has one: a Service's default route has exactly one. */
function firstTarget(
  routes: readonly (MessageOf<typeof HttpRoute> | MessageOf<typeof OpaqueRoute>)[] | undefined,
): Target | undefined {
  for (const route of routes ?? []) {
    for (const { backends } of route.rules) {
      const first = backends?.firstAvailable?.backends[0] ?? backends?.randomAvailable?.backends[0]?.backend;
      const target = targetOf(first?.backend);
      if (target) return target;
    }
  }
  return undefined;
}
