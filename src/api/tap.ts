// io.linkerd.proxy.tap
import {
  embed,
  enumeration,
  type Message,
  type MessageOf,
  member,
  message,
  method,
  repeated,
  string,
  stringMap,
  uint32,
  uint64,
} from "./codec.ts";
import { Headers, HttpMethod, Scheme } from "./http-types.ts";
import { IPAddress, TcpAddress } from "./net.ts";
import { Duration } from "./time.ts";

const name = (short: string) => `io.linkerd.proxy.tap.${short}`;

export const ObserveRequestMatchLabel = message(name("ObserveRequest.Match.Label"), {
  key: string(1),
  value: string(2),
});

export const ObserveRequestMatchTcpNetmask = message(name("ObserveRequest.Match.Tcp.Netmask"), {
  ip: embed(1, () => IPAddress),
  mask: uint32(2),
});

export const ObserveRequestMatchTcpPortRange = message(name("ObserveRequest.Match.Tcp.PortRange"), {
  min: uint32(1),
  max: uint32(2),
});

export const ObserveRequestMatchTcp = message(name("ObserveRequest.Match.Tcp"), {
  netmask: embed(1, () => ObserveRequestMatchTcpNetmask),
  ports: embed(3, () => ObserveRequestMatchTcpPortRange),
});

export const ObserveRequestMatchHttpStringMatch = message(name("ObserveRequest.Match.Http.StringMatch"), {
  exact: member(string(1)),
  prefix: member(string(2)),
});

export const ObserveRequestMatchHttp = message(name("ObserveRequest.Match.Http"), {
  scheme: embed(1, () => Scheme),
  authority: embed(2, () => ObserveRequestMatchHttpStringMatch),
  method: embed(3, () => HttpMethod),
  path: embed(4, () => ObserveRequestMatchHttpStringMatch),
});

/** Messages that hold themselves need their types written out. */
export interface ObserveRequestMatchShape {
  all?: { matches: ObserveRequestMatchShape[] } | undefined;
  any?: { matches: ObserveRequestMatchShape[] } | undefined;
  not?: ObserveRequestMatchShape | undefined;
  source?: MessageOf<typeof ObserveRequestMatchTcp> | undefined;
  destination?: MessageOf<typeof ObserveRequestMatchTcp> | undefined;
  http?: MessageOf<typeof ObserveRequestMatchHttp> | undefined;
  destinationLabel?: MessageOf<typeof ObserveRequestMatchLabel> | undefined;
  routeLabel?: MessageOf<typeof ObserveRequestMatchLabel> | undefined;
}

export const ObserveRequestMatchSeq: Message<{ matches: ObserveRequestMatchShape[] }> = message(
  name("ObserveRequest.Match.Seq"),
  { matches: repeated(embed(1, (): Message<ObserveRequestMatchShape> => ObserveRequestMatch)) },
);

export const ObserveRequestMatch: Message<ObserveRequestMatchShape> = message(name("ObserveRequest.Match"), {
  all: embed(1, () => ObserveRequestMatchSeq),
  any: embed(2, () => ObserveRequestMatchSeq),
  not: embed(3, (): Message<ObserveRequestMatchShape> => ObserveRequestMatch),
  source: embed(4, () => ObserveRequestMatchTcp),
  destination: embed(5, () => ObserveRequestMatchTcp),
  http: embed(6, () => ObserveRequestMatchHttp),
  destinationLabel: embed(7, () => ObserveRequestMatchLabel),
  routeLabel: embed(8, () => ObserveRequestMatchLabel),
});

export const ObserveRequestExtractHttpHeaders = message(name("ObserveRequest.Extract.Http.Headers"), {});

export const ObserveRequestExtractHttp = message(name("ObserveRequest.Extract.Http"), {
  headers: embed(1, () => ObserveRequestExtractHttpHeaders),
});

export const ObserveRequestExtract = message(name("ObserveRequest.Extract"), {
  http: embed(1, () => ObserveRequestExtractHttp),
});

export const ObserveRequest = message(name("ObserveRequest"), {
  limit: uint32(1),
  match: embed(2, () => ObserveRequestMatch),
  extract: embed(3, () => ObserveRequestExtract),
});

export const Eos = message(name("Eos"), {
  grpcStatusCode: member(uint32(1)),
  resetErrorCode: member(uint32(2)),
});

/** Values of {@link TapEvent}'s `proxyDirection`. */
export const TapEventProxyDirection = { UNKNOWN: 0, INBOUND: 1, OUTBOUND: 2 } as const;

export const TapEventEndpointMeta = message(name("TapEvent.EndpointMeta"), { labels: stringMap(1) });
export const TapEventRouteMeta = message(name("TapEvent.RouteMeta"), { labels: stringMap(1) });

export const TapEventHttpStreamId = message(name("TapEvent.Http.StreamId"), {
  base: uint32(1),
  stream: uint64(2),
});

export const TapEventHttpRequestInit = message(name("TapEvent.Http.RequestInit"), {
  id: embed(1, () => TapEventHttpStreamId),
  method: embed(2, () => HttpMethod),
  scheme: embed(3, () => Scheme),
  authority: string(4),
  path: string(5),
  headers: embed(6, () => Headers),
});

export const TapEventHttpResponseInit = message(name("TapEvent.Http.ResponseInit"), {
  id: embed(1, () => TapEventHttpStreamId),
  sinceRequestInit: embed(2, () => Duration),
  httpStatus: uint32(3),
  headers: embed(4, () => Headers),
});

export const TapEventHttpResponseEnd = message(name("TapEvent.Http.ResponseEnd"), {
  id: embed(1, () => TapEventHttpStreamId),
  sinceRequestInit: embed(2, () => Duration),
  sinceResponseInit: embed(3, () => Duration),
  responseBytes: uint64(4),
  eos: embed(5, () => Eos),
  trailers: embed(6, () => Headers),
});

export const TapEventHttp = message(name("TapEvent.Http"), {
  requestInit: embed(1, () => TapEventHttpRequestInit),
  responseInit: embed(2, () => TapEventHttpResponseInit),
  responseEnd: embed(3, () => TapEventHttpResponseEnd),
});

export const TapEvent = message(name("TapEvent"), {
  source: embed(1, () => TcpAddress),
  destination: embed(2, () => TcpAddress),
  http: embed(3, () => TapEventHttp),
  destinationMeta: embed(4, () => TapEventEndpointMeta),
  sourceMeta: embed(5, () => TapEventEndpointMeta),
  proxyDirection: enumeration(6),
  routeMeta: embed(7, () => TapEventRouteMeta),
});

export const Observe = method("/io.linkerd.proxy.tap.Tap/Observe", ObserveRequest, TapEvent);
