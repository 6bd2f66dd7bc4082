// Requests over one HTTP/2 connection on a socket: whole bodies out, responses in as they come, kept alive by PING.
import type { Duplex } from "node:stream";
import type { Http2Connection } from "../../http2/connection.ts";
import { ERROR } from "../../http2/frame.ts";
import type { Header } from "../../http2/hpack.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "../../http2/stream.ts";
import type { Clock } from "../../util/clock.ts";
import { ClientSession } from "./client-session.ts";

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
  readonly #session: ClientSession;
  readonly #connection: Http2Connection;

  constructor(socket: Duplex, options: Http2ClientOptions) {
    const { clock, keepAliveInterval: interval, keepAliveTimeout: timeout } = options;
    this.#session = new ClientSession(
      socket,
      {
        clock,
        keepAlive: { interval, timeout, whileIdle: true },
        streamWindow: STREAM_WINDOW,
        connectionWindow: CONNECTION_WINDOW,
      },
      {
        onRoom: () => options.onRoom?.(),
        onWrite: () => {},
        onFinished: (failure) => options.onClose(failure),
      },
    );
    this.#connection = this.#session.machine;
    socket.on("data", (chunk: Buffer) => this.#session.receive(chunk));
    socket.on("drain", () => this.#session.drained());
    socket.on("error", (error) => this.#session.lose(error.message));
    socket.on("end", () => this.#session.lose("connection ended by the peer"));
    socket.on("close", () => this.#session.lose("connection closed by the peer"));
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
}
