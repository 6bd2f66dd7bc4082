// Taps over mesh TLS while real requests pass: who may, what they are told, and what holds them back.
import { once } from "node:events";
import { connect as connectPlain } from "node:net";
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressText } from "../../../src/api/address.ts";
import type { MessageOf, Partially } from "../../../src/api/codec.ts";
import { Observe, type ObserveRequest, type TapEvent } from "../../../src/api/tap.ts";
import { durationMs } from "../../../src/api/time.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { listenTap } from "../../../src/proxy/tap/server.ts";
import { Taps } from "../../../src/proxy/tap/watch.ts";
import { Watches } from "../../../src/proxy/telemetry/watches.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { withWaits } from "../../support/clock.ts";
import { type TestCall, TestGrpcClient } from "../../support/grpc-client.ts";
import { createAuthority, FakeIdentity, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("tap");
const authority = createAuthority();
const SERVER = "web.test";
const TAP = "tap.viz.test";

type Event = MessageOf<typeof TapEvent>;
const EVERYTHING = { all: { matches: [] } };
const WITH_HEADERS = { http: { headers: {} } };

/** A client of the tap port; without a name it shows no certificate. */
async function tapClient(port: number, name: string | undefined, alpn?: string[]): Promise<TestGrpcClient> {
  const socket = tls.connect({
    host: "127.0.0.1",
    port,
    servername: SERVER,
    ...(name === undefined
      ? { rejectUnauthorized: false }
      : { secureContext: authority.credentials(name).clientContext }),
    checkServerIdentity: () => undefined,
    ...(alpn && { ALPNProtocols: alpn }),
  });
  await once(socket, "secureConnect");
  return new TestGrpcClient(port, socket);
}

interface World {
  readonly app: RawServer;
  readonly inbound: Awaited<ReturnType<typeof startInbound>>;
  readonly outbound: Awaited<ReturnType<typeof startOutbound>>;
  readonly watches: { readonly inbound: Watches; readonly outbound: Watches };
  readonly port: number;
  readonly tap: TestGrpcClient;
  /** Begins a tap, and waits until it is on. */
  observe(request?: Partially<MessageOf<typeof ObserveRequest>>): Promise<TestCall<Event>>;
  /** Sends requests to one side and waits for all answers. */
  ask(side: "inbound" | "outbound", ...requests: string[]): Promise<string>;
}

async function world(run: (w: World) => Promise<void>, clock = systemClock): Promise<void> {
  const app = await RawServer.start((peer) => {
    peer.socket.on("data", () => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\n\r\nok"));
  });
  const to = { ip: "127.0.0.1", port: app.port };
  const watches = { inbound: new Watches(), outbound: new Watches() };
  const inbound = await startInbound(to, { watches: watches.inbound });
  const outbound = await startOutbound(to, { watches: watches.outbound });
  const taps = new Taps([watches.inbound, watches.outbound], clock);
  const server = await listenTap({
    host: "127.0.0.1",
    port: 0,
    client: TAP,
    identity: new FakeIdentity(SERVER, authority.credentials(SERVER)),
    taps,
    clock,
    log: createLogger({ level: "off" }),
    registry: inbound.registry,
  });
  const tap = await tapClient(server.port, TAP);
  const clients: RawClient[] = [];
  try {
    await run({
      app,
      inbound,
      outbound,
      watches,
      port: server.port,
      tap,
      observe: async (request = { limit: 100, match: EVERYTHING }) => {
        const before = taps.size;
        const call = tap.call(Observe, request);
        await until(() => taps.size > before || call.status !== undefined, 5_000, "the tap");
        return call;
      },
      ask: async (side, ...requests) => {
        const client = new RawClient(side === "inbound" ? inbound.port : outbound.port);
        clients.push(client);
        for (const [index, request] of requests.entries()) {
          client.send(request);
          await until(() => client.received.split("HTTP/1.1 ").length > index + 1, 5_000, "an answer");
        }
        return client.received;
      },
    });
  } finally {
    for (const client of clients) client.destroy();
    tap.close();
    server.close();
    inbound.path.close();
    outbound.path.close();
    await app.close();
  }
}

const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nhost: web\r\n${more}\r\n`;

test("an inbound request is told in three events", () =>
  world(async ({ app, observe, ask }) => {
    const call = await observe();
    await ask("inbound", get("/books?page=2"));
    const [init, response, end] = [await call.message(0), await call.message(1), await call.message(2)];
    assert.is(init.proxyDirection, 1);
    assert.is(addressText(init.source)?.ip, "127.0.0.1");
    assert.equal(addressText(init.destination), { ip: "127.0.0.1", port: app.port });
    assert.is(init.sourceMeta?.labels["tls"], "no_identity");
    const request = init.http!.requestInit!;
    assert.equal(
      [request.method, request.scheme, request.authority, request.path, request.headers],
      [{ registered: 0 }, { registered: 0 }, "web", "/books", undefined],
    );
    const { id, httpStatus, sinceRequestInit } = response.http!.responseInit!;
    assert.equal(id, request.id);
    assert.is(httpStatus, 200);
    const { responseBytes, eos, ...ended } = end.http!.responseEnd!;
    assert.is(responseBytes, 2);
    assert.equal(eos, {});
    assert.ok(durationMs(ended.sinceRequestInit!) >= durationMs(sinceRequestInit!));
    assert.ok(durationMs(ended.sinceRequestInit!) >= durationMs(ended.sinceResponseInit!));
  }));

test("header fields come when they are asked for", () =>
  world(async ({ observe, ask }) => {
    const call = await observe({ limit: 1, match: EVERYTHING, extract: WITH_HEADERS });
    await ask("inbound", get("/", "x-b: 2\r\nx-b: 3\r\n"));
    const fields = (headers: { headers: { name: string; value: Buffer }[] } | undefined) =>
      headers?.headers.map(({ name, value }) => `${name}=${value}`);
    const request = (await call.message(0)).http!.requestInit!;
    assert.equal(fields(request.headers), ["host=web", "x-b=2", "x-b=3"]);
    assert.ok(fields((await call.message(1)).http!.responseInit!.headers)!.includes("x-a=1"));
    assert.is(await call.end(), 0, "the limit is reached");
  }));

test("an outbound request is told with the endpoint that served it, and by its labels", () =>
  world(async ({ app, outbound, observe, ask }) => {
    outbound.discovery.service(`127.0.0.1:${app.port}`, "web.ns.svc.cluster.local", [
      { port: app.port, labels: { pod: "web-1", deployment: "web" } },
    ]);
    const call = await observe({
      limit: 1,
      match: { destinationLabel: { key: "deployment", value: "web" } },
    });
    const other = await observe({
      limit: 1,
      match: { destinationLabel: { key: "deployment", value: "api" } },
    });
    await ask("outbound", get("/"));
    const init = await call.message(0);
    assert.is(init.proxyDirection, 2);
    assert.equal(
      { ...init.destinationMeta?.labels },
      {
        pod: "web-1",
        deployment: "web",
        tls: "no_identity",
        no_tls_reason: "not_provided_by_service_discovery",
      },
    );
    assert.equal(addressText(init.destination), { ip: "127.0.0.1", port: app.port });
    assert.is(await call.end(), 0);
    assert.is(other.messages.length, 0);
  }));

test("an error of the proxy's own is told with its passport", () =>
  world(async ({ outbound, app, observe, ask }) => {
    outbound.discovery.service(`127.0.0.1:${app.port}`, "web.ns.svc.cluster.local", [{ port: 1 }]);
    const call = await observe({ limit: 1, match: EVERYTHING });
    assert.match(await ask("outbound", get("/")), /502/);
    assert.is(await call.end(), 0);
    const [, response, end] = call.messages;
    assert.is(response!.http!.responseInit!.httpStatus, 502);
    const { error, code } = end!.destinationMeta!.labels;
    assert.equal([error, code], ["connect", "MESH-401"]);
  }));

test("a response that breaks off is told with a reset", () =>
  world(async ({ app, observe, ask }) => {
    const call = await observe();
    app.server.removeAllListeners("connection");
    app.server.on("connection", (socket) => {
      socket.on("error", () => {});
      socket.once("data", () =>
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", () => socket.destroy()),
      );
    });
    await ask("inbound", get("/"));
    const end = (await call.message(2)).http!.responseEnd!;
    assert.ok(end.eos!.resetErrorCode !== undefined);
    assert.is(end.responseBytes, 2);
  }));

test("only so many requests as the limit are told, then the tap ends in order", () =>
  world(async ({ observe, ask, watches }) => {
    const call = await observe({ limit: 2, match: { http: { path: { prefix: "/a" } } } });
    await ask("inbound", get("/a1"), get("/b"), get("/a2"), get("/a3"));
    assert.is(await call.end(), 0);
    const paths = call.messages.flatMap(({ http }) => http?.requestInit?.path ?? []);
    assert.equal(paths, ["/a1", "/a2"]);
    assert.is(call.messages.length, 6);
    assert.is(watches.inbound.current, undefined);
  }));

test("nothing watches before the first tap and after the last", () =>
  world(async ({ observe, watches }) => {
    assert.is(watches.inbound.current, undefined);
    const [first, second] = [await observe(), await observe()];
    assert.ok(watches.inbound.current && watches.outbound.current);
    first.cancel();
    second.cancel();
    await until(() => !watches.inbound.current && !watches.outbound.current);
  }));

const REFUSED: readonly [string, Partially<MessageOf<typeof ObserveRequest>>, RegExp][] = [
  ["without a limit", { match: EVERYTHING }, /limit/],
  ["without a match", { limit: 1 }, /without a condition/],
];
for (const [name, request, text] of REFUSED) {
  test(`a tap ${name} is refused as invalid`, () =>
    world(async ({ observe }) => {
      const call = await observe(request);
      assert.is(await call.end(), 3);
      assert.match(call.text, text);
    }));
}

test("only the tap service's identity may tap", () =>
  world(async ({ port, watches }) => {
    for (const [name, status] of [
      ["other.test", 7],
      [undefined, 16],
    ] as const) {
      const client = await tapClient(port, name);
      assert.is(await client.call(Observe, { limit: 1, match: EVERYTHING }).end(), status);
      client.close();
    }
    assert.is(watches.inbound.current, undefined);
  }));

test("callers that may not tap do not keep their connection", () =>
  world(
    async ({ port }) => {
      const client = await tapClient(port, "other.test");
      await until(() => client.session.closed || client.session.destroyed, 5_000, "the end");
    },
    withWaits((ms) => (ms === 5_000 ? 50 : ms)),
  ));

test("without TLS there is nothing to hear", () =>
  world(async ({ port }) => {
    const socket = connectPlain(port, "127.0.0.1");
    let heard = 0;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      heard += bytes.length;
    });
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await once(socket, "close");
    // An alert of TLS at most.
    assert.ok(heard <= 7);
  }));

test("other methods and other protocols are answered as gRPC answers them", () =>
  world(async ({ tap }) => {
    assert.is(await tap.raw("/io.linkerd.proxy.tap.Tap/Other", Buffer.alloc(5)).end(), 12);
    assert.is(await tap.raw(Observe.path, Buffer.from([1, 0, 0, 0, 0])).end(), 3);
    assert.is(await tap.raw(Observe.path, Buffer.alloc(0)).end(), 3);
    assert.is(await tap.raw(Observe.path, Buffer.from([0, 0, 0, 0, 2, 255, 255])).end(), 3);
  }));

test("callers may ask for HTTP/2 by ALPN", () =>
  world(async ({ port }) => {
    const client = await tapClient(port, TAP, ["h2"]);
    assert.is(await client.call(Observe, {}).end(), 3);
    client.close();
  }));

test("there are only so many taps at once", () =>
  world(async ({ port, observe }) => {
    for (let i = 0; i < 16; i += 1) await observe();
    const client = await tapClient(port, TAP);
    assert.is(await client.call(Observe, { limit: 1, match: EVERYTHING }).end(), 8);
    client.close();
  }));

test("a tap that does not read loses events, which are counted, and holds up nobody", () =>
  world(async ({ tap, inbound, observe, ask }) => {
    const call = await observe({ limit: 1_000_000, match: EVERYTHING, extract: WITH_HEADERS });
    // What it does not read soon fills its window and then the queue.
    call.stream.pause();
    const large = get("/", `x-large: ${"x".repeat(30_000)}\r\n`);
    const asked = Array.from({ length: 100 }, () => large);
    const received = await ask("inbound", ...asked);
    assert.is(received.split("HTTP/1.1 200").length, 101);
    const lost = Number(/^tap_events_dropped_total (\d+)$/m.exec(inbound.registry.expose())![1]);
    assert.ok(lost > 0);
    call.stream.resume();
    await until(() => call.messages.length > 30, 5_000, "the events that found room");
    assert.ok(call.messages.length < 300);
    tap.close();
  }));

test.run();
