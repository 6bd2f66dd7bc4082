// io.linkerd.proxy.http_route
import { bytes, embed, member, message, repeated, string, uint32 } from "./codec.ts";
import { Headers, HttpMethod, Scheme } from "./http-types.ts";
import { Duration } from "./time.ts";

export const HostMatchSuffix = message("io.linkerd.proxy.http_route.HostMatch.Suffix", {
  reverseLabels: repeated(string(1)),
});

export const HostMatch = message("io.linkerd.proxy.http_route.HostMatch", {
  exact: member(string(1)),
  suffix: embed(2, () => HostMatchSuffix),
});

export const PathMatch = message("io.linkerd.proxy.http_route.PathMatch", {
  exact: member(string(1)),
  prefix: member(string(2)),
  regex: member(string(3)),
});

export const HeaderMatch = message("io.linkerd.proxy.http_route.HeaderMatch", {
  name: string(1),
  exact: member(bytes(2)),
  regex: member(string(3)),
});

export const QueryParamMatch = message("io.linkerd.proxy.http_route.QueryParamMatch", {
  name: string(1),
  exact: member(string(2)),
  regex: member(string(3)),
});

export const HttpRouteMatch = message("io.linkerd.proxy.http_route.HttpRouteMatch", {
  path: embed(1, () => PathMatch),
  headers: repeated(embed(2, () => HeaderMatch)),
  queryParams: repeated(embed(3, () => QueryParamMatch)),
  method: embed(4, () => HttpMethod),
});

const headerModifier = {
  add: embed(1, () => Headers),
  set: embed(2, () => Headers),
  remove: repeated(string(3)),
};

export const RequestHeaderModifier = message(
  "io.linkerd.proxy.http_route.RequestHeaderModifier",
  headerModifier,
);
export const ResponseHeaderModifier = message(
  "io.linkerd.proxy.http_route.ResponseHeaderModifier",
  headerModifier,
);

export const PathModifier = message("io.linkerd.proxy.http_route.PathModifier", {
  full: member(string(1)),
  prefix: member(string(2)),
});

export const RequestRedirect = message("io.linkerd.proxy.http_route.RequestRedirect", {
  scheme: embed(1, () => Scheme),
  host: string(2),
  path: embed(3, () => PathModifier),
  port: uint32(4),
  status: uint32(5),
});

export const Ratio = message("io.linkerd.proxy.http_route.Ratio", {
  numerator: uint32(1),
  denominator: uint32(2),
});

export const HttpFailureInjector = message("io.linkerd.proxy.http_route.HttpFailureInjector", {
  status: uint32(1),
  message: string(2),
  ratio: embed(3, () => Ratio),
});

export const Timeouts = message("io.linkerd.proxy.http_route.Timeouts", {
  response: embed(1, () => Duration),
  request: embed(2, () => Duration),
  idle: embed(3, () => Duration),
});
