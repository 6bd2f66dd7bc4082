// One endpoint: where it is, how loaded it is believed to be, whether it can be reached, and its connections.

import { DEFAULT_LOAD, type LoadConfig, PeakEwma } from "../../rules/endpoint-load.ts";
import type { PassportKey } from "../../rules/passport.ts";
import { retryAfterMs } from "../../rules/retry-after.ts";
import type { BackoffOptions } from "../../util/backoff.ts";
import type { Clock } from "../../util/clock.ts";
import type { Exchange, Outcome, Place, Route, Upstream } from "../http/exchange.ts";
import { NO_EDITS, type RequestEdits, type ResponseHead } from "../http/message.ts";
import { ClientConnection, type ClientOwner } from "../http1/client-connection.ts";
import { Http1Pool, type PoolOptions } from "../http1/pool.ts";
import { DEFAULT_HTTP2_PARAMS, type Http2Params } from "../http2/client-connection.ts";
import type { HttpSeries, TcpSeries } from "../telemetry/series.ts";
import type { DialError, DialOptions, DialTarget } from "../transport/dial.ts";
import { Breaker, type BreakerOptions } from "./breaker.ts";
import { Http2Pool } from "./http2-pool.ts";
import { Reach } from "./reach.ts";

/** What all endpoints of one side share. */
export interface Shared {
  readonly clock: Clock;
  readonly dial: DialOptions;
  readonly pool: PoolOptions;
  /** Of tries of endpoints that failed; undefined: the next request tries. */
  readonly backoff: BackoffOptions | undefined;
  /** Requests that may wait for a stream of an endpoint. */
  readonly maxWaiting: number;
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
  /** What those who watch exchanges are told of it; nothing when absent. */
  readonly labels?: (() => Readonly<Record<string, string>>) | undefined;
  /** Resolved when first needed: most endpoints serve only one of the two. */
  readonly http: () => HttpSeries;
  readonly tcp: () => TcpSeries;
  /** Its share of the traffic, in proportion to others'. */
  readonly weight?: number | undefined;
  /** It is in our own zone. */
  readonly local?: boolean | undefined;
  /** How its load is believed to develop; as by default when absent. */
  readonly load?: LoadConfig | undefined;
  /** What takes it out of the choice for its answers; undefined: nothing does. */
  readonly breaker?: BreakerOptions | undefined;
  /** It became reachable or unreachable, or its breaker changed its mind. */
  readonly onChange: (endpoint: Endpoint) => void;
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
  weight: number;
  readonly local: boolean;
  /** Requests and connections that it has not finished. */
  pending = 0;
  readonly #load: PeakEwma;
  readonly #breaker: Breaker | undefined;
  /** The heads of responses are of interest: most policies ask for nothing that they could tell. */
  readonly #looksInto: boolean;
  readonly #shared: Shared;
  readonly #options: EndpointOptions;
  readonly #reach: Reach;
  #http: HttpSeries | undefined;
  #tcp: TcpSeries | undefined;
  #place: Place | undefined;

  constructor(shared: Shared, options: EndpointOptions) {
    this.#shared = shared;
    this.#options = options;
    this.key = options.key;
    this.target = options.target;
    this.opaque = options.opaque;
    this.#http1 = new Http1Pool(shared.pool);
    this.#reach = new Reach({
      clock: shared.clock,
      target: options.target,
      dial: shared.dial,
      backoff: shared.backoff,
      onChange: () => options.onChange(this),
    });
    this.weight = options.weight ?? 1;
    this.local = options.local ?? false;
    this.#load = new PeakEwma(options.load ?? DEFAULT_LOAD, shared.clock.monotonic());
    this.#looksInto = options.load?.penalty !== undefined || options.breaker !== undefined;
    this.#breaker =
      options.breaker && new Breaker(options.breaker, shared.clock, () => options.onChange(this));
  }

  get series(): HttpSeries {
    this.#http ??= this.#options.http();
    return this.#http;
  }

  get tcp(): TcpSeries {
    this.#tcp ??= this.#options.tcp();
    return this.#tcp;
  }

  get place(): Place {
    if (!this.#place) {
      const { ip, port } = this.target;
      this.#place = { ip, port, labels: this.#options.labels?.() ?? {} };
    }
    return this.#place;
  }

  /** It can be reached, as far as is known. */
  get reachable(): boolean {
    return this.#reach.reached;
  }

  /** When it last failed, ms; the first to have failed is the first to be tried again. */
  get failedAt(): number {
    return this.#reach.failedAt;
  }

  /** Its breaker lets requests through: all of them, or the one that decides. */
  get admitted(): boolean {
    return this.#breaker?.admits ?? true;
  }

  /** When its breaker last took it out of the choice, ms. */
  get ejectedAt(): number {
    return this.#breaker?.ejectedAt ?? 0;
  }

  /**
   * Cost of one more request.
   * @param now monotonic, ms
   * @param weight relative to the mean of all
   */
  load(now: number, weight: number): number {
    return this.#load.load(now, this.pending, weight);
  }

  /** Sends the exchange here. */
  serve(exchange: Exchange, route: Route = this, edits?: RequestEdits): void {
    const upstream = this.open(exchange);
    if (upstream === undefined) {
      exchange.refuse("load-shed", `too many requests wait for ${this.key}`);
      return;
    }
    this.taken();
    this.#shared.inFlight += 1;
    this.#breaker?.sent(upstream);
    exchange.placed(this.place);
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
      maxWaiting: this.#shared.maxWaiting,
      tcp: () => this.tcp,
      onConnected: () => this.#reach.connected(),
      onConnectFailed: (error) => this.noteFailure(error),
      onUnserved: () => this.onUnserved(),
    });
    return this.#http2;
  }

  began(): void {
    this.series.requests.inc();
  }

  /** Counts a request or forwarded connection in; each is counted out by `left` or `done`. */
  taken(): void {
    this.pending += 1;
  }

  done(): void {
    this.pending -= 1;
  }

  /** A request that `serve` took is over. @param answered `measured` was called */
  left(answered: boolean): void {
    this.pending -= 1;
    if (!answered) this.#shared.inFlight -= 1;
  }

  measured(rtt: number, now: number, status: number, head: ResponseHead | undefined): void {
    this.#shared.inFlight -= 1;
    this.#load.measured(rtt, now);
    if (this.#looksInto && head !== undefined) this.#look(status, head, now);
    this.onServed(now - rtt);
  }

  #look(status: number, head: ResponseHead, now: number): void {
    const retryAfter = retryAfterMs(head.get("retry-after"), this.#shared.clock.now());
    const grpc = head.get("grpc-status");
    this.#load.responded(status, grpc === undefined ? undefined : Number(grpc), retryAfter, now);
    if (retryAfter !== undefined) this.#breaker?.hint(retryAfter);
  }

  release(upstream: Upstream, outcome: Outcome | undefined, now: number, broken?: PassportKey): void {
    this.left(outcome !== undefined);
    this.#breaker?.ended(upstream, outcome, broken, now);
    if (outcome) this.series.ended(outcome, broken);
  }

  onIdle(client: ClientConnection): void {
    this.#http1.put(client, this.#shared.clock.monotonic());
  }

  onGone(client: ClientConnection, error: DialError | undefined): void {
    this.#http1.remove(client);
    if (error) this.noteFailure(error);
  }

  /** A connection could not be made: it leaves the choice at once. */
  noteFailure(error: DialError): void {
    this.#reach.lost(error);
  }

  /** Its proxy could not reach its application: it leaves the choice for a while. */
  onUnserved(): void {
    this.#reach.unserved();
  }

  /** Its application has answered. @param since when what it answers began, monotonic, ms */
  onServed(since: number): void {
    this.#reach.served(since);
  }

  /** It is no longer named by discovery: what is in flight ends, nothing new begins. */
  retire(): void {
    this.#reach.stop();
    this.#breaker?.stop();
    this.#http1.close();
    this.#http2?.close();
  }
}
