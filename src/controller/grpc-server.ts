// A gRPC server (h2c) on node:http2: unary and server-streaming methods of src/api. TLS is the mesh's matter: the
// pod's own proxy ends it in front of this port.
import {
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { decode, encode, type Message, type Method, type Partially, WireError } from "../api/codec.ts";
import { Deframer, frame, GrpcFrameError } from "../api/grpc-frame.ts";
import { GrpcError, STATUS } from "../api/grpc-status.ts";
import { grpcTimeoutMs } from "../api/grpc-timeout.ts";
import type { Logger } from "../log/logger.ts";
import type { Registry } from "../metrics/registry.ts";
import { errorMessage } from "../util/error.ts";

/** One server stream, held by the producer of its messages. */
export interface Sender<T> {
  /** Queues a message; one that goes to many is encoded once and must not change. A subscriber that does not keep up is cut: it will ask again and get the full state. */
  send(message: Partially<T>): void;
  end(error?: GrpcError): void;
  readonly closed: boolean;
  onClose(fn: () => void): void;
}

export interface GrpcServerOptions {
  readonly log: Logger;
  readonly registry: Registry;
  /** A request message above this is refused, bytes. Default 64 KiB. */
  readonly maxRequest?: number;
  /** A stream whose unsent messages exceed this is cut, bytes. Default 32 MiB: 100,000 endpoints told at once. */
  readonly maxQueued?: number;
  /** Streams of one connection. Default 10,000: a proxy multiplexes all its look-ups. */
  readonly maxStreams?: number;
  /** Connections at once. Default 20,000. */
  readonly maxConnections?: number;
}

type Handler = (stream: ServerHttp2Stream, request: Buffer) => void;

/** Time within which the whole request message must arrive, ms. */
const REQUEST_TIMEOUT = 10_000;
/** Connections are asked for a sign of life this often, ms. */
const PING_INTERVAL = 10_000;
/** Calls under way may take this long once the server is asked to close, ms. */
const CLOSE_GRACE = 2_000;
/** Messages for the caller are cut to this many characters: they travel in a header. */
const MAX_MESSAGE = 1_000;

export class GrpcServer {
  readonly #handlers = new Map<string, Handler>();
  readonly #options: Required<GrpcServerOptions>;
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #streams = new Set<Sender<never>>();

  constructor(options: GrpcServerOptions) {
    this.#options = {
      maxRequest: 64 * 1024,
      maxQueued: 32 * 1024 * 1024,
      maxStreams: 10_000,
      maxConnections: 20_000,
      ...options,
    };
    this.#server = createServer({
      maxSessionMemory: 64,
      settings: {
        maxConcurrentStreams: this.#options.maxStreams,
        maxHeaderListSize: 16 * 1024,
        enablePush: false,
      },
    });
    this.#server.on("session", (session) => this.#welcome(session));
    this.#server.on("stream", (stream, headers) => this.#dispatch(stream, headers));
    const open = options.registry.gauge("grpc_server_connections", "Open connections of proxies.").labels();
    options.registry.onCollect(() => open.set(this.#sessions.size));
  }

  /** A method with one answer. What it throws other than GrpcError is our bug, and told as Internal. */
  unary<Q, R>(method: Method<Q, R>, handle: (request: Q) => Promise<Partially<R>> | Partially<R>): void {
    this.#add(method, (stream, body) => {
      const sender = new StreamSender<R>(stream, method.response, this.#options.maxQueued);
      const started = performance.now();
      Promise.resolve()
        .then(() => handle(decode(method.request, body)))
        .then(
          (answer) => {
            sender.send(answer);
            sender.end();
            this.#count(method.path, STATUS.OK, started);
          },
          (error) => {
            const status = this.#statusOf(error, method.path);
            sender.end(status);
            this.#count(method.path, status.code, started);
          },
        );
    });
  }

  /** A method with a stream of answers; `handle` keeps the sender and feeds it until it is closed. */
  stream<Q, R>(method: Method<Q, R>, handle: (request: Q, sender: Sender<R>) => void): void {
    const { registry } = this.#options;
    const labels = { method: method.path.slice(method.path.lastIndexOf("/") + 1) };
    const open = registry.gauge("grpc_server_streams", "Open server streams.").labels(labels);
    const cut = registry
      .counter("grpc_server_streams_cut_total", "Streams cut because they did not keep up.")
      .labels(labels);
    this.#add(method, (stream, body) => {
      const started = performance.now();
      const sender = new StreamSender<R>(stream, method.response, this.#options.maxQueued, () => cut.inc());
      open.inc();
      this.#streams.add(sender);
      sender.onClose(() => {
        open.dec();
        this.#streams.delete(sender);
        this.#count(method.path, sender.code, started);
      });
      try {
        handle(decode(method.request, body), sender);
      } catch (error) {
        sender.end(this.#statusOf(error, method.path));
      }
    });
  }

  async listen(port: number, host?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** GOAWAY and the end of its streams to every proxy, which then asks another replica; unary calls may finish. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const stream of this.#streams)
      stream.end(new GrpcError(STATUS.UNAVAILABLE, "the server is shutting down"));
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => {
      for (const session of this.#sessions) session.destroy();
    }, CLOSE_GRACE);
    await closed;
    clearTimeout(timer);
  }

  #add<Q, R>(method: Method<Q, R>, handler: Handler): void {
    this.#handlers.set(method.path, handler);
  }

  #statusOf(error: unknown, path: string): GrpcError {
    if (error instanceof GrpcError) return error;
    if (error instanceof WireError) return new GrpcError(STATUS.INVALID_ARGUMENT, error.message);
    this.#options.log.error("a call failed", { path, error: errorMessage(error) });
    return new GrpcError(STATUS.INTERNAL, "internal error");
  }

  #count(path: string, code: number, started: number): void {
    const labels = { method: path.slice(path.lastIndexOf("/") + 1), code };
    this.#options.registry
      .counter("grpc_server_handled_total", "Calls that ended, by status code.")
      .labels(labels)
      .inc();
    this.#options.registry
      .histogram(
        "grpc_server_handling_seconds",
        "How long calls took.",
        [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
      )
      .labels({ method: labels.method })
      .observe((performance.now() - started) / 1000);
  }

  #welcome(session: ServerHttp2Session): void {
    if (this.#sessions.size >= this.#options.maxConnections) {
      session.destroy();
      return;
    }
    this.#sessions.add(session);
    let answered = true;
    // A proxy that vanished without a FIN would hold its streams for ever.
    const timer = setInterval(() => {
      if (!answered) return session.destroy();
      answered = false;
      try {
        session.ping(() => {
          answered = true;
        });
      } catch {
        session.destroy();
      }
      return undefined;
    }, PING_INTERVAL);
    timer.unref();
    session.on("error", (error) =>
      this.#options.log.debug("connection failed", { error: errorMessage(error) }),
    );
    session.on("close", () => {
      clearInterval(timer);
      this.#sessions.delete(session);
    });
  }

  #dispatch(stream: ServerHttp2Stream, headers: Record<string, unknown>): void {
    stream.on("error", () => {});
    const path = String(headers[":path"]);
    const handler = this.#handlers.get(path);
    if (headers[":method"] !== "POST" || !String(headers["content-type"]).startsWith("application/grpc")) {
      stream.respond({ ":status": 415 }, { endStream: true });
      return;
    }
    if (!handler) {
      refuse(stream, STATUS.UNIMPLEMENTED, `no such method: ${path}`);
      return;
    }
    const deframer = new Deframer(this.#options.maxRequest);
    const timer = setTimeout(
      () => refuse(stream, STATUS.DEADLINE_EXCEEDED, "the request did not arrive"),
      REQUEST_TIMEOUT,
    );
    const deadline = grpcTimeoutMs(headers["grpc-timeout"]?.toString());
    const expiry =
      deadline === undefined
        ? undefined
        : setTimeout(() => stream.emit(EXPIRED), Math.min(deadline, MAX_TIMER));
    stream.on("close", () => {
      clearTimeout(timer);
      clearTimeout(expiry);
    });
    let handled = false;
    stream.on("data", (chunk: Buffer) => {
      // What follows the one message, or a refusal, is read and dropped.
      if (handled) return;
      try {
        const [message] = deframer.push(chunk);
        if (!message) return;
        handled = true;
        clearTimeout(timer);
        handler(stream, message);
      } catch (error) {
        handled = true;
        refuse(
          stream,
          STATUS.RESOURCE_EXHAUSTED,
          error instanceof GrpcFrameError ? error.message : "bad request",
        );
      }
    });
    stream.on("end", () => {
      if (!handled) refuse(stream, STATUS.INVALID_ARGUMENT, "expected one request message");
    });
  }
}

/** Told on a stream whose caller waits no longer. */
const EXPIRED = Symbol("expired");
/** Longer timers fire at once in Node, ms. */
const MAX_TIMER = 2 ** 31 - 1;

/** grpc-message: percent-encoded, and short. The detour over bytes mends a character that the cut halved. */
const messageHeader = (message: string): string =>
  encodeURIComponent(Buffer.from(message.slice(0, MAX_MESSAGE), "utf8").toString("utf8"));

/** An answer of trailers only. */
function refuse(stream: ServerHttp2Stream, code: number, message: string): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc",
      "grpc-status": String(code),
      "grpc-message": messageHeader(message),
    },
    { endStream: true },
  );
}

const FRAMES = new WeakMap<object, Buffer>();

function framed<R>(type: Message<R>, message: object): Buffer {
  const known = FRAMES.get(message);
  if (known) return known;
  const made = frame(encode(type, message as Partially<R>));
  FRAMES.set(message, made);
  return made;
}

class StreamSender<R> implements Sender<R> {
  readonly #stream: ServerHttp2Stream;
  readonly #type: Message<R>;
  readonly #maxQueued: number;
  readonly #onCut: (() => void) | undefined;
  #ended: GrpcError | true | undefined;
  /** How the call ended. */
  code: number = STATUS.CANCELLED;

  constructor(stream: ServerHttp2Stream, type: Message<R>, maxQueued: number, onCut?: () => void) {
    this.#stream = stream;
    this.#type = type;
    this.#maxQueued = maxQueued;
    this.#onCut = onCut;
    stream.on(EXPIRED, () =>
      this.end(new GrpcError(STATUS.DEADLINE_EXCEEDED, "the caller's deadline has passed")),
    );
  }

  get closed(): boolean {
    return this.#ended !== undefined || this.#stream.destroyed;
  }

  onClose(fn: () => void): void {
    this.#stream.on("close", fn);
  }

  send(message: Partially<R>): void {
    if (this.closed) return;
    this.#open();
    this.#stream.write(framed(this.#type, message as object));
    if (this.#stream.writableLength > this.#maxQueued) {
      this.#ended = true;
      this.code = STATUS.RESOURCE_EXHAUSTED;
      this.#onCut?.();
      this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }
  }

  end(error?: GrpcError): void {
    if (this.closed) return;
    this.#ended = error ?? true;
    this.code = error?.code ?? STATUS.OK;
    if (error && !this.#stream.headersSent) refuse(this.#stream, error.code, error.message);
    else {
      this.#open();
      this.#stream.end();
    }
  }

  #open(): void {
    if (this.#stream.headersSent) return;
    this.#stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    this.#stream.on("wantTrailers", () => {
      const error = this.#ended instanceof GrpcError ? this.#ended : undefined;
      this.#stream.sendTrailers({
        "grpc-status": String(error?.code ?? STATUS.OK),
        ...(error ? { "grpc-message": messageHeader(error.message) } : {}),
      });
    });
  }
}
