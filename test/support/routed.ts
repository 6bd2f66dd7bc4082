// An outbound side before applications of its own, with routes between: what tests of routes share.
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import type { Test } from "uvu";
import type { MessageOf } from "../../src/api/codec.ts";
import type { HttpRouteRule, OutboundPolicy } from "../../src/api/outbound.ts";
import { startOutbound } from "./proxy-fakes.ts";

export const SERVICE = { ip: "127.0.0.1", port: 80 };

export type Undo = () => unknown;
export type Keep = (undo: Undo) => void;
export type Rule = Partial<MessageOf<typeof HttpRouteRule>>;

export type Scenario = (name: string, body: (keep: Keep) => Promise<void>) => void;

/** Tests of `test` that undo what they made, last first. */
export function scenarios(test: Test): Scenario {
  return (name, body) => {
    test(name, async () => {
      const undo: Undo[] = [];
      try {
        await body((fn) => undo.push(fn));
      } finally {
        for (const fn of undo.reverse()) await fn();
      }
    });
  };
}

export interface App {
  readonly port: number;
  /** Bodies of the requests so far. */
  readonly bodies: string[];
  readonly requests: http.IncomingMessage[];
}

/** An application whose n-th request is answered by `answer`. */
export async function app(
  keep: Keep,
  answer: (n: number, response: http.ServerResponse, request: http.IncomingMessage) => void,
): Promise<App> {
  const bodies: string[] = [];
  const requests: http.IncomingMessage[] = [];
  const server = http.createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      bodies.push(body);
      requests.push(request);
      answer(bodies.length, response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  keep(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, bodies, requests };
}

export const backend = (path: string) => ({
  filters: [],
  backend: { balancer: { discovery: { dst: { path } } } },
});
export const to = (...paths: string[]) => ({ firstAvailable: { backends: paths.map(backend) } });
export const seconds = (ms: number) => ({ seconds: 0, nanos: ms * 1e6 });

/** A proxy whose service has these rules; each named backend is an application. */
export async function world(
  keep: Keep,
  apps: Record<string, App>,
  rules: Rule[],
  options: NonNullable<Parameters<typeof startOutbound>[1]> = {},
) {
  const config = { failfastTimeout: 200, ...options.config };
  const proxy = await startOutbound(SERVICE, { ...options, config });
  keep(() => proxy.path.close());
  for (const [name, { port }] of Object.entries(apps))
    proxy.discovery.service("127.0.0.2:80", name, [{ port }]);
  const routes = rules.map((rule, i) => ({
    metadata: {
      resource: { group: "g", kind: "HTTPRoute", name: `r${i}`, namespace: "ns", section: "", port: 0 },
    },
    hosts: [],
    rules: [{ matches: [], filters: [], allowL5dRequestHeaders: false, ...rule }],
  }));
  const policy: MessageOf<typeof OutboundPolicy> = {
    protocol: { detect: { http1: { routes }, http2: { routes } } },
  };
  proxy.discovery.outboundPolicy("127.0.0.1", 80);
  proxy.discovery.policies.get("127.0.0.1:80")!.set(policy);
  return proxy;
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

export function ask(
  port: number,
  path: string,
  options: http.RequestOptions & { body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { body, ...rest } = options;
    const request = http.request({ port, host: "127.0.0.1", path, agent: false, ...rest }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: text }),
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

export const ok = (text: string) => (_n: number, response: http.ServerResponse) => response.end(text);
export const prefix = (value: string) => ({ path: { prefix: value }, headers: [], queryParams: [] });
