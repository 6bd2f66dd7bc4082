// One endpoint: where it is, how loaded it is believed to be, whether it can be reached, and its connections.

import { DEFAULT_RTT_MS, endpointLoad, nextEstimate } from "../../rules/endpoint-choice.ts";
import { Backoff, type BackoffOptions } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Exchange, Outcome, Route, Upstream } from "../http/exchange.ts";
import { NO_EDITS, type RequestEdits } from "../http/message.ts";
import { ClientConnection, type ClientOwner } from "../http1/client-connection.ts";
import { Http1Pool, type PoolOptions } from "../http1/pool.ts";
import { DEFAULT_HTTP2_PARAMS, type Http2Params } from "../http2/client-connection.ts";
import type { HttpSeries, TcpSeries } from "../telemetry/series.ts";
import {
  type DialError,
  type DialHandler,
  type DialOptions,
  type DialTarget,
  dial,
} from "../transport/dial.ts";
import { Http2Pool } from "./http2-pool.ts";

/** What all endpoints of one side share. */
export interface Shared {
  readonly clock: Clock;
  readonly dial: DialOptions;
  readonly pool: PoolOptions;
  /** Of probes to endpoints that failed; undefined: they are not probed, the next request tries. */
  readonly backoff: BackoffOptions | undefined;
  /** Requests that wait for response headers. */
  inFlight: number;
}

export interface EndpointOptions {
  /** `ip:port` */
  readonly key: string;
  readonly target: DialTarget;
  /** How opaque connections reach it, and what they begin with; as `target` when absent. */
  readonly opaque?: { readonly target: DialTarget; readonly preface: Buffer } | undefined;
  /** How connections to it speak HTTP/2; as by default when absent. */
  readonly http2?: Http2Params | undefined;
  /** Its proxy takes HTTP/1 carried in HTTP/2. */
  readonly upgrades?: boolean | undefined;
  /** What requests must name there instead of their own authority: gateways to other clusters go by it. */
  readonly authority?: string | undefined;
  /** Resolved when first needed: most endpoints serve only one of the two. */
  readonly http: () => HttpSeries;
  readonly tcp: () => TcpSeries;
  /** It became reachable or unreachable. */
  readonly onReadyChange: (endpoint: Endpoint) => void;
}

/**
 * HTTP/1 heads above this are not carried in HTTP/2, bytes: peers take header lists of 16 KiB (hyper's default, and
 * ours), counted with 32 bytes for each field, while HTTP/1 knows larger ones.
 */
const UPGRADE_LIMIT = 12 * 1024;

export class Endpoint implements ClientOwner, Route {
  readonly key: string;
  readonly target: DialTarget;
  readonly opaque: EndpointOptions["opaque"];
  readonly #http1: Http1Pool;
  #http2: Http2Pool | undefined;
  ready = true;
  /** When it last failed, ms; the first to have failed is the first to be tried again. */
  failedAt = 0;
  #pending = 0;
  #estimate = DEFAULT_RTT_MS;
  #estimatedAt: number;
  readonly #shared: Shared;
  readonly #options: EndpointOptions;
  readonly #backoff: Backoff | undefined;
  #http: HttpSeries | undefined;
  #tcp: TcpSeries | undefined;
  #probe: Timer | undefined;
  #retired = false;

  constructor(shared: Shared, options: EndpointOptions) {
    this.#shared = shared;
    this.#options = options;
    this.key = options.key;
    this.target = options.target;
    this.opaque = options.opaque;
    this.#http1 = new Http1Pool(shared.pool);
    this.#backoff = shared.backoff && new Backoff(shared.backoff, shared.clock.random);
    this.#estimatedAt = shared.clock.monotonic();
  }

  get series(): HttpSeries {
    this.#http ??= this.#options.http();
    return this.#http;
  }

  get tcp(): TcpSeries {
    this.#tcp ??= this.#options.tcp();
    return this.#tcp;
  }

  /** Cost of one more request. @param now monotonic, ms */
  load(now: number): number {
    return endpointLoad(nextEstimate(this.#estimate, now - this.#estimatedAt, 0), this.#pending);
  }

  /** Sends the exchange here. */
  serve(exchange: Exchange, route: Route = this, edits?: RequestEdits): void {
    const upstream = this.open(exchange);
    if (upstream === undefined) {
      exchange.refuse("load-shed", `too many requests wait for ${this.key}`);
      return;
    }
    this.taken();
    const { authority } = this.#options;
    exchange.send(upstream, route, authority === undefined ? edits : { ...(edits ?? NO_EDITS), authority });
  }

  /**
   * A way to send `exchange` here: a stream, for HTTP/2 and for what can be carried in it; else a connection, an
   * unused one unless such a one has just proved dead. undefined: too many wait already.
   */
  open(exchange: Exchange): Upstream | undefined {
    if (this.#takesStream(exchange)) return this.#streams().take(exchange);
    const idle = exchange.attempts === 0 ? this.#http1.take(exchange.startedAt) : undefined;
    return idle ?? new ClientConnection(this, this.target, this.#shared.dial, this.tcp);
  }

  #takesStream({ version, tunnels, request }: Exchange): boolean {
    if (tunnels) return version === 2 && this.#http2 !== undefined && this.#http2.takesTunnels;
    return version === 2 || (this.#options.upgrades === true && (request.size ?? 0) <= UPGRADE_LIMIT);
  }

  #streams(): Http2Pool {
    this.#http2 ??= new Http2Pool({
      clock: this.#shared.clock,
      dial: this.#shared.dial,
      target: this.target,
      params: this.#options.http2 ?? DEFAULT_HTTP2_PARAMS,
      tcp: () => this.tcp,
      onConnected: () => this.recovered(),
      onConnectFailed: (error) => this.noteFailure(error),
    });
    return this.#http2;
  }

  began(): void {
    this.series.requests.inc();
  }

  /** Counts a request or forwarded connection in; each is counted out by `release` or `done`. */
  taken(): void {
    this.#pending += 1;
    this.#shared.inFlight += 1;
  }

  done(): void {
    this.#pending -= 1;
    this.#shared.inFlight -= 1;
  }

  measured(rtt: number, now: number): void {
    this.#estimate = nextEstimate(this.#estimate, now - this.#estimatedAt, rtt);
    this.#estimatedAt = now;
    if (!this.ready) this.recovered();
  }

  release(_upstream: Upstream, outcome: Outcome | undefined, _now: number): void {
    this.done();
    if (outcome) this.series.ended(outcome.status, outcome.complete, outcome.latency);
  }

  onIdle(client: ClientConnection): void {
    this.#http1.put(client, this.#shared.clock.monotonic());
  }

  onGone(client: ClientConnection, error: DialError | undefined): void {
    this.#http1.remove(client);
    if (error) this.noteFailure(error);
  }

  /** A connection could not be made: leave the choice at once, and come back when a probe connects. */
  noteFailure(error: DialError): void {
    if (this.#retired || error.key === "upstream-closed" || error.key === "no-certificate") return;
    this.failedAt = this.#shared.clock.monotonic();
    if (this.ready) {
      this.ready = false;
      this.#options.onReadyChange(this);
    }
    if (this.#backoff)
      this.#probe ??= this.#shared.clock.after(this.#backoff.next(), () => this.#startProbe());
  }

  recovered(): void {
    this.#shared.clock.clear(this.#probe);
    this.#probe = undefined;
    this.#backoff?.reset();
    if (this.ready || this.#retired) return;
    this.ready = true;
    this.#options.onReadyChange(this);
  }

  #startProbe(): void {
    this.#probe = undefined;
    if (!this.#retired) new Probe(this, this.target, this.#shared.dial);
  }

  /** It is no longer named by discovery: what is in flight ends, nothing new begins. */
  retire(): void {
    this.#retired = true;
    this.#shared.clock.clear(this.#probe);
    this.#probe = undefined;
    this.#http1.close();
    this.#http2?.close();
  }
}

/** One connection made for no other reason than to learn that it can be. */
class Probe implements DialHandler {
  readonly #endpoint: Endpoint;
  readonly #destroy: () => void;
  #connected = false;

  constructor(endpoint: Endpoint, target: DialTarget, options: DialOptions) {
    this.#endpoint = endpoint;
    const socket = dial(target, options, this);
    this.#destroy = () => socket.destroy();
  }

  onConnected(): void {
    this.#connected = true;
    this.#destroy();
    this.#endpoint.recovered();
  }

  onClosed(error: DialError | undefined): void {
    if (!this.#connected && error) this.#endpoint.noteFailure(error);
  }

  onBytes(): void {}
  onEnd(): void {}
  onDrain(): void {}
}
