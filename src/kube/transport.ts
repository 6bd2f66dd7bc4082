// How requests travel to an API server: over HTTP(S) on one keep-alive pool, or however a simulation carries them.
import { Agent as HttpAgent, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { ClusterConfig } from "./config.ts";

export interface TransportRequest {
  readonly method: string;
  readonly headers: Record<string, string | number>;
  readonly body: Buffer | undefined;
  /** Ends the exchange, whether or not it was answered. */
  readonly signal: AbortSignal;
}

/** The head of an answer, and its body as it comes. */
export interface TransportAnswer extends AsyncIterable<Buffer> {
  readonly statusCode?: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  destroy(): unknown;
}

export interface Transport {
  /** Resolves with the head of the answer; rejects when there is none. */
  send(url: URL, request: TransportRequest): Promise<TransportAnswer>;
  /** Closes idle connections; requests under way go on. */
  close(): void;
}

export class HttpTransport implements Transport {
  readonly #agent: HttpAgent | HttpsAgent;

  constructor({ server, tls }: Pick<ClusterConfig, "server" | "tls">) {
    const options = { keepAlive: true, maxSockets: 32, scheduling: "lifo" as const };
    this.#agent = server.startsWith("https:")
      ? new HttpsAgent({ ...options, ...tls })
      : new HttpAgent(options);
  }

  send(url: URL, { method, headers, body, signal }: TransportRequest): Promise<TransportAnswer> {
    const request = url.protocol === "https:" ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const sent = request(url, { method, headers, agent: this.#agent, signal });
      sent.on("response", resolve);
      sent.on("error", reject);
      sent.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
