// The application of the soak: HTTP/1 and HTTP/2 on one port, on Node's own servers, since applications are not ours.
//
//   SOAK_APP='{"port":8080}' node app.mjs
//
// GET /bytes/N?id=ID answers `ID:` filled up to N bytes; POST /echo?id=ID answers `ID:` and the body. SIGUSR2 ends all
// connections as a server does that is restarted without a gap: idle ones at once, the others with their answer.
import * as http from "node:http";
import * as http2 from "node:http2";
import { createServer, type Socket } from "node:net";

const { port } = JSON.parse(process.env["SOAK_APP"] ?? "{}") as { port: number };
const PREFACE = "PRI * HTTP/2.0";

/** Connections that are to end with their next answer. */
let leaving = new WeakSet<Socket>();
const sockets = new Set<Socket>();
const sessions = new Set<http2.ServerHttp2Session>();

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Response = http.ServerResponse | http2.Http2ServerResponse;

function answer(request: Request, response: Response): void {
  const url = new URL(request.url!, "http://app.test");
  const id = url.searchParams.get("id") ?? "";
  const parts: Buffer[] = [Buffer.from(`${id}:`)];
  request.on("data", (chunk: Buffer) => parts.push(chunk));
  request.on("end", () => {
    const size = Number(/^\/bytes\/(\d+)$/.exec(url.pathname)?.[1] ?? 0);
    const head = Buffer.concat(parts);
    const body = size > head.length ? Buffer.concat([head, Buffer.alloc(size - head.length, 0x2e)]) : head;
    response.setHeader("content-type", "text/plain");
    response.setHeader("content-length", body.length);
    if (request.httpVersionMajor === 1 && leaving.has(request.socket as Socket))
      response.setHeader("connection", "close");
    (response as http.ServerResponse).end(body);
  });
}

const http1Server = http.createServer(answer);
http1Server.keepAliveTimeout = 60_000;
const http2Server = http2.createServer(answer);
http2Server.on("session", (session) => {
  sessions.add(session);
  session.on("close", () => sessions.delete(session));
});

createServer((socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  socket.on("error", () => {});
  socket.setNoDelay(true);
  // Looked at and put back: node:http2 then reads what is buffered by itself, node:http when the socket flows again.
  socket.once("readable", () => {
    const first: Buffer | null = socket.read();
    if (!first) return;
    socket.unshift(first);
    const isHttp2 = first.subarray(0, PREFACE.length).toString("latin1") === PREFACE;
    (isHttp2 ? http2Server : http1Server).emit("connection", socket);
  });
}).listen(port, "127.0.0.1");

process.on("SIGUSR2", () => {
  leaving = new WeakSet(sockets);
  http1Server.closeIdleConnections();
  for (const session of sessions) session.close();
});
