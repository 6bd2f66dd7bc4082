// Carries bytes between an accepted socket and a dialled one: half-closes are passed on, at most one socket
// buffer is held each way, and a break of one side is a break of the other. Half closed and
// silent, it ends. The bytes themselves go by two relays.
import type { Socket } from "node:net";
import type { Clock } from "../../util/clock.ts";
import { errorCode } from "../../util/error.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { abort } from "./abort.ts";
import type { Carried } from "./acceptor.ts";
import { type DialError, type DialHandler, type DialOptions, type DialTarget, dial } from "./dial.ts";
import { Linger } from "./linger.ts";
import { progressOf } from "./progress.ts";
import { copyOf } from "./reads.ts";
import { Relay } from "./relay.ts";

export interface ForwardOptions {
  readonly clock: Clock;
  readonly tcp: TcpSeries;
  /** The upstream did not take the connection: call `connect` again with another, or `destroy`. */
  readonly onConnectFailed: (forward: TcpForward, error: DialError) => void;
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
  /** Client to upstream, and back; there while connected. */
  #there: Relay | undefined;
  #back: Relay | undefined;
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

  /** @param preface bytes to send before the client's own */
  connect(target: DialTarget, options: DialOptions, tcp: TcpSeries, preface?: Buffer): void {
    if (this.#closed) return;
    this.attempts += 1;
    this.#upstreamTcp = tcp;
    this.#preface = preface;
    this.#upstream = dial(target, options, this);
  }

  /** Takes over a connection that was made already. */
  adopt(upstream: Socket, tcp: TcpSeries): void {
    this.attempts += 1;
    this.#upstreamTcp = tcp;
    this.#upstream = upstream;
    this.onConnected();
  }

  onConnected(): void {
    if (this.#closed) return;
    this.#connected = true;
    const first = this.#preface ? Buffer.concat([this.#preface, this.#first]) : this.#first;
    this.#preface = undefined;
    this.#first = NOTHING;
    const upstream = this.#upstream!;
    const { tcp } = this.#options;
    const upstreamTcp = this.#upstreamTcp!;
    this.#upstreamOpenedAt = upstreamTcp.opened();
    this.#there = new Relay(this.#client, upstream, tcp.read, upstreamTcp.write);
    this.#back = new Relay(upstream, this.#client, upstreamTcp.read, tcp.write);
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
    if (this.#connected) {
      this.#there!.write(chunk);
      return;
    }
    this.#options.tcp.read.inc(chunk.length);
    this.#first = Buffer.concat([this.#first, chunk]);
    this.#client.pause();
  }

  onBytes(size: number, buf: Buffer): void {
    this.#back!.write(copyOf(buf, size));
  }

  onDrain(): void {
    this.#there?.drained();
  }

  onEnd(): void {
    if (!this.#connected) return;
    this.#client.end();
    this.#linger.begin();
  }

  onClosed(error: DialError | undefined): void {
    const connected = this.#connected;
    this.#connected = false;
    this.#upstream = undefined;
    this.#back?.ended();
    this.#back = undefined;
    if (this.#closed) this.#linger.stop();
    if (connected) {
      this.#upstreamTcp!.closed(error?.errno, this.#upstreamOpenedAt);
      if (error === undefined) {
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
