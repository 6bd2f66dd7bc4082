// The little HTTP/1 that the admin port needs, on raw sockets: one request at a time, small bodies, answers whole or
// in pieces, and a deadline on everything. node:http would cost every proxy 0.8 MB and leave its own deadlines unset here.
import type { Duplex } from "node:stream";
import type { Clock, Timer } from "../../util/clock.ts";
import { COMPLETE, HEAD_LIMIT, Head, INCOMPLETE } from "../http1/head.ts";

export interface AdminRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** What follows `?`; empty when nothing does. */
  readonly query: string;
  /** Of a name in small letters; undefined when it is not there. */
  readonly header: (name: string) => string | undefined;
  readonly body: string;
}

export interface AdminResponse {
  readonly status: number;
  readonly type: string;
  /** Pieces are sent as they come, and asked for only as fast as they are read. */
  readonly body: string | Buffer | AsyncIterable<Buffer>;
  readonly encoding?: "gzip";
}

/** What a request may carry, bytes: a log filter. */
const MAX_BODY = 1_024;
/** A request must be whole within this of its first byte, or of the connection, ms. */
const REQUEST_TIMEOUT = 5_000;
/** A client that takes nothing of an answer for this long is given up, ms. */
const STALL_TIMEOUT = 30_000;
/** A connection that is asked nothing is kept for this long, ms: longer than scrapers pause. */
const IDLE_TIMEOUT = 60_000;

const NOTHING = Buffer.alloc(0);

const REASONS: Record<number, string> = {
  200: "OK",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  411: "Length Required",
  413: "Content Too Large",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

export const text = (status: number, body: string): AdminResponse => ({
  status,
  type: "text/plain; charset=utf-8",
  body: `${body}\n`,
});

/** Answers the requests of one connection until it ends. */
export function serveHttp(
  socket: Duplex,
  clock: Clock,
  handle: (request: AdminRequest) => AdminResponse | Promise<AdminResponse>,
): void {
  new AdminConnection(socket, clock, handle);
}

class AdminConnection {
  readonly #socket: Duplex;
  readonly #clock: Clock;
  readonly #handle: (request: AdminRequest) => AdminResponse | Promise<AdminResponse>;
  readonly #head = new Head();
  #data: Buffer = NOTHING;
  /** A request is being answered, or none is read any more. */
  #busy = false;
  #timer: Timer | undefined;

  constructor(
    socket: Duplex,
    clock: Clock,
    handle: (request: AdminRequest) => AdminResponse | Promise<AdminResponse>,
  ) {
    this.#socket = socket;
    this.#clock = clock;
    this.#handle = handle;
    this.#within(REQUEST_TIMEOUT);
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("end", () => {
      if (!this.#busy) socket.end();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => clock.clear(this.#timer));
  }

  #within(ms: number): void {
    this.#clock.clear(this.#timer);
    this.#timer = this.#clock.after(ms, () => this.#socket.destroy());
  }

  #onData(chunk: Buffer): void {
    if (!this.#busy && this.#data.length === 0) this.#within(REQUEST_TIMEOUT);
    this.#data = this.#data.length === 0 ? chunk : Buffer.concat([this.#data, chunk]);
    // Heads have their own limit; this bounds what is sent ahead of an answer.
    if (this.#data.length > HEAD_LIMIT + MAX_BODY) this.#socket.destroy();
    else this.#next();
  }

  #next(): void {
    const head = this.#head;
    if (this.#busy || this.#data.length === 0) return;
    const state = head.readRequest(this.#data, 0, this.#data.length);
    if (state === INCOMPLETE) return;
    const size = Math.max(head.contentLength, 0);
    if (state !== COMPLETE) this.#refuse(400, `not a request: ${head.error}`);
    else if (head.chunked) this.#refuse(411, "expected a body with content-length");
    else if (size > MAX_BODY) this.#refuse(413, `expected at most ${MAX_BODY} bytes`);
    else if (this.#data.length >= head.end + size) this.#take(size);
  }

  /** Answers the request that is here with its body of so many bytes. */
  #take(size: number): void {
    const head = this.#head;
    const request = requestOf(this.#data, head, size);
    const stays = !head.close && (head.minor > 0 || head.keepAlive);
    const chunks = head.minor > 0;
    this.#data = this.#data.subarray(head.end + size);
    this.#answer(request, stays, chunks).catch(() => this.#socket.destroy());
  }

  #refuse(status: number, why: string): void {
    this.#busy = true;
    this.#data = NOTHING;
    const answer = text(status, why);
    this.#sendWhole(answer, Buffer.from(answer.body as string), false, true);
    this.#within(IDLE_TIMEOUT);
    this.#socket.end();
  }

  /** @param chunks the client knows chunks; HTTP/1.0 does not, and there an end is the connection's */
  async #answer(request: AdminRequest, stays: boolean, chunks: boolean): Promise<void> {
    this.#busy = true;
    this.#clock.clear(this.#timer);
    const response = await Promise.resolve(request)
      .then(this.#handle)
      .catch((): AdminResponse => text(500, "internal error"));
    if (this.#socket.destroyed) return;
    const { body } = response;
    const withBody = request.method !== "HEAD";
    let stay = stays;
    if (typeof body === "string" || Buffer.isBuffer(body))
      this.#sendWhole(response, Buffer.from(body as string), stay, withBody);
    else {
      stay &&= chunks;
      this.#sendHead(response, chunks ? "transfer-encoding: chunked" : undefined, stay);
      if (withBody) await this.#sendPieces(body, chunks);
    }
    // Whoever does not read is not answered further: answers would pile up here.
    await this.#drained();
    if (this.#socket.destroyed) return;
    this.#within(IDLE_TIMEOUT);
    if (!stay) this.#socket.end();
    this.#busy = !stay;
    this.#next();
  }

  #sendHead(
    response: AdminResponse,
    framing: string | undefined,
    stays: boolean,
    body: Buffer = NOTHING,
  ): void {
    const lines = [
      `HTTP/1.1 ${response.status} ${REASONS[response.status] ?? ""}`,
      `content-type: ${response.type}`,
      ...(framing ? [framing] : []),
      ...(response.encoding ? [`content-encoding: ${response.encoding}`] : []),
      ...(stays ? [] : ["connection: close"]),
    ];
    this.#socket.write(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), body]));
  }

  #sendWhole(response: AdminResponse, body: Buffer, stays: boolean, withBody: boolean): void {
    this.#sendHead(response, `content-length: ${body.length}`, stays, withBody ? body : NOTHING);
  }

  async #sendPieces(body: AsyncIterable<Buffer>, chunks: boolean): Promise<void> {
    const socket = this.#socket;
    const pieces = body[Symbol.asyncIterator]();
    // Whoever makes them may be waiting for something to happen.
    const stop = () => void pieces.return?.();
    socket.once("close", stop);
    for (let next = await pieces.next(); !next.done && !socket.destroyed; next = await pieces.next()) {
      const { value } = next;
      if (value.length === 0) continue;
      if (chunks) socket.write(`${value.length.toString(16)}\r\n`);
      socket.write(value);
      if (chunks) socket.write("\r\n");
      await this.#drained();
    }
    socket.off("close", stop);
    if (chunks && !socket.destroyed) socket.write("0\r\n\r\n");
  }

  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed) return;
    this.#within(STALL_TIMEOUT);
    await new Promise<void>((resolve) => {
      const done = () => {
        socket.off("drain", done).off("close", done);
        resolve();
      };
      socket.on("drain", done).on("close", done);
    });
    this.#clock.clear(this.#timer);
  }
}

function requestOf(data: Buffer, head: Head, size: number): AdminRequest {
  const lines = data.toString("latin1", head.fields, head.end).split("\r\n");
  const target = data.toString("latin1", head.targetStart, head.targetEnd);
  const query = target.indexOf("?");
  return {
    method: data.toString("latin1", head.start, head.methodEnd),
    path: query < 0 ? target : target.slice(0, query),
    query: query < 0 ? "" : target.slice(query + 1),
    header: (name) => {
      const line = lines.find((one) => one.slice(0, one.indexOf(":")).toLowerCase() === name);
      return line?.slice(name.length + 1).trim();
    },
    body: data.toString("utf8", head.end, head.end + size),
  };
}
