// The little HTTP/1 that the admin port needs, on raw sockets: one request at a time, small bodies, whole answers,
// and a deadline on everything. node:http would cost every proxy 0.8 MB and leave its own deadlines unset here.
import type { Duplex } from "node:stream";
import type { Clock, Timer } from "../../util/clock.ts";
import { COMPLETE, HEAD_LIMIT, Head, INCOMPLETE } from "../http1/head.ts";

export interface AdminRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** Of a name in small letters; undefined when it is not there. */
  readonly header: (name: string) => string | undefined;
  readonly body: string;
}

export interface AdminResponse {
  readonly status: number;
  readonly type: string;
  readonly body: string | Buffer;
  readonly encoding?: "gzip";
}

/** What a request may carry, bytes: a log filter. */
const MAX_BODY = 1_024;
/** A request must be whole within this of its first byte, or of the connection, ms. */
const REQUEST_TIMEOUT = 5_000;
/** A connection that is asked nothing is kept for this long, ms: longer than scrapers pause. */
const IDLE_TIMEOUT = 60_000;

const REASONS: Record<number, string> = {
  200: "OK",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  411: "Length Required",
  413: "Content Too Large",
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
  const head = new Head();
  let data: Buffer = Buffer.alloc(0);
  let busy = false;
  let timer: Timer | undefined;
  const within = (ms: number) => {
    clock.clear(timer);
    timer = clock.after(ms, () => socket.destroy());
  };
  const send = (response: AdminResponse, close: boolean, withBody: boolean) => {
    const body = Buffer.from(response.body as string);
    const lines = [
      `HTTP/1.1 ${response.status} ${REASONS[response.status] ?? ""}`,
      `content-type: ${response.type}`,
      `content-length: ${body.length}`,
      ...(response.encoding ? [`content-encoding: ${response.encoding}`] : []),
      ...(close ? ["connection: close"] : []),
    ];
    socket.write(
      Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), withBody ? body : Buffer.alloc(0)]),
    );
    within(IDLE_TIMEOUT);
    if (close) socket.end();
  };
  const refuse = (status: number, why: string) => {
    busy = true;
    data = Buffer.alloc(0);
    send(text(status, why), true, true);
  };
  const answer = async (request: AdminRequest, close: boolean) => {
    busy = true;
    clock.clear(timer);
    const response = await Promise.resolve(request)
      .then(handle)
      .catch((): AdminResponse => text(500, "internal error"));
    if (socket.destroyed) return;
    send(response, close, request.method !== "HEAD");
    // Whoever does not read is not answered further: answers would pile up here.
    if (socket.writableNeedDrain) await new Promise((resolve) => socket.once("drain", resolve));
    busy = close;
    next();
  };
  const next = () => {
    if (busy || data.length === 0) return;
    const state = head.readRequest(data, 0, data.length);
    if (state === INCOMPLETE) return;
    if (state !== COMPLETE) return refuse(400, `not a request: ${head.error}`);
    if (head.chunked) return refuse(411, "expected a body with content-length");
    const size = Math.max(head.contentLength, 0);
    if (size > MAX_BODY) return refuse(413, `expected at most ${MAX_BODY} bytes`);
    if (data.length < head.end + size) return;
    const request = requestOf(data, head, size);
    const close = head.close || (head.minor === 0 && !head.keepAlive);
    data = data.subarray(head.end + size);
    void answer(request, close);
  };
  within(REQUEST_TIMEOUT);
  socket.on("data", (chunk: Buffer) => {
    if (!busy && data.length === 0) within(REQUEST_TIMEOUT);
    data = data.length === 0 ? chunk : Buffer.concat([data, chunk]);
    // Heads have their own limit; this bounds what is sent ahead of an answer.
    if (data.length > HEAD_LIMIT + MAX_BODY) socket.destroy();
    else next();
  });
  socket.on("end", () => {
    if (!busy) socket.end();
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", () => clock.clear(timer));
}

function requestOf(data: Buffer, head: Head, size: number): AdminRequest {
  const lines = data.toString("latin1", head.fields, head.end).split("\r\n");
  const target = data.toString("latin1", head.targetStart, head.targetEnd);
  return {
    method: data.toString("latin1", head.start, head.methodEnd),
    path: target.split("?")[0]!,
    header: (name) => {
      const line = lines.find((one) => one.slice(0, one.indexOf(":")).toLowerCase() === name);
      return line?.slice(name.length + 1).trim();
    },
    body: data.toString("utf8", head.end, head.end + size),
  };
}
