// A small HTTP server that behaves like an API server where the client and the reflector can tell: paged lists,
// watches that can be fed, cut and told to be too old, refusals with a Status.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { ClusterConfig } from "../../src/kube/config.ts";
import type { KubeObject } from "../../src/kube/types.ts";

export interface Seen {
  method: string;
  url: URL;
  headers: IncomingMessage["headers"];
  body: string;
}

export class ApiServer {
  readonly objects = new Map<string, KubeObject>();
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #watches = new Set<ServerResponse>();
  version = 1;
  /** Watches from a version below this are answered with 410. */
  oldest = 0;
  /** What happened, for watches that begin at an older version. */
  readonly #snapshots: { items: KubeObject[]; version: number }[] = [];
  readonly #history: { version: number; line: string }[] = [];
  /** Most objects a page holds, whatever the client asks for. */
  page = 2;
  connections = 0;
  answer: ((seen: Seen, response: ServerResponse) => boolean) | undefined;

  constructor() {
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.on("connection", () => {
      this.connections += 1;
    });
  }

  async listen(): Promise<ClusterConfig> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const { port } = this.#server.address() as { port: number };
    return {
      server: `http://127.0.0.1:${port}`,
      basePath: "",
      tls: {},
      context: "test",
      namespace: "default",
      headers: async () => ({ Authorization: "Bearer t" }),
    };
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Ends every watch as a server does at its time limit. */
  cutWatches(): void {
    for (const response of this.#watches) response.destroy();
  }

  get watchers(): number {
    return this.#watches.size;
  }

  put(name: string, uid = name): void {
    this.version += 1;
    const type = this.objects.has(name) ? "MODIFIED" : "ADDED";
    const object = { metadata: { name, namespace: "ns", uid, resourceVersion: String(this.version) } };
    this.objects.set(name, object);
    this.#tell(type, object);
  }

  remove(name: string): void {
    this.version += 1;
    const object = this.objects.get(name)!;
    this.objects.delete(name);
    this.#tell("DELETED", {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.version) },
    });
  }

  #tell(type: string, object: KubeObject): void {
    const line = `${JSON.stringify({ type, object })}\n`;
    this.#history.push({ version: this.version, line });
    for (const response of this.#watches) {
      // In two pieces, as a network may deliver it.
      response.write(line.slice(0, 7));
      response.write(line.slice(7));
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += chunk;
    const url = new URL(request.url ?? "/", "http://x");
    const seen: Seen = { method: request.method ?? "", url, headers: request.headers, body };
    this.seen.push(seen);
    if (this.answer?.(seen, response)) return;
    response.setHeader("content-type", "application/json");
    if (url.searchParams.get("watch")) this.#watch(url, response);
    else this.#list(url, response);
  }

  #watch(url: URL, response: ServerResponse): void {
    if (Number(url.searchParams.get("resourceVersion")) < this.oldest) {
      const status = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
      return;
    }
    response.flushHeaders();
    const from = Number(url.searchParams.get("resourceVersion"));
    for (const { version, line } of this.#history) if (version > from) response.write(line);
    this.#watches.add(response);
    response.on("close", () => this.#watches.delete(response));
  }

  /** Pages of what there was when the first was asked for, as a real server gives them. */
  #list(url: URL, response: ServerResponse): void {
    const next = url.searchParams.get("continue");
    const [id, from] = next ? next.split(":").map(Number) : [this.#snapshots.length, 0];
    if (!next) this.#snapshots.push({ items: [...this.objects.values()], version: this.version });
    const { items, version } = this.#snapshots[id!]!;
    if (next && version < this.oldest) {
      response.writeHead(410).end(JSON.stringify({ kind: "Status", code: 410, reason: "Expired" }));
      return;
    }
    const end = from! + this.page;
    const rest = end < items.length ? { continue: `${id}:${end}` } : {};
    response.end(
      JSON.stringify({
        metadata: { resourceVersion: String(version), ...rest },
        items: items.slice(from, end),
      }),
    );
  }
}
