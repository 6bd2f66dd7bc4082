// The proxy's own port, 4191: /live, /ready, /metrics and, for the pod itself, logs and their level, environment and
// shutdown.
// It takes plain HTTP and, for whoever asks by the proxy's own name, mesh TLS.
import { createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { LEVELS, type Level, type Logger, parseLevel } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { Clock } from "../../util/clock.ts";
import { isLoopback } from "../../util/ip.ts";
import type { IdentitySource } from "../ports.ts";
import { type AdminRequest, type AdminResponse, serveHttp, text } from "./http.ts";
import { LogStreams } from "./logs.ts";
import { metricsResponse } from "./metrics.ts";

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

/** @throws Error when the address cannot be listened on */
export async function listenAdmin(options: AdminOptions): Promise<Admin> {
  const sockets = new Set<Socket>();
  const logs = new LogStreams(options.log);
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    welcome(socket, options, logs);
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
function welcome(socket: Socket, options: AdminOptions, logs: LogStreams): void {
  const { clock, identity } = options;
  const local = isLoopback(socket.remoteAddress);
  const timer = clock.after(HANDSHAKE_TIMEOUT, () => socket.destroy());
  socket.once("close", () => clock.clear(timer));
  socket.once("data", (first: Buffer) => {
    socket.pause();
    socket.unshift(first);
    const serve = (stream: Socket | TLSSocket) => {
      clock.clear(timer);
      serveHttp(stream, clock, (request) => respond(request, local, options, logs));
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
  logs: LogStreams,
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
      return reads
        ? metricsResponse(options.registry, /\bgzip\b/.test(request.header("accept-encoding") ?? ""))
        : text(405, "expected GET");
    case "/env.json":
    case "/logs.json":
    case "/proxy-log-level":
    case "/shutdown":
      // These change or disclose something. Linkerd lets anyone who reaches the port read /env.json; we do not.
      return local ? forThePod(request, options, logs) : text(403, "only from the pod itself");
    default:
      return text(404, "not found");
  }
}

function forThePod(request: AdminRequest, options: AdminOptions, logs: LogStreams): AdminResponse {
  const { log, shutdown } = options;
  const { method, path, query, body } = request;
  if (path === "/shutdown") {
    if (method !== "POST") return text(405, "expected POST");
    if (!shutdown) return text(403, "shutdown is not enabled");
    // The answer leaves first.
    setImmediate(shutdown);
    return text(200, "shutting down");
  }
  if (path === "/env.json") {
    if (method !== "GET") return text(405, "expected GET");
    return { status: 200, type: "application/json", body: JSON.stringify(environment(query)) };
  }
  if (path === "/logs.json") {
    if (method !== "GET" && method !== "QUERY") return text(405, "expected GET or QUERY");
    const filter = method === "GET" ? decoded(query) : body;
    return isFilter(filter) ? logs.open(parseLevel(filter.trim())) : text(400, EXPECTED_FILTER);
  }
  if (method === "GET") return text(200, log.level);
  if (method !== "PUT") return text(405, "expected GET or PUT");
  if (!isFilter(body)) return text(400, EXPECTED_FILTER);
  log.setLevel(parseLevel(body.trim()));
  return text(200, log.level);
}

const EXPECTED_FILTER = `expected a level (${LEVELS.join(", ")}) or a filter such as warn,linkerd=debug`;

const isFilter = (filter: string): boolean =>
  filter.split(/[,=]/).some((word) => LEVELS.includes(word.trim().toLowerCase() as Level));

/** All of it, or the variables that are asked for: `?A&B`. */
function environment(query: string): NodeJS.ProcessEnv {
  if (query === "") return process.env;
  return Object.fromEntries(
    query.split("&").flatMap((part) => {
      const name = decoded(part);
      return process.env[name] === undefined ? [] : [[name, process.env[name]]];
    }),
  );
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
