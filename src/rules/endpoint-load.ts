// How loaded an endpoint is believed to be: peak EWMA of its response times times what is pending, and, where the
// policy asks for it, a penalty for answers that are fast only because they fail (reference/data-planes.md §1.9).
import type { MessageOf } from "../api/codec.ts";
import type { BalanceP2c } from "../api/outbound.ts";
import { type Duration, durationMs } from "../api/time.ts";
import { DECAY_MS, DEFAULT_RTT_MS, endpointLoad, nextEstimate } from "./endpoint-choice.ts";
import { isOverloadOrFailure } from "./response-class.ts";

/** Of a failing answer. */
export interface LoadPenalty {
  /** Added to the estimate, ms. */
  readonly amount: number;
  /** The longest Retry-After for which it stays undiminished, ms. */
  readonly maxRetryAfter: number;
  /** Time constant with which it fades then, ms. */
  readonly decay: number;
}

export interface LoadConfig {
  /** Response time assumed before any was measured, ms. */
  readonly defaultRtt: number;
  /** Time constant with which measurements fade, ms. */
  readonly decay: number;
  /** undefined: failures are not penalised. */
  readonly penalty: LoadPenalty | undefined;
}

export const DEFAULT_LOAD: LoadConfig = { defaultRtt: DEFAULT_RTT_MS, decay: DECAY_MS, penalty: undefined };
const PENALTY_MS = 5_000;
const MAX_RETRY_AFTER_MS = 300_000;

/** The load estimation that a backend's policy asks for; what it leaves out, or sets to nothing, is the default. */
export function compileLoad(balancer: MessageOf<typeof BalanceP2c> | undefined): LoadConfig {
  const { peakEwma, penaltyPeakEwma } = balancer ?? {};
  const given = penaltyPeakEwma ?? peakEwma;
  if (given === undefined) return DEFAULT_LOAD;
  const decay = positive(given.decay, DECAY_MS);
  return {
    defaultRtt: positive(given.defaultRtt, DEFAULT_RTT_MS),
    decay,
    penalty: penaltyPeakEwma && {
      amount: positive(penaltyPeakEwma.penalty, PENALTY_MS),
      maxRetryAfter: positive(penaltyPeakEwma.maxRetryAfter, MAX_RETRY_AFTER_MS),
      decay: positive(penaltyPeakEwma.penaltyDecay, decay),
    },
  };
}

function positive(duration: MessageOf<typeof Duration> | undefined, fallback: number): number {
  const ms = duration ? durationMs(duration) : 0;
  return ms > 0 ? ms : fallback;
}

/** The load of one endpoint. Times are monotonic, ms. */
export class PeakEwma {
  readonly #config: LoadConfig;
  #estimate: number;
  #estimatedAt: number;
  #penalty = 0;
  /** Until then the penalty is undiminished. */
  #penaltyUntil = 0;

  constructor(config: LoadConfig, now: number) {
    this.#config = config;
    this.#estimate = config.defaultRtt;
    this.#estimatedAt = now;
  }

  /**
   * Cost of one more request.
   * @param pending requests in flight there
   * @param weight relative to the mean: `EndpointChoice.relativeWeight`
   */
  load(now: number, pending: number, weight = 1): number {
    const { decay } = this.#config;
    const estimate = nextEstimate(this.#estimate, now - this.#estimatedAt, 0, decay);
    return endpointLoad(this.#penalty > 0 ? estimate + this.#penaltyAt(now) : estimate, pending, weight);
  }

  /** The first bytes of a response came after `rtt` ms. */
  measured(rtt: number, now: number): void {
    this.#estimate = nextEstimate(this.#estimate, now - this.#estimatedAt, rtt, this.#config.decay);
    this.#estimatedAt = now;
  }

  /**
   * The head of a response came.
   * @param grpcStatus when the head has it: of a response without body
   * @param retryAfter what its Retry-After says, ms
   * @returns whether it is penalised
   */
  responded(status: number, grpcStatus: number | undefined, retryAfter: number | undefined, now: number) {
    const { penalty } = this.#config;
    if (penalty === undefined || !isOverloadOrFailure(status, grpcStatus)) return false;
    const until = now + Math.min(retryAfter ?? 0, penalty.maxRetryAfter);
    this.#penalty = penalty.amount;
    this.#penaltyUntil = Math.max(this.#penaltyUntil, until);
    return true;
  }

  #penaltyAt(now: number): number {
    const elapsed = now - this.#penaltyUntil;
    if (elapsed <= 0) return this.#penalty;
    const { decay } = this.#config.penalty!;
    const left = this.#penalty * Math.exp(-elapsed / decay);
    // Under a microsecond it decides nothing any more.
    if (left < 0.001) this.#penalty = 0;
    return left;
  }
}
