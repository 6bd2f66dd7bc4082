// A gRPC server (h2c): unary and server-streaming methods of src/api. TLS is the mesh's matter: the pod's own proxy ends
// it in front of this port. On our own HTTP/2, because node:http2 takes 5.5 KB for each open stream, and a proxy holds
// one for everything that it talks to.
import { type AddressInfo, createServer, type Server } from "node:net";
import { decode, type Message, type Method, type Partially, WireError } from "../api/codec.ts";
import { GrpcError, STATUS } from "../api/grpc-status.ts";
import type { Logger } from "../log/logger.ts";
import type { Registry } from "../metrics/registry.ts";
import { type Clock, systemClock, type Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";
import type { GrpcCall, Handled, Sender } from "./grpc-call.ts";
import { type ConnectionOwner, GrpcConnection } from "./grpc-connection.ts";

export { encodeFrame, type Sender } from "./grpc-call.ts";

export interface GrpcServerOptions {
  readonly log: Logger;
  readonly registry: Registry;
  readonly clock?: Clock;
  /** A request message above this is refused, bytes. Default 64 KiB. */
  readonly maxRequest?: number;
  /** A stream or connection whose unsent messages exceed this is cut, bytes. Default 32 MiB: 100,000 endpoints told at once. */
  readonly maxQueued?: number;
  /** Streams of one connection. Default 10,000: a proxy multiplexes all its look-ups. */
  readonly maxStreams?: number;
  /** Connections at once. Default 20,000. */
  readonly maxConnections?: number;
}

/** How often connections are looked over for what does not go on, ms. */
const SWEEP_INTERVAL = 5_000;
/** Calls under way may take this long once the server is asked to close, ms. */
const CLOSE_GRACE = 2_000;
const DURATIONS = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600];

const shortName = (path: string) => path.slice(path.lastIndexOf("/") + 1);

export class GrpcServer implements ConnectionOwner {
  readonly clock: Clock;
  readonly maxRequest: number;
  readonly maxQueued: number;
  readonly maxStreams: number;
  readonly #maxConnections: number;
  readonly #log: Logger;
  readonly #registry: Registry;
  readonly #methods = new Map<string, Handled>();
  readonly #server: Server;
  readonly #connections = new Set<GrpcConnection>();
  readonly #streams = new Set<Sender<never>>();
  #sweeper: Timer | undefined;

  constructor(options: GrpcServerOptions) {
    const { log, registry } = options;
    this.#log = log;
    this.#registry = registry;
    this.clock = options.clock ?? systemClock;
    this.maxRequest = options.maxRequest ?? 64 * 1024;
    this.maxQueued = options.maxQueued ?? 32 * 1024 * 1024;
    this.maxStreams = options.maxStreams ?? 10_000;
    this.#maxConnections = options.maxConnections ?? 20_000;
    this.#server = createServer((socket) => {
      if (this.#connections.size >= this.#maxConnections) socket.destroy();
      else this.#connections.add(new GrpcConnection(socket, this));
    });
    const open = registry.gauge("grpc_server_connections", "Open connections of proxies.").labels();
    registry.onCollect(() => open.set(this.#connections.size));
  }

  /** A method with one answer. What it throws other than GrpcError is our bug, and told as Internal. */
  unary<Q, R>(method: Method<Q, R>, handle: (request: Q) => Promise<Partially<R>> | Partially<R>): void {
    const count = this.#counter(method.path);
    this.#methods.set(method.path, {
      path: method.path,
      response: method.response as Message<unknown>,
      begin: (call, bytes) => {
        const request = decode(method.request, bytes);
        Promise.resolve()
          .then(() => handle(request))
          .then(
            (answer) => {
              call.send(answer as object);
              call.end();
            },
            (error) => call.end(this.statusOf(error, method.path)),
          );
      },
      ended: count,
    });
  }

  /** A method with a stream of answers; `handle` keeps the sender and feeds it until it is closed. */
  stream<Q, R>(method: Method<Q, R>, handle: (request: Q, sender: Sender<R>) => void): void {
    const labels = { method: shortName(method.path) };
    const open = this.#registry.gauge("grpc_server_streams", "Open server streams.").labels(labels);
    const cut = this.#registry
      .counter("grpc_server_streams_cut_total", "Streams cut because they did not keep up.")
      .labels(labels);
    const count = this.#counter(method.path);
    this.#methods.set(method.path, {
      path: method.path,
      response: method.response as Message<unknown>,
      begin: (call, bytes) => {
        this.#streams.add(call as Sender<never>);
        open.inc();
        handle(decode(method.request, bytes), call as Sender<R>);
      },
      ended: (call) => {
        if (this.#streams.delete(call as Sender<never>)) open.dec();
        count(call);
      },
      cut: () => cut.inc(),
    });
  }

  async listen(port: number, host?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, resolve);
    });
    this.#sweep();
    return (this.#server.address() as AddressInfo).port;
  }

  #sweep(): void {
    this.#sweeper = this.clock.after(SWEEP_INTERVAL, () => {
      const now = this.clock.monotonic();
      for (const connection of [...this.#connections]) connection.sweep(now);
      this.#sweep();
    });
  }

  /** GOAWAY and the end of its streams to every proxy, which then asks another replica; unary calls may finish. */
  async close(): Promise<void> {
    this.clock.clear(this.#sweeper);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.goAway();
    for (const stream of this.#streams)
      stream.end(new GrpcError(STATUS.UNAVAILABLE, "the server is shutting down"));
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, CLOSE_GRACE);
    await closed;
    clearTimeout(timer);
  }

  // ---- what connections and calls ask ----

  methodAt(path: string): Handled | undefined {
    return this.#methods.get(path);
  }

  statusOf(error: unknown, path: string): GrpcError {
    if (error instanceof GrpcError) return error;
    if (error instanceof WireError) return new GrpcError(STATUS.INVALID_ARGUMENT, error.message);
    this.#log.error("a call failed", { path, error: errorMessage(error) });
    return new GrpcError(STATUS.INTERNAL, "internal error");
  }

  onConnectionEnd(connection: GrpcConnection): void {
    this.#connections.delete(connection);
  }

  /** Counts the calls of a method as they end. */
  #counter(path: string): (call: GrpcCall) => void {
    const method = shortName(path);
    const handled = this.#registry.counter("grpc_server_handled_total", "Calls that ended, by status code.");
    const duration = this.#registry
      .histogram("grpc_server_handling_seconds", "How long calls took.", DURATIONS)
      .labels({ method });
    return ({ code, began }) => {
      handled.labels({ method, code }).inc();
      duration.observe((this.clock.monotonic() - began) / 1000);
    };
  }
}
