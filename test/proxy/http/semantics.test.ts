// What HTTP says beyond one request and one answer, through one side and through pairs of proxies that carry HTTP/1 as it
// is and in HTTP/2: interim and early responses, answers without bodies, tunnels whose halves end one by one.
import * as http2 from "node:http2";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { type Keep, scenarios } from "../../support/routed.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("HTTP through proxies");
const scenario = scenarios(test);
const SERVICE = { ip: "127.0.0.1", port: 80 };
const GET = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const authority = createAuthority();

const WAYS = ["one side", "a pair, as it is", "a pair, in HTTP/2"] as const;
type Way = (typeof WAYS)[number];

/** The port of a proxy whose service is an application that does `onConnection`. */
async function through(
  way: Way,
  keep: Keep,
  onConnection: (peer: RawPeer) => void,
  opaque = false,
): Promise<{ port: number; app: RawServer }> {
  const app = await RawServer.start(onConnection);
  keep(() => app.close());
  if (way === "one side") {
    const proxy = await startOutbound({ ip: "127.0.0.1", port: app.port });
    keep(() => proxy.path.close());
    return { port: proxy.port, app };
  }
  const inbound = await startInbound(opaque ? undefined : { ip: "127.0.0.1", port: app.port }, {
    identity: authority.identity("web.test"),
  });
  keep(() => inbound.path.close());
  const proxy = await startOutbound(SERVICE, { identity: authority.identity("app.test") });
  keep(() => proxy.path.close());
  const h2 = way === "a pair, in HTTP/2";
  const endpoint = opaque
    ? { port: app.port, identity: "web.test", inboundPort: inbound.port }
    : { port: inbound.port, identity: "web.test", h2 };
  proxy.discovery.service("127.0.0.1:80", "web.ns", [endpoint], opaque);
  return { port: proxy.port, app };
}

const connect = (port: number, keep: Keep) => {
  const client = new RawClient(port);
  keep(() => client.destroy());
  return client;
};

for (const way of WAYS) {
  scenario(
    `${way}: a client that waits for 100 gets it, and hints that come before the answer`,
    async (keep) => {
      const { port, app } = await through(way, keep, (peer) => {
        peer.onData = (received) => {
          if (received.endsWith("\r\n\r\n")) peer.send("HTTP/1.1 100 Continue\r\n\r\n");
          if (received.endsWith("body")) peer.send(`HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n${OK}`);
        };
      });
      const client = connect(port, keep);
      client.send("POST / HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
      await client.sees("100 Continue\r\n\r\n");
      assert.match(app.connections[0]!.received, /expect: 100-continue/i);
      client.send("body");
      const text = await client.sees("ok");
      assert.match(
        text,
        /^HTTP\/1\.1 100 [\s\S]*HTTP\/1\.1 103 [\s\S]*link: <\/a>\r\n[\s\S]*HTTP\/1\.1 200 /,
      );
    },
  );

  scenario(`${way}: a client that waits for 100 and is refused sends no body`, async (keep) => {
    const { port } = await through(way, keep, (peer) => {
      peer.onData = () => peer.send("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n");
    });
    const client = connect(port, keep);
    client.send("POST / HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert.match(await client.seesEnd(), /^HTTP\/1\.1 417 [\s\S]*connection: close/i);
  });

  scenario(`${way}: an answer before the request's end is whole, though the body goes on`, async (keep) => {
    const answer = "x".repeat(100_000);
    const { port } = await through(way, keep, (peer) => {
      peer.socket.once("data", () =>
        peer.send(`HTTP/1.1 413 Large\r\ncontent-length: ${answer.length}\r\n\r\n${answer}`),
      );
    });
    const client = connect(port, keep);
    client.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1000000\r\n\r\n");
    const timer = setInterval(() => client.socket.writable && client.send("part of a body"), 5);
    keep(() => clearInterval(timer));
    const text = await client.seesEnd();
    assert.match(text, /^HTTP\/1\.1 413 /);
    assert.ok(text.endsWith(`\r\n\r\n${answer}`), "all of it");
  });

  for (const [name, request, head] of [
    ["HEAD", "HEAD / HTTP/1.1\r\nhost: web\r\n\r\n", "200 OK\r\ncontent-length: 9"],
    ["204", GET, "204 No Content"],
    ["304", GET, "304 Not Modified\r\netag: x\r\ncontent-length: 9"],
  ] as const) {
    scenario(`${way}: the answer to ${name} has no body, and another follows`, async (keep) => {
      let asked = 0;
      const { port } = await through(way, keep, (peer) => {
        peer.onData = () => peer.send(asked++ === 0 ? `HTTP/1.1 ${head}\r\n\r\n` : OK);
      });
      const client = connect(port, keep).send(request);
      const first = await client.sees("\r\n\r\n");
      assert.match(first, new RegExp(`^HTTP/1\\.1 ${head.slice(0, 3)} `));
      if (name !== "204") assert.match(first, /content-length: 9\r\n/i, "the length is told");
      assert.ok(first.endsWith("\r\n\r\n"));
      client.send(GET);
      await client.sees("ok");
      assert.match(client.received.slice(first.length), /^HTTP\/1\.1 200 /);
    });
  }

  for (const [name, request, agreed] of [
    [
      "an upgrade",
      "GET /chat HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
    ["CONNECT", "CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"],
  ] as const) {
    for (const first of ["client", "server"] as const) {
      scenario(`${way}: ${name} is a tunnel, and the ${first}'s half ends alone`, async (keep) => {
        const { port, app } = await through(way, keep, (peer) => {
          peer.socket.once("data", () => peer.send(agreed));
        });
        const client = connect(port, keep).send(request);
        await client.sees("\r\n\r\n");
        const server = await app.connection();
        client.send("up");
        await server.sees("up");
        server.send("down");
        await client.sees("down");
        await halves(first, client, server);
      });
    }
  }

  if (way !== "one side")
    scenario(
      `${way}: a server that breaks off in its answer is seen to, and the connection ends`,
      async (keep) => {
        const { port } = await through(way, keep, (peer) => {
          peer.onData = () => {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
            setTimeout(() => peer.destroy(), 20);
          };
        });
        const client = connect(port, keep).send(GET);
        await client.sees("half");
        await until(() => client.closed || client.ended, 5_000, "the end");
        assert.ok(client.received.endsWith("half"));
      },
    );
}

/** One half ends, the other goes on; then it ends, too. */
async function halves(first: "client" | "server", client: RawPeer, server: RawPeer): Promise<void> {
  const [one, other] = first === "client" ? [client, server] : [server, client];
  one.end();
  await until(() => other.ended, 5_000, "the other to see the end");
  assert.not(one.ended);
  other.send("a last word");
  await one.sees("a last word");
  other.end();
  await until(() => one.ended, 5_000, "the end of both");
}

for (const first of ["client", "server"] as const) {
  scenario(`bytes under a transport header: the ${first}'s half ends alone`, async (keep) => {
    const { port, app } = await through("a pair, as it is", keep, () => {}, true);
    const client = connect(port, keep).send("up");
    const server = await app.connection();
    await server.sees("up");
    await halves(first, client, server);
  });
}

scenario("a WebSocket over HTTP/2 (RFC 8441) reaches an HTTP/1 application through a pair", async (keep) => {
  const { port } = await through("a pair, in HTTP/2", keep, (peer) => {
    peer.onData = (received) => {
      if (received.endsWith("\r\n\r\n"))
        peer.send(
          "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhello",
        );
      else peer.send(received.slice(-4).toUpperCase());
    };
  });
  const session = http2.connect(`http://127.0.0.1:${port}`);
  keep(() => session.destroy());
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  assert.is(session.remoteSettings.enableConnectProtocol, true);
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/chat",
    ":scheme": "http",
    ":authority": "web",
  });
  let status: number | undefined;
  let text = "";
  stream.on("response", (headers) => {
    status = headers[":status"];
  });
  stream.on("data", (chunk) => {
    text += chunk;
  });
  stream.on("error", () => {});
  await until(() => text === "hello", 5_000, "the greeting");
  assert.is(status, 200);
  stream.write("ping");
  await until(() => text === "helloPING", 5_000, "the echo");
});

for (const side of ["outbound", "inbound"] as const) {
  scenario(
    `${side}: only requests that wait for their answer to begin count against the limit`,
    async (keep) => {
      const app = await RawServer.start();
      keep(() => app.close());
      const start = side === "outbound" ? startOutbound : startInbound;
      const proxy = await start({ ip: "127.0.0.1", port: app.port }, { config: { maxInFlight: 1 } });
      keep(() => proxy.path.close());
      const first = connect(proxy.port, keep).send(GET);
      const server = await app.connection(0);
      await server.sees(GET);
      const shed = await connect(proxy.port, keep).send(GET).sees("\r\n\r\n");
      assert.match(shed, /^HTTP\/1\.1 503 /);
      assert.match(shed, /l5d-proxy-error: service overloaded/);
      server.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
      await first.sees("half");
      const second = connect(proxy.port, keep).send(GET);
      const other = await app.connection(1);
      await other.sees(GET);
      // Those who leave before any answer make room as well.
      second.destroy();
      await other.seesEnd();
      const third = connect(proxy.port, keep).send(GET);
      const last = await app.connection(2);
      await last.sees(GET);
      last.send(OK);
      await third.sees("ok");
      server.send(" done");
      await first.sees("half done");
    },
  );
}

scenario(
  "servers that refuse streams are not asked more often than the budget of retries lets",
  async (keep) => {
    let refused = 0;
    const server = http2.createServer();
    const sessions = new Set<http2.ServerHttp2Session>();
    server.on("session", (session) => sessions.add(session));
    server.on("stream", (stream) => {
      refused += 1;
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    keep(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    const { port } = server.address() as import("node:net").AddressInfo;
    const proxy = await startOutbound({ ip: "127.0.0.1", port });
    keep(() => proxy.path.close());
    const session = http2.connect(`http://127.0.0.1:${proxy.port}`);
    keep(() => session.destroy());
    session.on("error", () => {});
    const count = 500;
    const codes = new Set<number>();
    for (let sent = 0; sent < count; sent += 50) {
      await Promise.all(
        Array.from(
          { length: 50 },
          () =>
            new Promise<void>((resolve) => {
              const stream = session.request({ ":path": "/" });
              stream.on("error", () => {});
              stream.on("close", () => {
                codes.add(stream.rstCode);
                resolve();
              });
            }),
        ),
      );
    }
    assert.equal(
      [...codes],
      [http2.constants.NGHTTP2_REFUSED_STREAM],
      "the caller knows that it may come again",
    );
    // A fifth of the requests, and ten a second over the ten seconds that are remembered; without it five times as many.
    assert.ok(refused >= count && refused <= count * 1.2 + 110, `${refused} streams for ${count} requests`);
  },
);

test.run();
