// A request that a test sends by an Upstream of its choice, and what becomes of it.
import type { Exchange, Route, Upstream, UpstreamHandler } from "../../src/proxy/http/exchange.ts";
import {
  type Field,
  NO_EDITS,
  type RequestEdits,
  type RequestHead,
  type ResponseHead,
} from "../../src/proxy/http/message.ts";
import type { DialError } from "../../src/proxy/transport/dial.ts";
import type { PassportKey } from "../../src/rules/passport.ts";

export interface FakeRequest {
  readonly method?: string;
  readonly path?: string;
  readonly authority?: string;
  readonly version?: 1 | 2;
  readonly minor?: number;
  readonly absoluteForm?: boolean;
  readonly protocol?: string;
  readonly fields?: readonly Field[];
  readonly edits?: RequestEdits;
  /** Sent with the head; undefined: the test writes the body itself, unless `end`. */
  readonly body?: Buffer;
  /** false: the body follows by `write` and `end`. */
  readonly end?: boolean;
}

export function requestHead(request: FakeRequest): RequestHead {
  const fields = request.fields ?? [];
  return {
    method: request.method ?? "GET",
    scheme: "http",
    authority: request.authority ?? "web",
    path: request.path ?? "/",
    absoluteForm: request.absoluteForm ?? false,
    minor: request.minor ?? 1,
    protocol: request.protocol,
    contentLength: -1,
    get: (name) => fields.find(([known]) => known === name)?.[1],
    fields: () => fields,
  };
}

/** An exchange without a client: the response is collected. */
export class FakeExchange implements Exchange, UpstreamHandler {
  readonly version: 1 | 2;
  readonly tunnels: boolean;
  readonly request: RequestHead;
  readonly grpc = false;
  readonly startedAt = performance.now();
  attempts = 0;
  failure: DialError | undefined;
  readonly requestDone: boolean;
  readonly requestBytes = 0;
  responseBytes = 0;
  record: undefined;
  account: undefined;
  routeLabels: undefined;
  upstream: Upstream | undefined;
  route: Route | undefined;
  interim: ResponseHead[] = [];
  response: ResponseHead | undefined;
  readonly chunks: Buffer[] = [];
  trailers: readonly Field[] | undefined;
  ended = false;
  tunnel = false;
  refused: PassportKey | undefined;
  broken:
    | { key: PassportKey; errno: string | undefined; unprocessed: boolean; resetCode: number | undefined }
    | undefined;
  writable = 0;
  /** Called when the exchange did not reach a server, or broke. */
  onFailure: () => void = () => {};
  onChunk: (bytes: Buffer) => void = () => {};
  /** Called when it has ended, in whatever way. */
  onOver: () => void = () => {};
  /** Keep the chunks; without it only their size is counted. */
  keeps = true;
  readonly #waiting: (() => void)[] = [];
  readonly #fake: FakeRequest;
  #edits: RequestEdits = NO_EDITS;

  constructor(request: FakeRequest = {}) {
    this.#fake = request;
    this.version = request.version ?? 2;
    this.tunnels = request.method === "CONNECT";
    this.request = requestHead(request);
    this.requestDone = request.end ?? true;
  }

  get body(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }

  /** It came to its end, was refused, or broke. */
  get over(): boolean {
    return this.ended || this.refused !== undefined || this.broken !== undefined;
  }

  /** @throws when it is not over within `timeout` ms */
  done(timeout = 10_000): Promise<this> {
    if (this.over) return Promise.resolve(this);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${this.request.path} was not over in time`)), timeout);
      this.#waiting.push(() => {
        clearTimeout(late);
        resolve(this);
      });
    });
  }

  #over(): void {
    this.onOver();
    if (!this.over) return;
    for (const next of this.#waiting.splice(0)) next();
  }

  send(upstream: Upstream, route?: Route, edits?: RequestEdits): void {
    this.attempts += 1;
    this.upstream = upstream;
    this.route = route;
    this.#edits = edits ?? this.#fake.edits ?? NO_EDITS;
    upstream.attach(this);
    if (upstream.connected) this.#transmit(upstream);
  }

  placed(): void {}

  refuse(key: PassportKey): void {
    this.refused = key;
    this.#over();
  }

  expire(): void {
    throw new Error("nothing ends it");
  }

  respond(): void {}

  #transmit(upstream: Upstream): void {
    this.route?.began(this);
    const { body, end = true } = this.#fake;
    upstream.request(this.request, this.#edits, end && body === undefined);
    if (body !== undefined) {
      upstream.write(body);
      if (end) upstream.end(undefined);
    }
  }

  #leave(complete: boolean): void {
    const { route, upstream, response } = this;
    this.route = undefined;
    const now = performance.now();
    route?.release(
      upstream!,
      response && {
        status: response.status,
        grpcStatus: undefined,
        complete,
        latency: now - this.startedAt,
      },
      now,
    );
  }

  onConnected(upstream: Upstream): void {
    this.#transmit(upstream);
  }

  onConnectFailed(_upstream: Upstream, error: DialError): void {
    this.failure = error;
    this.#leave(false);
    this.onFailure();
  }

  onUnserved(): boolean {
    return false;
  }

  onInterim(head: ResponseHead): void {
    this.interim.push(head);
  }

  onResponse(_upstream: Upstream, head: ResponseHead): void {
    this.response = head;
    const now = performance.now();
    this.route?.measured(now - this.startedAt, now, head.status, head);
  }

  onTunnel(_upstream: Upstream, head: ResponseHead): void {
    this.response = head;
    this.tunnel = true;
  }

  onBody(bytes: Buffer): void {
    this.responseBytes += bytes.length;
    if (this.keeps) this.chunks.push(bytes);
    this.onChunk(bytes);
  }

  onEnd(_upstream: Upstream, trailers: readonly Field[] | undefined): void {
    this.trailers = trailers;
    this.ended = true;
    this.#leave(true);
    this.#over();
  }

  onWritable(): void {
    this.writable += 1;
  }

  onBroken(
    _upstream: Upstream,
    key: PassportKey,
    errno: string | undefined,
    unprocessed: boolean,
    resetCode?: number,
  ): void {
    this.broken = { key, errno, unprocessed, resetCode };
    this.#leave(false);
    this.onFailure();
    this.#over();
  }
}
