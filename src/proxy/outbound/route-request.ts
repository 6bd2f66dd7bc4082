// A request whose route asks for more than to be sent to an endpoint: filters, splits, timeouts, retries. To the
// exchange it is the upstream; to each of its tries it is the owner.
//
//   exchange ⇄ RouteRequest ⇄ Attempt ⇄ endpoint
//                    └ a try that failed in a way that the policy names ⇒ back-off ⇒ the next try
//
// The body is kept, up to a limit, until a response goes to the client: what is kept can be sent again.

import { ERROR } from "../../http2/frame.ts";
import { chooseBackend } from "../../rules/distribution.ts";
import {
  applyFilters,
  drawDelay,
  type FilterSet,
  type FilterVerdict,
  rewritten,
} from "../../rules/filters.ts";
import type { RouteBackend, RouteMirror, RouteRule, RouteTimeouts } from "../../rules/outbound-routes.ts";
import type { PassportKey } from "../../rules/passport.ts";
import {
  headerOverrides,
  REPLAY_LIMIT,
  type RetryCause,
  type Try,
  withOverrides,
} from "../../rules/retry.ts";
import type { RouteMatch } from "../../rules/route-match.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { localResponse } from "../http/answer.ts";
import { mergeEdits } from "../http/edits.ts";
import type {
  Exchange,
  LocalResponse,
  Outcome,
  Place,
  Route,
  Service,
  Upstream,
  UpstreamHandler,
} from "../http/exchange.ts";
import {
  type Field,
  NO_EDITS,
  type RequestEdits,
  type RequestHead,
  type ResponseHead,
} from "../http/message.ts";
import type { RouteSeries } from "../telemetry/route-series.ts";
import { Attempt, type AttemptOwner, grpcStatusOf, TryService } from "./attempt.ts";
import type { Destination } from "./destination.ts";
import type { Dispatch } from "./dispatch.ts";
import { Mirror } from "./mirror.ts";
import type { RouteLimits } from "./route-limits.ts";
import { editedResponse, localHead } from "./route-responses.ts";
import { RouteRetries } from "./route-retries.ts";

/** RFC 9110 §9.2.2 */
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]);
const NOTHING: readonly Buffer[] = [];

export interface RouteRequestOptions {
  readonly exchange: Exchange;
  readonly match: RouteMatch<RouteRule>;
  readonly destination: Destination;
  readonly dispatch: Dispatch;
  readonly series: RouteSeries;
  readonly limits: RouteLimits;
  readonly clock: Clock;
  /** Called once, when it is over. */
  readonly onOver: () => void;
}

export class RouteRequest implements Upstream, Route, AttemptOwner {
  readonly connected = true;
  readonly reused = false;
  readonly #options: RouteRequestOptions;
  readonly #retries: RouteRetries;
  readonly #timeouts: RouteTimeouts;
  /** What each try asks where it goes. */
  readonly #service: Service;
  #handler: UpstreamHandler | undefined;
  #edits: RequestEdits = NO_EDITS;
  #attempt: Attempt | undefined;
  #backend: RouteBackend | undefined;
  /** The response goes to the client: nothing can be tried again. */
  #answering = false;
  #over = false;
  /** A response's head that waits to see how the call ends. */
  #held: ResponseHead | undefined;
  #sent: Buffer[] = [];
  #sentBytes = 0;
  bodyKept = true;
  requestEnded = false;
  requestTrailers: readonly Field[] | undefined;
  bodyless = false;
  /** The exchange was told to wait. */
  #blocked = false;
  #paused = false;
  #requestTimer: Timer | undefined;
  #tryTimer: Timer | undefined;
  #retryTimer: Timer | undefined;
  #idleTimer: Timer | undefined;
  #delayTimer: Timer | undefined;
  /** What the route's filters said; an answer of theirs waits for the delay that they drew. */
  #verdict: FilterVerdict | undefined;
  #delay = 0;
  /** Those that get a copy of the request; undefined: nobody does. */
  #mirrors: Mirror[] | undefined;
  #lastByte = 0;

  constructor(options: RouteRequestOptions) {
    this.#options = options;
    const { exchange, match, destination, dispatch, series, clock } = options;
    const { retry, timeouts, allowHeaders, profile } = match.rule;
    let policy = retry;
    this.#timeouts = timeouts;
    if (allowHeaders) {
      const overrides = headerOverrides((name) => exchange.request.get(name));
      policy = withOverrides(retry, overrides.retry);
      this.#timeouts = {
        request: overrides.request ?? timeouts.request,
        response: overrides.response ?? timeouts.response,
        idle: timeouts.idle,
      };
    }
    this.#retries = new RouteRetries({ policy, profile, destination, series, clock });
    this.#service = new TryService(
      () => {
        const attempt = this.#attempt!;
        const balancer = destination.balancer(this.#backend!.target);
        const avoid = attempt.endpoint ?? this.#avoid;
        attempt.endpoint = dispatch.send(attempt, balancer, undefined, avoid);
      },
      dispatch,
      (attempt, elsewhere) => this.#affordsRetry(attempt, elsewhere),
    );
  }

  /** The endpoint that failed the request last. */
  #avoid: Attempt["endpoint"];

  /** Takes the request up: answers it, or sends it on its way. */
  start(): void {
    const { exchange, match, clock, series } = this.#options;
    const { rule } = match;
    exchange.routeLabels = series.routeLabels;
    this.#delay = drawDelay(rule.filters, clock.random);
    const verdict = applyFilters(rule.filters, exchange.request, match.prefix, clock.random);
    this.#verdict = verdict;
    if (verdict.kind !== "go" && this.#delay === 0) {
      series.began();
      series.answered(verdict.status);
      this.#finish();
      exchange.respond(localResponse(verdict, true));
      return;
    }
    exchange.send(this, this, this.#editsOf(rule.filters));
  }

  #editsOf(filters: FilterSet): RequestEdits {
    const { exchange, match } = this.#options;
    if (!filters.rewrite) return { fields: filters.request };
    return { fields: filters.request, ...rewritten(filters, exchange.request, match.prefix) };
  }

  // ── The exchange's side ─────────────────────────────────────────────────────────────────────────────────────

  attach(handler: UpstreamHandler): void {
    this.#handler = handler;
  }

  request(_head: RequestHead, edits: RequestEdits, end: boolean): void {
    const { clock, destination } = this.#options;
    this.#edits = edits;
    this.bodyless = end;
    this.requestEnded = end;
    destination.budget.deposit(clock.monotonic());
    const { request, idle } = this.#timeouts;
    if (request !== undefined)
      this.#requestTimer = clock.after(request, () => this.#timeout("request-timeout"));
    this.#lastByte = clock.monotonic();
    if (idle !== undefined) this.#watchIdle(idle, idle);
    if (this.#delay > 0) this.#holdBack(this.#delay, () => this.#begin());
    else this.#begin();
  }

  #begin(): void {
    const { match } = this.#options;
    const verdict = this.#verdict!;
    if (verdict.kind !== "go") {
      this.#answerLocally(localResponse(verdict, true));
      return;
    }
    if (match.rule.mirrors.length > 0) this.#mirror(match.rule.mirrors, this.#edits);
    this.#try();
  }

  /** Goes on after `ms`, unless the request ends before. */
  #holdBack(ms: number, next: () => void): void {
    const { clock, limits } = this.#options;
    if (limits.delayed >= limits.maxDelayed) {
      next();
      return;
    }
    limits.delayed += 1;
    this.#delayTimer = clock.after(ms, () => {
      this.#delayTimer = undefined;
      limits.delayed -= 1;
      this.#lastByte = clock.monotonic();
      next();
    });
  }

  /** Begins the copies that the draw is for. @param edits with which the request goes on */
  #mirror(mirrors: readonly RouteMirror[], edits: RequestEdits): void {
    const { exchange, destination, dispatch, series, clock, limits } = this.#options;
    if (exchange.tunnels) return;
    for (const { backend, share } of mirrors) {
      if (share < 1 && clock.random() >= share) continue;
      const mirror = Mirror.begin({
        exchange,
        edits,
        bodyless: this.bodyless,
        balancer: destination.balancer(backend.target),
        dispatch,
        series: series.mirror(backend),
        limits,
        clock,
      });
      if (!mirror) continue;
      for (const bytes of this.#sent) mirror.write(bytes);
      if (this.requestEnded && !this.bodyless) mirror.end(this.requestTrailers);
      this.#mirrors ??= [];
      this.#mirrors.push(mirror);
    }
  }

  write(bytes: Buffer): boolean {
    const { clock, series } = this.#options;
    this.#lastByte = clock.monotonic();
    series.requestFrame(bytes.length);
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.write(bytes);
    const attempt = this.#attempt;
    const sending = attempt?.sending ?? false;
    if (this.bodyKept) {
      if (sending && this.#sentBytes + bytes.length > this.#retries.maxBytes) this.#forgetBody();
      else {
        this.#sent.push(bytes);
        this.#sentBytes += bytes.length;
      }
    }
    const writable = sending ? attempt!.write(bytes) : this.#sentBytes < REPLAY_LIMIT;
    this.#blocked = !writable;
    return writable;
  }

  end(trailers: readonly Field[] | undefined): void {
    this.requestEnded = true;
    this.requestTrailers = trailers;
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.end(trailers);
    if (!this.#attempt) return;
    this.#attempt.requestCompleted();
    if (this.#attempt.sending) this.#attempt.end(trailers);
  }

  pause(): void {
    this.#paused = true;
    this.#attempt?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#attempt?.resume();
  }

  get progress(): number {
    return this.#attempt?.progress ?? 0;
  }

  cancel(): void {
    this.#handler = undefined;
    this.#attempt?.giveUp();
    this.#finish();
  }

  #forgetBody(): void {
    this.bodyKept = false;
    this.#sent = [];
    this.#sentBytes = 0;
  }

  get sent(): readonly Buffer[] {
    return this.bodyKept ? this.#sent : NOTHING;
  }

  // ── The route's account ─────────────────────────────────────────────────────────────────────────────────────

  began(): void {
    this.#options.series.began();
  }

  measured(): void {}

  release(_upstream: Upstream, outcome: Outcome | undefined, _now: number, broken?: PassportKey): void {
    this.#options.series.ended(outcome, broken);
  }

  // ── Tries ───────────────────────────────────────────────────────────────────────────────────────────────────

  #try(): void {
    const { match, destination, clock } = this.#options;
    const backend = chooseBackend(
      match.rule.backends,
      ({ target }) => destination.available(target),
      clock.random,
    );
    if (!backend) {
      this.#fail("no-route", "its route has no backend");
      return;
    }
    this.#backend = backend;
    const delay = drawDelay(backend.filters, clock.random);
    if (delay > 0) this.#holdBack(delay, () => this.#send(backend));
    else this.#send(backend);
  }

  #send(backend: RouteBackend): void {
    const { exchange, match, clock, series } = this.#options;
    const verdict = applyFilters(backend.filters, exchange.request, match.prefix, clock.random);
    if (verdict.kind !== "go") {
      this.#answerLocally(localResponse(verdict, true));
      return;
    }
    if (backend.target.kind === "nowhere") {
      this.#fail(backend.target.refusal, backend.target.why);
      return;
    }
    const edits = mergeEdits(this.#edits, this.#editsOf(backend.filters));
    if (this.#retries.first && backend.mirrors.length > 0) this.#mirror(backend.mirrors, edits);
    const attempt = new Attempt(exchange, this, edits, this.#service, clock);
    attempt.account = series.backend(backend);
    attempt.requestDone = this.requestEnded;
    this.#attempt = attempt;
    const wait = least(this.#retries.timeout, this.#timeouts.response, backend.timeout);
    if (wait !== undefined) this.#tryTimer = clock.after(wait, () => this.#tryTimeout());
    this.#service.dispatch(attempt);
  }

  onPlaced(place: Place): void {
    this.#options.exchange.placed(place);
  }

  onTransmitted(writable: boolean): void {
    if (this.#paused) this.#attempt?.pause();
    if (writable && this.#blocked) {
      this.#blocked = false;
      this.#handler?.onWritable();
    }
  }

  onTryWritable(): void {
    this.#blocked = false;
    this.#handler?.onWritable();
  }

  onTryFailed(key: PassportKey, detail: string | undefined): void {
    if (!this.#retried({ cause: causeOf(key) })) this.#fail(key, detail);
  }

  onTryBroken(key: PassportKey, errno: string | undefined, resetCode: number | undefined): void {
    const refused = resetCode === ERROR.REFUSED_STREAM;
    const safe = refused || IDEMPOTENT.has(this.#options.exchange.request.method);
    if (!this.#answering && safe && this.#retried({ cause: refused ? "refused" : "connect" })) return;
    this.#broken(key, errno, resetCode);
  }

  #tryTimeout(): void {
    this.#attempt?.giveUp("response-timeout");
    if (!this.#retried({ cause: "response-timeout" })) this.#fail("response-timeout", undefined);
  }

  onTryInterim(head: ResponseHead): void {
    this.#handler?.onInterim(head);
  }

  onTryResponse(head: ResponseHead, end: boolean): void {
    const { clock, exchange } = this.#options;
    clock.clear(this.#tryTimer);
    this.#lastByte = clock.monotonic();
    const grpcStatus = exchange.grpc && end ? grpcStatusOf(head.get("grpc-status")) : undefined;
    if (this.#wanted({ status: head.status, grpcStatus })) {
      this.#avoid = this.#attempt?.endpoint;
      if (this.#mayRetry()) {
        this.#attempt?.giveUp();
        this.#retryLater(head);
        return;
      }
    }
    // Whether a call failed is often told only at its end.
    if (exchange.grpc && !end && this.bodyKept && this.#retries.waitsForStatus) this.#held = head;
    else this.#forward(head, end);
  }

  onTryTunnel(head: ResponseHead): void {
    this.#answering = true;
    this.#clearTimers();
    this.#handler?.onTunnel(this, head);
  }

  onTryBody(bytes: Buffer): void {
    this.#lastByte = this.#options.clock.monotonic();
    if (this.#held) this.#forward(this.#held, false);
    this.#handler?.onBody(bytes);
  }

  onTryEnd(trailers: readonly Field[] | undefined): void {
    const held = this.#held;
    if (held) {
      const status = trailers?.find(([name]) => name === "grpc-status")?.[1];
      const ended = { status: held.status, grpcStatus: grpcStatusOf(status) };
      if (this.#wanted(ended) && this.#mayRetry()) {
        this.#held = undefined;
        this.#retryLater(held);
        return;
      }
      this.#forward(held, false);
    }
    const handler = this.#handler;
    this.#finish();
    handler?.onEnd(this, trailers);
  }

  /** From now on the client has it. */
  #forward(head: ResponseHead, end: boolean): void {
    const { match, clock } = this.#options;
    this.#held = undefined;
    this.#answering = true;
    this.#sent = [];
    clock.clear(this.#requestTimer);
    this.#retries.answered(head.status);
    const edits = [...match.rule.filters.response, ...(this.#backend?.filters.response ?? [])];
    this.#handler?.onResponse(this, editedResponse(head, edits), end);
  }

  // ── Retries ─────────────────────────────────────────────────────────────────────────────────────────────────

  #wanted(ended: Try): boolean {
    return !this.#answering && this.#retries.wants(ended);
  }

  #mayRetry(): boolean {
    return this.bodyKept && !this.#over && this.#retries.take();
  }

  /** As `Service.affordsRetry`, of a try that nobody has worked on. */
  #affordsRetry({ attempts }: Exchange, elsewhere: boolean): boolean {
    const { destination } = this.#options;
    if (elsewhere && attempts >= destination.balancer(this.#backend!.target).size) return false;
    return this.#retries.afford();
  }

  /** Tries again what failed without a response, if that may be. */
  #retried({ cause }: { readonly cause: RetryCause | undefined }): boolean {
    if (cause === undefined || this.#answering || this.#over) return false;
    this.#avoid = this.#attempt?.endpoint;
    if (!this.#mayRetry()) return false;
    this.#retryLater(undefined);
    return true;
  }

  #retryLater(head: ResponseHead | undefined): void {
    const { clock } = this.#options;
    this.#attempt = undefined;
    clock.clear(this.#tryTimer);
    this.#retryTimer = clock.after(this.#retries.next(head), () => this.#try());
  }

  // ── Ends ────────────────────────────────────────────────────────────────────────────────────────────────────

  #timeout(key: PassportKey): void {
    this.#attempt?.giveUp(key);
    if (this.#answering) this.#broken(key, undefined, undefined);
    else this.#fail(key, undefined);
  }

  #watchIdle(idle: number, wait: number): void {
    const { clock } = this.#options;
    this.#idleTimer = clock.after(wait, () => {
      const silence = clock.monotonic() - this.#lastByte;
      if (silence >= idle) this.#timeout("idle-timeout");
      else this.#watchIdle(idle, idle - silence);
    });
  }

  #fail(key: PassportKey, detail: string | undefined): void {
    this.#broken(key, detail, undefined);
  }

  #broken(key: PassportKey, detail: string | undefined, resetCode: number | undefined): void {
    const handler = this.#handler;
    this.#finish();
    handler?.onBroken(this, key, detail, false, resetCode);
  }

  /** Answers by a filter, once the exchange has been taken up. */
  #answerLocally(response: LocalResponse): void {
    const handler = this.#handler;
    const head = localHead(response, this.#options.exchange.grpc);
    this.#finish();
    handler?.onResponse(this, head, true);
    handler?.onEnd(this, undefined);
  }

  #clearTimers(): void {
    const { clock } = this.#options;
    for (const timer of [this.#requestTimer, this.#tryTimer, this.#retryTimer, this.#idleTimer])
      clock.clear(timer);
    if (this.#delayTimer === undefined) return;
    clock.clear(this.#delayTimer);
    this.#delayTimer = undefined;
    this.#options.limits.delayed -= 1;
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    // Copies of a request that was complete live on by themselves.
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.originalOver();
    this.#handler = undefined;
    this.#sent = [];
    this.#clearTimers();
    this.#options.onOver();
  }
}

/** What a failure without a response is to the retry policy; undefined: never tried again. */
function causeOf(key: PassportKey): RetryCause | undefined {
  if (key === "fail-fast") return "fail-fast";
  return key === "connect" || key === "connect-timeout" || key === "upstream-closed" ? "connect" : undefined;
}

function least(...values: readonly (number | undefined)[]): number | undefined {
  const given = values.filter((value) => value !== undefined);
  return given.length === 0 ? undefined : Math.min(...given);
}
