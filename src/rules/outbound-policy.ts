// The outbound policy of a port of a Service, of an address that an EgressNetwork governs, or of any other address:
// its protocol, its routes with their backends, retries and timeouts, and how its endpoints are judged.
import { addressOf } from "../api/address.ts";
import type { MessageOf, Partially } from "../api/codec.ts";
import { STATUS } from "../api/grpc-status.ts";
import type { Metadata } from "../api/meta.ts";
import type {
  Backend,
  GrpcRoute,
  HttpRoute,
  HttpRouteFilter,
  MeshFilter,
  OpaqueRoute,
  OutboundPolicy,
  ProxyProtocol,
  TlsRoute,
} from "../api/outbound.ts";
import { durationOf } from "../api/time.ts";
import { DETECT_TIMEOUT } from "./default-policy.ts";
import { DECAY_MS, DEFAULT_RTT_MS } from "./endpoint-choice.ts";
import {
  type BackendRef,
  type ExtraFilter,
  POLICY_GROUP,
  type RouteKind,
  type RouteRecord,
  type RouteRuleRecord,
} from "./policy-records.ts";
import { REPLAY_LIMIT } from "./retry.ts";
import { NO_TRAFFIC_SETTINGS, type RetrySettings, type TrafficSettings } from "./traffic-annotations.ts";

export interface ServicePort {
  readonly kind: "Service";
  readonly namespace: string;
  readonly name: string;
  readonly port: number;
  readonly appProtocol: string | undefined;
  /** Bytes of this port are not to be interpreted. */
  readonly opaque: boolean;
}

export interface EgressAddress {
  readonly kind: "EgressNetwork";
  readonly namespace: string;
  readonly name: string;
  readonly allow: boolean;
  readonly ip: string;
  readonly port: number;
}

/** Where traffic goes by itself: the Service with this weight, on the parent's port. */
export interface SplitBackend {
  readonly namespace: string;
  readonly name: string;
  readonly weight: number;
  readonly exists: boolean;
}

export interface OutboundFacts {
  readonly parent: ServicePort | EgressAddress;
  readonly traffic: TrafficSettings;
  /** Those that hold, all of one kind, the ones that win first. */
  readonly routes: readonly RouteRecord[];
  /** Takes the place of the Service's own endpoints; empty: there is no split. */
  readonly split: readonly SplitBackend[];
  /** What keeps a backend from being used; undefined: nothing. */
  backendProblem(ref: BackendRef): string | undefined;
  readonly clusterDomain: string;
  /** Callers may change retries and timeouts by header. */
  readonly allowHeaders: boolean;
}

type Policy = Partially<MessageOf<typeof OutboundPolicy>>;
type Protocol = Partially<MessageOf<typeof ProxyProtocol>>;
type BackendMessage = Partially<MessageOf<typeof Backend>>;
type MetadataMessage = Partially<MessageOf<typeof Metadata>>;
type OwnFilter = Partially<MessageOf<typeof MeshFilter>>;
type HttpFilter = Partially<MessageOf<typeof HttpRouteFilter>>;
type Http = Partially<MessageOf<typeof HttpRoute>>;
type Grpc = Partially<MessageOf<typeof GrpcRoute>>;
type Opaque = Partially<MessageOf<typeof OpaqueRoute>>;
type Tls = Partially<MessageOf<typeof TlsRoute>>;

/**
 * Requests that wait for an endpoint, and for how long: what Linkerd's proxies do. Their controller writes 100, which they
 * do not read; a proxy that does would refuse the first burst of a client that has no connection yet.
 */
const QUEUE = { capacity: 10_000, failfastTimeout: durationOf(3_000) };
const PEAK_EWMA = { peakEwma: { defaultRtt: durationOf(DEFAULT_RTT_MS), decay: durationOf(DECAY_MS) } };

/** A backend with its share; a problem means that its share fails. */
interface Share {
  readonly backend: BackendMessage;
  readonly weight: number;
  readonly filters: readonly HttpFilter[];
  readonly extras: readonly ExtraFilter[];
  readonly problem: string | undefined;
}

export function outboundPolicy(facts: OutboundFacts): Policy {
  return { metadata: parentMetadata(facts.parent), protocol: protocolOf(facts) };
}

/** How the bytes of a port are read. */
export type AppProtocol = "opaque" | "http1" | "http2" | "detect";

/** How the port's bytes are read: an annotation that says opaque wins; then appProtocol, an unknown one is opaque. */
export function appProtocolOf(parent: OutboundFacts["parent"]): AppProtocol {
  if (parent.kind === "EgressNetwork") return "detect";
  if (parent.opaque) return "opaque";
  if (parent.appProtocol === undefined) return "detect";
  if (parent.appProtocol === "http") return "http1";
  return parent.appProtocol === "kubernetes.io/h2c" ? "http2" : "opaque";
}

function protocolOf(facts: OutboundFacts): Protocol {
  const kind: RouteKind | undefined = facts.routes[0]?.kind;
  const failureAccrual = facts.traffic.accrual;
  const http = () => ({ routes: httpRoutes(facts), failureAccrual });
  const grpc = () => ({ routes: grpcRoutes(facts), failureAccrual });
  switch (appProtocolOf(facts.parent)) {
    case "opaque":
      return { opaque: { routes: opaqueRoutes(facts) } };
    case "http1":
      return { http1: http() };
    case "http2":
      return kind === "GRPCRoute" ? { grpc: grpc() } : { http2: http() };
    case "detect":
      if (kind === "GRPCRoute") return { grpc: grpc() };
      if (kind === "TLSRoute") return { tls: { routes: tlsRoutes(facts) } };
      if (kind === "TCPRoute") return { opaque: { routes: opaqueRoutes(facts) } };
      return {
        detect: {
          timeout: durationOf(DETECT_TIMEOUT),
          opaque: { routes: opaqueRoutes(facts) },
          http1: http(),
          http2: http(),
        },
      };
  }
}

/** The policy of an address that nothing is known of: it is dialled as it is. */
export function fallbackPolicy(ip: string, port: number): Policy {
  const metadata = { default: "egress-fallback" };
  const backend = { metadata, queue: QUEUE, forward: { addr: addressOf(ip, port), weight: 1 } };
  const backends = { firstAvailable: { backends: [{ backend }] } };
  const http = { routes: [{ metadata, rules: [{ matches: [{ path: { prefix: "/" } }], backends }] }] };
  return {
    metadata,
    protocol: {
      detect: {
        timeout: durationOf(DETECT_TIMEOUT),
        opaque: { routes: [{ metadata, rules: [{ backends }] }] },
        http1: http,
        http2: http,
      },
    },
  };
}

// ---- backends ----

function parentMetadata({ kind, namespace, name, port }: OutboundFacts["parent"]): MetadataMessage {
  const group = kind === "Service" ? "core" : POLICY_GROUP;
  return { resource: { group, kind, namespace, name, port } };
}

function serviceBackend(
  facts: OutboundFacts,
  { namespace, name, port }: { namespace: string; name: string; port: number },
): BackendMessage {
  // An estimate of answers that only look good is nothing for bytes.
  const load = appProtocolOf(facts.parent) === "opaque" ? undefined : facts.traffic.load;
  return {
    metadata: { resource: { group: "core", kind: "Service", namespace, name, port } },
    queue: QUEUE,
    balancer: {
      discovery: { dst: { path: `${name}.${namespace}.svc.${facts.clusterDomain}:${port}` } },
      ...(load ?? PEAK_EWMA),
    },
  };
}

function forwardBackend({ ip, port }: EgressAddress, metadata: MetadataMessage): BackendMessage {
  return { metadata, queue: QUEUE, forward: { addr: addressOf(ip, port), weight: 1 } };
}

/** Where requests go that no rule sends elsewhere. */
function defaultShares(facts: OutboundFacts): Share[] {
  const { parent, split } = facts;
  const plain = (backend: BackendMessage): Share => ({
    backend,
    weight: 1,
    filters: [],
    extras: [],
    problem: undefined,
  });
  if (parent.kind === "EgressNetwork") return [plain(forwardBackend(parent, parentMetadata(parent)))];
  if (split.length === 0) return [plain(serviceBackend(facts, parent))];
  return split.map(({ namespace, name, weight, exists }) => {
    const backend = serviceBackend(facts, { namespace, name, port: parent.port });
    return exists
      ? { ...plain(backend), weight }
      : { ...plain(unusable(backend)), weight, problem: `Service not found ${name}` };
  });
}

/** The backend's name without its way. */
const unusable = ({ metadata, queue }: BackendMessage): BackendMessage => ({ metadata, queue });

function shareOf(facts: OutboundFacts, ref: BackendRef): Share {
  const { parent } = facts;
  const { weight, filters, extras } = ref;
  const problem = facts.backendProblem(ref);
  if (problem !== undefined)
    return { backend: unusable(namedBackend(facts, ref)), weight, filters: [], extras: [], problem };
  const backend =
    ref.kind === "EgressNetwork" && parent.kind === "EgressNetwork"
      ? forwardBackend(parent, parentMetadata(parent))
      : namedBackend(facts, ref);
  return { backend, weight, filters, extras, problem };
}

function namedBackend(facts: OutboundFacts, ref: BackendRef): BackendMessage {
  const { group, kind, namespace, name, port = 0 } = ref;
  if (kind === "Service") return serviceBackend(facts, { namespace, name, port });
  return { metadata: { resource: { group, kind, namespace, name, port } }, queue: QUEUE };
}

/** The backends of a rule; `undefined` stands for those by default. */
const sharesOf = (facts: OutboundFacts, rule: RouteRuleRecord | undefined): Share[] =>
  rule && rule.backends.length > 0 ? rule.backends.map((ref) => shareOf(facts, ref)) : defaultShares(facts);

/** One backend by default is the first; all else is drawn by weight. */
function distribution<B>(
  shares: readonly Share[],
  byWeight: boolean,
  toBackend: (share: Share) => B,
):
  | { firstAvailable: { backends: B[] } }
  | { randomAvailable: { backends: { backend: B; weight: number }[] } } {
  if (!byWeight && shares.length === 1) return { firstAvailable: { backends: [toBackend(shares[0]!)] } };
  return {
    randomAvailable: {
      backends: shares.map((share) => ({ backend: toBackend(share), weight: share.weight })),
    },
  };
}

const givesBackends = (rule: RouteRuleRecord | undefined, facts: OutboundFacts) =>
  (rule?.backends.length ?? 0) > 0 || facts.split.length > 0;

/**
 * Filters that only the mesh's own proxy knows. A mirror that leads nowhere is left out: nobody waits for it.
 * @param more others of them
 */
function meshFilters(facts: OutboundFacts, extras: readonly ExtraFilter[], more: readonly OwnFilter[] = []) {
  const filters = extras.flatMap((extra): OwnFilter[] => {
    if ("rewrite" in extra) return [{ urlRewrite: extra.rewrite }];
    const { backend, problem } = shareOf(facts, extra.mirror);
    return problem === undefined ? [{ requestMirror: { backend, ratio: extra.ratio } }] : [];
  });
  filters.push(...more);
  return filters.length > 0 ? { meshFilters: { filters } } : {};
}

// ---- HTTP ----

function httpDistribution(facts: OutboundFacts, rule?: RouteRuleRecord) {
  return distribution(
    sharesOf(facts, rule),
    givesBackends(rule, facts),
    ({ backend, filters, extras, problem }) => ({
      backend,
      filters: problem === undefined ? filters : [{ failureInjector: { status: 500, message: problem } }],
      ...meshFilters(facts, extras),
      ...(rule?.backendTimeout === undefined ? {} : { requestTimeout: durationOf(rule.backendTimeout) }),
    }),
  );
}

function httpRoutes(facts: OutboundFacts): Http[] {
  const { parent, traffic } = facts;
  const routes: Http[] = facts.routes
    .filter(({ kind }) => kind === "HTTPRoute")
    .map((route) => ({
      metadata: routeMetadata(route),
      hosts: route.hosts,
      rules: route.rules.map((rule) => ({
        matches: rule.http,
        filters: rule.filters,
        ...meshFilters(facts, rule.extras),
        backends: httpDistribution(facts, rule),
        ...timeoutsOf(traffic, route.traffic, rule),
        retry: httpRetry(traffic, route.traffic, rule),
        allowL5dRequestHeaders: facts.allowHeaders,
      })),
    }));
  if (parent.kind === "Service" && routes.length > 0) return routes;
  const denied = parent.kind === "EgressNetwork" && !parent.allow;
  routes.push({
    metadata: { default: defaultName("http", parent) },
    rules: [
      {
        matches: [{ path: { prefix: "/" } }],
        filters: denied ? [{ failureInjector: { status: 403, message: deniedBy(parent) } }] : [],
        backends: httpDistribution(facts),
        ...timeoutsOf(traffic, NO_TRAFFIC_SETTINGS, undefined),
        retry: httpRetry(traffic, NO_TRAFFIC_SETTINGS, undefined),
        allowL5dRequestHeaders: facts.allowHeaders,
      },
    ],
  });
  return routes;
}

const defaultName = (protocol: string, parent: OutboundFacts["parent"]): string =>
  parent.kind === "Service" ? protocol : `${protocol}-egress-${parent.allow ? "allow" : "deny"}`;

const deniedBy = ({ namespace, name }: OutboundFacts["parent"]) =>
  `denied by EgressNetwork ${namespace}/${name}`;

const routeMetadata = ({ group, kind, namespace, name }: RouteRecord): MetadataMessage => ({
  resource: { group, kind, namespace, name },
});

/** Timeouts of a rule; those of the parent count where the route says nothing of any. */
function timeoutsOf(parent: TrafficSettings, route: TrafficSettings, rule: RouteRuleRecord | undefined) {
  const own = { ...route.timeouts, request: route.timeouts.request ?? rule?.requestTimeout };
  const said = own.request !== undefined || own.response !== undefined || own.idle !== undefined;
  const { request, response, idle } = said ? own : parent.timeouts;
  if (request === undefined && response === undefined && idle === undefined) return {};
  const duration = (ms: number | undefined) => (ms === undefined ? undefined : durationOf(ms));
  return {
    // The older field, for proxies that know no other.
    requestTimeout: duration(request),
    timeouts: { request: duration(request), response: duration(response), idle: duration(idle) },
  };
}

/** Linkerd's back-off between tries (reference/data-planes.md §1.11). */
const backoff = (min = 25) => ({
  minBackoff: durationOf(min),
  maxBackoff: durationOf(Math.max(250, min)),
  jitterRatio: 1,
});

function httpRetry(parent: TrafficSettings, route: TrafficSettings, rule: RouteRuleRecord | undefined) {
  const settings = route.retriesHttp ? route.retry : undefined;
  if (!settings && rule?.retry) {
    const { attempts, codes, backoff: min } = rule.retry;
    if (attempts === 0) return undefined;
    return {
      maxRetries: attempts,
      maxRequestBytes: REPLAY_LIMIT,
      conditions: { statusRanges: codes.map((code) => ({ start: code, end: code })) },
      backoff: backoff(min),
    };
  }
  const retry = settings ?? (parent.retriesHttp ? parent.retry : undefined);
  if (!retry || retry.limit === 0) return undefined;
  return {
    ...commonRetry(retry),
    conditions: { statusRanges: retry.statuses.map(([start, end]) => ({ start, end })) },
  };
}

function commonRetry({ limit, timeout }: RetrySettings) {
  return {
    maxRetries: limit,
    maxRequestBytes: REPLAY_LIMIT,
    backoff: backoff(),
    ...(timeout === undefined ? {} : { timeout: durationOf(timeout) }),
  };
}

// ---- gRPC ----

function grpcDistribution(facts: OutboundFacts, rule?: RouteRuleRecord) {
  return distribution(
    sharesOf(facts, rule),
    givesBackends(rule, facts),
    ({ backend, filters, extras, problem }) => ({
      backend,
      ...meshFilters(facts, extras, responseFilters(filters)),
      // What the Gateway API says of backends that are not there (GRPCRoute, "backendRefs").
      filters:
        problem === undefined
          ? grpcFilters(filters)
          : [{ failureInjector: { code: STATUS.UNAVAILABLE, message: problem } }],
      ...(rule?.backendTimeout === undefined ? {} : { requestTimeout: durationOf(rule.backendTimeout) }),
    }),
  );
}

const grpcFilters = (filters: readonly HttpFilter[]) =>
  filters.flatMap(({ requestHeaderModifier }) => (requestHeaderModifier ? [{ requestHeaderModifier }] : []));

/** The proxy API's gRPC routes change no responses. */
const responseFilters = (filters: readonly HttpFilter[]): OwnFilter[] =>
  filters.flatMap(({ responseHeaderModifier }) =>
    responseHeaderModifier ? [{ responseHeaderModifier }] : [],
  );

function grpcRoutes(facts: OutboundFacts): Grpc[] {
  const { parent, traffic } = facts;
  const routes: Grpc[] = facts.routes.map((route) => ({
    metadata: routeMetadata(route),
    hosts: route.hosts,
    rules: route.rules.map((rule) => ({
      matches: rule.grpc,
      filters: grpcFilters(rule.filters),
      ...meshFilters(facts, rule.extras, responseFilters(rule.filters)),
      backends: grpcDistribution(facts, rule),
      ...timeoutsOf(traffic, route.traffic, rule),
      retry: grpcRetry(traffic, route.traffic),
      allowL5dRequestHeaders: facts.allowHeaders,
    })),
  }));
  if (parent.kind === "Service") return routes;
  routes.push({
    metadata: { default: defaultName("grpc", parent) },
    rules: [
      {
        matches: [{}],
        filters: parent.allow
          ? []
          : [{ failureInjector: { code: STATUS.PERMISSION_DENIED, message: deniedBy(parent) } }],
        backends: grpcDistribution(facts),
        ...timeoutsOf(traffic, NO_TRAFFIC_SETTINGS, undefined),
        retry: grpcRetry(traffic, NO_TRAFFIC_SETTINGS),
        allowL5dRequestHeaders: facts.allowHeaders,
      },
    ],
  });
  return routes;
}

function grpcRetry(parent: TrafficSettings, route: TrafficSettings) {
  const retry = route.retriesGrpc ? route.retry : parent.retriesGrpc ? parent.retry : undefined;
  if (!retry || retry.limit === 0) return undefined;
  const on = (code: number) => retry.codes.includes(code);
  return {
    ...commonRetry(retry),
    conditions: {
      cancelled: on(STATUS.CANCELLED),
      deadineExceeded: on(STATUS.DEADLINE_EXCEEDED),
      resourceExhausted: on(STATUS.RESOURCE_EXHAUSTED),
      internal: on(STATUS.INTERNAL),
      unavailable: on(STATUS.UNAVAILABLE),
    },
  };
}

// ---- TLS and bytes ----

function rawDistribution(facts: OutboundFacts, rule?: RouteRuleRecord) {
  return distribution(sharesOf(facts, rule), givesBackends(rule, facts), ({ backend, problem }) => ({
    backend,
    filters: problem === undefined ? [] : [{ invalid: { message: problem } }],
  }));
}

/** The rule of an EgressNetwork for what no route takes. */
const egressRule = (facts: OutboundFacts, allow: boolean) => ({
  backends: rawDistribution(facts),
  filters: allow ? [] : [{ forbidden: {} }],
});

function opaqueRoutes(facts: OutboundFacts): Opaque[] {
  const { parent } = facts;
  const routes: Opaque[] = facts.routes
    .filter(({ kind }) => kind === "TCPRoute")
    .map((route) => ({
      metadata: routeMetadata(route),
      rules: route.rules.map((rule) => ({ backends: rawDistribution(facts, rule) })),
    }));
  if (routes.length > 0) return routes;
  const name = parent.kind === "Service" ? "opaq" : defaultName("tcp", parent);
  const allow = parent.kind === "Service" || parent.allow;
  return [{ metadata: { default: name }, rules: [egressRule(facts, allow)] }];
}

function tlsRoutes(facts: OutboundFacts): Tls[] {
  const { parent } = facts;
  const routes: Tls[] = facts.routes.map((route) => ({
    metadata: routeMetadata(route),
    snis: route.hosts,
    rules: route.rules.map((rule) => ({ backends: rawDistribution(facts, rule) })),
  }));
  if (parent.kind === "EgressNetwork")
    routes.push({
      metadata: { default: defaultName("tls", parent) },
      rules: [egressRule(facts, parent.allow)],
    });
  return routes;
}
