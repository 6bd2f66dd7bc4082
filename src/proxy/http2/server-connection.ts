// The accepting side of HTTP/2 on a socket: one client connection, and an exchange for each of its streams.
import type { Socket } from "node:net";
import { Http2Connection } from "../../http2/connection.ts";
import { ERROR } from "../../http2/frame.ts";
import { KeepAlive, type KeepAliveOptions } from "../../http2/keep-alive.ts";
import { Http2Failure, type Http2Stream } from "../../http2/stream.ts";
import { TurnWriter } from "../../http2/turn-writer.ts";
import { PASSPORTS } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorCode } from "../../util/error.ts";
import { addedEdits } from "../http/accepted-exchange.ts";
import { errorFields } from "../http/answer.ts";
import type { Service } from "../http/exchange.ts";
import { STALL_TIMEOUT } from "../http/limits.ts";
import type { Field, RequestEdits } from "../http/message.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { Http2Exchange } from "./exchange.ts";

export interface Http2ServerConnectionOptions {
  readonly clock: Clock;
  readonly tcp: TcpSeries;
  readonly keepAlive: KeepAliveOptions;
  /** Room for request bodies that have found no way on, bytes: of one stream, and of all together. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly maxStreams: number;
  /** Called once when the connection is gone. */
  readonly onClose: (connection: Http2ServerConnection) => void;
}

/** How often stalls are looked for, ms. */
const STALL_LOOK = 15_000;

/** A client that does not take our last words is not waited for longer than this, ms. */
const LAST_WORDS = 1_000;

export class Http2ServerConnection {
  readonly socket: Socket;
  readonly service: Service;
  readonly clock: Clock;
  readonly machine: Http2Connection;
  /** `service.added`, as edits. */
  readonly added: RequestEdits;
  readonly #tcp: TcpSeries;
  readonly #openedAt: number;
  readonly #writer: TurnWriter;
  readonly #keepAlive: KeepAlive;
  readonly #onClose: (connection: Http2ServerConnection) => void;
  /** Exchanges whose responses wait for the socket. */
  readonly #waiting = new Set<Http2Exchange>();
  /** The client was told to leave. */
  #leaving = false;
  #errno: string | undefined;
  #stalls: Timer | undefined;

  constructor(socket: Socket, service: Service, options: Http2ServerConnectionOptions) {
    const { clock, tcp } = options;
    this.socket = socket;
    this.service = service;
    this.clock = clock;
    this.added = addedEdits(service);
    this.#tcp = tcp;
    this.#onClose = options.onClose;
    this.#writer = new TurnWriter(socket, () => this.machine.flush());
    this.machine = new Http2Connection(
      {
        write: (bytes) => {
          tcp.write.inc(bytes.length);
          this.#writer.write(bytes);
        },
        onOutput: () => this.#writer.announce(),
        taken: () => this.#writer.taken,
        drains: () => this.#writer.drains,
        congested: () => this.#writer.congested,
        onStream: (stream) => new Http2Exchange(this, stream),
        onOversized: (stream, reason) => this.#refuseOversized(stream, reason),
        onEnd: () => this.#end(),
      },
      {
        side: "server",
        now: clock.monotonic,
        streamWindow: options.streamWindow,
        connectionWindow: options.connectionWindow,
        maxStreams: options.maxStreams,
        extendedConnect: true,
      },
    );
    const { machine } = this;
    this.#keepAlive = new KeepAlive(options.keepAlive, clock, {
      get active() {
        return machine.active;
      },
      ping: () => machine.ping(),
      onSilence: () => this.#lose("no answer to PING"),
    });
    this.#openedAt = tcp.opened();
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    // An end of the client's side gives its requests up (as with HTTP/1).
    socket.on("end", () => this.#lose("connection ended by the client"));
    socket.on("drain", () => this.#onDrain());
    socket.on("error", (error) => {
      this.#errno = errorCode(error);
    });
    socket.once("close", () => this.#onClosed());
  }

  /** Begins with what was read from the socket already. */
  start(bytes: Buffer): void {
    if (bytes.length > 0) this.#onData(bytes);
    if (!this.machine.ended) this.socket.resume();
  }

  /** The socket has enough to do. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  /** `exchange.onUncongested` is called when the socket can take more. */
  waitUncongested(exchange: Http2Exchange): void {
    this.#waiting.add(exchange);
  }

  forget(exchange: Http2Exchange): void {
    this.#waiting.delete(exchange);
  }

  get idle(): boolean {
    return this.machine.active === 0;
  }

  closeWhenIdle(): void {
    // Said again, it would no longer wait for requests that are on their way.
    if (this.#leaving) return;
    this.#leaving = true;
    this.machine.goAway();
  }

  expire(): void {
    const { machine } = this;
    machine.goAway();
    machine.batch(() => {
      for (const { handler } of machine.streams)
        if (handler instanceof Http2Exchange) handler.expire("shutdown");
      // Called again it waits for nobody who may still be sending.
      machine.goAway();
    });
  }

  destroy(): void {
    this.socket.destroy();
  }

  #onData(bytes: Buffer): void {
    this.#tcp.read.inc(bytes.length);
    this.#keepAlive.heard();
    this.machine.receive(bytes);
    this.#keepAlive.wake();
    this.#watchStalls();
    // Who does not read our answers gets no further questions answered.
    if (this.#writer.congested) this.socket.pause();
  }

  #onDrain(): void {
    this.machine.drained();
    this.socket.resume();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const exchange of waiting) exchange.onUncongested();
  }

  #refuseOversized(stream: Http2Stream, reason: string): void {
    const { service } = this;
    service.failed(undefined, "head-too-large", reason);
    const options = { trusted: service.trusted, meshClose: false, detail: reason };
    const fields: Field[] = [
      [":status", String(PASSPORTS["head-too-large"].status)],
      ...errorFields("head-too-large", options),
    ];
    this.machine.sendHeaders(stream, fields, true);
  }

  /** Looks from time to time, while anything is under way, whether the client lets it go on. */
  #watchStalls(): void {
    this.#stalls ??= this.clock.after(STALL_LOOK, () => {
      this.#stalls = undefined;
      const { machine } = this;
      machine.dropStalled(this.clock.monotonic() - STALL_TIMEOUT);
      if (!machine.ended && (machine.active > 0 || machine.stalledSince < Number.POSITIVE_INFINITY))
        this.#watchStalls();
    });
  }

  #lose(reason: string): void {
    this.machine.abort(new Http2Failure(reason, ERROR.CANCEL));
  }

  #onClosed(): void {
    this.#lose("connection closed by the client");
    this.#tcp.closed(this.#errno, this.#openedAt);
    this.#onClose(this);
  }

  #end(): void {
    this.#keepAlive.stop();
    const { socket, clock } = this;
    clock.clear(this.#stalls);
    this.#stalls = undefined;
    if (socket.destroyed) return;
    this.#writer.flush();
    const timer = clock.after(LAST_WORDS, () => socket.destroy());
    socket.end(() => socket.destroy());
    socket.once("close", () => clock.clear(timer));
  }
}
