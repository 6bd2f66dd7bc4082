// One request on its way: what the handlers need, and how they answer.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { NodeApi } from "../../node-api.ts";
import type { Authorizer } from "../auth/rbac.ts";
import type { User } from "../auth/user.ts";
import type { LocalCluster } from "../local-cluster.ts";
import { type ApiError, statusObject } from "../status.ts";
import type { RequestInfo } from "./request.ts";

/** What the server is made of, for all handlers. */
export interface Serving {
  cluster: LocalCluster;
  nodeApi: NodeApi;
  authorizer: Authorizer;
  /** Aborted when the server closes: watches and streams end. */
  closing: AbortSignal;
}

export interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  info: RequestInfo;
  user: User;
  serving: Serving;
  /** Sent as Warning headers. */
  warnings: string[];
}

export function sendJson(
  exchange: Pick<Exchange, "response" | "warnings" | "request">,
  status: number,
  body: unknown,
): void {
  const { response, request, warnings } = exchange;
  if (response.headersSent || response.destroyed) return;
  const text = Buffer.from(`${JSON.stringify(body)}\n`);
  response.statusCode = status;
  response.setHeader("content-type", "application/json");
  response.setHeader("cache-control", "no-cache, private");
  response.setHeader("content-length", text.length);
  if (warnings.length > 0) {
    response.setHeader(
      "warning",
      [...new Set(warnings)].slice(0, 16).map((warning) => `299 - ${JSON.stringify(warning.slice(0, 512))}`),
    );
  }
  if (status === 401) response.setHeader("www-authenticate", "Bearer");
  response.end(request.method === "HEAD" ? undefined : text);
}

export function sendText(
  exchange: Pick<Exchange, "response">,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  exchange.response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(text),
  });
  exchange.response.end(text);
}

export function sendError(
  exchange: Pick<Exchange, "response" | "warnings" | "request">,
  error: ApiError,
): void {
  if (error.details?.retryAfterSeconds && !exchange.response.headersSent) {
    exchange.response.setHeader("retry-after", error.details.retryAfterSeconds);
  }
  sendJson(exchange, error.status, statusObject(error));
}
