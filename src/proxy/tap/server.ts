// The tap port, 4190: io.linkerd.proxy.tap.Tap over mesh TLS, for the one identity that may tap.
//
//   accept → mesh TLS → identity → HTTP/2 → Observe → subscription → events until the limit, or the caller's end
import { createServer, type Server, type Socket } from "node:net";
import { Deframer, frame } from "../../api/grpc-frame.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { Observe } from "../../api/tap.ts";
import { Http2Connection } from "../../http2/connection.ts";
import { ERROR } from "../../http2/frame.ts";
import { KeepAlive } from "../../http2/keep-alive.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "../../http2/stream.ts";
import { TurnWriter } from "../../http2/turn-writer.ts";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Field } from "../http/message.ts";
import type { IdentitySource } from "../ports.ts";
import { terminateTls } from "../transport/terminate.ts";
import { type TapCounts, type TapSink, TapSubscription } from "./subscription.ts";
import type { Taps } from "./watch.ts";

export interface TapServerOptions {
  readonly host: string;
  readonly port: number;
  /** The identity that may tap. */
  readonly client: string;
  readonly identity: IdentitySource;
  readonly taps: Taps;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

export interface TapServer {
  readonly port: number;
  close(): void;
}

/** Connections at the same time, handshakes included. */
const MAX_CONNECTIONS = 32;
/** Calls at the same time on one of them. */
const MAX_STREAMS = 16;
/** A request for a tap, bytes. */
const MAX_REQUEST = 64 * 1024;
/** Events that wait for one tap, bytes. */
const MAX_WAITING = 1024 * 1024;
/** The whole request of a call must be here within this, ms. */
const REQUEST_TIMEOUT = 10_000;
/** A connection without calls is kept for this long, ms; of a caller that may not tap, for this. */
const IDLE_TIMEOUT = 60_000;
const REFUSED_TIMEOUT = 5_000;
/** A tap that takes no events for this long is ended, ms. */
const STALL_TIMEOUT = 60_000;
const KEEP_ALIVE = { interval: 10_000, timeout: 3_000, whileIdle: true };
const WINDOW = 65_535;
/** A peer that does not take our last words is not waited for longer than this, ms. */
const LAST_WORDS = 1_000;
const NOTHING = Buffer.alloc(0);

interface Context extends TapServerOptions {
  readonly counts: TapCounts;
  /** The number of the next tap. */
  nextBase: number;
}

/** @throws Error when the address cannot be listened on */
export async function listenTap(options: TapServerOptions): Promise<TapServer> {
  const { registry, taps, clock, identity, log } = options;
  const context: Context = {
    ...options,
    nextBase: 0,
    counts: {
      events: registry.counter("tap_events_total", "Events sent to taps.").labels(),
      dropped: registry
        .counter("tap_events_dropped_total", "Events and requests that taps did not get: they were too many.")
        .labels(),
    },
  };
  const open = registry.gauge("tap_subscriptions", "Taps that are under way.").labels();
  registry.onCollect(() => open.set(taps.size));
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true, pauseOnConnect: true }, (raw) => {
    sockets.add(raw);
    raw.on("close", () => sockets.delete(raw));
    raw.on("error", () => raw.destroy());
    const { current } = identity;
    if (!current) {
      raw.destroy();
      return;
    }
    terminateTls(
      raw,
      NOTHING,
      current,
      clock,
      (error, terminated) => {
        if (terminated) new TapConnection(terminated.socket, terminated.clientId, context).start();
        else log.debug("a connection to the tap port came to nothing", { error, client: raw.remoteAddress });
      },
      ["h2"],
    );
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  // Running out of descriptors fails one accept; the rest goes on.
  server.on("error", () => {});
  return {
    port: portOf(server),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const portOf = (server: Server): number => (server.address() as { port: number }).port;

class TapConnection {
  readonly machine: Http2Connection;
  readonly context: Context;
  /** Why the caller may not tap. */
  readonly refusal: GrpcError | undefined;
  readonly #socket: Socket;
  readonly #writer: TurnWriter;
  readonly #keepAlive: KeepAlive;
  readonly #calls = new Set<TapCall>();
  #idle: Timer | undefined;
  #stalls: Timer | undefined;

  constructor(socket: Socket, clientId: string | undefined, context: Context) {
    const { clock, client, log } = context;
    this.#socket = socket;
    this.context = context;
    this.refusal = refusalOf(clientId, client);
    if (this.refusal)
      log.warn("a tap was refused", { client_id: clientId, expected: client, peer: socket.remoteAddress });
    this.#writer = new TurnWriter(socket, () => this.machine.flush());
    this.machine = new Http2Connection(
      {
        write: (bytes) => this.#writer.write(bytes),
        onOutput: () => this.#writer.announce(),
        taken: () => this.#writer.taken,
        congested: () => this.#writer.congested,
        onStream: (stream) => {
          const call = new TapCall(this, stream);
          this.#calls.add(call);
          return call;
        },
        onEnd: () => this.#end(),
      },
      {
        side: "server",
        now: clock.monotonic,
        streamWindow: WINDOW,
        connectionWindow: WINDOW,
        maxStreams: MAX_STREAMS,
      },
    );
    const { machine } = this;
    this.#keepAlive = new KeepAlive(KEEP_ALIVE, clock, {
      get active() {
        return machine.active;
      },
      ping: () => machine.ping(),
      onSilence: () => this.#lose("no answer to PING"),
    });
    socket.on("data", (bytes: Buffer) => {
      this.#keepAlive.heard();
      machine.receive(bytes);
    });
    socket.on("end", () => this.#lose("connection ended by the caller"));
    socket.on("drain", () => this.#onDrain());
    socket.once("close", () => this.#lose("connection closed"));
  }

  start(): void {
    this.#watchIdle(this.refusal ? REFUSED_TIMEOUT : IDLE_TIMEOUT);
    this.#watchStalls();
    this.#socket.resume();
  }

  /** The socket has enough to do. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  forget(call: TapCall): void {
    this.#calls.delete(call);
  }

  #onDrain(): void {
    for (const call of this.#calls) call.flush();
  }

  #watchIdle(after: number): void {
    const { clock } = this.context;
    this.#idle = clock.after(after, () => {
      if (this.refusal) this.#lose("the caller may not tap");
      else if (this.machine.active > 0) this.#watchIdle(after);
      else this.machine.goAway();
    });
  }

  #watchStalls(): void {
    const { clock } = this.context;
    this.#stalls = clock.after(STALL_TIMEOUT / 4, () => {
      this.machine.dropStalled(clock.monotonic() - STALL_TIMEOUT);
      if (!this.machine.ended) this.#watchStalls();
    });
  }

  #lose(reason: string): void {
    this.machine.abort(new Http2Failure(reason, ERROR.CANCEL));
  }

  #end(): void {
    const { clock } = this.context;
    this.#keepAlive.stop();
    clock.clear(this.#idle);
    clock.clear(this.#stalls);
    const socket = this.#socket;
    if (socket.destroyed) return;
    this.#writer.flush();
    const timer = clock.after(LAST_WORDS, () => socket.destroy());
    socket.end(() => socket.destroy());
    socket.once("close", () => clock.clear(timer));
  }
}

function refusalOf(clientId: string | undefined, expected: string): GrpcError | undefined {
  if (clientId === expected) return undefined;
  if (clientId === undefined)
    return new GrpcError(STATUS.UNAUTHENTICATED, "taps need a client certificate of the mesh");
  return new GrpcError(STATUS.PERMISSION_DENIED, `${clientId} may not tap; ${expected} may`);
}

class TapCall implements StreamHandler, TapSink {
  readonly #connection: TapConnection;
  readonly #stream: Http2Stream;
  readonly #deframer = new Deframer(MAX_REQUEST);
  #timer: Timer | undefined;
  #subscription: TapSubscription | undefined;
  /** Events for which there was no room, and their size, bytes. */
  #waiting: Buffer[] = [];
  #waitingSize = 0;
  #writable = true;
  #finishing = false;
  #answered = false;

  constructor(connection: TapConnection, stream: Http2Stream) {
    this.#connection = connection;
    this.#stream = stream;
  }

  onHeaders(headers: readonly Field[], end: boolean): void {
    const { refusal, context } = this.#connection;
    const get = (wanted: string) => headers.find(([name]) => name === wanted)?.[1] ?? "";
    if (get(":method") !== "POST" || !get("content-type").startsWith("application/grpc")) {
      this.#answered = true;
      this.#end([[":status", "415"]]);
    } else if (refusal) this.#fail(refusal);
    else if (get(":path") !== Observe.path)
      this.#fail(new GrpcError(STATUS.UNIMPLEMENTED, `no such method: ${get(":path")}`));
    else if (end) this.onTrailers();
    else
      this.#timer = context.clock.after(REQUEST_TIMEOUT, () =>
        this.#fail(new GrpcError(STATUS.DEADLINE_EXCEEDED, "the request did not arrive")),
      );
  }

  onData(chunk: Buffer, end: boolean): void {
    this.#connection.machine.consume(this.#stream, chunk.length);
    // What follows the one message, or a refusal, is of no interest.
    if (this.#answered) return;
    try {
      const [message] = this.#deframer.push(Buffer.from(chunk));
      if (message) this.#begin(message);
      else if (end) this.onTrailers();
    } catch (error) {
      this.#fail(
        error instanceof GrpcError ? error : new GrpcError(STATUS.INVALID_ARGUMENT, errorMessage(error)),
      );
    }
  }

  onTrailers(): void {
    if (!this.#answered) this.#fail(new GrpcError(STATUS.INVALID_ARGUMENT, "expected one request message"));
  }

  #begin(message: Buffer): void {
    const { context, machine } = this.#connection;
    const { taps, counts, clock } = context;
    if (taps.full) throw new GrpcError(STATUS.RESOURCE_EXHAUSTED, `${taps.size} taps are under way already`);
    const subscription = new TapSubscription(message, context.nextBase, this, counts, clock);
    context.nextBase = (context.nextBase + 1) >>> 0;
    clock.clear(this.#timer);
    this.#answered = true;
    this.#subscription = subscription;
    machine.sendHeaders(this.#stream, GRPC_HEAD, false);
    taps.add(subscription);
  }

  send(event: Buffer): boolean {
    const { length } = event;
    if (this.#writable && !this.#connection.congested) {
      this.#write(event);
      return true;
    }
    if (this.#waitingSize + length > MAX_WAITING) return false;
    this.#waiting.push(event);
    this.#waitingSize += length;
    return true;
  }

  finish(): void {
    this.#finishing = true;
    this.#unsubscribe();
    this.flush();
  }

  /** The stream has room again. */
  onDrain(): void {
    this.#writable = true;
    this.flush();
  }

  /** Sends what waits, as far as there is room. */
  flush(): void {
    let sent = 0;
    while (sent < this.#waiting.length && this.#writable && !this.#connection.congested) {
      const event = this.#waiting[sent]!;
      this.#waitingSize -= event.length;
      sent += 1;
      this.#write(event);
    }
    this.#waiting = this.#waiting.slice(sent);
    if (this.#finishing && this.#waiting.length === 0 && this.#writable) {
      this.#finishing = false;
      this.#end([["grpc-status", String(STATUS.OK)]]);
    }
  }

  #write(event: Buffer): void {
    this.#writable = this.#connection.machine.sendData(this.#stream, frame(event), false);
  }

  onClose(): void {
    this.#connection.context.clock.clear(this.#timer);
    this.#connection.forget(this);
    this.#unsubscribe();
    this.#waiting = [];
  }

  #unsubscribe(): void {
    if (!this.#subscription) return;
    this.#connection.context.taps.remove(this.#subscription);
    this.#subscription = undefined;
  }

  /** Ends the call before it has begun. */
  #fail({ code, message }: GrpcError): void {
    this.#connection.context.clock.clear(this.#timer);
    this.#answered = true;
    this.#end([...GRPC_HEAD, ["grpc-status", String(code)], ["grpc-message", encodeURIComponent(message)]]);
  }

  /** The last that is said; what the caller still sends is of no interest. */
  #end(fields: readonly Field[]): void {
    const { machine } = this.#connection;
    machine.batch(() => {
      machine.sendHeaders(this.#stream, fields, true);
      if (!this.#stream.remoteEnded) machine.reset(this.#stream, ERROR.NO_ERROR);
    });
  }
}

const GRPC_HEAD: readonly Field[] = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
