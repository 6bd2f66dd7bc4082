// One HTTP/2 connection, client side: requests out, responses in, flow control both ways, keep-alive. It knows
// nothing of what the requests mean. (RFC 9113)
import type { Duplex } from "node:stream";
import type { Clock, Timer } from "../../util/clock.ts";
import {
  CLIENT_PREFACE,
  ConnectionError,
  DEFAULT_WINDOW,
  ERROR,
  FLAG,
  FrameReader,
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
import { type Header, HPACK_LIMITS, HpackDecoder, HpackEncoder, HpackError } from "./hpack.ts";

/** What becomes of a request. `onClose` comes exactly once, last. */
export interface ResponseHandler {
  onHeaders(headers: readonly Header[]): void;
  /** The chunk is the handler's own. */
  onData(chunk: Buffer): void;
  onTrailers(headers: readonly Header[]): void;
  /** `error` is undefined when the response ended as it should. */
  onClose(error: Http2Failure | undefined): void;
}

/** Why a request or a connection failed. */
export class Http2Failure extends Error {
  /** An HTTP/2 error code. */
  readonly code: number;
  /** The peer did not process the request: it may be sent again elsewhere. */
  readonly unprocessed: boolean;
  constructor(message: string, code: number, unprocessed = false) {
    super(message);
    this.name = "Http2Failure";
    this.code = code;
    this.unprocessed = unprocessed;
  }
}

export interface Http2ClientOptions {
  readonly clock: Clock;
  /** A PING is sent when nothing came for this long, ms. */
  readonly keepAliveInterval: number;
  /** The connection is given up when nothing came for this long after a PING, ms. */
  readonly keepAliveTimeout: number;
  /** The connection is no longer usable: no new requests. Comes once. */
  readonly onClose: (error: Http2Failure | undefined) => void;
}

/** Our receive window for each stream and, since control messages are small, for the connection. */
const STREAM_WINDOW = 256 * 1024;
const CONNECTION_WINDOW = 1024 * 1024;
/** A header block in pieces is given up above this, bytes: the CONTINUATION flood. */
const MAX_BLOCK = 64 * 1024;
/** Frames that ask for an answer (PING, SETTINGS) beyond this within a second end the connection. */
const MAX_ANSWERS = 200;

type State = "open" | "half-closed" | "closed";

class Stream {
  readonly id: number;
  readonly handler: ResponseHandler;
  /** Bytes that we may send. */
  sendWindow: number;
  /** Bytes taken since we last gave the peer room. */
  consumed = 0;
  state: State = "open";
  responded = false;
  /** Body bytes that wait for room; undefined once all are sent. */
  pending: Buffer | undefined;
  constructor(id: number, handler: ResponseHandler, sendWindow: number) {
    this.id = id;
    this.handler = handler;
    this.sendWindow = sendWindow;
  }
}

export class Http2Client {
  readonly #socket: Duplex;
  readonly #options: Http2ClientOptions;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, Stream>();
  readonly #reader: FrameReader;
  #nextId = 1;
  #sendWindow = DEFAULT_WINDOW;
  #consumed = 0;
  #peerInitialWindow = DEFAULT_WINDOW;
  #peerMaxStreams = 100;
  #block: { stream: number; endStream: boolean; parts: Buffer[]; size: number } | undefined;
  #goingAway = false;
  #closed = false;
  #ping: Timer | undefined;
  #waiting = false;
  #answers = 0;
  #answersSince = 0;

  constructor(socket: Duplex, options: Http2ClientOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#reader = new FrameReader((type, flags, stream, payload) =>
      this.#frame(type, flags, stream, payload),
    );
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => this.#end(new Http2Failure(error.message, ERROR.CONNECT_ERROR)));
    socket.on("close", () =>
      this.#end(new Http2Failure("connection closed by the peer", ERROR.CONNECT_ERROR)),
    );
    socket.write(
      Buffer.concat([
        CLIENT_PREFACE,
        settingsFrame([
          [SETTING.ENABLE_PUSH, 0],
          [SETTING.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
          [SETTING.MAX_HEADER_LIST_SIZE, HPACK_LIMITS.listSize],
        ]),
        frameOf(TYPE.WINDOW_UPDATE, 0, 0, number32(CONNECTION_WINDOW - DEFAULT_WINDOW)),
      ]),
    );
    this.#keepAlive();
  }

  /** Whether a request can be made now. */
  get available(): boolean {
    return (
      !this.#closed &&
      !this.#goingAway &&
      this.#streams.size < this.#peerMaxStreams &&
      this.#nextId < MAX_WINDOW
    );
  }

  get active(): number {
    return this.#streams.size;
  }

  /**
   * Sends a request with its whole body.
   * @returns cancels it; its handler is then closed with CANCEL
   */
  request(headers: readonly Header[], body: Buffer, handler: ResponseHandler): () => void {
    if (!this.available) {
      queueMicrotask(() =>
        handler.onClose(new Http2Failure("connection not available", ERROR.REFUSED_STREAM, true)),
      );
      return () => {};
    }
    const stream = new Stream(this.#nextId, handler, this.#peerInitialWindow);
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    for (const frame of headerFrames(stream.id, this.#encoder.encode(headers), body.length === 0))
      this.#socket.write(frame);
    if (body.length === 0) stream.state = "half-closed";
    else {
      stream.pending = body;
      this.#flush(stream);
    }
    return () => this.#reset(stream, ERROR.CANCEL, "cancelled");
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#end(new Http2Failure("connection closed", ERROR.CANCEL));
  }

  #receive(chunk: Buffer): void {
    this.#waiting = false;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      const failure =
        error instanceof ConnectionError
          ? new Http2Failure(error.message, error.code)
          : error instanceof HpackError
            ? new Http2Failure(error.message, ERROR.COMPRESSION_ERROR)
            : undefined;
      if (!failure) throw error;
      this.#write(frameOf(TYPE.GOAWAY, 0, 0, Buffer.concat([number32(0), number32(failure.code)])));
      this.#end(failure);
    }
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#closed) return;
    if (this.#block && (type !== TYPE.CONTINUATION || id !== this.#block.stream)) {
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a header block was interrupted");
    }
    switch (type) {
      case TYPE.DATA:
        this.#data(flags, id, payload);
        break;
      case TYPE.HEADERS:
        this.#headers(flags, id, payload);
        break;
      case TYPE.CONTINUATION:
        this.#continuation(flags, payload);
        break;
      case TYPE.RST_STREAM:
        this.#peerReset(id, payload);
        break;
      case TYPE.SETTINGS:
        this.#settings(flags, id, payload);
        break;
      case TYPE.PING:
        this.#pong(flags, id, payload);
        break;
      case TYPE.GOAWAY:
        this.#goAway(payload);
        break;
      case TYPE.WINDOW_UPDATE:
        this.#windowUpdate(id, payload);
        break;
      case TYPE.PUSH_PROMISE:
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "push although it is off");
      default:
      // PRIORITY and what we do not know is ignored (§5.5).
    }
  }

  /** The stream of a frame; undefined for one that has ended. @throws ConnectionError for one that never was. */
  #find(id: number): Stream | undefined {
    if (id === 0 || id % 2 === 0 || id >= this.#nextId) {
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, `frame for stream ${id}, which never was`);
    }
    return this.#streams.get(id);
  }

  #data(flags: number, id: number, payload: Buffer): void {
    const stream = this.#find(id);
    // Padding and data of streams that have ended count against the connection's window all the same.
    this.#consumed += payload.length;
    if (this.#consumed >= CONNECTION_WINDOW / 2) {
      this.#write(frameOf(TYPE.WINDOW_UPDATE, 0, 0, number32(this.#consumed)));
      this.#consumed = 0;
    }
    if (!stream) return;
    if (!stream.responded) {
      this.#reset(stream, ERROR.PROTOCOL_ERROR, "data before headers");
      return;
    }
    const body = unpadded(flags, payload);
    stream.consumed += payload.length;
    if (stream.consumed > STREAM_WINDOW)
      throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "more data than was allowed");
    if (body.length > 0) stream.handler.onData(Buffer.from(body));
    if (flags & FLAG.END_STREAM) this.#finish(stream);
    else if (stream.consumed >= STREAM_WINDOW / 2 && stream.state !== "closed") {
      this.#write(frameOf(TYPE.WINDOW_UPDATE, 0, id, number32(stream.consumed)));
      stream.consumed = 0;
    }
  }

  #headers(flags: number, id: number, payload: Buffer): void {
    this.#find(id);
    let block = unpadded(flags, payload);
    if (flags & FLAG.PRIORITY) {
      if (block.length < 5)
        throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS too short for its priority");
      block = block.subarray(5);
    }
    this.#block = { stream: id, endStream: (flags & FLAG.END_STREAM) !== 0, parts: [], size: 0 };
    this.#continuation(flags, block);
  }

  #continuation(flags: number, part: Buffer): void {
    const block = this.#block;
    if (!block) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    block.parts.push(Buffer.from(part));
    block.size += part.length;
    // Counting pieces too: empty ones cost us and not the sender.
    if (block.size > MAX_BLOCK || block.parts.length > 64) {
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "header block too large");
    }
    if ((flags & FLAG.END_HEADERS) === 0) return;
    this.#block = undefined;
    // Decoded even when the stream has ended: the table must stay in step.
    const headers = this.#decoder.decode(Buffer.concat(block.parts));
    const stream = this.#streams.get(block.stream);
    if (!stream) return;
    if (stream.responded) stream.handler.onTrailers(headers);
    else if (!/^1\d\d$/.test(headers[0]?.[1] ?? "")) {
      stream.responded = true;
      stream.handler.onHeaders(headers);
    }
    if (block.endStream) this.#finish(stream);
  }

  #peerReset(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size");
    const stream = this.#find(id);
    if (!stream) return;
    const code = payload.readUInt32BE(0);
    this.#close(
      stream,
      new Http2Failure(`reset by the peer, code ${code}`, code, code === ERROR.REFUSED_STREAM),
    );
  }

  #settings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "SETTINGS on a stream");
    if (flags & FLAG.ACK) return;
    if (payload.length % 6 !== 0)
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "SETTINGS of a wrong size");
    this.#answer();
    for (let at = 0; at < payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case SETTING.HEADER_TABLE_SIZE:
          this.#encoder.resize(value);
          break;
        case SETTING.MAX_CONCURRENT_STREAMS:
          this.#peerMaxStreams = value;
          break;
        case SETTING.INITIAL_WINDOW_SIZE: {
          if (value > MAX_WINDOW)
            throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "initial window too large");
          const change = value - this.#peerInitialWindow;
          this.#peerInitialWindow = value;
          for (const stream of this.#streams.values()) {
            stream.sendWindow += change;
            this.#flush(stream);
          }
          break;
        }
        default:
      }
    }
    this.#write(frameOf(TYPE.SETTINGS, FLAG.ACK, 0));
  }

  #pong(flags: number, id: number, payload: Buffer): void {
    if (id !== 0 || payload.length !== 8)
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "PING of a wrong shape");
    if (flags & FLAG.ACK) return;
    this.#answer();
    this.#write(frameOf(TYPE.PING, FLAG.ACK, 0, payload));
  }

  /** A peer that only makes us answer is cut off. */
  #answer(): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#answersSince > 1_000) {
      this.#answersSince = now;
      this.#answers = 0;
    }
    this.#answers += 1;
    if (this.#answers > MAX_ANSWERS)
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "too many frames to answer");
  }

  #goAway(payload: Buffer): void {
    if (payload.length < 8) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "GOAWAY too short");
    this.#goingAway = true;
    const last = payload.readUInt32BE(0) & 0x7fff_ffff;
    for (const stream of [...this.#streams.values()]) {
      if (stream.id > last)
        this.#close(stream, new Http2Failure("the peer goes away", ERROR.REFUSED_STREAM, true));
    }
    // The streams that it still answers end first.
    if (this.#streams.size === 0) this.#end(undefined);
  }

  #windowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4)
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size");
    const increment = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (id === 0) {
      this.#sendWindow += increment;
      if (increment === 0 || this.#sendWindow > MAX_WINDOW)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "bad window update");
      for (const stream of this.#streams.values()) this.#flush(stream);
      return;
    }
    const stream = this.#find(id);
    if (!stream) return;
    stream.sendWindow += increment;
    if (increment === 0 || stream.sendWindow > MAX_WINDOW)
      this.#reset(stream, ERROR.FLOW_CONTROL_ERROR, "bad window update");
    else this.#flush(stream);
  }

  /** Sends what the windows allow of a body. */
  #flush(stream: Stream): void {
    while (stream.pending) {
      const size = Math.min(stream.pending.length, stream.sendWindow, this.#sendWindow, MAX_FRAME);
      if (size <= 0) return;
      const last = size === stream.pending.length;
      this.#write(
        frameOf(TYPE.DATA, last ? FLAG.END_STREAM : 0, stream.id, stream.pending.subarray(0, size)),
      );
      stream.sendWindow -= size;
      this.#sendWindow -= size;
      stream.pending = last ? undefined : stream.pending.subarray(size);
      if (last) stream.state = "half-closed";
    }
  }

  #finish(stream: Stream): void {
    // An answer before we said all: the rest is of no interest to the peer.
    if (stream.state === "open")
      this.#write(frameOf(TYPE.RST_STREAM, 0, stream.id, number32(ERROR.NO_ERROR)));
    this.#close(stream, undefined);
  }

  #reset(stream: Stream, code: number, message: string): void {
    if (stream.state === "closed") return;
    this.#write(frameOf(TYPE.RST_STREAM, 0, stream.id, number32(code)));
    this.#close(stream, new Http2Failure(message, code));
  }

  #close(stream: Stream, error: Http2Failure | undefined): void {
    if (stream.state === "closed") return;
    stream.state = "closed";
    stream.pending = undefined;
    this.#streams.delete(stream.id);
    stream.handler.onClose(error);
    if (this.#goingAway && this.#streams.size === 0) this.#end(undefined);
  }

  #end(error: Http2Failure | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.clock.clear(this.#ping);
    this.#socket.destroy();
    const failure = error ?? new Http2Failure("connection closed", ERROR.NO_ERROR);
    for (const stream of [...this.#streams.values()]) this.#close(stream, failure);
    this.#options.onClose(error);
  }

  #write(frame: Buffer): void {
    if (!this.#closed) this.#socket.write(frame);
  }

  #keepAlive(): void {
    const { clock, keepAliveInterval, keepAliveTimeout } = this.#options;
    this.#ping = clock.after(keepAliveInterval, () => {
      this.#waiting = true;
      this.#write(frameOf(TYPE.PING, 0, 0, Buffer.alloc(8)));
      this.#ping = clock.after(keepAliveTimeout, () => {
        if (this.#waiting) this.#end(new Http2Failure("no answer to PING", ERROR.CONNECT_ERROR));
        else if (!this.#closed) this.#keepAlive();
      });
    });
  }
}
