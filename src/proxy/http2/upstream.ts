// The dialling side of one exchange over HTTP/2: a stream of a connection that it shares with others. Until a
// connection has room for it, it waits at its pool.
//
//   WAITING → READY → OPEN → DONE

import { ERROR } from "../../http2/frame.ts";
import type { Header } from "../../http2/hpack.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../../http2/stream.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { Upstream, UpstreamHandler } from "../http/exchange.ts";
import type { Field, RequestEdits, RequestHead } from "../http/message.ts";
import { unservedError } from "../http/unserved.ts";
import type { DialError } from "../transport/dial.ts";
import type { Http2ClientConnection } from "./client-connection.ts";
import { Http2Response, requestHeaders } from "./message.ts";

const WAITING = 0;
const READY = 1;
const OPEN = 2;
const DONE = 3;

const NOTHING = Buffer.alloc(0);

export interface UpstreamOwner {
  /** It no longer waits. */
  forget(upstream: Http2Upstream): void;
  /** The endpoint's proxy could not reach its application. */
  onUnserved(): void;
}

export class Http2Upstream implements Upstream, StreamHandler {
  readonly #owner: UpstreamOwner;
  /** The request is HTTP/1, carried in HTTP/2. */
  readonly #upgraded: boolean;
  #state = WAITING;
  #connection: Http2ClientConnection | undefined;
  #stream: Http2Stream | undefined;
  #handler: UpstreamHandler | undefined;
  #isConnect = false;
  /** Bytes flow both ways: one side's end is not the other's. */
  #isTunnel = false;
  #paused = false;
  /** Bytes handed on while paused, for which the peer has no new room yet. */
  #unconsumed = 0;
  /** The last write found no room, so the handler waits for more. */
  #blocked = false;

  constructor(owner: UpstreamOwner, upgraded: boolean) {
    this.#owner = owner;
    this.#upgraded = upgraded;
  }

  get connected(): boolean {
    return this.#state !== WAITING;
  }

  get reused(): boolean {
    return this.#connection !== undefined && this.#connection.served > 0;
  }

  // ── The exchange's side ─────────────────────────────────────────────────────────────────────────────────────

  attach(handler: UpstreamHandler): void {
    this.#handler = handler;
  }

  request(head: RequestHead, edits: RequestEdits, end: boolean): void {
    const connection = this.#connection!;
    connection.unclaim();
    if (connection.room <= 0) {
      // Between the promise and now the connection has ended, or is about to.
      queueMicrotask(() => this.#broken("upstream-closed", undefined, true, undefined));
      return;
    }
    this.#isConnect = head.method === "CONNECT";
    this.#state = OPEN;
    this.#stream = connection.open(requestHeaders(head, edits, this.#upgraded), end, this);
  }

  write(bytes: Buffer): boolean {
    if (this.#state !== OPEN) return true;
    const connection = this.#connection!;
    const sent = connection.machine.sendData(this.#stream!, bytes, false);
    if (sent && !connection.congested) return true;
    this.#blocked = true;
    if (sent) connection.awaitDrain(this);
    return false;
  }

  end(trailers: readonly Field[] | undefined): void {
    if (this.#state !== OPEN) return;
    const { machine } = this.#connection!;
    if (trailers !== undefined && trailers.length > 0) machine.sendHeaders(this.#stream!, trailers, true);
    else machine.sendData(this.#stream!, NOTHING, true);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#unconsumed === 0 || this.#state !== OPEN) return;
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    this.#connection!.machine.consume(this.#stream!, bytes);
  }

  get progress(): number {
    return this.#stream?.queued ?? 0;
  }

  cancel(): void {
    const state = this.#state;
    this.#state = DONE;
    this.#handler = undefined;
    if (state === WAITING) this.#owner.forget(this);
    else if (state === READY) this.#connection!.unclaim();
    else if (state === OPEN) this.#connection!.machine.reset(this.#stream!, ERROR.CANCEL, "cancelled");
  }

  // ── The pool's side ─────────────────────────────────────────────────────────────────────────────────────────

  /** A place on `connection` is kept for it. */
  admit(connection: Http2ClientConnection): void {
    this.#connection = connection;
    this.#state = READY;
    connection.claim();
    this.#handler?.onConnected(this);
  }

  /** No connection could be made. */
  fail(error: DialError): void {
    const handler = this.#handler;
    this.#state = DONE;
    this.#handler = undefined;
    handler?.onConnectFailed(this, error);
  }

  /** The connection's socket has room again. */
  drained(): void {
    // What waits for the window is told of by onDrain.
    if (this.#stream!.queued === 0) this.#unblock();
  }

  #unblock(): void {
    if (!this.#blocked || this.#state !== OPEN) return;
    this.#blocked = false;
    this.#handler?.onWritable();
  }

  // ── The stream's side ───────────────────────────────────────────────────────────────────────────────────────

  onInformational(headers: readonly Header[]): void {
    this.#handler?.onInterim(new Http2Response(headers));
  }

  onHeaders(headers: readonly Header[], end: boolean): void {
    const head = new Http2Response(headers);
    if (end && this.#isUnserved(head)) return;
    if (this.#isConnect && head.status < 300) {
      this.#isTunnel = true;
      this.#handler?.onTunnel(this, head);
    } else this.#handler?.onResponse(this, head, end);
    if (end) this.#finish(undefined);
  }

  /** Whether the peer's proxy says that nobody got the request, and the request went elsewhere. */
  #isUnserved(head: Http2Response): boolean {
    const error = unservedError(head, this.#connection!.socket);
    if (error === undefined) return false;
    this.#owner.onUnserved();
    return this.#handler?.onUnserved(this, error) ?? false;
  }

  onData(chunk: Buffer, end: boolean): void {
    const { length } = chunk;
    const handler = this.#handler;
    if (length > 0 && handler !== undefined) {
      let bytes = chunk;
      if (!handler.borrows) {
        // The socket's buffer is used again.
        bytes = Buffer.allocUnsafe(length);
        chunk.copy(bytes, 0, 0, length);
      }
      handler.onBody(bytes);
    }
    if (end) this.#finish(undefined);
    else if (this.#paused) this.#unconsumed += length;
    else if (this.#state === OPEN) this.#connection!.machine.consume(this.#stream!, length);
  }

  onTrailers(headers: readonly Header[]): void {
    this.#finish(headers);
  }

  onDrain(): void {
    const connection = this.#connection!;
    if (connection.congested) connection.awaitDrain(this);
    else this.#unblock();
  }

  onClose(error: Http2Failure | undefined): void {
    // A stream that ended in order told so before.
    if (!error) return;
    const { lost, errno } = this.#connection!;
    const key = error.reset ? "stream-reset" : lost || error.unprocessed ? "upstream-closed" : "bad-response";
    this.#broken(key, errno, error.unprocessed, error.reset ? error.code : undefined);
  }

  #finish(trailers: readonly Field[] | undefined): void {
    const handler = this.#handler;
    if (this.#state !== OPEN) return;
    if (this.#isTunnel && !this.#stream!.localEnded) {
      handler?.onEnd(this, trailers);
      return;
    }
    this.#state = DONE;
    this.#handler = undefined;
    this.#connection!.served += 1;
    // An answer before we said all: the rest is of no interest to the peer.
    if (!this.#stream!.localEnded) this.#connection!.machine.reset(this.#stream!, ERROR.NO_ERROR);
    handler?.onEnd(this, trailers);
  }

  #broken(
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode: number | undefined,
  ): void {
    const handler = this.#handler;
    this.#state = DONE;
    this.#handler = undefined;
    handler?.onBroken(this, key, errno, unprocessed, resetCode);
  }
}
