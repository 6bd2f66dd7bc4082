// The accepting side of HTTP/1: one client connection and the exchange it is in. It frames requests, asks its
// service where each goes, moves bytes between the two connections and decides what happens when either ends.
// One state machine, kept whole:
//
//   HEAD → WAIT ──→ BODY → WAIT → HEAD      requests one after the other; what comes early is held
//           │ └ connecting: nothing sent yet, so the request may go elsewhere
//           ├──→ TUNNEL                      after 101 or 2xx to CONNECT: bytes both ways
//           └──→ LINGER → CLOSED             answered, but the client still sends: read and drop, then close
import type { Socket } from "node:net";
import type { RequestLine } from "../../rules/authorization.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorCode } from "../../util/error.ts";
import type { HttpSeries, TcpSeries } from "../telemetry/series.ts";
import type { DialError } from "../transport/dial.ts";
import { answer } from "./answer.ts";
import { ChunkedBody } from "./chunked.ts";
import type { ClientConnection, ResponseHandler } from "./client-connection.ts";
import {
  COMPLETE,
  Head,
  INCOMPLETE,
  METHOD_CONNECT,
  METHOD_HEAD,
  METHOD_OTHER,
  METHOD_POST,
  spliceHead,
} from "./head.ts";
import { HeadBuffer } from "./head-buffer.ts";

const HEAD = 0;
const WAIT = 1;
const BODY = 2;
const TUNNEL = 3;
const LINGER = 4;
const CLOSED = 5;

const FRAMED_NONE = 0;
const FRAMED_LENGTH = 1;
const FRAMED_CHUNKED = 2;

/** A head that was begun must be finished within this, ms: slow senders must not hold connections. */
export const HEAD_TIMEOUT = 30_000;
/** A client that still sends after its last answer is read this long, so that the answer reaches it, ms. */
const LINGER_TIMEOUT = 2_000;
/** A request is tried at so many places before the proxy gives up. */
export const ATTEMPT_LIMIT = 5;

const NOTHING = Buffer.alloc(0);
const CLOSE_LINE = Buffer.from("connection: close\r\n", "latin1");

/** Where the exchanges of one connection go; implemented by the inbound and outbound sides. */
export interface Http1Service {
  /** Header lines added to each request. */
  readonly addedLines: Buffer;
  /** The client may read the details of our errors. */
  readonly trusted: boolean;
  /** Peers' proxies are told to leave connections on which the application failed. */
  readonly marksFailures: boolean;
  /** The side is ending: each response asks the client to leave. */
  readonly draining: boolean;
  /**
   * Decides where the request in `exchange.head` goes, by `exchange.send` or `exchange.refuse`, now or later.
   * Called again, with `exchange.attempts` grown, when a connection failed before anything could have been read.
   */
  dispatch(exchange: ServerConnection): void;
  /** The exchange is over, or was given up by the client: whatever was waiting for it is void. */
  abandon(exchange: ServerConnection): void;
  /** An error of the proxy's own was answered (or ended the connection). */
  failed(exchange: ServerConnection, key: PassportKey, detail: string | undefined): void;
}

/** What serves a request: counts it, and hears how it went. */
export interface Http1Route {
  readonly series: HttpSeries;
  /** First byte of the response came. @param rtt ms */
  measured(rtt: number, now: number): void;
  /** The exchange left the upstream; `fit`: its connection may serve another. */
  release(client: ClientConnection, fit: boolean, now: number): void;
}

export interface ServerConnectionOptions {
  readonly clock: Clock;
  readonly tcp: TcpSeries;
  /** Called once when the connection is gone. */
  readonly onClose: (connection: ServerConnection) => void;
}

export class ServerConnection implements ResponseHandler {
  readonly socket: Socket;
  readonly head = new Head();
  /** Places tried for the current request. */
  attempts = 0;
  /** Why the last place tried was not reached. */
  failure: DialError | undefined;
  /** When the request's head was complete, ms, monotonic. */
  startedAt = 0;
  readonly #service: Http1Service;
  readonly #clock: Clock;
  readonly #tcp: TcpSeries;
  readonly #onClose: (connection: ServerConnection) => void;
  readonly #chunks = new ChunkedBody();
  readonly #partial = new HeadBuffer();
  #state = HEAD;
  #client: ClientConnection | undefined;
  #route: Http1Route | undefined;
  #framed = FRAMED_NONE;
  #remaining = 0;
  #requestDone = false;
  #responseStarted = false;
  #status = 0;
  #isHead = false;
  #isHttp10 = false;
  /** No further request on this connection. */
  #closeAfter = false;
  /** The request as far as it came before it was sent; kept until it cannot be sent again. */
  #first: Buffer | undefined;
  /** Client bytes whose time has not come. */
  #held: Buffer | undefined;
  #needDrain = false;
  #timer: Timer | undefined;
  #errno: string | undefined;
  #reading = false;

  constructor(socket: Socket, service: Http1Service, options: ServerConnectionOptions) {
    this.socket = socket;
    this.#service = service;
    this.#clock = options.clock;
    this.#tcp = options.tcp;
    this.#onClose = options.onClose;
    this.#tcp.opened();
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("end", () => this.#onEnd());
    socket.on("drain", () => this.#onDrain());
    socket.on("error", (error) => {
      this.#errno = errorCode(error);
    });
    socket.once("close", () => this.#onClosed());
  }

  /** Begins with what was read from the socket already. */
  start(bytes: Buffer): void {
    if (bytes.length > 0) this.#onData(bytes);
    if (this.#state !== CLOSED && this.#held === undefined && !this.socket.readableEnded)
      this.socket.resume();
  }

  /** Between requests, with nothing begun. */
  get idle(): boolean {
    return this.#state === HEAD && this.#partial.length === 0 && this.#held === undefined;
  }

  /** Ends the connection at once if it is idle; else after the current exchange. */
  closeWhenIdle(): void {
    this.#closeAfter = true;
    if (this.idle) this.#finish();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Method and path (without query) of the request that is being decided. */
  get requestLine(): RequestLine {
    const { start, methodEnd, targetStart, targetEnd } = this.head;
    const line = this.#first!.toString("latin1", 0, targetEnd - start);
    const target = line.slice(targetStart - start);
    const query = target.indexOf("?");
    return { method: line.slice(0, methodEnd - start), path: query < 0 ? target : target.slice(0, query) };
  }

  /** The request may be sent once more without the server being able to tell: it has not been worked on. */
  get repeatable(): boolean {
    const { method } = this.head;
    return (
      this.#first !== undefined &&
      this.#requestDone &&
      method !== METHOD_POST &&
      method !== METHOD_CONNECT &&
      method !== METHOD_OTHER
    );
  }

  // ── The client's side ───────────────────────────────────────────────────────────────────────────────────────

  #onData(chunk: Buffer): void {
    this.#tcp.read.inc(chunk.length);
    switch (this.#state) {
      case HEAD:
        this.#readHeads(chunk);
        break;
      case BODY:
        this.#forwardBody(chunk, 0);
        break;
      case TUNNEL:
        if (!this.#client!.write(chunk)) this.socket.pause();
        break;
      case WAIT:
        this.#hold(chunk);
        break;
      // LINGER, CLOSED: read and dropped
    }
  }

  #hold(chunk: Buffer): void {
    this.#held = this.#held === undefined ? chunk : Buffer.concat([this.#held, chunk]);
    this.socket.pause();
  }

  /** Reads heads from `chunk` as long as each is answered at once. */
  #readHeads(chunk: Buffer): void {
    let buf = chunk;
    let at = 0;
    if (this.#partial.length > 0) {
      if (!this.#partial.append(buf, 0, buf.length)) return;
      buf = this.#partial.take();
    }
    while (at < buf.length && this.#state === HEAD) {
      const result = this.head.readRequest(buf, at, buf.length);
      if (result === INCOMPLETE) {
        this.#partial.append(buf, at, buf.length);
        this.#timer ??= this.#clock.after(HEAD_TIMEOUT, () => this.#refuseAndClose("head-timeout"));
        return;
      }
      if (this.#timer !== undefined) this.#clearTimer();
      if (result !== COMPLETE) {
        this.#refuseAndClose(this.head.error);
        return;
      }
      at = this.#begin(buf);
    }
    if (at < buf.length && this.#state < LINGER) {
      if (this.#state === BODY) this.#forwardBody(buf, at);
      else this.#hold(buf.subarray(at));
    }
  }

  /** Takes up the request whose head was read; returns the position after what belongs to it. */
  #begin(buf: Buffer): number {
    const { head } = this;
    this.startedAt = this.#clock.monotonic();
    this.attempts = 0;
    this.failure = undefined;
    this.#responseStarted = false;
    this.#status = 0;
    this.#isHead = head.method === METHOD_HEAD;
    this.#isHttp10 = head.minor === 0;
    if (this.#isHttp10 ? !head.keepAlive : head.close) this.#closeAfter = true;
    if (head.chunked) {
      this.#framed = FRAMED_CHUNKED;
      this.#chunks.reset();
    } else if (head.contentLength > 0) {
      this.#framed = FRAMED_LENGTH;
      this.#remaining = head.contentLength;
    } else this.#framed = FRAMED_NONE;
    this.#requestDone = this.#framed === FRAMED_NONE;

    const end = this.#requestDone ? head.end : this.#advance(buf, head.end);
    if (end < 0) {
      this.#refuseAndClose("chunk");
      return buf.length;
    }
    const { addedLines } = this.#service;
    if (head.cutCount > 0 || addedLines.length > 0) this.#first = spliceHead(buf, head, addedLines, end);
    else this.#first = head.start === 0 && end === buf.length ? buf : buf.subarray(head.start, end);
    this.#state = WAIT;
    this.#service.dispatch(this);
    return end;
  }

  /** Follows the request's body in `buf` from `start`; returns where it stops, -1 when its framing is bad. */
  #advance(buf: Buffer, start: number): number {
    if (this.#framed === FRAMED_LENGTH) {
      const step = Math.min(this.#remaining, buf.length - start);
      this.#remaining -= step;
      if (this.#remaining === 0) this.#requestDone = true;
      return start + step;
    }
    const end = this.#chunks.read(buf, start, buf.length);
    if (this.#chunks.failed) return -1;
    if (this.#chunks.done) this.#requestDone = true;
    return end;
  }

  #forwardBody(chunk: Buffer, start: number): void {
    const end = this.#advance(chunk, start);
    if (end < 0) {
      this.#badBody();
      return;
    }
    this.#first = undefined;
    const client = this.#client!;
    const bytes = start === 0 && end === chunk.length ? chunk : chunk.subarray(start, end);
    if (!client.write(bytes)) this.socket.pause();
    if (!this.#requestDone) return;
    this.#state = WAIT;
    if (end < chunk.length) this.#hold(chunk.subarray(end));
  }

  #badBody(): void {
    this.#dropClient();
    if (this.#responseStarted) this.socket.destroy();
    else this.#refuseAndClose("chunk");
  }

  #onEnd(): void {
    switch (this.#state) {
      case TUNNEL:
        this.#client?.end();
        break;
      case CLOSED:
        break;
      default:
        // A client that closes its side gives its request up (as nginx, Go and hyper see it).
        this.socket.destroy();
    }
  }

  #onDrain(): void {
    if (!this.#needDrain) return;
    this.#needDrain = false;
    this.#client?.resume();
    if (this.#state === HEAD) this.#readOn();
  }

  #onClosed(): void {
    this.#state = CLOSED;
    this.#clearTimer();
    this.#dropClient();
    this.#service.abandon(this);
    this.#tcp.closed(this.#errno);
    this.#onClose(this);
  }

  /** The exchange's connection serves nobody any more. */
  #dropClient(): void {
    const client = this.#client;
    if (!client) return;
    this.#client = undefined;
    client.destroy();
    this.#route?.release(client, false, this.#clock.monotonic());
  }

  #clearTimer(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }

  // ── The service's word ──────────────────────────────────────────────────────────────────────────────────────

  /** Sends the request over `client`, at once or when it has connected. */
  send(client: ClientConnection, route: Http1Route): void {
    this.#client = client;
    this.#route = route;
    this.attempts += 1;
    client.attach(this);
    if (client.connected) this.#transmit(client);
  }

  /** Answers with an error of the proxy's own. The connection lives on when the request was read to its end. */
  refuse(key: PassportKey, detail?: string): void {
    if (this.#state === CLOSED) return;
    const close = this.#closeAfter || !this.#requestDone || this.#service.draining;
    this.#answer(key, detail, close);
    if (close) this.#linger();
    else {
      this.#reset();
      if (!this.#reading) this.#readOn();
    }
  }

  #refuseAndClose(key: PassportKey): void {
    this.#answer(key, undefined, true);
    this.#linger();
  }

  #answer(key: PassportKey, detail: string | undefined, close: boolean): void {
    this.#service.failed(this, key, detail);
    const { trusted, marksFailures } = this.#service;
    this.#write(
      answer(key, { close, trusted, detail, meshClose: marksFailures && PASSPORTS[key].status >= 502 }),
    );
  }

  #transmit(client: ClientConnection): void {
    const { head } = this;
    client.begin(this.#isHead, head.method === METHOD_CONNECT, head.upgrade);
    this.#route!.series.requests.inc();
    const writable = client.write(this.#first!);
    if (this.#requestDone) return;
    this.#state = BODY;
    if (!writable) this.socket.pause();
    else this.#readOn();
  }

  /** Takes up what was held, and reads further. */
  #readOn(): void {
    if (this.#needDrain && this.#state === HEAD) return;
    const held = this.#held;
    if (held === undefined) {
      if (this.socket.isPaused()) this.socket.resume();
      return;
    }
    this.#held = undefined;
    this.#reading = true;
    if (this.#state === HEAD) this.#readHeads(held);
    else if (this.#state === BODY) this.#forwardBody(held, 0);
    this.#reading = false;
    if (this.#held === undefined && this.#state !== CLOSED) this.socket.resume();
  }

  // ── The upstream's side ─────────────────────────────────────────────────────────────────────────────────────

  onConnected(client: ClientConnection): void {
    this.#transmit(client);
  }

  onConnectFailed(client: ClientConnection, error: DialError): void {
    this.#route?.release(client, false, this.#clock.monotonic());
    this.#client = undefined;
    this.failure = error;
    if (this.attempts < ATTEMPT_LIMIT) this.#service.dispatch(this);
    else this.refuse(error.key, error.message);
  }

  onInterim(bytes: Buffer): void {
    // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
    if (!this.#isHttp10) this.#write(bytes);
  }

  onResponse(client: ClientConnection, buf: Buffer, end: number): void {
    const { head } = client;
    this.#first = undefined;
    this.#responseStarted = true;
    this.#status = head.status;
    const now = this.#clock.monotonic();
    this.#route!.measured(now - this.startedAt, now);
    if (
      this.#service.draining ||
      client.untilClose ||
      !this.#requestDone ||
      (this.#isHttp10 && !head.keepAlive)
    ) {
      this.#closeAfter = true;
    }
    // A proxy states its own version (RFC 9110 §6.2); what an older server framed is framed for 1.1 as well.
    if (head.minor === 0 && !this.#isHttp10) buf[head.versionAt] = 0x31;
    if (this.#closeAfter) {
      head.cutConnection(buf);
      this.#write(spliceHead(buf, head, CLOSE_LINE, end));
    } else if (head.cutCount > 0) this.#write(spliceHead(buf, head, NOTHING, end));
    else {
      const out = Buffer.allocUnsafe(end - head.start);
      buf.copy(out, 0, head.start, end);
      this.#write(out);
    }
  }

  onBody(bytes: Buffer): void {
    this.#write(bytes);
  }

  onResponseEnd(client: ClientConnection): void {
    const now = this.#clock.monotonic();
    const route = this.#route!;
    route.series.ended(this.#status, true, now - this.startedAt);
    this.#client = undefined;
    const fit = client.keep && this.#requestDone;
    if (fit) client.rest();
    else client.destroy();
    route.release(client, fit, now);
    if (!this.#requestDone) this.#linger();
    else if (this.#closeAfter) this.#finish();
    else {
      this.#reset();
      this.#readOn();
    }
  }

  onTunnel(client: ClientConnection, bytes: Buffer): void {
    const now = this.#clock.monotonic();
    this.#first = undefined;
    this.#responseStarted = true;
    this.#state = TUNNEL;
    this.#route!.measured(now - this.startedAt, now);
    this.#route!.series.ended(client.head.status, true, now - this.startedAt);
    this.#write(bytes);
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined || client.write(held)) this.socket.resume();
  }

  onTunnelBytes(bytes: Buffer): void {
    this.#write(bytes);
  }

  onTunnelEnd(): void {
    this.socket.end();
  }

  onWritable(): void {
    if (this.#state === BODY) this.#readOn();
    else if (this.#state === TUNNEL) this.socket.resume();
  }

  onBroken(client: ClientConnection, key: PassportKey, errno: string | undefined): void {
    const route = this.#route;
    this.#client = undefined;
    route?.release(client, false, this.#clock.monotonic());
    if (this.#state === TUNNEL) {
      // Both ends were said: an orderly end. Otherwise the client must not take the break for one.
      if (errno === undefined) this.socket.destroySoon();
      else abort(this.socket);
      return;
    }
    if (this.#responseStarted) {
      const now = this.#clock.monotonic();
      route?.series.ended(this.#status, false, now - this.startedAt);
      abort(this.socket);
      return;
    }
    // The idle connection may have been closing when the request was sent: then nobody has read it.
    if (key === "upstream-closed" && client.reused && this.repeatable && this.attempts < ATTEMPT_LIMIT) {
      this.#service.dispatch(this);
      return;
    }
    this.refuse(key, errno);
  }

  // ── Between exchanges ───────────────────────────────────────────────────────────────────────────────────────

  #write(bytes: Buffer): void {
    this.#tcp.write.inc(bytes.length);
    if (this.socket.write(bytes)) return;
    this.#needDrain = true;
    this.#client?.pause();
  }

  #reset(): void {
    this.#state = HEAD;
    this.#first = undefined;
    this.#route = undefined;
  }

  /** The last response is out; close in order. */
  #finish(): void {
    if (this.#held !== undefined) {
      this.#linger();
      return;
    }
    this.#state = CLOSED;
    this.#first = undefined;
    this.socket.destroySoon();
  }

  /**
   * The client may still be sending what nobody will read. Closing now would reset the connection and could take
   * the answer with it, so its bytes are dropped for a while first (RFC 9112 §9.6).
   */
  #linger(): void {
    this.#state = LINGER;
    this.#first = undefined;
    this.#held = undefined;
    this.#clearTimer();
    this.socket.end();
    this.socket.resume();
    this.#timer = this.#clock.after(LINGER_TIMEOUT, () => this.socket.destroy());
  }
}

/** Ends a connection so that its peer sees a failure, not an end. */
function abort(socket: Socket): void {
  // Only plain sockets can be reset; with TLS the missing close_notify says the same.
  if ("encrypted" in socket) socket.destroy();
  else socket.resetAndDestroy();
}
