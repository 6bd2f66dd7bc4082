// A gRPC server (h2c): unary and server-streaming methods of src/api. TLS is the mesh's matter: the pod's own proxy ends
// it in front of this port. On our own HTTP/2, because node:http2 takes 5.5 KB for each open stream, and a proxy holds
// one for everything that it talks to.
import { type AddressInfo, createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { decode, type Message, type Method, type Partially, WireError } from "../api/codec.ts";
import { GrpcError, STATUS } from "../api/grpc-status.ts";
import type { Logger } from "../log/logger.ts";
import type { Registry } from "../metrics/registry.ts";
import { type Clock, systemClock, type Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";
import type { GrpcCall, Handled, Sender } from "./grpc-call.ts";
import { type ConnectionOwner, GrpcConnection } from "./grpc-connection.ts";

export { encodeFrame, type Sender } from "./grpc-call.ts";
export type { Channel } from "./grpc-channel.ts";

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
/** A handover takes this long a stream, within these bounds, ms: no more than 200 streams a second ask elsewhere. */
const HANDOVER = { aStream: 5, least: 1_000, most: 10_000 };
/** Streams are sent away in turns of this length, ms. */
const HANDOVER_TURN = 50;
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
  #sweeper: Timer | undefined;
  #draining = false;
  #closed = false;

  constructor(options: GrpcServerOptions) {
    const { log, registry } = options;
    this.#log = log;
    this.#registry = registry;
    this.clock = options.clock ?? systemClock;
    this.maxRequest = options.maxRequest ?? 64 * 1024;
    this.maxQueued = options.maxQueued ?? 32 * 1024 * 1024;
    this.maxStreams = options.maxStreams ?? 10_000;
    this.#maxConnections = options.maxConnections ?? 20_000;
    this.#server = createServer({ noDelay: true }, (socket) => this.accept(socket));
    const gauge = (name: string, help: string) => registry.gauge(name, help).labels();
    const open = gauge("grpc_server_connections", "Open connections of proxies.");
    const draining = gauge("grpc_server_draining", "1 while this replica hands its streams over to others.");
    const queued = gauge(
      "grpc_server_queued_bytes",
      "Bytes of messages that subscribers have not taken yet.",
    );
    const most = gauge("grpc_server_queued_bytes_max", "Those of the subscriber that is furthest behind.");
    registry.onCollect(() => {
      open.set(this.#connections.size);
      draining.set(this.#draining ? 1 : 0);
      let [sum, max] = [0, 0];
      for (const { queued } of this.#streams()) {
        sum += queued;
        max = Math.max(max, queued);
      }
      queued.set(sum);
      most.set(max);
    });
  }

  /** A method with one answer. What it throws other than GrpcError is our bug, and told as Internal. */
  unary<Q, R>(method: Method<Q, R>, handle: (request: Q) => Promise<Partially<R>> | Partially<R>): void {
    const count = this.#counter(method.path);
    this.#methods.set(method.path, {
      path: method.path,
      response: method.response as Message<unknown>,
      streams: false,
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
    const sent = this.#registry
      .counter("grpc_server_messages_sent_total", "Messages sent on server streams.")
      .labels(labels);
    const count = this.#counter(method.path);
    this.#methods.set(method.path, {
      path: method.path,
      response: method.response as Message<unknown>,
      streams: true,
      begin: (call, bytes) => {
        open.inc();
        handle(decode(method.request, bytes), call as Sender<R>);
      },
      ended: (call) => {
        if (call.streams) open.dec();
        count(call);
      },
      sent: () => sent.inc(),
      cut: () => cut.inc(),
    });
  }

  async listen(port: number, host?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** A connection of a client that speaks HTTP/2, however it came here. */
  accept(socket: Duplex): void {
    if (this.#closed || this.#connections.size >= this.#maxConnections) {
      socket.destroy();
      return;
    }
    this.#connections.add(new GrpcConnection(socket, this));
    if (!this.#sweeper) this.#sweep();
  }

  #sweep(): void {
    this.#sweeper = this.clock.after(SWEEP_INTERVAL, () => {
      const now = this.clock.monotonic();
      for (const connection of [...this.#connections]) connection.sweep(now);
      this.#sweep();
    });
  }

  /**
   * Before the end: asks the proxies to go to other replicas, one stream after another and in an order by chance, so that
   * they do not all come there at once. Calls that still come are served, and their streams sent away in their turn: what
   * proxies know, or ask for, does not wait for the handover. Resolves when it is over, within 10 s.
   */
  async drain(): Promise<void> {
    if (this.#draining || this.#connections.size === 0) return;
    this.#draining = true;
    const { aStream, least, most } = HANDOVER;
    const count = this.#streams().length;
    const window = Math.min(Math.max(count * aStream, least), most);
    const { clock } = this;
    const end = clock.monotonic() + window;
    this.#log.info("handing streams over", { streams: count, within_ms: window });
    // A client takes its next calls elsewhere; its streams here go on until they are ended.
    for (const connection of this.#connections) connection.goAway();
    for (;;) {
      const left = end - clock.monotonic();
      if (left <= 0) return;
      await new Promise<void>((resolve) => void clock.after(Math.min(HANDOVER_TURN, left), resolve));
      const share = HANDOVER_TURN / Math.max(end - clock.monotonic(), HANDOVER_TURN);
      for (const stream of chosen(this.#streams(), share, clock.random)) stream.end(leaving());
    }
  }

  /** GOAWAY and the end of its streams to every proxy, which then asks another replica; unary calls may finish. */
  async close(): Promise<void> {
    this.#closed = true;
    this.clock.clear(this.#sweeper);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.goAway();
    for (const stream of this.#streams()) stream.end(leaving());
    const timer = this.clock.after(CLOSE_GRACE, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    await closed;
    this.clock.clear(timer);
  }

  /** Those that are open. */
  #streams(): GrpcCall[] {
    return [...this.#connections].flatMap(({ calls }) => calls.filter(({ streams }) => streams));
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
      duration.observe((Math.floor(this.clock.monotonic()) - began) / 1000);
    };
  }
}

/** Proxies take UNAVAILABLE for a reason to ask elsewhere. */
const leaving = () => new GrpcError(STATUS.UNAVAILABLE, "this replica is leaving: ask another");

/** A share of the items, rounded up, by chance. */
function chosen<T>(items: T[], share: number, random: () => number): T[] {
  const count = Math.ceil(items.length * share);
  for (let at = 0; at < count; at += 1) {
    const from = at + Math.floor(random() * (items.length - at));
    [items[at], items[from]] = [items[from]!, items[at]!];
  }
  return items.slice(0, count);
}
