// The HTTP/2 connections to one endpoint. One carries everything as long as it can: sharing a connection is what
// makes HTTP/2 cheap. Others are made when it has no stream free or stands still for want of window, and end when
// they are not needed any more.
//
//   take → room on a connection ── yes → stream
//                              └── no  → wait, connect (bounded) → stream, first come first served
import type { Clock, Timer } from "../../util/clock.ts";
import type { Exchange } from "../http/exchange.ts";
import { type ConnectionOwner, Http2ClientConnection, type Http2Params } from "../http2/client-connection.ts";
import { Http2Upstream, type UpstreamOwner } from "../http2/upstream.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { DialError, type DialOptions, type DialTarget } from "../transport/dial.ts";

/** Connections to one endpoint that take new streams. */
const MAX_CONNECTIONS = 8;
/** Streams that a connection is believed to have room for until it says otherwise. */
const ASSUMED_STREAMS = 100;
/** An unused connection is kept this long, ms; a further one shorter. */
const IDLE_TIMEOUT = 60_000;
const SURPLUS_IDLE_TIMEOUT = 3_000;
/** After an attempt to make a further connection failed, those there are must do for this long, ms. */
const RETRY_AFTER = 1_000;

export interface Http2PoolOptions {
  readonly clock: Clock;
  readonly dial: DialOptions;
  readonly target: DialTarget;
  readonly params: Http2Params;
  /** Exchanges that may wait for a stream. */
  readonly maxWaiting: number;
  readonly tcp: () => TcpSeries;
  /** A connection was made, or could not be. */
  readonly onConnected: () => void;
  readonly onConnectFailed: (error: DialError) => void;
  /** The endpoint's proxy could not reach its application. */
  readonly onUnserved: () => void;
}

export class Http2Pool implements ConnectionOwner, UpstreamOwner {
  readonly #options: Http2PoolOptions;
  /** Those that take new streams or will, in the order in which they are used. */
  readonly #connections: Http2ClientConnection[] = [];
  readonly #waiting = new Set<Http2Upstream>();
  #refusedAt = Number.NEGATIVE_INFINITY;
  #sweep: Timer | undefined;
  #closed = false;

  constructor(options: Http2PoolOptions) {
    this.#options = options;
  }

  /** Connections that take new streams or will. */
  get size(): number {
    return this.#connections.length;
  }

  /** Whether the peer is known to take tunnels as streams (RFC 8441), and has room for one. */
  get takesTunnels(): boolean {
    const connection = this.#choose();
    return connection?.machine.extendedConnect ?? false;
  }

  /** A stream for `exchange`, now or when there is one; undefined when too many wait for one already. */
  take(exchange: Exchange): Http2Upstream | undefined {
    const connection = this.#choose();
    if (connection === undefined && this.#waiting.size >= this.#options.maxWaiting) return undefined;
    const upstream = new Http2Upstream(this, exchange.version === 1);
    if (connection) upstream.admit(connection);
    else {
      this.#waiting.add(upstream);
      this.#connect(this.#waiting.size);
    }
    return upstream;
  }

  /** The first connection with a stream free, of those that do not stand still if there is such a one. */
  #choose(): Http2ClientConnection | undefined {
    let last: Http2ClientConnection | undefined;
    // Whoever came before goes before.
    if (this.#waiting.size > 0) return undefined;
    for (const connection of this.#connections) {
      if (connection.room <= 0) continue;
      if (!connection.saturated) return connection;
      last ??= connection;
    }
    if (last) this.#connect(1);
    return last;
  }

  /**
   * Connects, as far as connections under way will not do.
   * @param demand streams that are needed beyond the room there is
   */
  #connect(demand: number): void {
    const { clock, target, dial, tcp, params } = this.#options;
    const count = this.#connections.length;
    if (demand === 0 || count >= MAX_CONNECTIONS) return;
    let promised = 0;
    for (const connection of this.#connections) if (!connection.settled) promised += ASSUMED_STREAMS;
    if (demand <= promised) return;
    if (count > 0 && clock.monotonic() - this.#refusedAt < RETRY_AFTER) return;
    this.#connections.push(new Http2ClientConnection(this, target, dial, tcp(), params));
  }

  forget(upstream: Http2Upstream): void {
    this.#waiting.delete(upstream);
    this.#endIfDone();
  }

  onUnserved(): void {
    this.#options.onUnserved();
  }

  onConnected(connection: Http2ClientConnection): void {
    this.#options.onConnected();
    this.onRoom(connection);
  }

  onRoom(connection: Http2ClientConnection): void {
    if (connection.lasting) this.#admit(connection);
    else if (this.#remove(connection) && connection.settled) this.#replace(connection);
    // Who never spoke HTTP/2 is not asked again: those that wait hear of it when the connection is gone.
    this.#endIfDone();
  }

  #admit(connection: Http2ClientConnection): void {
    for (const upstream of this.#waiting) {
      if (connection.room <= 0) break;
      this.#waiting.delete(upstream);
      upstream.admit(connection);
    }
    this.#connect(this.#waiting.size);
    if (connection.active === 0) this.#rest(connection);
  }

  /** The peer goes away: what is under way ends there; what is new, or soon will be, needs another connection. */
  #replace(connection: Http2ClientConnection): void {
    const busy = connection.active > 0 && this.#connections.length === 0 && !this.#closed;
    this.#connect(Math.max(this.#waiting.size, busy ? 1 : 0));
  }

  #remove(connection: Http2ClientConnection): boolean {
    const index = this.#connections.indexOf(connection);
    if (index < 0) return false;
    this.#connections.splice(index, 1);
    return true;
  }

  onGone(connection: Http2ClientConnection, error: DialError | undefined): void {
    const { clock, onConnectFailed } = this.#options;
    this.#remove(connection);
    if (!connection.settled) {
      this.#refusedAt = clock.monotonic();
      if (!connection.connected) onConnectFailed(error!);
      this.#failWaiting(error ?? new DialError("bad-response", "the peer does not speak HTTP/2"));
    }
    this.#connect(this.#waiting.size);
    this.#endIfDone();
  }

  #failWaiting(error: DialError): void {
    // With another connection there, a stream will come free.
    if (this.#connections.length > 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const upstream of waiting) upstream.fail(error);
  }

  // ── Ends ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The connection has no stream. */
  #rest(connection: Http2ClientConnection): void {
    const { clock } = this.#options;
    connection.idleSince = clock.monotonic();
    this.#sweep ??= clock.after(SURPLUS_IDLE_TIMEOUT, this.#endIdle);
  }

  readonly #endIdle = (): void => {
    const { clock } = this.#options;
    const now = clock.monotonic();
    this.#sweep = undefined;
    let next = Number.POSITIVE_INFINITY;
    [...this.#connections].forEach((connection, index) => {
      if (!connection.connected || connection.active > 0) return;
      const left = connection.idleSince + (index === 0 ? IDLE_TIMEOUT : SURPLUS_IDLE_TIMEOUT) - now;
      if (left <= 0) connection.leave();
      else next = Math.min(next, left);
    });
    if (next !== Number.POSITIVE_INFINITY) this.#sweep = clock.after(next, this.#endIdle);
  };

  /** Takes nothing more; ends when what it has taken has ended. */
  close(): void {
    this.#closed = true;
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (!this.#closed || this.#waiting.size > 0) return;
    this.#options.clock.clear(this.#sweep);
    this.#sweep = undefined;
    for (const connection of this.#connections.splice(0)) connection.leave();
  }
}
