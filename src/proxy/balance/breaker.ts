// One endpoint's circuit breaker: what its answers say goes to rules/failure-accrual.ts, whose verdict takes the
// endpoint out of the choice. When it has been left alone long enough it is in the choice again for one request,
// whose answer decides.
import { Accrual, type AccrualConfig } from "../../rules/failure-accrual.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Outcome, Upstream } from "../http/exchange.ts";
import type { BalancerSeries } from "../telemetry/balancer-series.ts";

export interface BreakerOptions {
  readonly accrual: AccrualConfig;
  readonly series: BalancerSeries;
}

export class Breaker {
  /** When it was last taken out of the choice, monotonic, ms. */
  ejectedAt = 0;
  /** Requests may go there: all, or the one that decides. */
  admits = true;
  readonly #accrual: Accrual;
  readonly #series: BalancerSeries;
  readonly #clock: Clock;
  readonly #onChange: () => void;
  /** What carries the request that decides. */
  #probe: Upstream | undefined;
  /** What the last answer that said so asked for, ms. */
  #retryAfter: number | undefined;
  #timer: Timer | undefined;

  /** @param onChange `admits` has changed */
  constructor(options: BreakerOptions, clock: Clock, onChange: () => void) {
    this.#accrual = new Accrual(options.accrual, { now: clock.monotonic(), random: clock.random });
    this.#series = options.series;
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** A request goes there. */
  sent(upstream: Upstream): void {
    // Also where the floor keeps it in the choice while it is shut, one request is the one that decides.
    if (this.#accrual.state !== "shut" || !this.admits) return;
    this.#accrual.probe();
    this.#probe = upstream;
    this.#change(false);
  }

  /** The server asks to be left alone for so long, ms. */
  hint(retryAfter: number): void {
    this.#retryAfter = retryAfter;
  }

  /** A request has left. */
  ended(
    upstream: Upstream,
    outcome: Outcome | undefined,
    broken: PassportKey | undefined,
    now: number,
  ): void {
    const probing = this.#accrual.state === "probing";
    if (probing && upstream !== this.#probe) return;
    if (probing) this.#probe = undefined;
    // What the client gave up, or never went out, says nothing.
    if (broken !== undefined || outcome?.complete) this.#record(outcome, probing, now);
    else if (probing) {
      this.#accrual.forgo();
      this.#change(true);
    }
  }

  #record(outcome: Outcome | undefined, probing: boolean, now: number): void {
    const accrual = this.#accrual;
    const before = accrual.state;
    const { status = 0, grpcStatus, complete = false } = outcome ?? {};
    accrual.record({ status, grpcStatus, complete, retryAfter: this.#retryAfter }, now);
    this.#retryAfter = undefined;
    const shut = accrual.state === "shut";
    if (probing) this.#series.probed(!shut);
    if (accrual.state === before) return;
    if (!shut) {
      this.#change(true);
      return;
    }
    if (!probing) this.#series.ejections.inc();
    this.ejectedAt = now;
    this.#timer = this.#clock.after(accrual.shutUntil - now, () => this.#change(true));
    this.#change(false);
  }

  #change(admits: boolean): void {
    if (this.admits === admits) return;
    this.admits = admits;
    this.#onChange();
  }

  stop(): void {
    this.#clock.clear(this.#timer);
  }
}
