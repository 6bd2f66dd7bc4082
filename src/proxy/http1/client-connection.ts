// The dialling side of HTTP/1: one connection to an upstream, which serves one exchange at a time and rests in its
// pool between them. It frames responses and hands their bytes on; it knows nothing of who asked.
//
//   CONNECTING → IDLE ⇄ BUSY → TUNNEL (after 101, or 2xx to CONNECT)
//        └────────────┴──────┴──→ CLOSED
import type { Socket } from "node:net";
import type { PassportKey } from "../../rules/passport.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import {
  type DialError,
  type DialHandler,
  type DialOptions,
  type DialTarget,
  dial,
} from "../transport/dial.ts";
import { ChunkedBody } from "./chunked.ts";
import { COMPLETE, Head, INCOMPLETE } from "./head.ts";
import { HeadBuffer } from "./head-buffer.ts";

const CONNECTING = 0;
const IDLE = 1;
const BUSY = 2;
const TUNNEL = 3;
const CLOSED = 4;

const BODY_NONE = 0;
const BODY_LENGTH = 1;
const BODY_CHUNKED = 2;
const BODY_UNTIL_CLOSE = 3;

/** Whoever waits for a response. All buffers may be kept by the one called, except where it says otherwise. */
export interface ResponseHandler {
  onConnected(client: ClientConnection): void;
  onConnectFailed(client: ClientConnection, error: DialError): void;
  /** An interim response (1xx), whole. */
  onInterim(bytes: Buffer): void;
  /**
   * The head, and in the same buffer the body up to `end`. `buf` is only valid during the call, and may be
   * written to. `client.head` tells the rest.
   */
  onResponse(client: ClientConnection, buf: Buffer, end: number): void;
  onBody(bytes: Buffer): void;
  onResponseEnd(client: ClientConnection): void;
  /** From now on bytes flow both ways; `bytes` holds the response head and what came with it. */
  onTunnel(client: ClientConnection, bytes: Buffer): void;
  onTunnelBytes(bytes: Buffer): void;
  onTunnelEnd(): void;
  /** Bytes written before have gone out. */
  onWritable(): void;
  /** The connection died in the middle of the exchange (or tunnel). */
  onBroken(client: ClientConnection, key: PassportKey, errno: string | undefined): void;
}

/** Where a connection belongs: it tells its pool when it is gone. */
export interface ClientOwner {
  /** Called once, whether it was idle, busy or never connected. */
  onGone(client: ClientConnection, error: DialError | undefined): void;
}

export class ClientConnection implements DialHandler {
  readonly owner: ClientOwner;
  readonly socket: Socket;
  readonly head = new Head();
  /** Served an exchange before: it may be dying of idleness without our knowing. */
  reused = false;
  /** The response to the current exchange allows another. */
  keep = false;
  /** When it came to rest, ms; kept by the pool. */
  idleSince = 0;
  /** Until when the upstream keeps it, by its own word, ms after `idleSince`. */
  idleLimit = Number.POSITIVE_INFINITY;
  readonly #tcp: TcpSeries;
  readonly #chunks = new ChunkedBody();
  readonly #partial = new HeadBuffer();
  #handler: ResponseHandler | undefined;
  #state = CONNECTING;
  #body = BODY_NONE;
  #remaining = 0;
  /** Reading a body (or past it), not a head. */
  #inBody = false;
  /** The exchange's method, as it matters to framing. */
  #isHead = false;
  #isConnect = false;
  #mayUpgrade = false;
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

  /** Gives the connection to an exchange. Without one it is connecting or idle. */
  attach(handler: ResponseHandler): void {
    this.#handler = handler;
  }

  /** Begins an exchange; the request's bytes follow by `write`. */
  begin(isHead: boolean, isConnect: boolean, mayUpgrade: boolean): void {
    this.#state = BUSY;
    this.#inBody = false;
    this.#isHead = isHead;
    this.#isConnect = isConnect;
    this.#mayUpgrade = mayUpgrade;
    this.keep = false;
  }

  /** False: wait for `onWritable` before writing more. */
  write(bytes: Buffer): boolean {
    this.#tcp.write.inc(bytes.length);
    return this.socket.write(bytes);
  }

  /** Ends our side of a tunnel. */
  end(): void {
    this.socket.end();
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

  /** The exchange is over and the connection fit for another. */
  rest(): void {
    this.resume();
    this.#handler = undefined;
    this.#state = IDLE;
    this.reused = true;
    this.idleLimit =
      this.head.keepAliveTimeout >= 0 ? this.head.keepAliveTimeout * 1_000 : Number.POSITIVE_INFINITY;
  }

  /** Ends the connection; the exchange hears nothing more of it. */
  destroy(): void {
    this.#handler = undefined;
    this.socket.destroy();
  }

  onConnected(): void {
    this.#tcp.opened();
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
    } else if (this.#state === TUNNEL) this.#handler?.onTunnelBytes(copy(buf, 0, size));
    // Bytes that nobody asked for: a next response here would be given to the wrong request.
    else this.socket.destroy();
  }

  onEnd(): void {
    if (this.#state === TUNNEL) this.#handler?.onTunnelEnd();
    else if (this.#state === BUSY && this.#inBody && this.#body === BODY_UNTIL_CLOSE) this.#ended();
    else this.socket.destroy();
  }

  onClosed(error: DialError | undefined): void {
    const state = this.#state;
    const handler = this.#handler;
    this.#state = CLOSED;
    this.#handler = undefined;
    if (state !== CONNECTING) this.#tcp.closed(error?.errno);
    this.owner.onGone(this, error);
    if (!handler) return;
    if (state === CONNECTING) handler.onConnectFailed(this, error!);
    else handler.onBroken(this, error?.key ?? "upstream-closed", error?.errno);
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
      this.#handler?.onInterim(copy(bytes, head.start, head.end));
      if (this.#state !== BUSY) return;
      at = head.end;
    }
  }

  #readFinal(buf: Buffer, limit: number): void {
    const { head } = this;
    if (head.status === 101 && !(this.#mayUpgrade && head.upgrade)) {
      this.#broken("unexpected-upgrade");
      return;
    }
    if (head.status === 101 || (this.#isConnect && head.status < 300)) {
      this.#state = TUNNEL;
      this.#handler?.onTunnel(this, copy(buf, head.start, limit));
      return;
    }
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

    const end = this.#advance(buf, head.end, limit);
    if (end < 0) {
      this.#broken("bad-response");
      return;
    }
    const persistent = head.minor === 1 ? !head.close : head.keepAlive;
    // Bytes beyond the response's end: this upstream and we disagree about framing.
    this.keep = persistent && !head.meshClose && this.#body !== BODY_UNTIL_CLOSE && end === limit;
    this.#handler?.onResponse(this, buf, end);
    if (this.#state === BUSY && this.#isDone()) this.#ended();
  }

  #readBody(buf: Buffer, start: number, limit: number): void {
    const end = this.#advance(buf, start, limit);
    if (end < 0) {
      this.#broken("bad-response");
      return;
    }
    if (end < limit) this.keep = false;
    if (end > start) this.#handler?.onBody(copy(buf, start, end));
    if (this.#state === BUSY && this.#isDone()) this.#ended();
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

  #ended(): void {
    this.#handler?.onResponseEnd(this);
  }

  #broken(key: PassportKey): void {
    const handler = this.#handler;
    this.destroy();
    handler?.onBroken(this, key, undefined);
  }
}

/** The dialling side reads into a shared buffer; what must outlive the call is copied out of it. */
function copy(buf: Buffer, start: number, end: number): Buffer {
  const out = Buffer.allocUnsafe(end - start);
  buf.copy(out, 0, start, end);
  return out;
}
