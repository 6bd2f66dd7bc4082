// One side of a connection says that it is done, and the other goes on: both ways, for bytes, mesh TLS and tunnels. All
// that is sent arrives; and one that is silent after the other's end is not kept for ever.
import * as http2 from "node:http2";
import type * as net from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../../src/util/clock.ts";
import { withWaits } from "../../support/clock.ts";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("half-close");
const authority = createAuthority();
const NAME = "db.ns.serviceaccount.identity.test";
const UPGRADE = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECT = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
/** More than all the buffers on the way hold. */
const MUCH = "x".repeat(8_000_000);

/** How a connection goes, and how it is begun. */
interface Way {
  readonly path: "outbound" | "inbound" | "pair" | "opaque pair";
  readonly open: "bytes" | "upgrade" | "connect" | "http2 connect";
}

const WAYS: readonly Way[] = [
  ...(["outbound", "inbound", "pair", "opaque pair"] as const).map((path) => ({
    path,
    open: "bytes" as const,
  })),
  ...(["outbound", "inbound", "pair"] as const).flatMap((path) =>
    (["upgrade", "connect", "http2 connect"] as const).map((open) => ({ path, open })),
  ),
];

interface World {
  readonly client: RawPeer;
  readonly server: RawPeer;
  readonly metrics: () => string;
  readonly connections: () => number;
}

async function world({ path, open }: Way, clock: typeof systemClock, body: (w: World) => Promise<void>) {
  const undo: (() => unknown)[] = [];
  const server = await RawServer.start((peer) => {
    if (open === "bytes") return;
    peer.onData = (received) => {
      if (!received.endsWith("\r\n\r\n")) return;
      peer.received = "";
      peer.onData = () => {};
      peer.send(received.startsWith("CONNECT") ? "HTTP/1.1 200 OK\r\n\r\n" : SWITCHED);
    };
  });
  undo.push(() => server.close());
  const to = { ip: "127.0.0.1", port: server.port };
  const proxies: { registry: { expose(): string }; path: { connections(): number }; port: number }[] = [];
  if (path === "outbound") proxies.push(await startOutbound(to, { clock }));
  else {
    const inbound = await startInbound(to, { clock, identity: authority.identity(NAME) });
    proxies.push(inbound);
    undo.push(() => inbound.path.close());
    if (path !== "inbound") {
      const outbound = await startOutbound(
        { ip: "127.0.0.1", port: 3307 },
        { clock, identity: authority.identity("app.test") },
      );
      const opaque = path === "opaque pair";
      if (opaque) inbound.originalDestination.to = { ip: "127.0.0.1", port: inbound.port };
      const endpoint = opaque
        ? { port: server.port, identity: NAME, inboundPort: inbound.port }
        : { port: inbound.port, identity: NAME, h2: true };
      outbound.discovery.service("127.0.0.1:3307", "db.ns", [endpoint], opaque);
      proxies.unshift(outbound);
    }
  }
  undo.push(() => (proxies[0]!.path as unknown as { close(): void }).close());
  const { port } = proxies[0]!;
  try {
    let client: RawPeer;
    if (open === "http2 connect") {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on("error", () => {});
      undo.push(() => session.destroy());
      await new Promise((resolve) => session.once("remoteSettings", resolve));
      const stream = session.request(
        { ":method": "CONNECT", ":protocol": "echo", ":path": "/", ":scheme": "http", ":authority": "a" },
        { endStream: false },
      );
      client = new RawPeer(stream as unknown as net.Socket);
      await new Promise((resolve) => stream.once("response", resolve));
    } else {
      client = new RawClient(port);
      undo.push(() => client.destroy());
      if (open === "bytes") client.send("\x01");
      else {
        client.send(open === "connect" ? CONNECT : UPGRADE);
        await client.sees("\r\n\r\n");
        client.received = "";
      }
    }
    const peer = await server.connection();
    if (open === "bytes") {
      await peer.sees("\x01");
      peer.received = "";
    }
    const connections = () => proxies.reduce((sum, proxy) => sum + proxy.path.connections(), 0);
    await body({
      client,
      server: peer,
      metrics: () => proxies.map(({ registry }) => registry.expose()).join(""),
      connections,
    });
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
}

for (const way of WAYS) {
  const name = `${way.open}, ${way.path}`;

  test(`the client ends first, and the server goes on: ${name}`, () =>
    world(way, systemClock, async ({ client, server, connections }) => {
      client.send("question");
      client.end();
      await until(() => server.ended, 5_000, "the end at the server");
      assert.is(server.received, "question");
      assert.not(client.ended, "its own side is open");
      server.send(MUCH);
      server.end();
      await until(
        () => client.ended,
        20_000,
        () => `the end at the client after ${client.received.length}`,
      );
      assert.is(client.received.length, MUCH.length);
      if (way.open !== "http2 connect") await until(() => connections() === 0, 5_000, "no connection left");
    }));

  test(`the server ends first, and the client goes on: ${name}`, () =>
    world(way, systemClock, async ({ client, server, connections }) => {
      server.send("greeting");
      server.end();
      await until(() => client.ended, 5_000, "the end at the client");
      assert.is(client.received, "greeting");
      assert.not(server.ended, "its other side is open");
      server.socket.pause();
      client.send(MUCH);
      client.end();
      // The client is long gone when the server reads the last of it.
      await new Promise((resolve) => setTimeout(resolve, 50));
      server.socket.resume();
      await until(
        () => server.ended || server.closed,
        20_000,
        () => `the end after ${server.received.length}`,
      );
      assert.is(server.received.length, MUCH.length);
      assert.is(server.error, undefined);
      if (way.open !== "http2 connect") await until(() => connections() === 0, 5_000, "no connection left");
    }));

  if (way.open === "bytes")
    test(`what the server breaks off does not end in order: ${name}`, () =>
      world(way, systemClock, async ({ client, server, connections }) => {
        server.send("half of it");
        await client.sees("half of it");
        server.socket.resetAndDestroy();
        await until(() => client.closed || client.ended, 5_000, "the break at the client");
        assert.is(client.error?.code, "ECONNRESET");
        await until(() => connections() === 0, 5_000, "no connection left");
      }));

  for (const first of ["client", "server"] as const) {
    test(`silence after the ${first}'s end does not last for ever: ${name}`, () => {
      const clock = withWaits((ms) => (ms === 300_000 ? 60 : ms));
      return world(way, clock, async ({ client, server, metrics, connections }) => {
        const [one, other] = first === "client" ? [client, server] : [server, client];
        one.end();
        await until(() => other.ended, 5_000, "the end at the other side");
        await until(() => /errors_total{.*code="MESH-307"}/.test(metrics()), 5_000, "its being counted");
        if (way.open !== "http2 connect") await until(() => connections() === 0, 5_000, "no connection left");
        // Who has read the other's end looks at its socket no more, and learns of the reset when it writes.
        const over = () => {
          if (!other.closed) other.send("?");
          return client.closed && server.closed;
        };
        await until(over, 5_000, () => `${client.closed} ${server.closed}`);
      });
    });
  }
}

test.run();
