// What a route does to a request on its way: changes of its fields and of those of its response, redirects, rewrites,
// and faults on purpose. Compiled once; applied to each request of the route.
import type { MessageOf } from "../api/codec.ts";
import type { GrpcFailureInjector } from "../api/grpc-route.ts";
import type {
  HttpFailureInjector,
  PathModifier,
  Ratio,
  RequestHeaderModifier,
  RequestRedirect,
  ResponseHeaderModifier,
} from "../api/http-route.ts";
import type { DelayInjector, MeshFilter, UrlRewrite } from "../api/outbound.ts";
import { durationMs } from "../api/time.ts";
import { PolicyError } from "./policy-error.ts";
import type { RequestFacts } from "./route-match.ts";
import type { Trace } from "./trace.ts";

/** The longest that a request is held back on purpose, ms. */
const MAX_DELAY = 3_600_000;

export interface FieldChange {
  readonly op: "set" | "add" | "remove";
  /** In lower case. */
  readonly name: string;
  readonly value: string;
}

/** Filters of any kind of route; each of the messages has some of these. */
export interface FilterMessage {
  readonly failureInjector?:
    | MessageOf<typeof HttpFailureInjector>
    | MessageOf<typeof GrpcFailureInjector>
    | undefined;
  readonly requestHeaderModifier?: MessageOf<typeof RequestHeaderModifier> | undefined;
  readonly redirect?: MessageOf<typeof RequestRedirect> | undefined;
  readonly responseHeaderModifier?: MessageOf<typeof ResponseHeaderModifier> | undefined;
}

interface Fault {
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly message: string;
  /** Of requests, from 0 to 1. */
  readonly share: number;
}

interface Delay {
  readonly ms: number;
  /** Of requests, from 0 to 1. */
  readonly share: number;
}

interface PathChange {
  readonly full: string | undefined;
  /** What the matched prefix becomes, without slashes at its end. */
  readonly prefix: string | undefined;
}

interface Redirect {
  readonly scheme: string | undefined;
  readonly host: string;
  readonly path: PathChange;
  readonly port: number;
  readonly status: number;
}

interface Rewrite {
  readonly hostname: string | undefined;
  readonly path: PathChange;
}

export interface FilterSet {
  readonly request: readonly FieldChange[];
  readonly response: readonly FieldChange[];
  readonly faults: readonly Fault[];
  readonly delays: readonly Delay[];
  readonly redirect: Redirect | undefined;
  readonly rewrite: Rewrite | undefined;
}

export const NO_FILTERS: FilterSet = {
  request: [],
  response: [],
  faults: [],
  delays: [],
  redirect: undefined,
  rewrite: undefined,
};

/** What becomes of a request: it goes on, or is answered at once. */
export type FilterVerdict =
  | { readonly kind: "go" }
  | { readonly kind: "redirect"; readonly status: number; readonly location: string }
  | {
      readonly kind: "fail";
      readonly status: number;
      readonly grpcStatus: number | undefined;
      readonly message: string;
    };

const GO: FilterVerdict = { kind: "go" };

/**
 * @param own filters of this mesh's own; mirrors among them are the route's affair
 * @param prefixed whether each request of the route is known by a prefix of its path, which can then be replaced
 * @throws PolicyError for a filter that cannot be applied
 */
export function compileFilters(
  filters: readonly FilterMessage[],
  own: readonly MessageOf<typeof MeshFilter>[] = [],
  prefixed = true,
): FilterSet {
  if (filters.length === 0 && own.length === 0) return NO_FILTERS;
  const request: FieldChange[] = [];
  const response: FieldChange[] = [];
  const faults: Fault[] = [];
  const delays: Delay[] = [];
  let redirect: Redirect | undefined;
  let rewrite: Rewrite | undefined;
  for (const filter of filters) {
    if (filter.requestHeaderModifier) request.push(...changesOf(filter.requestHeaderModifier));
    else if (filter.responseHeaderModifier) response.push(...changesOf(filter.responseHeaderModifier));
    else if (filter.failureInjector) faults.push(faultOf(filter.failureInjector));
    else if (filter.redirect) redirect ??= redirectOf(filter.redirect);
    else throw new PolicyError("a filter is of a kind that this proxy does not know");
  }
  for (const { urlRewrite, delayInjector, requestMirror, responseHeaderModifier } of own) {
    if (urlRewrite && rewrite) throw new PolicyError("a route rewrites URLs twice");
    if (urlRewrite) rewrite = rewriteOf(urlRewrite);
    else if (delayInjector) delays.push(delayOf(delayInjector));
    else if (requestMirror) shareOf(requestMirror.ratio);
    else if (responseHeaderModifier) response.push(...changesOf(responseHeaderModifier));
    else throw new PolicyError("a filter is of a kind that this proxy does not know");
  }
  if (redirect && rewrite) throw new PolicyError("a route both redirects and rewrites URLs");
  if (!prefixed && (redirect ?? rewrite)?.path.prefix !== undefined)
    throw new PolicyError("a path prefix can only be replaced where routes match by prefix");
  return { request, response, faults, delays, redirect, rewrite };
}

function changesOf(modifier: MessageOf<typeof RequestHeaderModifier>): FieldChange[] {
  const list = (op: "set" | "add", headers: typeof modifier.add): FieldChange[] =>
    (headers?.headers ?? []).map(({ name, value }) => ({
      op,
      name: name.toLowerCase(),
      value: value.toString("latin1"),
    }));
  // In the order that the proxy API names (http_route.proto, RequestHeaderModifier).
  return [
    ...list("add", modifier.add),
    ...list("set", modifier.set),
    ...modifier.remove.map((name) => ({ op: "remove" as const, name: name.toLowerCase(), value: "" })),
  ];
}

function faultOf(injector: NonNullable<FilterMessage["failureInjector"]>): Fault {
  const share = shareOf(injector.ratio);
  return "code" in injector
    ? { status: 200, grpcStatus: injector.code, message: injector.message, share }
    : { status: injector.status, grpcStatus: undefined, message: injector.message, share };
}

/** No ratio: every request. @throws PolicyError */
export function shareOf(ratio: MessageOf<typeof Ratio> | undefined): number {
  if (!ratio) return 1;
  if (ratio.denominator === 0) throw new PolicyError("a ratio has the denominator 0");
  return Math.min(ratio.numerator / ratio.denominator, 1);
}

function delayOf({ delay, ratio }: MessageOf<typeof DelayInjector>): Delay {
  const ms = delay ? durationMs(delay) : 0;
  if (!(ms > 0 && ms <= MAX_DELAY)) throw new PolicyError(`a delay of ${ms} ms is not between 0 and 1 h`);
  return { ms, share: shareOf(ratio) };
}

/** What may stand in a target, and in a host. */
const TARGET = /^[\x21\x22\x24-\x7e]*$/;
const HOST = /^[A-Za-z0-9._~-]*$/;

function pathOf(path: MessageOf<typeof PathModifier> | undefined): PathChange {
  const { full, prefix } = path ?? {};
  if (!TARGET.test(full ?? "") || !TARGET.test(prefix ?? ""))
    throw new PolicyError(`${JSON.stringify(full ?? prefix)} cannot be part of a URL`);
  return { full: full && !full.startsWith("/") ? `/${full}` : full, prefix: prefix?.replace(/\/+$/, "") };
}

function rewriteOf({ hostname, path }: MessageOf<typeof UrlRewrite>): Rewrite {
  if (!HOST.test(hostname)) throw new PolicyError(`${JSON.stringify(hostname)} is no host name`);
  return { hostname: hostname === "" ? undefined : hostname, path: pathOf(path) };
}

function redirectOf(redirect: MessageOf<typeof RequestRedirect>): Redirect {
  const { scheme, host, path, port, status } = redirect;
  return {
    scheme: scheme?.unregistered ?? (scheme ? (scheme.registered === 1 ? "https" : "http") : undefined),
    host,
    path: pathOf(path),
    port,
    // As the proxy API has it; Gateway API's 302 is its control plane's to send.
    status: status === 0 ? 301 : status,
  };
}

/**
 * What the filters say of one request, beside changing its fields.
 * @param matched the path prefix by which the route took the request
 * @param random uniform in [0, 1)
 */
export function applyFilters(
  set: FilterSet,
  facts: RequestFacts & { readonly scheme?: string },
  matched: string | undefined,
  random: () => number,
): FilterVerdict {
  for (const { share, status, grpcStatus, message } of set.faults) {
    if (share === 1 || random() < share) return { kind: "fail", status, grpcStatus, message };
  }
  if (!set.redirect) return GO;
  const location = locationOf(set.redirect, facts, matched ?? "");
  // Who is sent to where they are would come back for ever.
  if (location === `${facts.scheme ?? "http"}://${facts.authority}${facts.path}`) return GO;
  return { kind: "redirect", status: set.redirect.status, location };
}

/** For how long a request is held back first, ms; 0: not at all. @param random as of `applyFilters` */
export function drawDelay({ delays }: FilterSet, random: () => number, trace?: Trace): number {
  for (const { ms, share } of delays) {
    if (share !== 1 && random() >= share) continue;
    trace?.add("delay", true, `held back for ${ms} ms, as ${100 * share} % of the requests are`);
    return ms;
  }
  return 0;
}

/** What a request names instead. */
export interface Renamed {
  readonly path: string | undefined;
  readonly authority: string | undefined;
}

/**
 * How the filters rewrite a request's URL; undefined: not at all. The query stays.
 * @param matched as of `applyFilters`
 */
export function rewritten(
  { rewrite }: FilterSet,
  facts: RequestFacts,
  matched: string | undefined,
  trace?: Trace,
): Renamed | undefined {
  if (!rewrite) return undefined;
  const { path: target } = facts;
  let path: string | undefined;
  // `OPTIONS *` and CONNECT name no path.
  if (target.startsWith("/")) {
    const mark = target.indexOf("?");
    const query = mark < 0 ? "" : target.slice(mark);
    const { full } = rewrite.path;
    path =
      full === undefined
        ? replaced(rewrite.path, target, matched ?? "")
        : full.includes("?")
          ? full
          : full + query;
    if (path === target) path = undefined;
  }
  trace?.add(
    "URL rewrite",
    true,
    `${facts.authority}${target} becomes ${rewrite.hostname ?? facts.authority}${path ?? target}`,
  );
  return { path, authority: rewrite.hostname };
}

function locationOf(
  redirect: Redirect,
  facts: RequestFacts & { readonly scheme?: string },
  matched: string,
): string {
  const scheme = redirect.scheme ?? facts.scheme ?? "http";
  const { host, port } = splitAuthority(facts.authority);
  const name = redirect.host === "" ? host : redirect.host;
  // A scheme that is named means its own port, unless one is named, too (Gateway API, HTTPRequestRedirectFilter).
  const number = redirect.port || (redirect.scheme === undefined ? port : 0);
  const usual = scheme === "https" ? 443 : 80;
  const authority = number === 0 || number === usual ? name : `${name}:${number}`;
  const { full } = redirect.path;
  return `${scheme}://${authority}${full ?? replaced(redirect.path, facts.path, matched)}`;
}

/** The target with its matched prefix replaced, if that is asked for (Gateway API, HTTPPathModifier). */
function replaced({ prefix }: PathChange, target: string, matched: string): string {
  if (prefix === undefined) return target;
  const rest = target.slice(matched.length);
  const joined = `${prefix}${rest === "" || rest[0] === "/" || rest[0] === "?" ? "" : "/"}${rest}`;
  return joined.startsWith("/") ? joined : `/${joined}`;
}

function splitAuthority(authority: string): { host: string; port: number } {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(authority);
  return { host: match?.[1] ?? authority, port: Number(match?.[2] ?? 0) };
}
