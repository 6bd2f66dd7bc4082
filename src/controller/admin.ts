// The admin port of a controller: /live, /ready and /metrics over plain HTTP.
import { createServer, type Server } from "node:http";
import type { Registry } from "../metrics/registry.ts";

export interface AdminOptions {
  readonly port: number;
  /** Default every address. */
  readonly host?: string;
  readonly registry: Registry;
  /** Whether the controller can serve. */
  readonly ready: () => boolean;
}

/** Kubelet and scrapers need a few; nobody needs more. */
const MAX_CONNECTIONS = 256;

/** Resolves once the port is open. */
export function listenAdmin(options: AdminOptions): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    const path = (request.url ?? "/").split("?")[0];
    if (path === "/live") {
      response.end("live\n");
    } else if (path === "/ready") {
      response.statusCode = options.ready() ? 200 : 503;
      response.end(options.ready() ? "ready\n" : "not ready\n");
    } else if (path === "/metrics") {
      response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8");
      response.end(options.registry.expose());
    } else {
      response.statusCode = 404;
      response.end();
    }
  });
  server.maxConnections = MAX_CONNECTIONS;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => resolve(server));
  });
}
