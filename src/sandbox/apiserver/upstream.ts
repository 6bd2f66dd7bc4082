// HTTPS calls that the API server itself makes: to webhooks and aggregated API servers behind Services. It runs in the
// cluster's network, so cluster IPs can be dialled.

import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { Json } from "../cluster.ts";
import type { Store } from "../store/store.ts";

export interface Target {
  host: string;
  port: number;
  path: string;
  /** Name expected in the server's certificate. */
  servername: string;
  /** PEM; undefined: the system's roots. */
  ca: string | undefined;
}

export interface ServiceReference {
  namespace: string;
  name: string;
  port?: number;
  path?: string;
}

/** Where a Service can be dialled. Throws plain Errors that say what is missing. */
export function serviceTarget(store: Store, service: ServiceReference, caBundle: string | undefined): Target {
  const { namespace, name, port = 443, path = "/" } = service;
  const found = store.get("/services", `${namespace}/${name}`);
  if (!found) throw new Error(`service ${JSON.stringify(name)} not found`);
  const servicePort = (found.spec.ports ?? []).find((p: Json) => p.port === port);
  if (!servicePort) throw new Error(`service ${JSON.stringify(name)} has no port ${port}`);
  const ready = readyAddress(store, namespace, name, servicePort.name ?? "");
  if (!ready) throw new Error(`no endpoints available for service ${JSON.stringify(name)}`);
  const headless = !found.spec.clusterIP || found.spec.clusterIP === "None";
  return {
    host: headless ? ready.host : found.spec.clusterIP,
    port: headless ? ready.port : port,
    path,
    servername: `${name}.${namespace}.svc`,
    ca: decodeBundle(caBundle),
  };
}

/** The first ready endpoint of a Service's port, from its EndpointSlices. */
export function readyAddress(
  store: Store,
  namespace: string,
  service: string,
  portName: string,
): { host: string; port: number } | undefined {
  for (const [key, slice] of store.entries("discovery.k8s.io/endpointslices")) {
    if (!key.startsWith(`${namespace}/`)) continue;
    if (slice.metadata.labels?.["kubernetes.io/service-name"] !== service) continue;
    const port = (slice.ports ?? []).find((p: Json) => (p.name ?? "") === portName)?.port;
    const endpoint = (slice.endpoints ?? []).find((e: Json) => e.conditions?.ready !== false);
    if (port && endpoint?.addresses?.[0]) return { host: endpoint.addresses[0], port };
  }
  return undefined;
}

export function decodeBundle(caBundle: string | undefined): string | undefined {
  return caBundle ? Buffer.from(caBundle, "base64").toString() : undefined;
}

/** Posts JSON and returns the answer's JSON. Rejects on anything but 200, on time-out and on answers that are too long. */
export function postJson(target: Target, body: Json, timeoutMs: number, maxBytes: number): Promise<Json> {
  return new Promise((resolve, reject) => {
    const payload = JSON.stringify(body);
    const request = httpsRequest({
      host: target.host,
      port: target.port,
      path: target.path,
      method: "POST",
      agent: false,
      ...(target.ca === undefined ? {} : { ca: target.ca }),
      ...(isIP(target.servername) ? {} : { servername: target.servername }),
      headers: {
        host: target.servername,
        "content-type": "application/json",
        accept: "application/json",
        "content-length": Buffer.byteLength(payload),
      },
    });
    const timer = setTimeout(() => {
      request.destroy(new Error("context deadline exceeded"));
    }, timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    request.on("error", fail);
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("error", fail);
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > maxBytes) request.destroy(new Error(`the answer is longer than ${maxBytes} bytes`));
      });
      response.on("end", () => {
        clearTimeout(timer);
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode !== 200) {
          reject(new Error(`the server answered ${response.statusCode}: ${text.slice(0, 200)}`));
          return;
        }
        try {
          resolve(JSON.parse(text));
        } catch {
          reject(new Error("the answer is not JSON"));
        }
      });
    });
    request.end(payload);
  });
}
