// One dialled connection that speaks HTTP/2: from the first packet to its last stream. It belongs to a pool, which
// decides what is sent over it.
//
//   CONNECTING → OPEN → LEAVING (GOAWAY either way; the streams it has end first) → CLOSED
//        └─────────┴──────────────────────────────────────────────────────────────────↑
import type { Socket } from "node:net";
import type { Http2Connection } from "../../http2/connection.ts";
import type { Header } from "../../http2/hpack.ts";
import type { KeepAliveOptions } from "../../http2/keep-alive.ts";
import type { Http2Stream } from "../../http2/stream.ts";
import type { Timer } from "../../util/clock.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import {
  type DialError,
  type DialHandler,
  type DialOptions,
  type DialTarget,
  dial,
} from "../transport/dial.ts";
import { ClientSession, type ClientSessionOwner } from "./client-session.ts";
import type { Http2Upstream } from "./upstream.ts";

/** How connections to one endpoint speak HTTP/2. */
export interface Http2Params {
  readonly keepAlive: KeepAliveOptions;
  /** Bytes; the least that the protocol allows is 65,535. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
}

/**
 * Linkerd's (reference/data-planes.md §1.12), except for the connection's window: what one slow reader does not take
 * must not hold up the other streams, so there is room for many of them.
 */
export const DEFAULT_HTTP2_PARAMS: Http2Params = {
  keepAlive: { interval: 10_000, timeout: 3_000, whileIdle: false },
  streamWindow: 65_535,
  connectionWindow: 8 * 1024 * 1024,
};

/** A peer that was connected to must begin to speak HTTP/2 within this, ms. */
const SETTINGS_TIMEOUT = 5_000;

export interface ConnectionOwner {
  onConnected(connection: Http2ClientConnection): void;
  /** Its room may have changed, or it takes no more streams. */
  onRoom(connection: Http2ClientConnection): void;
  /** Called once. `error` is why it could not be made, or broke; undefined when it ended in order. */
  onGone(connection: Http2ClientConnection, error: DialError | undefined): void;
}

export class Http2ClientConnection implements DialHandler, ClientSessionOwner {
  /** Streams that have ended on it. */
  served = 0;
  /** Since when it has had no stream, ms; kept by the pool. */
  idleSince = 0;
  errno: string | undefined;
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #options: DialOptions;
  readonly #tcp: TcpSeries;
  #openedAt = 0;
  readonly #params: Http2Params;
  #session: ClientSession | undefined;
  /** Places promised and not yet taken. */
  #claimed = 0;
  #closed = false;
  #draining: Http2Upstream[] = [];
  #timer: Timer | undefined;

  constructor(
    owner: ConnectionOwner,
    target: DialTarget,
    options: DialOptions,
    tcp: TcpSeries,
    params: Http2Params,
  ) {
    this.#owner = owner;
    this.#options = options;
    this.#tcp = tcp;
    this.#params = params;
    this.#socket = dial(target, options, this);
  }

  /** Only once connected. */
  get machine(): Http2Connection {
    return this.#session!.machine;
  }

  get connected(): boolean {
    return this.#session !== undefined;
  }

  /** It knows how many streams its peer takes. */
  get settled(): boolean {
    return this.#session?.machine.settled ?? false;
  }

  /** Streams can be opened, now or once it has connected or others have ended. */
  get lasting(): boolean {
    return this.#session?.machine.lasting ?? !this.#closed;
  }

  /** Streams that can be opened now. Before the peer has said how many it takes, one must do. */
  get room(): number {
    const machine = this.#session?.machine;
    if (machine === undefined || this.#closed) return 0;
    const { room } = machine;
    return (machine.settled ? room : Math.min(room, 1 - machine.active)) - this.#claimed;
  }

  get saturated(): boolean {
    return this.#session?.machine.saturated ?? false;
  }

  /** Streams open or promised. */
  get active(): number {
    return (this.#session?.machine.active ?? 0) + this.#claimed;
  }

  /** The socket has more to send than it should hold. */
  get congested(): boolean {
    return this.#session!.writer.congested;
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** The connection failed as such: not one stream, and not by a violation of ours or the peer's. */
  get lost(): boolean {
    return this.#session?.lost ?? true;
  }

  /** Keeps a place for a stream. */
  claim(): void {
    this.#claimed += 1;
  }

  /** Gives the place back, or is about to take it. */
  unclaim(): void {
    this.#claimed -= 1;
  }

  /** Begins a stream; only while there is room. */
  open(headers: readonly Header[], end: boolean, upstream: Http2Upstream): Http2Stream {
    const session = this.#session!;
    session.keepAlive.wake();
    return session.machine.open(headers, end, upstream);
  }

  /** Tells `upstream` when the socket has room again. */
  awaitDrain(upstream: Http2Upstream): void {
    this.#draining.push(upstream);
  }

  /** Takes no more streams; ends when those it has have ended. */
  leave(): void {
    if (this.#session) this.#session.machine.goAway();
    else this.#socket.destroy();
  }

  // ── The socket's side ───────────────────────────────────────────────────────────────────────────────────────

  onConnected(): void {
    this.#openedAt = this.#tcp.opened();
    const { keepAlive, streamWindow, connectionWindow } = this.#params;
    const { clock } = this.#options;
    this.#session = new ClientSession(
      this.#socket,
      { clock, keepAlive, streamWindow, connectionWindow },
      this,
    );
    this.#timer = clock.after(SETTINGS_TIMEOUT, () => {
      if (!this.settled) this.#session!.lose("no SETTINGS within the time limit");
    });
    this.#owner.onConnected(this);
  }

  onBytes(size: number, buf: Buffer): void {
    this.#tcp.read.inc(size);
    this.#session!.receive(buf.subarray(0, size));
  }

  onDrain(): void {
    this.#session?.drained();
    const waiting = this.#draining;
    this.#draining = [];
    for (const upstream of waiting) upstream.drained();
  }

  onEnd(): void {
    this.#session?.lose("connection ended by the peer");
  }

  onClosed(error: DialError | undefined): void {
    this.#closed = true;
    this.errno = error?.errno;
    this.#options.clock.clear(this.#timer);
    if (this.#session) {
      this.#tcp.closed(error?.errno, this.#openedAt);
      this.#session.lose(error?.message ?? "connection closed by the peer");
    }
    this.#owner.onGone(this, error);
  }

  // ── The session's side ──────────────────────────────────────────────────────────────────────────────────────

  onRoom(): void {
    this.#owner.onRoom(this);
  }

  onWrite(size: number): void {
    this.#tcp.write.inc(size);
  }

  onFinished(): void {
    this.#owner.onRoom(this);
  }
}
