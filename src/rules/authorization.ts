// Whether a server's policy admits a client: by network and by mesh identity (reference/data-planes.md §1.14).
// A policy is compiled once when it arrives; clients are then checked against numbers and strings.
import { networkText } from "../api/address.ts";
import type { MessageOf } from "../api/codec.ts";
import type { HttpRouteMatch } from "../api/http-route.ts";
import { REGISTERED_METHODS } from "../api/http-types.ts";
import type { Authz, HttpRoute, Server } from "../api/inbound.ts";
import { type Cidr, cidrHas, formatCidr, parseCidr, parseIp } from "../util/ip.ts";
import type { Trace } from "./trace.ts";

export interface Client {
  readonly ip: string;
  /** The connection came over mesh TLS. */
  readonly tls: boolean;
  /** The identity of the client's certificate, if it presented one. */
  readonly identity?: string | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /** `authz_*` labels (`group`, `kind`, `name`) of what admitted the client; empty when nothing did. */
  readonly labels: Readonly<Record<string, string>>;
}

interface CompiledAuthorization {
  readonly labels: Readonly<Record<string, string>>;
  readonly networks: readonly { readonly net: Cidr; readonly except: readonly Cidr[] }[];
  /** Who may come: anyone, anyone over mesh TLS, or the named. */
  readonly clients: "any" | "mesh" | "named" | "none";
  readonly names: ReadonlySet<string>;
  /** `""` admits every identity, `.ns.…` those that end so. */
  readonly suffixes: readonly string[];
}

export interface Authorization {
  check(client: Client, trace?: Trace): Verdict;
  /** For a request of a client that the server itself does not admit: whether a route of its own does. */
  checkRequest(client: Client, request: RequestLine, trace?: Trace): Verdict;
}

export interface RequestLine {
  readonly method: string;
  /** Path without query. */
  readonly path: string;
}

const DENIED: Verdict = { allowed: false, labels: {} };
const LOOPBACK: Verdict = { allowed: true, labels: { group: "", kind: "default", name: "localhost" } };

/**
 * The authorizations of a server, ready to check clients against. The pod's own loopback is always admitted.
 * What a network or identity says is taken strictly: a network that cannot be read admits nobody.
 */
export function compileAuthorization(server: MessageOf<typeof Server>): Authorization {
  const compiled = server.authorizations.map(compileOne);
  const { detect, http1, http2 } = server.protocol ?? {};
  const routes = (detect?.httpRoutes ?? http1?.routes ?? http2?.routes ?? [])
    .filter((route) => route.authorizations.length > 0)
    .map(compileRoute);
  return {
    check: (client, trace) => decide(compiled, client, trace),
    checkRequest(client, request, trace) {
      for (const route of routes) {
        const matched = route.matches.some((match) => match(request));
        trace?.add(
          `route ${route.name}`,
          matched,
          matched ? "method and path match" : "method or path differ",
        );
        if (matched) return decide(route.authorizations, client, trace);
      }
      return DENIED;
    },
  };
}

function decide(
  authorizations: readonly CompiledAuthorization[],
  client: Client,
  trace: Trace | undefined,
): Verdict {
  const address = parseIp(client.ip);
  if (isLoopback(address)) {
    trace?.add("loopback", true, "traffic from the pod itself is always admitted");
    return LOOPBACK;
  }
  for (const authorization of authorizations) {
    const why = mismatch(authorization, address, client);
    trace?.add(describe(authorization), why === undefined, why ?? "network and identity match");
    if (why === undefined) return { allowed: true, labels: authorization.labels };
  }
  if (authorizations.length === 0)
    trace?.add("authorizations", false, "there are none, so nobody is admitted");
  return DENIED;
}

interface CompiledRoute {
  readonly name: string;
  readonly matches: readonly ((request: RequestLine) => boolean)[];
  readonly authorizations: readonly CompiledAuthorization[];
}

function compileRoute(route: MessageOf<typeof HttpRoute>): CompiledRoute {
  return {
    name: route.metadata?.resource?.name ?? route.metadata?.default ?? "",
    matches: route.rules.flatMap((rule) => rule.matches.map(compileMatch)),
    authorizations: route.authorizations.map(compileOne),
  };
}

/** What cannot be checked on the request line alone (headers, query, regular expressions) matches nothing. */
function compileMatch(match: MessageOf<typeof HttpRouteMatch>): (request: RequestLine) => boolean {
  const { path, method, headers, queryParams } = match;
  if (headers.length > 0 || queryParams.length > 0 || path?.regex !== undefined) return () => false;
  const verb = method?.unregistered ?? (method ? REGISTERED_METHODS[method.registered ?? 0] : undefined);
  return (request) =>
    (verb === undefined || request.method === verb) &&
    (path?.exact === undefined || request.path === path.exact) &&
    (path?.prefix === undefined || isBelow(request.path, path.prefix));
}

/** What an application may read as another path than it is written as: dot segments, escapes, empty segments. */
const AMBIGUOUS_PATH = /\/\.\.?(\/|$)|%2e|%2f|%5c|\\|\/\/|;/i;

/** Whole segments: `/a` holds `/a` and `/a/b` but not `/ab`, nor `/a/../b`. */
function isBelow(path: string, prefix: string): boolean {
  if (AMBIGUOUS_PATH.test(path)) return false;
  const base = prefix.endsWith("/") ? prefix.slice(0, -1) : prefix;
  return path === base || path.startsWith(`${base}/`);
}

function compileOne(authz: MessageOf<typeof Authz>): CompiledAuthorization {
  const networks = authz.networks.flatMap(({ net, except }) => {
    const cidr = net && networkText(net);
    return cidr === undefined ? [] : [{ net: parseCidr(cidr), except: except.map(exceptionOf) }];
  });
  const { unauthenticated, meshTLS } = authz.authentication ?? {};
  const named = meshTLS?.identities;
  return {
    labels: labelsOf(authz),
    networks,
    clients: unauthenticated ? "any" : meshTLS?.unauthenticated ? "mesh" : named ? "named" : "none",
    names: new Set(named?.identities.map((identity) => identity.name)),
    suffixes: named?.suffixes.map(({ parts }) => (parts.length === 0 ? "" : `.${parts.join(".")}`)) ?? [],
  };
}

/** An exception that cannot be read excepts everything: when in doubt, nobody is let in. */
function exceptionOf(network: Parameters<typeof networkText>[0]): Cidr {
  return parseCidr(networkText(network) ?? "0.0.0.0/0");
}

function labelsOf(authz: MessageOf<typeof Authz>): Record<string, string> {
  const { default: name, resource } = authz.metadata ?? {};
  if (resource) return { group: resource.group, kind: resource.kind, name: resource.name };
  if (name !== undefined) return { group: "", kind: "default", name };
  return authz.labels;
}

function mismatch(
  authorization: CompiledAuthorization,
  address: { family: 4 | 6; bits: bigint },
  client: Client,
): string | undefined {
  const inNetwork = authorization.networks.some(
    ({ net, except }) => cidrHas(net, address) && !except.some((cidr) => cidrHas(cidr, address)),
  );
  if (!inNetwork) return `${client.ip} is in none of its networks`;
  switch (authorization.clients) {
    case "any":
      return undefined;
    case "mesh":
      return client.tls ? undefined : "the connection is not mesh TLS";
    case "named": {
      const { identity } = client;
      if (identity === undefined) return "the client has no mesh identity";
      const known =
        authorization.names.has(identity) ||
        authorization.suffixes.some((suffix) => identity.endsWith(suffix));
      return known ? undefined : `${identity} is none of its clients`;
    }
    default:
      return "it names no clients";
  }
}

function describe(authorization: CompiledAuthorization): string {
  const { kind, name } = authorization.labels;
  const networks = authorization.networks.map(({ net }) => formatCidr(net)).join(",");
  return `${kind ?? "authorization"} ${name ?? ""} for ${networks}`;
}

function isLoopback({ family, bits }: { family: 4 | 6; bits: bigint }): boolean {
  return family === 4 ? bits >> 24n === 127n : bits === 1n;
}
