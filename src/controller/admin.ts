// The admin port of a controller: /live, /ready, /metrics, and for the pod itself /env.json and /log-level, over plain
// HTTP. /ping is Linkerd's name for /live.
import { createServer, type IncomingMessage, type Server } from "node:http";
import { LEVELS, type Level, type Logger } from "../log/logger.ts";
import type { Registry } from "../metrics/registry.ts";
import { isLoopback } from "../util/ip.ts";

export interface AdminOptions {
  readonly port: number;
  /** Default every address. */
  readonly host?: string;
  readonly registry: Registry;
  readonly log: Logger;
  /** What the controller still waits for before it can serve; nothing when it is ready. */
  readonly unready: () => readonly string[];
}

/** Kubelet and scrapers need a few; nobody needs more. */
const MAX_CONNECTIONS = 256;
/** A level's name is short, bytes. */
const MAX_BODY = 64;
/** What /env.json tells: our own settings, which hold no secret. */
const OWN_SETTINGS = /^MESH_/;

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/** Resolves once the port is open. */
export function listenAdmin(options: AdminOptions): Promise<Server> {
  const server = createServer({ requestTimeout: 10_000, maxHeaderSize: 8_192 }, (request, response) => {
    void answerTo(request, options).then(({ status, body, type = "text/plain; charset=utf-8" }) => {
      response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
      response.end(request.method === "HEAD" ? "" : body);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => resolve(server));
  });
}

const text = (status: number, line: string): Answer => ({ status, body: `${line}\n` });

async function answerTo(request: IncomingMessage, options: AdminOptions): Promise<Answer> {
  const body = await bodyOf(request);
  switch ((request.url ?? "/").split("?")[0]) {
    case "/live":
      return text(200, "live");
    case "/ping":
      return text(200, "pong");
    case "/ready": {
      const missing = options.unready();
      return missing.length === 0
        ? text(200, "ready")
        : text(503, `not ready, waiting for: ${missing.join("; ")}`);
    }
    case "/metrics":
      return {
        status: 200,
        body: options.registry.expose(),
        type: "text/plain; version=0.0.4; charset=utf-8",
      };
    // These disclose or change something: as in a proxy, they are for the pod itself.
    case "/env.json":
      return isLoopback(request.socket.remoteAddress)
        ? { status: 200, body: `${JSON.stringify(settings())}\n`, type: "application/json" }
        : NOT_THE_POD;
    case "/log-level":
      return isLoopback(request.socket.remoteAddress)
        ? logLevel(request.method, body, options.log)
        : NOT_THE_POD;
    default:
      return text(404, "not found");
  }
}

const NOT_THE_POD = text(403, "only from the pod itself");

const settings = (): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => OWN_SETTINGS.test(name)));

function logLevel(method: string | undefined, level: string, log: Logger): Answer {
  if (method === "GET") return text(200, log.level);
  if (method !== "PUT") return text(405, "expected GET or PUT");
  if (!LEVELS.includes(level as Level)) return text(400, `expected one of ${LEVELS.join(", ")}`);
  log.setLevel(level as Level);
  return text(200, level);
}

/** The beginning of what was sent; the rest is read and dropped. */
function bodyOf(request: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      if (body.length <= MAX_BODY) body += chunk.toString("utf8");
    });
    request.on("close", () => resolve(body.trim()));
    request.on("end", () => resolve(body.trim()));
  });
}
