// Retries, timeouts and circuit breaking as annotations of Services, EgressNetworks and routes write them
// (reference/linkerd-interfaces.md §6). A value that cannot be read counts as not there, and is reported.
import type { MessageOf, Partially } from "../api/codec.ts";
import type { BalanceP2c, FailureAccrual } from "../api/outbound.ts";
import { durationOf } from "../api/time.ts";
import { parseDuration } from "../util/duration.ts";
import { nearest } from "../util/nearest.ts";
import { DECAY_MS, DEFAULT_RTT_MS } from "./endpoint-choice.ts";
import type { RouteKind } from "./policy-records.ts";
import { GRPC_RETRY_CONDITIONS, httpRetryRange, MAX_RETRIES } from "./retry.ts";

/** Retries as annotations ask for them. */
export interface RetrySettings {
  /** 0: none, whatever the parent says. */
  readonly limit: number;
  /** Of each try, ms. */
  readonly timeout: number | undefined;
  /** HTTP statuses, from and to. */
  readonly statuses: readonly (readonly [number, number])[];
  /** gRPC status codes. */
  readonly codes: readonly number[];
}

export interface TimeoutSettings {
  /** Of the whole request, until the response's head, and without a byte either way, ms. */
  readonly request: number | undefined;
  readonly response: number | undefined;
  readonly idle: number | undefined;
}

export interface TrafficSettings {
  /** Undefined: nothing is said of retries. */
  readonly retry: RetrySettings | undefined;
  readonly timeouts: TimeoutSettings;
  /** What of them HTTP takes, and what gRPC. */
  readonly retriesHttp: boolean;
  readonly retriesGrpc: boolean;
  readonly accrual: Partially<MessageOf<typeof FailureAccrual>> | undefined;
  /** How the load of endpoints is estimated; undefined: as always. */
  readonly load: Partially<MessageOf<typeof BalanceP2c>> | undefined;
}

export interface AnnotationProblem {
  readonly key: string;
  readonly message: string;
  /** The key is right and its value is not: a route that says so may not be stored. */
  readonly unreadable?: true;
}

export const NO_TIMEOUTS: TimeoutSettings = { request: undefined, response: undefined, idle: undefined };
export const NO_TRAFFIC_SETTINGS: TrafficSettings = {
  retry: undefined,
  timeouts: NO_TIMEOUTS,
  retriesHttp: false,
  retriesGrpc: false,
  accrual: undefined,
  load: undefined,
};

const RETRY = "retry.linkerd.io/";
const TIMEOUT = "timeout.linkerd.io/";
const BALANCER = "balancer.linkerd.io/";
const ALPHA = "balancer.alpha.linkerd.io/";
const ACCRUAL = `${BALANCER}failure-accrual`;

const ROUTE_KEYS = [
  `${RETRY}http`,
  `${RETRY}grpc`,
  `${RETRY}limit`,
  `${RETRY}timeout`,
  `${TIMEOUT}request`,
  `${TIMEOUT}response`,
  `${TIMEOUT}idle`,
];
const CONSECUTIVE_KEYS = [
  `${ACCRUAL}-consecutive-max-failures`,
  `${ACCRUAL}-consecutive-min-penalty`,
  `${ACCRUAL}-consecutive-max-penalty`,
  `${ACCRUAL}-consecutive-jitter-ratio`,
];
const SUCCESS_RATE_KEYS = [
  `${ALPHA}failure-accrual-success-rate-threshold`,
  `${ALPHA}failure-accrual-success-rate-window`,
  `${ALPHA}failure-accrual-success-rate-min-requests`,
];
const HONOR_RETRY_AFTER = `${ALPHA}failure-accrual-honor-retry-after`;
const BIASER_KEYS = [`${ALPHA}load-biaser-penalty`, `${ALPHA}load-biaser-max-retry-after`];
const PENALIZE = `${ALPHA}penalize-failures`;
const BALANCER_KEYS = [
  ACCRUAL,
  ...CONSECUTIVE_KEYS,
  ...SUCCESS_RATE_KEYS,
  HONOR_RETRY_AFTER,
  PENALIZE,
  ...BIASER_KEYS,
];
const PREFIXES = [RETRY, TIMEOUT, BALANCER, ALPHA];

/** All keys: those that routes take, and those that Services and EgressNetworks take beside them. */
export const TRAFFIC_KEYS: { readonly route: readonly string[]; readonly parent: readonly string[] } = {
  route: ROUTE_KEYS,
  parent: [...ROUTE_KEYS, ...BALANCER_KEYS],
};

/** On what annotations are: what routes attach to, or a route of some kind. */
export type TrafficPlace = "parent" | RouteKind;

const KEYS_ON: Readonly<Record<TrafficPlace, readonly string[]>> = {
  parent: TRAFFIC_KEYS.parent,
  HTTPRoute: ROUTE_KEYS.filter((key) => key !== `${RETRY}grpc`),
  GRPCRoute: ROUTE_KEYS.filter((key) => key !== `${RETRY}http`),
  TLSRoute: [],
  TCPRoute: [],
};

/**
 * Reads the annotations of one object.
 * @param on routes say nothing about endpoints, and of requests only what they route: other keys there are reported
 * @param problems takes what is not understood, by key
 */
export function trafficSettings(
  annotations: Readonly<Record<string, string>> | undefined,
  on: TrafficPlace,
  problems: AnnotationProblem[] = [],
): TrafficSettings {
  const mine = Object.keys(annotations ?? {}).filter((key) =>
    PREFIXES.some((prefix) => key.startsWith(prefix)),
  );
  if (!annotations || mine.length === 0) return NO_TRAFFIC_SETTINGS;
  const known = KEYS_ON[on];
  for (const key of mine)
    if (!known.includes(key)) problems.push({ key, message: unknownKey(key, known, on) });
  const own = Object.fromEntries(Object.entries(annotations).filter(([key]) => known.includes(key)));
  const read = new AnnotationReader(own, problems);
  const retry = retryOf(read);
  const has = (name: string) => own[RETRY + name] !== undefined;
  const general = has("limit") || has("timeout");
  return {
    retry,
    retriesHttp: retry !== undefined && (general || retry.statuses.length > 0),
    retriesGrpc: retry !== undefined && (general || retry.codes.length > 0),
    timeouts: {
      request: read.duration(`${TIMEOUT}request`) || undefined,
      response: read.duration(`${TIMEOUT}response`) || undefined,
      idle: read.duration(`${TIMEOUT}idle`) || undefined,
    },
    accrual: on === "parent" ? accrualOf(read) : undefined,
    load: on === "parent" ? loadOf(read) : undefined,
  };
}

function unknownKey(key: string, known: readonly string[], on: TrafficPlace): string {
  if (on !== "parent" && BALANCER_KEYS.includes(key))
    return "it belongs on the Service or EgressNetwork; on a route it has no effect";
  if (ROUTE_KEYS.includes(key)) return `it has no effect on ${on === "HTTPRoute" ? "an" : "a"} ${on}`;
  const near = nearest(key, known);
  return near
    ? `it is not known and has no effect; did you mean ${near}?`
    : "it is not known and has no effect";
}

/** Reads values and keeps account of those that cannot be read. */
class AnnotationReader {
  readonly #annotations: Readonly<Record<string, string>>;
  readonly #problems: AnnotationProblem[];

  constructor(annotations: Readonly<Record<string, string>>, problems: AnnotationProblem[]) {
    this.#annotations = annotations;
    this.#problems = problems;
  }

  text(key: string): string | undefined {
    return this.#annotations[key];
  }

  refuse(key: string, expected: string): undefined {
    const got = JSON.stringify((this.#annotations[key] ?? "").slice(0, 100));
    this.#problems.push({ key, message: `expected ${expected}, got ${got}`, unreadable: true });
    return undefined;
  }

  report(key: string, message: string): void {
    this.#problems.push({ key, message });
  }

  /** ms */
  duration(key: string): number | undefined {
    const text = this.text(key);
    if (text === undefined) return undefined;
    try {
      return parseDuration(text);
    } catch {
      return this.refuse(key, "a duration such as 10s or 250ms");
    }
  }

  number(key: string, range: { min: number; max: number; integer: boolean }): number | undefined {
    const text = this.text(key)?.trim();
    if (text === undefined) return undefined;
    const value = Number(text);
    const fits =
      (range.integer ? /^\d{1,10}$/ : /^\d{1,10}(\.\d{1,10})?$/).test(text) &&
      value >= range.min &&
      value <= range.max;
    return fits
      ? value
      : this.refuse(key, `${range.integer ? "an integer" : "a number"} from ${range.min} to ${range.max}`);
  }

  flag(key: string): boolean | undefined {
    const text = this.text(key)?.trim();
    if (text === undefined) return undefined;
    if (text === "true" || text === "enabled") return true;
    if (text === "false" || text === "disabled") return false;
    return this.refuse(key, "true or false");
  }

  /** The items of a comma list; undefined when the key is absent or an item cannot be read. */
  list<T>(key: string, expected: string, item: (text: string) => T | undefined): T[] | undefined {
    const text = this.text(key);
    if (text === undefined) return undefined;
    const values: T[] = [];
    for (const part of text.split(",")) {
      const value = item(part.trim().toLowerCase());
      if (value === undefined) return this.refuse(key, expected);
      values.push(value);
    }
    return values;
  }
}

function retryOf(read: AnnotationReader): RetrySettings | undefined {
  const limit = read.number(`${RETRY}limit`, { min: 0, max: MAX_RETRIES, integer: true });
  const timeout = read.duration(`${RETRY}timeout`) || undefined;
  const statuses = read.list(
    `${RETRY}http`,
    "status codes, ranges a-b, 5xx or gateway-error, separated by commas",
    httpRetryRange,
  );
  const codes = read.list(
    `${RETRY}grpc`,
    `some of ${Object.keys(GRPC_RETRY_CONDITIONS).join(", ")}, separated by commas`,
    (text) => (Object.hasOwn(GRPC_RETRY_CONDITIONS, text) ? GRPC_RETRY_CONDITIONS[text] : undefined),
  );
  if (limit === undefined && timeout === undefined && !statuses && !codes) return undefined;
  return { limit: limit ?? 1, timeout, statuses: statuses ?? [], codes: codes ?? [] };
}

function accrualOf(read: AnnotationReader): TrafficSettings["accrual"] {
  const mode = read.text(ACCRUAL)?.trim();
  const unused = (keys: readonly string[], why: string) => {
    for (const key of keys) if (read.text(key) !== undefined) read.report(key, why);
  };
  if (mode === undefined) {
    unused(
      [...CONSECUTIVE_KEYS, ...SUCCESS_RATE_KEYS, HONOR_RETRY_AFTER],
      `it has no effect without ${ACCRUAL}`,
    );
    return undefined;
  }
  if (mode !== "consecutive" && mode !== "unified") return read.refuse(ACCRUAL, "consecutive or unified");
  const maxFailures = read.number(CONSECUTIVE_KEYS[0]!, { min: 1, max: 2 ** 31, integer: true }) ?? 7;
  const min = read.duration(CONSECUTIVE_KEYS[1]!) || 1_000;
  const max = read.duration(CONSECUTIVE_KEYS[2]!) || 60_000;
  if (max < min)
    read.report(
      CONSECUTIVE_KEYS[2]!,
      `the longest penalty is shorter than the shortest: ${min} ms is used for both`,
    );
  const backoff = {
    minBackoff: durationOf(min),
    maxBackoff: durationOf(Math.max(min, max)),
    jitterRatio: read.number(CONSECUTIVE_KEYS[3]!, { min: 0, max: 100, integer: false }) ?? 0.5,
    respectRetryAfterHint: read.flag(HONOR_RETRY_AFTER) ?? false,
  };
  if (mode === "consecutive") {
    unused(SUCCESS_RATE_KEYS, `it has no effect in mode consecutive: set ${ACCRUAL}: unified`);
    return { consecutiveFailures: { maxFailures, backoff } };
  }
  return {
    unified: {
      successRateThreshold: read.number(SUCCESS_RATE_KEYS[0]!, { min: 0, max: 1, integer: false }) ?? 0.8,
      decay: durationOf(read.duration(SUCCESS_RATE_KEYS[1]!) || 10_000),
      minRequests: read.number(SUCCESS_RATE_KEYS[2]!, { min: 1, max: 2 ** 31, integer: true }) ?? 5,
      maxConsecutiveFailures: maxFailures,
      backoff,
    },
  };
}

function loadOf(read: AnnotationReader): TrafficSettings["load"] {
  if (!read.flag(PENALIZE)) {
    for (const key of BIASER_KEYS)
      if (read.text(key) !== undefined) read.report(key, `it has no effect without ${PENALIZE}: true`);
    return undefined;
  }
  return {
    penaltyPeakEwma: {
      defaultRtt: durationOf(DEFAULT_RTT_MS),
      decay: durationOf(DECAY_MS),
      penalty: durationOf(read.duration(BIASER_KEYS[0]!) || 5_000),
      maxRetryAfter: durationOf(read.duration(BIASER_KEYS[1]!) || 300_000),
      penaltyDecay: durationOf(DECAY_MS),
    },
  };
}
