// One gRPC call on the server's side: a request message in, answers out, an end with a status. There are hundreds of
// thousands of these in a large mesh, nearly all of them idle: each is one object beside its HTTP/2 stream.
import { encode, type Message, type Partially } from "../api/codec.ts";
import { Deframer, frame, GrpcFrameError, wholeMessage } from "../api/grpc-frame.ts";
import { GrpcError, STATUS } from "../api/grpc-status.ts";
import { grpcTimeoutMs } from "../api/grpc-timeout.ts";
import type { Http2Connection } from "../http2/connection.ts";
import { ERROR } from "../http2/frame.ts";
import type { Header } from "../http2/hpack.ts";
import type { Http2Stream, StreamHandler } from "../http2/stream.ts";
import type { Clock, Timer } from "../util/clock.ts";
import type { Channel, GrpcChannel } from "./grpc-channel.ts";

/** What hears that a stream is over. */
export type CloseListener = (() => void) | { close(): void };

/** One server stream, held by the producer of its messages. */
export interface Sender<T> {
  /** Queues a message; one that goes to many is encoded once and must not change. A subscriber that does not keep up is cut: it will ask again and get the full state. */
  send(message: Partially<T>): void;
  /** The same for a message that {@link encodeFrame} has encoded. */
  sendFrame(bytes: Buffer): void;
  end(error?: GrpcError): void;
  readonly closed: boolean;
  /**
   * Has one listener, an object where there are many streams: a function of its own would cost each of them. Told at once
   * when the stream is over by now, as one is whose first answer was its end.
   */
  whenClosed(listener: CloseListener): void;
  /** The way to the stream for who tells many of them the same. */
  readonly channel: Channel;
  readonly stream: Http2Stream;
}

/** A message as it is sent, for those that go to many. */
export const encodeFrame = <R>(type: Message<R>, message: Partially<R>): Buffer =>
  frame(encode(type, message));

/** A method as the server knows it. */
export interface Handled {
  readonly path: string;
  readonly response: Message<unknown>;
  /** It gives a stream of answers. */
  readonly streams: boolean;
  /** Takes the request. What it throws ends the call. */
  begin(call: GrpcCall, request: Buffer): void;
  ended(call: GrpcCall): void;
  /** A message goes out. */
  sent?(): void;
  /** One of its streams was cut because it did not keep up. */
  cut?(): void;
}

/** What a call needs of the server that it came to. */
export interface CallOwner {
  readonly clock: Clock;
  readonly maxRequest: number;
  readonly maxQueued: number;
  methodAt(path: string): Handled | undefined;
  /** The status for what a handler threw. */
  statusOf(error: unknown, path: string): GrpcError;
}

/** What a call needs of the connection that it is on. */
export interface CallConnection {
  readonly machine: Http2Connection;
  readonly owner: CallOwner;
  /** Calls whose request has not come whole, with what there is of it. */
  readonly waiting: Map<GrpcCall, Deframer | undefined>;
  /** Of those calls that have one. */
  readonly deadlines: Map<GrpcCall, Timer>;
  /** Of the calls of a method. */
  channelOf(method: Handled): GrpcChannel;
  /** Sends a message at the end of this turn. */
  sendLater(stream: Http2Stream, message: Buffer): void;
  /** Has all of those sent that wait for it. */
  sendPending(): void;
}

/** How far a call is: its request was taken or refused, its method has it, its answers have ended, its stream is no more. */
const TAKEN = 1 << 0;
const BEGUN = 1 << 1;
const ENDED = 1 << 2;
const OVER = 1 << 3;

/** Messages for the caller are cut to this many characters: they travel in a header. */
const MAX_MESSAGE = 1_000;
const CONTENT_TYPE: Header = ["content-type", "application/grpc"];
export const ANSWER: readonly Header[] = [[":status", "200"], CONTENT_TYPE];
const NOT_GRPC: readonly Header[] = [[":status", "415"]];
const ENDED_WELL: readonly Header[] = [["grpc-status", String(STATUS.OK)]];
const FRAMES = new WeakMap<object, Buffer>();

/** grpc-message: percent-encoded, and short. The detour over bytes mends a character that the cut halved. */
const messageHeader = (message: string): string =>
  encodeURIComponent(Buffer.from(message.slice(0, MAX_MESSAGE), "utf8").toString("utf8"));

function trailersOf(error: GrpcError): Header[] {
  return [
    ["grpc-status", String(error.code)],
    ["grpc-message", messageHeader(error.message)],
  ];
}

function tell(listener: CloseListener): void {
  if (typeof listener === "function") listener();
  else listener.close();
}

export class GrpcCall implements StreamHandler, Sender<unknown> {
  readonly #connection: CallConnection;
  readonly stream: Http2Stream;
  #channel: GrpcChannel | undefined;
  #listener: CloseListener | undefined;
  #state = 0;
  /** How it ended. */
  code: number = STATUS.CANCELLED;

  constructor(connection: CallConnection, stream: Http2Stream) {
    this.#connection = connection;
    this.stream = stream;
    connection.waiting.set(this, undefined);
  }

  /** When it came, whole ms, monotonic. */
  get began(): number {
    return this.stream.begun;
  }

  /** Its method has the request, and sends a stream of answers. */
  get streams(): boolean {
    return (this.#state & BEGUN) !== 0 && this.channel.method.streams;
  }

  // ---- the request ----

  onHeaders(headers: readonly Header[], end: boolean): void {
    const { owner, machine } = this.#connection;
    let path = "";
    let post = false;
    let grpc = false;
    let timeout: string | undefined;
    for (const [name, value] of headers) {
      if (name === ":path") path = value;
      else if (name === ":method") post = value === "POST";
      else if (name === "content-type") grpc = value.startsWith("application/grpc");
      else if (name === "grpc-timeout") timeout = value;
    }
    if (!post || !grpc) {
      this.#take();
      this.#state |= ENDED;
      machine.sendHeaders(this.stream, NOT_GRPC, true);
      this.#stopRequest();
      return;
    }
    const method = owner.methodAt(path);
    if (!method) {
      this.#refuse(STATUS.UNIMPLEMENTED, `no such method: ${path}`);
      return;
    }
    this.#channel = this.#connection.channelOf(method);
    const deadline = grpcTimeoutMs(timeout);
    if (deadline !== undefined)
      this.#connection.deadlines.set(
        this,
        owner.clock.after(deadline, () => this.#expire()),
      );
    if (end) this.#missing();
  }

  onData(chunk: Buffer, end: boolean): void {
    const { owner, machine, waiting } = this.#connection;
    machine.consume(this.stream, chunk.length);
    // What follows the one message, or a refusal, is dropped.
    if ((this.#state & TAKEN) !== 0) return;
    // It is read during this call: a copy of each request would be tens of megabytes when a thousand proxies come.
    let message = waiting.get(this) ? undefined : wholeMessage(chunk, owner.maxRequest);
    try {
      if (!message) {
        const deframer = waiting.get(this) ?? new Deframer(owner.maxRequest);
        waiting.set(this, deframer);
        // A piece is only good during this call, and a message may need several.
        [message] = deframer.push(Buffer.from(chunk));
      }
    } catch (error) {
      this.#refuse(
        STATUS.RESOURCE_EXHAUSTED,
        error instanceof GrpcFrameError ? error.message : "bad request",
      );
      return;
    }
    if (message) this.#begin(message);
    else if (end) this.#missing();
  }

  onTrailers(): void {
    this.#missing();
  }

  onClose(): void {
    const { owner, waiting, deadlines } = this.#connection;
    waiting.delete(this);
    owner.clock.clear(deadlines.get(this));
    deadlines.delete(this);
    this.#state |= TAKEN | OVER;
    this.#channel?.method.ended(this);
    const listener = this.#listener;
    this.#listener = undefined;
    if (listener) tell(listener);
  }

  /** The request did not come in time. */
  giveUp(): void {
    this.#refuse(STATUS.DEADLINE_EXCEEDED, "the request did not arrive");
  }

  #missing(): void {
    if ((this.#state & TAKEN) === 0) this.#refuse(STATUS.INVALID_ARGUMENT, "expected one request message");
  }

  #take(): void {
    this.#state |= TAKEN;
    this.#connection.waiting.delete(this);
  }

  #begin(message: Buffer): void {
    this.#take();
    this.#state |= BEGUN;
    const { method } = this.channel;
    try {
      method.begin(this, message);
    } catch (error) {
      this.end(this.#connection.owner.statusOf(error, method.path));
    }
  }

  #refuse(code: number, message: string): void {
    this.#take();
    this.end(new GrpcError(code, message));
  }

  #expire(): void {
    this.#take();
    this.end(new GrpcError(STATUS.DEADLINE_EXCEEDED, "the caller's deadline has passed"));
  }

  // ---- the answers ----

  whenClosed(listener: CloseListener): void {
    if ((this.#state & OVER) !== 0) tell(listener);
    else this.#listener = listener;
  }

  get closed(): boolean {
    return (this.#state & ENDED) !== 0 || this.stream.closed;
  }

  /** There once its headers have come. */
  get channel(): GrpcChannel {
    return this.#channel!;
  }

  send(message: object): void {
    if (this.closed) return;
    let bytes = FRAMES.get(message);
    if (!bytes) {
      bytes = encodeFrame(this.channel.method.response, message);
      FRAMES.set(message, bytes);
    }
    this.sendFrame(bytes);
  }

  sendFrame(bytes: Buffer): void {
    if (!this.closed) this.channel.sendFrame(this.stream, bytes);
  }

  /** Bytes that the caller has not taken yet. */
  get queued(): number {
    return this.stream.queued;
  }

  /** The caller does not take its messages. */
  cut(): void {
    this.#state |= ENDED;
    this.code = STATUS.RESOURCE_EXHAUSTED;
    this.channel.method.cut?.();
    const { machine } = this.#connection;
    machine.reset(this.stream, ERROR.ENHANCE_YOUR_CALM, "the subscriber does not keep up");
  }

  end(error?: GrpcError): void {
    if (this.closed) return;
    this.#connection.sendPending();
    if (this.closed) return;
    this.#state |= ENDED;
    this.code = error?.code ?? STATUS.OK;
    const { machine } = this.#connection;
    const stream = this.stream;
    const trailers = error ? trailersOf(error) : ENDED_WELL;
    if (stream.answered) machine.sendHeaders(stream, trailers, true);
    else machine.sendHeaders(stream, [...ANSWER, ...trailers], true);
    this.#stopRequest();
  }

  /** An answer that is whole needs no more of the request (RFC 9113 §8.1). */
  #stopRequest(): void {
    const stream = this.stream;
    if (!stream.closed && !stream.remoteEnded)
      this.#connection.machine.reset(stream, ERROR.NO_ERROR, "answered");
  }
}
