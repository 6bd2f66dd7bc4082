// The HTTPS face of the cluster: sockets in, requests authenticated, authorized and routed, errors as Status objects.

import { setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { errorMessage } from "../../../util/error.ts";
import type { NodeApi } from "../../node-api.ts";
import { Authorizer } from "../auth/rbac.ts";
import type { LocalCluster } from "../local-cluster.ts";
import { ApiError, internal, statusObject } from "../status.ts";
import { serveStream } from "../streams/upgrade.ts";
import { Aggregator, type FrontProxy } from "./aggregation.ts";
import { authenticate, impersonate } from "./authenticate.ts";
import { type Exchange, type Serving, sendError } from "./exchange.ts";
import { attributesOf, requestInfo } from "./request.ts";
import { route } from "./router.ts";

export type ListenAddress = { fd: number } | { host: string; port: number };

export interface ApiServerOptions {
  cluster: LocalCluster;
  nodeApi: NodeApi;
  /** Each gets its own listener on the same server; `fd` is an inherited listening socket. */
  listen: readonly ListenAddress[];
  tls: {
    /** PEM of the server's certificate (chain) and key. */
    cert: string;
    key: string;
    /** PEM bundle: client certificates that it issued are users (CN) with groups (O). */
    clientCa: string;
  };
  /** With it, aggregated API servers can tell this one from an impostor. */
  frontProxy?: FrontProxy | undefined;
}

export interface ApiServer {
  /** Bound addresses in the order of `listen` (ports filled in). */
  readonly addresses: readonly { host: string; port: number }[];
  /** Ends watches and streams, then the listeners. */
  close(): Promise<void>;
}

/** Connections at once, per listener. */
const MAX_CONNECTIONS = 2000;

export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { cluster } = options;
  const closing = new AbortController();
  // Every watch and stream listens for the end.
  setMaxListeners(0, closing.signal);
  const serving: Serving = {
    cluster,
    nodeApi: options.nodeApi,
    authorizer: new Authorizer(cluster.registry),
    closing: closing.signal,
  };
  const aggregator = new Aggregator(cluster, options.frontProxy);
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  const addresses: { host: string; port: number }[] = [];
  const close = async () => {
    closing.abort();
    aggregator.close();
    const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const server of servers) server.closeIdleConnections();
    cluster.clock.after(1000, () => {
      for (const socket of sockets) socket.destroy();
    });
    // Timers of the clock do not keep a process alive; connections do.
    await Promise.all(closed);
  };
  try {
    for (const address of options.listen) {
      const server = createServer(
        {
          cert: options.tls.cert,
          key: options.tls.key,
          ca: options.tls.clientCa,
          requestCert: true,
          rejectUnauthorized: false,
          ALPNProtocols: ["http/1.1"],
          keepAliveTimeout: 120_000,
          requestTimeout: 0,
          headersTimeout: 30_000,
          maxHeaderSize: 64 * 1024,
        },
        (request, response) => void handle(serving, aggregator, request, response),
      );
      server.maxConnections = MAX_CONNECTIONS;
      server.on("secureConnection", (socket) => {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => sockets.delete(socket));
      });
      server.on(
        "upgrade",
        (request, socket, head) => void upgrade(serving, aggregator, request, socket, head),
      );
      await listen(server, address);
      servers.push(server);
      const bound = server.address() as AddressInfo;
      addresses.push({ host: bound.address, port: bound.port });
    }
  } catch (error) {
    await close();
    throw error;
  }
  await publishFrontProxy(cluster, options);
  return { addresses, close };
}

function listen(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(address, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function handle(
  serving: Serving,
  aggregator: Aggregator,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const warnings: string[] = [];
  response.on("error", () => {});
  try {
    const exchange = admit(serving, request, { response, warnings });
    await route(exchange as Exchange, aggregator);
  } catch (error) {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // What is left of a body that nobody read would be taken for the next request.
    if (!request.complete) response.setHeader("connection", "close");
    sendError({ request, response, warnings }, asApiError(serving, error));
  }
}

/** Authenticates and authorizes. Throws 401 and 403. */
function admit<T extends { warnings: string[] }>(serving: Serving, request: IncomingMessage, rest: T) {
  const info = requestInfo(request);
  const caller = authenticate(request, serving.cluster.tokens);
  const user = impersonate(request, caller, serving.authorizer);
  serving.authorizer.require(user, attributesOf(info));
  return { ...rest, request, info, user, serving };
}

async function upgrade(
  serving: Serving,
  aggregator: Aggregator,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  socket.on("error", () => {});
  try {
    const exchange = admit(serving, request, { warnings: [] });
    if (aggregator.claims(exchange.info)) aggregator.forwardUpgrade(exchange, socket, head);
    else await serveStream(exchange, socket, head);
  } catch (error) {
    const failure = asApiError(serving, error);
    const body = JSON.stringify(statusObject(failure));
    socket.end(
      `HTTP/1.1 ${failure.status} ${failure.reason || "Error"}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    );
  }
}

function asApiError(serving: Serving, error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  serving.cluster.log.error("request failed", {
    error: error instanceof Error ? (error.stack ?? error.message) : String(error),
  });
  return internal(errorMessage(error));
}

/** Tells aggregated servers whose certificate to trust, where they look for it. */
async function publishFrontProxy(cluster: LocalCluster, options: ApiServerOptions): Promise<void> {
  const name = "extension-apiserver-authentication";
  const data = {
    "client-ca-file": options.tls.clientCa,
    ...(options.frontProxy
      ? {
          "requestheader-client-ca-file": options.frontProxy.ca,
          "requestheader-allowed-names": "[]",
          "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
          "requestheader-group-headers": '["X-Remote-Group"]',
          "requestheader-username-headers": '["X-Remote-User"]',
        }
      : {}),
  };
  const ref = { group: "", resource: "configmaps", namespace: "kube-system", name };
  if (await cluster.modify(ref, (known) => ({ ...known, data }))) return;
  await cluster.create("", "configmaps", "kube-system", { metadata: { name }, data });
}
