// When an endpoint is left alone because of its answers, and for how long: a circuit breaker, after Finagle and
// Linkerd (reference/data-planes.md §1.10). Time and randomness are the caller's.
//
//   OPEN ── so many failures in a row, or too few successes ─→ SHUT ── after a while, one request ─→ PROBING
//     ↑                                                         ↑ it failed                              │
//     └── it passed ────────────────────────────────────────────┴────────────────────────────────────────┘
import type { MessageOf } from "../api/codec.ts";
import type { ExponentialBackoff, FailureAccrual } from "../api/outbound.ts";
import { type Duration, durationMs } from "../api/time.ts";
import { Backoff } from "../util/backoff.ts";
import { classifyResponse, isOverloadOrFailure } from "./response-class.ts";
import type { Trace } from "./trace.ts";

export interface SuccessRate {
  /** Share of successes below which the endpoint is left alone. */
  readonly threshold: number;
  /** Over which answers are counted, ms. */
  readonly window: number;
  /** Answers without which the rate says nothing. */
  readonly minRequests: number;
}

export interface AccrualConfig {
  /** Failures in a row. */
  readonly maxFailures: number;
  /** undefined: only failures in a row count. */
  readonly rate: SuccessRate | undefined;
  /** How long the endpoint is left alone, from its first time on, ms; longer by up to `jitter` of it. */
  readonly backoff: { readonly min: number; readonly max: number; readonly jitter: number };
  /** A Retry-After lengthens that. */
  readonly respectsRetryAfter: boolean;
  /** So many endpoints of the balancer are never left alone. */
  readonly minReadyEndpoints: number;
}

/** Linkerd's defaults. */
const MAX_FAILURES = 7;
const BACKOFF = { min: 1_000, max: 60_000, jitter: 0.5 };
const RATE: SuccessRate = { threshold: 0.8, window: 10_000, minRequests: 5 };
/** The reference may eject every endpoint; a request to a failing one is better than none (§1.24). */
const MIN_READY = 1;
/** No server may ask for more, ms. */
const MAX_RETRY_AFTER = 300_000;
/** In which the window is divided. */
const BUCKETS = 10;

/** What a policy asks for; undefined: no breaker. */
export function compileAccrual(
  message: MessageOf<typeof FailureAccrual> | undefined,
): AccrualConfig | undefined {
  const { consecutiveFailures, unified, ejection } = message ?? {};
  const given = unified ?? consecutiveFailures;
  if (given === undefined) return undefined;
  const maxFailures = unified ? unified.maxConsecutiveFailures : consecutiveFailures!.maxFailures;
  return {
    maxFailures: maxFailures || MAX_FAILURES,
    rate: unified && {
      threshold: unified.successRateThreshold || RATE.threshold,
      window: ms(unified.decay) || RATE.window,
      minRequests: unified.minRequests || RATE.minRequests,
    },
    backoff: backoffOf(given.backoff),
    respectsRetryAfter: given.backoff?.respectRetryAfterHint ?? false,
    minReadyEndpoints: Math.max(ejection?.minReadyEndpoints ?? 0, MIN_READY),
  };
}

function backoffOf(message: MessageOf<typeof ExponentialBackoff> | undefined) {
  const min = ms(message?.minBackoff) || BACKOFF.min;
  const max = Math.max(ms(message?.maxBackoff) || BACKOFF.max, min);
  return { min, max, jitter: message ? Math.min(Math.max(message.jitterRatio, 0), 1) : BACKOFF.jitter };
}

const ms = (duration: MessageOf<typeof Duration> | undefined): number =>
  duration ? durationMs(duration) : 0;

/** How an exchange with the endpoint went. */
export interface AccrualOutcome {
  /** 0: it broke before there was one. */
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly complete: boolean;
  /** What its Retry-After says, ms. */
  readonly retryAfter: number | undefined;
}

export type AccrualState = "open" | "shut" | "probing";

/** The breaker of one endpoint. Times are monotonic, ms. */
export class Accrual {
  readonly #config: AccrualConfig;
  readonly #backoff: Backoff;
  readonly #window: RateWindow | undefined;
  #state: AccrualState = "open";
  #failures = 0;
  #shutUntil = 0;

  /** @param env `random`: uniform in [0, 1) */
  constructor(config: AccrualConfig, env: { readonly now: number; readonly random: () => number }) {
    this.#config = config;
    this.#backoff = new Backoff({ ...config.backoff }, env.random);
    this.#window = config.rate && new RateWindow(config.rate.window, env.now);
  }

  get state(): AccrualState {
    return this.#state;
  }

  /** Until when the endpoint is left alone; only while `shut`. */
  get shutUntil(): number {
    return this.#shutUntil;
  }

  /** Whether a request may go there. While it is shut and its time has come, one may: tell it by `probe`. */
  admits(now: number, trace?: Trace): boolean {
    const admits = this.#state === "open" || (this.#state === "shut" && now >= this.#shutUntil);
    trace?.add("failure accrual", admits, this.#reason(now));
    return admits;
  }

  /** The request that decides goes there. */
  probe(): void {
    this.#state = "probing";
  }

  /** The request that was to decide was given up: the next one decides. */
  forgo(): void {
    if (this.#state === "probing") this.#state = "shut";
  }

  /**
   * An exchange has ended. While shut, nothing that was under way counts any more; while probing, only the probe may
   * be told.
   */
  record(outcome: AccrualOutcome, now: number): void {
    const { status, grpcStatus, complete } = outcome;
    if (this.#state === "shut") return;
    const failed = classifyResponse(status, complete, grpcStatus) === "failure";
    // An endpoint that says it is overloaded is no better than a failing one, where rates count.
    const bad = failed || (this.#config.rate !== undefined && isOverloadOrFailure(status, grpcStatus));
    if (this.#state === "probing") {
      if (bad) this.#shut(outcome, now);
      else this.#open(now);
      return;
    }
    this.#failures = failed ? this.#failures + 1 : 0;
    this.#window?.count(!bad, now);
    if (this.#failures >= this.#config.maxFailures || this.#isRateLow(now)) this.#shut(outcome, now);
  }

  #isRateLow(now: number): boolean {
    const { rate } = this.#config;
    if (rate === undefined) return false;
    const { successes, total } = this.#window!.sum(now);
    return total >= rate.minRequests && successes < rate.threshold * total;
  }

  #shut({ retryAfter }: AccrualOutcome, now: number): void {
    const asked = this.#config.respectsRetryAfter ? Math.min(retryAfter ?? 0, MAX_RETRY_AFTER) : 0;
    this.#state = "shut";
    this.#shutUntil = now + Math.max(this.#backoff.next(), asked);
  }

  #open(now: number): void {
    this.#state = "open";
    this.#failures = 0;
    this.#backoff.reset();
    this.#window?.clear(now);
  }

  #reason(now: number): string {
    if (this.#state === "probing") return "one request is there to decide whether it has recovered";
    if (this.#state === "open")
      return `${this.#failures} failures in a row, ${this.#config.maxFailures} shut it`;
    const left = this.#shutUntil - now;
    return left > 0 ? `it is left alone for ${left.toFixed(0)} ms more` : "the next request decides";
  }
}

/** Answers of the last while, in buckets that are forgotten one by one. */
class RateWindow {
  readonly #width: number;
  readonly #successes = new Float64Array(BUCKETS);
  readonly #totals = new Float64Array(BUCKETS);
  /** Index of the current bucket, counted from the beginning of time. */
  #current: number;

  constructor(window: number, now: number) {
    this.#width = window / BUCKETS;
    this.#current = Math.floor(now / this.#width);
  }

  count(success: boolean, now: number): void {
    this.#advance(now);
    const bucket = this.#current % BUCKETS;
    this.#totals[bucket]! += 1;
    if (success) this.#successes[bucket]! += 1;
  }

  sum(now: number): { successes: number; total: number } {
    this.#advance(now);
    let successes = 0;
    let total = 0;
    for (let i = 0; i < BUCKETS; i += 1) {
      successes += this.#successes[i]!;
      total += this.#totals[i]!;
    }
    return { successes, total };
  }

  clear(now: number): void {
    this.#current = Math.floor(now / this.#width);
    this.#successes.fill(0);
    this.#totals.fill(0);
  }

  #advance(now: number): void {
    const wanted = Math.floor(now / this.#width);
    if (wanted - this.#current >= BUCKETS) {
      this.clear(now);
      return;
    }
    while (this.#current < wanted) {
      this.#current += 1;
      this.#successes[this.#current % BUCKETS] = 0;
      this.#totals[this.#current % BUCKETS] = 0;
    }
  }
}
