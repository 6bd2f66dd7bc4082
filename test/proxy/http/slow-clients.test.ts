// Clients that are slow on purpose: a head that never ends, a body that stops, a response that nobody takes. The
// proxy's long waits are made short; each must free what the client held.
import * as http2 from "node:http2";
import type * as net from "node:net";
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { withWaits } from "../../support/clock.ts";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("slow clients");

/** Waits of 15 s and more take as long as those of 100 ms. */
const impatient = withWaits((ms) => (ms >= 15_000 ? 100 : ms));
const hurried = { ...impatient, monotonic: () => impatient.monotonic() * 1_000 };

async function world(
  onConnection: (peer: RawPeer) => void,
  body: (w: {
    proxy: Awaited<ReturnType<typeof startOutbound>>;
    server: RawServer;
    client: RawClient;
  }) => Promise<void>,
): Promise<void> {
  const server = await RawServer.start(onConnection);
  const proxy = await startOutbound({ ip: "127.0.0.1", port: server.port }, { clock: hurried });
  const client = new RawClient(proxy.port);
  try {
    await body({ proxy, server, client });
  } finally {
    client.destroy();
    proxy.path.close();
    await server.close();
  }
}

test("a head that does not come to its end is answered with 408", () =>
  world(
    () => {},
    async ({ client }) => {
      client.send("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ");
      assert.match(await client.seesEnd(), /^HTTP\/1.1 408 .*MESH-111/s);
    },
  ));

test("a body that stops coming is answered with 408, and the server let go", () =>
  world(
    () => {},
    async ({ client, server, proxy }) => {
      client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\npart");
      const peer = await server.connection();
      await peer.sees("part");
      assert.match(await client.seesEnd(), /^HTTP\/1.1 408 /);
      await until(() => peer.closed || peer.ended, 5_000, "the server's connection to end");
      client.destroy();
      await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    },
  ));

test("a response that the client does not take ends its connection", () =>
  world(
    (peer) => {
      peer.onData = () => {
        peer.onData = () => {};
        peer.send(`HTTP/1.1 200 OK\r\ncontent-length: ${100_000_000}\r\n\r\n`);
        const chunk = Buffer.alloc(1_000_000);
        const more = () => {
          while (!peer.closed && peer.socket.write(chunk));
        };
        peer.socket.on("drain", more);
        more();
      };
    },
    async ({ client, proxy }) => {
      client.socket.removeAllListeners("data");
      client.socket.pause();
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      await until(() => proxy.path.connections() === 1, 5_000, "the connection");
      await until(() => proxy.path.connections() === 0, 10_000, "no connection left");
    },
  ));

test("a stream whose response the client does not take is reset", async () => {
  const app = http2.createServer();
  app.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
    stream.end(Buffer.alloc(5_000_000));
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  app.on("session", (session) => sessions.add(session));
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  const { port } = app.address() as net.AddressInfo;
  const proxy = await startOutbound({ ip: "127.0.0.1", port }, { clock: hurried });
  const client = http2.connect(`http://127.0.0.1:${proxy.port}`);
  client.on("error", () => {});
  try {
    const stream = client.request({ ":path": "/" });
    let code: number | undefined;
    stream.on("error", () => {});
    stream.on("close", () => {
      code = stream.rstCode;
    });
    stream.on("response", () => stream.pause());
    await until(() => code !== undefined, 10_000, "the reset");
    assert.is(code, http2.constants.NGHTTP2_CANCEL);
  } finally {
    client.destroy();
    proxy.path.close();
    for (const session of sessions) session.destroy();
    app.close();
  }
});

/** What a TLS client that names `servername` says first. */
async function clientHello(servername: string): Promise<Buffer> {
  const server = await RawServer.start();
  const client = tls.connect({ port: server.port, host: "127.0.0.1", servername, rejectUnauthorized: false });
  client.on("error", () => {});
  const peer = await server.connection();
  await until(() => peer.received !== "", 5_000, "a ClientHello");
  client.destroy();
  await server.close();
  return Buffer.from(peer.received, "latin1");
}

const NAME = "web.test";
const authority = createAuthority();
type Accepting = Awaited<ReturnType<typeof startInbound>>;

/** Clients of the inbound side's own port that begin, and do not go on; and what it says of them. */
const UNFINISHED: Readonly<Record<string, readonly [code: string, begin: (to: Accepting) => Promise<void>]>> =
  {
    "says nothing": ["MESH-504", async ({ port }) => void new RawClient(port)],
    "sends half a ClientHello": [
      "MESH-504",
      async ({ port }) => void new RawClient(port).send((await clientHello(NAME)).subarray(0, 60)),
    ],
    "does not finish its handshake": [
      "MESH-502",
      async ({ port }) => void new RawClient(port).send(await clientHello(NAME)),
    ],
    "does not send its transport header": [
      "MESH-504",
      async ({ port }) => {
        const socket = tls.connect({
          port,
          host: "127.0.0.1",
          servername: NAME,
          secureContext: authority.credentials("app.test").clientContext,
          ALPNProtocols: ["transport.l5d.io/v1"],
          checkServerIdentity: () => undefined,
        });
        socket.on("error", () => {});
        await new Promise((resolve) => socket.once("secureConnect", resolve));
        socket.write("transport.l5d.io/v1\r\n\r\n\0\0");
      },
    ],
  };

for (const [name, [code, begin]] of Object.entries(UNFINISHED)) {
  test(`a client that ${name} is let go`, async () => {
    const clock = withWaits((ms) => (ms === 10_000 ? 100 : ms));
    const proxy = await startInbound(undefined, { clock, identity: authority.identity(NAME) });
    try {
      await begin(proxy);
      await until(() => proxy.registry.expose().includes(`code="${code}"`), 10_000, code);
      await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    } finally {
      proxy.path.close();
    }
  });
}

test.run();
