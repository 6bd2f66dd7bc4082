// HTTP/1 semantics through the outbound side, byte by byte on real sockets.
import { connect } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("http1 exchange");

interface World {
  readonly server: RawServer;
  readonly proxy: Awaited<ReturnType<typeof startOutbound>>;
  readonly clients: RawClient[];
  client(): RawClient;
}

async function world(
  onConnection: (peer: RawPeer) => void,
  body: (w: World) => Promise<void>,
): Promise<void> {
  const server = await RawServer.start(onConnection);
  const proxy = await startOutbound({ ip: "127.0.0.1", port: server.port });
  const clients: RawClient[] = [];
  try {
    await body({
      server,
      proxy,
      clients,
      client: () => {
        const client = new RawClient(proxy.port);
        clients.push(client);
        return client;
      },
    });
  } finally {
    for (const client of clients) client.destroy();
    proxy.path.close();
    await server.close();
  }
}

/** Answers each request that ends in a blank line with `text`. */
const answering = (text: string) => (peer: RawPeer) => {
  let seen = 0;
  peer.onData = (received) => {
    for (;;) {
      const end = received.indexOf("\r\n\r\n", seen);
      if (end < 0) return;
      seen = end + 4;
      peer.send(text);
    }
  };
};

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

test("requests and responses pass byte for byte, on one connection each way", () =>
  world(answering(OK), async ({ client, server }) => {
    const c = client();
    for (let i = 1; i <= 3; i += 1) {
      c.send(GET);
      await until(() => c.received.length === OK.length * i, 5_000, "response");
    }
    assert.is(c.received, OK.repeat(3));
    assert.is(server.connections.length, 1);
    assert.is(server.connections[0]!.received, GET.repeat(3));
  }));

test("a request sent byte by byte is detected and carried", () =>
  world(answering(OK), async ({ client }) => {
    const c = client();
    for (const byte of GET) {
      c.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await c.sees("ok");
  }));

test("a response that comes byte by byte is carried", () =>
  world(
    (peer) => {
      peer.onData = async () => {
        peer.onData = () => {};
        for (const byte of "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: v\r\n\r\n") {
          peer.send(byte);
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
    },
    async ({ client }) => {
      const c = client().send(GET);
      await c.sees("0\r\nt: v\r\n\r\n");
      c.send(GET);
      await until(() => !c.closed, 100);
    },
  ));

test("pipelined requests are answered in order, one at a time upstream", () =>
  world(
    (peer) => {
      let done = 0;
      peer.onData = (received) => {
        const paths = [...received.matchAll(/GET (\S+)/g)].map((m) => m[1]!);
        assert.ok(paths.length - done <= 1, "one request at a time");
        for (const path of paths.slice(done))
          peer.send(`HTTP/1.1 200 OK\r\ncontent-length: ${path.length}\r\n\r\n${path}`);
        done = paths.length;
      };
    },
    async ({ client }) => {
      const c = client().send(["/1", "/2", "/3"].map((p) => `GET ${p} HTTP/1.1\r\nhost: a\r\n\r\n`).join(""));
      const text = await c.sees("/3");
      assert.ok(text.indexOf("/1") < text.indexOf("/2"));
    },
  ));

test("bodies by length and by chunks go through and leave the connection usable", () =>
  world(
    (peer) => {
      peer.onData = (received) => {
        const count = received.split("END").length - 1;
        while (replies(peer) < count) reply(peer, OK);
      };
    },
    async ({ client, server }) => {
      const c = client();
      c.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhel");
      await until(() => server.connections[0]?.received.includes("hel"), 5_000, "the first part");
      c.send("loEND");
      await c.sees("ok");
      c.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nEND\r\n0\r\n\r\n");
      await until(() => c.received === OK + OK, 5_000, "both responses");
      assert.is(server.connections.length, 1);
    },
  ));

const sent = new WeakMap<RawPeer, number>();
const replies = (peer: RawPeer) => sent.get(peer) ?? 0;
const reply = (peer: RawPeer, text: string) => {
  sent.set(peer, replies(peer) + 1);
  peer.send(text);
};

for (const [name, method, response] of [
  ["HEAD", "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"],
  ["204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"],
  ["304", "GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n"],
] as const) {
  test(`${name} has no body, whatever its length says`, () =>
    world(answering(response), async ({ client, server }) => {
      const c = client();
      const request = `${method} / HTTP/1.1\r\nhost: a\r\n\r\n`;
      c.send(request);
      await until(() => c.received === response, 5_000, "response");
      c.send(request);
      await until(() => c.received === response + response, 5_000, "second response");
      assert.is(server.connections.length, 1);
    }));
}

test("100-continue and other interim responses come before the final one", () =>
  world(
    (peer) => {
      peer.onData = (received) => {
        if (received.endsWith("\r\n\r\n")) peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        if (received.endsWith("body")) peer.send(`HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${OK}`);
      };
    },
    async ({ client }) => {
      const c = client().send(
        "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
      );
      await c.sees("100 Continue");
      c.send("body");
      assert.ok((await c.sees("ok")).includes("103 Early Hints"));
    },
  ));

test("an upgrade becomes a tunnel with half-close both ways", () =>
  world(
    (peer) => {
      peer.onData = (received) => {
        if (received.endsWith("\r\n\r\n")) {
          peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nfirst");
        }
        if (received.endsWith("ping")) peer.send("pong");
      };
      peer.socket.on("end", () => peer.socket.end("last"));
    },
    async ({ client, proxy }) => {
      const c = client().send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
      await c.sees("first");
      c.send("ping");
      await c.sees("pong");
      c.end();
      await c.seesEnd();
      assert.ok(c.received.endsWith("last"));
      await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    },
  ));

test("CONNECT becomes a tunnel after 200", () =>
  world(
    (peer) => {
      peer.onData = (received) => {
        if (received.endsWith("\r\n\r\n")) peer.send("HTTP/1.1 200 OK\r\n\r\n");
        if (received.endsWith("ping")) peer.send("pong");
      };
    },
    async ({ client }) => {
      const c = client().send("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n");
      await c.sees("200 OK");
      c.send("ping");
      await c.sees("pong");
    },
  ));

test("101 that nobody asked for is refused", () =>
  world(
    answering("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    async ({ client }) => {
      const text = await client().send(GET).sees("502");
      assert.match(text, /l5d-proxy-error: upstream switched protocols unasked/);
      assert.match(text, /l5d-mesh-code: MESH-405/);
    },
  ));

test("Connection: close from the client closes after the response, not upstream", () =>
  world(answering(OK), async ({ client, server }) => {
    const c = client().send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    const text = await c.seesEnd();
    assert.match(text, /connection: close/);
    assert.not.match(server.connections[0]!.received, /close/);
    assert.not(server.connections[0]!.ended);
  }));

test("Connection: close from the server stays between proxy and server", () =>
  world(
    (peer) => {
      peer.onData = () => {
        peer.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        peer.socket.end();
      };
    },
    async ({ client, server }) => {
      const c = client().send(GET);
      assert.not.match(await c.sees("ok"), /close/);
      c.send(GET);
      await until(() => c.received.split("ok").length === 3, 5_000, "second response");
      assert.is(server.connections.length, 2);
    },
  ));

test("a body that ends with the connection ends the client's connection too", () =>
  world(
    (peer) => {
      peer.onData = () => {
        peer.send("HTTP/1.0 200 OK\r\n\r\nall of it");
        peer.socket.end();
      };
    },
    async ({ client }) => {
      const text = await client().send(GET).seesEnd();
      assert.is(text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it");
    },
  ));

test("HTTP/1.0 is closed after the response unless it asks otherwise", () =>
  world(answering(OK), async ({ client }) => {
    const c = client().send("GET / HTTP/1.0\r\n\r\n");
    assert.match(await c.seesEnd(), /connection: close/);
  }));

test("an early response is delivered although the request never ends", () =>
  world(
    (peer) => {
      let answered = false;
      peer.onData = () => {
        if (!answered) peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
        answered = true;
      };
    },
    async ({ client }) => {
      const c = client().send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc");
      assert.match(await c.seesEnd(), /413.*connection: close/s);
    },
  ));

test("a client that goes away takes its request with it", () =>
  world(
    () => {},
    async ({ client, server, proxy }) => {
      const c = client().send(GET);
      const peer = await server.connection();
      await peer.sees(GET);
      c.destroy();
      await until(() => peer.ended || peer.closed, 5_000, "the upstream's end");
      await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    },
  ));

test("a server that breaks off mid-body breaks the client's connection, not its framing", () =>
  world(
    (peer) => {
      peer.onData = () => {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
        setImmediate(() => peer.socket.destroy());
      };
    },
    async ({ client, proxy }) => {
      const c = client().send(GET);
      await until(() => c.closed || c.ended, 5_000, "the break");
      assert.match(proxy.registry.expose(), /response_total\{[^}]*classification="failure"\} 1/);
    },
  ));

test("a stale connection is replaced without the client noticing", () =>
  world(
    (peer) => {
      let requests = 0;
      peer.onData = () => {
        requests += 1;
        if (requests === 1) peer.send(OK);
        else peer.socket.destroy();
      };
    },
    async ({ client, server }) => {
      const c = client().send(GET);
      await c.sees("ok");
      c.send(GET);
      await until(() => c.received === OK + OK, 5_000, "the second response");
      assert.is(server.connections.length, 2);
    },
  ));

test("a POST is not repeated on another connection", () =>
  world(
    (peer) => {
      let requests = 0;
      peer.onData = () => {
        requests += 1;
        if (requests === 1) peer.send(OK);
        else peer.socket.destroy();
      };
    },
    async ({ client }) => {
      const c = client().send(GET);
      await c.sees("ok");
      c.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
      await c.sees("502");
    },
  ));

test("bytes that follow a response unasked never reach the next request", () =>
  world(
    (peer) => {
      let requests = 0;
      peer.onData = () => {
        requests += 1;
        peer.send(requests === 1 ? `${OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison` : OK);
      };
    },
    async ({ client, server }) => {
      const c = client().send(GET);
      await c.sees("ok");
      c.send(GET);
      await until(() => c.received === OK + OK, 5_000, "the second response");
      assert.is(server.connections.length, 2);
    },
  ));

test("a bad chunk in a request is refused, and the connection closed", () =>
  world(answering("HTTP/1.1 100 Continue\r\n\r\n"), async ({ client }) => {
    const c = client().send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert.match(await c.seesEnd(), /400 Bad Request.*MESH-110/s);
  }));

test("an ambiguous request is refused before anything is sent on", () =>
  world(answering(OK), async ({ client, server, proxy }) => {
    const c = client().send(
      "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    );
    assert.match(
      await c.seesEnd(),
      /^HTTP\/1.1 400 Bad Request\r\nl5d-proxy-error: ambiguous message length/,
    );
    assert.is(server.connections.length, 0);
    assert.match(
      proxy.registry.expose(),
      /outbound_http_errors_total\{error="bad request",code="MESH-106"\} 1/,
    );
  }));

test("an answer that is no HTTP is a 502", () =>
  world(answering("220 smtp.example ESMTP\r\n"), async ({ client }) => {
    assert.match(await client().send(GET).sees("502"), /MESH-404/);
  }));

test("a slow reader holds the writer back, both ways", () => {
  let left = 400;
  return world(
    (peer) => {
      peer.onData = () => {
        peer.onData = () => {};
        peer.send(`HTTP/1.1 200 OK\r\ncontent-length: ${40_000_000}\r\n\r\n`);
        const chunk = Buffer.alloc(100_000, 97);
        const more = () => {
          while (left > 0) {
            left -= 1;
            if (!peer.socket.write(chunk)) {
              peer.socket.once("drain", more);
              return;
            }
          }
        };
        more();
      };
    },
    async ({ client, server }) => {
      const c = client();
      let size = 0;
      c.socket.removeAllListeners("data");
      c.socket.pause();
      c.send(GET);
      const peer = await server.connection();
      await until(() => peer.socket.writableLength > 0, 5_000, "the server to be held back");
      // What the server got rid of is in the proxy or in the kernel's buffers on the way, which are bounded.
      const taken = (400 - left) * 100_000 - peer.socket.writableLength;
      assert.ok(taken < 30_000_000, `${taken} of 40000000 bytes were taken from the server`);
      c.socket.on("data", (chunk: Buffer) => {
        size += chunk.length;
      });
      c.socket.resume();
      await until(() => size > 40_000_000, 20_000, "all of the body");
    },
  );
});

test("large responses take the memory of what is on its way, not of all that went by", () => {
  const size = 20_000_000;
  const chunk = Buffer.alloc(1_000_000, 97);
  return world(
    (peer) => {
      peer.onData = () => {
        peer.onData = () => {};
        peer.send(`HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: ${size}\r\n\r\n`);
        for (let sent = 0; sent < size; sent += chunk.length) peer.socket.write(chunk);
      };
    },
    async ({ proxy }) => {
      const buffer = Buffer.alloc(262_144);
      const before = process.memoryUsage().arrayBuffers;
      let most = 0;
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          let read = 0;
          const socket = connect({
            port: proxy.port,
            // Reads that take no memory of their own.
            onread: {
              buffer,
              callback: (bytes) => {
                read += bytes;
                most = Math.max(most, process.memoryUsage().arrayBuffers);
                return true;
              },
            },
          });
          socket.write(GET);
          await until(() => read > size, 20_000, "all of the body");
          socket.destroy();
        }),
      );
      assert.ok(most - before < 4_000_000, `${most - before} bytes for four bodies on their way`);
    },
  );
});

test.run();
