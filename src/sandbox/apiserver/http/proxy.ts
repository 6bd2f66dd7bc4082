// The proxy subresource of pods and services: plain HTTP to a port of a pod.

import { request as httpRequest } from "node:http";
import type { Duplex } from "node:stream";
import type { Json, KubeObject } from "../../cluster.ts";
import type { ResourceDef } from "../resource.ts";
import { ApiError, badRequest, noSuchPath } from "../status.ts";
import type { Exchange } from "./exchange.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Serves …/pods/[scheme:]NAME[:PORT]/proxy/PATH and …/services/…/proxy/PATH. */
export async function serveProxy(def: ResourceDef, exchange: Exchange): Promise<void> {
  const { namespace, name, rest } = exchange.info.resource as {
    namespace: string;
    name: string;
    rest: string;
  };
  const parts = name.split(":");
  const [target, port] = parts.length === 3 ? [parts[1], parts[2]] : [parts[0], parts[1]];
  if (parts.length === 3 && parts[0] === "https") throw badRequest("https targets cannot be proxied here");
  const { registry } = exchange.serving.cluster;
  if (def.collection === "/nodes") throw noSuchPath();
  const object = registry.get(def, namespace, target as string);
  const place =
    def.collection === "/pods" ? podPort(object, port) : servicePort(exchange, namespace, object, port);
  let socket: Duplex;
  try {
    socket = await exchange.serving.nodeApi.dial(namespace, place.pod, place.port);
  } catch (error) {
    throw new ApiError(
      503,
      "ServiceUnavailable",
      `error trying to reach service: ${(error as Error).message}`,
    );
  }
  const { search } = new URL(exchange.request.url ?? "/", "https://kubernetes");
  forward(exchange, socket, `/${rest}${search}`, `${place.pod}:${place.port}`);
}

function podPort(pod: KubeObject, port: string | undefined): { pod: string; port: number } {
  const ports = pod.spec.containers.flatMap((container: Json) => container.ports ?? []);
  const found = port
    ? ports.find((p: Json) => p.name === port)?.containerPort
    : (ports[0]?.containerPort ?? 80);
  const number = found ?? Number(port);
  if (!(number > 0 && number < 65536)) throw badRequest(`invalid port ${JSON.stringify(port)}`);
  return { pod: pod.metadata.name, port: number };
}

function servicePort(
  exchange: Exchange,
  namespace: string,
  service: KubeObject,
  port: string | undefined,
): { pod: string; port: number } {
  const unavailable = (why: string) => new ApiError(503, "ServiceUnavailable", why);
  const ports: Json[] = service.spec.ports ?? [];
  const wanted = port
    ? ports.find((p) => p.name === port || String(p.port) === port)
    : ports.length === 1
      ? ports[0]
      : undefined;
  if (!wanted) {
    throw unavailable(
      `no service port ${JSON.stringify(port ?? "")} found for service ${JSON.stringify(service.metadata.name)}`,
    );
  }
  for (const slice of exchange.serving.cluster.registry.listStored(
    "discovery.k8s.io/endpointslices",
    namespace,
  )) {
    if (slice.metadata.labels?.["kubernetes.io/service-name"] !== service.metadata.name) continue;
    const number = (slice.ports ?? []).find((p: Json) => (p.name ?? "") === (wanted.name ?? ""))?.port;
    const ready = (slice.endpoints ?? []).find(
      (e: Json) => e.conditions?.ready !== false && e.targetRef?.kind === "Pod",
    );
    if (number && ready) return { pod: ready.targetRef.name, port: number };
  }
  throw unavailable(`no endpoints available for service ${JSON.stringify(service.metadata.name)}`);
}

function forward(exchange: Exchange, socket: Duplex, path: string, host: string): void {
  const { request, response } = exchange;
  const headers: Record<string, string | string[]> = { host };
  for (const [key, value] of Object.entries(request.headers)) {
    if (value === undefined || HOP_BY_HOP.has(key)) continue;
    // The pod is not the API server: it gets neither its caller's credentials nor their impersonation.
    if (key === "host" || key === "authorization" || key.startsWith("impersonate-")) continue;
    headers[key] = value;
  }
  const upstream = httpRequest({
    method: request.method,
    path,
    headers,
    createConnection: () => socket as never,
  });
  upstream.on("error", (error) => {
    if (response.headersSent) response.destroy();
    else {
      response.writeHead(502, { "content-type": "text/plain" });
      response.end(`error trying to reach service: ${error.message}`);
    }
  });
  upstream.on("response", (answer) => {
    const kept = Object.entries(answer.headers).filter(([key]) => !HOP_BY_HOP.has(key));
    response.writeHead(
      answer.statusCode ?? 502,
      Object.fromEntries(kept) as Record<string, string | string[]>,
    );
    answer.pipe(response);
  });
  response.once("close", () => socket.destroy());
  request.pipe(upstream);
}
