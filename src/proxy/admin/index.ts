// The proxy's own port, 4191: /live, /ready, /metrics and, for the pod itself, log level, environment and shutdown.
// It takes plain HTTP and, for whoever asks by the proxy's own name, mesh TLS.
import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import { LEVELS, type Level, type Logger, parseLevel } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { IdentitySource } from "../ports.ts";

export interface AdminOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly identity: IdentitySource;
  readonly log: Logger;
  /** Why the proxy is not ready, or undefined when it is. */
  readonly unready: () => string | undefined;
  /** undefined: the endpoint is not enabled. */
  readonly shutdown: (() => void) | undefined;
}

export interface Admin {
  readonly port: number;
  close(): void;
}

/** Connections that are open at the same time. */
const MAX_CONNECTIONS = 200;
/** What a request may carry, bytes: a log filter. */
const MAX_BODY = 1_024;
/** First byte of a TLS record that holds a handshake. */
const TLS_HANDSHAKE = 22;
/** A connection that says nothing is closed after this long, ms. */
const FIRST_BYTE_TIMEOUT = 10_000;

export async function listenAdmin(options: AdminOptions): Promise<Admin> {
  const http = createHttpServer((request, response) => void handle(request, response, options));
  http.requestTimeout = 10_000;
  http.headersTimeout = 5_000;
  http.keepAliveTimeout = 60_000;
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    welcome(socket, http, options.identity);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  return { port: portOf(server), close: () => closeAll(server, http, sockets) };
}

const portOf = (server: Server): number => (server.address() as { port: number }).port;

function closeAll(server: Server, http: HttpServer, sockets: Set<Socket>): void {
  server.close();
  http.close();
  for (const socket of sockets) socket.destroy();
}

/** Looks at the first byte and hands the connection, with it, to TLS or to HTTP. */
function welcome(socket: Socket, http: HttpServer, identity: IdentitySource): void {
  socket.setTimeout(FIRST_BYTE_TIMEOUT, () => socket.destroy());
  socket.once("data", (first: Buffer) => {
    socket.setTimeout(0);
    socket.pause();
    socket.unshift(first);
    if (first[0] !== TLS_HANDSHAKE) {
      http.emit("connection", socket);
      socket.resume();
      return;
    }
    const credentials = identity.current;
    if (!credentials) {
      socket.destroy();
      return;
    }
    const secure = new TLSSocket(socket, { isServer: true, secureContext: credentials.serverContext });
    secure.on("error", () => socket.destroy());
    secure.on("secure", () => http.emit("connection", secure));
  });
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  options: AdminOptions,
): Promise<void> {
  const { method = "GET" } = request;
  const [path] = (request.url ?? "/").split("?");
  const text = (status: number, body: string) => {
    response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
    response.end(`${body}\n`);
  };
  if (path === "/live") return text(200, "live");
  if (path === "/ready") {
    const reason = options.unready();
    return text(reason === undefined ? 200 : 503, reason ?? "ready");
  }
  if (path === "/metrics" && method === "GET") return metrics(request, response, options.registry);
  // The rest changes or discloses something: Linkerd lets anyone who reaches the port read /env.json, we do not.
  const known = ["/proxy-log-level", "/env.json", "/shutdown"].includes(path!);
  if (!known) return text(404, "not found");
  if (!isLoopback(request.socket.remoteAddress)) return text(403, "only from the pod itself");
  if (path === "/env.json") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(process.env));
  } else if (path === "/shutdown") {
    if (method !== "POST") return text(405, "expected POST");
    if (!options.shutdown) return text(403, "shutdown is not enabled");
    text(200, "shutting down");
    options.shutdown();
  } else if (method === "GET") text(200, options.log.level);
  else if (method === "PUT") await setLevel(request, text, options.log);
  else text(405, "expected GET or PUT");
}

async function setLevel(
  request: IncomingMessage,
  text: (status: number, body: string) => void,
  log: Logger,
): Promise<void> {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > MAX_BODY) return text(413, `expected at most ${MAX_BODY} bytes`);
  }
  const words = body.trim().split(/[,=]/);
  if (!words.some((word) => LEVELS.includes(word.trim().toLowerCase() as Level))) {
    return text(400, `expected a level (${LEVELS.join(", ")}) or a filter such as warn,linkerd=debug`);
  }
  log.setLevel(parseLevel(body.trim()));
  return text(200, log.level);
}

function metrics(request: IncomingMessage, response: ServerResponse, registry: Registry): void {
  const body = registry.expose();
  response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8");
  if (!/\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""))) {
    response.end(body);
    return;
  }
  response.setHeader("content-encoding", "gzip");
  response.end(gzipSync(body, { level: 1 }));
}

const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
