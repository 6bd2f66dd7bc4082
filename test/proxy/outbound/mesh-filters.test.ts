// Filters that only this mesh's proxies know, on real sockets: rewritten URLs, copies for mirrors, delays.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { MeshFilter } from "../../../src/api/outbound.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { ManualClock } from "../../support/clock.ts";
import { createAuthority, startInbound } from "../../support/proxy-fakes.ts";
import {
  app,
  ask,
  backend,
  type Keep,
  ok,
  prefix,
  scenarios,
  seconds,
  to,
  world,
} from "../../support/routed.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("the mesh's own filters");
const scenario = scenarios(test);
type Own = MessageOf<typeof MeshFilter>;
const ALL = undefined;
const own = (...filters: Own[]) => ({ meshFilters: { filters } });
const mirrorTo = (path: string, ratio?: { numerator: number; denominator: number }): Own => ({
  requestMirror: { backend: backend(path).backend, ratio },
});
const delayed = (ms: number, ratio?: { numerator: number; denominator: number }): Own => ({
  delayInjector: { delay: seconds(ms), ratio },
});
const count = (text: string, family: string, label = "") =>
  Number(new RegExp(`^${family}\\{[^}]*${label}[^}]*\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);

scenario("a URL is rewritten on its way, by the route and by the backend", async (keep) => {
  const a = await app(keep, ok("a"));
  const proxy = await world(keep, { "a.ns": a }, [
    {
      matches: [prefix("/old")],
      backends: to("a.ns:80"),
      ...own({ urlRewrite: { hostname: "new.test", path: { prefix: "/new" } } }),
    },
    {
      matches: [prefix("/whole")],
      backends: {
        firstAvailable: {
          backends: [
            { ...backend("a.ns:80"), ...own({ urlRewrite: { hostname: "", path: { full: "/b" } } }) },
          ],
        },
      },
    },
  ]);
  const headers = { host: "web.test:80" };
  const body = "x".repeat(1_000);
  await ask(proxy.port, "/old/x?q=1", { headers, method: "POST", body });
  await ask(proxy.port, "http://web.test/old", { headers });
  await ask(proxy.port, "/whole/x?q=1", { headers });
  assert.equal(
    a.requests.map(({ url, headers: { host } }) => `${host} ${url}`),
    ["new.test /new/x?q=1", "new.test /new", "web.test:80 /b?q=1"],
  );
  assert.is(a.bodies[0], body);
});

scenario("over HTTP/2 to a meshed peer, :path and :authority are rewritten", async (keep) => {
  const a = await app(keep, ok("a"));
  const authority = createAuthority();
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: a.port },
    { identity: authority.identity("web.test") },
  );
  keep(() => inbound.path.close());
  const rewriting = own({ urlRewrite: { hostname: "new.test", path: { prefix: "/" } } });
  const rule = { matches: [prefix("/old")], backends: to("a.ns:80"), ...rewriting };
  const proxy = await world(keep, {}, [rule], { identity: authority.identity("app.test") });
  proxy.discovery.service("127.0.0.2:80", "a.ns", [{ port: inbound.port, identity: "web.test", h2: true }]);
  assert.is((await ask(proxy.port, "/old/x")).body, "a");
  assert.is(`${a.requests[0]!.headers.host}${a.requests[0]!.url}`, "new.test/x");
});

scenario("a mirror gets the request as the route sends it, and its answer goes nowhere", async (keep) => {
  const a = await app(keep, ok("original"));
  const m = await app(keep, (_n, response) => {
    response.statusCode = 500;
    response.end("mirror");
  });
  const fields = { headers: [{ name: "x-route", value: Buffer.from("1") }] };
  const proxy = await world(keep, { "a.ns": a, "m.ns": m }, [
    {
      backends: to("a.ns:80"),
      filters: [{ requestHeaderModifier: { set: fields, remove: [] } }],
      ...own(mirrorTo("m.ns:80"), { urlRewrite: { hostname: "", path: { full: "/r" } } }),
    },
  ]);
  for (const options of [
    { method: "POST", body: "length", headers: { host: "web.test" } },
    { method: "POST", body: "chunks", headers: { host: "web.test", "transfer-encoding": "chunked" } },
    { method: "GET", headers: { host: "web.test" } },
  ]) {
    const got = await ask(proxy.port, "/x?q", options);
    assert.equal([got.status, got.body], [200, "original"]);
  }
  await until(() => m.bodies.length === 3, 5_000, "the copies");
  assert.equal([...m.bodies].sort(), ["", "chunks", "length"]);
  for (const { url, headers } of m.requests)
    assert.equal([url, headers.host, headers["x-route"]], ["/r?q", "web.test", "1"]);
  await until(
    () => count(proxy.registry.expose(), "outbound_route_mirror_response_statuses_total") === 3,
    5_000,
    "the mirror's answers",
  );
  const metrics = proxy.registry.expose();
  assert.is(count(metrics, "outbound_route_mirror_requests_total"), 3);
  assert.is(count(metrics, "outbound_route_mirror_response_statuses_total", 'http_status="500"'), 3);
  assert.is(count(metrics, "outbound_http_route_requests_total"), 3);
  assert.not.match(metrics, /outbound_http_route_request_statuses_total\{[^}]*http_status="500"/);
});

scenario("a share of the requests is mirrored", async (keep) => {
  const a = await app(keep, ok("a"));
  const m = await app(keep, ok("m"));
  let draw = 0;
  // One in ten draws is below a tenth.
  const clock = { ...systemClock, random: () => (draw++ % 10) / 10 };
  const rule = { backends: to("a.ns:80"), ...own(mirrorTo("m.ns:80", { numerator: 10, denominator: 100 })) };
  const proxy = await world(keep, { "a.ns": a, "m.ns": m }, [rule], { clock });
  for (let i = 0; i < 40; i += 1) await ask(proxy.port, "/");
  await until(() => m.bodies.length >= 4, 5_000, "the copies");
  assert.is(count(proxy.registry.expose(), "outbound_route_mirror_requests_total"), 4);
});

/** A server that takes connections and never reads. */
async function deaf(keep: Keep): Promise<{ port: number }> {
  const server = await RawServer.start((peer) => peer.socket.pause());
  keep(() => server.close());
  return server;
}

scenario("a mirror that does not read, refuses, or is not there harms nobody", async (keep) => {
  const a = await app(keep, ok("a"));
  const gone = await RawServer.start();
  const { port } = gone;
  await gone.close();
  const rule = (name: string) => ({
    matches: [prefix(`/${name}`)],
    backends: to("a.ns:80"),
    ...own(mirrorTo(`${name}.ns:80`)),
  });
  const proxy = await world(keep, { "a.ns": a }, [rule("stuck"), rule("gone"), rule("none")]);
  proxy.discovery.service("127.0.0.3:80", "stuck.ns", [await deaf(keep)]);
  proxy.discovery.service("127.0.0.4:80", "gone.ns", [{ port }]);
  proxy.discovery.service("127.0.0.5:80", "none.ns", []);
  // More than the sockets on the way hold.
  const body = "x".repeat(16 * 1024 * 1024);
  const got = await ask(proxy.port, "/stuck", { method: "POST", body });
  assert.equal([got.status, a.bodies[0]?.length], [200, body.length]);
  assert.is((await ask(proxy.port, "/gone")).status, 200);
  assert.is((await ask(proxy.port, "/none")).status, 200);
  const metrics = () => proxy.registry.expose();
  const told = (family: string, label: string) => count(metrics(), `outbound_route_mirror_${family}`, label);
  assert.is(told("dropped_total", 'reason="slow"'), 1);
  await until(() => told("response_statuses_total", 'error="FAIL_FAST"') === 1, 5_000, "no endpoint in time");
  await until(() => told("response_statuses_total", 'error="IO"') === 1, 5_000, "the refusal");
  assert.is(a.bodies.length, 3, "a copy is never tried again, least of all at the original's place");
});

scenario("copies under way are bounded", async (keep) => {
  const a = await app(keep, ok("a"));
  const stuck = await deaf(keep);
  const rule = { backends: to("a.ns:80"), ...own(mirrorTo("stuck.ns:80")) };
  // A tenth of what may be in flight.
  const proxy = await world(keep, { "a.ns": a }, [rule], { config: { maxInFlight: 20 } });
  proxy.discovery.service("127.0.0.3:80", "stuck.ns", [stuck]);
  for (let i = 0; i < 4; i += 1) assert.is((await ask(proxy.port, "/")).status, 200);
  const metrics = proxy.registry.expose();
  assert.is(count(metrics, "outbound_route_mirror_requests_total"), 2);
  assert.is(count(metrics, "outbound_route_mirror_dropped_total", 'reason="limit"'), 2);
});

scenario("a mirror that never answers is given up, and makes room", async (keep) => {
  const a = await app(keep, ok("a"));
  const stuck = await deaf(keep);
  const clock = {
    ...systemClock,
    after: (ms: number, fn: () => void) => systemClock.after(ms === 30_000 ? 5 : ms, fn),
  };
  const rule = { backends: to("a.ns:80"), ...own(mirrorTo("stuck.ns:80")) };
  const proxy = await world(keep, { "a.ns": a }, [rule], { clock, config: { maxInFlight: 10 } });
  proxy.discovery.service("127.0.0.3:80", "stuck.ns", [stuck]);
  for (let n = 1; n <= 3; n += 1) {
    await ask(proxy.port, "/");
    await until(
      () => count(proxy.registry.expose(), "outbound_route_mirror_dropped_total", 'reason="timeout"') === n,
      5_000,
      `the end of copy ${n}`,
    );
  }
  assert.is(count(proxy.registry.expose(), "outbound_route_mirror_dropped_total", 'reason="limit"'), 0);
});

scenario("a copy ends with a client that leaves in the middle of its body", async (keep) => {
  const a = await app(keep, ok("a"));
  const half = await RawServer.start();
  keep(() => half.close());
  const rule = { backends: to("a.ns:80"), ...own(mirrorTo("half.ns:80")) };
  const proxy = await world(keep, { "a.ns": a }, [rule]);
  proxy.discovery.service("127.0.0.3:80", "half.ns", [half]);
  const client = new RawClient(proxy.port);
  client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf");
  await until(() => half.connections.some(({ received }) => received.endsWith("half")), 5_000, "half a copy");
  client.destroy();
  await half.connections[0]!.seesEnd();
  await until(
    () => count(proxy.registry.expose(), "outbound_route_mirror_dropped_total", 'reason="original"') === 1,
    5_000,
    "its count",
  );
});

scenario("a retried request is mirrored once", async (keep) => {
  const a = await app(keep, (n, response) => {
    response.statusCode = n < 3 ? 503 : 200;
    response.end();
  });
  const m = await app(keep, ok("m"));
  const retry = {
    maxRetries: 3,
    maxRequestBytes: 0,
    conditions: { statusRanges: [{ start: 500, end: 599 }] },
    backoff: { minBackoff: seconds(1), maxBackoff: seconds(1), jitterRatio: 0, respectRetryAfterHint: false },
  };
  const first = { ...backend("a.ns:80"), ...own(mirrorTo("m.ns:80")) };
  const proxy = await world(keep, { "a.ns": a, "m.ns": m }, [
    { backends: { firstAvailable: { backends: [first] } }, retry },
  ]);
  assert.is((await ask(proxy.port, "/", { method: "POST", body: "b" })).status, 200);
  await until(() => m.bodies.length > 0, 5_000, "the copy");
  assert.equal([a.bodies.length, m.bodies], [3, ["b"]]);
  assert.is(count(proxy.registry.expose(), "outbound_route_mirror_requests_total"), 1);
});

scenario("a delay holds a request and its body back; so it does an injected failure", async (keep) => {
  const a = await app(keep, ok("a"));
  const clock = new ManualClock();
  const failure = { failureInjector: { status: 503, message: "" } };
  const proxy = await world(
    keep,
    { "a.ns": a },
    [
      { matches: [prefix("/fail")], filters: [failure], backends: to("a.ns:80"), ...own(delayed(500)) },
      {
        matches: [prefix("/some")],
        backends: to("a.ns:80"),
        ...own(delayed(500, { numerator: 1, denominator: 2 })),
      },
      { backends: to("a.ns:80"), ...own(delayed(500)) },
    ],
    { clock },
  );
  const slow = ask(proxy.port, "/", { method: "POST", body: "kept" });
  const failing = ask(proxy.port, "/fail");
  // A draw of 0.5 is not below a half.
  assert.is((await ask(proxy.port, "/some")).body, "a");
  await until(() => clock.waits(500) === 2, 5_000, "both to be held back");
  await clock.advance(499);
  assert.is(a.bodies.length, 1);
  await clock.advance(1);
  assert.is((await slow).body, "a");
  assert.is(a.bodies[1], "kept");
  const failed = await failing;
  assert.equal([failed.status, failed.headers["l5d-mesh-code"]], [503, "MESH-304"]);
});

scenario("a delay is part of the request's time, and ends with a client that leaves", async (keep) => {
  const a = await app(keep, ok("a"));
  const clock = new ManualClock();
  const proxy = await world(
    keep,
    { "a.ns": a },
    [{ backends: to("a.ns:80"), timeouts: { request: seconds(200) }, ...own(delayed(500)) }],
    { clock },
  );
  const late = ask(proxy.port, "/");
  await until(() => clock.waits(500) === 1, 5_000, "it to be held back");
  await clock.advance(200);
  const got = await late;
  assert.equal([got.status, got.headers["l5d-mesh-code"]], [504, "MESH-305"]);
  const client = new RawClient(proxy.port).send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  await until(() => clock.waits(500) === 1, 5_000, "the next to be held back");
  client.destroy();
  await until(() => clock.waits(500) === 0, 5_000, "nobody to wait any more");
  await clock.advance(10_000);
  assert.is(a.bodies.length, 0);
});

scenario(
  "gRPC: calls are mirrored with their trailers' streams, and delayed failures have a grpc-status",
  async (keep) => {
    const seen: Record<string, string[]> = { a: [], m: [] };
    const serve = async (name: string) => {
      const server = http2.createServer();
      const sessions = new Set<http2.ServerHttp2Session>();
      server.on("session", (session) => sessions.add(session));
      server.on("stream", (stream, headers) => {
        stream.on("error", () => {});
        let data = "";
        stream.on("data", (chunk) => {
          data += chunk;
        });
        stream.on("end", () => {
          seen[name]!.push(`${headers[":path"]} ${data}`);
          stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": name === "a" ? "0" : "13" }));
          stream.end(name);
        });
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      keep(() => {
        for (const session of sessions) session.destroy();
        server.close();
      });
      return { port: (server.address() as AddressInfo).port };
    };
    const rule = { filters: [], allowL5dRequestHeaders: false, matches: [] };
    const proxy = await world(keep, {}, []);
    proxy.discovery.service("127.0.0.2:80", "a.ns", [await serve("a")]);
    proxy.discovery.service("127.0.0.3:80", "m.ns", [await serve("m")]);
    const fail = { failureInjector: { code: 8, message: "too % much" } };
    proxy.discovery.policies.get("127.0.0.1:80")!.set({
      protocol: {
        grpc: {
          routes: [
            {
              hosts: [],
              rules: [
                {
                  ...rule,
                  matches: [{ rpc: { service: "a.B", method: "Fail" }, headers: [] }],
                  filters: [fail],
                  backends: to("a.ns:80"),
                  ...own(delayed(1)),
                },
                { ...rule, backends: to("a.ns:80"), ...own(mirrorTo("m.ns:80", ALL)) },
              ],
            },
          ],
        },
      },
    });
    const client = http2.connect(`http://127.0.0.1:${proxy.port}`);
    keep(() => client.destroy());
    const call = (path: string) =>
      new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
        const stream = client.request({
          ":method": "POST",
          ":path": path,
          "content-type": "application/grpc",
        });
        let last: http2.IncomingHttpHeaders = {};
        stream.on("response", (headers) => {
          last = headers;
        });
        stream.on("trailers", (trailers) => {
          last = trailers;
        });
        stream.on("error", reject);
        stream.on("end", () => resolve(last));
        stream.resume();
        stream.end("call");
      });
    assert.is((await call("/a.B/Ok"))["grpc-status"], "0");
    await until(() => seen["m"]!.length === 1, 5_000, "the copy");
    assert.equal(seen, { a: ["/a.B/Ok call"], m: ["/a.B/Ok call"] });
    await until(
      () =>
        count(
          proxy.registry.expose(),
          "outbound_route_mirror_response_statuses_total",
          'grpc_status="INTERNAL"',
        ) === 1,
      5_000,
      "the mirror's status",
    );
    const failed = await call("/a.B/Fail");
    assert.equal(
      [failed[":status"], failed["grpc-status"], failed["grpc-message"], failed["l5d-mesh-code"]],
      [200, "8", "too %25 much", "MESH-304"],
    );
  },
);

scenario("a filter that cannot be applied lets nothing through", async (keep) => {
  const a = await app(keep, ok("a"));
  const proxy = await world(keep, { "a.ns": a }, [
    {
      matches: [{ path: { exact: "/a" }, headers: [], queryParams: [] }],
      backends: to("a.ns:80"),
      ...own({ urlRewrite: { hostname: "", path: { prefix: "/b" } } }),
    },
  ]);
  const got = await ask(proxy.port, "/a");
  assert.equal([got.status, got.headers["l5d-mesh-code"]], [500, "MESH-202"]);
});

test.run();
