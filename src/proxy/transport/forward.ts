// Carries bytes between an accepted socket and a dialled one: half-closes are passed on, at most one socket
// buffer is held each way, and a break of one side is a break of the other. Half closed and
// silent, it ends. The bytes themselves go by two relays.
import type { Socket } from "node:net";
import type { Clock } from "../../util/clock.ts";
import { errorCode } from "../../util/error.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { abort } from "./abort.ts";
import type { Carried } from "./acceptor.ts";
import { DialError, type DialHandler, type DialOptions, type DialTarget, dial } from "./dial.ts";
import { Linger } from "./linger.ts";
import { progressOf } from "./progress.ts";
import { copyOf } from "./reads.ts";
import { Relay } from "./relay.ts";
import { Replay } from "./replay.ts";
import { isUnservedWord } from "./unserved.ts";

/** Who is told that there is no upstream has so long to hear it, ms. */
const LAST_WORD = 1_000;

export interface ForwardOptions {
  readonly clock: Clock;
  readonly tcp: TcpSeries;
  /** The upstream did not take the connection: call `connect` again with another, or `destroy`. */
  readonly onConnectFailed: (forward: TcpForward, error: DialError) => void;
  /**
   * The upstream took the connection, and nobody behind it did: its own proxy says so, or it was reset before any byte.
   * @param error in the first case: as for `onConnectFailed`
   */
  readonly onUnserved?: (forward: TcpForward, error: DialError | undefined) => void;
  /** The upstream has said something. */
  readonly onServed?: (forward: TcpForward) => void;
  /** Half closed, and silent for too long: the client's side is to be closed. */
  readonly onSilent: () => void;
  /** Both sides are gone; called once. */
  readonly onClose: (forward: TcpForward) => void;
}

export class TcpForward implements DialHandler, Carried {
  readonly #client: Socket;
  readonly #options: ForwardOptions;
  /** What goes to the upstream first. */
  #first: Buffer;
  #preface: Buffer | undefined;
  #clientEnded: boolean;
  #upstream: Socket | undefined;
  #upstreamTcp: TcpSeries | undefined;
  #connected = false;
  /** Client to upstream, there while connected; and back, once the upstream has said anything. */
  #there: Relay | undefined;
  #back: Relay | undefined;
  /** What the upstream must be told again elsewhere, if it says that nobody was there. */
  #replay: Replay | undefined;
  /** It has said so. */
  #unserved: DialError | undefined;
  #dismissed = false;
  #closed = false;
  #errno: string | undefined;
  readonly #openedAt: number;
  #upstreamOpenedAt = 0;
  readonly #linger: Linger;
  /** Upstreams tried. */
  attempts = 0;
  /** One of its sides did not end in order. */
  broken = false;

  /** @param client paused; read only once the upstream is there. `ended`: it has sent all it will. */
  constructor(client: Socket, first: Buffer, ended: boolean, options: ForwardOptions) {
    this.#client = client;
    this.#first = first;
    this.#clientEnded = ended;
    this.#options = options;
    this.#linger = new Linger(
      options.clock,
      () => progressOf(client) + (this.#upstream ? progressOf(this.#upstream) : 0),
      () => {
        // After a half-close, an end would say nothing new.
        if (this.#upstream) abort(this.#upstream);
        abort(client);
        options.onSilent();
      },
    );
    this.#openedAt = options.tcp.opened();
    options.tcp.read.inc(first.length);
    client.on("data", (chunk: Buffer) => this.#onData(chunk));
    client.on("end", () => {
      this.#clientEnded = true;
      if (this.#connected) this.#endUpstream(this.#upstream!);
    });
    client.on("drain", () => this.#back?.drained());
    client.on("error", (error) => {
      this.#errno = errorCode(error);
      this.broken = true;
    });
    client.once("close", () => this.#onClientClosed());
  }

  /** @param preface bytes to send before the client's own, to a proxy that may say that nobody is behind it */
  connect(target: DialTarget, options: DialOptions, tcp: TcpSeries, preface?: Buffer): void {
    if (this.#closed) return;
    this.attempts += 1;
    if (preface) this.#replay = new Replay();
    this.#upstreamTcp = tcp;
    this.#preface = preface;
    this.#upstream = dial(target, options, this);
  }

  /** Takes over a connection that was made already. @param prefaced to a proxy, as of `connect` */
  adopt(upstream: Socket, tcp: TcpSeries, prefaced = false): void {
    this.attempts += 1;
    if (prefaced) this.#replay = new Replay();
    this.#upstreamTcp = tcp;
    this.#upstream = upstream;
    this.onConnected();
  }

  onConnected(): void {
    if (this.#closed) return;
    this.#connected = true;
    const first = this.#preface ? Buffer.concat([this.#preface, this.#first]) : this.#first;
    this.#preface = undefined;
    this.#replay?.keep(this.#first);
    this.#first = NOTHING;
    const upstream = this.#upstream!;
    const { tcp } = this.#options;
    const upstreamTcp = this.#upstreamTcp!;
    this.#upstreamOpenedAt = upstreamTcp.opened();
    this.#there = new Relay(this.#client, upstream, tcp.read, upstreamTcp.write);
    this.#there.replay = this.#replay;
    if (first.length > 0) {
      upstreamTcp.write.inc(first.length);
      upstream.write(first);
    }
    if (this.#clientEnded) this.#endUpstream(upstream);
    else if (!upstream.writableNeedDrain) this.#client.resume();
  }

  #endUpstream(upstream: Socket): void {
    upstream.end();
    this.#linger.begin();
  }

  #onData(chunk: Buffer): void {
    if (this.#dismissed) return;
    if (this.#connected) {
      this.#there!.write(chunk);
      return;
    }
    this.#options.tcp.read.inc(chunk.length);
    this.#first = Buffer.concat([this.#first, chunk]);
    this.#client.pause();
  }

  onBytes(size: number, buf: Buffer): void {
    if (this.#back === undefined) {
      if (this.#unserved !== undefined || this.#isUnserved(buf.subarray(0, size))) return;
      this.#back = new Relay(this.#upstream!, this.#client, this.#upstreamTcp!.read, this.#options.tcp.write);
      this.#options.onServed?.(this);
    }
    this.#back.write(copyOf(buf, size));
  }

  /** Whether the upstream's first bytes are its proxy's word that nobody is there; else there is nothing to say again. */
  #isUnserved(bytes: Buffer): boolean {
    const replay = this.#replay;
    this.#replay = undefined;
    this.#there!.replay = undefined;
    if (replay === undefined || !isUnservedWord(bytes, this.#upstream!)) return false;
    this.#client.pause();
    this.#unserved = new DialError("connect", "its proxy says that it could not reach its application");
    // Its end is what the rest follows upon.
    this.#upstream!.destroy();
    const said = replay.bytes;
    if (said === undefined) this.broken = true;
    else this.#first = said;
    return true;
  }

  onDrain(): void {
    this.#there?.drained();
  }

  onEnd(): void {
    if (!this.#connected || this.#unserved) return;
    this.#client.end();
    this.#linger.begin();
  }

  onClosed(error: DialError | undefined): void {
    const connected = this.#connected;
    const unserved = this.#unserved;
    const silent = this.#back === undefined;
    this.#connected = false;
    this.#unserved = undefined;
    this.#upstream = undefined;
    this.#back?.ended();
    this.#back = undefined;
    if (this.#closed) this.#linger.stop();
    if (connected) {
      this.#upstreamTcp!.closed(error?.errno, this.#upstreamOpenedAt);
      if (!this.#closed && (unserved || (error && silent))) {
        this.#options.onUnserved?.(this, this.broken ? undefined : unserved);
        if (unserved && !this.broken) return;
      }
      if (error === undefined && !unserved) {
        this.#client.destroySoon();
        if (!this.#closed) this.#linger.begin();
      } else {
        this.broken = true;
        abort(this.#client);
      }
    } else if (!this.#closed) this.#options.onConnectFailed(this, error!);
  }

  #onClientClosed(): void {
    this.#closed = true;
    this.#there?.ended();
    this.#there = undefined;
    this.#options.tcp.closed(this.#errno, this.#openedAt);
    if (this.#upstream) {
      if (!this.#connected) this.#upstream.destroy();
      else if (this.#errno !== undefined) abort(this.#upstream);
      else {
        this.#upstream.destroySoon();
        this.#linger.begin();
      }
    } else this.#linger.stop();
    this.#options.onClose(this);
  }

  /** There is no upstream: says this last thing to the client, and drops what still comes, which would reset it. */
  dismiss(word: Buffer): void {
    const client = this.#client;
    this.#dismissed = true;
    this.#options.tcp.write.inc(word.length);
    client.end(word);
    client.resume();
    this.#options.clock.after(LAST_WORD, () => client.destroy());
  }

  readonly idle = false;

  /** Bytes have no idle moment: a forwarded connection lives until one of its ends, or the deadline. */
  closeWhenIdle(): void {}

  /** Nobody can be told anything in between their bytes. */
  expire(): void {
    this.destroy();
  }

  destroy(): void {
    this.#client.destroy();
    this.#upstream?.destroy();
  }
}

const NOTHING = Buffer.alloc(0);
