// One HTTP/2 connection as a machine between bytes and messages (RFC 9113), for either side. It owns no socket and no
// timer and knows no policy: bytes come in by `receive` and go out by `write`; what a message means is its handler's.
//
//   bytes → FrameReader → frame → stream state, windows → HPACK → handler
//   sendHeaders, sendData → queue → windows → frame → Output → write
import { BodyQueue, copyBytes } from "./body-queue.ts";
import { Budget } from "./budget.ts";
import { message, readRequest, readResponse, readTrailers } from "./fields.ts";
import {
  CLIENT_PREFACE,
  ConnectionError,
  DEFAULT_WINDOW,
  ERROR,
  FLAG,
  FrameReader,
  HEAD,
  MAX_WINDOW,
  MIN_FRAME,
  OUR_FRAME,
  readUInt32,
  TYPE,
  writeHead,
  writeUInt32,
} from "./frame.ts";
import {
  encodedBound,
  type Header,
  HeaderListTooLarge,
  HPACK_LIMITS,
  HpackDecoder,
  HpackEncoder,
  HpackError,
  listSize,
} from "./hpack.ts";
import { Output } from "./output.ts";
import { PeerSettings, SETTING, writeSettings } from "./settings.ts";
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
  /** Bytes for the peer: once per batch, or, with `onOutput`, once per `flush`; more often when there are many. */
  write(bytes: Buffer): void;
  /**
   * Whether nothing that was written waits any more, so that its memory can be used again. For a plain socket:
   * `writableLength === 0` right after the write.
   */
  taken?(): boolean;
  /** Whether `drained` will be called once nothing waits any more. */
  drains?(): boolean;
  /**
   * There is something to send, which waits for `flush`: whoever implements this gathers what several batches send.
   * It comes once until then.
   */
  onOutput?(): void;
  /** What was written waits at the socket: the peer does not read as fast as it makes us answer. */
  congested?(): boolean;
  /** A peer began a stream; servers only. */
  onStream(stream: Http2Stream): StreamHandler;
  /**
   * A request's headers are above the limits, so `onStream` never heard of it; servers only. It may be answered by
   * `sendHeaders` with the end; the stream is reset then, or when it was not.
   */
  onOversized?(stream: Http2Stream, reason: string): void;
  /** Room for further streams may have changed: the peer's settings came, a stream has ended, or no more are taken. */
  onRoom?(): void;
  /** The connection is over and the socket to be closed. Comes once; undefined when all ended in order. */
  onEnd(failure: Http2Failure | undefined): void;
}

export interface ConnectionOptions {
  readonly side: "client" | "server";
  /** Monotonic time, ms: floods are counted by the second, and stalls are dated. */
  readonly now: () => number;
  /** What a peer may send on one stream before it is consumed, bytes, at least 65,535. */
  readonly streamWindow: number;
  /** The same for all streams together. */
  readonly connectionWindow: number;
  /** Streams that a client may have open at the same time. */
  readonly maxStreams: number;
  /** Clients may CONNECT with `:protocol` (RFC 8441); servers only. */
  readonly extendedConnect?: boolean;
}

/** A header block in pieces is given up above this, bytes, or in more pieces than this: the CONTINUATION flood. */
const MAX_BLOCK = 96 * 1024;
const MAX_PIECES = 64;
/** SETTINGS frames per second: each may touch all streams. */
const MAX_SETTINGS_FRAMES = 200;
/** PINGs per second: probes of bandwidth send one a round trip (gRPC). And those of a peer that does not read. */
const MAX_PINGS = 5_000;
const MAX_UNREAD = 200;
/** Requests per second that were begun and dropped at once, by the client or by an error that it provoked. */
const MAX_RESETS = 200;
/** A client that waited for so long had a reason to drop its request, ms. */
const PATIENCE = 20;
/** Frames without effect per second. */
const MAX_IDLE = 10_000;
/** Grants of hardly any room, per second, to a stream that waits for room; and what counts as such, bytes. */
const MAX_DRIBBLES = 10_000;
const DRIBBLE = 128;
/** Streams whose late frames are forgiven because we reset them. */
const MAX_FORGIVEN = 1_024;
/** A stream that was let send as much as this has not stalled, bytes. */
const PROGRESS = 16 * 1024;
/** Bodies are written in runs of so many bytes, that several frames go out as one. */
const RUN = 64 * 1024;
/** A stream whose consumer keeps up has so much on its way at most: enough for large bodies to flow without waiting. */
const MOST_STREAM_WINDOW = 512 * 1024;
/** Content of the PING whose answer shows that the client has seen our first GOAWAY. */
const FAREWELL = Buffer.from("farewell", "latin1");
const NOTHING = Buffer.alloc(0);

export class Http2Connection {
  readonly #handler: ConnectionHandler;
  readonly #options: ConnectionOptions;
  readonly #server: boolean;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #reader = new FrameReader();
  readonly #output: Output;
  readonly #peer: PeerSettings;
  readonly #streams = new Map<number, Http2Stream>();
  /** Streams with something to send that wait for the connection's window, in turn. */
  readonly #starved = new Set<Http2Stream>();
  readonly #forgiven = new Set<number>();
  readonly #settingsFrames = new Budget(MAX_SETTINGS_FRAMES);
  readonly #pings = new Budget(MAX_PINGS);
  readonly #resets = new Budget(MAX_RESETS);
  readonly #idle = new Budget(MAX_IDLE);
  readonly #dribbles = new Budget(MAX_DRIBBLES);
  /** What is left of the client's preface to be seen. */
  #preface: number;
  #settled = false;
  /** Our SETTINGS are not acknowledged; the peer owes us this, or the rest of a header block, since so long. */
  #unacknowledged = true;
  #owedSince: number;
  /** When the bytes came that are being read. */
  #time: number;
  #nextId: number;
  #lastPeerId = 0;
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow: number;
  /** What a stream's window grows to, bytes. */
  readonly #mostWindow: number;
  #consumed = 0;
  #block: { stream: number; end: boolean; parts: Buffer[]; size: number } | undefined;
  /** The stream of the DATA frame that is being read, undefined when its bytes are of no interest. */
  #body: Http2Stream | undefined;
  /** Bytes that wait in all streams. */
  #queued = 0;
  /** PINGs answered while the peer did not read. */
  #unread = 0;
  #batching = 0;
  #announced = false;
  #warned = false;
  #leaving = false;
  #ended = false;

  constructor(handler: ConnectionHandler, options: ConnectionOptions) {
    this.#handler = handler;
    this.#options = options;
    this.#server = options.side === "server";
    this.#nextId = this.#server ? 2 : 1;
    this.#preface = this.#server ? CLIENT_PREFACE.length : 0;
    this.#peer = new PeerSettings(!this.#server);
    this.#receiveWindow = options.connectionWindow;
    this.#mostWindow = Math.min(MOST_STREAM_WINDOW, Math.floor(options.connectionWindow / 4));
    this.#time = options.now();
    this.#owedSince = this.#time;
    this.#output = new Output(
      (bytes) => handler.write(bytes),
      () => handler.taken?.() ?? false,
      () => handler.drains?.() ?? false,
    );
    this.batch(() => this.#introduce());
  }

  #introduce(): void {
    const { maxStreams, streamWindow, connectionWindow, extendedConnect } = this.#options;
    const output = this.#output;
    if (!this.#server) {
      output.reserve(CLIENT_PREFACE.length);
      CLIENT_PREFACE.copy(output.bytes, output.at);
      output.at += CLIENT_PREFACE.length;
    }
    const settings: [id: number, value: number][] = [
      this.#server ? [SETTING.MAX_CONCURRENT_STREAMS, maxStreams] : [SETTING.ENABLE_PUSH, 0],
      [SETTING.INITIAL_WINDOW_SIZE, streamWindow],
      [SETTING.MAX_FRAME_SIZE, OUR_FRAME],
      [SETTING.MAX_HEADER_LIST_SIZE, HPACK_LIMITS.listSize],
    ];
    if (this.#server && extendedConnect) settings.push([SETTING.ENABLE_CONNECT_PROTOCOL, 1]);
    const at = this.#emit(TYPE.SETTINGS, 0, 0, settings.length * 6);
    writeSettings(output.bytes, at, settings);
    if (connectionWindow > DEFAULT_WINDOW) this.#grant(0, connectionWindow - DEFAULT_WINDOW);
  }

  /** Whether a stream can be opened now; clients only. */
  get available(): boolean {
    return this.room > 0;
  }

  /** How many streams can be opened now; clients only. */
  get room(): number {
    return this.#server || !this.lasting ? 0 : this.#peer.maxStreams - this.#streams.size;
  }

  /** The peer's SETTINGS are here. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The peer takes CONNECT with `:protocol` (RFC 8441). */
  get extendedConnect(): boolean {
    return this.#peer.extendedConnect;
  }

  /** One direction stands still, or nearly so, for want of window: further streams would only share what is left. */
  get saturated(): boolean {
    return this.#starved.size > 0 || this.#receiveWindow < this.#options.connectionWindow / 4;
  }

  /** Whether further streams can be opened, now or once others have ended. */
  get lasting(): boolean {
    return !this.#ended && !this.#leaving && this.#nextId <= MAX_WINDOW;
  }

  /** Those that are open, in the order in which they began. */
  get streams(): readonly Http2Stream[] {
    return [...this.#streams.values()];
  }

  /** Streams that are open. */
  get active(): number {
    return this.#streams.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes of bodies that wait for the peer to give room, and of frames that have not been written. */
  get bufferedBytes(): number {
    return this.#queued + this.#output.size;
  }

  /**
   * Since when the peer owes us something, ms, monotonic: its SETTINGS or the acknowledgment of ours, the rest of a
   * header block, or room for a body (`Http2Stream.stalledSince`). Infinity when it owes nothing.
   */
  get stalledSince(): number {
    let since = this.#owedSince;
    for (const { stalledSince } of this.#streams.values()) {
      if (stalledSince >= 0 && stalledSince < since) since = stalledSince;
    }
    return since;
  }

  /** Whether the peer is willing to take headers of this size (its MAX_HEADER_LIST_SIZE, which is but advice). */
  fits(headers: readonly Header[]): boolean {
    return this.#peer.listSize === Number.POSITIVE_INFINITY || listSize(headers) <= this.#peer.listSize;
  }

  /** Runs `fn` and hands over what it sends as one write. */
  batch(fn: () => void): void {
    this.#batching += 1;
    try {
      fn();
    } finally {
      this.#leave();
    }
  }

  /** Writes what there is; for handlers with `onOutput`. */
  flush(): void {
    this.#announced = false;
    this.#output.flush();
  }

  /** Nothing that was written waits any more: its memory is used again. */
  drained(): void {
    this.#output.drained();
  }

  /** Takes bytes of the peer, which are not kept. Never throws for them: a violation ends the connection by `onEnd`. */
  receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.#time = this.#options.now();
    this.#batching += 1;
    try {
      this.#read(this.#preface > 0 ? this.#checkPreface(chunk) : chunk);
    } catch (error) {
      if (error instanceof ConnectionError) this.#fail(error.code, error.message);
      else if (error instanceof HpackError) this.#fail(ERROR.COMPRESSION_ERROR, error.message);
      else throw error;
    } finally {
      this.#leave();
    }
  }

  /** Begins a stream with a request; only while `available`, and with `:protocol` only while `extendedConnect`. */
  open(headers: readonly Header[], end: boolean, handler: StreamHandler): Http2Stream {
    if (!this.available) throw new Error("no stream can be opened on this connection");
    const stream = new Http2Stream(this.#nextId, this.#peer.streamWindow, this.#options.streamWindow, 0);
    stream.handler = handler;
    for (let i = 0; i < headers.length; i += 1) {
      const [name, value] = headers[i]!;
      if (name !== ":method") continue;
      stream.isHead = value === "HEAD";
      stream.isConnect = value === "CONNECT";
      break;
    }
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
    this.#batching += 1;
    stream.answered = true;
    this.#emitHeaders(stream.id, headers, end);
    if (end) this.#endLocal(stream);
    this.#leave();
  }

  /**
   * Sends body bytes as the windows allow, and queues the rest. The chunk is the caller's again when this returns:
   * what has to wait is copied.
   * @returns whether all is sent; if not, `onDrain` tells when it is
   */
  sendData(stream: Http2Stream, chunk: Buffer, end: boolean): boolean {
    if (stream.closed || stream.localEnded || stream.after !== "more") return true;
    this.#batching += 1;
    if (end) stream.after = "end";
    const size = chunk.length;
    if (stream.queued === 0 && size <= Math.min(stream.sendWindow, this.#sendWindow, this.#peer.frameSize)) {
      if (size > 0 || end) {
        const at = this.#emit(TYPE.DATA, end ? FLAG.END_STREAM : 0, stream.id, size);
        copyBytes(chunk, 0, size, this.#output.bytes, at);
        stream.sendWindow -= size;
        this.#sendWindow -= size;
        if (end) this.#endLocal(stream);
      }
    } else {
      this.#enqueue(stream, chunk);
      this.#pump(stream, Number.POSITIVE_INFINITY);
      if (size > 0 && stream.queued > 0) stream.queue!.own();
    }
    stream.waiting = stream.queued > 0;
    this.#leave();
    return !stream.waiting;
  }

  /** Gives the peer room again for body bytes that have been used. */
  consume(stream: Http2Stream, bytes: number): void {
    if (stream.closed || bytes === 0) return;
    stream.held -= bytes;
    stream.consumed += bytes;
    this.#batching += 1;
    this.#credit(bytes);
    if (!stream.remoteEnded && stream.consumed >= stream.window / 2) this.#renew(stream);
    this.#leave();
  }

  /**
   * Ends a stream from our side before its time. With NO_ERROR, on a stream whose own message has been given to its
   * end, the peer is asked to stop sending once that message is all sent (§8.1): an early answer.
   */
  reset(stream: Http2Stream, code: number, reason = "reset"): void {
    if (stream.closed) return;
    if (code === ERROR.NO_ERROR && !stream.localEnded && stream.after !== "more") {
      stream.unwanted = true;
      return;
    }
    this.#batching += 1;
    this.#emitReset(stream.id, code);
    this.#close(stream, new Http2Failure(reason, code));
    this.#leave();
  }

  /** Asks for a sign of life; any bytes that come are one. */
  ping(): void {
    this.#ping(NOTHING);
  }

  /**
   * Takes no new streams and ends once those that are open have ended. A server first says that it is going to, and
   * goes on taking those that are under way until the client has seen it (§6.8); called again, it waits no longer.
   */
  goAway(): void {
    if (this.#ended || this.#leaving) return;
    this.#batching += 1;
    if (this.#server && !this.#warned) {
      this.#warned = true;
      this.#emitGoAway(MAX_WINDOW, ERROR.NO_ERROR, "");
      this.#ping(FAREWELL);
    } else {
      this.#leaving = true;
      this.#emitGoAway(this.#lastPeerId, ERROR.NO_ERROR, "");
      this.#endIfIdle();
    }
    this.#leave();
  }

  /**
   * Gives up what the peer has owed us since before `limit` (ms, monotonic; see `stalledSince`): the streams that
   * wait for room, or the connection.
   */
  dropStalled(limit: number): void {
    if (this.#ended) return;
    this.batch(() => {
      if (this.#owedSince < limit) {
        const code = this.#settled && this.#unacknowledged ? ERROR.SETTINGS_TIMEOUT : ERROR.ENHANCE_YOUR_CALM;
        this.#fail(code, "the peer is too slow");
        return;
      }
      for (const stream of [...this.#streams.values()]) {
        if (stream.stalledSince >= 0 && stream.stalledSince < limit)
          this.reset(stream, ERROR.CANCEL, "the peer is too slow");
      }
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

  #read(bytes: Buffer): void {
    const reader = this.#reader;
    let moved = false;
    reader.push(bytes);
    while (!this.#ended && reader.next()) {
      try {
        this.#frame(reader);
        moved ||= this.#block === undefined;
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        // Making us reset is as cheap for a client as resetting by itself.
        if (this.#server) this.#resets.spend(this.#time, "broken streams");
        this.reset(error.stream, error.code, error.message);
      }
    }
    if (this.#settled && !this.#unacknowledged) this.#date(moved);
  }

  /** Dates what has begun and not ended. @param moved something else has ended meanwhile */
  #date(moved: boolean): void {
    if (this.#block === undefined && !this.#reader.waiting) this.#owedSince = Number.POSITIVE_INFINITY;
    else if (moved || this.#owedSince === Number.POSITIVE_INFINITY) this.#owedSince = this.#time;
  }

  #frame(reader: FrameReader): void {
    const { type, flags, stream: id } = reader;
    if (this.#block && (type !== TYPE.CONTINUATION || id !== this.#block.stream))
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a header block was interrupted");
    if (!this.#settled) {
      if (type !== TYPE.SETTINGS || flags & FLAG.ACK)
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "the first frame is not SETTINGS");
      this.#settled = true;
    }
    switch (type) {
      case TYPE.DATA:
        this.#data(reader);
        break;
      case TYPE.HEADERS:
        this.#headers(reader);
        break;
      case TYPE.CONTINUATION:
        this.#continuation(reader);
        break;
      case TYPE.WINDOW_UPDATE:
        this.#windowUpdate(reader);
        break;
      case TYPE.RST_STREAM:
        this.#peerReset(reader);
        break;
      case TYPE.SETTINGS:
        this.#settings(reader);
        break;
      case TYPE.PING:
        this.#peerPing(reader);
        break;
      case TYPE.GOAWAY:
        this.#peerGoAway(reader);
        break;
      case TYPE.PRIORITY:
        this.#priority(reader);
        break;
      case TYPE.PUSH_PROMISE:
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "push although it is off");
      default:
        // What we do not know is ignored (§5.5), PRIORITY_UPDATE (RFC 9218) included.
        this.#idle.spend(this.#time, "frames without effect");
    }
  }

  /** The stream of a frame; undefined for one that has ended. @throws ConnectionError for one that never was. */
  #find(id: number): Http2Stream | undefined {
    const stream = this.#streams.get(id);
    if (stream) return stream;
    const ours = id % 2 === (this.#server ? 0 : 1);
    if (id === 0 || (ours ? id >= this.#nextId : id > this.#lastPeerId))
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, `frame for stream ${id}, which never was`);
    return undefined;
  }

  /** @throws ConnectionError for a message's frame on a stream that both sides had ended */
  #late(id: number): void {
    if (!this.#forgiven.has(id))
      throw new ConnectionError(ERROR.STREAM_CLOSED, `frame for stream ${id}, which has ended`);
  }

  #data(reader: FrameReader): void {
    const { flags, from, to, last } = reader;
    const ends = (flags & FLAG.END_STREAM) !== 0;
    if (reader.first) {
      this.#body = undefined;
      this.#body = this.#bodyOf(reader, ends);
    }
    const stream = this.#body;
    if (stream === undefined || stream.closed) return;
    const size = to - from;
    const end = ends && last;
    if (stream.expected !== undefined) {
      stream.expected -= size;
      if (stream.expected < 0 || (end && stream.expected > 0))
        throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    }
    if (end) stream.remoteEnded = true;
    if (size > 0) stream.handler.onData(reader.data.subarray(from, to), end);
    else if (end) stream.handler.onData(NOTHING, true);
    if (end) this.#endRemote(stream);
  }

  /** Whose body a DATA frame is; undefined for one that we reset. */
  #bodyOf(reader: FrameReader, ends: boolean): Http2Stream | undefined {
    const { stream: id, length, padding } = reader;
    const stream = this.#find(id);
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0)
      throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "more data than the connection has room for");
    if (length === padding && !ends) this.#idle.spend(this.#time, "empty DATA frames");
    if (!stream) {
      this.#credit(length);
      this.#late(id);
      return undefined;
    }
    stream.receiveWindow -= length;
    stream.held += length;
    if (stream.receiveWindow < 0)
      throw new Violation(stream, ERROR.FLOW_CONTROL_ERROR, "more data than there is room for");
    if (stream.remoteEnded) throw new Violation(stream, ERROR.STREAM_CLOSED, "data after the end");
    if (!stream.headed) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "data before headers");
    if (padding > 0) this.consume(stream, padding);
    return stream;
  }

  #headers(reader: FrameReader): void {
    const { flags, stream: id, data } = reader;
    const theirs = id % 2 === (this.#server ? 1 : 0);
    if (!(this.#server && theirs && id > this.#lastPeerId)) this.#find(id);
    let { from, to } = reader;
    if (flags & FLAG.PADDED) {
      to -= data[from] ?? 0;
      from += 1;
      if (to < from) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "padding longer than the frame");
    }
    if (flags & FLAG.PRIORITY) {
      if (to - from < 5)
        throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS too short for its priority");
      this.#checkDependency(data, from, id);
      from += 5;
    }
    const end = (flags & FLAG.END_STREAM) !== 0;
    if (flags & FLAG.END_HEADERS) this.#message(id, data, from, to, end);
    // The received bytes are not ours to keep.
    else this.#block = { stream: id, end, parts: [Buffer.from(data.subarray(from, to))], size: to - from };
  }

  #continuation(reader: FrameReader): void {
    const block = this.#block;
    if (!block) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    const { data, from, to } = reader;
    block.parts.push(Buffer.from(data.subarray(from, to)));
    block.size += to - from;
    // Counting pieces too: empty ones cost us and not the sender.
    if (block.size > MAX_BLOCK || block.parts.length > MAX_PIECES)
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "header block too large");
    if ((reader.flags & FLAG.END_HEADERS) === 0) return;
    this.#block = undefined;
    this.#message(block.stream, Buffer.concat(block.parts, block.size), 0, block.size, block.end);
  }

  /** A whole header block. */
  #message(id: number, data: Buffer, from: number, to: number, end: boolean): void {
    // Decoded even when the stream has ended: the tables must stay in step.
    let headers: readonly Header[] | undefined;
    let oversize = "";
    try {
      headers = this.#decoder.decode(data, from, to);
    } catch (error) {
      if (!(error instanceof HeaderListTooLarge)) throw error;
      oversize = error.message;
    }
    let stream = this.#streams.get(id);
    if (!stream) {
      if (!this.#server || id <= this.#lastPeerId) {
        this.#late(id);
        return;
      }
      stream = this.#accept(id, headers === undefined);
      if (!stream) return;
    }
    if (stream.remoteEnded && stream.headed)
      throw new Violation(stream, ERROR.STREAM_CLOSED, "headers after the end");
    if (headers === undefined) this.#oversized(stream, oversize, end);
    else if (stream.headed) this.#trailers(stream, headers, end);
    else this.#head(stream, headers, end);
  }

  /** A stream that the peer begins; undefined when it is refused. */
  #accept(id: number, unreadable: boolean): Http2Stream | undefined {
    this.#lastPeerId = id;
    if (this.#leaving || this.#streams.size >= this.#options.maxStreams) {
      this.#resets.spend(this.#time, "streams beyond the limit");
      this.#emitReset(id, ERROR.REFUSED_STREAM);
      return undefined;
    }
    const stream = new Http2Stream(
      id,
      this.#peer.streamWindow,
      this.#options.streamWindow,
      Math.floor(this.#time),
    );
    stream.handler = unreadable ? NOBODY : this.#handler.onStream(stream);
    this.#streams.set(id, stream);
    return stream;
  }

  /** A header list above the limits. The owner of a server may answer it, if it is a request's. */
  #oversized(stream: Http2Stream, reason: string, end: boolean): void {
    if (stream.headed || !this.#server) throw new Violation(stream, ERROR.ENHANCE_YOUR_CALM, reason);
    stream.headed = true;
    stream.remoteEnded = end;
    this.#handler.onOversized?.(stream, reason);
    if (stream.closed) return;
    throw new Violation(stream, stream.localEnded ? ERROR.NO_ERROR : ERROR.ENHANCE_YOUR_CALM, reason);
  }

  #head(stream: Http2Stream, headers: readonly Header[], end: boolean): void {
    const { kinds } = this.#decoder;
    const problem = this.#server
      ? readRequest(headers, kinds, this.#options.extendedConnect === true)
      : readResponse(headers, kinds);
    if (problem !== undefined) throw new Violation(stream, ERROR.PROTOCOL_ERROR, problem);
    const { kind, length } = message;
    if (!this.#server) {
      if (kind.charCodeAt(0) === 0x31) {
        this.#informational(stream, headers, kind, end);
        return;
      }
      // What these announce is not sent (§8.1.1), and a tunnel's bytes are no body.
      if (stream.isConnect && kind.charCodeAt(0) === 0x32) stream.expected = undefined;
      else if (stream.isHead || kind === "204" || kind === "304") stream.expected = 0;
      else stream.expected = length;
    } else stream.expected = length;
    stream.headed = true;
    stream.remoteEnded = end;
    if (end && stream.expected)
      throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    stream.handler.onHeaders(headers, end);
    if (end) this.#endRemote(stream);
  }

  #informational(stream: Http2Stream, headers: readonly Header[], status: string, end: boolean): void {
    if (end || status === "101")
      throw new Violation(stream, ERROR.PROTOCOL_ERROR, "an informational response must not end or switch");
    this.#idle.spend(this.#time, "informational responses");
    stream.handler.onInformational?.(headers);
  }

  #trailers(stream: Http2Stream, headers: readonly Header[], end: boolean): void {
    const problem = end ? readTrailers(headers, this.#decoder.kinds) : "headers that are no trailers";
    if (problem !== undefined) throw new Violation(stream, ERROR.PROTOCOL_ERROR, problem);
    if (stream.expected) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "body and content-length differ");
    stream.remoteEnded = true;
    stream.handler.onTrailers(headers);
    this.#endRemote(stream);
  }

  /** Priorities are not followed; a stream that depends on itself is an error all the same (RFC 7540 §5.3.1). */
  #priority({ stream: id, length, data, from }: FrameReader): void {
    if (id === 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "PRIORITY of no stream");
    if (length !== 5) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "PRIORITY of a wrong size");
    this.#checkDependency(data, from, id);
    this.#idle.spend(this.#time, "PRIORITY frames");
  }

  #checkDependency(data: Buffer, at: number, id: number): void {
    if ((readUInt32(data, at) & 0x7fff_ffff) === id)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, `stream ${id} depends on itself`);
  }

  #peerReset({ stream: id, length, data, from }: FrameReader): void {
    if (length !== 4) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size");
    const stream = this.#find(id);
    if (!stream) {
      this.#idle.spend(this.#time, "resets of streams that have ended");
      return;
    }
    // Requests that are begun and dropped at once cost us and not the sender.
    if (this.#server && !stream.answered && this.#time - stream.begun < PATIENCE)
      this.#resets.spend(this.#time, "resets");
    const code = readUInt32(data, from);
    // An early answer: what we have not sent of our request is not wanted (§8.1).
    if (code === ERROR.NO_ERROR && !this.#server && stream.remoteEnded) this.#close(stream, undefined);
    else
      this.#close(
        stream,
        new Http2Failure(`reset by the peer, code ${code}`, code, code === ERROR.REFUSED_STREAM, true),
      );
  }

  #settings({ stream: id, flags, length, data, from, to }: FrameReader): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "SETTINGS on a stream");
    if (length % 6 !== 0 || (flags & FLAG.ACK && length > 0))
      throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "SETTINGS of a wrong size");
    this.#settingsFrames.spend(this.#time, "SETTINGS frames");
    if (flags & FLAG.ACK) {
      this.#unacknowledged = false;
      return;
    }
    const before = this.#peer.streamWindow;
    this.#peer.read(data, from, to);
    this.#encoder.resize(this.#peer.tableSize);
    if (this.#peer.streamWindow !== before) this.#resizeWindows(this.#peer.streamWindow - before);
    this.#emit(TYPE.SETTINGS, FLAG.ACK, 0, 0);
    this.#handler.onRoom?.();
  }

  #resizeWindows(change: number): void {
    for (const stream of [...this.#streams.values()]) {
      stream.sendWindow += change;
      if (stream.sendWindow > MAX_WINDOW)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "window too large");
      this.#pump(stream, Number.POSITIVE_INFINITY);
    }
  }

  #peerPing({ stream: id, flags, length, data, from, to }: FrameReader): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "PING on a stream");
    if (length !== 8) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "PING of a wrong size");
    if (flags & FLAG.ACK) {
      if (this.#warned && data.compare(FAREWELL, 0, 8, from, to) === 0) this.goAway();
      return;
    }
    this.#pings.spend(this.#time, "PING frames");
    if (!this.#handler.congested?.()) this.#unread = 0;
    else if (this.#unread++ > MAX_UNREAD)
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "PING frames whose answers are not read");
    const at = this.#emit(TYPE.PING, FLAG.ACK, 0, 8);
    data.copy(this.#output.bytes, at, from, to);
  }

  #peerGoAway({ stream: id, length, data, from }: FrameReader): void {
    if (id !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "GOAWAY on a stream");
    if (length < 8) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "GOAWAY too short");
    this.#idle.spend(this.#time, "GOAWAY frames");
    this.#leaving = true;
    const last = readUInt32(data, from) & 0x7fff_ffff;
    for (const stream of [...this.#streams.values()]) {
      if (!this.#server && stream.id > last)
        this.#close(stream, new Http2Failure("the peer goes away", ERROR.REFUSED_STREAM, true));
    }
    // The streams that it still answers end first; who waits for room here is to look elsewhere.
    this.#endIfIdle();
    if (!this.#ended) this.#handler.onRoom?.();
  }

  #windowUpdate({ stream: id, length, data, from }: FrameReader): void {
    if (length !== 4) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size");
    const increment = readUInt32(data, from) & 0x7fff_ffff;
    const stream = id === 0 ? undefined : this.#find(id);
    if (id === 0) {
      if (increment === 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "window update of nothing");
      this.#sendWindow += increment;
      if (this.#sendWindow > MAX_WINDOW)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "window too large");
    } else if (stream !== undefined) {
      if (increment === 0) throw new Violation(stream, ERROR.PROTOCOL_ERROR, "window update of nothing");
      stream.sendWindow += increment;
      if (stream.sendWindow > MAX_WINDOW)
        throw new Violation(stream, ERROR.FLOW_CONTROL_ERROR, "window too large");
    }
    // Each would make us send a frame of hardly any bytes.
    const held = stream === undefined ? this.#starved.size > 0 : stream.queued > increment;
    if (held && increment < DRIBBLE) this.#dribbles.spend(this.#time, "window updates of a few bytes");
    if (id === 0) this.#feed();
    else if (stream !== undefined && (stream.queued > 0 || stream.waiting))
      this.#pump(stream, Number.POSITIVE_INFINITY);
  }

  // ---- sending ----

  /** Ends what began with `batching += 1`; what was sent goes out when it was the outermost. */
  #leave(): void {
    this.#batching -= 1;
    if (this.#batching > 0 || this.#output.size === 0) return;
    const { onOutput } = this.#handler;
    if (onOutput === undefined) this.#output.flush();
    else if (!this.#announced) {
      this.#announced = true;
      this.#handler.onOutput!();
    }
  }

  /** The head of a frame, with room for its payload. @returns where the payload goes in `#output.bytes` */
  #emit(type: number, flags: number, stream: number, length: number): number {
    const output = this.#output;
    output.reserve(HEAD + length);
    const { at } = output;
    writeHead(output.bytes, at, length, type, flags, stream);
    output.at = at + HEAD + length;
    return at + HEAD;
  }

  #emitHeaders(id: number, headers: readonly Header[], end: boolean): void {
    const bound = encodedBound(headers);
    const ending = end ? FLAG.END_STREAM : 0;
    if (bound > MIN_FRAME) {
      this.#emitBlock(id, this.#encoder.encode(headers), ending);
      return;
    }
    const output = this.#output;
    output.reserve(HEAD + bound);
    const { bytes, at } = output;
    const from = at + HEAD;
    const to = this.#encoder.encodeInto(headers, bytes, from);
    writeHead(bytes, at, to - from, TYPE.HEADERS, FLAG.END_HEADERS | ending, id);
    output.at = to;
  }

  /** A header block that may need several frames: HEADERS, then CONTINUATIONs. */
  #emitBlock(id: number, block: Buffer, ending: number): void {
    for (let from = 0; from === 0 || from < block.length; from += this.#peer.frameSize) {
      const to = Math.min(from + this.#peer.frameSize, block.length);
      const flags = (to === block.length ? FLAG.END_HEADERS : 0) | (from === 0 ? ending : 0);
      const at = this.#emit(from === 0 ? TYPE.HEADERS : TYPE.CONTINUATION, flags, id, to - from);
      block.copy(this.#output.bytes, at, from, to);
    }
  }

  #emitReset(id: number, code: number): void {
    this.#forgive(id);
    const at = this.#emit(TYPE.RST_STREAM, 0, id, 4);
    writeUInt32(this.#output.bytes, at, code);
  }

  #emitGoAway(last: number, code: number, reason: string): void {
    const text = Buffer.from(reason, "utf8").subarray(0, 256);
    const at = this.#emit(TYPE.GOAWAY, 0, 0, 8 + text.length);
    const { bytes } = this.#output;
    writeUInt32(bytes, at, last);
    writeUInt32(bytes, at + 4, code);
    text.copy(bytes, at + 8);
  }

  #ping(content: Buffer): void {
    if (this.#ended) return;
    this.#batching += 1;
    const at = this.#emit(TYPE.PING, 0, 0, 8);
    this.#output.bytes.fill(0, at, at + 8);
    content.copy(this.#output.bytes, at);
    this.#leave();
  }

  /** Room for the peer on a stream, or with 0 on the connection. */
  #grant(id: number, increment: number): void {
    const at = this.#emit(TYPE.WINDOW_UPDATE, 0, id, 4);
    writeUInt32(this.#output.bytes, at, increment);
  }

  /** Gives the peer room again on the connection. */
  #credit(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.#options.connectionWindow / 2) return;
    this.#grant(0, this.#consumed);
    this.#receiveWindow += this.#consumed;
    this.#consumed = 0;
  }

  /** Gives the peer room on a stream for what was consumed, and more of it: its consumer keeps up. */
  #renew(stream: Http2Stream): void {
    // The rest of the body has room.
    if (stream.expected !== undefined && stream.expected <= stream.receiveWindow) return;
    const window = Math.max(stream.window, Math.min(2 * stream.window, this.#mostWindow));
    const increment = stream.consumed + window - stream.window;
    this.#grant(stream.id, increment);
    stream.receiveWindow += increment;
    stream.window = window;
    stream.consumed = 0;
  }

  #enqueue(stream: Http2Stream, chunk: Buffer): void {
    if (chunk.length === 0) return;
    stream.queue ??= new BodyQueue();
    stream.queue.push(chunk);
    this.#queued += chunk.length;
  }

  /** Shares new room of the connection among the streams that wait for it, a common frame's size each in turn. */
  #feed(): void {
    while (this.#sendWindow > 0 && this.#starved.size > 0) {
      const [stream] = this.#starved;
      this.#starved.delete(stream!);
      this.#pump(stream!, MIN_FRAME);
    }
  }

  /** Sends what the windows allow of a stream's queue, at most so many bytes; then what follows the queue. */
  #pump(stream: Http2Stream, most: number): void {
    let left = most;
    while (stream.queued > 0) {
      const room = Math.min(stream.sendWindow, this.#sendWindow, left);
      if (stream.closed) return;
      if (room <= 0) {
        if (stream.sendWindow > 0) this.#starved.add(stream);
        this.#mark(stream);
        return;
      }
      const run = Math.min(stream.queued, room, RUN);
      this.#emitRun(stream, run);
      left -= run;
      if (stream.queue) stream.queue.progress += run;
    }
    stream.queue = undefined;
    if (stream.closed || stream.localEnded) return;
    if (stream.after === "end") {
      this.#emit(TYPE.DATA, FLAG.END_STREAM, stream.id, 0);
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

  /** Sends `size` bytes of the queue, side by side in as many frames as they need. */
  #emitRun(stream: Http2Stream, size: number): void {
    this.#output.reserve(size + HEAD * Math.ceil(size / this.#peer.frameSize));
    stream.sendWindow -= size;
    this.#sendWindow -= size;
    this.#queued -= size;
    for (let left = size; left > 0; ) {
      const length = Math.min(left, this.#peer.frameSize);
      const end = length === stream.queued && stream.after === "end";
      const at = this.#emit(TYPE.DATA, end ? FLAG.END_STREAM : 0, stream.id, length);
      stream.queue!.take(length, this.#output.bytes, at);
      left -= length;
      if (end) this.#endLocal(stream);
    }
  }

  /** Dates the stall of a stream with something to send and no room; the little that was sent is no progress. */
  #mark(stream: Http2Stream): void {
    const queue = stream.queue!;
    if (queue.stalledSince >= 0 && queue.progress < PROGRESS) return;
    queue.stalledSince = Math.floor(this.#options.now());
    queue.progress = 0;
  }

  // ---- ends ----

  #endLocal(stream: Http2Stream): void {
    stream.localEnded = true;
    if (stream.remoteEnded) this.#close(stream, undefined);
    else if (stream.unwanted) {
      this.#emitReset(stream.id, ERROR.NO_ERROR);
      this.#close(stream, new Http2Failure("answered early", ERROR.NO_ERROR));
    }
  }

  #endRemote(stream: Http2Stream): void {
    if (stream.localEnded) this.#close(stream, undefined);
  }

  #close(stream: Http2Stream, error: Http2Failure | undefined): void {
    if (stream.closed) return;
    stream.closed = true;
    this.#queued -= stream.queued;
    stream.queue = undefined;
    this.#streams.delete(stream.id);
    if (this.#starved.size > 0) this.#starved.delete(stream);
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
    if (this.#ended) return;
    this.#emitGoAway(this.#lastPeerId, code, message);
    this.#end(new Http2Failure(message, code));
  }

  #end(failure: Http2Failure | undefined): void {
    if (this.#ended) return;
    this.#output.flush();
    this.#ended = true;
    const error = failure ?? new Http2Failure("connection closed", ERROR.NO_ERROR);
    for (const stream of [...this.#streams.values()]) this.#close(stream, error);
    this.#output.discard();
    this.#handler.onEnd(failure);
  }
}

const NOBODY: StreamHandler = {
  onHeaders: () => {},
  onData: () => {},
  onTrailers: () => {},
  onClose: () => {},
};
