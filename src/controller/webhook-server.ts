// An admission webhook's HTTPS server: certificates that are replaced while it runs, bounded bodies, one review a request.
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import {
  AdmissionError,
  type AdmissionRequest,
  type AdmissionResponse,
  parseReview,
} from "./admission-review.ts";

/** Kubernetes sends at most 3 MiB of object, old object and options together. */
const MAX_BODY = 8 * 1024 * 1024;
/** API servers keep a handful of connections; with the bound on bodies this bounds memory. */
const MAX_CONNECTIONS = 64;

export interface WebhookServer {
  readonly server: Server;
  /** Takes a new certificate for connections from now on. */
  setCertificate(certificate: string, key: string): void;
}

export type Review = (request: AdmissionRequest) => Promise<AdmissionResponse>;

/**
 * @param review answers one request; when it rejects the answer is a 500, and the API server's failurePolicy decides
 * @param failed is told why
 */
export function createWebhookServer(review: Review, failed: (error: unknown) => void): WebhookServer {
  const server = createServer({ minVersion: "TLSv1.2" }, (request, response) => {
    // A caller that is gone gets no answer; nothing else is left to tell it.
    response.on("error", () => {});
    void answer(request, response, review, failed);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = 10_000;
  server.headersTimeout = 5_000;
  return {
    server,
    setCertificate: (cert, key) => server.setSecureContext({ cert, key, minVersion: "TLSv1.2" }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  review: Review,
  failed: (error: unknown) => void,
): Promise<void> {
  const fail = (status: number, message: string) => {
    response.writeHead(status, { "content-type": "text/plain", connection: "close" });
    response.end(`${message}\n`);
  };
  if (request.method !== "POST") return fail(405, "expected POST");
  try {
    const body = await readBody(request);
    if (body === undefined) return fail(413, `expected at most ${MAX_BODY} bytes`);
    const admission = await review(parseReview(JSON.parse(body)));
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response: admission }),
    );
  } catch (error) {
    const theirs = error instanceof AdmissionError || error instanceof SyntaxError;
    if (!theirs) failed(error);
    fail(theirs ? 400 : 500, theirs ? error.message : "the review failed; see the webhook's log");
  }
}

/** The whole body, undefined when it is too large. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
