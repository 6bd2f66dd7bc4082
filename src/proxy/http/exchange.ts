// One request and its response on their way through the proxy, whatever protocol either side speaks.
//
//   client ⇄ Exchange ⇄ [layers] ⇄ Upstream ⇄ server
//
// The accepting side of a codec makes an Exchange of each request and asks its Service where it goes. The service
// answers with an Upstream: an endpoint's connection or stream, or a layer (retries, timeouts) that has one. The
// request flows along Upstream's methods, the response back along UpstreamHandler's. Between HTTP/1 and HTTP/1 with
// no layer between, bytes go on as they are ("raw"): see Http1Upstream.
import type { PassportKey } from "../../rules/passport.ts";
import type { DialError } from "../transport/dial.ts";
import type { Field, RequestEdits, RequestHead, ResponseHead } from "./message.ts";

/** The dialling side of one exchange. */
export interface Upstream {
  /** The request can be sent; until then wait for `onConnected`. */
  readonly connected: boolean;
  /** It has served before, and may be dying of idleness without our knowing. */
  readonly reused: boolean;
  /** Who is to hear of it; before anything else. */
  attach(handler: UpstreamHandler): void;
  /** Sends the head. `end`: there is no body. Once only, when `connected`. */
  request(head: RequestHead, edits: RequestEdits, end: boolean): void;
  /** Sends body bytes, which must not change afterwards. False: wait for `onWritable` before sending more. */
  write(bytes: Buffer): boolean;
  /** The body is complete. */
  end(trailers: readonly Field[] | undefined): void;
  /** Holds back, or lets come, the response's bytes. */
  pause(): void;
  resume(): void;
  /** A figure that changes while what was written goes out: the server takes it, however slowly. */
  readonly progress: number;
  /** Gives the exchange up, at any time; the handler hears nothing more. */
  cancel(): void;
}

/** Whoever waits for a response. Each exchange ends by exactly one of onEnd, onBroken, onConnectFailed. */
export interface UpstreamHandler {
  /** Uses the bytes of `onBody` only during the call: they need not be copied for it. */
  readonly borrows?: boolean;
  onConnected(upstream: Upstream): void;
  onConnectFailed(upstream: Upstream, error: DialError): void;
  /** An interim response (1xx other than 101). */
  onInterim(head: ResponseHead): void;
  /**
   * The endpoint's proxy answers that its application has never got the request. True: it has left the upstream, for
   * another endpoint. False: the answer is to come, by `onResponse`.
   */
  onUnserved(upstream: Upstream, error: DialError): boolean;
  /** The head of the response; valid for the length of the exchange. `end`: no body follows, `onEnd` comes at once. */
  onResponse(upstream: Upstream, head: ResponseHead, end?: boolean): void;
  /** Body bytes, the handler's own, unless it `borrows` them. */
  onBody(bytes: Buffer): void;
  onEnd(upstream: Upstream, trailers: readonly Field[] | undefined): void;
  /**
   * From now on bytes flow both ways: after 101, or 2xx to CONNECT. Bytes come by `onBody`, the end by `onEnd`;
   * `write` and `end` go on being used.
   */
  onTunnel(upstream: Upstream, head: ResponseHead): void;
  /** More may be written. */
  onWritable(): void;
  /**
   * The exchange died before its end.
   * @param unprocessed the server has certainly not worked on the request (refused stream, GOAWAY before it)
   * @param resetCode the HTTP/2 error code, when the stream was reset by the server
   */
  onBroken(
    upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode?: number,
  ): void;
}

/** A response of the proxy's own, by a route's filter. */
export interface LocalResponse {
  readonly status: number;
  readonly fields: readonly Field[];
  /** Sent as grpc-status to gRPC callers. */
  readonly grpcStatus?: number | undefined;
  /** For `grpc-message`, and for logs. */
  readonly message?: string | undefined;
  /** It is a failure on purpose. */
  readonly error?: PassportKey | undefined;
}

/** The accepting side of one exchange. */
export interface Exchange {
  /** How the request came: 1 or 2. HTTP/1 carried in HTTP/2 by a peer's proxy is 1. */
  readonly version: 1 | 2;
  /** Asks for another protocol on this connection (Upgrade, CONNECT): it needs a connection of its own. */
  readonly tunnels: boolean;
  /** Valid until the exchange is over. */
  readonly request: RequestHead;
  /** A gRPC call, by its content-type: its errors are told by grpc-status. */
  readonly grpc: boolean;
  /** When the request's head was complete, ms, monotonic. */
  readonly startedAt: number;
  /** Places tried for the current request. */
  readonly attempts: number;
  /** Why the last place tried was not reached. */
  readonly failure: DialError | undefined;
  /** The request has no body, or all of it is here. */
  readonly requestDone: boolean;
  /** Body bytes so far. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** What watches it: tap, access log, trace; undefined when nothing does. */
  record: ExchangeRecord | undefined;
  /** Counts it by its route, beside whoever serves it; given before it is sent. */
  account: Account | undefined;
  /** Of the route that it takes, for whoever watches; undefined when none says anything. */
  routeLabels: Readonly<Record<string, string>> | undefined;
  /** An endpoint takes it, which is told to whoever watches. Called again when another one does. */
  placed(place: Place): void;
  /** Sends the request by `upstream`, at once or when it has connected; `route` hears how it goes. */
  send(upstream: Upstream, route: Route, edits?: RequestEdits): void;
  /** Answers with an error of the proxy's own. */
  refuse(key: PassportKey, detail?: string): void;
  /** Answers with a response made by a filter. */
  respond(response: LocalResponse): void;
  /** Ends it for this reason, wherever it stands: with an answer if none has begun, else by breaking it off. */
  expire(key: PassportKey): void;
}

/** An endpoint, as those who watch are told of it. */
export interface Place {
  readonly ip: string;
  readonly port: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** What serves a request: counts it, and hears how it went. */
export interface Route {
  /** The request goes out. */
  began(exchange: Exchange): void;
  /**
   * First byte of the response came.
   * @param rtt ms
   * @param head given at least when the status tells of overload or failure (429, 5xx), and for gRPC
   */
  measured(rtt: number, now: number, status: number, head: ResponseHead | undefined): void;
  /**
   * The exchange has left the upstream. Called once for each `send`.
   * @param outcome how the response ended; undefined when it never began
   * @param broken why it died on the upstream's side; undefined when it did not, or was never sent
   */
  release(upstream: Upstream, outcome: Outcome | undefined, now: number, broken?: PassportKey): void;
}

/** The figures of a kind of exchanges. */
export interface Account {
  /** An exchange goes out; again when it is sent once more. */
  began(): void;
  /** As `Route.release`. */
  ended(outcome: Outcome | undefined, broken: PassportKey | undefined): void;
  /** So many bytes of a body came at once. */
  requestFrame(bytes: number): void;
  responseFrame(bytes: number): void;
  /** The response comes of a retry that `Service.affordsRetry` allowed. */
  retried?(status: number): void;
}

/** How a response ended. */
export interface Outcome {
  readonly status: number;
  /** From trailers, or headers when there was no body; undefined when it is no gRPC, or there was none. */
  readonly grpcStatus: number | undefined;
  /** False: it broke off. */
  readonly complete: boolean;
  /** From the request's head to the response's end, ms. */
  readonly latency: number;
  /** The same from the request's end; as `latency` when it is not known. */
  readonly responseLatency?: number | undefined;
}

/** Where the exchanges of one connection go; implemented by the inbound and outbound sides. */
export interface Service {
  /** Fields added to each request. */
  readonly added: readonly Field[];
  /** What watches the exchanges now, and what it is told of their connection; undefined when nothing does. */
  readonly watch: ExchangeWatch | undefined;
  readonly context: ExchangeContext;
  /** The client may read the details of our errors. */
  readonly trusted: boolean;
  /** Peers' proxies are told to leave connections on which the application failed. */
  readonly marksFailures: boolean;
  /** The side is ending: each response asks the client to leave. */
  readonly draining: boolean;
  /**
   * Decides where the request goes, by `exchange.send`, `refuse` or `respond`, now or later. Called again, with
   * `exchange.attempts` grown, when a connection failed before anything could have been read.
   */
  dispatch(exchange: Exchange): void;
  /**
   * Whether a request that nobody has worked on may be sent once more; then that counts as a retry.
   * @param elsewhere only to an endpoint that has not been tried
   */
  affordsRetry(exchange: Exchange, elsewhere: boolean): boolean;
  /** The exchange is over, or was given up by the client: whatever was waiting for it is void. */
  abandon(exchange: Exchange): void;
  /** An error of the proxy's own was answered (or ended the connection). */
  failed(exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void;
}

/** One exchange as it is watched. Nothing is made or called for exchanges that nobody watches. */
export interface ExchangeRecord {
  /** An endpoint takes the request; never comes when it is answered without one. */
  placed?(exchange: Exchange, place: Place): void;
  /** The response's head is going to the client. */
  response(exchange: Exchange, head: ResponseHead): void;
  /** All is over. `error`: the passport of an answer of our own, or why it broke. */
  end(exchange: Exchange, end: ExchangeEnd): void;
}

export interface ExchangeEnd {
  /** 0: the client never got an answer. */
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly trailers: readonly Field[] | undefined;
  readonly complete: boolean;
  readonly error: PassportKey | undefined;
  /** HTTP/2 error code, when the client's stream was reset. */
  readonly resetCode: number | undefined;
}

/** What may watch the exchanges of one side (tap, access log, traces). */
export interface ExchangeWatch {
  /** The exchange's head is here. undefined: not of interest. May change the request by `edits`. */
  begin(
    exchange: Exchange,
    context: ExchangeContext,
  ): { record: ExchangeRecord; edits?: RequestEdits } | undefined;
}

/** What the exchange itself does not know. */
export interface ExchangeContext {
  readonly direction: "inbound" | "outbound";
  readonly client: { readonly ip: string; readonly port: number; readonly identity: string | undefined };
  /** Where the client's connection meant to go. */
  readonly target: { readonly ip: string; readonly port: number };
  readonly sourceLabels: Readonly<Record<string, string>>;
}
