// io.linkerd.proxy.inbound
import { embed, message, method, repeated, string, stringMap, uint32 } from "./codec.ts";
import { GrpcFailureInjector, GrpcRouteMatch } from "./grpc-route.ts";
import {
  HostMatch,
  HttpFailureInjector,
  HttpRouteMatch,
  RequestHeaderModifier,
  RequestRedirect,
} from "./http-route.ts";
import { Metadata } from "./meta.ts";
import { IPAddress, IPNetwork } from "./net.ts";
import { Duration } from "./time.ts";

const name = (short: string) => `io.linkerd.proxy.inbound.${short}`;

export const PortSpec = message(name("PortSpec"), { workload: string(1), port: uint32(2) });

export const Network = message(name("Network"), {
  net: embed(1, () => IPNetwork),
  except: repeated(embed(2, () => IPNetwork)),
});

export const Identity = message(name("Identity"), { name: string(1) });
export const IdentitySuffix = message(name("IdentitySuffix"), { parts: repeated(string(1)) });
export const PermitUnauthenticated = message(name("Authn.PermitUnauthenticated"), {});

export const PermitClientIdentities = message(name("Authn.PermitMeshTLS.PermitClientIdentities"), {
  identities: repeated(embed(1, () => Identity)),
  suffixes: repeated(embed(2, () => IdentitySuffix)),
});

export const PermitMeshTLS = message(name("Authn.PermitMeshTLS"), {
  unauthenticated: embed(1, () => PermitUnauthenticated),
  identities: embed(2, () => PermitClientIdentities),
});

export const Authn = message(name("Authn"), {
  unauthenticated: embed(1, () => PermitUnauthenticated),
  meshTLS: embed(2, () => PermitMeshTLS),
});

export const Authz = message(name("Authz"), {
  networks: repeated(embed(1, () => Network)),
  authentication: embed(2, () => Authn),
  labels: stringMap(3),
  metadata: embed(4, () => Metadata),
});

export const HttpRouteFilter = message(name("HttpRoute.Filter"), {
  failureInjector: embed(1, () => HttpFailureInjector),
  requestHeaderModifier: embed(2, () => RequestHeaderModifier),
  redirect: embed(3, () => RequestRedirect),
});

export const HttpRouteRule = message(name("HttpRoute.Rule"), {
  matches: repeated(embed(1, () => HttpRouteMatch)),
  filters: repeated(embed(2, () => HttpRouteFilter)),
});

export const HttpRoute = message(name("HttpRoute"), {
  metadata: embed(1, () => Metadata),
  hosts: repeated(embed(2, () => HostMatch)),
  authorizations: repeated(embed(3, () => Authz)),
  rules: repeated(embed(4, () => HttpRouteRule)),
});

export const GrpcRouteFilter = message(name("GrpcRoute.Filter"), {
  failureInjector: embed(1, () => GrpcFailureInjector),
  requestHeaderModifier: embed(2, () => RequestHeaderModifier),
});

export const GrpcRouteRule = message(name("GrpcRoute.Rule"), {
  matches: repeated(embed(1, () => GrpcRouteMatch)),
  filters: repeated(embed(2, () => GrpcRouteFilter)),
});

export const GrpcRoute = message(name("GrpcRoute"), {
  metadata: embed(1, () => Metadata),
  hosts: repeated(embed(2, () => HostMatch)),
  authorizations: repeated(embed(3, () => Authz)),
  rules: repeated(embed(4, () => GrpcRouteRule)),
});

export const HttpLocalRateLimitLimit = message(name("HttpLocalRateLimit.Limit"), {
  requestsPerSecond: uint32(1),
});

export const HttpLocalRateLimitClientIdentities = message(
  name("HttpLocalRateLimit.Override.ClientIdentities"),
  {
    identities: repeated(embed(1, () => Identity)),
  },
);

export const HttpLocalRateLimitOverride = message(name("HttpLocalRateLimit.Override"), {
  limit: embed(1, () => HttpLocalRateLimitLimit),
  clients: embed(2, () => HttpLocalRateLimitClientIdentities),
});

export const HttpLocalRateLimit = message(name("HttpLocalRateLimit"), {
  metadata: embed(1, () => Metadata),
  total: embed(2, () => HttpLocalRateLimitLimit),
  identity: embed(3, () => HttpLocalRateLimitLimit),
  overrides: repeated(embed(4, () => HttpLocalRateLimitOverride)),
});

export const ProxyProtocolDetect = message(name("ProxyProtocol.Detect"), {
  timeout: embed(1, () => Duration),
  httpRoutes: repeated(embed(3, () => HttpRoute)),
  httpLocalRateLimit: embed(4, () => HttpLocalRateLimit),
});

export const ProxyProtocolHttp1 = message(name("ProxyProtocol.Http1"), {
  routes: repeated(embed(2, () => HttpRoute)),
  localRateLimit: embed(3, () => HttpLocalRateLimit),
});

export const ProxyProtocolHttp2 = message(name("ProxyProtocol.Http2"), {
  routes: repeated(embed(2, () => HttpRoute)),
  localRateLimit: embed(3, () => HttpLocalRateLimit),
});

export const ProxyProtocolGrpc = message(name("ProxyProtocol.Grpc"), {
  routes: repeated(embed(2, () => GrpcRoute)),
});
export const ProxyProtocolOpaque = message(name("ProxyProtocol.Opaque"), {});
export const ProxyProtocolTls = message(name("ProxyProtocol.Tls"), {});

export const ProxyProtocol = message(name("ProxyProtocol"), {
  detect: embed(1, () => ProxyProtocolDetect),
  opaque: embed(2, () => ProxyProtocolOpaque),
  tls: embed(3, () => ProxyProtocolTls),
  http1: embed(4, () => ProxyProtocolHttp1),
  http2: embed(5, () => ProxyProtocolHttp2),
  grpc: embed(6, () => ProxyProtocolGrpc),
});

export const Server = message(name("Server"), {
  protocol: embed(1, () => ProxyProtocol),
  serverIps: repeated(embed(2, () => IPAddress)),
  authorizations: repeated(embed(3, () => Authz)),
  labels: stringMap(4),
});

export const GetPort = method("/io.linkerd.proxy.inbound.InboundServerPolicies/GetPort", PortSpec, Server);
export const WatchPort = method(
  "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort",
  PortSpec,
  Server,
);
