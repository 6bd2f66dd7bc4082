// Connections of bytes to endpoints whose application is gone: another endpoint gets them, as long as nobody has heard a
// byte, and the endpoint is left alone for a while. And how connections are shared out at all.
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeTransportHeader, TRANSPORT_PROTOCOL } from "../../../src/api/transport-header.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { createAuthority, endpointSet, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { type Keep, scenarios } from "../../support/routed.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("bytes unserved by a peer");
const scenario = scenarios(test);
const authority = createAuthority();
const SERVICE = { ip: "127.0.0.1", port: 3307 };
const NAME = "db.ns.serviceaccount.identity.test";
const CLIENT = "app.ns.serviceaccount.identity.test";
const LONG = { min: 60_000, max: 60_000, jitter: 0 };

/** Echoes what it hears. */
const echo = (peer: RawPeer) => {
  peer.socket.on("data", (chunk: Buffer) => peer.socket.write(chunk));
  peer.socket.on("end", () => peer.end());
};

interface Options {
  /** By the transport header, or by TLS alone. */
  readonly direct?: boolean;
  /** The port is marked opaque: nothing is waited for. */
  readonly opaque?: boolean;
  readonly backoff?: typeof LONG;
  readonly clock?: typeof systemClock;
}

/** Two applications behind their proxies, and a client's proxy before both. */
async function world(keep: Keep, onConnection = echo, options: Options = {}) {
  const { direct = true, opaque = true, backoff = LONG, clock = systemClock } = options;
  const apps: RawServer[] = [];
  const peers: Awaited<ReturnType<typeof startInbound>>[] = [];
  for (let i = 0; i < 2; i += 1) {
    const app = await RawServer.start(onConnection);
    keep(() => (app.server.listening ? app.close() : undefined));
    const peer = await startInbound(
      { ip: "127.0.0.1", port: app.port },
      { identity: authority.identity(NAME) },
    );
    keep(() => peer.path.close());
    if (direct) peer.originalDestination.to = { ip: "127.0.0.1", port: peer.port };
    apps.push(app);
    peers.push(peer);
  }
  const proxy = await startOutbound(SERVICE, {
    clock,
    identity: authority.identity(CLIENT),
    config: { connectBackoff: backoff },
  });
  keep(() => proxy.path.close());
  proxy.discovery.service(
    "127.0.0.1:3307",
    "db.ns",
    peers.map(({ port }, i) =>
      direct ? { port: apps[i]!.port, identity: NAME, inboundPort: port } : { port, identity: NAME },
    ),
    opaque,
  );
  const connect = (): RawClient => {
    const client = new RawClient(proxy.port);
    keep(() => client.destroy());
    return client;
  };
  return { apps, peers, proxy, connect };
}

const refusals = ({ registry }: { registry: { expose(): string } }): number =>
  Number(/inbound_tcp_errors_total\{[^}]*code="MESH-401"[^}]*\} (\d+)/.exec(registry.expose())?.[1] ?? 0);

scenario("an application that is gone costs no connection", async (keep) => {
  const { apps, peers, proxy, connect } = await world(keep);
  await apps[0]!.close();
  for (let i = 0; i < 20; i += 1) {
    const client = connect().send(`line ${i}`);
    await client.sees(`line ${i}`);
    client.end();
    await client.seesEnd();
    assert.is(client.error, undefined);
  }
  assert.is(refusals(peers[0]!), 1, "then the endpoint is left alone");
  assert.match(proxy.registry.expose(), /balancer_endpoints\{[^}]*endpoint_state="pending"\} 1/);
});

/** How a client begins: what it says, bytes, and whether that is all; and whether the port is marked opaque. */
const BEGINNINGS = [
  { size: 0, ends: false, opaque: true },
  { size: 0, ends: true, opaque: true },
  { size: 30_000, ends: false, opaque: true },
  { size: 30_000, ends: true, opaque: true },
  { size: 0, ends: false, opaque: false },
  { size: 30_000, ends: false, opaque: false },
  { size: 30_000, ends: true, opaque: false },
];
for (const { size, ends, opaque } of BEGINNINGS) {
  const name = `${size} bytes${ends ? ", and that is all" : ""}${opaque ? "" : ", of a port that is not opaque"}`;
  scenario(`nor does it when the client begins with ${name}`, async (keep) => {
    const greet = (peer: RawPeer) => {
      if (size === 0) peer.send("hello");
      echo(peer);
    };
    const { apps, peers, connect } = await world(keep, greet, { opaque });
    await apps[0]!.close();
    for (let i = 0; refusals(peers[0]!) === 0; i += 1) {
      assert.ok(i < 50, "the one that is gone is soon asked");
      const client = connect();
      if (size > 0) client.send("\x01".padEnd(size, "x"));
      if (ends) client.end();
      if (size === 0) await client.sees("hello");
      else
        await until(
          () => client.received.length === size,
          5_000,
          () => `${client.received.length}`,
        );
      assert.is(client.error, undefined);
      if (ends) await client.seesEnd();
    }
  });
}

scenario(
  "an application that is back gets connections again, and its next rest is as short as the first",
  async (keep) => {
    const waits: number[] = [];
    const after: typeof systemClock.after = (ms, fn) => {
      waits.push(ms);
      return systemClock.after(ms, fn);
    };
    const rests = () => waits.filter((ms) => ms === 23).length;
    const { apps, peers, connect } = await world(keep, echo, {
      clock: { ...systemClock, after },
      backoff: { min: 23, max: 60_000, jitter: 0 },
    });
    const { port } = apps[0]!;
    const ask = async () => {
      const client = connect().send("x");
      await client.sees("x");
      client.destroy();
    };
    await apps[0]!.close();
    await until(async () => ask().then(() => refusals(peers[0]!) >= 3), 5_000, "some rests");
    assert.is(rests(), 1);
    const back = await RawServer.start(echo, port);
    keep(() => (back.server.listening ? back.close() : undefined));
    await until(async () => ask().then(() => back.connections.length > 0), 5_000, "its return");
    await back.close();
    await until(async () => ask().then(() => rests() === 2), 5_000, "its next rest");
  },
);

scenario(
  "what was said beyond what is kept is not lost in silence: the client sees a reset",
  async (keep) => {
    const { apps, peers, connect } = await world(keep);
    for (const app of apps) await app.close();
    const client = connect().send("x".repeat(3_000_000));
    await until(() => client.closed, 5_000, "the end");
    assert.is(client.error?.code, "ECONNRESET");
    assert.is(refusals(peers[0]!) + refusals(peers[1]!), 1);
  },
);

scenario("when all are gone, each is asked once", async (keep) => {
  const { apps, peers, connect } = await world(keep);
  for (const app of apps) await app.close();
  await connect().send("x").seesEnd();
  assert.equal(peers.map(refusals), [1, 1]);
});

scenario("an application whose first bytes are as long as the word is heard", async (keep) => {
  const { connect } = await world(keep, (peer) => peer.send("0123456789abcdef"));
  assert.is(await connect().send("x").sees("f"), "0123456789abcdef");
});

scenario("a proxy that does not ask for the word sees a reset, and no byte", async (keep) => {
  const { apps, peers } = await world(keep);
  const { port } = apps[0]!;
  await apps[0]!.close();
  const { clientContext } = authority.credentials(CLIENT);
  const socket = tls.connect({
    port: peers[0]!.port,
    host: "127.0.0.1",
    secureContext: clientContext,
    servername: NAME,
    ALPNProtocols: [TRANSPORT_PROTOCOL],
    checkServerIdentity: () => undefined,
  });
  keep(() => socket.destroy());
  let code: string | undefined;
  let bytes = 0;
  socket.on("error", (error: NodeJS.ErrnoException) => {
    code = error.code;
  });
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  socket.write(Buffer.concat([encodeTransportHeader({ port }), Buffer.from("x")]));
  await until(() => socket.closed, 5_000, "the end");
  assert.equal([code, bytes], ["ECONNRESET", 0]);
});

scenario("without the transport header, the endpoint is left alone at least", async (keep) => {
  const { apps, peers, connect } = await world(keep, echo, { direct: false });
  await apps[0]!.close();
  let lost = 0;
  for (let i = 0; i < 30; i += 1) {
    const client = connect().send("\x01");
    await until(() => client.received !== "" || client.closed, 5_000, "an answer");
    if (client.closed) lost += 1;
    else client.destroy();
  }
  assert.is(refusals(peers[0]!), 1);
  assert.is(lost, 1);
});

scenario(
  "short connections, one after another, are spread over all endpoints, however old each is",
  async (keep) => {
    let lead = 0;
    const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + lead };
    const apps = [await RawServer.start(echo), await RawServer.start(echo)];
    for (const app of apps) keep(() => app.close());
    const proxy = await startOutbound(SERVICE, { clock });
    keep(() => proxy.path.close());
    const watch = proxy.discovery.service("127.0.0.1:3307", "db.ns", [{ port: apps[0]!.port }], true);
    const ask = async () => {
      const client = new RawClient(proxy.port).send("x");
      await client.sees("x");
      client.end();
      await client.seesEnd();
      client.destroy();
    };
    await ask();
    // A minute later there is another one.
    lead = 60_000;
    watch.set(endpointSet(apps.map(({ port }) => ({ port }))));
    for (let i = 0; i < 60; i += 1) await ask();
    // Each is taken with a probability of a half: once in two billion this fails by chance.
    for (const { connections } of apps) assert.ok(connections.length > 8, `${connections.length} of 61`);
  },
);

test.run();
