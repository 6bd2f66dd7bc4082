// The dialling side of HTTP/1: one connection to an upstream, which serves one exchange at a time and rests in its
// pool between them. It frames requests and reads responses; it knows nothing of who asked.
//
//   CONNECTING → IDLE ⇄ BUSY → TUNNEL (after 101, or 2xx to CONNECT)
//        └────────────┴──────┴──→ CLOSED
//
// An exchange is served in one of two ways. As any Upstream: `request`, `write`, `end`, and a response taken apart.
// Or raw, between HTTP/1 and HTTP/1: `beginRaw`, then bytes that are framed already, and the response's bytes as
// they are.
import type { Socket } from "node:net";
import type { PassportKey } from "../../rules/passport.ts";
import type { Upstream, UpstreamHandler } from "../http/exchange.ts";
import type { Field, RequestEdits, RequestHead } from "../http/message.ts";
import { unservedError } from "../http/unserved.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { abort } from "../transport/abort.ts";
import {
  type DialError,
  type DialHandler,
  type DialOptions,
  type DialTarget,
  dial,
} from "../transport/dial.ts";
import { sendingOf } from "../transport/progress.ts";
import { ChunkedBody, chunk, LAST_CHUNK, lastChunk } from "./chunked.ts";
import { COMPLETE, Head, INCOMPLETE } from "./head.ts";
import { HeadBuffer } from "./head-buffer.ts";
import { Http1Request, Http1Response, writeRequest } from "./message.ts";

const CONNECTING = 0;
const IDLE = 1;
const BUSY = 2;
const TUNNEL = 3;
const CLOSED = 4;

const BODY_NONE = 0;
const BODY_LENGTH = 1;
const BODY_CHUNKED = 2;
const BODY_UNTIL_CLOSE = 3;

/** What the accepting side of HTTP/1 hears of a raw exchange beside UpstreamHandler's connection events. */
export interface RawHandler extends UpstreamHandler {
  /** An interim response (1xx), whole. */
  onRawInterim(bytes: Buffer): void;
  /**
   * The head, and in the same buffer the body up to `end`. `buf` is only valid during the call, and may be
   * written to. `client.head` tells the rest.
   */
  onRawResponse(client: ClientConnection, buf: Buffer, end: number): void;
  /** `buf[start, end)` is only valid during the call. */
  onRawBody(buf: Buffer, start: number, end: number): void;
  /** From now on bytes flow both ways by `onBody`; as `onRawResponse`, `buf` holds the head and what came with it. */
  onRawTunnel(client: ClientConnection, buf: Buffer, end: number): void;
}

/** Where a connection belongs: it tells its pool when it can serve again, and when it is gone. */
export interface ClientOwner {
  /** Its exchange is over, and it is fit for another. */
  onIdle(client: ClientConnection): void;
  /** The endpoint's proxy could not reach its application. */
  onUnserved(): void;
  /** Called once, whether it was idle, busy or never connected. */
  onGone(client: ClientConnection, error: DialError | undefined): void;
}

const METHODS_WITH_BODY = new Set(["POST", "PUT", "PATCH"]);

export class ClientConnection implements DialHandler, Upstream {
  readonly owner: ClientOwner;
  readonly socket: Socket;
  readonly head = new Head();
  /** Served an exchange before: it may be dying of idleness without our knowing. */
  reused = false;
  /** When it came to rest, ms; kept by the pool. */
  idleSince = 0;
  /** Until when the upstream keeps it, by its own word, ms after `idleSince`. */
  idleLimit = Number.POSITIVE_INFINITY;
  /** The request has gone out whole; raw exchanges say so themselves. */
  requestDone = false;
  readonly #tcp: TcpSeries;
  #openedAt = 0;
  readonly #chunks = new ChunkedBody();
  readonly #partial = new HeadBuffer();
  #handler: UpstreamHandler | undefined;
  #raw: RawHandler | undefined;
  #state = CONNECTING;
  #body = BODY_NONE;
  #remaining = 0;
  /** Reading a body (or past it), not a head. */
  #inBody = false;
  /** The response to the current exchange allows another. */
  #keep = false;
  /** The exchange's request, as it matters to framing. */
  #isHead = false;
  #isConnect = false;
  #mayUpgrade = false;
  /** The request's body is written in chunks. */
  #chunked = false;
  #paused = false;

  constructor(owner: ClientOwner, target: DialTarget, options: DialOptions, tcp: TcpSeries) {
    this.owner = owner;
    this.#tcp = tcp;
    this.socket = dial(target, options, this);
  }

  get connected(): boolean {
    return this.#state !== CONNECTING && this.#state !== CLOSED;
  }

  /** Reads until the connection ends: the body's length was not told. */
  get untilClose(): boolean {
    return this.#body === BODY_UNTIL_CLOSE;
  }

  // ── The exchange's side ─────────────────────────────────────────────────────────────────────────────────────

  attach(handler: UpstreamHandler): void {
    this.#handler = handler;
    this.#raw = undefined;
  }

  request(head: RequestHead, edits: RequestEdits, end: boolean): void {
    const chunked = !end && head.contentLength < 0;
    const upgrade = head.protocol !== undefined || (head instanceof Http1Request && head.tunnels);
    this.#begin(head.method === "HEAD", head.method === "CONNECT" && !upgrade, upgrade);
    this.#chunked = chunked && !upgrade;
    this.requestDone = end;
    const framing = this.#chunked
      ? "transfer-encoding: chunked\r\n"
      : end && head.contentLength < 0 && METHODS_WITH_BODY.has(head.method)
        ? "content-length: 0\r\n"
        : "";
    this.#send(writeRequest(head, edits, framing));
  }

  write(bytes: Buffer): boolean {
    return this.#send(this.#chunked ? chunk(bytes) : bytes);
  }

  end(trailers: readonly Field[] | undefined): void {
    if (this.#state === TUNNEL) this.socket.end();
    else {
      this.requestDone = true;
      if (this.#chunked) this.#send(trailers && trailers.length > 0 ? lastChunk(trailers) : LAST_CHUNK);
    }
  }

  /** Begins an exchange whose bytes go on as they are. The request's bytes follow by `writeRaw`. */
  beginRaw(handler: RawHandler, isHead: boolean, isConnect: boolean, mayUpgrade: boolean): void {
    this.#raw = handler;
    this.#begin(isHead, isConnect, mayUpgrade);
    this.requestDone = false;
  }

  /** False: wait for `onWritable` before writing more. */
  writeRaw(bytes: Buffer): boolean {
    return this.#send(bytes);
  }

  pause(): void {
    this.#paused = true;
    this.socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.socket.resume();
  }

  get progress(): number {
    return sendingOf(this.socket);
  }

  cancel(): void {
    this.#handler = undefined;
    this.#raw = undefined;
    // After a half-close, an end would say nothing new.
    if (this.#state === TUNNEL && this.socket.writableEnded) abort(this.socket);
    else this.socket.destroy();
  }

  #begin(isHead: boolean, isConnect: boolean, mayUpgrade: boolean): void {
    this.#state = BUSY;
    this.#inBody = false;
    this.#isHead = isHead;
    this.#isConnect = isConnect;
    this.#mayUpgrade = mayUpgrade;
    this.#chunked = false;
    this.#keep = false;
  }

  #send(bytes: Buffer): boolean {
    this.#tcp.write.inc(bytes.length);
    return this.socket.write(bytes) || this.socket.writableLength === 0;
  }

  // ── The socket's side ───────────────────────────────────────────────────────────────────────────────────────

  onConnected(): void {
    this.#openedAt = this.#tcp.opened();
    this.#state = IDLE;
    this.#handler?.onConnected(this);
  }

  onDrain(): void {
    this.#handler?.onWritable();
  }

  onBytes(size: number, buf: Buffer): void {
    this.#tcp.read.inc(size);
    if (this.#state === BUSY) {
      if (this.#inBody) this.#readBody(buf, 0, size);
      else this.#readHead(buf, size);
    } else if (this.#state === TUNNEL) this.#handler?.onBody(copy(buf, 0, size));
    // Bytes that nobody asked for: a next response here would be given to the wrong request.
    else this.socket.destroy();
  }

  onEnd(): void {
    if (this.#state === TUNNEL) this.#handler?.onEnd(this, undefined);
    else if (this.#state === BUSY && this.#inBody && this.#body === BODY_UNTIL_CLOSE) this.#ended(undefined);
    else this.socket.destroy();
  }

  onClosed(error: DialError | undefined): void {
    const state = this.#state;
    const handler = this.#handler;
    this.#state = CLOSED;
    this.#handler = undefined;
    this.#raw = undefined;
    if (state !== CONNECTING) this.#tcp.closed(error?.errno, this.#openedAt);
    this.owner.onGone(this, error);
    if (!handler) return;
    if (state === CONNECTING) handler.onConnectFailed(this, error!);
    else handler.onBroken(this, error?.key ?? "upstream-closed", error?.errno, false);
  }

  #readHead(buf: Buffer, size: number): void {
    let bytes = buf;
    let limit = size;
    if (this.#partial.length > 0) {
      if (!this.#partial.append(buf, 0, size)) return;
      bytes = this.#partial.take();
      limit = bytes.length;
    }
    const { head } = this;
    let at = 0;
    while (at < limit) {
      const result = head.readResponse(bytes, at, limit);
      if (result === INCOMPLETE) {
        this.#partial.append(bytes, at, limit);
        return;
      }
      if (result !== COMPLETE) {
        this.#broken("bad-response");
        return;
      }
      if (head.status >= 200 || head.status === 101) {
        this.#readFinal(bytes, limit);
        return;
      }
      if (this.#raw) this.#raw.onRawInterim(copy(bytes, head.start, head.end));
      else this.#handler?.onInterim(this.view(bytes));
      if (this.#state !== BUSY) return;
      at = head.end;
    }
  }

  /** The head that was just read from `buf`, for the length of the exchange: that buffer is not ours. */
  view(buf: Buffer): Http1Response {
    const view = new Http1Response(this.head);
    view.take(copy(buf, 0, this.head.end));
    return view;
  }

  #readFinal(buf: Buffer, limit: number): void {
    const { head } = this;
    if (head.status === 101 && !(this.#mayUpgrade && head.upgrade)) {
      this.#broken("unexpected-upgrade");
      return;
    }
    if (head.status === 101 || (this.#isConnect && head.status < 300)) {
      this.#state = TUNNEL;
      if (this.#raw) this.#raw.onRawTunnel(this, buf, limit);
      else {
        this.#handler?.onTunnel(this, this.view(buf));
        if (head.end < limit) this.#handler?.onBody(copy(buf, head.end, limit));
      }
      return;
    }
    if (head.unservedEnd > 0 && this.#isUnserved(this.view(buf))) return;
    this.#inBody = true;
    // RFC 9112 §6.3
    if (this.#isHead || head.status === 204 || head.status === 304) this.#body = BODY_NONE;
    else if (head.chunked) {
      this.#body = BODY_CHUNKED;
      this.#chunks.reset();
    } else if (head.contentLength >= 0 && !head.otherEncoding) {
      this.#body = head.contentLength === 0 ? BODY_NONE : BODY_LENGTH;
      this.#remaining = head.contentLength;
    } else this.#body = BODY_UNTIL_CLOSE;
    const persistent = head.minor === 1 ? !head.close : head.keepAlive;
    this.#keep = persistent && !head.meshClose && this.#body !== BODY_UNTIL_CLOSE;

    if (!this.#raw) {
      this.#handler?.onResponse(this, this.view(buf), this.#body === BODY_NONE);
      if (this.#state === BUSY) this.#readBody(buf, head.end, limit);
      return;
    }
    const end = this.#advance(buf, head.end, limit);
    if (end < 0) {
      this.#broken("bad-response");
      return;
    }
    // Bytes beyond the response's end: this upstream and we disagree about framing.
    if (end < limit) this.#keep = false;
    this.#raw.onRawResponse(this, buf, end);
    if (this.#state === BUSY && this.#isDone()) this.#ended(undefined);
  }

  /** Whether the peer's proxy says that nobody got the request, and the request went elsewhere. */
  #isUnserved(head: Http1Response): boolean {
    const error = unservedError(head, this.socket);
    if (error === undefined) return false;
    this.owner.onUnserved();
    return this.#handler?.onUnserved(this, error) ?? false;
  }

  #readBody(buf: Buffer, start: number, limit: number): void {
    const raw = this.#raw;
    const end =
      raw || this.#body !== BODY_CHUNKED ? this.#advance(buf, start, limit) : this.#decode(buf, start, limit);
    if (end < 0) {
      this.#broken("bad-response");
      return;
    }
    if (end < limit) this.#keep = false;
    if (end > start) {
      if (raw) raw.onRawBody(buf, start, end);
      else if (this.#body !== BODY_CHUNKED) this.#onBody(buf, start, end);
    }
    if (this.#state === BUSY && this.#isDone()) this.#ended(raw ? undefined : this.#chunks.trailers);
  }

  /** As `#advance`, for chunks, whose data are handed on. */
  #decode(buf: Buffer, start: number, limit: number): number {
    const end = this.#chunks.read(buf, start, limit, this.#onChunkData);
    return this.#chunks.failed ? -1 : end;
  }

  readonly #onChunkData = (buf: Buffer, start: number, end: number): void => {
    if (this.#state === BUSY) this.#onBody(buf, start, end);
  };

  #onBody(buf: Buffer, start: number, end: number): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    handler.onBody(handler.borrows ? buf.subarray(start, end) : copy(buf, start, end));
  }

  /** Follows the body through `buf[start, limit)`; returns where it stops in there, -1 when its framing is bad. */
  #advance(buf: Buffer, start: number, limit: number): number {
    switch (this.#body) {
      case BODY_LENGTH: {
        const step = Math.min(this.#remaining, limit - start);
        this.#remaining -= step;
        return start + step;
      }
      case BODY_CHUNKED: {
        const end = this.#chunks.read(buf, start, limit);
        return this.#chunks.failed ? -1 : end;
      }
      case BODY_UNTIL_CLOSE:
        return limit;
      default:
        return start;
    }
  }

  #isDone(): boolean {
    switch (this.#body) {
      case BODY_LENGTH:
        return this.#remaining === 0;
      case BODY_CHUNKED:
        return this.#chunks.done;
      case BODY_UNTIL_CLOSE:
        return false;
      default:
        return true;
    }
  }

  /** The response is whole: rest, or go, and then say so: what comes next may take this very connection. */
  #ended(trailers: readonly Field[] | undefined): void {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#raw = undefined;
    if (this.#keep && this.requestDone) {
      this.resume();
      this.#state = IDLE;
      this.reused = true;
      const { keepAliveTimeout } = this.head;
      this.idleLimit = keepAliveTimeout >= 0 ? keepAliveTimeout * 1_000 : Number.POSITIVE_INFINITY;
      this.owner.onIdle(this);
    } else this.socket.destroy();
    handler?.onEnd(this, trailers);
  }

  #broken(key: PassportKey): void {
    const handler = this.#handler;
    this.cancel();
    handler?.onBroken(this, key, undefined, false);
  }
}

/** The dialling side reads into a shared buffer; what must outlive the call is copied out of it. */
function copy(buf: Buffer, start: number, end: number): Buffer {
  const out = Buffer.allocUnsafe(end - start);
  buf.copy(out, 0, start, end);
  return out;
}
