// Protocols in which the server speaks first, on ports that nobody marked: the client's silence is not waited out. And
// clients that are silent for a while and speak HTTP then.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("server speaks first");
const authority = createAuthority();
const NAME = "db.ns.serviceaccount.identity.test";

/** A greeting like MySQL's, then an answer to what the client says. */
const greeting = (peer: RawPeer) => {
  peer.send("J\0\0\0\n8.0.36\0");
  peer.onData = (received) => {
    if (received.endsWith("login")) peer.send("OK");
  };
};

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const web = (peer: RawPeer) => {
  peer.onData = (received) => {
    if (received.endsWith("\r\n\r\n")) peer.send(OK);
  };
};

/** `no bytes`: a pair whose server's proxy refuses connections that carry no HTTP. */
type World = "outbound" | "inbound" | "pair" | "no bytes";

async function world(
  kind: World,
  onConnection: (peer: RawPeer) => void,
  body: (
    client: RawClient,
    server: RawServer,
    connections: () => number,
    metrics: () => string,
  ) => Promise<void>,
): Promise<void> {
  const server = await RawServer.start(onConnection);
  const undo: (() => unknown)[] = [() => server.close()];
  const to = { ip: "127.0.0.1", port: server.port };
  let port: number;
  let connections = () => 0;
  /** Of the server's proxy. */
  let metrics = () => "";
  if (kind === "outbound") {
    const proxy = await startOutbound(to);
    undo.push(() => proxy.path.close());
    connections = () => proxy.path.connections();
    port = proxy.port;
  } else {
    const inbound = await startInbound(to, { identity: authority.identity(NAME) });
    undo.push(() => inbound.path.close());
    port = inbound.port;
    connections = () => inbound.path.connections();
    metrics = () => inbound.registry.expose();
    if (kind === "pair" || kind === "no bytes") {
      const outbound = await startOutbound(
        { ip: "127.0.0.1", port: 3307 },
        { identity: authority.identity("app.test") },
      );
      undo.push(() => outbound.path.close());
      // As the kernel would say it of a connection to the peer's own port.
      if (kind === "pair") inbound.originalDestination.to = { ip: "127.0.0.1", port: inbound.port };
      // A transport header that leads to the proxy itself leads nowhere.
      const endpoint = kind === "pair" ? server.port : inbound.port;
      outbound.discovery.service("127.0.0.1:3307", "db.ns", [
        { port: endpoint, identity: NAME, inboundPort: inbound.port, h2: true },
      ]);
      port = outbound.port;
    }
  }
  const client = new RawClient(port);
  undo.push(() => client.destroy());
  try {
    await body(client, server, connections, metrics);
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
}

for (const kind of ["outbound", "inbound", "pair"] as const) {
  test(`a greeting comes at once, and the conversation goes on: ${kind}`, () =>
    world(kind, greeting, async (client, server) => {
      await client.sees("8.0.36", 2_000);
      client.send("login");
      await client.sees("OK");
      assert.is(server.connections.length, 1);
      client.end();
      await until(() => server.connections[0]!.ended, 5_000, "the half-close at the server");
    }));
}

for (const kind of ["outbound", "inbound"] as const) {
  test(`a client that is silent and then speaks HTTP is read as HTTP: ${kind}`, () =>
    world(kind, web, async (client, server) => {
      // The connection for a server that might speak is there before the client says a word.
      await until(() => server.connections.length === 1, 5_000, "the hedge");
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      assert.is(await client.sees("ok"), OK);
      assert.is(server.connections[0]!.received, "", "nothing was said on the other connection");
      await until(() => server.connections[0]!.ended || server.connections[0]!.closed, 5_000, "its end");
    }));

  test(`the SETTINGS of a server of HTTP/2 decide nothing: its client is only late: ${kind}`, () => {
    let before = 0;
    const first = (peer: RawPeer) => {
      before += 1;
      if (before === 1) peer.send("\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64");
      else web(peer);
    };
    return world(kind, first, async (client, server) => {
      await until(
        () => server.connections[0]?.closed || server.connections[0]?.ended,
        5_000,
        "the hedge's end",
      );
      assert.is(client.received, "");
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      assert.is(await client.sees("ok"), OK);
    });
  });

  test(`a client that is silent and then speaks something else is given the connection that is there: ${kind}`, () =>
    world(
      kind,
      (peer) => {
        peer.onData = (received) => peer.send(received.toUpperCase());
      },
      async (client, server) => {
        await until(() => server.connections.length === 1, 5_000, "the hedge");
        client.send("\x01binary");
        await client.sees("BINARY");
        assert.is(server.connections.length, 1);
      },
    ));

  test(`a server that closes at once closes the client too: ${kind}`, () =>
    world(
      kind,
      (peer) => peer.socket.end(),
      async (client, _server, connections) => {
        await client.seesEnd();
        client.end();
        await until(() => connections() === 0, 5_000, "no connection left");
      },
    ));
}

test("a refusal of the connection that was made meanwhile decides nothing: its client is only late", () =>
  world("no bytes", web, async (client, server, _connections, metrics) => {
    await until(() => metrics().includes('error="no route"'), 5_000, "the refusal");
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert.is(await client.sees("ok"), OK);
    assert.is(server.connections.length, 1);
  }));

test("clients that speak at once need no second connection", () =>
  world("outbound", web, async (client, server) => {
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    await client.sees("ok");
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    await until(() => client.received === OK + OK, 5_000, "both");
    assert.is(server.connections.length, 1);
  }));

test.run();
