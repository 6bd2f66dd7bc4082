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
  /** Body that waits for room, and its size, bytes. */
  queue: BodyQueue | undefined;
  queued = 0;
  /** What follows the queue: nothing yet, the end, or trailers. */
  after: "more" | "end" | readonly Header[] = "more";
  waiting = false;
  /**
   * Since when the peer lets us send nothing of what waits, or next to nothing, whole ms, monotonic; -1 while nothing
   * waits. (A small integer needs no memory of its own.)
   */
  stalledSince = -1;
  /** Bytes sent since then. */
  progress = 0;
  /** The peer is asked to stop once all of our message has been sent. */
  unwanted = false;
  /** When the peer began it, whole ms, monotonic; on servers. */
  readonly begun: number;
  /** Our headers have been sent. */
  answered = false;
  /** Which halves have ended, and whether the message's headers came. */
  localEnded = false;
  remoteEnded = false;
  headed = false;
  closed = false;
  /** Body length announced and not yet received, undefined without an announcement. */
  expected: number | undefined;
  /** Our own request, on clients: what its answer's content-length says of the body depends on it. */
  isHead = false;
  isConnect = false;

  constructor(id: number, sendWindow: number, receiveWindow: number, begun: number) {
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.window = receiveWindow;
    this.begun = begun;
  }
}
