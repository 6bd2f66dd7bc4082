// The retries of one request: which of its failures its route would have tried again, whether that may be, and after how
// long. Each is paid from its destination's budget, and counted.
import type { RouteRule } from "../../rules/outbound-routes.ts";
import { isRetryable, REPLAY_LIMIT, type RetryPolicy, type Try } from "../../rules/retry.ts";
import { retryAfterMs } from "../../rules/retry-after.ts";
import { Backoff } from "../../util/backoff.ts";
import type { Clock } from "../../util/clock.ts";
import type { ResponseHead } from "../http/message.ts";
import type { RouteSeries } from "../telemetry/route-series.ts";
import type { Destination } from "./destination.ts";

/** The longest that a server's Retry-After is waited for, ms. */
const MAX_RETRY_AFTER = 10_000;

export interface RouteRetriesOptions {
  /** undefined: the route asks for no retries. */
  readonly policy: RetryPolicy | undefined;
  readonly profile: RouteRule["profile"];
  readonly destination: Pick<Destination, "budget">;
  readonly series: RouteSeries;
  readonly clock: Clock;
}

export class RouteRetries {
  readonly #options: RouteRetriesOptions;
  #backoff: Backoff | undefined;
  /** How often the route's policy has had it tried again. */
  #count = 0;
  /** It has been sent again, for whatever reason that the budget paid for. */
  #again = false;

  constructor(options: RouteRetriesOptions) {
    this.#options = options;
  }

  /** The first try is under way. */
  get first(): boolean {
    return this.#count === 0;
  }

  /** For how long each try may go without a response, ms. */
  get timeout(): number | undefined {
    return this.#options.policy?.timeout;
  }

  /** Bytes of a body that are kept for another try. */
  get maxBytes(): number {
    return this.#options.policy?.maxBytes ?? REPLAY_LIMIT;
  }

  /** Whether the policy would have a response like this tried again. */
  wants({ status, grpcStatus }: Try): boolean {
    const { policy, profile } = this.#options;
    if (!policy) return false;
    if (profile) return profile.isRetryable && (profile.isFailure(status!) ?? status! >= 500);
    return isRetryable(policy, { status, grpcStatus });
  }

  /** A gRPC status that is not in the head may be one that is tried again. */
  get waitsForStatus(): boolean {
    const { policy } = this.#options;
    return policy !== undefined && policy.grpc.size > 0 && this.#count < policy.maxRetries;
  }

  /** Whether the policy's limit and the budget have room for one more try; then it is taken. */
  take(): boolean {
    const { policy, series } = this.#options;
    if (!policy) return false;
    if (this.#count >= policy.maxRetries) {
      series.limitExceeded();
      return false;
    }
    return this.#withdraw();
  }

  /** Whether the budget has room for what needs no policy: nobody has worked on the try; then it is taken. */
  afford(): boolean {
    if (!this.#withdraw()) return false;
    this.#options.series.retrying();
    this.#again = true;
    return true;
  }

  #withdraw(): boolean {
    const { destination, series, clock } = this.#options;
    if (destination.budget.withdraw(clock.monotonic())) return true;
    series.overflowed();
    return false;
  }

  /** The next try, which `take` allowed, is to be. @param head of the response @returns after how long, ms */
  next(head: ResponseHead | undefined): number {
    const { policy, series, clock } = this.#options;
    this.#count += 1;
    this.#again = true;
    series.retrying();
    this.#backoff ??= new Backoff(policy!.backoff, clock.random);
    const hint =
      policy!.respectRetryAfter && head ? retryAfterMs(head.get("retry-after"), clock.now()) : undefined;
    return Math.max(this.#backoff.next(), Math.min(hint ?? 0, MAX_RETRY_AFTER));
  }

  /** A response with this status goes to the client. */
  answered(status: number): void {
    if (this.#again) this.#options.series.retried(status);
  }
}
