// One exchange on an HTTP/2 connection: its state, and what hears of it.
import type { BodyQueue } from "./body-queue.ts";
import type { Header } from "./hpack.ts";

/** Why a stream or a connection failed. */
export class Http2Failure extends Error {
  /** An HTTP/2 error code. */
  readonly code: number;
  /** The peer did not process the request: it may be sent again elsewhere. */
  readonly unprocessed: boolean;
  /** The peer reset this stream, and only this one. */
  readonly reset: boolean;
  constructor(message: string, code: number, unprocessed = false, reset = false) {
    super(message);
    this.name = "Http2Failure";
    this.code = code;
    this.unprocessed = unprocessed;
    this.reset = reset;
  }
}

/** What becomes of one stream. `onClose` comes exactly once, last. */
export interface StreamHandler {
  /** The message's headers: of the request on a server, of the final response on a client. */
  onHeaders(headers: readonly Header[], end: boolean): void;
  /**
   * A view of received bytes, valid only during the call; `sendData` of another connection takes it as it is. Bytes
   * count against the window until they are given to `consume`. A frame may come in several pieces.
   */
  onData(chunk: Buffer, end: boolean): void;
  /** Trailers end the message. */
  onTrailers(headers: readonly Header[]): void;
  /** A response of 1xx, before the final one. */
  onInformational?(headers: readonly Header[]): void;
  /** All that was queued by `sendData` has been sent. */
  onDrain?(): void;
  /** `error` is undefined when both messages ended as they should. */
  onClose(error: Http2Failure | undefined): void;
}

/** What is true of a stream or not, in one word: a controller holds hundreds of thousands of them. */
const WAITING = 1 << 0;
const UNWANTED = 1 << 1;
const ANSWERED = 1 << 2;
const LOCAL_ENDED = 1 << 3;
const REMOTE_ENDED = 1 << 4;
const HEADED = 1 << 5;
const CLOSED = 1 << 6;
const IS_HEAD = 1 << 7;
const IS_CONNECT = 1 << 8;

/** One exchange. Opaque to its holder, who passes it back to the connection. */
export class Http2Stream {
  readonly id: number;
  handler!: StreamHandler;
  /** Bytes that we may send; below zero after the peer made its window smaller. */
  sendWindow: number;
  /** Bytes that the peer may send. */
  receiveWindow: number;
  /** Bytes that it may have on the way: grows while all that comes is consumed. */
  window: number;
  /** Bytes received and not yet consumed; and those consumed for which the peer has no new room yet. */
  held = 0;
  consumed = 0;
  /** Body that waits for room; undefined while none does. */
  queue: BodyQueue | undefined;
  /** What follows the queue: nothing yet, the end, or trailers. */
  after: "more" | "end" | readonly Header[] = "more";
  /** When the peer began it, whole ms, monotonic; on servers. (A small integer needs no memory of its own.) */
  readonly begun: number;
  /** Body length announced and not yet received, undefined without an announcement. */
  expected: number | undefined;
  #bits = 0;

  constructor(id: number, sendWindow: number, receiveWindow: number, begun: number) {
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.window = receiveWindow;
    this.begun = begun;
  }

  /** Bytes of body that wait for room. */
  get queued(): number {
    return this.queue === undefined ? 0 : this.queue.size;
  }

  /** Since when the peer lets us send nothing of what waits, or next to nothing, whole ms, monotonic; -1: nothing waits. */
  get stalledSince(): number {
    return this.queue === undefined ? -1 : this.queue.stalledSince;
  }

  /** Its handler is to be told when nothing is queued any more. */
  get waiting(): boolean {
    return (this.#bits & WAITING) !== 0;
  }
  set waiting(is: boolean) {
    this.#bits = is ? this.#bits | WAITING : this.#bits & ~WAITING;
  }

  /** The peer is asked to stop once all of our message has been sent. */
  get unwanted(): boolean {
    return (this.#bits & UNWANTED) !== 0;
  }
  set unwanted(is: boolean) {
    this.#bits = is ? this.#bits | UNWANTED : this.#bits & ~UNWANTED;
  }

  /** Our headers have been sent. */
  get answered(): boolean {
    return (this.#bits & ANSWERED) !== 0;
  }
  set answered(is: boolean) {
    this.#bits = is ? this.#bits | ANSWERED : this.#bits & ~ANSWERED;
  }

  /** Which halves have ended, and whether the message's headers came. */
  get localEnded(): boolean {
    return (this.#bits & LOCAL_ENDED) !== 0;
  }
  set localEnded(is: boolean) {
    this.#bits = is ? this.#bits | LOCAL_ENDED : this.#bits & ~LOCAL_ENDED;
  }
  get remoteEnded(): boolean {
    return (this.#bits & REMOTE_ENDED) !== 0;
  }
  set remoteEnded(is: boolean) {
    this.#bits = is ? this.#bits | REMOTE_ENDED : this.#bits & ~REMOTE_ENDED;
  }
  get headed(): boolean {
    return (this.#bits & HEADED) !== 0;
  }
  set headed(is: boolean) {
    this.#bits = is ? this.#bits | HEADED : this.#bits & ~HEADED;
  }

  get closed(): boolean {
    return (this.#bits & CLOSED) !== 0;
  }
  set closed(is: boolean) {
    this.#bits = is ? this.#bits | CLOSED : this.#bits & ~CLOSED;
  }

  /** Our own request, on clients: what its answer's content-length says of the body depends on it. */
  get isHead(): boolean {
    return (this.#bits & IS_HEAD) !== 0;
  }
  set isHead(is: boolean) {
    this.#bits = is ? this.#bits | IS_HEAD : this.#bits & ~IS_HEAD;
  }
  get isConnect(): boolean {
    return (this.#bits & IS_CONNECT) !== 0;
  }
  set isConnect(is: boolean) {
    this.#bits = is ? this.#bits | IS_CONNECT : this.#bits & ~IS_CONNECT;
  }
}
