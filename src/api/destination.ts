// io.linkerd.proxy.destination
import {
  bool,
  embed,
  float,
  type Message,
  message,
  method,
  repeated,
  string,
  stringMap,
  uint32,
} from "./codec.ts";
import { HttpMethod } from "./http-types.ts";
import { Metadata } from "./meta.ts";
import { TcpAddress } from "./net.ts";
import { Duration } from "./time.ts";

const name = (short: string) => `io.linkerd.proxy.destination.${short}`;

export const GetDestination = message(name("GetDestination"), {
  scheme: string(1),
  path: string(2),
  contextToken: string(3),
});

export const DnsLikeIdentity = message(name("TlsIdentity.DnsLikeIdentity"), { name: string(1) });
export const UriLikeIdentity = message(name("TlsIdentity.UriLikeIdentity"), { uri: string(1) });

export const TlsIdentity = message(name("TlsIdentity"), {
  dnsLikeIdentity: embed(1, () => DnsLikeIdentity),
  uriLikeIdentity: embed(3, () => UriLikeIdentity),
  serverName: embed(4, () => DnsLikeIdentity),
});

export const AuthorityOverride = message(name("AuthorityOverride"), { authorityOverride: string(1) });

export const ProtocolHintH2 = message(name("ProtocolHint.H2"), {});
export const ProtocolHintOpaque = message(name("ProtocolHint.Opaque"), {});
export const ProtocolHintOpaqueTransport = message(name("ProtocolHint.OpaqueTransport"), {
  inboundPort: uint32(1),
});

export const ProtocolHint = message(name("ProtocolHint"), {
  h2: embed(1, () => ProtocolHintH2),
  opaqueTransport: embed(2, () => ProtocolHintOpaqueTransport),
  opaque: embed(3, () => ProtocolHintOpaque),
});

export const FlowControl = message(name("Http2ClientParams.FlowControl"), {
  initialConnectionWindowSize: uint32(1),
  initialStreamWindowSize: uint32(2),
  adaptiveFlowControl: bool(3),
});

export const KeepAlive = message(name("Http2ClientParams.KeepAlive"), {
  interval: embed(1, () => Duration),
  timeout: embed(2, () => Duration),
  whileIdle: bool(3),
});

export const Internals = message(name("Http2ClientParams.Internals"), {
  maxConcurrentResetStreams: uint32(1),
  maxFrameSize: uint32(2),
  maxSendBufSize: uint32(3),
});

export const Http2ClientParams = message(name("Http2ClientParams"), {
  flowControl: embed(1, () => FlowControl),
  keepAlive: embed(2, () => KeepAlive),
  internals: embed(3, () => Internals),
});

export const WeightedAddr = message(name("WeightedAddr"), {
  addr: embed(1, () => TcpAddress),
  weight: uint32(3),
  metricLabels: stringMap(4),
  tlsIdentity: embed(5, () => TlsIdentity),
  protocolHint: embed(6, () => ProtocolHint),
  authorityOverride: embed(7, () => AuthorityOverride),
  http2: embed(8, () => Http2ClientParams),
  resourceRef: embed(9, () => Metadata),
});

export const WeightedAddrSet = message(name("WeightedAddrSet"), {
  addrs: repeated(embed(1, () => WeightedAddr)),
  metricLabels: stringMap(2),
});

export const AddrSet = message(name("AddrSet"), { addrs: repeated(embed(1, () => TcpAddress)) });
export const NoEndpoints = message(name("NoEndpoints"), { exists: bool(1) });

export const Update = message(name("Update"), {
  add: embed(1, () => WeightedAddrSet),
  remove: embed(2, () => AddrSet),
  noEndpoints: embed(3, () => NoEndpoints),
});

export const PathMatch = message(name("PathMatch"), { regex: string(1) });
export const HttpStatusRange = message(name("HttpStatusRange"), { min: uint32(1), max: uint32(2) });

/** Messages that hold themselves need their types written out. */
export interface RequestMatchShape {
  all?: { matches: RequestMatchShape[] } | undefined;
  any?: { matches: RequestMatchShape[] } | undefined;
  not?: RequestMatchShape | undefined;
  path?: { regex: string } | undefined;
  method?: { registered?: number | undefined; unregistered?: string | undefined } | undefined;
}

const RequestMatchSeq: Message<{ matches: RequestMatchShape[] }> = message(name("RequestMatch.Seq"), {
  matches: repeated(embed(1, (): Message<RequestMatchShape> => RequestMatch)),
});

export const RequestMatch: Message<RequestMatchShape> = message(name("RequestMatch"), {
  all: embed(1, () => RequestMatchSeq),
  any: embed(2, () => RequestMatchSeq),
  not: embed(3, (): Message<RequestMatchShape> => RequestMatch),
  path: embed(4, () => PathMatch),
  method: embed(5, () => HttpMethod),
});

export interface ResponseMatchShape {
  all?: { matches: ResponseMatchShape[] } | undefined;
  any?: { matches: ResponseMatchShape[] } | undefined;
  not?: ResponseMatchShape | undefined;
  status?: { min: number; max: number } | undefined;
}

const ResponseMatchSeq: Message<{ matches: ResponseMatchShape[] }> = message(name("ResponseMatch.Seq"), {
  matches: repeated(embed(1, (): Message<ResponseMatchShape> => ResponseMatch)),
});

export const ResponseMatch: Message<ResponseMatchShape> = message(name("ResponseMatch"), {
  all: embed(1, () => ResponseMatchSeq),
  any: embed(2, () => ResponseMatchSeq),
  not: embed(3, (): Message<ResponseMatchShape> => ResponseMatch),
  status: embed(4, () => HttpStatusRange),
});

export const ResponseClass = message(name("ResponseClass"), {
  condition: embed(1, () => ResponseMatch),
  isFailure: bool(2),
});

export const Route = message(name("Route"), {
  condition: embed(1, () => RequestMatch),
  responseClasses: repeated(embed(2, () => ResponseClass)),
  metricsLabels: stringMap(3),
  isRetryable: bool(4),
  timeout: embed(5, () => Duration),
});

export const RetryBudget = message(name("RetryBudget"), {
  retryRatio: float(1),
  minRetriesPerSecond: uint32(2),
  ttl: embed(3, () => Duration),
});

export const WeightedDst = message(name("WeightedDst"), {
  authority: string(1),
  weight: uint32(2),
  backendRef: embed(3, () => Metadata),
});

export const DestinationProfile = message(name("DestinationProfile"), {
  routes: repeated(embed(1, () => Route)),
  retryBudget: embed(2, () => RetryBudget),
  dstOverrides: repeated(embed(3, () => WeightedDst)),
  opaqueProtocol: bool(4),
  fullyQualifiedName: string(5),
  endpoint: embed(6, () => WeightedAddr),
  parentRef: embed(7, () => Metadata),
  profileRef: embed(8, () => Metadata),
});

export const Get = method("/io.linkerd.proxy.destination.Destination/Get", GetDestination, Update);
export const GetProfile = method(
  "/io.linkerd.proxy.destination.Destination/GetProfile",
  GetDestination,
  DestinationProfile,
);
