// One try of a routed request: to its layer an upstream, to the endpoint an exchange. What can be settled on the way
// to an endpoint (connections refused or found dead, streams refused) is settled here; how it ends otherwise is told
// to the layer.
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock } from "../../util/clock.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { AcceptedExchange } from "../http/accepted-exchange.ts";
import type { Exchange, Place, Service, Upstream } from "../http/exchange.ts";
import type { Field, RequestEdits, RequestHead, ResponseHead } from "../http/message.ts";
import type { Dispatch } from "./dispatch.ts";

/** What a try tells; each ends by exactly one of onTryEnd, onTryFailed, onTryBroken, unless it is given up. */
export interface AttemptOwner {
  /** The body as it came so far, to be sent first. */
  readonly sent: readonly Buffer[];
  /** All of the body so far is in `sent`. */
  readonly bodyKept: boolean;
  /** The request is complete; with these trailers. */
  readonly requestEnded: boolean;
  readonly requestTrailers: readonly Field[] | undefined;
  readonly bodyless: boolean;
  /** An endpoint takes it. */
  onPlaced(place: Place): void;
  /** The request is on its way; `writable`: and there is room for more of it. */
  onTransmitted(writable: boolean): void;
  /** No endpoint was reached. */
  onTryFailed(key: PassportKey, detail: string | undefined): void;
  onTryInterim(head: ResponseHead): void;
  onTryResponse(head: ResponseHead, end: boolean): void;
  onTryTunnel(head: ResponseHead): void;
  onTryBody(bytes: Buffer): void;
  onTryEnd(trailers: readonly Field[] | undefined): void;
  onTryWritable(): void;
  onTryBroken(key: PassportKey, errno: string | undefined, resetCode: number | undefined): void;
}

export class Attempt extends AcceptedExchange {
  readonly version: 1 | 2;
  readonly tunnels: boolean;
  readonly grpc: boolean;
  readonly request: RequestHead;
  /** Where it went first. */
  endpoint: Endpoint | undefined;
  readonly #owner: AttemptOwner;
  readonly #fieldEdits: RequestEdits;
  #sending = false;
  #over = false;

  /** @param edits of the route and the backend */
  constructor(
    exchange: Pick<Exchange, "version" | "tunnels" | "grpc" | "request">,
    owner: AttemptOwner,
    edits: RequestEdits,
    service: Service,
    clock: Clock,
  ) {
    super(service, clock);
    this.version = exchange.version;
    this.tunnels = exchange.tunnels;
    this.grpc = exchange.grpc;
    this.request = exchange.request;
    this.startedAt = clock.monotonic();
    this.#owner = owner;
    this.#fieldEdits = edits;
  }

  get kept(): boolean {
    return this.#owner.bodyKept;
  }

  // ── The layer's side ────────────────────────────────────────────────────────────────────────────────────────

  /** Body bytes can be written: the request is on its way. */
  get sending(): boolean {
    return this.#sending;
  }

  write(bytes: Buffer): boolean {
    return this.upstream!.write(bytes);
  }

  /** All of the request is here. */
  requestCompleted(): void {
    this.requestDone = true;
    this.requestEndedAt = this.clock.monotonic();
  }

  end(trailers: readonly Field[] | undefined): void {
    this.upstream?.end(trailers);
  }

  pause(): void {
    this.upstream?.pause();
  }

  resume(): void {
    this.upstream?.resume();
  }

  get progress(): number {
    return this.upstream?.progress ?? 0;
  }

  protected override leaveUpstream(complete: boolean, broken?: PassportKey): void {
    this.#sending = false;
    super.leaveUpstream(complete, broken);
  }

  /** Ends it, whatever it is doing; its owner hears nothing more. */
  giveUp(broken?: PassportKey): void {
    if (this.#over) return;
    this.#over = true;
    this.service.abandon(this);
    this.leaveUpstream(false, broken);
  }

  // ── The endpoint's side ─────────────────────────────────────────────────────────────────────────────────────

  override placed(place: Place): void {
    this.#owner.onPlaced(place);
  }

  protected transmit(upstream: Upstream): void {
    const { sent, requestEnded, requestTrailers, bodyless } = this.#owner;
    this.requestDone = requestEnded;
    this.route!.began(this);
    upstream.request(this.request, this.editsBeside(this.#fieldEdits), bodyless);
    this.#sending = true;
    let writable = true;
    for (const bytes of sent) writable = upstream.write(bytes) && writable;
    if (requestEnded && !bodyless) upstream.end(requestTrailers);
    this.#owner.onTransmitted(writable);
  }

  refuse(key: PassportKey, detail?: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#sending = false;
    this.#owner.onTryFailed(key, detail);
  }

  respond(): void {
    throw new Error("an endpoint answers by its upstream");
  }

  expire(): void {
    throw new Error("a try ends with its request");
  }

  onInterim(head: ResponseHead): void {
    this.#owner.onTryInterim(head);
  }

  onResponse(_upstream: Upstream, head: ResponseHead, end = false): void {
    this.responseBegins(head, head.status);
    if (this.grpc && end) this.grpcStatus = grpcStatusOf(head.get("grpc-status"));
    this.#owner.onTryResponse(head, end);
  }

  onTunnel(_upstream: Upstream, head: ResponseHead): void {
    this.responseBegins(head, head.status);
    this.#owner.onTryTunnel(head);
  }

  onBody(bytes: Buffer): void {
    this.account?.responseFrame(bytes.length);
    this.#owner.onTryBody(bytes);
  }

  onEnd(_upstream: Upstream, trailers: readonly Field[] | undefined): void {
    if (this.grpc && trailers) {
      for (const [name, value] of trailers) if (name === "grpc-status") this.grpcStatus = grpcStatusOf(value);
    }
    this.#over = true;
    this.leaveUpstream(true);
    this.#owner.onTryEnd(trailers);
  }

  onWritable(): void {
    this.#owner.onTryWritable();
  }

  onBroken(
    upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode?: number,
  ): void {
    this.requestDone = this.#owner.requestEnded;
    this.leaveUpstream(false, key);
    if (!this.responseStarted && this.mayRepeat(upstream, key, unprocessed)) {
      this.service.dispatch(this);
      return;
    }
    this.#over = true;
    this.#owner.onTryBroken(key, errno, resetCode);
  }
}

/** What a try is told to be its connection's: it only knows where to go. */
export class TryService implements Service {
  readonly added: readonly Field[] = [];
  readonly watch = undefined;
  readonly context = {
    direction: "outbound" as const,
    client: { ip: "", port: 0, identity: undefined },
    target: { ip: "", port: 0 },
    sourceLabels: {},
  };
  readonly trusted = true;
  readonly marksFailures = false;
  readonly draining = false;
  readonly dispatch: (exchange: Exchange) => void;
  readonly affordsRetry: Service["affordsRetry"];
  readonly #dispatch: Dispatch;

  constructor(
    dispatch: (exchange: Exchange) => void,
    waiting: Dispatch,
    affordsRetry: Service["affordsRetry"] = () => false,
  ) {
    this.dispatch = dispatch;
    this.#dispatch = waiting;
    this.affordsRetry = affordsRetry;
  }

  abandon(exchange: Exchange): void {
    this.#dispatch.abandon(exchange);
  }

  failed(): void {}
}

/** The value of `grpc-status`; undefined when it is none. */
export function grpcStatusOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : undefined;
}
