// The accepting side of HTTP/1: one client connection and the exchange it is in. It frames requests, asks its
// service where each goes, moves bytes between the two sides and decides what happens when either ends.
// One state machine, kept whole:
//
//   HEAD → WAIT ──→ BODY → WAIT → HEAD      requests one after the other; what comes early is held
//           │ └ connecting: nothing sent yet, so the request may go elsewhere
//           ├──→ TUNNEL                      after 101 or 2xx to CONNECT: bytes both ways
//           └──→ LINGER → CLOSED             answered, but the client still sends: read and drop, then close
//
// To an HTTP/1 connection the request's bytes go as they came ("raw"); to anything else its head and the body taken
// out of its framing.
import type { Socket } from "node:net";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import { REPLAY_LIMIT } from "../../rules/retry.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorCode } from "../../util/error.ts";
import { AcceptedExchange, addedEdits } from "../http/accepted-exchange.ts";
import { mergeEdits } from "../http/edits.ts";
import type { Exchange, LocalResponse, Route, Service, Upstream } from "../http/exchange.ts";
import { BODY_TIMEOUT, HEAD_TIMEOUT } from "../http/limits.ts";
import { type Field, NO_EDITS, type RequestEdits, type ResponseHead } from "../http/message.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { abort } from "../transport/abort.ts";
import { HALF_CLOSED, Linger } from "../transport/linger.ts";
import { progressOf } from "../transport/progress.ts";
import { unservedWord } from "../transport/unserved.ts";
import { answer, response } from "./answer.ts";
import { CHUNK_END, ChunkedBody, chunkStart, LAST_CHUNK, lastChunk } from "./chunked.ts";
import { ClientConnection, type RawHandler } from "./client-connection.ts";
import { COMPLETE, Head, INCOMPLETE, METHOD_CONNECT, METHOD_HEAD, spliceHead } from "./head.ts";
import { HeadBuffer } from "./head-buffer.ts";
import { fieldLines, Http1Request, writeResponse } from "./message.ts";
import { FEW, ResponseWriter } from "./response-writer.ts";

const HEAD = 0;
const WAIT = 1;
const BODY = 2;
const TUNNEL = 3;
const LINGER = 4;
const CLOSED = 5;

const FRAMED_NONE = 0;
const FRAMED_LENGTH = 1;
const FRAMED_CHUNKED = 2;

/** A client that still sends after its last answer is read this long, so that the answer reaches it, ms. */
const LINGER_TIMEOUT = 2_000;

/**
 * After these the client is to connect anew, maybe to an address that has endpoints (reference/data-planes.md §1.8). Over
 * HTTP/2 it is not: other requests share the connection, to routes that may be well.
 */
const LEAVES: ReadonlySet<PassportKey> = new Set<PassportKey>(["fail-fast"]);

const NOTHING = Buffer.alloc(0);
const CLOSE_LINE = Buffer.from("connection: close\r\n", "latin1");

export interface ServerConnectionOptions {
  readonly clock: Clock;
  readonly tcp: TcpSeries;
  /** Called once when the connection is gone. */
  readonly onClose: (connection: ServerConnection) => void;
}

export class ServerConnection extends AcceptedExchange implements RawHandler {
  readonly socket: Socket;
  readonly version = 1;
  /** What of a body does not go out at once is copied. */
  readonly borrows = true;
  /** gRPC has no HTTP/1 form. */
  readonly grpc = false;
  readonly head = new Head();
  readonly request: Http1Request = new Http1Request(this.head);
  readonly #tcp: TcpSeries;
  readonly #writer: ResponseWriter;
  readonly #openedAt: number;
  readonly #onClose: (connection: ServerConnection) => void;
  readonly #chunks = new ChunkedBody();
  readonly #partial = new HeadBuffer();
  /** The service's fields, in either form. */
  readonly #addedLines: Buffer;
  readonly #added: RequestEdits;
  #state = HEAD;
  /** The upstream, when the exchange is raw. */
  #client: ClientConnection | undefined;
  #framed = FRAMED_NONE;
  #remaining = 0;
  #isHead = false;
  #isHttp10 = false;
  /** A response that is not raw is written in chunks. */
  #chunkedResponse = false;
  /** No further request on this connection. */
  #closeAfter = false;
  /** The buffer with the request's head, and where in it the request as it came so far ends; until it cannot be sent again. */
  #first: Buffer | undefined;
  #firstEnd = 0;
  /** Of a body that is taken out of its framing, what came later, as long as it is kept. */
  #later: Buffer[] = [];
  /** Client bytes whose time has not come. */
  #held: Buffer | undefined;
  #timer: Timer | undefined;
  #bodyWatch: Timer | undefined;
  /** When body bytes came last, ms. */
  #lastBody = 0;
  #errno: string | undefined;
  #reading = false;
  /** Of a tunnel: ends it when one side has ended and the other is silent. */
  #halfClosed: Linger | undefined;
  /** Of a tunnel: the server has ended its side. */
  #upstreamEnded = false;

  constructor(socket: Socket, service: Service, options: ServerConnectionOptions) {
    super(service, options.clock);
    this.socket = socket;
    this.#tcp = options.tcp;
    this.#writer = new ResponseWriter(socket, options.tcp, options.clock, () => this.upstream?.pause());
    this.#onClose = options.onClose;
    this.#addedLines = Buffer.from(fieldLines(service.added), "latin1");
    this.#added = addedEdits(service);
    this.#openedAt = this.#tcp.opened();
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
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

  get tunnels(): boolean {
    return this.request.tunnels;
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

  expire(key: PassportKey = "shutdown"): void {
    const waits = (this.#state === WAIT || this.#state === BODY) && !this.responseStarted;
    if (!waits) {
      if (this.#state !== LINGER && !this.socket.writableEnded) this.socket.destroy();
      return;
    }
    this.leaveUpstream(false);
    this.service.abandon(this);
    this.#refuseAndClose(key);
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Only once all of it is here: what comes of a body goes on at once. */
  protected get kept(): boolean {
    return this.requestDone && this.#first !== undefined;
  }

  // ── The client's side ───────────────────────────────────────────────────────────────────────────────────────

  #onData(bytes: Buffer): void {
    this.#tcp.read.inc(bytes.length);
    switch (this.#state) {
      case HEAD:
        this.#readHeads(bytes);
        break;
      case BODY:
        this.#lastBody = this.clock.monotonic();
        this.#forwardBody(bytes, 0);
        break;
      case TUNNEL:
        if (!this.#toUpstream(bytes)) this.socket.pause();
        break;
      case WAIT:
        this.#hold(bytes);
        break;
      // LINGER, CLOSED: read and dropped
    }
  }

  #hold(bytes: Buffer): void {
    this.#held = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]);
    this.socket.pause();
  }

  /** Reads heads from `bytes` as long as each is answered at once. */
  #readHeads(bytes: Buffer): void {
    let buf = bytes;
    let at = 0;
    if (this.#partial.length > 0) {
      if (!this.#partial.append(buf, 0, buf.length)) return;
      buf = this.#partial.take();
    }
    while (at < buf.length && this.#state === HEAD) {
      const result = this.head.readRequest(buf, at, buf.length);
      if (result === INCOMPLETE) {
        this.#partial.append(buf, at, buf.length);
        this.#timer ??= this.clock.after(HEAD_TIMEOUT, () => this.#refuseHead("head-timeout"));
        return;
      }
      if (this.#timer !== undefined) this.#clearTimer();
      if (result !== COMPLETE) {
        this.#refuseHead(this.head.error);
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
    this.renew();
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
    this.requestDone = this.#framed === FRAMED_NONE;
    this.request.take(buf);

    const end = this.requestDone ? head.end : this.#advance(buf, head.end);
    if (end < 0) {
      this.#refuseAndClose("chunk");
      return buf.length;
    }
    const size = end - head.end;
    this.requestBytes = size;
    this.#first = buf;
    this.#firstEnd = end;
    if (this.#later.length > 0) this.#later = [];
    this.#state = WAIT;
    this.begin();
    if (size > 0) this.account?.requestFrame(size);
    return end;
  }

  /** Follows the request's body in `buf` from `start`; returns where it stops in there, -1 when its framing is bad. */
  #advance(buf: Buffer, start: number): number {
    if (this.#framed === FRAMED_LENGTH) {
      const step = Math.min(this.#remaining, buf.length - start);
      this.#remaining -= step;
      this.requestDone = this.#remaining === 0;
      return start + step;
    }
    const end = this.#chunks.read(buf, start, buf.length);
    if (this.#chunks.failed) return -1;
    this.requestDone = this.#chunks.done;
    return end;
  }

  #forwardBody(buf: Buffer, start: number): void {
    const { socket } = this;
    const client = this.#client;
    let end: number;
    let writable = true;
    if (client) {
      end = this.#advance(buf, start);
      if (end >= 0) {
        const whole = start === 0 && end === buf.length;
        if (this.requestDone) client.requestDone = true;
        writable = client.writeRaw(whole ? buf : buf.subarray(start, end));
      }
    } else {
      end = this.#decodeBody(buf, start);
      writable = this.#bodyWritable;
    }
    if (end < 0) {
      this.#badBody();
      return;
    }
    this.requestBytes += end - start;
    this.account?.requestFrame(end - start);
    if (this.requestDone) this.requestEndedAt = this.clock.monotonic();
    if (client || this.requestBytes > REPLAY_LIMIT) this.#forget();
    else this.#later.push(buf.subarray(start, end));
    if (!writable) socket.pause();
    if (!this.requestDone) return;
    if (this.#state === BODY) this.#state = WAIT;
    if (end < buf.length && this.#state < LINGER) this.#hold(buf.subarray(end));
  }

  /** The request cannot be sent again. */
  #forget(): void {
    this.#first = undefined;
    if (this.#later.length > 0) this.#later = [];
  }

  #bodyWritable = true;

  /** Hands the body in `buf` from `start` to the upstream, out of its framing; as `#advance`. */
  #decodeBody(buf: Buffer, start: number): number {
    this.#bodyWritable = true;
    if (this.#framed === FRAMED_LENGTH) {
      const end = this.#advance(buf, start);
      if (end > start) this.#onBodyData(buf, start, end);
      if (this.requestDone) this.upstream?.end(undefined);
      return end;
    }
    const end = this.#chunks.read(buf, start, buf.length, this.#onBodyData);
    if (this.#chunks.failed) return -1;
    this.requestDone = this.#chunks.done;
    if (this.requestDone) this.upstream?.end(this.#chunks.trailers);
    return end;
  }

  readonly #onBodyData = (buf: Buffer, start: number, end: number): void => {
    if (this.upstream && !this.upstream.write(buf.subarray(start, end))) this.#bodyWritable = false;
  };

  #toUpstream(bytes: Buffer): boolean {
    return this.#client ? this.#client.writeRaw(bytes) : this.upstream!.write(bytes);
  }

  #badBody(): void {
    const started = this.responseStarted;
    this.leaveUpstream(false);
    if (started) this.socket.destroy();
    else this.#refuseAndClose("chunk");
  }

  #onEnd(): void {
    switch (this.#state) {
      case TUNNEL:
        this.upstream?.end(undefined);
        this.#halfClosed!.begin();
        break;
      case CLOSED:
        break;
      default:
        // A client that closes its side gives its request up (as nginx, Go and hyper see it).
        this.socket.destroy();
    }
  }

  #onDrain(): void {
    if (!this.#writer.drained()) return;
    this.upstream?.resume();
    if (this.#state === HEAD) this.#readOn();
  }

  /** Gives the request up when its body stops coming before there is an answer. */
  #watchBody(wait: number): void {
    this.#bodyWatch = this.clock.after(wait, () => {
      this.#bodyWatch = undefined;
      if (this.#state !== BODY || this.responseStarted) return;
      const silence = this.clock.monotonic() - this.#lastBody;
      if (silence < BODY_TIMEOUT || this.socket.isPaused()) {
        this.#watchBody(Math.max(BODY_TIMEOUT - silence, 1_000));
        return;
      }
      this.leaveUpstream(false);
      this.#refuseAndClose("head-timeout", "the request's body stopped coming");
    });
  }

  #onClosed(): void {
    const between = this.#state === HEAD;
    const tunnel = this.#state === TUNNEL;
    this.#state = CLOSED;
    this.#clearTimer();
    this.#writer.stop();
    this.clock.clear(this.#bodyWatch);
    const orderly = this.#upstreamFinishes(tunnel);
    this.leaveUpstream(orderly);
    this.service.abandon(this);
    if (!between) this.ended({ status: this.status, complete: orderly });
    this.#tcp.closed(this.#errno, this.#openedAt);
    this.#onClose(this);
  }

  /** Of a tunnel of which both ends were said, the upstream may still have to take the last bytes: it is let finish. */
  #upstreamFinishes(tunnel: boolean): boolean {
    this.#halfClosed?.stop();
    const { upstream } = this;
    const bothEnded = tunnel && this.#upstreamEnded && this.socket.readableEnded;
    if (!bothEnded || !upstream || this.#errno !== undefined) return false;
    this.#halfClosed = new Linger(
      this.clock,
      () => upstream.progress,
      () => upstream.cancel(),
    );
    this.#halfClosed.begin();
    return true;
  }

  #clearTimer(): void {
    this.clock.clear(this.#timer);
    this.#timer = undefined;
  }

  // ── The service's word ──────────────────────────────────────────────────────────────────────────────────────

  override send(upstream: Upstream, route: Route, edits?: RequestEdits): void {
    this.#client = upstream instanceof ClientConnection ? upstream : undefined;
    super.send(upstream, route, edits);
  }

  refuse(key: PassportKey, detail?: string): void {
    if (this.#state === CLOSED) return;
    if (LEAVES.has(key) || !this.#mayStay()) this.#refuseAndClose(key, detail);
    else {
      this.#answer(this, key, detail, false);
      this.#next();
    }
  }

  respond(local: LocalResponse): void {
    if (this.#state === CLOSED) return;
    const stays = this.#mayStay();
    this.#writer.write(response(local.status, local.fields, !stays));
    this.ended({ status: local.status, complete: true, error: local.error });
    if (stays) this.#next();
    else this.#linger();
  }

  /** After an answer of our own the connection lives on when the request was read to its end. */
  #mayStay(): boolean {
    return !this.#closeAfter && this.requestDone && !this.service.draining;
  }

  #next(): void {
    this.#reset();
    if (!this.#reading) this.#readOn();
  }

  /** What was read is no request: nothing of it can be told. */
  #refuseHead(key: PassportKey): void {
    this.record = undefined;
    this.#answer(undefined, key, undefined, true);
    this.#linger();
  }

  #refuseAndClose(key: PassportKey, detail?: string): void {
    this.#answer(this, key, detail, true);
    this.#linger();
  }

  #answer(
    exchange: Exchange | undefined,
    key: PassportKey,
    detail: string | undefined,
    close: boolean,
  ): void {
    const { trusted, marksFailures } = this.service;
    const { status } = PASSPORTS[key];
    this.service.failed(exchange, key, detail);
    const meshClose = marksFailures && status >= 502;
    const unserved = marksFailures && trusted ? unservedWord(key, this.socket) : undefined;
    this.#writer.write(answer(key, { trusted, detail, meshClose, unserved }, close));
    this.ended({ status, complete: true, error: key });
  }

  protected transmit(upstream: Upstream): void {
    this.route!.began(this);
    const writable = this.#client ? this.#transmitRaw(this.#client) : this.#transmitHead(upstream);
    if (this.requestDone || this.#state !== WAIT) return;
    this.#state = BODY;
    this.#lastBody = this.clock.monotonic();
    if (this.#bodyWatch === undefined) this.#watchBody(BODY_TIMEOUT);
    if (!writable) this.socket.pause();
    else this.#readOn();
  }

  #transmitRaw(client: ClientConnection): boolean {
    const { head, request } = this;
    client.beginRaw(this, this.#isHead, head.method === METHOD_CONNECT, head.upgrade);
    client.requestDone = this.requestDone;
    const edits = this.editsBeside(NO_EDITS);
    if (edits === NO_EDITS) return client.writeRaw(request.splice(this.#addedLines, this.#firstEnd));
    const whole = request.edited(mergeEdits(this.#added, edits));
    return client.writeRaw(
      this.#firstEnd === head.end
        ? whole
        : Buffer.concat([whole, this.#first!.subarray(head.end, this.#firstEnd)]),
    );
  }

  #transmitHead(upstream: Upstream): boolean {
    const { head } = this;
    const bodyless = this.#framed === FRAMED_NONE;
    upstream.request(this.request, this.editsBeside(this.#added), bodyless);
    if (bodyless || this.requestBytes === 0) return true;
    // What was only followed when it came is read again, this time for its data.
    this.#chunks.reset();
    if (this.#framed === FRAMED_LENGTH) this.#remaining += this.requestBytes;
    let writable = true;
    this.#decodeBody(this.#first!.subarray(0, this.#firstEnd), head.end);
    writable = this.#bodyWritable;
    for (const bytes of this.#later) {
      this.#decodeBody(bytes, 0);
      writable &&= this.#bodyWritable;
    }
    return writable;
  }

  /** Takes up what was held, and reads further. */
  #readOn(): void {
    if (this.#writer.full && this.#state === HEAD) return;
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

  onRawInterim(bytes: Buffer): void {
    // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
    if (!this.#isHttp10) this.#writer.write(bytes);
  }

  onInterim(head: ResponseHead): void {
    if (!this.#isHttp10) this.#writer.write(writeResponse(head, ""));
  }

  /** As `responseBegins`: the request cannot be sent again, and it may be the connection's last. */
  #begins(head: ResponseHead | undefined, status: number): void {
    this.#forget();
    this.responseBegins(head, status);
    if (this.service.draining || !this.requestDone) this.#closeAfter = true;
  }

  onRawResponse(client: ClientConnection, buf: Buffer, end: number): void {
    const { head } = client;
    const { status } = head;
    // Most responses are never looked into.
    const looked = this.record !== undefined || status === 429 || status >= 500;
    this.#begins(looked ? client.view(buf) : undefined, status);
    if (client.untilClose || (this.#isHttp10 && !head.keepAlive)) this.#closeAfter = true;
    if (end > head.end) {
      this.responseBytes += end - head.end;
      this.account?.responseFrame(end - head.end);
    }
    // A proxy states its own version (RFC 9110 §6.2); what an older server framed is framed for 1.1 as well.
    if (head.minor === 0 && !this.#isHttp10) buf[head.versionAt] = 0x31;
    if (this.#closeAfter) head.cutConnection(buf);
    const spliced = head.cutCount > 0 || this.#closeAfter;
    if (!spliced) this.#writer.writeCopy(buf, head.start, end);
    else {
      const added = this.#closeAfter ? CLOSE_LINE : NOTHING;
      const many = end - head.start > FEW;
      const bytes = spliceHead(buf, head, added, many ? head.end : end);
      if (!many) this.#writer.write(bytes);
      else {
        this.#writer.append(bytes, 0, bytes.length);
        this.#writer.writeCopy(buf, head.end, end);
      }
    }
  }

  onResponse(_upstream: Upstream, head: ResponseHead): void {
    this.#begins(head, head.status);
    const bodyless = this.#isHead || head.status === 204 || head.status === 304;
    let framing = "";
    this.#chunkedResponse = !bodyless && head.contentLength < 0 && !this.#isHttp10;
    if (this.#chunkedResponse) framing = "transfer-encoding: chunked\r\n";
    else if (!bodyless && head.contentLength < 0) this.#closeAfter = true;
    if (this.#isHttp10 && !this.#closeAfter) framing += "connection: keep-alive\r\n";
    if (this.#closeAfter) framing += "connection: close\r\n";
    this.#writer.writeSoon(writeResponse(head, framing));
  }

  onRawBody(buf: Buffer, start: number, end: number): void {
    this.responseBytes += end - start;
    this.account?.responseFrame(end - start);
    this.#writer.writeCopy(buf, start, end);
  }

  onBody(bytes: Buffer): void {
    this.responseBytes += bytes.length;
    this.account?.responseFrame(bytes.length);
    if (this.#chunkedResponse && bytes.length > 0) {
      this.#writer.writeSoon(chunkStart(bytes.length));
      this.#writer.writeSoon(bytes);
      this.#writer.writeSoon(CHUNK_END);
    } else this.#writer.writeSoon(bytes);
  }

  onEnd(_upstream: Upstream, trailers: readonly Field[] | undefined): void {
    if (this.#state === TUNNEL) {
      this.#upstreamEnded = true;
      this.#writer.flush();
      this.socket.end();
      this.#halfClosed!.begin();
      return;
    }
    if (this.#chunkedResponse)
      this.#writer.writeSoon(trailers && trailers.length > 0 ? lastChunk(trailers) : LAST_CHUNK);
    this.#writer.flush();
    this.#chunkedResponse = false;
    this.leaveUpstream(true);
    this.ended({ status: this.status, complete: true, trailers });
    if (!this.requestDone) this.#linger();
    else if (this.#closeAfter) this.#finish();
    else {
      this.#reset();
      this.#readOn();
    }
  }

  onRawTunnel(client: ClientConnection, buf: Buffer, end: number): void {
    const { head } = client;
    this.#openTunnel(this.record && client.view(buf), head.status);
    this.#writer.write(Buffer.from(buf.subarray(head.start, end)));
    this.#startTunnel();
  }

  onTunnel(_upstream: Upstream, head: ResponseHead): void {
    this.#openTunnel(head, head.status);
    this.#writer.write(writeResponse(head, ""));
    this.#startTunnel();
  }

  #openTunnel(head: ResponseHead | undefined, status: number): void {
    this.#begins(head, status);
    this.#state = TUNNEL;
    const { socket } = this;
    this.#halfClosed = new Linger(
      this.clock,
      () => progressOf(socket),
      () => {
        this.service.failed(this, "idle-timeout", HALF_CLOSED);
        abort(socket);
      },
    );
    this.#chunkedResponse = false;
  }

  #startTunnel(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined || this.#toUpstream(held)) this.socket.resume();
  }

  onWritable(): void {
    if (this.#state === BODY) this.#readOn();
    else if (this.#state === TUNNEL) this.socket.resume();
  }

  onBroken(
    upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    _resetCode?: number,
  ): void {
    const tunnel = this.#state === TUNNEL;
    const started = this.responseStarted;
    if (this.#state === CLOSED) {
      this.#halfClosed?.stop();
      return;
    }
    // Of a tunnel both ends were said: an orderly end. Otherwise the client must not take the break for one.
    this.leaveUpstream(tunnel && errno === undefined, tunnel ? undefined : key);
    if (tunnel) {
      if (errno === undefined) {
        this.#writer.flush();
        this.socket.destroySoon();
        this.#halfClosed!.begin();
      } else abort(this.socket);
    } else if (started) abort(this.socket);
    // The idle connection may have been closing when the request was sent: then nobody has read it.
    else if (this.mayRepeat(upstream, key, unprocessed)) this.service.dispatch(this);
    else this.refuse(key, errno);
  }

  // ── Between exchanges ───────────────────────────────────────────────────────────────────────────────────────

  #reset(): void {
    this.#state = HEAD;
    this.#first = undefined;
    this.route = undefined;
    this.#client = undefined;
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
    this.#timer = this.clock.after(LINGER_TIMEOUT, () => this.socket.destroy());
  }
}
