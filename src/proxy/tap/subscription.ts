// One tap: what it asks for, and how much of it. Whoever taps is never waited for: events that find its queue full
// are dropped and counted, and so is what comes above its limits.
import { decode, encode, type MessageOf, type Partially } from "../../api/codec.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { ObserveRequest, TapEvent } from "../../api/tap.ts";
import type { CounterSeries } from "../../metrics/registry.ts";
import type { Clock } from "../../util/clock.ts";
import { compileTapMatch, type TapMatch, TapMatchError } from "./match.ts";

/** Exchanges that one tap is told of in a second, whatever its limit. */
const MAX_PER_SECOND = 1_000;

export interface TapCounts {
  readonly events: CounterSeries;
  readonly dropped: CounterSeries;
}

/** Where a tap's events go. */
export interface TapSink {
  /** False: there is no room, and the event is lost. */
  send(event: Buffer): boolean;
  /** There will be no more. */
  finish(): void;
}

/** Which of the exchanges that a tap is told of. */
export type TapStreamId = NonNullable<
  NonNullable<NonNullable<MessageOf<typeof TapEvent>["http"]>["requestInit"]>["id"]
>;

export class TapSubscription {
  readonly match: TapMatch;
  /** Header fields and trailers are wanted too. */
  readonly headers: boolean;
  readonly #base: number;
  readonly #limit: number;
  readonly #sink: TapSink;
  readonly #counts: TapCounts;
  readonly #clock: Clock;
  #taken = 0;
  #open = 0;
  #closed = false;
  #second = 0;
  #inSecond = 0;

  /**
   * @param message an encoded ObserveRequest
   * @param base tells this tap's exchanges from those of others
   * @throws GrpcError when it asks for nothing, or for what cannot be understood
   */
  constructor(message: Buffer, base: number, sink: TapSink, counts: TapCounts, clock: Clock) {
    const { limit, match, extract } = readRequest(message);
    if (limit === 0) throw new GrpcError(STATUS.INVALID_ARGUMENT, "limit must be positive");
    this.match = match;
    this.headers = extract?.http?.headers !== undefined;
    this.#base = base;
    this.#limit = limit;
    this.#sink = sink;
    this.#counts = counts;
    this.#clock = clock;
  }

  /** Takes no further exchanges. */
  get full(): boolean {
    return this.#closed || this.#taken >= this.#limit;
  }

  /** A place for one more exchange, to be given back by `release`; undefined when there is none (now). */
  take(): TapStreamId | undefined {
    if (this.full) return undefined;
    const second = Math.floor(this.#clock.monotonic() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#inSecond = 0;
    }
    if (this.#inSecond >= MAX_PER_SECOND) {
      this.#counts.dropped.inc();
      return undefined;
    }
    this.#inSecond += 1;
    this.#open += 1;
    const stream = this.#taken;
    this.#taken += 1;
    return { base: this.#base, stream };
  }

  /** @returns false: it is lost, and what would follow of the same exchange would not be understood */
  emit(event: Partially<MessageOf<typeof TapEvent>>): boolean {
    if (this.#closed) return false;
    const sent = this.#sink.send(encode(TapEvent, event));
    (sent ? this.#counts.events : this.#counts.dropped).inc();
    return sent;
  }

  /** One of its exchanges is over. */
  release(): void {
    this.#open -= 1;
    if (this.#open === 0 && this.#taken >= this.#limit && !this.#closed) this.#sink.finish();
  }

  /** Nobody listens any more. */
  close(): void {
    this.#closed = true;
  }
}

function readRequest(message: Buffer) {
  try {
    const { limit, match, extract } = decode(ObserveRequest, message);
    return { limit, match: compileTapMatch(match), extract };
  } catch (error) {
    const text = error instanceof TapMatchError ? error.message : "not an ObserveRequest";
    throw new GrpcError(STATUS.INVALID_ARGUMENT, text);
  }
}
