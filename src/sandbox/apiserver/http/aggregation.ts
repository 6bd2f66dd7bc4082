// Aggregated API servers: APIServices point a group version at a Service, and requests for it are passed on with the
// user's name in headers that a certificate of this API server vouches for.

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Duplex } from "node:stream";
import { errorMessage } from "../../../util/error.ts";
import type { Json, KubeObject } from "../../cluster.ts";
import type { User } from "../auth/user.ts";
import type { LocalCluster } from "../local-cluster.ts";
import { timestamp } from "../resource.ts";
import { ApiError } from "../status.ts";
import { decodeBundle, serviceTarget, type Target } from "../upstream.ts";
import type { Exchange } from "./exchange.ts";
import type { RequestInfo } from "./request.ts";

const APISERVICES = "apiregistration.k8s.io/apiservices";
const CHECK_EVERY = 5_000;
const CHECK_TIMEOUT = 5_000;

/** The certificate with which this API server shows itself to aggregated ones. */
export interface FrontProxy {
  cert: string;
  key: string;
  /** Issuer of `cert`: published for the aggregated servers to check. */
  ca: string;
}

export class Aggregator {
  readonly #cluster: LocalCluster;
  readonly #front: FrontProxy | undefined;
  #timer: ReturnType<LocalCluster["clock"]["after"]> | undefined;
  #stopWatch: () => void;
  #closed = false;

  constructor(cluster: LocalCluster, front: FrontProxy | undefined) {
    this.#cluster = cluster;
    this.#front = front;
    this.#stopWatch = cluster.watch("apiregistration.k8s.io", "apiservices", (type) => {
      if (type === "ADDED") this.#schedule(0);
    });
    this.#schedule(CHECK_EVERY);
  }

  close(): void {
    this.#closed = true;
    this.#stopWatch();
    this.#cluster.clock.clear(this.#timer);
  }

  /** Groups and versions served elsewhere. */
  groups(): Map<string, string[]> {
    const groups = new Map<string, string[]>();
    for (const { spec } of this.#remote()) {
      groups.set(spec.group, [...(groups.get(spec.group) ?? []), spec.version]);
    }
    return groups;
  }

  /** Whether a request is for an aggregated group version. */
  claims(info: RequestInfo): boolean {
    return this.#serviceFor(info.path) !== undefined;
  }

  async forward(exchange: Exchange): Promise<void> {
    const { request, response, user } = exchange;
    const target = this.#targetOf(this.#serviceFor(exchange.info.path) as KubeObject);
    await new Promise<void>((resolve) => {
      const upstream = this.#request(target, request, user);
      upstream.on("error", (error) => {
        if (response.headersSent) response.destroy();
        else {
          response.writeHead(503, { "content-type": "text/plain" });
          response.end(`error trying to reach service: ${error.message}`);
        }
        resolve();
      });
      upstream.on("response", (answer) => {
        const { connection, "keep-alive": _keep, "transfer-encoding": _te, ...headers } = answer.headers;
        response.writeHead(answer.statusCode ?? 502, headers);
        answer.pipe(response);
      });
      response.once("close", () => {
        upstream.destroy();
        resolve();
      });
      request.pipe(upstream);
    });
  }

  /** Passes an upgrade (exec, watch over WebSocket) on as bytes. */
  forwardUpgrade(exchange: Omit<Exchange, "response">, socket: Duplex, head: Buffer): void {
    const target = this.#targetOf(this.#serviceFor(exchange.info.path) as KubeObject);
    const upstream = this.#request(target, exchange.request, exchange.user);
    upstream.on("error", () => socket.destroy());
    upstream.on("upgrade", (answer, remote, remoteHead) => {
      const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
      for (let i = 0; i < answer.rawHeaders.length; i += 2) {
        lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
      }
      socket.write(`${lines.join("\r\n")}\r\n\r\n`);
      socket.write(remoteHead);
      remote.write(head);
      remote.pipe(socket).pipe(remote);
      for (const side of [remote, socket]) {
        side.on("error", () => {
          remote.destroy();
          socket.destroy();
        });
      }
    });
    upstream.on("response", (answer) => {
      socket.end(
        `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
      );
    });
    upstream.end();
  }

  #request(target: Target, request: IncomingMessage, user: User) {
    return httpsRequest({
      host: target.host,
      port: target.port,
      path: request.url,
      method: request.method,
      agent: false,
      servername: target.servername,
      ...(target.ca === undefined ? {} : { ca: target.ca }),
      rejectUnauthorized: target.ca !== undefined,
      ...(this.#front ? { cert: this.#front.cert, key: this.#front.key } : {}),
      headers: { ...identityHeaders(request.headers, user), host: target.servername },
    });
  }

  #remote(): KubeObject[] {
    return this.#cluster.registry.listStored(APISERVICES).filter((object) => object.spec?.service);
  }

  #serviceFor(path: string): KubeObject | undefined {
    const [, root, group, version] = path.split("/");
    if (root !== "apis" || !group || !version) return undefined;
    const found = this.#cluster.registry.store.get(APISERVICES, `${version}.${group}`);
    return found?.spec?.service ? found : undefined;
  }

  #targetOf(service: KubeObject): Target {
    const { spec } = service;
    try {
      const target = serviceTarget(this.#cluster.registry.store, spec.service, spec.caBundle);
      return { ...target, ca: spec.insecureSkipTLSVerify ? undefined : (decodeBundle(spec.caBundle) ?? "") };
    } catch (error) {
      throw new ApiError(503, "ServiceUnavailable", errorMessage(error));
    }
  }

  #schedule(delay: number): void {
    if (this.#closed) return;
    this.#cluster.clock.clear(this.#timer);
    this.#timer = this.#cluster.clock.after(delay, () => {
      this.#checkAll()
        .catch((error: unknown) =>
          this.#cluster.log.warn("cannot check APIServices", { error: errorMessage(error) }),
        )
        .finally(() => this.#schedule(CHECK_EVERY));
    });
  }

  async #checkAll(): Promise<void> {
    await Promise.all(
      this.#cluster.registry.listStored(APISERVICES).map(async (service) => {
        const condition = service.spec?.service
          ? await this.#check(service)
          : available("True", "Local", "Local APIServices are always available");
        await this.#report(service, condition);
      }),
    );
  }

  async #check(service: KubeObject): Promise<Json> {
    let target: Target;
    try {
      target = this.#targetOf(service);
    } catch (error) {
      const why = errorMessage(error);
      const reason = /no endpoints/.test(why) ? "MissingEndpoints" : "ServiceNotFound";
      return available("False", reason, why);
    }
    const { group, version } = service.spec;
    const failure = await this.#probe(target, `/apis/${group}/${version}`);
    if (!failure) return available("True", "Passed", "all checks passed");
    return available(
      "False",
      "FailedDiscoveryCheck",
      `failing or missing response from https://${target.host}:${target.port}/apis/${group}/${version}: ${failure}`,
    );
  }

  /** What is wrong with an aggregated server's discovery, if anything. */
  #probe(target: Target, path: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const request = { url: path, method: "GET", headers: {} } as IncomingMessage;
      const probe = this.#request(target, request, {
        name: "system:kube-aggregator",
        groups: ["system:masters"],
      });
      probe.setTimeout(CHECK_TIMEOUT, () => probe.destroy(new Error("timed out")));
      probe.on("error", (error) => resolve(error.message));
      probe.on("response", (answer) => {
        answer.resume();
        const { statusCode = 0 } = answer;
        resolve(statusCode >= 200 && statusCode < 300 ? undefined : `bad status: ${statusCode}`);
      });
      probe.end();
    });
  }

  async #report(service: KubeObject, condition: Json): Promise<void> {
    const old = (service.status?.conditions ?? []).find((c: Json) => c.type === "Available");
    if (old?.status === condition.status && old?.message === condition.message) return;
    const now = timestamp(this.#cluster.clock.now());
    const lastTransitionTime = old?.status === condition.status ? old.lastTransitionTime : now;
    await this.#cluster.modify(
      { group: "apiregistration.k8s.io", resource: "apiservices", name: service.metadata.name },
      (current) => ({ ...current, status: { conditions: [{ ...condition, lastTransitionTime }] } }),
      { subresource: "status" },
    );
  }
}

const available = (status: string, reason: string, message: string): Json => ({
  type: "Available",
  status,
  reason,
  message,
});

/** The caller's headers with credentials replaced by the name they stand for. */
function identityHeaders(headers: IncomingHttpHeaders, user: User): Record<string, string | string[]> {
  const out: Record<string, string | string[]> = {};
  for (const [key, value] of Object.entries(headers)) {
    if (value === undefined || key === "authorization" || key === "host") continue;
    if (key.startsWith("impersonate-") || key.startsWith("x-remote-")) continue;
    out[key] = value;
  }
  out["x-remote-user"] = user.name;
  if (user.uid) out["x-remote-uid"] = user.uid;
  out["x-remote-group"] = [...user.groups];
  for (const [key, values] of Object.entries(user.extra ?? {})) {
    out[`x-remote-extra-${encodeURIComponent(key)}`] = values;
  }
  return out;
}
