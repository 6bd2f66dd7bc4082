// Accepted HTTP connections on which nobody asks for anything: they end, others do not.
import * as http2 from "node:http2";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Carried } from "../../../src/proxy/transport/acceptor.ts";
import { endIdle } from "../../../src/proxy/transport/idle.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { ManualClock } from "../../support/clock.ts";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("idle connections");
const HOUR = 3_600_000;

/** A connection of which only matters what is looked at. */
function connection(idle: boolean) {
  const closed: number[] = [];
  const socket = { bytesRead: 0 };
  const carried: Carried = { idle, closeWhenIdle: () => closed.push(1), expire: () => {}, destroy: () => {} };
  return { socket, carried, closed };
}

test("who is idle for the whole time leaves; who asks, pings, or carries bytes stays", async () => {
  const clock = new ManualClock();
  const [forgotten, asking, busy] = [connection(true), connection(true), connection(false)];
  const open = new Map([forgotten, asking, busy].map(({ socket, carried }) => [socket, carried]));
  const sweep = endIdle(open as never, HOUR, clock);
  for (let quarter = 0; quarter < 8; quarter += 1) {
    asking.socket.bytesRead += 1;
    assert.is(forgotten.closed.length > 0, quarter > 4, `after ${quarter} quarters of an hour`);
    await clock.advance(HOUR / 4);
  }
  assert.equal([asking.closed.length, busy.closed.length], [0, 0]);
  sweep.stop();
  assert.ok(clock.idle);
});

const authority = createAuthority();
const NAME = "web.ns.serviceaccount.identity.test";

test("connections of both versions and of a peer over mesh TLS end after their time, and a tunnel does not", async () => {
  const app = await RawServer.start((peer) => {
    peer.onData = (received) => {
      if (!received.endsWith("\r\n\r\n")) return;
      peer.received = "";
      peer.send(
        received.includes("upgrade")
          ? "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
          : "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
      );
    };
  });
  let skipped = 0;
  let look = () => {};
  const clock = {
    ...systemClock,
    monotonic: () => systemClock.monotonic() + skipped,
    after: (ms: number, fn: () => void) => {
      if (ms !== HOUR / 4) return systemClock.after(ms, fn);
      look = fn;
      return { id: undefined };
    },
  };
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    {
      clock,
      identity: authority.identity(NAME),
      config: { idleTimeout: HOUR },
    },
  );
  const outbound = await startOutbound(
    { ip: "127.0.0.1", port: 80 },
    // Its pool would let the connection go by itself.
    {
      identity: authority.identity("app.test"),
      config: { poolIdleTimeout: 60_000, idleTimeout: 0 },
    },
  );
  outbound.discovery.service("127.0.0.1:80", "web.ns", [{ port: inbound.port, identity: NAME }]);
  const [one, peer, tunnel] = [
    new RawClient(inbound.port),
    new RawClient(outbound.port),
    new RawClient(inbound.port),
  ];
  const session = http2.connect(`http://127.0.0.1:${inbound.port}`);
  session.on("error", () => {});
  let sessionClosed = false;
  session.on("close", () => {
    sessionClosed = true;
  });
  try {
    for (const client of [one, peer]) {
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      await client.sees("ok");
    }
    tunnel.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    await tunnel.sees("101");
    await until(() => inbound.path.connections() === 4, 5_000, "four connections");
    for (let quarter = 0; quarter < 4; quarter += 1) {
      look();
      skipped += HOUR / 4;
    }
    assert.is(inbound.path.connections(), 4, "not before its time");
    look();
    await until(
      () => inbound.path.connections() === 1,
      20_000,
      () => `${inbound.path.connections()}`,
    );
    assert.ok(one.ended && sessionClosed);
    assert.not(tunnel.ended || tunnel.closed);
    assert.not(peer.ended, "its own proxy has another limit");
  } finally {
    session.destroy();
    for (const client of [one, peer, tunnel]) client.destroy();
    outbound.path.close();
    inbound.path.close();
    await app.close();
  }
});

test.run();
