// How an endpoint is spoken to: what is carried in HTTP/2, what is not, and by which name it is called.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, endpointSet, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("endpoint");
const authority = createAuthority();
const PEER = "web.ns.serviceaccount.identity.test";
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/** An application behind its proxy, called through another proxy that is told to use HTTP/2. */
async function world(keep: (thing: { close(): unknown }) => void) {
  const app = await RawServer.start((peer) => {
    peer.onData = (received) => {
      if (received.endsWith("\r\n\r\n")) peer.send(OK);
    };
  });
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity(PEER) },
  );
  const outbound = await startOutbound(
    { ip: "127.0.0.1", port: 80 },
    { identity: authority.identity("app.ns.serviceaccount.identity.test") },
  );
  const watch = outbound.discovery.service("127.0.0.1:80", "web", [
    { port: inbound.port, identity: PEER, h2: true },
  ]);
  for (const thing of [app, inbound.path, outbound.path]) keep(thing);
  const client = new RawClient(outbound.port);
  keep({ close: () => client.destroy() });
  return { app, inbound, outbound, watch, client };
}

type World = Awaited<ReturnType<typeof world>>;

const test_ = (name: string, body: (world: World) => Promise<void>) =>
  test(name, async () => {
    const things: { close(): unknown }[] = [];
    try {
      await body(await world((thing) => things.push(thing)));
    } finally {
      for (const thing of things.reverse()) await thing.close();
    }
  });

/** Requests that came to the peer's proxy each way; connections of HTTP/1 and of HTTP/2 are counted alike. */
const connections = ({ inbound }: World): number =>
  Number(/^tcp_open_total\{direction="inbound",peer="src".*\} (\d+)$/m.exec(inbound.registry.expose())?.[1]);

test_("HTTP/1 of several clients shares one connection to a peer", async (world) => {
  const other = new RawClient(world.outbound.port);
  for (const client of [world.client, other, world.client]) {
    client.received = "";
    client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    assert.match(await client.sees("ok"), /^HTTP\/1.1 200/);
  }
  assert.is(connections(world), 1);
  other.destroy();
});

test_("a head too large for HTTP/2 goes by HTTP/1", async (world) => {
  const { client, app } = world;
  client.send(`GET / HTTP/1.1\r\nhost: web\r\ncookie: a=${"x".repeat(30_000)}\r\n\r\n`);
  assert.match(await client.sees("ok"), /^HTTP\/1.1 200/);
  assert.ok(app.connections[0]!.received.includes("x".repeat(30_000)));
  client.received = "";
  client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
  await client.sees("ok");
  assert.is(connections(world), 2, "what is small enough is carried again");
});

test_("WebSocket takes a connection of its own", async (world) => {
  const { client, app } = world;
  client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
  await client.sees("ok");
  client.received = "";
  client.send("GET /chat HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
  await client.sees("ok");
  assert.ok(app.connections.some(({ received }) => received.includes("upgrade: websocket")));
  assert.is(connections(world), 2);
});

test_("an endpoint in another cluster is called by the name that it goes by there", async (world) => {
  const { client, app, watch, inbound } = world;
  const set = endpointSet([{ port: inbound.port, identity: PEER, h2: true }]);
  const elsewhere = { authorityOverride: "web.east.svc:80" };
  watch.set({
    ...set,
    endpoints: new Map(
      [...set.endpoints].map(([key, address]) => [key, { ...address, authorityOverride: elsewhere }]),
    ),
  });
  client.send("GET / HTTP/1.1\r\nhost: web-east\r\n\r\n");
  await client.sees("ok");
  assert.match(app.connections[0]!.received, /^GET \/ HTTP\/1.1\r\nhost: web.east.svc:80\r\n/);
});

test.run();
