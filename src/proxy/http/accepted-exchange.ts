// What the accepting sides of HTTP/1 and HTTP/2 have in common: a request that was given to an upstream by a route,
// and how it is accounted for when it leaves it again.
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock } from "../../util/clock.ts";
import type { DialError } from "../transport/dial.ts";
import { mergeEdits } from "./edits.ts";
import type {
  Account,
  Exchange,
  ExchangeEnd,
  ExchangeRecord,
  LocalResponse,
  Outcome,
  Place,
  Route,
  Service,
  Upstream,
  UpstreamHandler,
} from "./exchange.ts";
import { ATTEMPT_LIMIT } from "./limits.ts";
import { type Field, NO_EDITS, type RequestEdits, type RequestHead, type ResponseHead } from "./message.ts";

/** RFC 9110 §9.2.2: what may be repeated without the server doing it twice. */
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]);

/** A service's `added` fields, as edits. */
export function addedEdits({ added }: Service): RequestEdits {
  if (added.length === 0) return NO_EDITS;
  return { fields: added.map(([name, value]) => ({ op: "add", name, value })) };
}

export abstract class AcceptedExchange implements Exchange, UpstreamHandler {
  abstract readonly version: 1 | 2;
  abstract readonly tunnels: boolean;
  abstract readonly grpc: boolean;
  abstract readonly request: RequestHead;
  attempts = 0;
  failure: DialError | undefined;
  startedAt = 0;
  requestDone = false;
  requestBytes = 0;
  responseBytes = 0;
  record: ExchangeRecord | undefined;
  account: Account | undefined;
  routeLabels: Readonly<Record<string, string>> | undefined;
  protected readonly service: Service;
  protected readonly clock: Clock;
  protected upstream: Upstream | undefined;
  protected route: Route | undefined;
  protected responseStarted = false;
  /** It was sent again at the expense of the budget. */
  #retried = false;
  protected status = 0;
  protected grpcStatus: number | undefined;
  /** When the request was complete, if that was after its head, ms, monotonic; else -1. */
  protected requestEndedAt = -1;
  /** What the route changes of the request, and what whoever watches does. */
  #edits: RequestEdits = NO_EDITS;
  #watched: RequestEdits | undefined;

  constructor(service: Service, clock: Clock) {
    this.service = service;
    this.clock = clock;
  }

  abstract refuse(key: PassportKey, detail?: string): void;
  abstract respond(response: LocalResponse): void;
  abstract expire(key: PassportKey): void;
  abstract onInterim(head: ResponseHead): void;
  abstract onResponse(upstream: Upstream, head: ResponseHead, end?: boolean): void;
  abstract onTunnel(upstream: Upstream, head: ResponseHead): void;
  abstract onBody(bytes: Buffer): void;
  abstract onEnd(upstream: Upstream, trailers: readonly Field[] | undefined): void;
  abstract onWritable(): void;
  abstract onBroken(
    upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode?: number,
  ): void;
  /** Sends the request over an upstream that has connected. */
  protected abstract transmit(upstream: Upstream): void;
  /** All of the request so far can be sent once more. */
  protected abstract readonly kept: boolean;

  send(upstream: Upstream, route: Route, edits: RequestEdits = NO_EDITS): void {
    this.upstream = upstream;
    this.route = route;
    this.#edits = edits;
    this.attempts += 1;
    this.account?.began();
    upstream.attach(this);
    if (upstream.connected) this.transmit(upstream);
  }

  placed(place: Place): void {
    this.record?.placed?.(this, place);
  }

  onConnected(upstream: Upstream): void {
    this.transmit(upstream);
  }

  onConnectFailed(upstream: Upstream, error: DialError): void {
    this.upstream = undefined;
    this.route!.release(upstream, undefined, this.clock.monotonic());
    this.account?.ended(undefined, error.key);
    this.failure = error;
    if (this.attempts < ATTEMPT_LIMIT) this.service.dispatch(this);
    else this.refuse(error.key, error.message);
  }

  onUnserved(_upstream: Upstream, error: DialError): boolean {
    if (!this.#repeatable || !this.service.affordsRetry(this, true)) return false;
    this.#retried = true;
    this.leaveUpstream(false, error.key);
    this.failure = error;
    this.service.dispatch(this);
    return true;
  }

  /** The request's head is here: whoever watches is asked, then the service. */
  protected begin(): void {
    const { service } = this;
    const watching = service.watch?.begin(this, service.context);
    this.record = watching?.record;
    this.#watched = watching?.edits;
    service.dispatch(this);
  }

  /** Forgets the exchange before, where one object serves several in turn. */
  protected renew(): void {
    this.startedAt = this.clock.monotonic();
    this.attempts = 0;
    this.failure = undefined;
    this.requestBytes = 0;
    this.responseBytes = 0;
    this.responseStarted = false;
    this.#retried = false;
    this.status = 0;
    this.grpcStatus = undefined;
    this.requestEndedAt = -1;
    this.account = undefined;
    this.routeLabels = undefined;
    this.#edits = NO_EDITS;
  }

  /** `added`, and what the route and whoever watches change. */
  protected editsBeside(added: RequestEdits): RequestEdits {
    return mergeEdits(mergeEdits(added, this.#watched), this.#edits);
  }

  protected responseBegins(head: ResponseHead | undefined, status: number): void {
    this.responseStarted = true;
    this.status = status;
    const now = this.clock.monotonic();
    this.route!.measured(now - this.startedAt, now, status, head);
    if (this.#retried) this.account?.retried?.(status);
    if (this.record && head) this.record.response(this, head);
  }

  /**
   * The exchange is through with its upstream, which has served it to its end (`complete`) or is given up.
   * @param broken why the upstream ended it
   */
  protected leaveUpstream(complete: boolean, broken?: PassportKey): void {
    const { upstream } = this;
    if (!upstream) return;
    this.upstream = undefined;
    if (!complete) upstream.cancel();
    const now = this.clock.monotonic();
    const outcome = this.responseStarted ? this.#outcome(complete, now) : undefined;
    this.route!.release(upstream, outcome, now, broken);
    this.account?.ended(outcome, broken);
  }

  #outcome(complete: boolean, now: number): Outcome {
    const latency = now - this.startedAt;
    return {
      status: this.status,
      grpcStatus: this.grpcStatus,
      complete,
      latency,
      // An early answer may come before the request's end.
      responseLatency: this.requestEndedAt < 0 ? latency : now - this.requestEndedAt,
    };
  }

  /** Tells whoever watches that all is over. */
  protected ended(end: Partial<ExchangeEnd> & { status: number; complete: boolean }): void {
    const { record } = this;
    if (!record) return;
    this.record = undefined;
    record.end(this, {
      grpcStatus: this.grpcStatus,
      trailers: undefined,
      error: undefined,
      resetCode: undefined,
      ...end,
    });
  }

  get #repeatable(): boolean {
    return this.attempts < ATTEMPT_LIMIT && this.kept;
  }

  /** Whether the request may be sent once more, after it was, without the server being able to tell. */
  protected mayRepeat(upstream: Upstream, key: PassportKey, unprocessed: boolean): boolean {
    if (!this.#repeatable) return false;
    if (unprocessed) {
      // A server that refuses streams may have too much to do: it is not asked more often than retries may be made.
      if (key !== "stream-reset") return true;
      this.#retried = this.service.affordsRetry(this, false);
      return this.#retried;
    }
    // An idle connection may have been closing when the request was sent: then nobody has read it.
    return key === "upstream-closed" && upstream.reused && IDEMPOTENT.has(this.request.method);
  }
}
