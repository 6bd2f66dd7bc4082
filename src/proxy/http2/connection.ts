// One HTTP/2 connection as a machine between bytes and messages (RFC 9113), for either side. It owns no socket and no
// timer and knows no policy: bytes come in by `receive` and go out by `write`; what a message means is its handler's.
//
//   bytes → FrameReader → frame → stream state, windows → HPACK → handler
//   sendHeaders, sendData → queue → windows → frame → write
import { Budget } from "./budget.ts";
import { readRequest, readResponse, readTrailers } from "./fields.ts";
import {
  CLIENT_PREFACE,
  ConnectionError,
  DEFAULT_WINDOW,
  ERROR,
  FLAG,
  FrameReader,
  frameHead,
  frameOf,
  headerFrames,
  MAX_FRAME,
  MAX_WINDOW,
  number32,
  SETTING,
  settingsFrame,
  TYPE,
  unpadded,
} from "./frame.ts";
import {
  type Header,
  HeaderListTooLarge,
  HPACK_LIMITS,
  HpackDecoder,
  HpackEncoder,
  HpackError,
} from "./hpack.ts";
import { Http2Failure, Http2Stream, type StreamHandler } from "./stream.ts";

/** A rule broken on one stream, which ends by it; the connection goes on. */
class Violation extends Error {
  readonly stream: Http2Stream;
  readonly code: number;
  constructor(stream: Http2Stream, code: number, message: string) {
    super(message);
    this.stream = stream;
    this.code = code;
  }
}

export interface ConnectionHandler {
  /** Bytes for the peer, once per batch. */
  write(bytes: Buffer): void;
  /** A peer began a stream; servers only. */
  onStream(stream: Http2Stream): StreamHandler;
  /** Room for further streams may have changed: the peer's settings came, a stream has ended, or no more are taken. */
  onRoom?(): void;
  /** The connection is over and the socket to be closed. Comes once; undefined when all ended in order. */
  onEnd(failure: Http2Failure | undefined): void;
}

export interface ConnectionOptions {
  readonly side: "client" | "server";
  /** Monotonic time, ms: floods are counted by the second. */
  readonly now: () => number;
  /** What a peer may send on one stream before it is consumed, bytes, at least 65,535. */
  readonly streamWindow: number;
  /** The same for all streams together. */
  readonly connectionWindow: number;
  /** Streams that a client may have open at the same time. */
  readonly maxStreams: number;
}

/** A header block in pieces is given up above this, bytes, or in more pieces than this: the CONTINUATION flood. */
const MAX_BLOCK = 64 * 1024;
const MAX_PIECES = 64;
/** Frames of a kind that cost us and not the sender, per second; beyond it the connection ends. */
const MAX_ANSWERS = 200;
const MAX_RESETS = 200;
const MAX_EMPTY = 1_000;
/** Streams whose late frames are forgiven because we reset them. */
const MAX_FORGIVEN = 1_024;
/** Output is handed over in pieces of at most this while a batch grows, bytes. */
const BATCH = 128 * 1024;

export class Http2Connection {
  readonly #handler: ConnectionHandler;
  readonly #options: ConnectionOptions;
  readonly #server: boolean;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #reader: FrameReader;
  readonly #streams = new Map<number, Http2Stream>();
  /** Streams with something to send that wait for the connection's window, in turn. */
  readonly #starved = new Set<Http2Stream>();
  readonly #forgiven = new Set<number>();
  readonly #answers = new Budget(MAX_ANSWERS);
  readonly #resets = new Budget(MAX_RESETS);
  readonly #empty = new Budget(MAX_EMPTY);
  /** What is left of the client's preface to be seen. */
  #preface: number;
  #settled = false;
  #nextId: number;
  #lastPeerId = 0;
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow: number;
  #consumed = 0;
  #peerStreamWindow = DEFAULT_WINDOW;
  /** Until its SETTINGS are here; they mean no bound when they name none (§6.5.2). */
  #peerMaxStreams = 100;
  #peerExtendedConnect = false;
  #block: { stream: number; end: boolean; parts: Buffer[]; size: number } | undefined;
  #out: Buffer[] = [];
  #outSize = 0;
  #batching = 0;
  #leaving = false;
  #ended = false;

  constructor(handler: ConnectionHandler, options: ConnectionOptions) {
    this.#handler = handler;
    this.#options = options;
    this.#server = options.side === "server";
    this.#nextId = this.#server ? 2 : 1;
    this.#preface = this.#server ? CLIENT_PREFACE.length : 0;
    this.#receiveWindow = options.connectionWindow;
    this.#reader = new FrameReader((type, flags, id, payload) => this.#frame(type, flags, id, payload));
    this.batch(() => {
      if (!this.#server) this.#emit(CLIENT_PREFACE);
      this.#emit(
        settingsFrame([
          this.#server ? [SETTING.MAX_CONCURRENT_STREAMS, options.maxStreams] : [SETTING.ENABLE_PUSH, 0],
          [SETTING.INITIAL_WINDOW_SIZE, options.streamWindow],
          [SETTING.MAX_HEADER_LIST_SIZE, HPACK_LIMITS.listSize],
        ]),
      );
      if (options.connectionWindow > DEFAULT_WINDOW)
        this.#emit(windowUpdate(0, options.connectionWindow - DEFAULT_WINDOW));
    });
  }

  /** Whether a stream can be opened now; clients only. */
  get available(): boolean {
    return this.room > 0;
  }

  /** How many streams can be opened now; clients only. */
  get room(): number {
    return this.#server || !this.lasting ? 0 : this.#peerMaxStreams - this.#streams.size;
  }

  /** The peer's SETTINGS are here. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The peer takes CONNECT with `:protocol` (RFC 8441). */
  get extendedConnect(): boolean {
    return this.#peerExtendedConnect;
  }

  /** One direction stands still, or nearly so, for want of window: further streams would only share what is left. */
  get saturated(): boolean {
    return this.#starved.size > 0 || this.#receiveWindow < this.#options.connectionWindow / 4;
  }

  /** Whether further streams can be opened, now or once others have ended. */
  get lasting(): boolean {
    return !this.#ended && !this.#leaving && this.#nextId <= MAX_WINDOW;
  }

  /** Streams that are open. */
  get active(): number {
    return this.#streams.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Runs `fn` and hands over what it sends as one write. */
  batch(fn: () => void): void {
    this.#batching += 1;
    try {
      fn();
    } finally {
      this.#batching -= 1;
      this.#flush();
    }
  }

  /** Takes bytes of the peer. Never throws for them: a violation ends the connection by `onEnd`. */
  receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.batch(() => {
      try {
        const rest = this.#preface > 0 ? this.#checkPreface(chunk) : chunk;
        if (rest.length > 0) this.#reader.push(rest);
      } catch (error) {
        if (error instanceof ConnectionError) this.#fail(error.code, error.message);
        else if (error instanceof HpackError) this.#fail(ERROR.COMPRESSION_ERROR, error.message);
        else throw error;
      }
    });
  }

  /** Begins a stream with a request; only while `available`. */
  open(headers: readonly Header[], end: boolean, handler: StreamHandler): Http2Stream {
    if (!this.available) throw new Error("no stream can be opened on this connection");
    const stream = new Http2Stream(this.#nextId, this.#peerStreamWindow, this.#options.streamWindow);
    stream.handler = handler;
    const method = headers.find(([name]) => name === ":method")?.[1];
    stream.unmeasured = method === "HEAD" || method === "CONNECT";
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    this.sendHeaders(stream, headers, end);
    return stream;
  }

  /** Sends headers: a response, an informational one, or, behind the body, trailers (`end`). */
  sendHeaders(stream: Http2Stream, headers: readonly Header[], end: boolean): void {
    if (stream.closed || stream.localEnded || stream.after !== "more") return;
    if (stream.queued > 0) {
      if (!end) throw new Error("headers between data must be trailers");
      stream.after = headers;
      return;
    }
    this.batch(() => {
      for (const frame of headerFrames(stream.id, this.#encoder.encode(headers), end)) this.#emit(frame);
      if (end) this.#endLocal(stream);
    });
  }

  /**
   * Queues body bytes, which are sent as the windows allow. The chunk must not change afterwards.
   * @returns whether all is sent; if not, `onDrain` tells when it is
   */
  sendData(stream: Http2Stream, chunk: Buffer, end: boolean): boolean {
    if (stream.closed || stream.localEnded || stream.after !== "more") return true;
    if (chunk.length > 0) {
      stream.queue.push(chunk);
      stream.queued += chunk.length;
    }
    if (end) stream.after = "end";
    this.batch(() => this.#pump(stream, Number.POSITIVE_INFINITY));
    stream.waiting = stream.queued > 0;
    return !stream.waiting;
  }

  /** Gives the peer room again for body bytes that have been used. */
  consume(stream: Http2Stream, bytes: number): void {
    if (stream.closed || bytes === 0) return;
    stream.held -= bytes;
    this.batch(() => {
      this.#credit(bytes);
      stream.consumed += bytes;
      if (stream.remoteEnded || stream.consumed < this.#options.streamWindow / 2) return;
      this.#emit(windowUpdate(stream.id, stream.consumed));
      stream.receiveWindow += stream.consumed;
      stream.consumed = 0;
    });
  }

  /** Ends a stream from our side before its time. */
  reset(stream: Http2Stream, code: number, reason = "reset"): void {
    if (stream.closed) return;
    this.batch(() => {
      this.#forgive(stream.id);
      this.#emit(frameOf(TYPE.RST_STREAM, 0, stream.id, number32(code)));
      this.#close(stream, new Http2Failure(reason, code));
    });
  }

  /** Asks for a sign of life; any bytes that come are one. */
  ping(): void {
    if (!this.#ended) this.batch(() => this.#emit(frameOf(TYPE.PING, 0, 0, Buffer.alloc(8))));
  }

  /** Takes no new streams and ends once those that are open have ended. */
  goAway(): void {
    if (this.#ended || this.#leaving) return;
    this.batch(() => {
      this.#leaving = true;
      this.#emitGoAway(ERROR.NO_ERROR, "");
      this.#endIfIdle();
    });
  }

  /** The socket is gone, or is to be. */
  abort(failure: Http2Failure): void {
    this.#end(failure);
  }

  // ---- receiving ----

  #checkPreface(chunk: Buffer): Buffer {
    const from = CLIENT_PREFACE.length - this.#preface;
    const size = Math.min(chunk.length, this.#preface);
    if (chunk.compare(CLIENT_PREFACE, from, from + size, 0, size) !== 0)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "not the preface of a client");
    this.#preface -= size;
    return chunk.subarray(size);
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#ended) return;
    if (this.#block && (type !== TYPE.CONTINUATION || id !== this.#block.stream))
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a header block was interrupted");
    if (!this.#settled) {
      if (type !== TYPE.SETTINGS || flags & FLAG.ACK)
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "the first frame is not SETTINGS");
      this.#settled = true;
      this.#peerMaxStreams = Number.POSITIVE_INFINITY;
    }
    try {
      this.#dispatch(type, flags, id, payload);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.reset(error.stream, error.code, error.message);
      // Making us reset is as cheap for a client as resetting by itself.
      if (this.#server) this.#resets.spend(this.#options.now(), "broken streams");
    }
  }

  #dispatch(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === TYPE.DATA) this.#data(flags, id, payload);
    else if (type === TYPE.HEADERS) this.#headers(flags, id, payload);
    else if (type === TYPE.WINDOW_UPDATE) this.#windowUpdate(id, payload);
    else if (type === TYPE.CONTINUATION) this.#continuation(flags, payload);
    else if (type === TYPE.RST_STREAM) this.#peerReset(id, payload);
    else if (type === TYPE.SETTINGS) this.#settings(flags, id, payload);
    else if (type === TYPE.PING) this.#peerPing(flags, id, payload);
    else if (type === TYPE.GOAWAY) this.#peerGoAway(id, payload);
    else if (type === TYPE.PUSH_PROMISE)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "push although it is off");
    else {
      if (type === TYPE.PRIORITY && id === 0)
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "PRIORITY of no stream");
      if (type === TYPE.PRIORITY && payload.length !== 5)
        throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "PRIORITY of a wrong size");
      // Priorities and what we do not know are ignored (§5.5).
      this.#empty.spend(this.#options.now(), "frames without effect");
    }
  }

  /** The stream of a frame; undefined for one that has ended. @throws ConnectionError for one that never was. */
  #find(id: number): Http2Stream | undefined {
    const stream = this.#streams.get(id);
    if (stream) return stream;
    const ours = id % 2 === (this.#server ? 0 : 1);
    if (id === 0 || id > MAX_WINDOW || (ours ? id >= this.#nextId : id > this.#lastPeerId))
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, `frame for stream ${id}, which never was`);
    return undefined;
  }

  /** @throws ConnectionError for a message's frame on a stream that both sides had ended */
  #late(id: number): void {
    if (!this.#forgiven.has(id))
      throw new ConnectionError(ERROR.STREAM_CLOSED, `frame for stream ${id}, which has ended`);
  }

  #data(flags: number, id: number, payload: Buffer): void {
    const stream = this.#find(id);
    this.#receiveWindow -= payload.length;
    if (this.#receiveWindow < 0)
      throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "more data than the connection has room for");
    const end = (flags & FLAG.END_STREAM) !== 0;
    if (payload.length === 0 && !end) this.#empty.spend(this.#options.now(), "empty DATA frames");
    const body = unpadded(flags, payload);
    if (!stream) {
      this.#credit(payload.length);
      this.#late(id);
      return;
    }
    stream.receiveWindow -= payload.length;
    stream.held += payload.length;
    if (stream.receiveWindow < 0)
      throw new Violation(stream, ERROR.FLOW_CONTROL_ERROR, "more data than there is room for");
    if (stream.remoteEnded) throw new Violation(stream, ERROR.STREAM_CLOSED, "data after the end");
    if (!stream.headed) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "data before headers");
    if (stream.expected !== undefined) {
      stream.expected -= body.length;
      if (stream.expected < 0 || (end && stream.expected > 0))
        throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    }
    if (body.length < payload.length) this.consume(stream, payload.length - body.length);
    if (end) stream.remoteEnded = true;
    if (body.length > 0 || end) stream.handler.onData(body, end);
    if (end) this.#endRemote(stream);
  }

  #headers(flags: number, id: number, payload: Buffer): void {
    const theirs = id % 2 === (this.#server ? 1 : 0);
    if (!(this.#server && theirs && id > this.#lastPeerId)) this.#find(id);
    let block = unpadded(flags, payload);
    if (flags & FLAG.PRIORITY) {
      if (block.length < 5)
        throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS too short for its priority");
      block = block.subarray(5);
    }
    this.#block = { stream: id, end: (flags & FLAG.END_STREAM) !== 0, parts: [], size: 0 };
    this.#continuation(flags, block);
  }

  #continuation(flags: number, part: Buffer): void {
    const block = this.#block;
    if (!block) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    const whole = (flags & FLAG.END_HEADERS) !== 0;
    // Only what has to wait for more is copied: the received bytes are not ours to keep.
    block.parts.push(whole && block.parts.length === 0 ? part : Buffer.from(part));
    block.size += part.length;
    // Counting pieces too: empty ones cost us and not the sender.
    if (block.size > MAX_BLOCK || block.parts.length > MAX_PIECES)
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "header block too large");
    if (!whole) return;
    this.#block = undefined;
    // Decoded even when the stream has ended: the tables must stay in step.
    let headers: readonly Header[] | string;
    try {
      headers = this.#decoder.decode(block.parts.length === 1 ? block.parts[0]! : Buffer.concat(block.parts));
    } catch (error) {
      if (!(error instanceof HeaderListTooLarge)) throw error;
      headers = error.message;
    }
    this.#message(block.stream, headers, block.end);
  }

  /** A whole header list, or why there is none. */
  #message(id: number, headers: readonly Header[] | string, end: boolean): void {
    let stream = this.#streams.get(id);
    if (!stream) {
      if (!this.#server || id <= this.#lastPeerId) {
        this.#late(id);
        return;
      }
      stream = this.#accept(id, typeof headers === "string");
      if (!stream) return;
    }
    if (stream.remoteEnded && stream.headed)
      throw new Violation(stream, ERROR.STREAM_CLOSED, "headers after the end");
    if (typeof headers === "string") throw new Violation(stream, ERROR.ENHANCE_YOUR_CALM, headers);
    if (stream.headed) this.#trailers(stream, headers, end);
    else this.#head(stream, headers, end);
  }

  /** A stream that the peer begins; undefined when it is refused. */
  #accept(id: number, hopeless: boolean): Http2Stream | undefined {
    this.#lastPeerId = id;
    if (this.#leaving || this.#streams.size >= this.#options.maxStreams) {
      this.#resets.spend(this.#options.now(), "streams beyond the limit");
      this.#forgive(id);
      this.#emit(frameOf(TYPE.RST_STREAM, 0, id, number32(ERROR.REFUSED_STREAM)));
      return undefined;
    }
    const stream = new Http2Stream(id, this.#peerStreamWindow, this.#options.streamWindow);
    // A request that cannot be read never reaches the server's owner.
    stream.handler = hopeless ? NOBODY : this.#handler.onStream(stream);
    this.#streams.set(id, stream);
    return stream;
  }

  #head(stream: Http2Stream, headers: readonly Header[], end: boolean): void {
    const message = this.#server ? readRequest(headers) : readResponse(headers);
    if (typeof message === "string") throw new Violation(stream, ERROR.PROTOCOL_ERROR, message);
    if (!this.#server && message.kind[0] === "1") {
      if (end || message.kind === "101")
        throw new Violation(stream, ERROR.PROTOCOL_ERROR, "an informational response must not end or switch");
      stream.handler.onInformational?.(headers);
      return;
    }
    stream.headed = true;
    stream.remoteEnded = end;
    if (!stream.unmeasured && message.kind !== "304") {
      stream.expected = message.length;
      if (end && stream.expected)
        throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    }
    stream.handler.onHeaders(headers, end);
    if (end) this.#endRemote(stream);
  }

  #trailers(stream: Http2Stream, headers: readonly Header[], end: boolean): void {
    const problem = end ? readTrailers(headers) : "headers that are no trailers";
    if (problem !== undefined) throw new Violation(stream, ERROR.PROTOCOL_ERROR, problem);
    if (stream.expected) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    stream.remoteEnded = true;
    stream.handler.onTrailers(headers);
    this.#endRemote(stream);
  }

  #peerReset(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size");
    const stream = this.#find(id);
    if (!stream) return;
    // Requests that are begun and dropped at once cost us and not the sender.
    if (this.#server) this.#resets.spend(this.#options.now(), "resets");
    const code = payload.readUInt32BE(0);
    this.#close(
      stream,
      new Http2Failure(`reset by the peer, code ${code}`, code, code === ERROR.REFUSED_STREAM, true),
    );
  }

  #settings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "SETTINGS on a stream");
    if (payload.length % 6 !== 0 || (flags & FLAG.ACK && payload.length > 0))
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "SETTINGS of a wrong size");
    if (flags & FLAG.ACK) return;
    this.#answers.spend(this.#options.now(), "SETTINGS frames");
    for (let at = 0; at < payload.length; at += 6)
      this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.#emit(frameOf(TYPE.SETTINGS, FLAG.ACK, 0));
    this.#handler.onRoom?.();
  }

  #setting(name: number, value: number): void {
    switch (name) {
      case SETTING.HEADER_TABLE_SIZE:
        this.#encoder.resize(value);
        return;
      case SETTING.ENABLE_PUSH:
        if (value > 1 || (value === 1 && !this.#server))
          throw new ConnectionError(ERROR.PROTOCOL_ERROR, `ENABLE_PUSH of ${value}`);
        return;
      case SETTING.MAX_CONCURRENT_STREAMS:
        this.#peerMaxStreams = value;
        return;
      case SETTING.INITIAL_WINDOW_SIZE: {
        if (value > MAX_WINDOW)
          throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "initial window too large");
        const change = value - this.#peerStreamWindow;
        this.#peerStreamWindow = value;
        for (const stream of [...this.#streams.values()]) {
          stream.sendWindow += change;
          if (stream.sendWindow > MAX_WINDOW)
            throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "window too large");
          this.#pump(stream, Number.POSITIVE_INFINITY);
        }
        return;
      }
      case SETTING.ENABLE_CONNECT_PROTOCOL:
        if (value > 1) throw new ConnectionError(ERROR.PROTOCOL_ERROR, `ENABLE_CONNECT_PROTOCOL of ${value}`);
        this.#peerExtendedConnect = value === 1;
        return;
      case SETTING.MAX_FRAME_SIZE:
        if (value < MAX_FRAME || value > 0xff_ffff)
          throw new ConnectionError(ERROR.PROTOCOL_ERROR, `MAX_FRAME_SIZE of ${value}`);
        return;
      default:
    }
  }

  #peerPing(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "PING on a stream");
    if (payload.length !== 8) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "PING of a wrong size");
    if (flags & FLAG.ACK) return;
    this.#answers.spend(this.#options.now(), "PING frames");
    this.#emit(frameOf(TYPE.PING, FLAG.ACK, 0, payload));
  }

  #peerGoAway(id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "GOAWAY on a stream");
    if (payload.length < 8) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "GOAWAY too short");
    this.#leaving = true;
    const last = payload.readUInt32BE(0) & 0x7fff_ffff;
    for (const stream of [...this.#streams.values()]) {
      if (!this.#server && stream.id > last)
        this.#close(stream, new Http2Failure("the peer goes away", ERROR.REFUSED_STREAM, true));
    }
    // The streams that it still answers end first; who waits for room here is to look elsewhere.
    this.#endIfIdle();
    if (!this.#ended) this.#handler.onRoom?.();
  }

  #windowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4)
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size");
    const increment = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (id === 0) {
      if (increment === 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "window update of nothing");
      this.#sendWindow += increment;
      if (this.#sendWindow > MAX_WINDOW)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "window too large");
      this.#feed();
      return;
    }
    const stream = this.#find(id);
    if (!stream) return;
    if (increment === 0) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "window update of nothing");
    stream.sendWindow += increment;
    if (stream.sendWindow > MAX_WINDOW)
      throw new Violation(stream, ERROR.FLOW_CONTROL_ERROR, "window too large");
    else this.#pump(stream, Number.POSITIVE_INFINITY);
  }

  // ---- sending ----

  /** Shares new room of the connection among the streams that wait for it, a frame each in turn. */
  #feed(): void {
    while (this.#sendWindow > 0 && this.#starved.size > 0) {
      const [stream] = this.#starved;
      this.#starved.delete(stream!);
      this.#pump(stream!, 1);
    }
  }

  /** Sends what the windows allow of a stream's queue, at most so many frames. */
  #pump(stream: Http2Stream, frames: number): void {
    for (let count = 0; stream.queued > 0; count += 1) {
      if (stream.closed || stream.sendWindow <= 0) return;
      if (this.#sendWindow <= 0 || count >= frames) {
        this.#starved.add(stream);
        return;
      }
      const chunk = stream.queue[0]!;
      const size = Math.min(chunk.length - stream.offset, stream.sendWindow, this.#sendWindow, MAX_FRAME);
      const end = size === stream.queued && stream.after === "end";
      this.#emit(frameHead(TYPE.DATA, end ? FLAG.END_STREAM : 0, stream.id, size));
      this.#emit(chunk.subarray(stream.offset, stream.offset + size));
      stream.sendWindow -= size;
      this.#sendWindow -= size;
      stream.queued -= size;
      stream.offset += size;
      if (stream.offset === chunk.length) {
        stream.queue.shift();
        stream.offset = 0;
      }
      if (end) {
        this.#endLocal(stream);
        return;
      }
    }
    if (stream.closed || stream.localEnded) return;
    if (stream.after === "end") {
      this.#emit(frameOf(TYPE.DATA, FLAG.END_STREAM, stream.id));
      this.#endLocal(stream);
    } else if (stream.after !== "more") {
      const trailers = stream.after;
      stream.after = "more";
      this.sendHeaders(stream, trailers, true);
    } else if (stream.waiting) {
      stream.waiting = false;
      stream.handler.onDrain?.();
    }
  }

  /** Gives the peer room again on the connection. */
  #credit(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.#options.connectionWindow / 2) return;
    this.#emit(windowUpdate(0, this.#consumed));
    this.#receiveWindow += this.#consumed;
    this.#consumed = 0;
  }

  #emit(bytes: Buffer): void {
    if (this.#ended) return;
    this.#out.push(bytes);
    this.#outSize += bytes.length;
    if (this.#outSize >= BATCH) this.#writeOut();
  }

  #flush(): void {
    if (this.#batching === 0 && this.#outSize > 0) this.#writeOut();
  }

  #writeOut(): void {
    const out = this.#out;
    const size = this.#outSize;
    this.#out = [];
    this.#outSize = 0;
    this.#handler.write(out.length === 1 ? out[0]! : Buffer.concat(out, size));
  }

  #emitGoAway(code: number, reason: string): void {
    const text = Buffer.from(reason, "utf8").subarray(0, 256);
    this.#emit(frameOf(TYPE.GOAWAY, 0, 0, Buffer.concat([number32(this.#lastPeerId), number32(code), text])));
  }

  // ---- ends ----

  #endLocal(stream: Http2Stream): void {
    stream.localEnded = true;
    if (stream.remoteEnded) this.#close(stream, undefined);
  }

  #endRemote(stream: Http2Stream): void {
    if (stream.localEnded) this.#close(stream, undefined);
  }

  #close(stream: Http2Stream, error: Http2Failure | undefined): void {
    if (stream.closed) return;
    stream.closed = true;
    stream.queue.length = 0;
    stream.queued = 0;
    this.#streams.delete(stream.id);
    this.#starved.delete(stream);
    // What nobody will consume any more must not lessen the others' room.
    if (stream.held > 0) this.#credit(stream.held);
    stream.handler.onClose(error);
    this.#endIfIdle();
    if (this.available) this.#handler.onRoom?.();
  }

  #forgive(id: number): void {
    this.#forgiven.add(id);
    if (this.#forgiven.size <= MAX_FORGIVEN) return;
    const [oldest] = this.#forgiven;
    this.#forgiven.delete(oldest!);
  }

  #endIfIdle(): void {
    if (this.#leaving && this.#streams.size === 0) this.#end(undefined);
  }

  #fail(code: number, message: string): void {
    this.#emitGoAway(code, message);
    this.#end(new Http2Failure(message, code));
  }

  #end(failure: Http2Failure | undefined): void {
    if (this.#ended) return;
    if (this.#outSize > 0) this.#writeOut();
    this.#ended = true;
    const error = failure ?? new Http2Failure("connection closed", ERROR.NO_ERROR);
    for (const stream of [...this.#streams.values()]) this.#close(stream, error);
    this.#handler.onEnd(failure);
  }
}

const windowUpdate = (id: number, increment: number): Buffer =>
  frameOf(TYPE.WINDOW_UPDATE, 0, id, number32(increment));

const NOBODY: StreamHandler = {
  onHeaders: () => {},
  onData: () => {},
  onTrailers: () => {},
  onClose: () => {},
};
