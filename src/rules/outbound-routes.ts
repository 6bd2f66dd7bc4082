// The routes of an outbound destination, from its policy or its ServiceProfile, as one table: which rule takes a request,
// what is done to it, where it may go, and how often it is tried.
import type { MessageOf } from "../api/codec.ts";
import type { DestinationProfile, RequestMatch, ResponseMatch, WeightedAddr } from "../api/destination.ts";
import { REGISTERED_METHODS } from "../api/http-types.ts";
import type { Backend, GrpcRoute, HttpRoute, MeshFilters } from "../api/outbound.ts";
import { durationMs } from "../api/time.ts";
import type { Distribution, Weighted } from "./distribution.ts";
import { compileFilters, type FilterMessage, type FilterSet, NO_FILTERS, shareOf } from "./filters.ts";
import { PolicyError } from "./policy-error.ts";
import { compileRegex } from "./regex.ts";
import {
  type BudgetOptions,
  DEFAULT_BUDGET,
  grpcRetry,
  httpRetry,
  REPLAY_LIMIT,
  type RetryPolicy,
} from "./retry.ts";
import {
  type RequestFacts,
  type RouteMatch,
  type RouteRef,
  RouteTable,
  refOf,
  refText,
} from "./route-match.ts";
import type { Trace } from "./trace.ts";

/** Where a backend's traffic goes. */
export type Target =
  /** Balanced over the endpoints that discovery names for `path`. */
  | {
      readonly kind: "balance";
      readonly path: string;
      readonly backend?: MessageOf<typeof Backend> | undefined;
      /** It gets copies of requests, and has queue, load and connections of its own for them. */
      readonly mirror?: true | undefined;
    }
  /** To one known endpoint. */
  | {
      readonly kind: "endpoint";
      readonly endpoint: MessageOf<typeof WeightedAddr>;
      readonly mirror?: true | undefined;
    }
  /** To the original address, as if there were no mesh. */
  | { readonly kind: "original" }
  /** Nowhere: the policy forbids it, or names what does not exist. */
  | { readonly kind: "nowhere"; readonly refusal: "unauthorized" | "no-route"; readonly why: string };

export interface RouteBackend extends Weighted {
  readonly ref: RouteRef;
  readonly target: Target;
  readonly filters: FilterSet;
  /** What else gets copies of the requests sent here. */
  readonly mirrors: readonly RouteMirror[];
  /** Of requests sent here, ms. */
  readonly timeout: number | undefined;
}

export interface RouteMirror {
  readonly backend: RouteBackend;
  /** Of the requests, from 0 to 1. */
  readonly share: number;
}

export interface RouteTimeouts {
  /** Of the whole request with all its tries, until the response's head, and without a byte either way, ms. */
  readonly request: number | undefined;
  readonly response: number | undefined;
  readonly idle: number | undefined;
}

export interface RouteRule {
  readonly route: RouteRef;
  readonly grpc: boolean;
  readonly filters: FilterSet;
  readonly mirrors: readonly RouteMirror[];
  readonly backends: Distribution<RouteBackend>;
  readonly timeouts: RouteTimeouts;
  readonly retry: RetryPolicy | undefined;
  /** Callers may change retries and timeouts by header. */
  readonly allowHeaders: boolean;
  /** Of a ServiceProfile: any failure as classified is retried, and how responses are classified. */
  readonly profile: ProfileRoute | undefined;
}

export interface ProfileRoute {
  /** `rt_*` labels. */
  readonly labels: Readonly<Record<string, string>>;
  readonly isRetryable: boolean;
  /** Whether a status is a failure; undefined: as usual. */
  isFailure(status: number): boolean | undefined;
}

export interface OutboundRoutes {
  /** The rule of every request, when there is nothing to be done but to send it to its one backend. */
  readonly only: RouteBackend | undefined;
  /** That rule. */
  readonly onlyRule: RouteRule | undefined;
  readonly budget: BudgetOptions;
  find(facts: RequestFacts, trace?: Trace): RouteMatch<RouteRule> | undefined;
  /** Every backend of every rule, and every mirror's. */
  readonly backends: readonly RouteBackend[];
}

const NO_MIRRORS: readonly RouteMirror[] = [];
const NO_TIMEOUTS: RouteTimeouts = { request: undefined, response: undefined, idle: undefined };

/** The routes of a policy. @throws PolicyError for an expression that cannot be had, or a filter that cannot be applied */
export function policyRoutes(
  http: readonly MessageOf<typeof HttpRoute>[] | undefined,
  grpc: readonly MessageOf<typeof GrpcRoute>[] | undefined,
): OutboundRoutes {
  const candidates = [
    ...(http ?? []).flatMap((route) =>
      route.rules.map((rule) => ({
        hosts: route.hosts,
        http: rule.matches,
        text: refText(refOf(route.metadata)),
        rule: ruleOf(route.metadata, rule, httpRetry(rule.retry), false),
      })),
    ),
    ...(grpc ?? []).flatMap((route) =>
      route.rules.map((rule) => ({
        hosts: route.hosts,
        grpc: rule.matches,
        text: refText(refOf(route.metadata)),
        rule: ruleOf(route.metadata, rule, grpcRetry(rule.retry), true),
      })),
    ),
  ];
  const table = new RouteTable<RouteRule>(candidates);
  const rules = candidates.map(({ rule }) => rule);
  const only = table.takesAll && rules.length === 1 ? plainBackend(rules[0]!) : undefined;
  return {
    only,
    onlyRule: only && rules[0],
    budget: DEFAULT_BUDGET,
    find: (facts, trace) => table.find(facts, trace),
    backends: rules.flatMap(everyBackend),
  };
}

type RuleMessage =
  | MessageOf<typeof HttpRoute>["rules"][number]
  | MessageOf<typeof GrpcRoute>["rules"][number];

function ruleOf(
  metadata: MessageOf<typeof HttpRoute>["metadata"],
  rule: RuleMessage,
  retry: RetryPolicy | undefined,
  grpc: boolean,
): RouteRule {
  const { timeouts, requestTimeout } = rule;
  const request = timeouts?.request ?? requestTimeout;
  const prefixed = !rule.matches.some(isNotByPrefix);
  return {
    route: refOf(metadata),
    grpc,
    filters: compileFilters(rule.filters as readonly FilterMessage[], rule.meshFilters?.filters, prefixed),
    mirrors: mirrorsOf(rule.meshFilters),
    backends: distributionOf(rule.backends, prefixed),
    timeouts: {
      request: request && durationMs(request),
      response: timeouts?.response && durationMs(timeouts.response),
      idle: timeouts?.idle && durationMs(timeouts.idle),
    },
    retry: retry && retry.maxRetries > 0 ? retry : undefined,
    allowHeaders: rule.allowL5dRequestHeaders,
    profile: undefined,
  };
}

/** It matches by a whole path, an expression, or the name of a gRPC method: there is no prefix to be replaced. */
function isNotByPrefix(match: RuleMessage["matches"][number]): boolean {
  if ("rpc" in match) return match.rpc !== undefined;
  const { exact, regex } = ("path" in match && match.path) || {};
  return exact !== undefined || regex !== undefined;
}

/** @throws PolicyError for a mirror that leads nowhere */
function mirrorsOf(own: MessageOf<typeof MeshFilters> | undefined): readonly RouteMirror[] {
  const mirrors: RouteMirror[] = [];
  for (const { requestMirror } of own?.filters ?? []) {
    if (!requestMirror) continue;
    const target = targetOf(requestMirror.backend);
    if (!target) throw new PolicyError("a request mirror has no backend");
    const ref = refOf(requestMirror.backend?.metadata);
    const backend = bareBackend({ ...target, mirror: true } as Target, ref);
    mirrors.push({ backend, share: shareOf(requestMirror.ratio) });
  }
  return mirrors.length === 0 ? NO_MIRRORS : mirrors;
}

function everyBackend({ backends, mirrors }: RouteRule): readonly RouteBackend[] {
  const all = [...backends.backends];
  for (const { backend } of mirrors) all.push(backend);
  for (const backend of backends.backends) for (const mirror of backend.mirrors) all.push(mirror.backend);
  return all;
}

function distributionOf(
  distribution: RuleMessage["backends"],
  prefixed: boolean,
): Distribution<RouteBackend> {
  const { firstAvailable, randomAvailable } = distribution ?? {};
  if (firstAvailable) {
    const backends = firstAvailable.backends.flatMap((backend) => backendOf(backend, 1, prefixed));
    return { kind: "first", backends };
  }
  if (randomAvailable) {
    const backends = randomAvailable.backends.flatMap(({ backend, weight }) =>
      backend ? backendOf(backend, weight, prefixed) : [],
    );
    return { kind: "random", backends };
  }
  return { kind: "empty", backends: [] };
}

type BackendMessage = NonNullable<
  NonNullable<NonNullable<RuleMessage["backends"]>["firstAvailable"]>["backends"][number]
>;

function backendOf(message: BackendMessage, weight: number, prefixed: boolean): RouteBackend[] {
  const ref = refOf(message.backend?.metadata);
  // Its share is not the others': what is drawn for it fails, by its filters or because it leads nowhere.
  const target = targetOf(message.backend) ?? nowhere(ref);
  return [
    {
      ref,
      target,
      weight,
      text: refText(ref),
      filters: compileFilters(
        message.filters as readonly FilterMessage[],
        message.meshFilters?.filters,
        prefixed,
      ),
      mirrors: mirrorsOf(message.meshFilters),
      timeout: message.requestTimeout && durationMs(message.requestTimeout),
    },
  ];
}

const nowhere = (ref: RouteRef): Target => ({
  kind: "nowhere",
  refusal: "no-route",
  why: `there is no way to ${refText(ref)}`,
});

/** Where a backend of the API leads; undefined: nowhere that is known here. */
export function targetOf(backend: MessageOf<typeof Backend> | undefined): Target | undefined {
  const path = backend?.balancer?.discovery?.dst?.path;
  if (path) return { kind: "balance", path, backend };
  return backend?.forward ? { kind: "endpoint", endpoint: backend.forward } : undefined;
}

/** The backend of a rule that asks for nothing else. */
function plainBackend(rule: RouteRule): RouteBackend | undefined {
  const { filters, mirrors, timeouts, retry, allowHeaders, backends, profile } = rule;
  const [backend] = backends.backends;
  if (backends.backends.length !== 1 || backend!.filters !== NO_FILTERS || backend!.timeout !== undefined)
    return undefined;
  const plain =
    filters === NO_FILTERS &&
    mirrors.length === 0 &&
    backend!.mirrors.length === 0 &&
    retry === undefined &&
    !allowHeaders &&
    profile === undefined &&
    timeouts.request === undefined &&
    timeouts.response === undefined &&
    timeouts.idle === undefined;
  return plain && backend!.weight > 0 && backend!.target.kind !== "nowhere" ? backend : undefined;
}

/** A backend that asks for nothing. */
function bareBackend(target: Target, ref: RouteRef, weight = 1, text = refText(ref)): RouteBackend {
  return { ref, target, weight, text, filters: NO_FILTERS, mirrors: NO_MIRRORS, timeout: undefined };
}

/** One backend that takes everything. */
export function plainRoutes(target: Target, ref: RouteRef = refOf(undefined)): OutboundRoutes {
  const backend = bareBackend(target, ref);
  const onlyRule: RouteRule = {
    route: refOf({ default: "default" }),
    grpc: false,
    filters: NO_FILTERS,
    mirrors: NO_MIRRORS,
    backends: { kind: "first", backends: [backend] },
    timeouts: NO_TIMEOUTS,
    retry: undefined,
    allowHeaders: false,
    profile: undefined,
  };
  return { only: backend, onlyRule, budget: DEFAULT_BUDGET, find: () => undefined, backends: [backend] };
}

// ── ServiceProfiles ───────────────────────────────────────────────────────────────────────────────────────────

type Profile = MessageOf<typeof DestinationProfile>;

/** Whether a profile says anything about routes: then it wins over the policy (reference/data-planes.md §1.7). */
export const hasProfileRoutes = (profile: Profile | null): profile is Profile =>
  profile !== null && (profile.routes.length > 0 || profile.dstOverrides.length > 0);

/**
 * The routes of a ServiceProfile: the first whose condition holds takes the request.
 * @param fallback where its traffic goes without overrides
 * @throws PolicyError
 */
export function profileRoutes(profile: Profile, fallback: Target): OutboundRoutes {
  const backends = profileBackends(profile, fallback);
  const rules = profile.routes.map((route) => ({
    condition: compileCondition(route.condition),
    text: `profile route ${route.metricsLabels["route"] ?? ""}`,
    match: {
      prefix: undefined,
      exact: false,
      rule: profileRule(backends, {
        labels: route.metricsLabels,
        isRetryable: route.isRetryable,
        isFailure: compileClasses(route.responseClasses),
        timeout: route.timeout && durationMs(route.timeout),
      }),
    },
  }));
  const other: RouteMatch<RouteRule> = {
    prefix: undefined,
    exact: false,
    rule: profileRule(backends, {
      labels: {},
      isRetryable: false,
      isFailure: () => undefined,
      timeout: undefined,
    }),
  };
  return {
    only: undefined,
    onlyRule: undefined,
    budget: budgetOf(profile.retryBudget),
    find(facts, trace) {
      for (const { condition, text, match } of rules) {
        const holds = condition(facts);
        trace?.add(text, holds, holds ? "its condition holds" : "its condition does not hold");
        if (holds) return match;
      }
      return other;
    },
    backends: backends.backends,
  };
}

function profileRule(
  backends: Distribution<RouteBackend>,
  { timeout, ...profile }: ProfileRoute & { timeout: number | undefined },
): RouteRule {
  return {
    route: { group: "linkerd.io", kind: "ServiceProfile", namespace: "", name: "", section: "", port: 0 },
    grpc: false,
    filters: NO_FILTERS,
    mirrors: NO_MIRRORS,
    backends,
    timeouts: { ...NO_TIMEOUTS, request: timeout },
    retry: profile.isRetryable
      ? {
          // The budget alone bounds it (reference/data-planes.md §1.11).
          maxRetries: 20,
          maxBytes: REPLAY_LIMIT,
          statuses: [],
          grpc: new Set(),
          timeout: undefined,
          backoff: { min: 1, max: 1, jitter: 0 },
          respectRetryAfter: false,
        }
      : undefined,
    allowHeaders: false,
    profile,
  };
}

function profileBackends(profile: Profile, fallback: Target): Distribution<RouteBackend> {
  if (profile.dstOverrides.length === 0)
    return {
      kind: "first",
      backends: [bareBackend(fallback, refOf(undefined), 1, profile.fullyQualifiedName)],
    };
  return {
    kind: "random",
    backends: profile.dstOverrides.map(({ authority, weight, backendRef }) =>
      bareBackend(
        { kind: "balance", path: authority.replace(/\.(?=:|$)/, "") },
        refOf(backendRef),
        weight,
        authority,
      ),
    ),
  };
}

function budgetOf(budget: Profile["retryBudget"]): BudgetOptions {
  if (!budget) return DEFAULT_BUDGET;
  const ttl = budget.ttl ? durationMs(budget.ttl) : DEFAULT_BUDGET.ttl;
  return {
    ratio: Math.min(Math.max(budget.retryRatio, 0), 1_000),
    perSecond: budget.minRetriesPerSecond,
    // What Finagle takes: from a second to a minute.
    ttl: Math.min(Math.max(ttl, 1_000), 60_000),
  };
}

/** Conditions nest no deeper than this. */
const MAX_DEPTH = 32;

function compileCondition(
  match: MessageOf<typeof RequestMatch> | undefined,
  depth = 0,
): (facts: RequestFacts) => boolean {
  if (depth > MAX_DEPTH) throw new PolicyError("a condition nests too deep");
  const { all, any, not, path, method } = match ?? {};
  if (all) {
    const parts = all.matches.map((part) => compileCondition(part, depth + 1));
    return (facts) => parts.every((part) => part(facts));
  }
  if (any) {
    const parts = any.matches.map((part) => compileCondition(part, depth + 1));
    return (facts) => parts.some((part) => part(facts));
  }
  if (not) {
    const inner = compileCondition(not, depth + 1);
    return (facts) => !inner(facts);
  }
  if (path) {
    const regex = compileRegex(path.regex);
    return ({ path: target }) => {
      const mark = target.indexOf("?");
      return regex.matches(mark < 0 ? target : target.slice(0, mark));
    };
  }
  const verb = method?.unregistered ?? (method ? REGISTERED_METHODS[method.registered ?? 0] : undefined);
  return (facts) => verb === undefined || facts.method === verb;
}

function compileClasses(
  classes: Profile["routes"][number]["responseClasses"],
): (status: number) => boolean | undefined {
  const compiled = classes.map(({ condition, isFailure }) => ({
    holds: compileStatus(condition),
    isFailure,
  }));
  return (status) => compiled.find(({ holds }) => holds(status))?.isFailure;
}

function compileStatus(
  match: MessageOf<typeof ResponseMatch> | undefined,
  depth = 0,
): (status: number) => boolean {
  if (depth > MAX_DEPTH) throw new PolicyError("a condition nests too deep");
  const { all, any, not, status } = match ?? {};
  if (all) {
    const parts = all.matches.map((part) => compileStatus(part, depth + 1));
    return (value) => parts.every((part) => part(value));
  }
  if (any) {
    const parts = any.matches.map((part) => compileStatus(part, depth + 1));
    return (value) => parts.some((part) => part(value));
  }
  if (not) {
    const inner = compileStatus(not, depth + 1);
    return (value) => !inner(value);
  }
  if (status) return (value) => value >= status.min && value <= (status.max || status.min);
  return () => false;
}
