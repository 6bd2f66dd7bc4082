// What a route does to a request on its way: changes of its fields and of those of its response, redirects, and faults
// on purpose. Compiled once; applied to each request of the route.
import type { MessageOf } from "../api/codec.ts";
import type { GrpcFailureInjector } from "../api/grpc-route.ts";
import type {
  HttpFailureInjector,
  Ratio,
  RequestHeaderModifier,
  RequestRedirect,
  ResponseHeaderModifier,
} from "../api/http-route.ts";
import type { RequestFacts } from "./route-match.ts";

export interface FieldChange {
  readonly op: "set" | "add" | "remove";
  /** In lower case. */
  readonly name: string;
  readonly value: string;
}

/** Filters of any kind of route; each of the messages has some of these. */
export interface FilterMessage {
  readonly failureInjector?: MessageOf<typeof HttpFailureInjector> | MessageOf<typeof GrpcFailureInjector>;
  readonly requestHeaderModifier?: MessageOf<typeof RequestHeaderModifier>;
  readonly redirect?: MessageOf<typeof RequestRedirect>;
  readonly responseHeaderModifier?: MessageOf<typeof ResponseHeaderModifier>;
}

interface Fault {
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly message: string;
  /** Of requests, from 0 to 1. */
  readonly share: number;
}

interface Redirect {
  readonly scheme: string | undefined;
  readonly host: string;
  readonly full: string | undefined;
  readonly prefix: string | undefined;
  readonly port: number;
  readonly status: number;
}

export interface FilterSet {
  readonly request: readonly FieldChange[];
  readonly response: readonly FieldChange[];
  readonly faults: readonly Fault[];
  readonly redirect: Redirect | undefined;
}

export const NO_FILTERS: FilterSet = { request: [], response: [], faults: [], redirect: undefined };

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

export function compileFilters(filters: readonly FilterMessage[]): FilterSet {
  if (filters.length === 0) return NO_FILTERS;
  const request: FieldChange[] = [];
  const response: FieldChange[] = [];
  const faults: Fault[] = [];
  let redirect: Redirect | undefined;
  for (const filter of filters) {
    if (filter.requestHeaderModifier) request.push(...changesOf(filter.requestHeaderModifier));
    if (filter.responseHeaderModifier) response.push(...changesOf(filter.responseHeaderModifier));
    if (filter.failureInjector) faults.push(faultOf(filter.failureInjector));
    if (filter.redirect) redirect ??= redirectOf(filter.redirect);
  }
  return { request, response, faults, redirect };
}

function changesOf(modifier: MessageOf<typeof RequestHeaderModifier>): FieldChange[] {
  const list = (op: "set" | "add", headers: typeof modifier.add): FieldChange[] =>
    (headers?.headers ?? []).map(({ name, value }) => ({
      op,
      name: name.toLowerCase(),
      value: value.toString("latin1"),
    }));
  return [
    ...list("set", modifier.set),
    ...list("add", modifier.add),
    ...modifier.remove.map((name) => ({ op: "remove" as const, name: name.toLowerCase(), value: "" })),
  ];
}

function faultOf(injector: NonNullable<FilterMessage["failureInjector"]>): Fault {
  const share = shareOf(injector.ratio);
  return "code" in injector
    ? { status: 200, grpcStatus: injector.code, message: injector.message, share }
    : { status: injector.status, grpcStatus: undefined, message: injector.message, share };
}

/** No ratio: every request. */
function shareOf(ratio: MessageOf<typeof Ratio> | undefined): number {
  if (!ratio || ratio.denominator === 0) return 1;
  return Math.min(ratio.numerator / ratio.denominator, 1);
}

function redirectOf(redirect: MessageOf<typeof RequestRedirect>): Redirect {
  const { scheme, host, path, port, status } = redirect;
  return {
    scheme: scheme?.unregistered ?? (scheme ? (scheme.registered === 1 ? "https" : "http") : undefined),
    host,
    full: path?.full,
    prefix: path?.prefix,
    port,
    status: status === 0 ? 302 : status,
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
  return {
    kind: "redirect",
    status: set.redirect.status,
    location: locationOf(set.redirect, facts, matched ?? ""),
  };
}

function locationOf(
  redirect: Redirect,
  facts: RequestFacts & { readonly scheme?: string },
  matched: string,
): string {
  const scheme = redirect.scheme ?? facts.scheme ?? "http";
  const { host, port } = splitAuthority(facts.authority);
  const name = redirect.host === "" ? host : redirect.host;
  // Another scheme or host means another port, unless one is named (Gateway API, HTTPRequestRedirectFilter).
  const sameScheme = redirect.scheme === undefined || redirect.scheme === facts.scheme;
  const number = redirect.port || (sameScheme && redirect.host === "" ? port : 0);
  const usual = scheme === "https" ? 443 : 80;
  const authority = number === 0 || number === usual ? name : `${name}:${number}`;
  return `${scheme}://${authority}${pathOf(redirect, facts.path, matched)}`;
}

function pathOf({ full, prefix }: Redirect, target: string, matched: string): string {
  if (full !== undefined) return full;
  if (prefix === undefined) return target;
  const rest = target.slice(matched.length);
  const base = prefix.replace(/\/+$/, "");
  const joined = `${base}${rest === "" || rest[0] === "/" || rest[0] === "?" ? "" : "/"}${rest}`;
  return joined.startsWith("/") ? joined : `/${joined}`;
}

function splitAuthority(authority: string): { host: string; port: number } {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(authority);
  return { host: match?.[1] ?? authority, port: Number(match?.[2] ?? 0) };
}
