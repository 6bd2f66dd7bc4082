// Routes of the outbound side on real sockets: what goes where, what is changed, tried again, or given up in time.
import * as http2 from "node:http2";
import { type AddressInfo, Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import {
  app,
  ask,
  backend,
  ok,
  prefix,
  SERVICE,
  scenarios,
  seconds,
  to,
  world,
} from "../../support/routed.ts";
import { until } from "../../support/until.ts";

const test = suite("outbound routes");
const scenario = scenarios(test);

const NOWHERE = { group: "core", kind: "Service", name: "gone", namespace: "ns", section: "", port: 80 };

const retry = (parts: object = {}) => ({
  maxRetries: 2,
  maxRequestBytes: 0,
  conditions: { statusRanges: [{ start: 500, end: 599 }] },
  backoff: { minBackoff: seconds(1), maxBackoff: seconds(2), jitterRatio: 0, respectRetryAfterHint: false },
  ...parts,
});

scenario("requests go where their route says, and those of no route are answered 404", async (keep) => {
  const a = await app(keep, ok("a"));
  const b = await app(keep, ok("b"));
  const proxy = await world(keep, { "a.ns": a, "b.ns": b }, [
    { matches: [prefix("/a")], backends: to("a.ns:80") },
    { matches: [prefix("/b")], backends: to("b.ns:80") },
  ]);
  assert.is((await ask(proxy.port, "/a/1")).body, "a");
  assert.is((await ask(proxy.port, "/b")).body, "b");
  const none = await ask(proxy.port, "/c");
  assert.equal([none.status, none.headers["l5d-mesh-code"]], [404, "MESH-303"]);
  assert.match(proxy.registry.expose(), /outbound_http_route_requests_total\{[^}]*route_name="r0"[^}]*\} 1/);
});

scenario("a split shares requests by weight", async (keep) => {
  const a = await app(keep, ok("a"));
  const b = await app(keep, ok("b"));
  const proxy = await world(keep, { "a.ns": a, "b.ns": b }, [
    {
      backends: {
        randomAvailable: {
          backends: [
            { backend: backend("a.ns:80"), weight: 3 },
            { backend: backend("b.ns:80"), weight: 1 },
          ],
        },
      },
    },
  ]);
  for (let i = 0; i < 200; i += 1) await ask(proxy.port, "/");
  assert.ok(a.bodies.length > 110 && a.bodies.length < 185, `${a.bodies.length} of 200 went to a`);
  assert.is(a.bodies.length + b.bodies.length, 200);
});

scenario("a backend that does not exist fails for its share, by its filter or without one", async (keep) => {
  const a = await app(keep, ok("a"));
  const gone = (filters: object[]) => ({
    backend: { metadata: { resource: { ...NOWHERE } }, backend: undefined },
    filters,
  });
  const failing = [{ failureInjector: { status: 500, message: "Service not found gone", ratio: undefined } }];
  const split = (filters: object[]) => ({
    randomAvailable: {
      backends: [
        { backend: backend("a.ns:80"), weight: 1 },
        { backend: gone(filters), weight: 1 },
      ],
    },
  });
  const proxy = await world(keep, { "a.ns": a }, [
    { matches: [prefix("/filter")], backends: split(failing) as never },
    { matches: [prefix("/bare")], backends: split([]) as never },
    { matches: [prefix("/only")], backends: { firstAvailable: { backends: [gone([])] } } as never },
  ]);
  const statuses = async (path: string) => {
    const seen = new Set<number>();
    for (let i = 0; i < 60; i += 1) seen.add((await ask(proxy.port, path)).status);
    return [...seen].sort();
  };
  assert.equal(await statuses("/filter"), [200, 500]);
  assert.equal(await statuses("/bare"), [200, 404]);
  assert.is((await ask(proxy.port, "/only")).status, 404);
});

scenario(
  "fields are changed on the way there and back; redirects and faults are answered here",
  async (keep) => {
    const a = await app(keep, (_n, response) => {
      response.setHeader("x-server", "secret");
      response.end("a");
    });
    const fields = (name: string, value: string) => ({ headers: [{ name, value: Buffer.from(value) }] });
    const proxy = await world(keep, { "a.ns": a }, [
      {
        backends: to("a.ns:80"),
        filters: [
          {
            requestHeaderModifier: {
              set: fields("X-Set", "1"),
              add: fields("x-add", "2"),
              remove: ["x-gone"],
            },
          },
          { responseHeaderModifier: { set: fields("x-via", "mesh"), remove: ["x-server"] } },
        ],
      },
      {
        matches: [prefix("/old")],
        filters: [{ redirect: { host: "new.test", port: 0, status: 301, path: { prefix: "/new" } } }],
        backends: to("a.ns:80"),
      },
      {
        matches: [prefix("/fault")],
        filters: [{ failureInjector: { status: 418, message: "on purpose" } }],
        backends: to("a.ns:80"),
      },
    ]);
    const got = await ask(proxy.port, "/", { headers: { "x-gone": "x", "X-Kept": "y" } });
    assert.equal([got.body, got.headers["x-via"], got.headers["x-server"]], ["a", "mesh", undefined]);
    const { headers } = a.requests[0]!;
    assert.equal(
      [headers["x-set"], headers["x-add"], headers["x-gone"], headers["x-kept"]],
      ["1", "2", undefined, "y"],
    );
    const moved = await ask(proxy.port, "/old/x?q=1");
    assert.equal(
      [moved.status, moved.headers.location],
      [301, `http://new.test:${proxy.port}/new/x?q=1`],
      "the port stays where neither it nor the scheme is changed",
    );
    const fault = await ask(proxy.port, "/fault");
    assert.equal([fault.status, fault.headers["l5d-proxy-error"]], [418, "on purpose"]);
    assert.is(a.bodies.length, 1);
  },
);

scenario("a failing response is tried again with the same body", async (keep) => {
  const a = await app(keep, (n, response) => {
    response.statusCode = n % 3 === 0 ? 200 : 503;
    response.end(`${n}`);
  });
  const proxy = await world(keep, { "a.ns": a }, [{ backends: to("a.ns:80"), retry: retry() }]);
  const body = "b".repeat(50_000);
  const got = await ask(proxy.port, "/", { method: "POST", body });
  assert.equal([got.status, got.body], [200, "3"]);
  assert.equal(a.bodies, [body, body, body]);
  const chunked = await ask(proxy.port, "/", {
    method: "POST",
    body,
    headers: { "transfer-encoding": "chunked" },
  });
  assert.is(chunked.status, 200);
  assert.is(a.bodies.length, 6);
  assert.match(proxy.registry.expose(), /outbound_http_route_retry_requests_total\{[^}]*\} 4/);
});

scenario("after the last retry the failure is passed on, and a large body is tried once", async (keep) => {
  const a = await app(keep, (_n, response) => {
    response.statusCode = 503;
    response.end("no");
  });
  const proxy = await world(keep, { "a.ns": a }, [{ backends: to("a.ns:80"), retry: retry() }]);
  assert.is((await ask(proxy.port, "/")).status, 503);
  assert.is(a.bodies.length, 3);
  assert.match(proxy.registry.expose(), /retry_limit_exceeded_total\{[^}]*\} 1/);
  assert.is((await ask(proxy.port, "/", { method: "POST", body: "x".repeat(200_000) })).status, 503);
  assert.is(a.bodies.length, 4);
});

scenario("a brown-out is not amplified: the budget bounds all retries", async (keep) => {
  const a = await app(keep, (_n, response) => {
    response.statusCode = 500;
    response.end();
  });
  const proxy = await world(keep, { "a.ns": a }, [
    { backends: to("a.ns:80"), retry: retry({ maxRetries: 10 }) },
  ]);
  const count = 400;
  for (let i = 0; i < count; i += 20)
    await Promise.all(Array.from({ length: 20 }, () => ask(proxy.port, "/")));
  // A fifth of the requests, and ten a second over the ten seconds that are remembered.
  assert.ok(a.bodies.length <= count * 1.2 + 110, `${a.bodies.length} requests for ${count}`);
  assert.match(proxy.registry.expose(), /retry_overflow_total/);
});

scenario(
  "a try that takes too long is given up for another; a request that does is answered 504",
  async (keep) => {
    const a = await app(keep, (n, response) => {
      if (n === 2) response.end("second");
    });
    const proxy = await world(keep, { "a.ns": a }, [
      { matches: [prefix("/try")], backends: to("a.ns:80"), retry: retry({ timeout: seconds(50) }) },
      { backends: to("a.ns:80"), timeouts: { request: seconds(80) } },
    ]);
    assert.is((await ask(proxy.port, "/try")).body, "second");
    const late = await ask(proxy.port, "/");
    assert.equal([late.status, late.headers["l5d-mesh-code"]], [504, "MESH-305"]);
  },
);

scenario("callers may ask for timeouts and retries by header where the route lets them", async (keep) => {
  const a = await app(keep, (n, response) => {
    if (n === 1) return;
    response.statusCode = n === 2 ? 429 : 200;
    response.end();
  });
  const proxy = await world(keep, { "a.ns": a }, [{ backends: to("a.ns:80"), allowL5dRequestHeaders: true }]);
  const late = await ask(proxy.port, "/", { headers: { "l5d-timeout": "60ms" } });
  assert.is(late.status, 504);
  const again = await ask(proxy.port, "/", { headers: { "l5d-retry-http": "429", "l5d-retry-limit": "1" } });
  assert.is(again.status, 200);
  assert.is(a.requests.at(-1)!.headers["l5d-retry-http"], undefined, "it is between caller and proxy");
});

scenario("a backend without endpoints leaves its share to the others", async (keep) => {
  const a = await app(keep, ok("a"));
  const proxy = await world(keep, { "a.ns": a }, [{ backends: to("none.ns:80", "a.ns:80") }]);
  proxy.discovery.endpointsOf("none.ns:80").set({ exists: true, endpoints: new Map(), metricLabels: {} });
  assert.is((await ask(proxy.port, "/")).body, "a");
});

scenario(
  "a gRPC call that fails in its trailers is tried again before the caller sees anything",
  async (keep) => {
    let calls = 0;
    const server = http2.createServer();
    server.on("stream", (stream) => {
      calls += 1;
      const status = calls === 1 ? "14" : "0";
      stream.on("error", () => {});
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
      if (status === "0") stream.write("data");
      stream.end();
    });
    const sessions = new Set<http2.ServerHttp2Session>();
    server.on("session", (session) => sessions.add(session));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    keep(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    const proxy = await startOutbound(SERVICE);
    keep(() => proxy.path.close());
    proxy.discovery.service("127.0.0.2:80", "grpc.ns", [{ port: (server.address() as AddressInfo).port }]);
    const conditions = {
      cancelled: false,
      deadineExceeded: false,
      resourceExhausted: false,
      internal: false,
      unavailable: true,
    };
    proxy.discovery.outboundPolicy("127.0.0.1", 80);
    proxy.discovery.policies.get("127.0.0.1:80")!.set({
      protocol: {
        grpc: {
          routes: [
            {
              hosts: [],
              rules: [
                {
                  matches: [],
                  filters: [],
                  backends: to("grpc.ns:80"),
                  allowL5dRequestHeaders: false,
                  retry: { maxRetries: 1, maxRequestBytes: 0, conditions },
                },
              ],
            },
          ],
        },
      },
    });
    const client = http2.connect(`http://127.0.0.1:${proxy.port}`);
    keep(() => client.destroy());
    const stream = client.request({
      ":method": "POST",
      ":path": "/a.B/C",
      "content-type": "application/grpc",
    });
    let trailers: http2.IncomingHttpHeaders | undefined;
    let data = "";
    stream.on("data", (chunk) => {
      data += chunk;
    });
    stream.on("trailers", (list) => {
      trailers = list;
    });
    stream.end("call");
    await until(() => trailers !== undefined, 5_000, "the trailers");
    assert.equal([trailers!["grpc-status"], data, calls], ["0", "data", 2]);
  },
);

scenario(
  "a ServiceProfile's routes win over the policy: splits, timeouts, and retries within its budget",
  async (keep) => {
    const a = await app(keep, (n, response, request) => {
      if (request.url === "/slow") return;
      response.statusCode = n % 2 === 1 ? 503 : 200;
      response.end("a");
    });
    const b = await app(keep, ok("b"));
    const proxy = await world(keep, { "a.ns": a, "b.ns": b }, [{ backends: to("b.ns:80") }]);
    const route = (regex: string, parts: object) => ({
      condition: { path: { regex } },
      isRetryable: false,
      metricsLabels: { route: regex },
      responseClasses: [],
      ...parts,
    });
    const override = (authority: string, weight: number) => ({ authority, weight });
    const profile = {
      fullyQualifiedName: "web.ns",
      opaqueProtocol: false,
      retryBudget: { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: { seconds: 10, nanos: 0 } },
      routes: [route("/again", { isRetryable: true }), route("/slow", { timeout: seconds(50) })],
      dstOverrides: [override("a.ns.:80", 1), override("b.ns.:80", 0)],
    };
    proxy.discovery.profileOf("127.0.0.1:80").set(profile);
    assert.is((await ask(proxy.port, "/once")).status, 503);
    // The next is the second answer: what follows it fails again, and is tried again.
    assert.is((await ask(proxy.port, "/once")).status, 200);
    assert.is((await ask(proxy.port, "/again")).status, 200);
    assert.is(a.bodies.length, 4);
    assert.is((await ask(proxy.port, "/slow")).status, 504);
    assert.is(b.bodies.length, 0, "it has no weight");
    assert.match(proxy.registry.expose(), /route_actual_request_total\{[^}]*rt_route="\/again"[^}]*\} 2/);
    proxy.discovery.profileOf("127.0.0.1:80").set({ ...profile, dstOverrides: [override("b.ns.:80", 1)] });
    assert.is((await ask(proxy.port, "/once")).body, "b");
  },
);

scenario("a policy with an expression that cannot be had lets nothing through", async (keep) => {
  const a = await app(keep, ok("a"));
  const proxy = await world(keep, { "a.ns": a }, [
    { matches: [{ path: { regex: "(?=x)" }, headers: [], queryParams: [] }], backends: to("a.ns:80") },
  ]);
  const got = await ask(proxy.port, "/");
  assert.equal([got.status, got.headers["l5d-mesh-code"]], [500, "MESH-202"]);
});

scenario("head and body that come together from a meshed peer are one write to the client", async (keep) => {
  const server = await app(keep, (_n, response) => {
    response.write("first, ");
    response.end("last");
  });
  const authority = createAuthority();
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: server.port },
    { identity: authority.identity("web.test") },
  );
  keep(() => inbound.path.close());
  const proxy = await world(keep, {}, [{ backends: to("a.ns:80") }], {
    identity: authority.identity("app.test"),
  });
  proxy.discovery.service("127.0.0.2:80", "a.ns", [{ port: inbound.port, identity: "web.test", h2: true }]);
  const { write } = Socket.prototype;
  const writes: string[] = [];
  Socket.prototype.write = function (this: Socket, ...args: unknown[]) {
    if (this.localPort === proxy.port) writes.push(String(args[0]));
    return Reflect.apply(write, this, args);
  };
  keep(() => {
    Socket.prototype.write = write;
  });
  const got = await ask(proxy.port, "/", { headers: { host: "web.test" } });
  assert.is(got.body, "first, last");
  assert.ok(writes[0]!.startsWith("HTTP/1.1 200 OK\r\n") && writes[0]!.includes("first, "), writes.join("|"));
});

test.run();
