// Routes and limits of an inbound server on real sockets.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { HttpLocalRateLimit, HttpRouteRule } from "../../../src/api/inbound.ts";
import { serverPolicy, startInbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("inbound routes");
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async function world(
  rules: Partial<MessageOf<typeof HttpRouteRule>>[],
  httpLocalRateLimit: MessageOf<typeof HttpLocalRateLimit> | undefined,
  body: (w: {
    ask: (path: string) => Promise<string>;
    app: RawServer;
    proxy: Awaited<ReturnType<typeof startInbound>>;
  }) => Promise<void>,
): Promise<void> {
  const app = await RawServer.start((peer) => {
    let seen = 0;
    peer.onData = (received) => {
      const count = received.split("\r\n\r\n").length - 1;
      while (seen < count) {
        seen += 1;
        peer.send(OK);
      }
    };
  });
  const proxy = await startInbound({ ip: "127.0.0.1", port: app.port });
  const httpRoutes = rules.map((rule, i) => ({
    metadata: {
      resource: { group: "g", kind: "HTTPRoute", name: `r${i}`, namespace: "ns", section: "", port: 0 },
    },
    hosts: [],
    authorizations: [],
    rules: [{ matches: [], filters: [], ...rule }],
  }));
  proxy.discovery.serverOf(app.port).set({
    ...serverPolicy("all"),
    protocol: { detect: { httpRoutes, httpLocalRateLimit } },
  });
  const client = new RawClient(proxy.port);
  try {
    await body({
      app,
      proxy,
      ask: async (path) => {
        const from = client.received.length;
        client.send(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`);
        await until(() => client.received.indexOf("\r\n\r\n", from) > 0, 5_000, "an answer");
        return client.received.slice(from);
      },
    });
  } finally {
    client.destroy();
    proxy.path.close();
    await app.close();
  }
}

const prefix = (path: string) => [{ headers: [], queryParams: [], path: { prefix: path } }];

test("requests of no route are answered 404, and those of one carry its name and its fields", () =>
  world(
    [
      {
        matches: prefix("/a"),
        filters: [
          {
            requestHeaderModifier: {
              set: { headers: [{ name: "x-route", value: Buffer.from("a") }] },
              remove: [],
            },
          },
        ],
      },
    ],
    undefined,
    async ({ ask, app, proxy }) => {
      assert.match(await ask("/b"), /^HTTP\/1.1 404 .*MESH-303|^HTTP\/1.1 404 /s);
      assert.match(await ask("/a"), /200 OK/);
      assert.match(app.connections[0]!.received, /x-route: a/);
      const metrics = proxy.registry.expose();
      assert.match(metrics, /response_total\{[^}]*route_name="r0"[^}]*classification="success"\} 1/);
      assert.match(metrics, /inbound_http_route_not_found_total\{[^}]*srv_name="all"[^}]*\} 1/);
      for (const family of ["request", "response"])
        assert.match(
          metrics,
          new RegExp(`inbound_http_${family}_duration_seconds_count\\{[^}]*route_name="r0"[^}]*\\} 1`),
        );
    },
  ));

test("redirects and faults of a route are answered here", () =>
  world(
    [
      {
        matches: prefix("/old"),
        filters: [{ redirect: { host: "", port: 0, status: 308, path: { full: "/new" } } }],
      },
      { matches: prefix("/fault"), filters: [{ failureInjector: { status: 503, message: "drill" } }] },
    ],
    undefined,
    async ({ ask, app }) => {
      assert.match(await ask("/old"), /^HTTP\/1.1 308 .*location: http:\/\/a\/new/s);
      assert.match(await ask("/fault"), /^HTTP\/1.1 503 .*l5d-proxy-error: drill/s);
      assert.is(app.connections.length, 0);
    },
  ));

test("requests beyond the rate limit are answered 429 until the second is over", () =>
  world([], { total: { requestsPerSecond: 3 }, overrides: [] }, async ({ ask, app, proxy }) => {
    const answers: string[] = [];
    for (let i = 0; i < 8; i += 1) answers.push((await ask("/")).slice(9, 12));
    assert.is(
      answers.filter((status) => status === "200").length,
      app.connections[0]!.received.split("GET").length - 1,
    );
    assert.ok(answers.slice(0, 3).every((status) => status === "200"));
    assert.ok(answers.includes("429"), answers.join());
    assert.match(proxy.registry.expose(), /inbound_http_local_ratelimit_total\{[^}]*scope="total"\} [1-5]/);
  }));

test.run();
