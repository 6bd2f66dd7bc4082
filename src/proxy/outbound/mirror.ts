// A copy of a request for a mirror. It is sent beside the original and never in its way: it is tried once, its response is
// thrown away, and when it costs more than it may it is dropped.
//
//   RouteRequest ─ the body as it comes ─→ Mirror ⇄ Attempt ⇄ endpoint of the mirror
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Balancer } from "../balance/balancer.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Field, fieldValue, type RequestEdits, type RequestHead } from "../http/message.ts";
import type { MirrorDrop, MirrorSeries } from "../telemetry/mirror-series.ts";
import { Attempt, type AttemptOwner, TryService } from "./attempt.ts";
import type { Dispatch } from "./dispatch.ts";
import type { RouteLimits } from "./route-limits.ts";

/** Of a body, so much waits for a mirror that takes it slower than the client sends it, bytes. */
const MAX_WAITING = 64 * 1024;
/** A mirror that got all of the request must have answered within this, ms. */
const ANSWER_TIMEOUT = 30_000;

export interface MirrorOptions {
  readonly exchange: Pick<Exchange, "version" | "grpc" | "request">;
  /** What the route changes of the request. */
  readonly edits: RequestEdits;
  readonly bodyless: boolean;
  readonly balancer: Balancer;
  readonly dispatch: Dispatch;
  readonly series: MirrorSeries;
  readonly limits: RouteLimits;
  readonly clock: Clock;
}

export class Mirror implements AttemptOwner {
  readonly bodyless: boolean;
  /** It is never sent twice. */
  readonly bodyKept = false;
  requestEnded: boolean;
  requestTrailers: readonly Field[] | undefined;
  sent: Buffer[] = [];
  readonly #options: MirrorOptions;
  readonly #attempt: Attempt;
  readonly #service: TryService;
  #waiting = 0;
  #timer: Timer | undefined;
  #over = false;

  /** Begins a copy; undefined: there are too many. */
  static begin(options: MirrorOptions): Mirror | undefined {
    const { limits, series } = options;
    if (limits.mirrors >= limits.maxMirrors) {
      series.dropped("limit");
      return undefined;
    }
    const mirror = new Mirror(options);
    mirror.#start();
    return mirror;
  }

  private constructor(options: MirrorOptions) {
    this.#options = options;
    const { exchange, edits, bodyless, balancer, dispatch, series, clock } = options;
    this.bodyless = bodyless;
    this.requestEnded = bodyless;
    this.#service = new TryService(() => {
      const { attempts, failure } = this.#attempt;
      if (attempts === 0) dispatch.send(this.#attempt, balancer);
      else this.#attempt.refuse(failure?.key ?? "connect");
    }, dispatch);
    const { version, grpc } = exchange;
    const request = new RequestCopy(exchange.request);
    this.#attempt = new Attempt(
      { version, grpc, tunnels: false, request },
      this,
      edits,
      this.#service,
      clock,
    );
    this.#attempt.account = series;
    this.#attempt.requestDone = bodyless;
  }

  #start(): void {
    this.#options.limits.mirrors += 1;
    if (this.bodyless) this.#watchAnswer();
    this.#service.dispatch(this.#attempt);
  }

  // ── The original's side ─────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Buffer): void {
    if (this.#over) return;
    const { limits } = this.#options;
    if (!this.#attempt.sending) this.sent.push(bytes);
    else if (this.#attempt.write(bytes)) return;
    this.#waiting += bytes.length;
    limits.mirrorBytes += bytes.length;
    if (this.#waiting > MAX_WAITING || limits.mirrorBytes > limits.maxMirrorBytes) this.#drop("slow");
  }

  end(trailers: readonly Field[] | undefined): void {
    if (this.#over) return;
    this.requestEnded = true;
    this.requestTrailers = trailers;
    this.#attempt.requestCompleted();
    this.#watchAnswer();
    if (this.#attempt.sending) this.#attempt.end(trailers);
  }

  /** No more of the request will come. */
  originalOver(): void {
    if (!this.requestEnded) this.#drop("original");
  }

  #watchAnswer(): void {
    const { clock } = this.#options;
    this.#timer = clock.after(ANSWER_TIMEOUT, () => this.#drop("timeout"));
  }

  #drop(reason: MirrorDrop): void {
    if (this.#over) return;
    this.#options.series.dropped(reason);
    this.#finish();
    this.#attempt.giveUp();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    const { limits, clock } = this.#options;
    clock.clear(this.#timer);
    limits.mirrors -= 1;
    this.#taken();
    this.sent = [];
  }

  /** Nothing waits any more. */
  #taken(): void {
    this.#options.limits.mirrorBytes -= this.#waiting;
    this.#waiting = 0;
  }

  // ── The mirror's side ───────────────────────────────────────────────────────────────────────────────────────

  onTransmitted(writable: boolean): void {
    this.sent = [];
    if (writable) this.#taken();
  }

  onTryWritable(): void {
    this.#taken();
  }

  onTryFailed(key: PassportKey): void {
    // What was refused by the balancer was not counted by an endpoint.
    if (this.#attempt.attempts === 0) this.#options.series.failed(key);
    this.#finish();
  }

  onTryTunnel(): void {
    this.#attempt.giveUp();
    this.#finish();
  }

  onTryEnd(): void {
    this.#finish();
  }

  onTryBroken(): void {
    this.#finish();
  }

  onPlaced(): void {}
  onTryInterim(): void {}
  onTryResponse(): void {}
  onTryBody(): void {}
}

/** The head of a request, for longer than the request is there. */
class RequestCopy implements RequestHead {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly absoluteForm: boolean;
  readonly minor: number;
  readonly size: number | undefined;
  readonly contentLength: number;
  readonly #fields: readonly Field[];

  constructor(head: RequestHead) {
    this.method = head.method;
    this.scheme = head.scheme;
    this.authority = head.authority;
    this.path = head.path;
    this.absoluteForm = head.absoluteForm;
    this.minor = head.minor;
    this.size = head.size;
    this.contentLength = head.contentLength;
    this.#fields = head.fields();
  }

  get(name: string): string | undefined {
    return fieldValue(this.#fields, name);
  }

  fields(): readonly Field[] {
    return this.#fields;
  }
}
