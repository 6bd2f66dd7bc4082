// One client's connection to the gRPC server: the HTTP/2 machine on its socket, and a call for each stream.
import type { Duplex } from "node:stream";
import type { Deframer } from "../api/grpc-frame.ts";
import { Http2Connection } from "../http2/connection.ts";
import { ERROR } from "../http2/frame.ts";
import { KeepAlive } from "../http2/keep-alive.ts";
import { Http2Failure, type Http2Stream } from "../http2/stream.ts";
import { TurnWriter } from "../http2/turn-writer.ts";
import type { Timer } from "../util/clock.ts";
import { ANSWER, type CallConnection, type CallOwner, GrpcCall, type Handled } from "./grpc-call.ts";
import { GrpcChannel } from "./grpc-channel.ts";

export interface ConnectionOwner extends CallOwner {
  readonly maxStreams: number;
  onConnectionEnd(connection: GrpcConnection): void;
}

/** A proxy that vanished without a FIN would hold its streams for ever: silence is looked into, ms. */
const KEEP_ALIVE = { interval: 10_000, timeout: 10_000, whileIdle: true };
/** Room for requests, which are small and taken at once, bytes. */
const STREAM_WINDOW = 65_535;
const CONNECTION_WINDOW = 1024 * 1024;
/** Time within which the whole request message must arrive, ms. */
const REQUEST_TIMEOUT = 10_000;
/** A client that lets us send nothing of what waits for so long is cut, ms. */
const STALL_TIMEOUT = 60_000;
/** Places for messages that are kept from turn to turn, at most. */
const MAX_PLACES = 256;
/** A client that does not take our last words is not waited for longer than this, ms. */
const LAST_WORDS = 1_000;

export class GrpcConnection implements CallConnection {
  readonly machine: Http2Connection;
  readonly owner: ConnectionOwner;
  readonly waiting = new Map<GrpcCall, Deframer | undefined>();
  readonly deadlines = new Map<GrpcCall, Timer>();
  readonly #socket: Duplex;
  readonly #writer: TurnWriter;
  readonly #keepAlive: KeepAlive;
  readonly #channels = new Map<Handled, GrpcChannel>();
  /** Messages of this turn, each behind the stream that it is for: so many of these places, which are used again. */
  #pending: (Http2Stream | Buffer | undefined)[] = [];
  #pendingCount = 0;

  constructor(socket: Duplex, owner: ConnectionOwner) {
    this.#socket = socket;
    this.owner = owner;
    const { clock, maxStreams, maxQueued } = owner;
    const writer = new TurnWriter(socket, () => this.#flush());
    this.#writer = writer;
    this.machine = new Http2Connection(
      {
        write: (bytes) => {
          writer.write(bytes);
          // Its windows let us send more than it reads.
          if (socket.writableLength > maxQueued) socket.destroy();
        },
        onOutput: () => writer.announce(),
        taken: () => writer.taken,
        congested: () => writer.congested,
        onStream: (stream) => new GrpcCall(this, stream),
        onEnd: () => this.#end(),
      },
      {
        side: "server",
        now: clock.monotonic,
        streamWindow: STREAM_WINDOW,
        connectionWindow: CONNECTION_WINDOW,
        maxStreams,
      },
    );
    const { machine } = this;
    this.#keepAlive = new KeepAlive(KEEP_ALIVE, clock, {
      get active() {
        return machine.active;
      },
      ping: () => machine.ping(),
      onSilence: () => socket.destroy(),
    });
    socket.on("data", (bytes: Buffer) => {
      this.#keepAlive.heard();
      machine.receive(bytes);
    });
    socket.on("end", () => machine.abort(new Http2Failure("the client has gone", ERROR.CANCEL)));
    socket.on("error", () => {});
    socket.once("close", () => {
      machine.abort(new Http2Failure("the connection is closed", ERROR.CANCEL));
      owner.onConnectionEnd(this);
    });
  }

  channelOf(method: Handled): GrpcChannel {
    let channel = this.#channels.get(method);
    if (!channel) {
      channel = new GrpcChannel(this, method);
      this.#channels.set(method, channel);
    }
    return channel;
  }

  /**
   * Sends a message at the end of this turn. A change is told on one stream each of many connections, and the next change
   * again: made into frames at once, all of them would wait side by side, each in memory of its own.
   */
  sendLater(stream: Http2Stream, message: Buffer): void {
    if (this.#pendingCount === 0) this.#writer.announce();
    this.#pending[this.#pendingCount] = stream;
    this.#pending[this.#pendingCount + 1] = message;
    this.#pendingCount += 2;
  }

  /** Makes what waits for the end of the turn into frames now, as something follows that must not overtake it. */
  sendPending(): void {
    const pending = this.#pending;
    const count = this.#pendingCount;
    // A call that is cut may end others, which come here again.
    this.#pendingCount = 0;
    if (count > 0) this.#pending = [];
    for (let at = 0; at < count; at += 2) {
      this.#send(pending[at] as Http2Stream, pending[at + 1] as Buffer);
      pending[at] = undefined;
      pending[at + 1] = undefined;
    }
    if (this.#pendingCount === 0 && count <= MAX_PLACES) this.#pending = pending;
  }

  #send(stream: Http2Stream, message: Buffer): void {
    if (stream.closed) return;
    const { machine, owner } = this;
    if (!stream.answered) machine.sendHeaders(stream, ANSWER, false);
    const sent = machine.sendData(stream, message, false);
    if (!sent && stream.queued > owner.maxQueued) (stream.handler as GrpcCall).cut();
  }

  /** All of it as one write, which goes out before the next connection's frames are made: they share their memory. */
  #flush(): void {
    const { machine } = this;
    machine.batch(() => {
      this.sendPending();
      machine.flush();
    });
  }

  /** Gives up what the client has begun and not gone on with; to be called from time to time. */
  sweep(now: number): void {
    for (const call of [...this.waiting.keys()]) if (call.began < now - REQUEST_TIMEOUT) call.giveUp();
    this.machine.dropStalled(now - STALL_TIMEOUT);
  }

  /** Those that are open. */
  get calls(): GrpcCall[] {
    return this.machine.streams.flatMap(({ handler }) => (handler instanceof GrpcCall ? [handler] : []));
  }

  /** Takes no new calls, and ends when those under way have. */
  goAway(): void {
    this.machine.goAway();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #end(): void {
    this.#keepAlive.stop();
    const { clock } = this.owner;
    const socket = this.#socket;
    if (socket.destroyed) return;
    this.#writer.flush();
    const timer = clock.after(LAST_WORDS, () => socket.destroy());
    socket.end(() => socket.destroy());
    socket.once("close", () => clock.clear(timer));
  }
}
