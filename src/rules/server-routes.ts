// What an inbound server's policy says of a request: which of its routes takes it, whom that lets in beyond the
// server's own authorizations, and what is done to it (reference/data-planes.md §1.14).
import type { MessageOf } from "../api/codec.ts";
import type { GrpcRoute, HttpLocalRateLimit, HttpRoute, Server } from "../api/inbound.ts";
import {
  type Authorization,
  type Client,
  compileAuthorization,
  DENIED,
  type Verdict,
} from "./authorization.ts";
import { compileFilters, type FilterMessage, type FilterSet, NO_FILTERS } from "./filters.ts";
import {
  type RequestFacts,
  type RouteMatch,
  type RouteRef,
  RouteTable,
  refOf,
  refText,
} from "./route-match.ts";
import type { Trace } from "./trace.ts";

export interface ServerRule {
  readonly route: RouteRef;
  readonly filters: FilterSet;
  /** Whom the route itself admits; undefined: nobody beyond the server. */
  readonly authorization: Authorization | undefined;
}

export interface ServerRoutes {
  /**
   * A client whom the server admits may make any request, and nothing is to be done to it: there is no need to look
   * which route takes it.
   */
  readonly plain: boolean;
  /** The route of a request; undefined: none takes it. */
  find(facts: RequestFacts, trace?: Trace): RouteMatch<ServerRule> | undefined;
  /** Whether the route admits a client whom the server does not. */
  admits(match: RouteMatch<ServerRule>, client: Client, facts: RequestFacts, trace?: Trace): Verdict;
  readonly rateLimit: MessageOf<typeof HttpLocalRateLimit> | undefined;
}

/** What an application may read as another path than it is written as: dot segments, escapes, empty segments. */
const AMBIGUOUS_PATH = /\/\.\.?(\/|$)|%2e|%2f|%5c|\\|\/\/|;/i;

const ANY: ServerRule = {
  route: { group: "", kind: "default", namespace: "", name: "default", section: "", port: 0 },
  filters: NO_FILTERS,
  authorization: undefined,
};

/**
 * The routes of a server.
 * @param requiresIdentity as of `compileAuthorization`
 * @throws PolicyError for an expression that cannot be had, or a filter that cannot be applied
 */
export function compileServerRoutes(
  server: MessageOf<typeof Server>,
  requiresIdentity = false,
): ServerRoutes {
  const { detect, http1, http2, grpc } = server.protocol ?? {};
  const http = detect?.httpRoutes ?? http1?.routes ?? http2?.routes ?? [];
  const candidates = [
    ...http.flatMap((route) => {
      const rule = common(route, requiresIdentity);
      return route.rules.map(({ matches, filters }) => ({ ...rule(filters), http: matches }));
    }),
    ...(grpc?.routes ?? []).flatMap((route) => {
      const rule = common(route, requiresIdentity);
      return route.rules.map(({ matches, filters }) => ({ ...rule(filters), grpc: matches }));
    }),
  ];
  const table = new RouteTable<ServerRule>(candidates);
  const unfiltered = candidates.every(({ rule }) => rule.filters === NO_FILTERS);
  // Only the routes that every server has by default are known to leave nothing over.
  const complete = candidates.every(({ rule }) => rule.route.kind === "default");
  return {
    plain: unfiltered && complete,
    find: (facts, trace) =>
      candidates.length === 0 ? { rule: ANY, prefix: undefined, exact: false } : table.find(facts, trace),
    admits({ rule, exact }, client, { path }, trace) {
      if (!rule.authorization) return DENIED;
      const mark = path.indexOf("?");
      if (!exact && AMBIGUOUS_PATH.test(mark < 0 ? path : path.slice(0, mark))) {
        trace?.add("path", false, "the application may read it as another one");
        return DENIED;
      }
      return rule.authorization.check(client, trace);
    },
    rateLimit: detect?.httpLocalRateLimit ?? http1?.localRateLimit ?? http2?.localRateLimit,
  };
}

function common(route: MessageOf<typeof HttpRoute> | MessageOf<typeof GrpcRoute>, requiresIdentity: boolean) {
  const ref = refOf(route.metadata);
  const authorization =
    route.authorizations.length > 0
      ? compileAuthorization(route.authorizations, requiresIdentity)
      : undefined;
  return (filters: readonly unknown[]) => ({
    hosts: route.hosts,
    text: refText(ref),
    rule: { route: ref, filters: compileFilters(filters as readonly FilterMessage[]), authorization },
  });
}
