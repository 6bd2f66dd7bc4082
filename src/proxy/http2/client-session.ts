// The client's end of HTTP/2 on a socket that is connected: the machine, its output written once a turn, and PINGs.
// Whoever owns the socket passes on what it hears.
import type { Duplex } from "node:stream";
import { Http2Connection } from "../../http2/connection.ts";
import { ERROR } from "../../http2/frame.ts";
import { KeepAlive, type KeepAliveOptions } from "../../http2/keep-alive.ts";
import { Http2Failure } from "../../http2/stream.ts";
import { TurnWriter } from "../../http2/turn-writer.ts";
import type { Clock } from "../../util/clock.ts";

export interface ClientSessionOptions {
  readonly clock: Clock;
  readonly keepAlive: KeepAliveOptions;
  /** Room for what the peer sends before it is used, bytes: on one stream, at least 65,535, and on all together. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
}

export interface ClientSessionOwner {
  /** Room for streams may have changed, or no more are taken. */
  onRoom(): void;
  /** So many bytes go out. */
  onWrite(size: number): void;
  /** The session is over and its socket being closed. Comes once; undefined when all ended in order. */
  onFinished(failure: Http2Failure | undefined): void;
}

/** A peer that does not take our last words is not waited for longer than this, ms. */
const LAST_WORDS = 1_000;

export class ClientSession {
  readonly machine: Http2Connection;
  readonly writer: TurnWriter;
  readonly keepAlive: KeepAlive;
  /** The socket died, or its peer fell silent; else an end is the machine's doing. */
  lost = false;
  readonly #socket: Duplex;
  readonly #clock: Clock;

  constructor(socket: Duplex, options: ClientSessionOptions, owner: ClientSessionOwner) {
    const { clock, keepAlive, streamWindow, connectionWindow } = options;
    this.#socket = socket;
    this.#clock = clock;
    const writer = new TurnWriter(socket, () => this.machine.flush());
    this.writer = writer;
    this.machine = new Http2Connection(
      {
        write: (bytes) => {
          owner.onWrite(bytes.length);
          writer.write(bytes);
        },
        onOutput: () => writer.announce(),
        taken: () => writer.taken,
        drains: () => writer.drains,
        congested: () => writer.congested,
        onStream: () => {
          throw new Error("a client is not sent requests");
        },
        onRoom: () => owner.onRoom(),
        onEnd: (failure) => {
          this.#close();
          owner.onFinished(failure);
        },
      },
      { side: "client", now: clock.monotonic, streamWindow, connectionWindow, maxStreams: 0 },
    );
    const { machine } = this;
    this.keepAlive = new KeepAlive(keepAlive, clock, {
      get active() {
        return machine.active;
      },
      ping: () => machine.ping(),
      onSilence: () => this.lose("no answer to PING"),
    });
  }

  /** Bytes of the peer; only looked at during the call. */
  receive(bytes: Buffer): void {
    this.keepAlive.heard();
    this.machine.receive(bytes);
  }

  /** The socket has sent all that was written. */
  drained(): void {
    this.machine.drained();
  }

  /** The connection is gone. */
  lose(reason: string): void {
    this.lost = true;
    this.machine.abort(new Http2Failure(reason, ERROR.CONNECT_ERROR));
  }

  #close(): void {
    this.keepAlive.stop();
    const socket = this.#socket;
    if (socket.destroyed) return;
    this.writer.flush();
    // The last words are sent, the peer's are of no interest; and whoever does not take ours is not waited for.
    const timer = this.#clock.after(LAST_WORDS, () => socket.destroy());
    socket.end(() => socket.destroy());
    socket.once("close", () => this.#clock.clear(timer));
  }
}
