// Routes (HTTPRoute of both groups, GRPCRoute, TLSRoute, TCPRoute) as records: their conditions and filters in the
// proxy API's own messages, and why a route cannot be applied, when it cannot. What admission warns of is what it says.
import type { MessageOf } from "../api/codec.ts";
import type { HeaderMatch, HostMatch, HttpRouteMatch } from "../api/http-route.ts";
import { methodMessage, schemeMessage } from "../api/http-types.ts";
import { type KubeObject, parseGoDuration, type RouteStatus } from "../crds/index.ts";
import { errorMessage } from "../util/error.ts";
import { compileFilters } from "./filters.ts";
import {
  type BackendRef,
  type ExtraFilter,
  GATEWAY_GROUP,
  type ParentRef,
  type RouteFilter,
  type RouteKind,
  type RouteRecord,
  type RouteRuleRecord,
  type RuleRetry,
} from "./policy-records.ts";
import { compileRegex } from "./regex.ts";
import { trafficSettings } from "./traffic-annotations.ts";

type Http = MessageOf<typeof HttpRouteMatch>;
type Grpc = RouteRuleRecord["grpc"][number];

interface ValueSpec {
  readonly type?: string;
  readonly name?: string;
  readonly value?: string;
}

interface HeaderModifierSpec {
  readonly set?: readonly ValueSpec[];
  readonly add?: readonly ValueSpec[];
  readonly remove?: readonly string[];
}

interface PathModifierSpec {
  readonly type?: string;
  readonly replaceFullPath?: string;
  readonly replacePrefixMatch?: string;
}

interface FilterSpec {
  readonly type?: string;
  readonly requestHeaderModifier?: HeaderModifierSpec;
  readonly responseHeaderModifier?: HeaderModifierSpec;
  readonly requestRedirect?: {
    readonly scheme?: string;
    readonly hostname?: string;
    readonly port?: number;
    readonly statusCode?: number;
    readonly path?: PathModifierSpec;
  };
  readonly urlRewrite?: { readonly hostname?: string; readonly path?: PathModifierSpec };
  readonly requestMirror?: {
    readonly backendRef?: RefSpec;
    readonly percent?: number;
    readonly fraction?: { readonly numerator?: number; readonly denominator?: number };
  };
}

interface RefSpec {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly port?: number;
  readonly sectionName?: string;
}

interface BackendSpec extends RefSpec {
  readonly weight?: number;
  readonly filters?: readonly FilterSpec[];
}

interface MatchSpec {
  readonly path?: { readonly type?: string; readonly value?: string };
  readonly method?: string | { readonly type?: string; readonly service?: string; readonly method?: string };
  readonly headers?: readonly ValueSpec[];
  readonly queryParams?: readonly ValueSpec[];
}

interface RuleSpec {
  readonly matches?: readonly MatchSpec[];
  readonly filters?: readonly FilterSpec[];
  readonly backendRefs?: readonly BackendSpec[];
  readonly timeouts?: { readonly request?: string; readonly backendRequest?: string };
  readonly retry?: {
    readonly codes?: readonly number[];
    readonly attempts?: number;
    readonly backoff?: string;
  };
}

export interface RouteObject extends KubeObject {
  readonly spec?: {
    readonly parentRefs?: readonly RefSpec[];
    readonly hostnames?: readonly string[];
    readonly rules?: readonly RuleSpec[];
  };
  readonly status?: Partial<RouteStatus>;
}

export type RouteParentStatus = RouteStatus["parents"][number];

/** What a route asks that cannot be had. */
class UnsupportedError extends Error {}

export const createdAt = ({ metadata }: KubeObject): number => {
  const time = Date.parse(metadata.creationTimestamp ?? "");
  // Objects without an age give way to those with one.
  return Number.isNaN(time) ? Number.MAX_SAFE_INTEGER : time;
};

export function routeRecord(group: string, kind: RouteKind, object: RouteObject): RouteRecord {
  const { metadata, spec } = object;
  const namespace = metadata.namespace ?? "";
  const base = {
    group,
    kind,
    namespace,
    name: metadata.name,
    created: createdAt(object),
    parents: (spec?.parentRefs ?? []).map((ref) => parentOf(ref, namespace)),
    traffic: trafficSettings(metadata.annotations, kind),
  };
  try {
    const rules = (spec?.rules ?? [{}]).map((rule, index) =>
      within(`rules[${index}]`, () => ruleOf(kind, rule, namespace)),
    );
    return {
      ...base,
      hosts: (spec?.hostnames ?? []).map(hostOf),
      rules,
      problem: undefined,
      serverProblem: serverProblemOf(rules),
    };
  } catch (error) {
    return { ...base, hosts: [], rules: [], problem: errorMessage(error), serverProblem: undefined };
  }
}

function serverProblemOf(rules: readonly RouteRuleRecord[]): string | undefined {
  const index = rules.findIndex(({ extras }) => extras.length > 0);
  return index < 0
    ? undefined
    : `rules[${index}].filters: URLRewrite and RequestMirror are for routes of Services and EgressNetworks`;
}

function parentOf(ref: RefSpec, namespace: string): ParentRef {
  return {
    // The Gateway API's defaults mean a Gateway, which is nobody's here.
    group: ref.group ?? (ref.kind === "Service" ? "" : GATEWAY_GROUP),
    kind: ref.kind ?? "Gateway",
    namespace: ref.namespace ?? namespace,
    name: ref.name ?? "",
    port: ref.port,
    sectionName: ref.sectionName,
  };
}

/** Puts the place of an error before it. */
function within<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const separator = /^\w/.test(errorMessage(error)) && error instanceof UnsupportedError ? "." : ": ";
    throw new UnsupportedError(`${place}${separator}${errorMessage(error)}`);
  }
}

const unsupported = (place: string, what: string): never => {
  throw new UnsupportedError(`${place}: ${what}`);
};

/** `*.example.com` is a suffix. */
function hostOf(name: string): MessageOf<typeof HostMatch> {
  return name.startsWith("*.")
    ? { suffix: { reverseLabels: name.slice(2).split(".").reverse() } }
    : { exact: name };
}

function ruleOf(kind: RouteKind, rule: RuleSpec, namespace: string): RouteRuleRecord {
  const raw = kind === "TLSRoute" || kind === "TCPRoute";
  const matches = raw ? [] : (rule.matches ?? []);
  // GRPCRoutes have no filter that asks.
  const prefixed = matches.every(({ path }) => (path?.type ?? "PathPrefix") === "PathPrefix");
  return {
    http:
      kind === "HTTPRoute"
        ? (matches.length === 0 ? [{}] : matches).map((match, index) =>
            within(`matches[${index}]`, () => httpMatchOf(match)),
          )
        : [],
    grpc:
      kind === "GRPCRoute"
        ? (matches.length === 0 ? [{}] : matches).map((match, index) =>
            within(`matches[${index}]`, () => grpcMatchOf(match)),
          )
        : [],
    ...filtersOf(kind, raw ? [] : rule.filters, namespace, prefixed),
    backends: (rule.backendRefs ?? []).map((backend, index) =>
      within(`backendRefs[${index}]`, () => backendOf(kind, backend, namespace, prefixed)),
    ),
    requestTimeout: timeoutOf("timeouts.request", rule.timeouts?.request),
    backendTimeout: timeoutOf("timeouts.backendRequest", rule.timeouts?.backendRequest),
    retry: kind === "HTTPRoute" && rule.retry ? retryOf(rule.retry) : undefined,
  };
}

function httpMatchOf({ path, method, headers, queryParams }: MatchSpec): Http {
  return {
    path: pathOf(path),
    headers: headersOf(headers),
    queryParams: (queryParams ?? []).map(({ type, name = "", value = "" }, index) => {
      if (type === "RegularExpression")
        return { name, regex: expression(`queryParams[${index}].value`, value) };
      return isExact(type)
        ? { name, exact: value }
        : unsupported(`queryParams[${index}].type`, expected(type, VALUE_TYPES));
    }),
    ...(typeof method === "string" ? { method: methodMessage(method) } : {}),
  };
}

const VALUE_TYPES = ["Exact", "RegularExpression"];
const isExact = (type: string | undefined) => type === undefined || type === "Exact";
const expected = (got: string | undefined, options: readonly string[]) =>
  `expected one of ${options.join(", ")}, got ${got}`;

function pathOf(path: MatchSpec["path"]): Http["path"] {
  const { type = "PathPrefix", value = "/" } = path ?? {};
  switch (type) {
    case "Exact":
      return { exact: value };
    case "PathPrefix":
      return { prefix: value };
    case "RegularExpression":
      return { regex: expression("path.value", value) };
    default:
      return unsupported("path.type", expected(type, ["Exact", "PathPrefix", "RegularExpression"]));
  }
}

function headersOf(headers: MatchSpec["headers"]): MessageOf<typeof HeaderMatch>[] {
  return (headers ?? []).map(({ type, name = "", value = "" }, index) => {
    if (type === "RegularExpression") return { name, regex: expression(`headers[${index}].value`, value) };
    return isExact(type)
      ? { name, exact: Buffer.from(value) }
      : unsupported(`headers[${index}].type`, expected(type, VALUE_TYPES));
  });
}

/** An expression that the proxy will be able to have; otherwise it would refuse the whole policy. */
function expression(place: string, text: string): string {
  try {
    compileRegex(text);
    return text;
  } catch (error) {
    return unsupported(place, errorMessage(error));
  }
}

function grpcMatchOf({ method, headers }: MatchSpec): Grpc {
  const rpc = typeof method === "object" ? method : undefined;
  if (!isExact(rpc?.type)) unsupported("method.type", expected(rpc?.type, ["Exact"]));
  return {
    ...(rpc ? { rpc: { service: rpc.service ?? "", method: rpc.method ?? "" } } : {}),
    headers: headersOf(headers),
  };
}

/** @param prefixed every match of the rule is by prefix, which filters may then replace */
function filtersOf(
  kind: RouteKind,
  specs: readonly FilterSpec[] | undefined,
  namespace: string,
  prefixed: boolean,
): { filters: RouteFilter[]; extras: ExtraFilter[] } {
  const filters: RouteFilter[] = [];
  const extras: ExtraFilter[] = [];
  (specs ?? []).forEach((spec, index) => {
    within(`filters[${index}]`, () => {
      const extra = extraOf(kind, spec, namespace);
      if (extra) extras.push(extra);
      else filters.push(filterOf(kind, spec));
    });
  });
  // What the proxy cannot apply would make it refuse the whole policy.
  const own = extras.map((extra) =>
    "rewrite" in extra ? { urlRewrite: extra.rewrite } : { requestMirror: { ratio: extra.ratio } },
  );
  within("filters", () => compileFilters(filters, own, prefixed));
  return { filters, extras };
}

/** A filter that the proxy API has no message for; undefined: it is another one. */
function extraOf(kind: RouteKind, filter: FilterSpec, namespace: string): ExtraFilter | undefined {
  if (filter.type === "URLRewrite" && kind === "HTTPRoute") {
    const { hostname = "", path } = filter.urlRewrite ?? {};
    return { rewrite: { hostname, path: path && within("urlRewrite", () => modifiedPath(path)) } };
  }
  if (filter.type !== "RequestMirror") return undefined;
  const { backendRef = {}, percent, fraction } = filter.requestMirror ?? {};
  return {
    mirror: { ...referenceOf(backendRef, namespace), weight: 1, filters: [], extras: [] },
    ratio: fraction
      ? { numerator: fraction.numerator ?? 0, denominator: fraction.denominator ?? 100 }
      : percent === undefined
        ? undefined
        : { numerator: percent, denominator: 100 },
  };
}

/** The types of filters that are applied. */
const FILTERS: Readonly<Partial<Record<RouteKind, readonly string[]>>> = {
  HTTPRoute: [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
    "RequestMirror",
  ],
  GRPCRoute: ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"],
};

function filterOf(kind: RouteKind, filter: FilterSpec): RouteFilter {
  // A call of gRPC cannot be sent elsewhere by its answer.
  switch (kind === "GRPCRoute" && filter.type === "RequestRedirect" ? undefined : filter.type) {
    case "RequestHeaderModifier":
      return { requestHeaderModifier: modifierOf(filter.requestHeaderModifier ?? {}) };
    case "ResponseHeaderModifier":
      return { responseHeaderModifier: modifierOf(filter.responseHeaderModifier ?? {}) };
    case "RequestRedirect":
      return { redirect: redirectOf(filter.requestRedirect ?? {}) };
    default:
      return unsupported(
        "type",
        `the mesh has no filter ${filter.type}; it has ${FILTERS[kind]?.join(", ") ?? "none"}`,
      );
  }
}

function modifierOf({ set, add, remove }: HeaderModifierSpec) {
  const headers = (values: readonly ValueSpec[] | undefined) =>
    values && values.length > 0
      ? { headers: values.map(({ name = "", value = "" }) => ({ name, value: Buffer.from(value) })) }
      : undefined;
  return { add: headers(add), set: headers(set), remove: [...(remove ?? [])] };
}

function redirectOf(
  redirect: NonNullable<FilterSpec["requestRedirect"]>,
): NonNullable<RouteFilter["redirect"]> {
  const { scheme, hostname = "", port = 0, statusCode = 302, path } = redirect;
  return {
    scheme: scheme === undefined ? undefined : schemeMessage(scheme),
    host: hostname,
    port,
    status: statusCode,
    path: path && modifiedPath(path),
  };
}

function modifiedPath({ type, replaceFullPath, replacePrefixMatch }: PathModifierSpec) {
  if (type === "ReplaceFullPath") return { full: replaceFullPath ?? "/" };
  if (type === "ReplacePrefixMatch") return { prefix: replacePrefixMatch ?? "/" };
  return unsupported("path.type", expected(type, ["ReplaceFullPath", "ReplacePrefixMatch"]));
}

function backendOf(kind: RouteKind, backend: BackendSpec, namespace: string, prefixed: boolean): BackendRef {
  const { weight = 1, filters } = backend;
  return { ...referenceOf(backend, namespace), weight, ...filtersOf(kind, filters, namespace, prefixed) };
}

function referenceOf(ref: RefSpec, namespace: string) {
  const { group = "", kind = "Service", name = "", port } = ref;
  return { group: group === "core" ? "" : group, kind, namespace: ref.namespace ?? namespace, name, port };
}

/** Durations as admission takes them; nothing and zero mean none. ms */
function timeoutOf(place: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  let ms: number;
  try {
    ms = parseGoDuration(text);
  } catch (error) {
    return unsupported(place, errorMessage(error));
  }
  if (ms < 0) return unsupported(place, `expected a duration that is not negative, got ${text}`);
  return ms > 0 ? Math.min(Math.max(ms, 1), MAX_TIMEOUT) : undefined;
}

/** No request lasts longer, ms: a year. */
const MAX_TIMEOUT = 31_536_000_000;

function retryOf({ codes, attempts, backoff }: NonNullable<RuleSpec["retry"]>): RuleRetry {
  return { attempts: attempts ?? 1, codes: [...(codes ?? [])], backoff: timeoutOf("retry.backoff", backoff) };
}
