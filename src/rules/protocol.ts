// Which protocol a connection is taken for, and where outbound connections go: from what the control plane said
// about a port or an address (reference/data-planes.md §1.4, §1.7).

import type { MessageOf } from "../api/codec.ts";
import type { DestinationProfile } from "../api/destination.ts";
import type { Server } from "../api/inbound.ts";
import type {
  GrpcRoute,
  HttpRoute,
  OpaqueRoute,
  OpaqueRouteBackend,
  OpaqueRouteFilter,
  OutboundPolicy,
  TlsRoute,
} from "../api/outbound.ts";
import { durationMs } from "../api/time.ts";
import type { SniMatch } from "../api/tls-route.ts";
import type { Distribution, Weighted } from "./distribution.ts";
import {
  hasProfileRoutes,
  type OutboundRoutes,
  plainRoutes,
  policyRoutes,
  profileRoutes,
  type Target,
  targetOf,
} from "./outbound-routes.ts";
import { PolicyError } from "./policy-error.ts";
import { type RouteRef, refOf, refText } from "./route-match.ts";
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

/** Where connections of bytes may go. */
export interface OpaqueBackend extends Weighted {
  readonly target: Target;
}

/** A route of connections of bytes. */
export interface ByteRoute {
  readonly distribution: Distribution<OpaqueBackend>;
  readonly ref: RouteRef;
}

export interface TlsRoutes {
  readonly backends: readonly OpaqueBackend[];
  find(sni: string | undefined): ByteRoute | undefined;
}

export interface OutboundProtocol {
  readonly mode: ProtocolMode;
  readonly timeout: number;
  /** Of HTTP/1 and of HTTP/2 requests; undefined: the policy cannot be applied. */
  readonly http1: OutboundRoutes | undefined;
  readonly http2: OutboundRoutes | undefined;
  readonly opaque: ByteRoute;
  /** Of TLS connections, by the server name that they ask for; undefined: they are not told apart. */
  readonly tls: TlsRoutes | undefined;
  /** The name of the service, `name:port`, for labels; undefined for bare addresses. */
  readonly authority: string | undefined;
  /** What the policy is of; undefined without one. */
  readonly parent: RouteRef | undefined;
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
  const { detect, grpc } = protocol ?? {};
  const first = (protocol?.http1 ?? detect?.http1)?.routes;
  const second = (protocol?.http2 ?? detect?.http2)?.routes;
  const routes = (http: typeof first) => compileRoutes(profile, http, grpc?.routes, fallback, trace);
  const http1 = routes(first ?? second);
  const http2 = second === undefined ? http1 : routes(second);
  const opaque = byteRoute(detect?.opaque?.routes ?? protocol?.opaque?.routes) ?? {
    distribution: onlyBackend(protocol?.opaque ? fallback : (http1?.only?.target ?? fallback)),
    ref: refOf(undefined),
  };
  let mode: ProtocolMode = "detect";
  if (profile?.opaqueProtocol) {
    mode = "opaque";
    trace?.add("profile", true, "it marks the destination opaque");
  } else if (protocol?.opaque || protocol?.tls) {
    mode = protocol.opaque ? "opaque" : "tls";
    trace?.add("policy", true, `its protocol is ${mode}`);
  } else if (protocol?.http1) mode = "http1";
  else if (protocol?.http2 || protocol?.grpc) mode = "http2";
  trace?.add("protocol", true, mode);
  const name = profile?.fullyQualifiedName;
  return {
    mode,
    timeout: protocol?.detect?.timeout ? durationMs(protocol.detect.timeout) : defaultTimeout,
    http1,
    http2,
    opaque,
    tls: protocol?.tls && compileTlsRoutes(protocol.tls.routes),
    authority: name ? `${name}:${port}` : undefined,
    parent: policy?.metadata && refOf(policy.metadata),
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

/** A profile with routes wins over the policy's; without either there is one way for everything. */
function compileRoutes(
  profile: MessageOf<typeof DestinationProfile> | null,
  http: readonly MessageOf<typeof HttpRoute>[] | undefined,
  grpc: readonly MessageOf<typeof GrpcRoute>[] | undefined,
  fallback: Target,
  trace: Trace | undefined,
): OutboundRoutes | undefined {
  try {
    if (hasProfileRoutes(profile)) {
      trace?.add("profile", true, "it has routes, so the policy's are not looked at");
      return profileRoutes(profile, fallback);
    }
    return http || grpc ? policyRoutes(http, grpc) : plainRoutes(fallback);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    trace?.add("routes", false, error.message);
    return undefined;
  }
}

const onlyBackend = (target: Target): Distribution<OpaqueBackend> => ({
  kind: "first",
  backends: [{ target, weight: 1, text: target.kind }],
});

/** The first rule that has backends; what its filters refuse goes nowhere. */
function byteRoute(
  routes: readonly Pick<MessageOf<typeof OpaqueRoute>, "rules" | "metadata">[] | undefined,
): ByteRoute | undefined {
  for (const route of routes ?? []) {
    const ref = refOf(route.metadata);
    for (const { backends, filters } of route.rules) {
      const refused = refusalOf(filters);
      if (refused) return { ref, distribution: onlyBackend(refused) };
      const { firstAvailable, randomAvailable } = backends ?? {};
      const found = firstAvailable
        ? firstAvailable.backends.map((backend) => opaqueBackend(backend, 1))
        : (randomAvailable?.backends ?? []).map(({ backend, weight }) => opaqueBackend(backend, weight));
      if (found.length > 0)
        return { ref, distribution: { kind: firstAvailable ? "first" : "random", backends: found } };
    }
  }
  return undefined;
}

function opaqueBackend(
  message: MessageOf<typeof OpaqueRouteBackend> | undefined,
  weight: number,
): OpaqueBackend {
  const text = refText(refOf(message?.backend?.metadata));
  const target = refusalOf(message?.filters) ??
    targetOf(message?.backend) ?? {
      kind: "nowhere",
      refusal: "no-route",
      why: `there is no way to ${text}`,
    };
  return { target, weight, text };
}

/** What filters of bytes say: nothing of them goes on. */
function refusalOf(filters: readonly MessageOf<typeof OpaqueRouteFilter>[] | undefined): Target | undefined {
  for (const { forbidden, invalid } of filters ?? []) {
    if (forbidden) return { kind: "nowhere", refusal: "unauthorized", why: "the policy forbids it" };
    if (invalid) return { kind: "nowhere", refusal: "no-route", why: invalid.message };
  }
  return undefined;
}

/** The most specific route for a server name: an exact name, then the longest suffix, then one without names. */
function compileTlsRoutes(routes: readonly MessageOf<typeof TlsRoute>[]): TlsRoutes {
  const compiled = routes.flatMap(({ snis, rules, metadata }) => {
    const route = byteRoute([{ rules, metadata }]);
    return route ? [{ route, names: snis.map(compileSni) }] : [];
  });
  return {
    backends: compiled.flatMap(({ route }) => route.distribution.backends),
    find(sni) {
      let best: ByteRoute | undefined;
      let bestRank = -1;
      for (const { route, names } of compiled) {
        const rank = names.length === 0 ? 0 : Math.max(...names.map((name) => sniRank(name, sni)));
        if (rank > bestRank) [best, bestRank] = [route, rank];
      }
      return best;
    },
  };
}

function compileSni({ exact, suffix }: MessageOf<typeof SniMatch>): string {
  return exact?.toLowerCase() ?? `.${[...(suffix?.reverseLabels ?? [])].reverse().join(".").toLowerCase()}`;
}

function sniRank(name: string, sni: string | undefined): number {
  if (sni === undefined) return -1;
  if (!name.startsWith(".")) return name === sni ? Number.MAX_SAFE_INTEGER : -1;
  return sni.endsWith(name) && sni.length > name.length ? name.length : -1;
}
