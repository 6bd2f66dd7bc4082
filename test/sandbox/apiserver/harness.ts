// A cluster behind a real HTTPS server on a free port, and a small JSON client with the administrator's certificate.

import { X509Certificate } from "node:crypto";
import { request as httpsRequest } from "node:https";
import type { ClusterConfig } from "../../../src/kube/config.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { createClientCertificate, createRoot, createServerCertificate } from "../../../src/pki/index.ts";
import {
  type ApiServer,
  createCluster,
  type LocalCluster,
  startApiServer,
} from "../../../src/sandbox/apiserver/index.ts";
import type { Json } from "../../../src/sandbox/cluster.ts";
import type { NodeApi } from "../../../src/sandbox/node-api.ts";

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Json;
}

export interface CallOptions {
  body?: Json;
  headers?: Record<string, string>;
  /** undefined: the administrator's certificate; otherwise a bearer token ("" for nobody). */
  token?: string;
}

export interface Harness {
  cluster: LocalCluster;
  server: ApiServer;
  port: number;
  ca: string;
  /** The administrator's way in, or a bearer token's. */
  config(token?: string): ClusterConfig;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Lines of a watch as they come; `close` ends it. */
  watch(path: string): { next(): Promise<Json>; close(): void };
  certificate(names: { dns: string[]; ip?: string[] }): { cert: string; key: string };
  /** Ends the server as a crash would. */
  stop(): Promise<void>;
  /** Starts it again on the same port, from what its directory holds; `before` it serves, the cluster may change. */
  restart(before?: (cluster: LocalCluster) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

const DAY = 24 * 3600 * 1000;

const unreachable: NodeApi = {
  logs: () => {
    throw new Error("no kubelet in this test");
  },
  exec: () => Promise.reject(new Error("no kubelet in this test")),
  attach: () => Promise.reject(new Error("no kubelet in this test")),
  dial: () => Promise.reject(new Error("no kubelet in this test")),
};

export async function startHarness(nodeApi: NodeApi = unreachable, dir?: string): Promise<Harness> {
  const now = Date.now();
  const root = createRoot({ commonName: "kubernetes", lifetimeMs: DAY, now });
  const authority = { certificate: new X509Certificate(root.pem), privateKey: root.key.privateKey };
  const certificate = (names: { dns: string[]; ip?: string[] }) => {
    const issued = createServerCertificate({ authority, commonName: "server", names, lifetimeMs: DAY, now });
    return { cert: issued.pem, key: issued.keyPem };
  };
  const admin = createClientCertificate({
    authority,
    user: "admin",
    groups: ["system:masters"],
    lifetimeMs: DAY,
    now,
  });
  const log = createLogger({ level: "off" });
  const tls = { ...certificate({ dns: ["localhost"], ip: ["127.0.0.1"] }), clientCa: root.pem };
  const serve = (of: LocalCluster, at: number) =>
    startApiServer({ cluster: of, nodeApi, listen: [{ host: "127.0.0.1", port: at }], tls });
  let cluster = await createCluster({ log, dir });
  let server = await serve(cluster, 0);
  const port = server.addresses[0]?.port as number;
  const open = (method: string, path: string, { body, headers, token }: CallOptions) => {
    const payload = body === undefined ? undefined : Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const request = httpsRequest({
      host: "127.0.0.1",
      port,
      method,
      path,
      ca: root.pem,
      agent: false,
      ...(token === undefined ? { cert: admin.pem, key: admin.keyPem } : {}),
      headers: {
        ...(payload === undefined ? {} : { "content-type": "application/json" }),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
    });
    request.end(payload);
    return request;
  };
  return {
    get cluster() {
      return cluster;
    },
    get server() {
      return server;
    },
    port,
    ca: root.pem,
    certificate,
    config: (token) => ({
      server: `https://127.0.0.1:${port}`,
      basePath: "",
      tls: { ca: root.pem, ...(token === undefined ? { cert: admin.pem, key: admin.keyPem } : {}) },
      context: "test",
      namespace: "default",
      headers: async () => (token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    }),
    call: (method, path, options = {}) =>
      new Promise((resolve, reject) => {
        const request = open(method, path, options);
        request.on("error", reject);
        request.on("response", async (response) => {
          let text = "";
          for await (const chunk of response) text += chunk;
          const isJson = String(response.headers["content-type"]).startsWith("application/json");
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: isJson && text ? JSON.parse(text) : text,
          });
        });
      }),
    watch(path) {
      const request = open("GET", path, {});
      const lines: Json[] = [];
      const waiting: Array<(line: Json) => void> = [];
      let rest = "";
      const put = (line: Json) => {
        const taker = waiting.shift();
        if (taker) taker(line);
        else lines.push(line);
      };
      request.on("error", () => put(undefined));
      request.on("response", (response) => {
        response.on("data", (chunk: Buffer) => {
          const parts = (rest + chunk).split("\n");
          rest = parts.pop() as string;
          for (const part of parts) put(JSON.parse(part));
        });
        response.on("end", () => put(undefined));
        response.on("error", () => {});
      });
      return {
        next: () =>
          lines.length ? Promise.resolve(lines.shift()) : new Promise((resolve) => waiting.push(resolve)),
        close: () => request.destroy(),
      };
    },
    async stop() {
      await server.close();
      await cluster.close();
    },
    async restart(before) {
      cluster = await createCluster({ log, dir });
      await before?.(cluster);
      server = await serve(cluster, port);
    },
    async close() {
      await server.close();
      await cluster.close();
    },
  };
}
