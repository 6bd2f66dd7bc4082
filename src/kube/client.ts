// Our own raw-JSON client of the API server: one keep-alive connection pool, no typed models that drop unknown
// fields, bounded bodies and times (DESIGN §4.6).
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { ClusterConfig } from "./config.ts";
import { connectionError, KubeApiError } from "./error.ts";
import { objectPath } from "./path.ts";
import type { KubeList, KubeObject, Status, WatchEvent } from "./types.ts";

export type Query = Record<string, string | number | boolean | undefined>;

export interface RequestOptions {
  readonly method?: string;
  readonly query?: Query;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  /** Until the whole answer is read, ms. Default 30 s. */
  readonly timeout?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ApplyOptions {
  readonly fieldManager?: string;
  /** Take over fields that others own. Default true. */
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export type PatchType = "json" | "merge" | "strategic";

export interface WatchOptions {
  readonly query?: Query;
  /** The connection is given up when nothing (not even a bookmark) came for this long, ms. Default 5 min. */
  readonly idleTimeout?: number;
  readonly signal?: AbortSignal;
}

/** Answers larger than this are refused, bytes. */
const MAX_BODY = 64 * 1024 * 1024;
/** One watch event larger than this ends the watch, bytes. */
const MAX_EVENT = 8 * 1024 * 1024;
/** Objects a list request asks for at once. */
const PAGE = 500;

const PATCH_TYPES: Record<PatchType, string> = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
};

/** Who may write now: asked before each write of a client that is fenced by it (see lease.ts). */
export interface WriteFence {
  /** A write begins. @returns ends it early when it must not go on. @throws when none may begin */
  begin(): AbortSignal;
  end(): void;
}

export class KubeClient {
  readonly config: ClusterConfig;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #fence: WriteFence | undefined;

  /** @param shared another client's connections, and what this one's writes ask first */
  constructor(config: ClusterConfig, shared?: { agent: HttpAgent | HttpsAgent; fence: WriteFence }) {
    this.config = config;
    this.#fence = shared?.fence;
    if (shared) {
      this.#agent = shared.agent;
      return;
    }
    const options = { keepAlive: true, maxSockets: 32, scheduling: "lifo" as const };
    this.#agent = config.server.startsWith("https:")
      ? new HttpsAgent({ ...options, ...config.tls })
      : new HttpAgent(options);
  }

  /** The same client on the same connections, but writes only while the fence lets it. */
  fencedBy(fence: WriteFence): KubeClient {
    return new KubeClient(this.config, { agent: this.#agent, fence });
  }

  /** Closes idle connections; requests under way go on. */
  close(): void {
    this.#agent.destroy();
  }

  async get<T extends KubeObject = KubeObject>(path: string, query?: Query): Promise<T> {
    return (await this.request(path, query ? { query } : {})) as T;
  }

  /** The whole list, page by page; `resourceVersion` is that of the first page's snapshot. */
  async list<T extends KubeObject = KubeObject>(
    path: string,
    query: Query = {},
    signal?: AbortSignal,
  ): Promise<KubeList<T>> {
    const items: T[] = [];
    let next: string | undefined;
    for (;;) {
      const page = (await this.request(path, {
        query: { limit: PAGE, ...query, continue: next },
        signal,
      })) as KubeList<T>;
      // One by one: a spread of a large page would overflow the stack.
      for (const item of page.items ?? []) items.push(item);
      next = page.metadata.continue;
      if (!next) return { metadata: { ...page.metadata }, items };
    }
  }

  /** Creates in the collection at `path` (or where the object says, for one of the well-known kinds). */
  async create<T extends KubeObject>(
    object: T,
    path: string = collectionOf(object),
    query?: Query,
  ): Promise<T> {
    return (await this.request(path, { method: "POST", body: object, ...(query ? { query } : {}) })) as T;
  }

  async replace<T extends KubeObject>(path: string, object: T): Promise<T> {
    return (await this.request(path, { method: "PUT", body: object })) as T;
  }

  async patch<T extends KubeObject = KubeObject>(
    path: string,
    patch: unknown,
    type: PatchType = "merge",
  ): Promise<T> {
    return (await this.request(path, { method: "PATCH", body: patch, contentType: PATCH_TYPES[type] })) as T;
  }

  /** Server-side apply. */
  async apply<T extends KubeObject>(
    object: T,
    options: ApplyOptions = {},
    path = objectPath(object),
  ): Promise<T> {
    const query: Query = {
      fieldManager: options.fieldManager ?? "kubectl-mesh",
      force: options.force ?? true,
      dryRun: options.dryRun ? "All" : undefined,
    };
    return (await this.request(path, {
      method: "PATCH",
      body: object,
      query,
      contentType: "application/apply-patch+yaml",
    })) as T;
  }

  async delete(
    path: string,
    options: { propagationPolicy?: string; gracePeriodSeconds?: number } = {},
  ): Promise<void> {
    await this.request(path, {
      method: "DELETE",
      body: { apiVersion: "v1", kind: "DeleteOptions", ...options },
    });
  }

  /**
   * One request; JSON is decoded, anything else comes back as text.
   * @throws KubeApiError for an answer of 400 and above; MeshError when the server cannot be reached.
   */
  async request(path: string, options: RequestOptions = {}): Promise<unknown> {
    const fence = (options.method ?? "GET") === "GET" ? undefined : this.#fence;
    const term = fence?.begin();
    try {
      return await this.#exchange(path, options, term);
    } finally {
      fence?.end();
    }
  }

  async #exchange(path: string, options: RequestOptions, term: AbortSignal | undefined): Promise<unknown> {
    const signals = [AbortSignal.timeout(options.timeout ?? 30_000)];
    if (options.signal) signals.push(options.signal);
    if (term) signals.push(term);
    const signal = signals.length === 1 ? signals[0]! : AbortSignal.any(signals);
    const response = await this.#send(path, options, signal);
    const body = await this.#readAll(response, signal);
    const json = /json/.test(response.headers["content-type"] ?? "");
    const code = response.statusCode ?? 0;
    if (code >= 400) throw new KubeApiError(code, statusOf(body, json), `${options.method ?? "GET"} ${path}`);
    if (!json) return body.toString("utf8");
    try {
      return JSON.parse(body.toString("utf8"));
    } catch (error) {
      throw connectionError(error, this.config.server);
    }
  }

  /**
   * Watches from `query.resourceVersion` on, yielding each event; ends when the server ends it.
   * @throws KubeApiError with status 410 when the version is too old, whether by answer or by event.
   */
  async *watch<T extends KubeObject = KubeObject>(
    path: string,
    options: WatchOptions = {},
  ): AsyncGenerator<WatchEvent<T>> {
    const abort = new AbortController();
    const idle = options.idleTimeout ?? 300_000;
    const stop = () => abort.abort(new Error("watch stopped"));
    options.signal?.addEventListener("abort", stop, { once: true });
    if (options.signal?.aborted) stop();
    let timer = setTimeout(stop, idle);
    try {
      const query = { watch: true, allowWatchBookmarks: true, ...options.query };
      const response = await this.#send(path, { query }, abort.signal);
      if ((response.statusCode ?? 0) >= 400) {
        const body = await this.#readAll(response, abort.signal);
        throw new KubeApiError(response.statusCode ?? 0, statusOf(body, true), `WATCH ${path}`);
      }
      for await (const line of linesOf(response)) {
        clearTimeout(timer);
        timer = setTimeout(stop, idle);
        const event = JSON.parse(line) as WatchEvent<T>;
        if (event.type === "ERROR") {
          const status = event.object as unknown as Status;
          throw new KubeApiError(status.code ?? 500, status, `WATCH ${path}`);
        }
        yield event;
      }
    } catch (error) {
      if (options.signal?.aborted) return;
      throw connectionError(error, this.config.server);
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", stop);
      abort.abort();
    }
  }

  async #send(path: string, options: RequestOptions, signal: AbortSignal): Promise<IncomingMessage> {
    const url = new URL(this.config.server + this.config.basePath + path);
    for (const [key, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    const headers: Record<string, string | number> = {
      Accept: options.accept ?? "application/json",
      "User-Agent": "kubectl-mesh",
      ...(await this.config.headers()),
    };
    if (body) {
      headers["Content-Type"] = options.contentType ?? "application/json";
      headers["Content-Length"] = body.length;
    }
    const send = url.protocol === "https:" ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const request = send(url, { method: options.method ?? "GET", headers, agent: this.#agent, signal });
      request.on("response", resolve);
      request.on("error", (error) =>
        reject(connectionError(signal.aborted ? signal.reason : error, this.config.server)),
      );
      request.end(body);
    });
  }

  async #readAll(response: IncomingMessage, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of response) {
        size += (chunk as Buffer).length;
        if (size > MAX_BODY) throw new Error(`the answer is larger than ${MAX_BODY} bytes`);
        chunks.push(chunk as Buffer);
      }
    } catch (error) {
      response.destroy();
      throw connectionError(signal.aborted ? signal.reason : error, this.config.server);
    }
    return Buffer.concat(chunks);
  }
}

function collectionOf(object: KubeObject): string {
  const path = objectPath(object);
  return path.slice(0, path.lastIndexOf("/"));
}

function statusOf(body: Buffer, json: boolean): Status {
  const text = body.toString("utf8");
  if (json) {
    try {
      return JSON.parse(text) as Status;
    } catch {
      // Falls through: a broken body is shown as it came.
    }
  }
  const message = text.trim().slice(0, 500);
  return message === "" ? {} : { message };
}

/** Lines of a response, each at most MAX_EVENT bytes. */
async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    let rest = chunk as Buffer;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...parts, rest.subarray(0, end)]).toString("utf8");
      parts = [];
      size = 0;
      rest = rest.subarray(end + 1);
      if (line.trim() !== "") yield line;
    }
    if (rest.length > 0) parts.push(rest);
    size += rest.length;
    if (size > MAX_EVENT) throw new Error(`a watch event is larger than ${MAX_EVENT} bytes`);
  }
}
