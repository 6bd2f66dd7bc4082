// Requests over one HTTP/2 connection on a socket: whole bodies out, responses in as they come, kept alive by PING.
import type { Duplex } from "node:stream";
import type { Clock, Timer } from "../../util/clock.ts";
import { Http2Connection } from "./connection.ts";
import { ERROR } from "./frame.ts";
import type { Header } from "./hpack.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "./stream.ts";

/** What becomes of a request. `onClose` comes exactly once, last. */
export interface ResponseHandler {
  onHeaders(headers: readonly Header[]): void;
  /** The chunk is the handler's own. */
  onData(chunk: Buffer): void;
  onTrailers(headers: readonly Header[]): void;
  /** `error` is undefined when the response ended as it should. */
  onClose(error: Http2Failure | undefined): void;
}

export interface Http2ClientOptions {
  readonly clock: Clock;
  /** A PING is sent when nothing came for this long, ms. */
  readonly keepAliveInterval: number;
  /** The connection is given up when nothing came for this long after a PING, ms. */
  readonly keepAliveTimeout: number;
  /** There may be room for a request that found none. */
  readonly onRoom?: () => void;
  /** The connection is no longer usable: no new requests. Comes once. */
  readonly onClose: (error: Http2Failure | undefined) => void;
}

/** Room for what the peer sends before we have used it: 100,000 endpoints come at once, and are used at once. */
const STREAM_WINDOW = 256 * 1024;
const CONNECTION_WINDOW = 1024 * 1024;

export class Http2Client {
  readonly #socket: Duplex;
  readonly #options: Http2ClientOptions;
  readonly #connection: Http2Connection;
  #heard: number;
  #timer: Timer | undefined;

  constructor(socket: Duplex, options: Http2ClientOptions) {
    this.#socket = socket;
    this.#options = options;
    const { clock } = options;
    this.#connection = new Http2Connection(
      {
        write: (bytes) => socket.write(bytes),
        onStream: () => {
          throw new Error("a client is not sent requests");
        },
        onRoom: () => options.onRoom?.(),
        onEnd: (failure) => this.#ended(failure),
      },
      {
        side: "client",
        now: clock.monotonic,
        streamWindow: STREAM_WINDOW,
        connectionWindow: CONNECTION_WINDOW,
        maxStreams: 0,
      },
    );
    this.#heard = clock.monotonic();
    socket.on("data", (chunk: Buffer) => {
      this.#heard = clock.monotonic();
      this.#connection.receive(chunk);
    });
    const lost = (reason: string) => this.#connection.abort(new Http2Failure(reason, ERROR.CONNECT_ERROR));
    socket.on("error", (error) => lost(error.message));
    socket.on("end", () => lost("connection ended by the peer"));
    socket.on("close", () => lost("connection closed by the peer"));
    this.#listen(options.keepAliveInterval);
  }

  /** Whether a request can be made now. */
  get available(): boolean {
    return this.#connection.available;
  }

  /** Whether requests can be made, now or once others have ended. */
  get lasting(): boolean {
    return this.#connection.lasting;
  }

  get active(): number {
    return this.#connection.active;
  }

  /**
   * Sends a request with its whole body.
   * @returns cancels it; its handler is then closed with CANCEL
   */
  request(headers: readonly Header[], body: Buffer, handler: ResponseHandler): () => void {
    const connection = this.#connection;
    if (!connection.available) {
      queueMicrotask(() =>
        handler.onClose(new Http2Failure("connection not available", ERROR.REFUSED_STREAM, true)),
      );
      return () => {};
    }
    let stream: Http2Stream | undefined;
    let complete = false;
    const finish = () => {
      complete = true;
      // An answer before we said all: the rest is of no interest to the peer.
      if (stream && !stream.localEnded) connection.reset(stream, ERROR.NO_ERROR);
    };
    const inner: StreamHandler = {
      onHeaders: (list, end) => {
        handler.onHeaders(list);
        if (end) finish();
      },
      onData: (chunk, end) => {
        if (chunk.length > 0) handler.onData(chunk);
        if (end) finish();
        else connection.consume(stream!, chunk.length);
      },
      onTrailers: (list) => {
        handler.onTrailers(list);
        finish();
      },
      onClose: (error) => handler.onClose(complete ? undefined : error),
    };
    connection.batch(() => {
      stream = connection.open(headers, body.length === 0, inner);
      if (body.length > 0) connection.sendData(stream, body, true);
    });
    return () => connection.reset(stream!, ERROR.CANCEL, "cancelled");
  }

  /** Takes no more requests; ends when those under way have ended. */
  close(): void {
    this.#connection.goAway();
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#connection.abort(new Http2Failure("connection closed", ERROR.CANCEL));
  }

  #ended(failure: Http2Failure | undefined): void {
    const { clock, onClose } = this.#options;
    clock.clear(this.#timer);
    // The last words are sent, the peer's are of no interest; and whoever does not take ours is not waited for.
    this.#socket.end(() => this.#socket.destroy());
    clock.after(1_000, () => this.#socket.destroy());
    onClose(failure);
  }

  /** Looks after `ms` whether the peer was heard of; asks it when it was not. */
  #listen(ms: number): void {
    const { clock, keepAliveInterval, keepAliveTimeout } = this.#options;
    this.#timer = clock.after(ms, () => {
      const silence = clock.monotonic() - this.#heard;
      if (silence < keepAliveInterval) {
        this.#listen(keepAliveInterval - silence);
        return;
      }
      const asked = clock.monotonic();
      this.#connection.ping();
      this.#timer = clock.after(keepAliveTimeout, () => {
        if (this.#heard < asked)
          this.#connection.abort(new Http2Failure("no answer to PING", ERROR.CONNECT_ERROR));
        else this.#listen(keepAliveInterval);
      });
    });
  }
}
