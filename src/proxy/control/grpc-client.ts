// gRPC over one HTTP/2 connection to a service of the control plane: unary and server-streaming calls, with the
// connection made, watched and made again behind them.
import type { Duplex } from "node:stream";
import { decode, encode, type Method, type Partially } from "../../api/codec.ts";
import { Deframer, frame } from "../../api/grpc-frame.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { ERROR } from "../../http2/frame.ts";
import type { Header } from "../../http2/hpack.ts";
import type { Http2Failure } from "../../http2/stream.ts";
import type { Logger } from "../../log/logger.ts";
import type {
  CounterSeries,
  Family,
  GaugeSeries,
  HistogramSeries,
  Registry,
} from "../../metrics/registry.ts";
import { LATENCY_BUCKETS_MS } from "../../metrics/registry.ts";
import { Backoff } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import { Http2Client } from "../http2/client.ts";

export interface CallHandler<R> {
  onMessage(message: R): void;
  /** Comes once, last; undefined for status OK. */
  onEnd(error: GrpcError | undefined): void;
}

export interface GrpcClientOptions {
  /** `host:port`, for metrics, logs and :authority. */
  readonly authority: string;
  /** Opens a connection that speaks HTTP/2. */
  readonly connect: () => Promise<Duplex>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

/** Reconnecting waits between these, ms: a control plane that starts or is replaced is met soon after it is there. */
const BACKOFF = { min: 100, max: 2_000, jitter: 0.5 };
/** Between these once it has been away for a while, ms (Linkerd's bound): it may be away for long. */
const PATIENT_BACKOFF = { min: 2_000, max: 10_000, jitter: 0.5 };
const PATIENT_AFTER = 60_000;
/** A connection that held for this long is no sign of trouble when it ends, ms. */
const LASTING = 10_000;
const KEEP_ALIVE = { keepAliveInterval: 10_000, keepAliveTimeout: 3_000 };
/** Calls that wait for a connection; more are refused. */
const MAX_WAITING = 10_000;
/** A call that the peer did not look at is made again, at most so often. */
const MAX_ATTEMPTS = 5;
/** A connection is left for another at most so often, ms: where every replica is in trouble, moving helps nobody. */
const LEAVE_INTERVAL = 1_000;
/** Largest message we take from the control plane, bytes. */
const MAX_MESSAGE = 4 * 1024 * 1024;

interface Waiting {
  start(client: Http2Client): void;
  fail(error: GrpcError): void;
}

export class GrpcClient {
  readonly #options: GrpcClientOptions;
  readonly #backoff: Backoff;
  readonly #patientBackoff: Backoff;
  /** Since when no connection lasts. */
  #awaySince: number | undefined;
  readonly #requests: CounterSeries;
  readonly #responses: Family<CounterSeries>;
  readonly #latency: HistogramSeries;
  readonly #connected: GaugeSeries;
  readonly #waiting = new Set<Waiting>();
  /** The connection for new calls; older ones end with the calls that they carry. */
  #client: Http2Client | undefined;
  readonly #connections = new Set<Http2Client>();
  #connecting = false;
  /** When a connection was left last (monotonic). */
  #leftAt = Number.NEGATIVE_INFINITY;
  #retry: Timer | undefined;
  #closed = false;

  constructor(options: GrpcClientOptions) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.clock.random);
    this.#patientBackoff = new Backoff(PATIENT_BACKOFF, options.clock.random);
    const { registry, authority } = options;
    const labels = { addr: authority };
    this.#requests = registry.counter("control_request_total", "Calls to the control plane.").labels(labels);
    this.#responses = registry.counter("control_response_total", "Calls to the control plane that ended.");
    this.#latency = registry
      .histogram(
        "control_response_latency_ms",
        "Time to the first message of a call to the control plane.",
        LATENCY_BUCKETS_MS,
      )
      .labels(labels);
    this.#connected = registry
      .gauge("control_connected", "Whether there is a connection to the control plane.")
      .labels(labels);
  }

  /** Begins a call, as soon as there is a connection. Returns the way to cancel it; no more calls back then. */
  call<Q, R>(method: Method<Q, R>, request: Partially<Q>, handler: CallHandler<R>): () => void {
    const { clock, authority } = this.#options;
    let cancel: (() => void) | undefined;
    let ended = false;
    let attempts = 0;
    const started = clock.monotonic();
    const end = (error: GrpcError | undefined) => {
      if (ended) return;
      ended = true;
      this.#waiting.delete(entry);
      const status = String(error?.code ?? STATUS.OK);
      this.#responses
        .labels({ addr: authority, grpc_status: status, classification: error ? "failure" : "success" })
        .inc();
      handler.onEnd(error);
    };
    const entry: Waiting = {
      fail: end,
      start: (client) => {
        this.#waiting.delete(entry);
        attempts += 1;
        const response = new Response(
          (body) => {
            if (ended) return;
            if (response.count === 1) this.#latency.observe(clock.monotonic() - started);
            handler.onMessage(decode(method.response, body));
          },
          (error, unprocessed, answered) => {
            if (unprocessed && !ended && !this.#closed && attempts < MAX_ATTEMPTS) this.#begin(entry);
            else {
              // The replica leaves, or cannot help: the next calls go to another. What else goes on here may go on.
              if (answered && error?.code === STATUS.UNAVAILABLE) this.#leave(client);
              end(error);
            }
          },
          () => cancel?.(),
        );
        cancel = client.request(
          headersOf(method.path, authority),
          frame(encode(method.request, request)),
          response,
        );
      },
    };
    this.#requests.inc();
    if (this.#closed || this.#waiting.size >= MAX_WAITING) {
      queueMicrotask(() => end(new GrpcError(STATUS.UNAVAILABLE, "the client is closed or overfull")));
    } else this.#begin(entry);
    return () => {
      if (ended) return;
      ended = true;
      this.#waiting.delete(entry);
      cancel?.();
    };
  }

  /** One request, one answer. @throws GrpcError, also when `timeout` ms pass */
  unary<Q, R>(method: Method<Q, R>, request: Partially<Q>, timeout: number): Promise<R> {
    return new Promise((resolve, reject) => {
      let answer: R | undefined;
      const { clock } = this.#options;
      const cancel = this.call(method, request, {
        onMessage: (message) => {
          answer ??= message;
        },
        onEnd: (error) => {
          clock.clear(timer);
          if (error) reject(error);
          else if (answer === undefined)
            reject(new GrpcError(STATUS.INTERNAL, "an answer without a message"));
          else resolve(answer);
        },
      });
      const timer = clock.after(timeout, () => {
        cancel();
        reject(new GrpcError(STATUS.DEADLINE_EXCEEDED, `no answer within ${timeout} ms`));
      });
    });
  }

  /** Lets go of the connection once its calls have ended; the next call makes a new one. */
  disconnect(): void {
    this.#client?.close();
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#retry);
    for (const connection of [...this.#connections]) connection.destroy();
    for (const waiting of [...this.#waiting])
      waiting.fail(new GrpcError(STATUS.CANCELLED, "the client is closed"));
  }

  #leave(client: Http2Client): void {
    const now = this.#options.clock.monotonic();
    if (this.#client !== client || now - this.#leftAt < LEAVE_INTERVAL) return;
    this.#leftAt = now;
    client.close();
  }

  /** On the connection that is there, or once there is one with room. */
  #begin(entry: Waiting): void {
    if (this.#client?.available) {
      entry.start(this.#client);
      return;
    }
    this.#waiting.add(entry);
    this.#connect();
  }

  #connect(): void {
    // A full connection is waited for: its peer said how many calls it takes.
    if (this.#connecting || this.#closed || this.#retry || this.#client?.lasting) return;
    this.#connecting = true;
    this.#options.connect().then(
      (socket) => {
        this.#connecting = false;
        if (this.#closed) {
          socket.destroy();
          return;
        }
        this.#adopt(socket);
      },
      (error) => {
        this.#connecting = false;
        this.#failed(errorMessage(error));
      },
    );
  }

  #adopt(socket: Duplex): void {
    const { clock, authority, log } = this.#options;
    const since = clock.monotonic();
    this.#connected.set(1);
    log.debug("connected to the control plane", { addr: authority });
    const client = new Http2Client(socket, {
      clock,
      ...KEEP_ALIVE,
      onRoom: () => this.#startWaiting(),
      onClose: (error) => {
        this.#connections.delete(client);
        if (this.#client === client) {
          this.#client = undefined;
          this.#connected.set(0);
        }
        if (clock.monotonic() - since > LASTING) {
          this.#backoff.reset();
          this.#patientBackoff.reset();
          this.#awaySince = undefined;
        }
        if (error)
          log.info("the connection to the control plane ended", { addr: authority, error: error.message });
        // Also when nobody waits just now: many watches come back one by one, and each would connect at once.
        if (this.#client === undefined && (error || this.#waiting.size > 0))
          this.#failed(error?.message ?? "closed");
      },
    });
    this.#client = client;
    this.#connections.add(client);
    this.#startWaiting();
  }

  #startWaiting(): void {
    if (this.#waiting.size === 0) return;
    for (const waiting of [...this.#waiting]) {
      if (!this.#client?.available) break;
      waiting.start(this.#client);
    }
    // The connection may have been asked to take no more.
    if (this.#waiting.size > 0) this.#connect();
  }

  #failed(reason: string): void {
    if (this.#closed || this.#retry) return;
    const { clock, authority, log } = this.#options;
    this.#awaySince ??= clock.monotonic();
    const away = clock.monotonic() - this.#awaySince;
    const delay = (away < PATIENT_AFTER ? this.#backoff : this.#patientBackoff).next();
    log.info("the control plane cannot be reached, trying again", {
      addr: authority,
      reason,
      delay_ms: Math.round(delay),
    });
    this.#retry = clock.after(delay, () => {
      this.#retry = undefined;
      if (this.#waiting.size > 0) this.#connect();
    });
  }
}

function headersOf(path: string, authority: string): Header[] {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", authority],
    ["te", "trailers"],
    ["content-type", "application/grpc"],
  ];
}

/** @param unprocessed the peer did not look at the call. @param answered it is the peer that says how it ended */
type ResponseEnd = (error: GrpcError | undefined, unprocessed: boolean, answered: boolean) => void;

/** Turns the events of one HTTP/2 response into messages and a status. */
class Response {
  readonly #deframer = new Deframer(MAX_MESSAGE);
  readonly #message: (body: Buffer) => void;
  readonly #end: ResponseEnd;
  readonly #abort: () => void;
  #status: GrpcError | "ok" | undefined;
  count = 0;

  constructor(message: (body: Buffer) => void, end: ResponseEnd, abort: () => void) {
    this.#message = message;
    this.#end = end;
    this.#abort = abort;
  }

  onHeaders(headers: readonly Header[]): void {
    const status = headerValue(headers, ":status");
    if (status !== "200") this.#status = new GrpcError(STATUS.UNAVAILABLE, `HTTP status ${status}`);
    // Without a body the status stands here.
    else this.#readStatus(headers);
  }

  onData(chunk: Buffer): void {
    try {
      for (const body of this.#deframer.push(chunk)) {
        this.count += 1;
        this.#message(body);
      }
    } catch (error) {
      this.#status = new GrpcError(STATUS.INTERNAL, `cannot read the answer: ${errorMessage(error)}`);
      this.#abort();
    }
  }

  onTrailers(headers: readonly Header[]): void {
    this.#readStatus(headers);
  }

  onClose(error: Http2Failure | undefined): void {
    const status =
      this.#status ??
      (error
        ? new GrpcError(error.code === ERROR.CANCEL ? STATUS.CANCELLED : STATUS.UNAVAILABLE, error.message)
        : new GrpcError(STATUS.UNKNOWN, "an answer without a status"));
    this.#end(status === "ok" ? undefined : status, error?.unprocessed ?? false, this.#status !== undefined);
  }

  #readStatus(headers: readonly Header[]): void {
    const code = headerValue(headers, "grpc-status");
    if (code === undefined) return;
    this.#status =
      code === "0"
        ? "ok"
        : new GrpcError(Number(code), percentDecoded(headerValue(headers, "grpc-message") ?? ""));
  }
}

const headerValue = (headers: readonly Header[], name: string): string | undefined =>
  headers.find(([key]) => key === name)?.[1];

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
