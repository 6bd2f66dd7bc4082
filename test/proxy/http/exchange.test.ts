// Requests through one side or a meshed pair, whatever the two ends speak: HTTP/1, HTTP/2, and HTTP/1 carried in
// HTTP/2 between the proxies. Node's own clients and servers are the ends.
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient } from "../../support/wire.ts";

const test = suite("exchanges across protocols");
const authority = createAuthority();
const SERVICE = { ip: "127.0.0.1", port: 80 };
const NAME = "web.ns.serviceaccount.identity.test";
const CLIENT = "app.ns.serviceaccount.identity.test";

type Cleanup = () => unknown;

/** Runs `body`; what it keeps is undone afterwards, last first. */
function scenario(name: string, body: (keep: (undo: Cleanup) => void) => Promise<void>): void {
  test(name, async () => {
    const undo: Cleanup[] = [];
    try {
      await body((fn) => undo.push(fn));
    } finally {
      for (const fn of undo.reverse()) await fn();
    }
  });
}

async function listen(server: Server, keep: (undo: Cleanup) => void): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  keep(() => {
    server.close();
    (server as http.Server).closeAllConnections?.();
  });
  return (server.address() as AddressInfo).port;
}

interface Seen {
  method: string;
  path: string;
  version: string;
  headers: http.IncomingHttpHeaders;
  body: string;
  trailers: Record<string, unknown>;
}

/** An application that tells what it was asked, over either protocol. */
async function echo(version: 1 | 2, keep: (undo: Cleanup) => void): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const handler = (request: http.IncomingMessage, response: http.ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      seen.push({
        method: request.method!,
        path: request.url!,
        version: request.httpVersion,
        headers: request.headers,
        body,
        trailers: request.trailers,
      });
      response.setHeader("x-app", "echo");
      response.setHeader("x-long", "v".repeat(300));
      response.statusCode = request.url!.startsWith("/missing") ? 404 : 200;
      if (request.url!.startsWith("/empty")) response.statusCode = 204;
      if (request.url!.startsWith("/trailers")) {
        if (version === 1) response.setHeader("trailer", "x-end");
        response.write("part ");
        response.addTrailers({ "x-end": "done" });
      }
      response.end(response.statusCode === 204 ? undefined : `${request.method} ${body}`);
    });
  };
  if (version === 1) return { port: await listen(http.createServer(handler), keep), seen };
  const server = http2.createServer((request, response) =>
    handler(request as unknown as http.IncomingMessage, response as unknown as http.ServerResponse),
  );
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  keep(() => {
    for (const session of sessions) session.destroy();
  });
  return { port: await listen(server, keep), seen };
}

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: string;
  trailers: Record<string, unknown>;
}

function ask1(
  port: number,
  path: string,
  options: http.RequestOptions & { body?: string | Buffer; trailers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { body, trailers, ...rest } = options;
    const request = http.request({ port, host: "127.0.0.1", path, agent: false, ...rest }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () =>
        resolve({
          status: response.statusCode!,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
          trailers: response.trailers,
        }),
      );
    });
    request.on("error", reject);
    if (trailers) request.addTrailers(trailers);
    request.end(body);
  });
}

function ask2(
  session: http2.ClientHttp2Session,
  path: string,
  options: { method?: string; body?: string | Buffer; headers?: http2.OutgoingHttpHeaders } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method = "GET", body, headers = {} } = options;
    const stream = session.request(
      { ":method": method, ":path": path, ":authority": "web.test", ...headers },
      { endStream: body === undefined },
    );
    const answer: Answer = { status: 0, headers: {}, body: "", trailers: {} };
    const chunks: Buffer[] = [];
    stream.on("response", (list) => {
      answer.status = list[":status"]!;
      answer.headers = list;
    });
    stream.on("trailers", (list) => {
      answer.trailers = list;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("close", () => resolve({ ...answer, body: Buffer.concat(chunks).toString() }));
    if (body !== undefined) stream.end(body);
  });
}

function session(port: number, keep: (undo: Cleanup) => void): http2.ClientHttp2Session {
  const made = http2.connect(`http://127.0.0.1:${port}`);
  made.on("error", () => {});
  keep(() => made.destroy());
  return made;
}

/** An outbound proxy before an application, with nothing between. */
async function single(appPort: number, keep: (undo: Cleanup) => void) {
  const outbound = await startOutbound(SERVICE);
  keep(() => outbound.path.close());
  outbound.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", [{ port: appPort }]);
  return outbound;
}

/** Two proxies with mesh TLS between them. */
async function pair(appPort: number, keep: (undo: Cleanup) => void, h2 = true) {
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: appPort },
    { identity: authority.identity(NAME) },
  );
  keep(() => inbound.path.close());
  const outbound = await startOutbound(SERVICE, { identity: authority.identity(CLIENT) });
  keep(() => outbound.path.close());
  outbound.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", [
    { port: inbound.port, identity: NAME, h2 },
  ]);
  return { inbound, outbound };
}

for (const h2 of [false, true]) {
  const how = h2 ? "in HTTP/2" : "as it is";
  scenario(`HTTP/1 through a meshed pair ${how}`, async (keep) => {
    const app = await echo(1, keep);
    const { outbound, inbound } = await pair(app.port, keep, h2);
    const got = await ask1(outbound.port, "/a?b=c", { headers: { "X-Custom": "v", host: "web" } });
    assert.is(got.status, 200);
    assert.is(got.body, "GET ");
    assert.is(got.headers["x-app"], "echo");
    assert.is(got.headers["l5d-orig-proto"], undefined, "what proxies tell each other stays between them");
    const [seen] = app.seen;
    assert.is(seen!.version, "1.1");
    assert.is(seen!.path, "/a?b=c");
    assert.is(seen!.headers.host, "web");
    assert.is(seen!.headers["x-custom"], "v");
    assert.is(seen!.headers["l5d-client-id"], CLIENT);
    assert.is(seen!.headers["l5d-orig-proto"], undefined);
    assert.match(inbound.registry.expose(), new RegExp(`request_total\\{[^}]*client_id="${CLIENT}"`));
    assert.match(outbound.registry.expose(), new RegExp(`request_total\\{[^}]*server_id="${NAME}"`));
  });

  scenario(`bodies, empty answers, HEAD and trailers pass ${how}`, async (keep) => {
    const app = await echo(1, keep);
    const { outbound } = await pair(app.port, keep, h2);
    const { port } = outbound;
    const big = "x".repeat(300_000);
    const sized = await ask1(port, "/", {
      method: "PUT",
      body: big,
      headers: { "content-length": big.length },
    });
    assert.is(sized.body.length, big.length + 4);
    const chunked = await ask1(port, "/", {
      method: "POST",
      body: big,
      headers: { "transfer-encoding": "chunked" },
    });
    assert.is(chunked.body.length, big.length + 5);
    assert.is(app.seen[1]!.headers["transfer-encoding"], "chunked");
    assert.is((await ask1(port, "/empty")).status, 204);
    assert.is((await ask1(port, "/missing")).status, 404);
    const head = await ask1(port, "/", { method: "HEAD" });
    assert.equal([head.status, head.body], [200, ""]);
    const trailing = await ask1(port, "/trailers", {
      method: "POST",
      body: "b",
      headers: { trailer: "x-last", "transfer-encoding": "chunked" },
      trailers: { "x-last": "yes" },
    });
    assert.is(trailing.body, "part POST b");
    assert.is(trailing.trailers["x-end"], "done");
    assert.is(app.seen.at(-1)!.trailers["x-last"], "yes");
  });

  scenario(`a WebSocket handshake becomes a tunnel ${how}`, async (keep) => {
    const server = http.createServer();
    server.on("upgrade", (_request, socket) => {
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
      );
      socket.on("data", (chunk: Buffer) => socket.write(chunk.toString().toUpperCase()));
    });
    const port = await listen(server, keep);
    const { outbound } = await pair(port, keep, h2);
    const client = new RawClient(outbound.port);
    keep(() => client.destroy());
    client.send("GET /ws HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    await client.sees("hello");
    client.send("ping");
    await client.sees("PING");
  });
}

scenario("HTTP/2 through a meshed pair, with many streams at once", async (keep) => {
  const app = await echo(2, keep);
  const { outbound, inbound } = await pair(app.port, keep);
  const client = session(outbound.port, keep);
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      ask2(client, `/${i}`, { method: "POST", body: `body ${i}`.repeat(100) }),
    ),
  );
  answers.forEach((got, i) => {
    assert.is(got.status, 200);
    assert.is(got.body, `POST ${`body ${i}`.repeat(100)}`);
  });
  assert.is(app.seen[0]!.version, "2.0");
  assert.is(app.seen[0]!.headers["l5d-client-id"], CLIENT);
  assert.match(inbound.registry.expose(), /response_total\{[^}]*classification="success"[^}]*\} 200/);
});

scenario("HTTP/2 to an unmeshed HTTP/2 server, with trailers and a large body", async (keep) => {
  const app = await echo(2, keep);
  const outbound = await single(app.port, keep);
  const client = session(outbound.port, keep);
  const big = "y".repeat(1_000_000);
  const got = await ask2(client, "/trailers", { method: "POST", body: big });
  assert.is(got.body, `part POST ${big}`);
  assert.is(got.trailers["x-end"], "done");
  const head = await ask2(client, "/", { method: "HEAD" });
  assert.equal([head.status, head.body], [200, ""]);
  assert.is((await ask2(client, "/empty")).status, 204);
});

scenario("an application without HTTP/2 behind it answers HTTP/2 clients with 502", async (keep) => {
  const app = await echo(1, keep);
  const outbound = await single(app.port, keep);
  const client = session(outbound.port, keep);
  const got = await ask2(client, "/");
  assert.is(got.status, 502);
  assert.match(String(got.headers["l5d-mesh-code"]), /^MESH-/);
});

scenario("errors of the proxy's own reach gRPC callers as gRPC statuses", async (keep) => {
  const outbound = await startOutbound(SERVICE, { config: { failfastTimeout: 20 } });
  keep(() => outbound.path.close());
  outbound.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", []);
  const client = session(outbound.port, keep);
  const got = await ask2(client, "/pkg.Service/Method", {
    method: "POST",
    headers: { "content-type": "application/grpc" },
    body: "x",
  });
  assert.is(got.status, 200);
  assert.is(got.headers["grpc-status"], "4");
  assert.is(got.headers["l5d-mesh-code"], "MESH-301");
  const plain = await ask2(client, "/");
  assert.is(plain.status, 504);
});

scenario("a server's reset reaches the HTTP/2 caller as that reset", async (keep) => {
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });
  const port = await listen(server, keep);
  const { outbound } = await pair(port, keep);
  const client = session(outbound.port, keep);
  let code: number | undefined;
  const stream = client.request({ ":path": "/" });
  stream.on("error", () => {});
  stream.on("close", () => {
    code = stream.rstCode;
  });
  await until(() => code !== undefined, 5_000, "the reset");
  assert.is(code, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
});

scenario("a caller that resets takes its request with it, through both proxies", async (keep) => {
  let closed = 0;
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
    stream.write("first");
    stream.on("close", () => {
      closed += 1;
    });
  });
  const port = await listen(server, keep);
  const { outbound } = await pair(port, keep);
  const client = session(outbound.port, keep);
  const stream = client.request({ ":path": "/" });
  stream.on("error", () => {});
  await new Promise((resolve) => stream.once("data", resolve));
  stream.close(http2.constants.NGHTTP2_CANCEL);
  await until(() => closed === 1, 5_000, "the server's stream to end");
});

scenario("an HTTP/2 connection ends in order when its side drains", async (keep) => {
  const app = await echo(2, keep);
  const outbound = await single(app.port, keep);
  const client = session(outbound.port, keep);
  await ask2(client, "/");
  let goaway = false;
  client.on("goaway", () => {
    goaway = true;
  });
  const drained = outbound.path.drain(5_000);
  await until(() => goaway, 5_000, "GOAWAY");
  await drained;
});

scenario("an HTTP/2 caller that does not read holds the server back", async (keep) => {
  let written = 0;
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
    const chunk = Buffer.alloc(65_536);
    const more = () => {
      while (written < 100_000_000) {
        written += chunk.length;
        if (!stream.write(chunk)) {
          stream.once("drain", more);
          return;
        }
      }
      stream.end();
    };
    more();
  });
  const port = await listen(server, keep);
  const { outbound } = await pair(port, keep);
  const client = session(outbound.port, keep);
  const stream = client.request({ ":path": "/" });
  stream.on("error", () => {});
  await new Promise((resolve) => stream.once("response", resolve));
  stream.pause();
  let last = -1;
  let still = 0;
  await until(
    () => {
      still = written === last ? still + 1 : 0;
      last = written;
      return still === 30;
    },
    10_000,
    "the server to be held back",
  );
  assert.ok(written < 20_000_000, `${written} bytes were taken from the server`);
});

scenario("a POST that the server did not look at is sent again, body and all", async (keep) => {
  let refused = 0;
  const bodies: string[] = [];
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    let body = "";
    stream.on("data", (chunk: Buffer) => {
      body += chunk;
      if (refused > 0 || !body.endsWith("end")) return;
      refused += 1;
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    stream.on("end", () => {
      bodies.push(body);
      stream.respond({ ":status": 200 });
      stream.end("done");
    });
  });
  const port = await listen(server, keep);
  const outbound = await startOutbound(SERVICE, { identity: authority.identity(CLIENT) });
  keep(() => outbound.path.close());
  const peer = await startInbound({ ip: "127.0.0.1", port }, { identity: authority.identity(NAME) });
  keep(() => peer.path.close());
  outbound.discovery.service("127.0.0.1:80", "web.ns", [{ port: peer.port, identity: NAME, h2: true }]);
  const first = "a".repeat(1_000);
  const later = `${"b".repeat(30_000)}end`;
  const session2 = session(outbound.port, keep);
  const stream = session2.request({ ":method": "POST", ":path": "/" });
  let answer = "";
  stream.on("error", () => {});
  stream.on("data", (chunk: Buffer) => {
    answer += chunk;
  });
  stream.write(first);
  await new Promise((resolve) => setImmediate(resolve));
  stream.end(later);
  await until(() => stream.closed || answer === "done", 5_000, "the answer");
  assert.is(answer, "done");
  assert.equal([refused, bodies.length, bodies[0] === first + later], [1, 1, true]);
});

scenario("large responses and requests to ends that take all there is, many at once", async (keep) => {
  const size = 300_000;
  const server = http2.createServer({ settings: { initialWindowSize: 2 ** 30 } });
  server.on("session", (session) => session.setLocalWindowSize(2 ** 30));
  server.on("stream", (stream) => {
    let received = 0;
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
    stream.on("end", () => {
      stream.respond({ ":status": 200, "x-received": String(received) });
      stream.end(Buffer.alloc(size));
    });
  });
  const port = await listen(server, keep);
  const { outbound } = await pair(port, keep);
  const client = http2.connect(`http://127.0.0.1:${outbound.port}`, {
    settings: { initialWindowSize: 2 ** 30 },
  });
  client.on("error", () => {});
  keep(() => client.destroy());
  await new Promise((resolve) => client.once("connect", resolve));
  client.setLocalWindowSize(2 ** 30);
  const body = Buffer.alloc(size);
  const answers = await Promise.all(
    Array.from({ length: 60 }, () => ask2(client, "/", { method: "POST", body })),
  );
  for (const { headers, body: got } of answers)
    assert.equal([headers["x-received"], got.length], [String(size), size]);
});

test.run();
