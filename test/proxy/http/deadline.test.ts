// The end of a drain, on real sockets: what is still under way at the deadline is told, where it can be.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startOutbound } from "../../support/proxy-fakes.ts";
import { app, type Keep, prefix, scenarios, seconds, to, world } from "../../support/routed.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("the deadline of a drain");
const scenario = scenarios(test);
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/** A side before a server that says `answer` to what it is asked, and no more. */
async function before(keep: Keep, answer = "") {
  const server = await RawServer.start((peer) => {
    peer.onData = () => peer.send(answer);
  });
  keep(() => server.close());
  const proxy = await startOutbound({ ip: "127.0.0.1", port: server.port });
  keep(() => proxy.path.close());
  return { proxy, server };
}

/** A client, once the server has seen all that it `sent`. */
async function client(proxy: { port: number }, server: RawServer, sent: string, seen = sent) {
  const client = new RawClient(proxy.port).send(sent);
  await (await server.connection(server.connections.length)).sees(seen);
  return client;
}

scenario(
  "a request without an answer gets one: HTTP/1, with its body there or still coming",
  async (keep) => {
    const { proxy, server } = await before(keep);
    const whole = await client(proxy, server, GET);
    const half = await client(proxy, server, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf");
    await proxy.path.drain(100);
    for (const waiting of [whole, half]) {
      const text = await waiting.seesEnd();
      assert.match(text, /^HTTP\/1\.1 503 /);
      assert.match(text, /l5d-mesh-code: MESH-602\r\n/);
      assert.match(text, /connection: close\r\n/);
    }
    for (const { socket } of server.connections)
      await until(() => socket.destroyed || socket.readableEnded, 5_000, "an end");
    assert.match(proxy.registry.expose(), /outbound_http_errors_total\{[^}]*code="MESH-602"[^}]*\} 2/);
  },
);

scenario(
  "an answer that has begun is cut so that the client sees it; bytes and tunnels end",
  async (keep) => {
    const { proxy, server } = await before(keep, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    const begun = await client(proxy, server, GET);
    await begun.sees("half");
    const upgrade = "connection: upgrade\r\nupgrade: x\r\n";
    const other = await before(keep, `HTTP/1.1 101 Switching Protocols\r\n${upgrade}\r\n`);
    const tunnel = await client(other.proxy, other.server, `GET / HTTP/1.1\r\nhost: a\r\n${upgrade}\r\n`);
    await tunnel.sees("101");
    const bytes = await client(other.proxy, other.server, "bytes that are nothing known\n");
    await Promise.all([proxy.path.drain(100), other.proxy.path.drain(100)]);
    assert.match(await begun.seesEnd(), /half$/);
    assert.not.match(await tunnel.seesEnd(), /602/);
    assert.not.match(await bytes.seesEnd(), /602/);
  },
);

scenario("HTTP/2: streams without an answer get one, gRPC by its status; others are reset", async (keep) => {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  let calls = 0;
  server.on("stream", (stream, headers) => {
    calls += 1;
    stream.on("error", () => {});
    if (headers[":path"] === "/begun") {
      stream.respond({ ":status": 200 });
      stream.write("half");
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  keep(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const proxy = await startOutbound({ ip: "127.0.0.1", port: (server.address() as AddressInfo).port });
  keep(() => proxy.path.close());
  const session = http2.connect(`http://127.0.0.1:${proxy.port}`);
  keep(() => session.destroy());
  session.on("error", () => {});
  const call = (path: string, headers: http2.OutgoingHttpHeaders = {}) => {
    const stream = session.request({ ":path": path, ...headers });
    const seen = { headers: {} as http2.IncomingHttpHeaders, body: "", closed: false, code: 0 };
    stream.on("response", (response) => {
      seen.headers = response;
    });
    stream.on("data", (chunk) => {
      seen.body += chunk;
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      seen.closed = true;
      seen.code = stream.rstCode;
    });
    return seen;
  };
  const waiting = call("/");
  const grpc = call("/a.B/C", { ":method": "POST", "content-type": "application/grpc" });
  const begun = call("/begun");
  await until(() => calls === 3 && begun.body === "half", 5_000, "all to be under way");
  await proxy.path.drain(100);
  await until(() => waiting.closed && grpc.closed && begun.closed, 5_000, "all to end");
  assert.equal([waiting.headers[":status"], waiting.headers["l5d-mesh-code"]], [503, "MESH-602"]);
  assert.equal([grpc.headers["grpc-status"], grpc.headers["l5d-mesh-code"]], ["14", "MESH-602"]);
  assert.equal([begun.code, begun.body], [http2.constants.NGHTTP2_INTERNAL_ERROR, "half"]);
});

scenario("what waits for an endpoint, a retry or a delay is told as well", async (keep) => {
  const a = await app(keep, (_n, response) => {
    response.statusCode = 500;
    response.end();
  });
  const backoff = { minBackoff: { seconds: 60, nanos: 0 }, maxBackoff: { seconds: 60, nanos: 0 } };
  const proxy = await world(
    keep,
    { "a.ns": a },
    [
      {
        matches: [prefix("/retry")],
        backends: to("a.ns:80"),
        retry: {
          maxRetries: 1,
          maxRequestBytes: 0,
          conditions: { statusRanges: [{ start: 500, end: 500 }] },
          backoff: { ...backoff, jitterRatio: 0, respectRetryAfterHint: false },
        },
      },
      {
        matches: [prefix("/delay")],
        backends: to("a.ns:80"),
        meshFilters: { filters: [{ delayInjector: { delay: { seconds: 60, nanos: 0 } } }] },
      },
      { backends: to("none.ns:80"), timeouts: { request: seconds(60_000) } },
    ],
    { config: { failfastTimeout: 60_000 } },
  );
  const clients = ["/retry", "/delay", "/none"].map((path) =>
    new RawClient(proxy.port).send(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`),
  );
  await until(() => a.bodies.length === 1 && proxy.path.connections() === 3, 5_000, "all to be under way");
  await proxy.path.drain(100);
  for (const each of clients) assert.match(await each.seesEnd(), /MESH-602/);
});

test.run();
