// io.linkerd.proxy.outbound
import { bool, double, embed, float, member, message, method, repeated, string, uint32 } from "./codec.ts";
import { WeightedAddr } from "./destination.ts";
import { GrpcFailureInjector, GrpcRouteMatch } from "./grpc-route.ts";
import {
  HostMatch,
  HttpFailureInjector,
  HttpRouteMatch,
  PathModifier,
  Ratio,
  RequestHeaderModifier,
  RequestRedirect,
  ResponseHeaderModifier,
  Timeouts,
} from "./http-route.ts";
import { Metadata } from "./meta.ts";
import { TcpAddress } from "./net.ts";
import { Forbidden, Invalid } from "./opaque-route.ts";
import { Duration } from "./time.ts";
import { SniMatch } from "./tls-route.ts";

const name = (short: string) => `io.linkerd.proxy.outbound.${short}`;

export const TrafficSpec = message(name("TrafficSpec"), {
  sourceWorkload: string(1),
  addr: embed(2, () => TcpAddress),
  authority: member(string(3)),
});

// ---- backends ----

export const PeakEwma = message(name("Backend.BalanceP2c.PeakEwma"), {
  defaultRtt: embed(1, () => Duration),
  decay: embed(2, () => Duration),
});

export const PenaltyPeakEwma = message(name("Backend.BalanceP2c.PenaltyPeakEwma"), {
  defaultRtt: embed(1, () => Duration),
  decay: embed(2, () => Duration),
  penalty: embed(3, () => Duration),
  maxRetryAfter: embed(4, () => Duration),
  penaltyDecay: embed(5, () => Duration),
});

export const DestinationGet = message(name("Backend.EndpointDiscovery.DestinationGet"), { path: string(1) });
export const EndpointDiscovery = message(name("Backend.EndpointDiscovery"), {
  dst: embed(1, () => DestinationGet),
});

export const BalanceP2c = message(name("Backend.BalanceP2c"), {
  discovery: embed(1, () => EndpointDiscovery),
  peakEwma: embed(2, () => PeakEwma),
  penaltyPeakEwma: embed(3, () => PenaltyPeakEwma),
});

export const Queue = message(name("Queue"), {
  capacity: uint32(1),
  failfastTimeout: embed(2, () => Duration),
});

export const Backend = message(name("Backend"), {
  metadata: embed(1, () => Metadata),
  forward: embed(2, () => WeightedAddr),
  balancer: embed(3, () => BalanceP2c),
  queue: embed(4, () => Queue),
});

export const ExponentialBackoff = message(name("ExponentialBackoff"), {
  minBackoff: embed(1, () => Duration),
  maxBackoff: embed(2, () => Duration),
  jitterRatio: float(3),
  respectRetryAfterHint: bool(4),
});

export const ConsecutiveFailures = message(name("FailureAccrual.ConsecutiveFailures"), {
  maxFailures: uint32(1),
  backoff: embed(2, () => ExponentialBackoff),
});

export const Unified = message(name("FailureAccrual.Unified"), {
  successRateThreshold: double(1),
  decay: embed(2, () => Duration),
  minRequests: uint32(3),
  maxConsecutiveFailures: uint32(4),
  backoff: embed(5, () => ExponentialBackoff),
});

export const EjectionConfig = message(name("EjectionConfig"), { minReadyEndpoints: uint32(1) });

export const FailureAccrual = message(name("FailureAccrual"), {
  consecutiveFailures: embed(1, () => ConsecutiveFailures),
  unified: embed(2, () => Unified),
  ejection: embed(3, () => EjectionConfig),
});

// ---- filters of our own ----
//
// Gateway API has filters that linkerd2-proxy-api has no messages for. They travel beside `filters`, not in them: a proxy
// that does not know a kind of filter refuses the policy, while a field that it does not know it passes over. So
// Linkerd's own proxy serves such a route without them. The number is from the range that protobuf leaves to
// organisations' own use, which the proxy API will not take.

const own = (short: string) => `kubectl_mesh.proxy.outbound.${short}`;

/** Changes what the request names, on its way; HTTPURLRewriteFilter. */
export const UrlRewrite = message(own("UrlRewrite"), {
  /** Replaces Host or :authority; empty: it stays. */
  hostname: string(1),
  path: embed(2, () => PathModifier),
});

/** Sends a copy of requests to `backend`, and ignores the responses; HTTPRequestMirrorFilter. */
export const RequestMirror = message(own("RequestMirror"), {
  backend: embed(1, () => Backend),
  /** Of the requests; absent: all. */
  ratio: embed(2, () => Ratio),
});

/** Holds requests back, as a fault on purpose. */
export const DelayInjector = message(own("DelayInjector"), {
  delay: embed(1, () => Duration),
  /** Of the requests; absent: all. */
  ratio: embed(2, () => Ratio),
});

/** One of its members is set. */
export const MeshFilter = message(own("MeshFilter"), {
  urlRewrite: embed(1, () => UrlRewrite),
  requestMirror: embed(2, () => RequestMirror),
  delayInjector: embed(3, () => DelayInjector),
  /** Of gRPC routes, whose filters in the proxy API change requests alone. */
  responseHeaderModifier: embed(4, () => ResponseHeaderModifier),
});

export const MeshFilters = message(own("MeshFilters"), { filters: repeated(embed(1, () => MeshFilter)) });

const meshFilters = embed(50_001, () => MeshFilters);

// ---- HTTP routes ----

export const HttpRouteFilter = message(name("HttpRoute.Filter"), {
  failureInjector: embed(1, () => HttpFailureInjector),
  requestHeaderModifier: embed(2, () => RequestHeaderModifier),
  redirect: embed(3, () => RequestRedirect),
  responseHeaderModifier: embed(4, () => ResponseHeaderModifier),
});

export const HttpRouteBackend = message(name("HttpRoute.RouteBackend"), {
  backend: embed(1, () => Backend),
  filters: repeated(embed(3, () => HttpRouteFilter)),
  requestTimeout: embed(4, () => Duration),
  meshFilters,
});

export const HttpWeightedRouteBackend = message(name("HttpRoute.WeightedRouteBackend"), {
  backend: embed(1, () => HttpRouteBackend),
  weight: uint32(2),
});

export const DistributionEmpty = message(name("Distribution.Empty"), {});

export const HttpFirstAvailable = message(name("HttpRoute.Distribution.FirstAvailable"), {
  backends: repeated(embed(1, () => HttpRouteBackend)),
});

export const HttpRandomAvailable = message(name("HttpRoute.Distribution.RandomAvailable"), {
  backends: repeated(embed(1, () => HttpWeightedRouteBackend)),
});

export const HttpDistribution = message(name("HttpRoute.Distribution"), {
  empty: embed(1, () => DistributionEmpty),
  firstAvailable: embed(2, () => HttpFirstAvailable),
  randomAvailable: embed(3, () => HttpRandomAvailable),
});

export const StatusRange = message(name("HttpRoute.Retry.Conditions.StatusRange"), {
  start: uint32(1),
  end: uint32(2),
});

export const HttpRetryConditions = message(name("HttpRoute.Retry.Conditions"), {
  statusRanges: repeated(embed(1, () => StatusRange)),
});

export const HttpRetry = message(name("HttpRoute.Retry"), {
  maxRetries: uint32(1),
  maxRequestBytes: uint32(2),
  conditions: embed(3, () => HttpRetryConditions),
  timeout: embed(4, () => Duration),
  backoff: embed(5, () => ExponentialBackoff),
});

export const HttpRouteRule = message(name("HttpRoute.Rule"), {
  matches: repeated(embed(1, () => HttpRouteMatch)),
  filters: repeated(embed(2, () => HttpRouteFilter)),
  backends: embed(3, () => HttpDistribution),
  requestTimeout: embed(4, () => Duration),
  timeouts: embed(5, () => Timeouts),
  retry: embed(6, () => HttpRetry),
  allowL5dRequestHeaders: bool(7),
  meshFilters,
});

export const HttpRoute = message(name("HttpRoute"), {
  metadata: embed(1, () => Metadata),
  hosts: repeated(embed(2, () => HostMatch)),
  rules: repeated(embed(3, () => HttpRouteRule)),
});

// ---- gRPC routes ----

export const GrpcRouteFilter = message(name("GrpcRoute.Filter"), {
  failureInjector: embed(1, () => GrpcFailureInjector),
  requestHeaderModifier: embed(2, () => RequestHeaderModifier),
});

export const GrpcRouteBackend = message(name("GrpcRoute.RouteBackend"), {
  backend: embed(1, () => Backend),
  filters: repeated(embed(3, () => GrpcRouteFilter)),
  requestTimeout: embed(4, () => Duration),
  meshFilters,
});

export const GrpcWeightedRouteBackend = message(name("GrpcRoute.WeightedRouteBackend"), {
  backend: embed(1, () => GrpcRouteBackend),
  weight: uint32(2),
});

export const GrpcFirstAvailable = message(name("GrpcRoute.Distribution.FirstAvailable"), {
  backends: repeated(embed(1, () => GrpcRouteBackend)),
});

export const GrpcRandomAvailable = message(name("GrpcRoute.Distribution.RandomAvailable"), {
  backends: repeated(embed(1, () => GrpcWeightedRouteBackend)),
});

export const GrpcDistribution = message(name("GrpcRoute.Distribution"), {
  empty: embed(1, () => DistributionEmpty),
  firstAvailable: embed(2, () => GrpcFirstAvailable),
  randomAvailable: embed(3, () => GrpcRandomAvailable),
});

/** Field numbers are gRPC status codes. The misspelt name is the wire contract's. */
export const GrpcRetryConditions = message(name("GrpcRoute.Retry.Conditions"), {
  cancelled: bool(1),
  deadineExceeded: bool(4),
  resourceExhausted: bool(8),
  internal: bool(13),
  unavailable: bool(14),
});

export const GrpcRetry = message(name("GrpcRoute.Retry"), {
  maxRetries: uint32(1),
  maxRequestBytes: uint32(2),
  conditions: embed(3, () => GrpcRetryConditions),
  timeout: embed(4, () => Duration),
  backoff: embed(5, () => ExponentialBackoff),
});

export const GrpcRouteRule = message(name("GrpcRoute.Rule"), {
  matches: repeated(embed(1, () => GrpcRouteMatch)),
  filters: repeated(embed(2, () => GrpcRouteFilter)),
  backends: embed(3, () => GrpcDistribution),
  requestTimeout: embed(4, () => Duration),
  timeouts: embed(5, () => Timeouts),
  retry: embed(6, () => GrpcRetry),
  allowL5dRequestHeaders: bool(7),
  meshFilters,
});

export const GrpcRoute = message(name("GrpcRoute"), {
  metadata: embed(1, () => Metadata),
  hosts: repeated(embed(2, () => HostMatch)),
  rules: repeated(embed(3, () => GrpcRouteRule)),
});

// ---- opaque and TLS routes: the same shape below the route ----

const rawFilter = { invalid: embed(1, () => Invalid), forbidden: embed(2, () => Forbidden) };

export const OpaqueRouteFilter = message(name("OpaqueRoute.Filter"), rawFilter);

export const OpaqueRouteBackend = message(name("OpaqueRoute.RouteBackend"), {
  backend: embed(1, () => Backend),
  filters: repeated(embed(3, () => OpaqueRouteFilter)),
});

export const OpaqueWeightedRouteBackend = message(name("OpaqueRoute.WeightedRouteBackend"), {
  backend: embed(1, () => OpaqueRouteBackend),
  weight: uint32(2),
});

export const OpaqueFirstAvailable = message(name("OpaqueRoute.Distribution.FirstAvailable"), {
  backends: repeated(embed(1, () => OpaqueRouteBackend)),
});

export const OpaqueRandomAvailable = message(name("OpaqueRoute.Distribution.RandomAvailable"), {
  backends: repeated(embed(1, () => OpaqueWeightedRouteBackend)),
});

export const OpaqueDistribution = message(name("OpaqueRoute.Distribution"), {
  empty: embed(1, () => DistributionEmpty),
  firstAvailable: embed(2, () => OpaqueFirstAvailable),
  randomAvailable: embed(3, () => OpaqueRandomAvailable),
});

export const OpaqueRouteRule = message(name("OpaqueRoute.Rule"), {
  backends: embed(1, () => OpaqueDistribution),
  filters: repeated(embed(2, () => OpaqueRouteFilter)),
});

export const OpaqueRoute = message(name("OpaqueRoute"), {
  metadata: embed(1, () => Metadata),
  rules: repeated(embed(3, () => OpaqueRouteRule)),
});

export const TlsRoute = message(name("TlsRoute"), {
  metadata: embed(1, () => Metadata),
  snis: repeated(embed(2, () => SniMatch)),
  rules: repeated(embed(3, () => OpaqueRouteRule)),
});

// ---- the policy ----

export const ProxyProtocolOpaque = message(name("ProxyProtocol.Opaque"), {
  routes: repeated(embed(1, () => OpaqueRoute)),
});
export const ProxyProtocolTls = message(name("ProxyProtocol.Tls"), {
  routes: repeated(embed(1, () => TlsRoute)),
});

export const ProxyProtocolHttp1 = message(name("ProxyProtocol.Http1"), {
  routes: repeated(embed(1, () => HttpRoute)),
  failureAccrual: embed(2, () => FailureAccrual),
});

export const ProxyProtocolHttp2 = message(name("ProxyProtocol.Http2"), {
  routes: repeated(embed(1, () => HttpRoute)),
  failureAccrual: embed(2, () => FailureAccrual),
});

export const ProxyProtocolGrpc = message(name("ProxyProtocol.Grpc"), {
  routes: repeated(embed(1, () => GrpcRoute)),
  failureAccrual: embed(2, () => FailureAccrual),
});

export const ProxyProtocolDetect = message(name("ProxyProtocol.Detect"), {
  timeout: embed(1, () => Duration),
  opaque: embed(2, () => ProxyProtocolOpaque),
  http1: embed(3, () => ProxyProtocolHttp1),
  http2: embed(4, () => ProxyProtocolHttp2),
});

export const ProxyProtocol = message(name("ProxyProtocol"), {
  detect: embed(1, () => ProxyProtocolDetect),
  opaque: embed(2, () => ProxyProtocolOpaque),
  http1: embed(3, () => ProxyProtocolHttp1),
  http2: embed(4, () => ProxyProtocolHttp2),
  grpc: embed(5, () => ProxyProtocolGrpc),
  tls: embed(6, () => ProxyProtocolTls),
});

export const OutboundPolicy = message(name("OutboundPolicy"), {
  protocol: embed(1, () => ProxyProtocol),
  metadata: embed(2, () => Metadata),
});

export const Get = method("/io.linkerd.proxy.outbound.OutboundPolicies/Get", TrafficSpec, OutboundPolicy);
export const Watch = method("/io.linkerd.proxy.outbound.OutboundPolicies/Watch", TrafficSpec, OutboundPolicy);
