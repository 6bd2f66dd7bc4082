// The accepting side of one HTTP/2 stream: a request that looks for its upstream, and the response on its way back.
//
//   HEADERS → dispatch → (held until connected) → upstream ⇄ stream → both ends said, or a reset

import { ERROR } from "../../http2/frame.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../../http2/stream.ts";
import type { PassportKey } from "../../rules/passport.ts";
import { PASSPORTS } from "../../rules/passport.ts";
import { REPLAY_LIMIT } from "../../rules/retry.ts";
import { AcceptedExchange } from "../http/accepted-exchange.ts";
import { errorFields, errorText, grpcFields } from "../http/answer.ts";
import type { LocalResponse, Upstream } from "../http/exchange.ts";
import type { Field, ResponseHead } from "../http/message.ts";
import { HALF_CLOSED, Linger } from "../transport/linger.ts";
import { unservedWord } from "../transport/unserved.ts";
import { ORIG_PROTO } from "./message.ts";
import { Http2Request } from "./request.ts";
import type { Http2ServerConnection } from "./server-connection.ts";

/** What may stand in a target that is written into an HTTP/1 request line. */
const TARGET = /^[\x21-\x7e\x80-\xff]*$/;

export class Http2Exchange extends AcceptedExchange implements StreamHandler {
  /** The machine takes copies of what it cannot send at once. */
  readonly borrows = true;
  version: 1 | 2 = 2;
  tunnels = false;
  grpc = false;
  request!: Http2Request;
  readonly #connection: Http2ServerConnection;
  readonly #stream: Http2Stream;
  /** The request is at its upstream; body bytes follow at once. */
  #sending = false;
  /** The body as it came so far; kept until the request cannot be sent again. */
  #held: Buffer[] | undefined;
  /** Body bytes that came before they could be sent: the client has no new room for them yet. */
  #uncredited = 0;
  #trailers: readonly Field[] | undefined;
  /** Body bytes that the upstream took but has no room for yet: the client gets no further room. */
  #unconsumed = 0;
  #tunnel = false;
  /** Of a tunnel: ends it when one side has ended and the other is silent. */
  #halfClosed: Linger | undefined;
  /** Of a tunnel: the server has ended its side, and the client not yet. */
  #upstreamEnded = false;
  /** The response has been said to its end. */
  #answered = false;
  #closed = false;

  constructor(connection: Http2ServerConnection, stream: Http2Stream) {
    super(connection.service, connection.clock);
    this.#connection = connection;
    this.#stream = stream;
  }

  protected get kept(): boolean {
    return this.requestBytes === 0 || this.#held !== undefined;
  }

  // ── The client's side ───────────────────────────────────────────────────────────────────────────────────────

  onHeaders(headers: readonly Field[], end: boolean): void {
    const request = new Http2Request(headers);
    this.request = request;
    this.version = request.version;
    this.grpc = request.grpc;
    this.tunnels = request.method === "CONNECT";
    this.startedAt = this.clock.monotonic();
    this.requestDone = end;
    // It must not become two requests, or none, where it is written as HTTP/1.
    if (!TARGET.test(request.path) || !TARGET.test(request.authority)) {
      this.refuse("request-line");
      return;
    }
    this.begin();
  }

  onData(bytes: Buffer, end: boolean): void {
    this.requestBytes += bytes.length;
    this.account?.requestFrame(bytes.length);
    if (end) {
      this.requestDone = true;
      this.requestEndedAt = this.clock.monotonic();
    }
    if (this.#answered) this.#connection.machine.consume(this.#stream, bytes.length);
    else {
      if (bytes.length > 0) this.#hold(bytes);
      if (!this.#sending) return;
      if (bytes.length > 0) this.#toUpstream(bytes);
      if (end) this.#endUpstream(undefined);
    }
  }

  /** Keeps body bytes: all of them before they can be sent, as the client's window bounds; then what is small. */
  #hold(bytes: Buffer): void {
    const before = this.requestBytes - bytes.length;
    if (!this.#sending) this.#uncredited += bytes.length;
    else if (this.requestBytes > REPLAY_LIMIT) this.#held = undefined;
    if (before === 0) this.#held = [bytes];
    else this.#held?.push(bytes);
  }

  onTrailers(trailers: readonly Field[]): void {
    this.requestDone = true;
    this.requestEndedAt = this.clock.monotonic();
    this.#trailers = trailers;
    if (this.#sending) this.#endUpstream(trailers);
  }

  #endUpstream(trailers: readonly Field[] | undefined): void {
    const { upstream } = this;
    upstream?.end(trailers);
    this.#halfClosed?.begin();
    if (!this.#upstreamEnded || !upstream) return;
    // Both ends were said. The upstream may still have to take the last bytes: it is let finish.
    this.#answered = true;
    this.leaveUpstream(true);
    this.ended({ status: this.status, complete: true });
    this.#halfClosed = new Linger(
      this.clock,
      () => upstream.progress,
      () => upstream.cancel(),
    );
    this.#halfClosed.begin();
  }

  onDrain(): void {
    this.upstream?.resume();
  }

  /** The client's connection can take more. */
  onUncongested(): void {
    this.upstream?.resume();
  }

  onClose(error: Http2Failure | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.forget(this);
    // In order, or it was we who reset.
    if (this.#answered) return;
    this.#answered = true;
    this.#halfClosed?.stop();
    this.leaveUpstream(false);
    this.service.abandon(this);
    this.ended({ status: this.status, complete: false, resetCode: error?.code });
  }

  expire(key: PassportKey): void {
    if (this.#answered) return;
    this.leaveUpstream(false);
    this.service.abandon(this);
    if (this.responseStarted) this.#breakOff(ERROR.INTERNAL_ERROR, key);
    else this.refuse(key);
  }

  protected override leaveUpstream(complete: boolean, broken?: PassportKey): void {
    this.#sending = false;
    super.leaveUpstream(complete, broken);
  }

  #begins(head: ResponseHead, status: number): void {
    this.#held = undefined;
    this.responseBegins(head, status);
  }

  #toUpstream(bytes: Buffer): void {
    if (this.upstream!.write(bytes)) this.#connection.machine.consume(this.#stream, bytes.length);
    else this.#unconsumed += bytes.length;
  }

  // ── The service's word ──────────────────────────────────────────────────────────────────────────────────────

  refuse(key: PassportKey, detail?: string): void {
    if (this.#answered) return;
    const { service } = this;
    const { status, grpcStatus } = PASSPORTS[key];
    service.failed(this, key, detail);
    const { trusted, marksFailures } = service;
    const unserved = marksFailures && trusted ? unservedWord(key, this.#connection.socket) : undefined;
    const options = { trusted, meshClose: false, detail, unserved };
    if (this.grpc) {
      this.grpcStatus = grpcStatus;
      this.#answer(200, [...grpcFields(grpcStatus, errorText(key, options)), ...errorFields(key, options)]);
    } else this.#answer(status, [...errorFields(key, options), ["content-length", "0"], dateField()]);
    this.ended({ status: this.grpc ? 200 : status, complete: true, error: key });
  }

  respond(local: LocalResponse): void {
    if (this.#answered) return;
    const { status, fields, grpcStatus, message, error } = local;
    if (this.grpc && grpcStatus !== undefined) {
      this.grpcStatus = grpcStatus;
      this.#answer(200, [...grpcFields(grpcStatus, message ?? ""), ...fields]);
    } else this.#answer(status, [...fields, ["content-length", "0"], dateField()]);
    this.ended({ status: this.grpc ? 200 : status, complete: true, error });
  }

  /** A whole response of our own. */
  #answer(status: number, fields: readonly Field[]): void {
    this.#answered = true;
    const { machine } = this.#connection;
    machine.batch(() => {
      machine.sendHeaders(this.#stream, this.#list(status, fields), true);
      this.#stopRequest();
    });
  }

  /** The rest of the request is of no use to anyone (RFC 9113 §8.1). */
  #stopRequest(): void {
    if (!this.requestDone) this.#connection.machine.reset(this.#stream, ERROR.NO_ERROR);
  }

  #list(status: number, fields: readonly Field[]): Field[] {
    const list: Field[] = [[":status", String(status)], ...fields];
    if (this.version === 1) list.push([ORIG_PROTO, "HTTP/1.1"]);
    return list;
  }

  protected transmit(upstream: Upstream): void {
    this.route!.began(this);
    const held = this.#held;
    const bodyless = this.requestDone && held === undefined && this.#trailers === undefined;
    const edits = this.editsBeside(this.#connection.added);
    upstream.request(this.request, edits, bodyless && !this.tunnels);
    this.#sending = true;
    if (held) {
      // Sent again after a failure, it has given back the room that its upstream had for it.
      const credit = this.#uncredited + this.#unconsumed;
      this.#uncredited = 0;
      this.#unconsumed = 0;
      let writable = true;
      for (const bytes of held) writable = upstream.write(bytes) && writable;
      if (writable) this.#connection.machine.consume(this.#stream, credit);
      else this.#unconsumed += credit;
    }
    if (this.requestDone && !(bodyless && !this.tunnels)) upstream.end(this.#trailers);
  }

  // ── The upstream's side ─────────────────────────────────────────────────────────────────────────────────────

  onInterim(head: ResponseHead): void {
    this.#connection.machine.sendHeaders(this.#stream, this.#list(head.status, head.fields()), false);
  }

  onResponse(_upstream: Upstream, head: ResponseHead, end = false): void {
    // The server did not switch protocols; over HTTP/2 a 2xx would say that it did.
    if (this.request.protocol !== undefined && head.status < 300) {
      this.leaveUpstream(false);
      this.refuse("bad-response", `status ${head.status} to a ${this.request.protocol} upgrade`);
      return;
    }
    this.#begins(head, head.status);
    if (this.grpc && end) this.grpcStatus = numberOf(head.get("grpc-status"));
    if (end) this.#answered = true;
    this.#connection.machine.sendHeaders(this.#stream, this.#list(head.status, head.fields()), end);
  }

  onTunnel(_upstream: Upstream, head: ResponseHead): void {
    // Over HTTP/2 a protocol is not switched: the stream itself is the tunnel (RFC 8441 §5).
    this.#begins(head, 200);
    this.#tunnel = true;
    this.#halfClosed = new Linger(
      this.clock,
      () => this.requestBytes + this.responseBytes,
      () => this.#giveUpTunnel(),
    );
    const fields = head.fields().filter(([name]) => name !== "sec-websocket-accept");
    this.#connection.machine.sendHeaders(this.#stream, this.#list(200, fields), false);
  }

  #giveUpTunnel(): void {
    this.service.failed(this, "idle-timeout", HALF_CLOSED);
    this.leaveUpstream(false);
    this.#breakOff(ERROR.CANCEL, "idle-timeout");
  }

  onBody(bytes: Buffer): void {
    this.responseBytes += bytes.length;
    this.account?.responseFrame(bytes.length);
    const sent = this.#connection.machine.sendData(this.#stream, bytes, false);
    if (!sent) this.upstream?.pause();
    else if (this.#connection.congested) {
      this.upstream?.pause();
      this.#connection.waitUncongested(this);
    }
  }

  onEnd(_upstream: Upstream, trailers: readonly Field[] | undefined): void {
    const { machine } = this.#connection;
    if (this.#tunnel && !this.requestDone && !this.#closed) {
      this.#upstreamEnded = true;
      this.#halfClosed!.begin();
      machine.sendData(this.#stream, NOTHING, true);
      return;
    }
    this.#halfClosed?.stop();
    const headOnly = this.#answered;
    this.#answered = true;
    if (this.grpc && trailers) {
      for (const [name, value] of trailers) if (name === "grpc-status") this.grpcStatus = numberOf(value);
    }
    this.leaveUpstream(true);
    this.ended({ status: this.status, complete: true, trailers });
    if (this.#closed) return;
    machine.batch(() => {
      if (!headOnly) {
        if (trailers && trailers.length > 0) machine.sendHeaders(this.#stream, trailers, true);
        else machine.sendData(this.#stream, NOTHING, true);
      }
      if (!this.#tunnel) this.#stopRequest();
    });
  }

  onWritable(): void {
    const bytes = this.#unconsumed;
    this.#unconsumed = 0;
    if (bytes > 0) this.#connection.machine.consume(this.#stream, bytes);
  }

  onBroken(
    upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode?: number,
  ): void {
    const orderly = this.#tunnel && errno === undefined;
    this.#halfClosed?.stop();
    this.leaveUpstream(orderly, this.#tunnel ? undefined : key);
    if (this.#answered) return;
    if (!this.responseStarted && this.mayRepeat(upstream, key, unprocessed)) {
      this.service.dispatch(this);
    } else if (this.responseStarted || resetCode !== undefined) {
      this.#breakOff(orderly ? ERROR.NO_ERROR : (resetCode ?? ERROR.INTERNAL_ERROR), key);
    } else this.refuse(key, errno);
  }

  /** Ends the stream so that the client sees a failure, not an end. */
  #breakOff(code: number, key: PassportKey): void {
    this.#answered = true;
    this.ended({ status: this.status, complete: false, error: key, resetCode: code });
    this.#connection.machine.reset(this.#stream, code);
  }
}

const NOTHING = Buffer.alloc(0);

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : undefined;
}

function dateField(): Field {
  return ["date", new Date().toUTCString()];
}
