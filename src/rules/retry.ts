// Whether a request is tried again: by what its route says of statuses and causes, within a limit, and within one
// budget over all retries of a destination, so that a failing destination is never asked much more than it was.
import type { MessageOf } from "../api/codec.ts";
import type { ExponentialBackoff, GrpcRetry, HttpRetry } from "../api/outbound.ts";
import { durationMs } from "../api/time.ts";
import type { BackoffOptions } from "../util/backoff.ts";
import { parseDuration } from "../util/duration.ts";
import type { Trace } from "./trace.ts";

/** Bodies up to this are kept for another try, bytes; and the most that a policy may ask for. */
export const REPLAY_LIMIT = 64 * 1024;
/** Linkerd's (reference/data-planes.md §1.11). */
const DEFAULT_BACKOFF: BackoffOptions = { min: 25, max: 250, jitter: 1 };
/** More tries than this help nobody. */
export const MAX_RETRIES = 20;
/** Longest timeout that a request may ask for, ms. */
const MAX_TIMEOUT = 3_600_000;

export interface RetryPolicy {
  readonly maxRetries: number;
  /** Bytes of a body that are kept for another try. */
  readonly maxBytes: number;
  /** HTTP statuses, from and to. */
  readonly statuses: readonly (readonly [number, number])[];
  readonly grpc: ReadonlySet<number>;
  /** For each try, until the response's head, ms. */
  readonly timeout: number | undefined;
  readonly backoff: BackoffOptions;
  readonly respectRetryAfter: boolean;
}

/** How one try ended. */
export interface Try {
  readonly status?: number | undefined;
  readonly grpcStatus?: number | undefined;
  readonly cause?: RetryCause | undefined;
}

/** What is retried whatever the conditions say: nobody has worked on the request, or nobody answered. */
export type RetryCause = "fail-fast" | "response-timeout" | "refused" | "connect";

export function httpRetry(retry: MessageOf<typeof HttpRetry> | undefined): RetryPolicy | undefined {
  if (!retry) return undefined;
  const statuses = (retry.conditions?.statusRanges ?? []).map(({ start, end }) => [start, end] as const);
  return { ...common(retry), statuses, grpc: new Set() };
}

export function grpcRetry(retry: MessageOf<typeof GrpcRetry> | undefined): RetryPolicy | undefined {
  if (!retry) return undefined;
  const { cancelled, deadineExceeded, resourceExhausted, internal, unavailable } = retry.conditions ?? {};
  const codes = [
    [cancelled, 1],
    [deadineExceeded, 4],
    [resourceExhausted, 8],
    [internal, 13],
    [unavailable, 14],
  ] as const;
  return {
    ...common(retry),
    statuses: [],
    grpc: new Set(codes.filter(([on]) => on).map(([, code]) => code)),
  };
}

function common(retry: MessageOf<typeof HttpRetry> | MessageOf<typeof GrpcRetry>) {
  return {
    maxRetries: Math.min(retry.maxRetries, MAX_RETRIES),
    maxBytes: Math.min(retry.maxRequestBytes || REPLAY_LIMIT, REPLAY_LIMIT),
    timeout: retry.timeout && durationMs(retry.timeout),
    backoff: backoffOf(retry.backoff),
    respectRetryAfter: retry.backoff?.respectRetryAfterHint ?? false,
  };
}

/** A back-off as the API gives it, within reason. */
export function backoffOf(
  backoff: MessageOf<typeof ExponentialBackoff> | undefined,
  fallback: BackoffOptions = DEFAULT_BACKOFF,
): BackoffOptions {
  if (!backoff) return fallback;
  const min = backoff.minBackoff ? Math.max(durationMs(backoff.minBackoff), 1) : fallback.min;
  const max = backoff.maxBackoff ? durationMs(backoff.maxBackoff) : fallback.max;
  return { min, max: Math.max(min, max), jitter: Math.min(Math.max(backoff.jitterRatio, 0), 1) };
}

/** Whether a try that ended so is to be repeated, as far as the policy's conditions go. */
export function isRetryable(policy: RetryPolicy, { status, grpcStatus, cause }: Try, trace?: Trace): boolean {
  if (cause !== undefined) {
    trace?.add("cause", true, `${cause}: the request got no answer`);
    return true;
  }
  if (grpcStatus !== undefined && policy.grpc.has(grpcStatus)) {
    trace?.add("grpc-status", true, `${grpcStatus} is one of its conditions`);
    return true;
  }
  const retryable =
    status !== undefined && policy.statuses.some(([from, to]) => status >= from && status <= to);
  trace?.add("status", retryable, `${status} is ${retryable ? "" : "not "}one of its conditions`);
  return retryable;
}

/** What callers may ask for by header, where a route lets them (reference/data-planes.md §1.11). */
export interface RetryOverrides {
  readonly retry: Partial<RetryPolicy> | undefined;
  /** Of the whole request, and until the response's head, ms. */
  readonly request: number | undefined;
  readonly response: number | undefined;
}

const HTTP_CONDITIONS: Readonly<Record<string, readonly [number, number]>> = {
  "5xx": [500, 599],
  "gateway-error": [502, 504],
};
/** gRPC statuses that may be retried, by their names in annotations and headers. */
export const GRPC_RETRY_CONDITIONS: Readonly<Record<string, number>> = {
  cancelled: 1,
  "deadline-exceeded": 4,
  "resource-exhausted": 8,
  internal: 13,
  unavailable: 14,
};

/** Reads `l5d-retry-*`, `l5d-timeout` and `l5d-response-timeout`; what cannot be read counts as not there. */
export function headerOverrides(get: (name: string) => string | undefined): RetryOverrides {
  const limit = get("l5d-retry-limit");
  const timeout = durationOf(get("l5d-retry-timeout"));
  const statuses = list(get("l5d-retry-http"), httpRetryRange);
  const codes = list(get("l5d-retry-grpc"), (item) => GRPC_RETRY_CONDITIONS[item]);
  const retry: { -readonly [K in keyof RetryPolicy]?: RetryPolicy[K] } = {};
  if (limit !== undefined && /^\d{1,3}$/.test(limit)) retry.maxRetries = Math.min(Number(limit), MAX_RETRIES);
  if (timeout !== undefined) retry.timeout = timeout;
  if (statuses.length > 0) retry.statuses = statuses;
  if (codes.length > 0) retry.grpc = new Set(codes);
  return {
    retry: Object.keys(retry).length > 0 ? retry : undefined,
    request: durationOf(get("l5d-timeout") ?? get("request-timeout")),
    response: durationOf(get("l5d-response-timeout")),
  };
}

/** `policy` as a request's headers change it; without a policy, they make one. */
export function withOverrides(
  policy: RetryPolicy | undefined,
  overrides: Partial<RetryPolicy> | undefined,
): RetryPolicy | undefined {
  if (!overrides) return policy;
  const base: RetryPolicy = policy ?? {
    maxRetries: 1,
    maxBytes: REPLAY_LIMIT,
    statuses: [],
    grpc: new Set(),
    timeout: undefined,
    backoff: DEFAULT_BACKOFF,
    respectRetryAfter: false,
  };
  return { ...base, ...overrides };
}

function list<T>(text: string | undefined, read: (item: string) => T | undefined): T[] {
  if (text === undefined || text.length > 256) return [];
  return text.split(",").flatMap((item) => {
    const value = read(item.trim().toLowerCase());
    return value === undefined ? [] : [value];
  });
}

/** Statuses as annotations and headers name them: `503`, `500-504`, `5xx`, `gateway-error`; undefined: none of these. */
export function httpRetryRange(text: string): readonly [number, number] | undefined {
  if (Object.hasOwn(HTTP_CONDITIONS, text)) return HTTP_CONDITIONS[text];
  const match = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/.exec(text);
  if (!match) return undefined;
  const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
  return to < from ? undefined : [from, to];
}

function durationOf(text: string | undefined): number | undefined {
  if (text === undefined || text.length > 16) return undefined;
  try {
    const ms = parseDuration(text);
    return ms > 0 ? Math.min(ms, MAX_TIMEOUT) : undefined;
  } catch {
    return undefined;
  }
}

export interface BudgetOptions {
  /** Retries for each request, 0 to 1 and above. */
  readonly ratio: number;
  /** Retries that are always allowed, a second. */
  readonly perSecond: number;
  /** How long a request counts, ms. */
  readonly ttl: number;
}

/** As Finagle and Linkerd have it: a fifth more, and ten a second, over ten seconds. */
export const DEFAULT_BUDGET: BudgetOptions = { ratio: 0.2, perSecond: 10, ttl: 10_000 };

/** Slices of the time that a budget remembers. */
const SLICES = 10;

/**
 * One budget over all retries of a destination. In any stretch of `ttl` it lets pass at most `ratio` times its
 * requests, and `perSecond` for each second of it.
 */
export class RetryBudget {
  readonly #options: BudgetOptions;
  readonly #slice: number;
  readonly #requests = new Float64Array(SLICES);
  readonly #retries = new Float64Array(SLICES);
  #at = Number.NEGATIVE_INFINITY;

  constructor(options: BudgetOptions = DEFAULT_BUDGET) {
    this.#options = options;
    this.#slice = options.ttl / SLICES;
  }

  /** A request came, for the first time. @param now ms, monotonic */
  deposit(now: number): void {
    this.#advance(now);
    this.#requests[this.#index()]! += 1;
  }

  /** Whether one more retry is within the budget; then it counts. */
  withdraw(now: number): boolean {
    this.#advance(now);
    const { ratio, perSecond, ttl } = this.#options;
    const allowed = ratio * sum(this.#requests) + (perSecond * ttl) / 1_000;
    if (sum(this.#retries) + 1 > allowed) return false;
    this.#retries[this.#index()]! += 1;
    return true;
  }

  #index(): number {
    return ((this.#at % SLICES) + SLICES) % SLICES;
  }

  #advance(now: number): void {
    const at = Math.floor(now / this.#slice);
    if (at <= this.#at) return;
    const from = Math.max(this.#at + 1, at - SLICES + 1);
    for (let slice = from; slice <= at; slice += 1) {
      const index = ((slice % SLICES) + SLICES) % SLICES;
      this.#requests[index] = 0;
      this.#retries[index] = 0;
    }
    this.#at = at;
  }
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
