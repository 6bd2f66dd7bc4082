// The proxy's own port, 4191: /live, /ready, /metrics and, for the pod itself, log level, environment and shutdown.
// It takes plain HTTP and, for whoever asks by the proxy's own name, mesh TLS.
import { createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { gzip, gzipSync } from "node:zlib";
import { LEVELS, type Level, type Logger, parseLevel } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { Clock } from "../../util/clock.ts";
import type { IdentitySource } from "../ports.ts";
import { type AdminRequest, type AdminResponse, serveHttp, text } from "./http.ts";

export interface AdminOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly identity: IdentitySource;
  readonly clock: Clock;
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
const MAX_CONNECTIONS = 100;
/** First byte of a TLS record that holds a handshake. */
const TLS_HANDSHAKE = 22;
/** A connection that says nothing, or does not finish its handshake, is closed after this long, ms. */
const HANDSHAKE_TIMEOUT = 5_000;

/**
 * Beyond this many characters compression leaves the main thread, so that the data path goes on meanwhile. Below it
 * takes less than a millisecond, and a thread's own heap would cost every proxy half a megabyte (measured).
 */
const LARGE = 128 * 1024;

const compress = promisify(gzip);

/** @throws Error when the address cannot be listened on */
export async function listenAdmin(options: AdminOptions): Promise<Admin> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    welcome(socket, options);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  return {
    port: portOf(server),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const portOf = (server: Server): number => (server.address() as { port: number }).port;

/** Looks at the first byte and hands the connection, with it, to TLS or to HTTP. */
function welcome(socket: Socket, options: AdminOptions): void {
  const { clock, identity } = options;
  const local = isLoopback(socket.remoteAddress);
  const timer = clock.after(HANDSHAKE_TIMEOUT, () => socket.destroy());
  socket.once("close", () => clock.clear(timer));
  socket.once("data", (first: Buffer) => {
    socket.pause();
    socket.unshift(first);
    const serve = (stream: Socket | TLSSocket) => {
      clock.clear(timer);
      serveHttp(stream, clock, (request) => respond(request, local, options));
      stream.resume();
    };
    if (first[0] !== TLS_HANDSHAKE) {
      serve(socket);
      return;
    }
    const credentials = identity.current;
    if (!credentials) {
      socket.destroy();
      return;
    }
    const secure = new TLSSocket(socket, { isServer: true, secureContext: credentials.serverContext });
    secure.on("error", () => socket.destroy());
    secure.once("secure", () => serve(secure));
  });
}

function respond(
  request: AdminRequest,
  local: boolean,
  options: AdminOptions,
): AdminResponse | Promise<AdminResponse> {
  const { method, path } = request;
  const reads = method === "GET" || method === "HEAD";
  switch (path) {
    case "/live":
      return reads ? text(200, "live") : text(405, "expected GET");
    case "/ready": {
      if (!reads) return text(405, "expected GET");
      const reason = options.unready();
      return text(reason === undefined ? 200 : 503, reason ?? "ready");
    }
    case "/metrics":
      return reads ? metrics(request, options.registry) : text(405, "expected GET");
    case "/env.json":
    case "/proxy-log-level":
    case "/shutdown":
      // These change or disclose something. Linkerd lets anyone who reaches the port read /env.json; we do not.
      return local ? forThePod(request, options) : text(403, "only from the pod itself");
    default:
      return text(404, "not found");
  }
}

function forThePod({ method, path, body }: AdminRequest, options: AdminOptions): AdminResponse {
  const { log, shutdown } = options;
  if (path === "/shutdown") {
    if (method !== "POST") return text(405, "expected POST");
    if (!shutdown) return text(403, "shutdown is not enabled");
    // The answer leaves first.
    setImmediate(shutdown);
    return text(200, "shutting down");
  }
  if (path === "/env.json") {
    if (method !== "GET") return text(405, "expected GET");
    return { status: 200, type: "application/json", body: JSON.stringify(process.env) };
  }
  if (method === "GET") return text(200, log.level);
  if (method !== "PUT") return text(405, "expected GET or PUT");
  const words = body.trim().split(/[,=]/);
  if (!words.some((word) => LEVELS.includes(word.trim().toLowerCase() as Level))) {
    return text(400, `expected a level (${LEVELS.join(", ")}) or a filter such as warn,linkerd=debug`);
  }
  log.setLevel(parseLevel(body.trim()));
  return text(200, log.level);
}

async function metrics(request: AdminRequest, registry: Registry): Promise<AdminResponse> {
  const body = registry.expose();
  const type = "text/plain; version=0.0.4; charset=utf-8";
  if (!/\bgzip\b/.test(request.header("accept-encoding") ?? "")) return { status: 200, type, body };
  const packed = body.length > LARGE ? await compress(body, { level: 1 }) : gzipSync(body, { level: 1 });
  return { status: 200, type, body: packed, encoding: "gzip" };
}

const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
