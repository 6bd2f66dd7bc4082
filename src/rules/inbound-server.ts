// The Server message of a port that a Server resource selects: its protocol, whom it admits, and the routes that are
// attached to it.
import type { MessageOf } from "../api/codec.ts";
import type { GrpcRouteMatch } from "../api/grpc-route.ts";
import type { HttpRouteMatch } from "../api/http-route.ts";
import { methodMessage } from "../api/http-types.ts";
import type { Authz, GrpcRoute, HttpLocalRateLimit, HttpRoute, Server } from "../api/inbound.ts";
import { durationOf } from "../api/time.ts";
import {
  DETECT_TIMEOUT,
  defaultAuthorizations,
  defaultHttpRoutes,
  HEALTH_CHECK,
  isDefaultPolicy,
  type Probe,
  probeAuthorization,
} from "./default-policy.ts";
import {
  POLICY_GROUP,
  type RateLimitRecord,
  type RouteFilter,
  type RouteRecord,
  type ServerRecord,
} from "./policy-records.ts";
import { type IdentityDomain, identityOf } from "./server-authorizations.ts";
import type { Trace } from "./trace.ts";

type ServerMessage = MessageOf<typeof Server>;
type AuthzMessage = MessageOf<typeof Authz>;

/** A route with whom it admits beyond its Server. */
export interface InboundRoute {
  readonly route: RouteRecord;
  readonly authorizations: readonly AuthzMessage[];
}

export interface InboundServerFacts {
  readonly server: ServerRecord;
  /** Of ServerAuthorizations and AuthorizationPolicies on the Server or its namespace. */
  readonly authorizations: readonly AuthzMessage[];
  /** Those that are attached to it, the ones that win first. */
  readonly routes: readonly InboundRoute[];
  readonly rateLimit: RateLimitRecord | undefined;
  readonly probes: readonly Probe[];
  readonly clusterNetworks: readonly string[];
  readonly domain: IdentityDomain;
}

export function inboundServer(facts: InboundServerFacts, trace?: Trace): ServerMessage {
  const { server, clusterNetworks } = facts;
  const { accessPolicy } = server;
  const access = isDefaultPolicy(accessPolicy) ? defaultAuthorizations(accessPolicy, clusterNetworks) : [];
  trace?.add(
    `access policy ${accessPolicy}`,
    access.length > 0,
    access.length > 0 ? "the Server admits these clients by itself" : "only authorizations admit clients",
  );
  return {
    protocol: protocolOf(facts, trace),
    serverIps: [],
    authorizations: [...facts.authorizations, ...access],
    labels: { group: POLICY_GROUP, kind: "server", name: server.name },
  };
}

function protocolOf(facts: InboundServerFacts, trace?: Trace): NonNullable<ServerMessage["protocol"]> {
  const { server, routes, probes } = facts;
  const localRateLimit = facts.rateLimit && rateLimitOf(facts.rateLimit, facts.domain);
  const http = () => {
    const attached = routes.map(httpRouteOf);
    if (attached.length > 0) {
      trace?.add("routes", true, "routes are attached, so what none of them takes is refused, probes too");
      return attached;
    }
    return defaultHttpRoutes(probes);
  };
  switch (server.protocol) {
    case "opaque":
      return { opaque: {} };
    case "TLS":
      return { tls: {} };
    case "HTTP/1":
      return { http1: { routes: http(), localRateLimit } };
    case "HTTP/2":
      return { http2: { routes: http(), localRateLimit } };
    case "gRPC": {
      const attached = routes.filter(({ route }) => route.kind === "GRPCRoute").map(grpcRouteOf);
      return { grpc: { routes: attached.length > 0 ? attached : defaultGrpcRoutes(probes) } };
    }
    default:
      return {
        detect: {
          timeout: durationOf(DETECT_TIMEOUT),
          httpRoutes: http(),
          httpLocalRateLimit: localRateLimit,
        },
      };
  }
}

const DEFAULT_GRPC_ROUTE: MessageOf<typeof GrpcRoute> = {
  metadata: { default: "default" },
  hosts: [],
  authorizations: [],
  rules: [{ matches: [{ headers: [] }], filters: [] }],
};

const defaultGrpcRoutes = (probes: readonly Probe[]): MessageOf<typeof GrpcRoute>[] =>
  probes.some(({ kind }) => kind === "grpc") ? [DEFAULT_GRPC_ROUTE, GRPC_PROBE_ROUTE] : [DEFAULT_GRPC_ROUTE];

const GRPC_PROBE_ROUTE: MessageOf<typeof GrpcRoute> = {
  metadata: { default: "probe" },
  hosts: [],
  authorizations: [probeAuthorization()],
  rules: [{ matches: [{ rpc: { ...HEALTH_CHECK }, headers: [] }], filters: [] }],
};

const metadataOf = ({ group, kind, namespace, name }: RouteRecord) => ({
  resource: { group, kind, namespace, name, section: "", port: 0 },
});

/** Filters of the response are the caller's side's; a server changes requests, redirects and fails them. */
const inboundFilters = (filters: readonly RouteFilter[]) =>
  filters.filter((filter) => filter.responseHeaderModifier === undefined);

function httpRouteOf({ route, authorizations }: InboundRoute): MessageOf<typeof HttpRoute> {
  return {
    metadata: metadataOf(route),
    hosts: [...route.hosts],
    authorizations: [...authorizations],
    rules: route.rules.map(({ http, grpc, filters }) => ({
      // A call of gRPC is a POST to the path of its method, where the Server says nothing of gRPC.
      matches: route.kind === "GRPCRoute" ? grpc.map(callAsHttp) : [...http],
      filters: inboundFilters(filters),
    })),
  };
}

function grpcRouteOf({ route, authorizations }: InboundRoute): MessageOf<typeof GrpcRoute> {
  return {
    metadata: metadataOf(route),
    hosts: [...route.hosts],
    authorizations: [...authorizations],
    rules: route.rules.map(({ grpc, filters }) => ({
      matches: [...grpc],
      filters: filters.flatMap(({ requestHeaderModifier }) =>
        requestHeaderModifier ? [{ requestHeaderModifier }] : [],
      ),
    })),
  };
}

const POST = methodMessage("POST");

function callAsHttp({ rpc, headers }: MessageOf<typeof GrpcRouteMatch>): MessageOf<typeof HttpRouteMatch> {
  const { service = "", method = "" } = rpc ?? {};
  const path =
    service !== "" && method !== ""
      ? { exact: `/${service}/${method}` }
      : service !== ""
        ? { prefix: `/${service}` }
        : method !== ""
          ? { regex: `/[^/]+/${method.replace(/[^A-Za-z0-9_]/g, "\\$&")}` }
          : { prefix: "/" };
  return { path, headers: [...headers], queryParams: [], method: POST };
}

function rateLimitOf(
  { name, total, identity, overrides }: RateLimitRecord,
  domain: IdentityDomain,
): MessageOf<typeof HttpLocalRateLimit> {
  const limit = (requestsPerSecond: number | undefined) =>
    requestsPerSecond === undefined ? undefined : { requestsPerSecond };
  return {
    metadata: {
      resource: {
        group: POLICY_GROUP,
        kind: "HTTPLocalRateLimitPolicy",
        name,
        namespace: "",
        section: "",
        port: 0,
      },
    },
    total: limit(total),
    identity: limit(identity),
    overrides: overrides.map(({ requestsPerSecond, clients }) => ({
      limit: limit(requestsPerSecond),
      clients: { identities: clients.map((client) => ({ name: identityOf(client, domain) })) },
    })),
  };
}
