// The metrics API's HTTP side: `GET /api/stat` and `GET /api/edges`, JSON in and out.
import { createServer, type Server, type ServerResponse } from "node:http";
import { parseEdgesParams, parseStatParams } from "../../api/stat.ts";
import type { Logger } from "../../log/logger.ts";
import { edges, type StatContext, stat } from "./stat.ts";

/** @param context what a question is answered from, taken anew for each. */
export function createMetricsServer(context: () => StatContext, log: Logger): Server {
  return createServer({ requestTimeout: 10_000, maxHeaderSize: 16_384 }, (request, response) => {
    request.resume();
    const url = new URL(request.url ?? "/", "http://metrics-api");
    if (request.method !== "GET") return send(response, 405, { error: "only GET is served" });
    try {
      if (url.pathname === "/api/stat") {
        return send(response, 200, stat(context(), parseStatParams(url.searchParams)));
      }
      if (url.pathname === "/api/edges") {
        return send(response, 200, edges(context(), parseEdgesParams(url.searchParams)));
      }
      send(response, 404, { error: `there is no ${url.pathname}` });
    } catch (error) {
      if (error instanceof RangeError) return send(response, 400, { error: error.message });
      log.error("question failed", { url: url.pathname, error: (error as Error).stack });
      send(response, 500, { error: "internal error, see the log of mesh-metrics-api" });
    }
  });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}
