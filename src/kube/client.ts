// Our own raw-JSON client of the API server: one keep-alive connection pool, no typed models that drop unknown
// fields, bounded bodies and times (DESIGN §4.6).
import { type Clock, systemClock, type Timer } from "../util/clock.ts";
import type { ClusterConfig } from "./config.ts";
import { connectionError, KubeApiError } from "./error.ts";
import { objectPath } from "./path.ts";
import { HttpTransport, type Transport, type TransportAnswer } from "./transport.ts";
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

export interface KubeClientOptions {
  /** Default: HTTP(S) connections of its own. */
  readonly transport?: Transport;
  /** Asked before each write. */
  readonly fence?: WriteFence;
  readonly clock?: Clock;
}

export class KubeClient {
  readonly config: ClusterConfig;
  readonly #transport: Transport;
  readonly #fence: WriteFence | undefined;
  readonly #clock: Clock;

  constructor(config: ClusterConfig, options: KubeClientOptions = {}) {
    this.config = config;
    this.#transport = options.transport ?? new HttpTransport(config);
    this.#fence = options.fence;
    this.#clock = options.clock ?? systemClock;
  }

  /** The same client on the same connections, but writes only while the fence lets it. */
  fencedBy(fence: WriteFence): KubeClient {
    return new KubeClient(this.config, { transport: this.#transport, clock: this.#clock, fence });
  }

  /** Closes idle connections; requests under way go on. */
  close(): void {
    this.#transport.close();
  }

  async get<T extends KubeObject = KubeObject>(path: string, query?: Query): Promise<T> {
    return (await this.request(path, query ? { query } : {})) as T;
  }

  /** The whole list; `resourceVersion` is that of the first page's snapshot. */
  async list<T extends KubeObject = KubeObject>(
    path: string,
    query: Query = {},
    signal?: AbortSignal,
  ): Promise<KubeList<T>> {
    const items: T[] = [];
    let metadata: KubeList<T>["metadata"] = {};
    for await (const page of this.pages<T>(path, query, signal)) {
      // One by one: a spread of a large page would overflow the stack.
      for (const item of page.items) items.push(item);
      ({ metadata } = page);
    }
    return { metadata: { ...metadata }, items };
  }

  /** The same page by page, for those who need not have it all at the same time. */
  async *pages<T extends KubeObject = KubeObject>(
    path: string,
    query: Query = {},
    signal?: AbortSignal,
  ): AsyncGenerator<KubeList<T>> {
    let next: string | undefined;
    do {
      const page = (await this.request(path, {
        query: { limit: PAGE, ...query, continue: next },
        signal,
      })) as KubeList<T>;
      yield { metadata: page.metadata, items: page.items ?? [] };
      next = page.metadata.continue;
    } while (next);
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
    const timeout = options.timeout ?? 30_000;
    const abort = new AbortController();
    const releases = [options.signal, term].map((signal) => follow(signal, abort));
    const timer = this.#clock.after(timeout, () =>
      abort.abort(new Error(`timeout: no answer in ${timeout} ms`)),
    );
    try {
      return await this.#answer(path, options, abort.signal);
    } finally {
      this.#clock.clear(timer);
      for (const release of releases) release();
    }
  }

  async #answer(path: string, options: RequestOptions, signal: AbortSignal): Promise<unknown> {
    const response = await this.#send(path, options, signal);
    const body = await this.#readAll(response, signal);
    const json = /json/.test(String(response.headers["content-type"] ?? ""));
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
    const release = follow(options.signal, abort);
    const stop = () => abort.abort(new Error(`the watch brought nothing for ${idle} ms`));
    let timer: Timer | undefined = this.#clock.after(idle, stop);
    try {
      const query = { watch: true, allowWatchBookmarks: true, ...options.query };
      const response = await this.#send(path, { query }, abort.signal);
      if ((response.statusCode ?? 0) >= 400) {
        const body = await this.#readAll(response, abort.signal);
        throw new KubeApiError(response.statusCode ?? 0, statusOf(body, true), `WATCH ${path}`);
      }
      for await (const line of linesOf(response)) {
        this.#clock.clear(timer);
        timer = this.#clock.after(idle, stop);
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
      this.#clock.clear(timer);
      release();
      abort.abort();
    }
  }

  async #send(path: string, options: RequestOptions, signal: AbortSignal): Promise<TransportAnswer> {
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
    try {
      return await this.#transport.send(url, { method: options.method ?? "GET", headers, body, signal });
    } catch (error) {
      throw connectionError(signal.aborted ? signal.reason : error, this.config.server);
    }
  }

  async #readAll(response: TransportAnswer, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of response) {
        size += chunk.length;
        if (size > MAX_BODY) throw new Error(`the answer is larger than ${MAX_BODY} bytes`);
        chunks.push(chunk);
      }
    } catch (error) {
      response.destroy();
      throw connectionError(signal.aborted ? signal.reason : error, this.config.server);
    }
    return Buffer.concat(chunks);
  }
}

/** Aborts with the signal. @returns the way to let go of it */
function follow(signal: AbortSignal | undefined, abort: AbortController): () => void {
  if (!signal) return () => {};
  const stop = () => abort.abort(signal.reason);
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return () => signal.removeEventListener("abort", stop);
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
async function* linesOf(response: TransportAnswer): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    let rest = chunk;
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
