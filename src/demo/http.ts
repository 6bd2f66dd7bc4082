// The little HTTP that the demo's services share: a JSON server that stops gracefully, and a keep-alive client.
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  /** Default application/json. */
  readonly type?: string;
}

export type Handler = (method: string, url: URL) => Answer | Promise<Answer>;

/** A service of the demo, running. */
export interface Running {
  readonly port: number;
  /** Finishes what is in flight, then stops. */
  close(): Promise<void>;
}

/** Longest answer the client reads, bytes. */
const MAX_BODY = 1 << 20;
/** A call that takes longer has failed, ms. */
const CALL_TIMEOUT = 5_000;

/** Serves `handler` on `port` (0: any); `GET /healthz` answers 200 by itself. */
export function serveHttp(port: number, handler: Handler): Promise<Running> {
  const server = createServer((request, response) => {
    void answer(handler, request, response);
  });
  return listen(server, port);
}

async function answer(handler: Handler, request: IncomingMessage, response: ServerResponse): Promise<void> {
  request.resume();
  let result: Answer;
  try {
    const url = new URL(request.url ?? "/", "http://demo");
    result =
      url.pathname === "/healthz" ? { status: 200, body: "ok" } : await handler(request.method ?? "GET", url);
  } catch (error) {
    result = { status: 502, body: { error: (error as Error).message } };
  }
  const text = result.type === undefined ? JSON.stringify(result.body) : String(result.body);
  response.writeHead(result.status, {
    "content-type": result.type ?? "application/json",
    "content-length": Buffer.byteLength(text),
  });
  response.end(request.method === "HEAD" ? undefined : text);
}

function listen(server: Server, port: number): Promise<Running> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeIdleConnections();
          }),
      });
    });
  });
}

export class HttpError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Calls one service over kept-alive connections. */
export class HttpClient {
  readonly #base: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 32 });

  constructor(base: string) {
    this.#base = new URL(base);
  }

  /** The JSON answer. @throws HttpError for a status of 400 and above; Error when the call itself fails. */
  call(method: string, path: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        new URL(path, this.#base),
        { method, agent: this.#agent, timeout: CALL_TIMEOUT },
        (response) => {
          const chunks: Buffer[] = [];
          let size = 0;
          response.on("data", (chunk: Buffer) => {
            size += chunk.length;
            if (size > MAX_BODY)
              outgoing.destroy(new Error(`answer of ${path} is larger than ${MAX_BODY} bytes`));
            else chunks.push(chunk);
          });
          response.on("error", reject);
          response.on("end", () => {
            const text = Buffer.concat(chunks).toString();
            const status = response.statusCode ?? 0;
            if (status >= 400)
              reject(new HttpError(status, `${method} ${path}: ${status} ${text.slice(0, 200)}`));
            else resolve(parse(text));
          });
        },
      );
      outgoing.on("timeout", () =>
        outgoing.destroy(new Error(`${method} ${path}: no answer in ${CALL_TIMEOUT} ms`)),
      );
      outgoing.on("error", reject);
      outgoing.end();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
