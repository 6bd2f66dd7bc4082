// The access log: a line for each inbound request, written when the response has ended, so that sizes and times are
// what they were. Lines go to standard error beside the log, and never hold up a request: what cannot be written in
// time is counted and left out.
import { write } from "node:fs";
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import type {
  Exchange,
  ExchangeContext,
  ExchangeEnd,
  ExchangeRecord,
  ExchangeWatch,
} from "../http/exchange.ts";

export type AccessLogFormat = "apache" | "json";

/** Text that waits to be written, at most, bytes. */
const MAX_PENDING = 1024 * 1024;
/** How long lines are gathered, ms. */
const GATHER = 100;
/** Longest value of a field, characters: a URI may be as long as a head. */
const MAX_VALUE = 4_096;
/** Where services put what joins their lines (reference/data-planes.md §1.21). */
const TRACE_IDS = ["x-b3-traceid", "x-request-id", "x-amzn-trace-id"];

/** Takes the text; calls back when there is room for more. */
export type AccessLogSink = (text: string, done: () => void) => void;

export interface AccessLogOptions {
  readonly format: AccessLogFormat;
  readonly clock: Clock;
  readonly log: Logger;
  readonly sink?: AccessLogSink;
}

export class AccessLog implements ExchangeWatch {
  readonly #options: AccessLogOptions;
  readonly #sink: AccessLogSink;
  #pending = "";
  #writing = false;
  #scheduled = false;
  #dropped = 0;

  constructor(options: AccessLogOptions) {
    this.#options = options;
    this.#sink = options.sink ?? standardError;
  }

  begin(exchange: Exchange, context: ExchangeContext): { record: ExchangeRecord } {
    return { record: new Line(this, exchange, context, this.#options.clock) };
  }

  /** Lines left out because nobody took them in time. */
  get dropped(): number {
    return this.#dropped;
  }

  write(entry: AccessEntry): void {
    const line = this.#options.format === "json" ? jsonLine(entry) : apacheLine(entry);
    if (this.#pending.length + line.length > MAX_PENDING) {
      if (this.#dropped === 0)
        this.#options.log.warn("the access log is not read fast enough: lines are left out");
      this.#dropped += 1;
      return;
    }
    this.#pending += line;
    if (this.#scheduled || this.#writing) return;
    this.#scheduled = true;
    this.#options.clock.after(GATHER, () => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#pending === "" || this.#writing) return;
    const text = this.#pending;
    this.#pending = "";
    this.#writing = true;
    this.#sink(text, () => {
      this.#writing = false;
      this.#flush();
    });
  }
}

/** Writes without waiting in the event loop, which `process.stderr` does when it is a pipe. */
function standardError(text: string, done: () => void): void {
  let bytes = Buffer.from(text, "utf8");
  const next = () => {
    write(2, bytes, (error, written) => {
      if (error && error.code !== "EAGAIN") return done();
      bytes = bytes.subarray(written ?? 0);
      if (bytes.length === 0) done();
      else if (error) setTimeout(next, 50);
      else next();
    });
  };
  next();
}

/** What a line says. */
export interface AccessEntry {
  readonly clientAddress: string;
  readonly clientId: string;
  /** ms since the epoch. */
  readonly timestamp: number;
  readonly method: string;
  readonly uri: string;
  readonly version: string;
  readonly traceId: string;
  readonly host: string;
  readonly userAgent: string;
  readonly requestBytes: number;
  /** 0: the client never got an answer. */
  readonly status: number;
  readonly responseBytes: number;
  /** From the request's head to the response's end, and to its head, ns. */
  readonly totalNs: number;
  readonly processingNs: number;
  /** The response did not come to its end. */
  readonly incomplete: boolean;
}

class Line implements ExchangeRecord {
  readonly #log: AccessLog;
  readonly #clock: Clock;
  readonly #head: Pick<
    AccessEntry,
    | "clientAddress"
    | "clientId"
    | "timestamp"
    | "method"
    | "uri"
    | "version"
    | "traceId"
    | "host"
    | "userAgent"
  >;
  #answeredAt: number | undefined;

  constructor(log: AccessLog, exchange: Exchange, { client }: ExchangeContext, clock: Clock) {
    const { request, version } = exchange;
    this.#log = log;
    this.#clock = clock;
    // The request's head is only there while the exchange is.
    this.#head = {
      clientAddress: client.ip.includes(":")
        ? `[${client.ip}]:${client.port}`
        : `${client.ip}:${client.port}`,
      clientId: client.identity ?? "-",
      timestamp: clock.now(),
      method: request.method,
      uri: request.path || request.authority,
      version: version === 2 ? "HTTP/2.0" : `HTTP/1.${request.minor}`,
      traceId: TRACE_IDS.map((name) => request.get(name)).find((value) => value !== undefined) ?? "",
      host: request.authority,
      userAgent: request.get("user-agent") ?? "",
    };
  }

  response(): void {
    this.#answeredAt = this.#clock.monotonic();
  }

  end(exchange: Exchange, end: ExchangeEnd): void {
    const now = this.#clock.monotonic();
    const since = (at: number) => Math.max(0, Math.round((at - exchange.startedAt) * 1e6));
    this.#log.write({
      ...this.#head,
      requestBytes: exchange.requestBytes,
      responseBytes: exchange.responseBytes,
      status: end.status,
      totalNs: since(now),
      processingNs: since(this.#answeredAt ?? now),
      incomplete: !end.complete,
    });
  }
}

/** One line, in the combined format's order; what clients send cannot end it or leave its quotes. */
export function apacheLine(entry: AccessEntry): string {
  const { clientAddress, clientId, timestamp, method, uri, version, status, responseBytes } = entry;
  const line = [
    quoted(clientAddress),
    quoted(clientId),
    "-",
    `[${new Date(timestamp).toISOString()}]`,
    `"${quoted(method)} ${quoted(uri)} ${version}"`,
    status === 0 ? "-" : status,
    responseBytes,
    `"${quoted(entry.host)}"`,
    `"${quoted(entry.userAgent)}"`,
    `"${quoted(entry.traceId)}"`,
    entry.requestBytes,
    entry.totalNs,
    entry.incomplete ? "incomplete" : "complete",
  ];
  return `${line.join(" ")}\n`;
}

export function jsonLine(entry: AccessEntry): string {
  return `${JSON.stringify({
    "client.addr": entry.clientAddress,
    "client.id": entry.clientId,
    timestamp: new Date(entry.timestamp).toISOString(),
    method: entry.method.slice(0, MAX_VALUE),
    uri: entry.uri.slice(0, MAX_VALUE),
    version: entry.version,
    host: entry.host.slice(0, MAX_VALUE),
    user_agent: entry.userAgent.slice(0, MAX_VALUE),
    trace_id: entry.traceId.slice(0, MAX_VALUE),
    request_bytes: entry.requestBytes,
    status: entry.status,
    response_bytes: entry.responseBytes,
    total_ns: entry.totalNs,
    processing_ns: entry.processingNs,
    complete: !entry.incomplete,
  })}\n`;
}

/** As Apache's log does it: quotes, backslashes and what is no printable ASCII as \xHH. */
function quoted(value: string): string {
  return value
    .slice(0, MAX_VALUE)
    .replace(
      /[^\x20-\x7e]|["\\]/g,
      (char) => `\\x${(char.charCodeAt(0) & 0xff).toString(16).padStart(2, "0")}`,
    );
}
