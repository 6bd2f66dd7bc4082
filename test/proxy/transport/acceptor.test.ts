// What becomes of a connection before it is served: held until there is a certificate, or turned away because there are
// too many, or no descriptors, or no room in the buffers.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Registry } from "../../../src/metrics/registry.ts";
import { BufferBudget, defaultBufferLimit } from "../../../src/proxy/transport/buffer-budget.ts";
import { connectionLimit } from "../../../src/proxy/transport/descriptors.ts";
import { packageRoot } from "../../../src/util/package-root.ts";
import { ManualClock, withWaits } from "../../support/clock.ts";
import { FakeIdentity, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("acceptor");
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const web = (peer: RawPeer) => {
  peer.onData = (received) => {
    if (received.endsWith("\r\n\r\n")) peer.send(OK);
  };
};
const sides = { inbound: startInbound, outbound: startOutbound };

for (const [direction, start] of Object.entries(sides) as [keyof typeof sides, typeof startOutbound][]) {
  type Options = NonNullable<Parameters<typeof start>[1]>;
  type World = { proxy: Awaited<ReturnType<typeof start>>; client: () => RawClient };

  const world = async (options: Options, body: (w: World) => Promise<void>): Promise<void> => {
    const server = await RawServer.start(web);
    const proxy = await start({ ip: "127.0.0.1", port: server.port }, options);
    const clients: RawClient[] = [];
    const client = () => {
      const made = new RawClient(proxy.port);
      clients.push(made);
      return made;
    };
    try {
      await body({ proxy, client });
    } finally {
      for (const each of clients) each.destroy();
      proxy.path.close();
      await server.close();
    }
  };

  const uncertified = (): { identity: FakeIdentity; certify: () => void } => {
    const identity = new FakeIdentity("web.test");
    let certify = () => {};
    identity.ready = new Promise((resolve) => {
      certify = resolve;
    });
    return { identity, certify };
  };

  test(`what connects before the first certificate is served with it: ${direction}`, async () => {
    const { identity, certify } = uncertified();
    await world({ identity }, async ({ proxy, client }) => {
      const early = client().send(GET);
      await until(() => proxy.path.connections() === 1, 5_000, "the connection to be held");
      assert.is(early.received, "");
      certify();
      assert.is(await early.sees("ok"), OK);
      assert.is(await client().send(GET).sees("ok"), OK);
    });
  });

  test(`it is closed when the certificate does not come in time: ${direction}`, async () => {
    const { identity } = uncertified();
    const clock = withWaits((ms) => (ms === 10_000 ? 30 : ms));
    await world({ identity, clock }, async ({ proxy, client }) => {
      assert.is(await client().send(GET).seesEnd(), "");
      assert.match(proxy.registry.expose(), new RegExp(`${direction}_tcp_errors_total{.*code="MESH-503"} 1`));
      await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    });
  });

  test(`not more than so many are held: ${direction}`, async () => {
    const { identity, certify } = uncertified();
    await world({ identity }, async ({ proxy, client }) => {
      const early = Array.from({ length: 1_025 }, () => client().send(GET));
      await until(() => early.some(({ ended, closed }) => ended || closed), 10_000, "one to be turned away");
      await until(() => proxy.path.connections() === 1_024, 10_000, "the others");
      certify();
      // So many at once may find the application's own backlog full: but each hears something.
      await until(
        () => early.every(({ received, ended, closed }) => received !== "" || ended || closed),
        20_000,
        "answers",
      );
      assert.ok(early.some(({ received }) => received === OK));
    });
  });

  test(`connections beyond the limit are closed and counted, and those below it served: ${direction}`, () =>
    world({ config: { maxConnections: 2 } }, async ({ proxy, client }) => {
      const [first, second] = [client().send(GET), client().send(GET)];
      await Promise.all([first.sees("ok"), second.sees("ok")]);
      assert.is(await client().seesEnd(), "");
      const shown = proxy.registry.expose();
      assert.match(
        shown,
        new RegExp(`${direction}_tcp_errors_total{.*error="connection limit",code="MESH-603"} 1`),
      );
      assert.match(shown, `mesh_accepted_connections{direction="${direction}"} 2`);
      assert.match(shown, `mesh_accepted_connections_limit{direction="${direction}"} 2`);
      first.destroy();
      await until(() => proxy.path.connections() === 1, 5_000, "room");
      assert.is(await client().send(GET).sees("ok"), OK);
      assert.is(await second.send(GET).sees(OK + OK), OK + OK);
    }));

  test(`while the buffers are full nothing new is taken on: ${direction}`, async () => {
    const buffers = { exhausted: false };
    await world({ buffers }, async ({ proxy, client }) => {
      const before = client().send(GET);
      await before.sees("ok");
      buffers.exhausted = true;
      assert.match(await before.send(GET).sees("503"), /l5d-proxy-error: service overloaded/);
      assert.is(await client().seesEnd(), "");
      assert.match(proxy.registry.expose(), new RegExp(`${direction}_tcp_errors_total{.*code="MESH-601"} 1`));
      buffers.exhausted = false;
      assert.is(await client().send(GET).sees("ok"), OK);
    });
  });
}

test("buffers count as full when they are for two looks in a row", async () => {
  const clock = new ManualClock();
  let held = 10;
  const registry = new Registry();
  const budget = new BufferBudget({ clock, registry, limit: 100, held: () => held });
  const after = async (bytes: number) => {
    held = bytes;
    await clock.advance(1_000);
    return budget.exhausted;
  };
  assert.equal(
    [await after(101), await after(100), await after(101), await after(101), await after(50)],
    [false, false, false, true, false],
  );
  assert.match(registry.expose(), "mesh_buffer_bytes 50");
  assert.match(registry.expose(), "mesh_buffer_limit_bytes 100");
});

test("the buffers' limit is half of the memory that the process may have, and bounded", () => {
  const mib = 1024 * 1024;
  assert.equal([0, 100 * mib, 8_192 * mib].map(defaultBufferLimit), [256 * mib, 50 * mib, 256 * mib]);
});

test("no more connections are accepted than there are descriptors for", () => {
  assert.is(connectionLimit(10_000, undefined), 10_000);
  assert.is(connectionLimit(10_000, 1_048_576), 10_000);
  assert.is(connectionLimit(10_000, 1_024), 224);
  assert.is(connectionLimit(10_000, 50), 1);
});

test("without a descriptor left it turns clients away, blames no endpoint, does not spin, and recovers", async () => {
  const child = spawn(
    "sh",
    ["-c", `ulimit -n 80; exec "$0" --import tsx test/support/few-descriptors.ts`, process.execPath],
    { cwd: packageRoot(), stdio: ["pipe", "pipe", "inherit"] },
  );
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  const line = (name: string) =>
    until(
      () => new RegExp(`^${name} (.*)$`, "m").exec(said)?.[1],
      20_000,
      () => `${name} in ${said}`,
    );
  const clients: RawClient[] = [];
  try {
    const port = Number(await line("port"));
    const first = new RawClient(port).send(GET);
    clients.push(first);
    await first.sees("ok");
    // Far more than there are descriptors for.
    for (let i = 0; i < 200; i += 1) clients.push(new RawClient(port));
    await until(() => clients.some(({ ended, closed }) => ended || closed), 10_000, "clients turned away");
    child.stdin.write("cpu\n");
    assert.ok(Number(await line("cpu")) < 0.5, `share of a core while idle: ${said}`);
    for (const client of clients.slice(1)) client.send(GET);
    await until(
      () => clients.slice(1).every(({ ended, closed, received }) => ended || closed || received !== ""),
      20_000,
      "an answer or an end for each",
    );
    const refused = clients.filter(({ received }) => received.includes(" 503 "));
    for (const { received } of refused) assert.match(received, /l5d-mesh-code: MESH-604/);
    for (const client of clients.slice(1)) client.destroy();
    assert.is(await first.send(GET).sees(OK + OK), OK + OK, "the one that was there goes on");
    await until(
      async () => {
        const again = new RawClient(port).send(GET);
        clients.push(again);
        await until(() => again.received !== "" || again.closed || again.ended, 5_000, "anything");
        return again.received === OK;
      },
      10_000,
      "others to be served again",
    );
    child.stdin.write("metrics\n");
    assert.match(await line("metrics"), /MESH-604/);
  } finally {
    for (const client of clients) client.destroy();
    child.kill();
    await once(child, "exit");
  }
});

test.run();
