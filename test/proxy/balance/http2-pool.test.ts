// HTTP/2 to one endpoint: streams, connections and their ends, against servers of node:http2.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Http2Connection } from "../../../src/http2/connection.ts";
import { ERROR, TYPE } from "../../../src/http2/frame.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { Http2Pool } from "../../../src/proxy/balance/http2-pool.ts";
import { DEFAULT_HTTP2_PARAMS, type Http2Params } from "../../../src/proxy/http2/client-connection.ts";
import { Families, TcpSeries } from "../../../src/proxy/telemetry/series.ts";
import type { DialError } from "../../../src/proxy/transport/dial.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { hurried } from "../../support/clock.ts";
import { freePort } from "../../support/free-port.ts";
import { FakeExchange, type FakeRequest } from "../../support/http-exchange.ts";
import { frameOf, settingsFrame } from "../../support/http2-frames.ts";
import { FakeIdentity } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawServer } from "../../support/wire.ts";

const test = suite("HTTP/2 pool");

type OnStream = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

const OK: OnStream = (stream) => {
  stream.respond({ ":status": 200 });
  stream.end("ok");
};

/** A server of node:http2 that remembers its sessions. */
class Server {
  readonly server: http2.Http2Server;
  readonly sessions: http2.ServerHttp2Session[] = [];
  streams = 0;
  open = 0;
  mostOpen = 0;

  constructor(onStream: OnStream, settings: http2.Settings = {}) {
    this.server = http2.createServer({ settings, maxSessionMemory: 1_000 });
    this.server.on("session", (session) => {
      this.sessions.push(session);
      session.on("error", () => {});
    });
    this.server.on("stream", (stream, headers) => {
      this.streams += 1;
      this.open += 1;
      this.mostOpen = Math.max(this.mostOpen, this.open);
      stream.on("error", () => {});
      stream.on("close", () => {
        this.open -= 1;
      });
      onStream(stream, headers);
    });
  }

  async listen(port = 0): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    return this;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get live(): number {
    return this.sessions.filter((session) => !session.destroyed).length;
  }

  async close(): Promise<void> {
    for (const session of this.sessions) session.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

class Client {
  readonly registry = new Registry();
  readonly pool: Http2Pool;
  failures: DialError[] = [];
  connects = 0;

  constructor(port: number, params: Partial<Http2Params> = {}, clock = systemClock) {
    const families = new Families(this.registry, "outbound", systemClock);
    this.pool = new Http2Pool({
      clock,
      dial: { clock, connectTimeout: 1_000, keepAlive: 0, identity: new FakeIdentity("unused.test") },
      target: { ip: "127.0.0.1", port, tls: undefined },
      params: { ...DEFAULT_HTTP2_PARAMS, ...params },
      maxWaiting: 10_000,
      tcp: () => new TcpSeries(families, { peer: "dst" }),
      onConnected: () => {
        this.connects += 1;
      },
      onUnserved: () => {},
      onConnectFailed: (error) => this.failures.push(error),
    });
  }

  ask(request: FakeRequest = {}): FakeExchange {
    const exchange = new FakeExchange(request);
    this.again(exchange);
    return exchange;
  }

  again(exchange: FakeExchange): void {
    exchange.broken = undefined;
    const upstream = this.pool.take(exchange);
    if (upstream) exchange.send(upstream);
    else exchange.refuse("load-shed");
  }

  close(): void {
    this.pool.close();
  }
}

type Closable = { close(): unknown };
const test_ = (name: string, body: (keep: <T extends Closable>(thing: T) => T) => Promise<void>) =>
  test(name, async () => {
    const things: Closable[] = [];
    try {
      await body((thing) => {
        things.push(thing);
        return thing;
      });
    } finally {
      for (const thing of things.reverse()) await thing.close();
    }
  });

test_("one connection carries what comes one after the other and at once", async (keep) => {
  const server = keep(await new Server(OK).listen());
  const client = keep(new Client(server.port));
  const first = await client.ask().done();
  assert.is(first.upstream?.reused, true, "its connection has served, now that it is over");
  const asked = Array.from({ length: 50 }, (_, i) => client.ask({ path: `/${i}` }));
  for (const exchange of asked) assert.is((await exchange.done()).body, "ok");
  assert.is(server.sessions.length, 1);
  assert.match(client.registry.expose(), /tcp_open_total\{peer="dst"\} 1/);
});

test_("heads: what goes out, and what comes back", async (keep) => {
  let seen: http2.IncomingHttpHeaders = {};
  const server = keep(
    await new Server((stream, headers) => {
      seen = headers;
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      stream.respond(
        {
          ":status": 201,
          "l5d-orig-proto": "HTTP/1.1",
          "set-cookie": ["a=1", "b=2"],
          "content-length": "2",
        },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end("ok");
    }).listen(),
  );
  const client = keep(new Client(server.port));
  const exchange = await client
    .ask({
      method: "POST",
      version: 1,
      minor: 0,
      absoluteForm: true,
      fields: [
        ["cookie", "a=1"],
        ["x-old", "1"],
      ],
      edits: {
        path: "/other?q",
        authority: "elsewhere",
        fields: [
          { op: "remove", name: "x-old", value: "" },
          { op: "add", name: "x-new", value: "2" },
          { op: "add", name: "connection", value: "close" },
        ],
      },
    })
    .done();
  assert.equal(
    { ...seen },
    {
      ":method": "POST",
      ":scheme": "http",
      ":path": "/other?q",
      ":authority": "elsewhere",
      cookie: "a=1",
      "x-new": "2",
      "l5d-orig-proto": "HTTP/1.0; absolute-form",
    },
  );
  assert.is(exchange.interim[0]?.status, 103);
  assert.is(exchange.response?.status, 201);
  assert.is(exchange.response?.contentLength, 2);
  const fields = exchange.response!.fields();
  assert.equal(
    fields.filter(([name]) => name === "set-cookie"),
    [
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
    ],
  );
  assert.not(fields.some(([name]) => name === "l5d-orig-proto" || name.startsWith(":")));
  assert.equal(exchange.trailers, [["grpc-status", "0"]]);
});

test_("a request of HTTP/2 says nothing of HTTP/1", async (keep) => {
  let seen: http2.IncomingHttpHeaders = {};
  const server = keep(
    await new Server((stream, headers) => {
      seen = headers;
      OK(stream, headers);
    }).listen(),
  );
  await keep(new Client(server.port)).ask().done();
  assert.is(seen["l5d-orig-proto"], undefined);
});

test_("trailers of the request arrive", async (keep) => {
  const server = keep(
    await new Server((stream) => {
      stream.on("trailers", (trailers) => {
        stream.respond({ ":status": 200, "x-sum": trailers["x-sum"] });
        stream.end();
      });
      stream.resume();
    }).listen(),
  );
  const exchange = keep(new Client(server.port)).ask({ method: "POST", end: false });
  await until(() => exchange.upstream?.connected);
  exchange.upstream!.write(Buffer.from("body"));
  exchange.upstream!.end([["x-sum", "42"]]);
  assert.is((await exchange.done()).response?.get("x-sum"), "42");
});

test_(
  "a thousand streams at once spread over as many connections as their peer's limit asks",
  async (keep) => {
    const held: http2.ServerHttp2Stream[] = [];
    const server = keep(
      await new Server((stream) => held.push(stream), { maxConcurrentStreams: 150 }).listen(),
    );
    const client = keep(new Client(server.port));
    const asked = Array.from({ length: 1_000 }, () => client.ask({ method: "POST", body: Buffer.from("x") }));
    await until(
      () => held.length === 1_000,
      10_000,
      () => `1,000 streams, ${held.length} so far`,
    );
    // Seven would do; an eighth was begun before the first had told its limit.
    assert.ok(server.live >= 7 && server.live <= 8, `${server.live} connections`);
    for (const stream of held) OK(stream, {});
    for (const exchange of asked) assert.is((await exchange.done()).body, "ok");
  },
);

test_("beyond the last connection streams wait for their turn", async (keep) => {
  const server = keep(
    await new Server((stream) => setImmediate(() => OK(stream, {})), { maxConcurrentStreams: 1 }).listen(),
  );
  const client = keep(new Client(server.port));
  const order: number[] = [];
  const asked = Array.from({ length: 200 }, (_, i) => {
    const exchange = client.ask();
    exchange.onOver = () => order.push(i);
    return exchange;
  });
  for (const exchange of asked) assert.is((await exchange.done()).body, "ok");
  assert.is(server.live, 8);
  assert.ok(server.mostOpen <= 8);
  // In turn, as far as eight at a time can be.
  assert.ok(order.every((i, at) => Math.abs(i - at) < 16));
});

test_("a server that goes away costs no request", async (keep) => {
  let count = 0;
  const server = keep(
    await new Server((stream, headers) => {
      count += 1;
      if (count % 50 === 0) stream.session!.close();
      setImmediate(() => OK(stream, headers));
    }).listen(),
  );
  const client = keep(new Client(server.port));
  const asked = Array.from({ length: 20 }, () => {
    const exchange = new FakeExchange();
    let left = 49;
    exchange.onFailure = () => {
      assert.ok(exchange.failure ?? exchange.broken?.unprocessed, "only what was not looked at fails");
      client.again(exchange);
    };
    exchange.onOver = () => {
      if (!exchange.ended || left === 0) return;
      left -= 1;
      exchange.ended = false;
      client.again(exchange);
    };
    client.again(exchange);
    return { exchange, over: () => exchange.ended && left === 0 };
  });
  await until(() => asked.every(({ over }) => over()), 20_000, "1,000 requests");
  assert.ok(server.sessions.length > 10, `${server.sessions.length} sessions`);
  await until(() => server.live <= 1, 5_000, "the end of those that were left");
});

test_("refused streams, and those above a GOAWAY's last, were certainly not processed", async (keep) => {
  const server = keep(
    await new Server((stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)).listen(),
  );
  assert.equal((await keep(new Client(server.port)).ask().done()).broken, {
    key: "stream-reset",
    errno: undefined,
    unprocessed: true,
    resetCode: ERROR.REFUSED_STREAM,
  });
  const raw = keep(
    await RawServer.start((peer) => {
      peer.send(settingsFrame([]));
      peer.onData = () => peer.send(frameOf(TYPE.GOAWAY, 0, 0, Buffer.alloc(8)));
    }),
  );
  assert.equal((await keep(new Client(raw.port)).ask().done()).broken, {
    key: "upstream-closed",
    errno: undefined,
    unprocessed: true,
    resetCode: undefined,
  });
});

test_("a reset is told with its code, a dead connection as closed", async (keep) => {
  const server = keep(
    await new Server((stream, headers) => {
      if (headers[":path"] === "/reset") stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
      else stream.session!.socket.resetAndDestroy();
    }).listen(),
  );
  const client = keep(new Client(server.port));
  assert.equal((await client.ask({ path: "/reset" }).done()).broken, {
    key: "stream-reset",
    errno: undefined,
    unprocessed: false,
    resetCode: ERROR.ENHANCE_YOUR_CALM,
  });
  assert.equal((await client.ask({ path: "/die" }).done()).broken, {
    key: "upstream-closed",
    errno: "ECONNRESET",
    unprocessed: false,
    resetCode: undefined,
  });
});

test_("who waits hears that no connection could be made", async (keep) => {
  const client = keep(new Client(await freePort()));
  const asked = [client.ask(), client.ask()];
  await until(() => asked.every(({ failure }) => failure));
  assert.is(asked[1]!.failure!.key, "connect");
  assert.is(asked[1]!.failure!.errno, "ECONNREFUSED");
  assert.is(client.failures.length, 1);
});

test_("a peer that speaks something else fails those that wait", async (keep) => {
  const server = keep(await RawServer.start((peer) => peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")));
  const client = keep(new Client(server.port));
  const asked = [client.ask(), client.ask()];
  await until(() => asked.every(({ failure, broken }) => failure ?? broken));
  assert.is(asked[0]!.broken!.key, "bad-response");
  assert.is(asked[1]!.failure!.key, "bad-response");
});

test_("a slow reader holds one window, and no other stream", async (keep) => {
  const server = keep(
    await new Server((stream, headers) => {
      stream.respond({ ":status": 200 });
      if (headers[":path"] === "/big") stream.end(Buffer.alloc(4 * 1024 * 1024));
      else stream.end("ok");
    }).listen(),
  );
  const client = keep(new Client(server.port));
  const slow = Array.from({ length: 40 }, () => {
    const exchange = new FakeExchange({ path: "/big" });
    exchange.keeps = false;
    exchange.onChunk = () => exchange.upstream!.pause();
    client.again(exchange);
    return exchange;
  });
  await until(() => slow.every(({ responseBytes }) => responseBytes === 65_535));
  assert.is((await client.ask().done()).body, "ok");
  for (const exchange of slow) {
    assert.is(exchange.responseBytes, 65_535, "no more than the window came");
    exchange.onChunk = () => {};
    exchange.upstream!.resume();
  }
  for (const exchange of slow) assert.is((await exchange.done()).responseBytes, 4 * 1024 * 1024);
});

test_("a server that does not read stops who writes", async (keep) => {
  let reading: http2.ServerHttp2Stream | undefined;
  let received = 0;
  const server = keep(
    await new Server((stream) => {
      stream.respond({ ":status": 200 });
      reading ??= stream;
    }).listen(),
  );
  const client = keep(new Client(server.port));
  const exchange = client.ask({ method: "POST", end: false });
  await until(() => exchange.response);
  const chunk = Buffer.alloc(16_384);
  let sent = 0;
  const write = () => {
    while (sent < 4 * 1024 * 1024) {
      sent += chunk.length;
      if (!exchange.upstream!.write(chunk)) return;
    }
    exchange.upstream!.end(undefined);
  };
  exchange.onWritable = write;
  write();
  await until(() => sent >= 65_536);
  assert.ok(sent < 256 * 1024, `${sent} bytes were taken`);
  assert.is(await client.ask({ end: false }).upstream!.connected, true);
  reading!.on("data", (bytes: Buffer) => {
    received += bytes.length;
  });
  reading!.on("end", () => reading!.end());
  await exchange.done();
  assert.is(received, 4 * 1024 * 1024);
});

test_("an answer before the request's end is whole, and the request stops", async (keep) => {
  let code: number | undefined;
  const server = keep(
    await new Server((stream) => {
      stream.on("close", () => {
        code = stream.rstCode;
      });
      stream.respond({ ":status": 413 });
      stream.end("too much");
    }).listen(),
  );
  const exchange = keep(new Client(server.port)).ask({ method: "POST", end: false });
  assert.is((await exchange.done()).body, "too much");
  await until(() => code !== undefined);
  assert.is(code, ERROR.NO_ERROR);
  assert.is(exchange.upstream!.write(Buffer.from("late")), true);
});

test_("given up in any state, an exchange hears nothing more", async (keep) => {
  const server = keep(await new Server(() => {}, { maxConcurrentStreams: 1 }).listen());
  const client = keep(new Client(server.port));
  const asked = Array.from({ length: 20 }, () => client.ask());
  await until(() => server.streams === 8);
  for (const { upstream } of asked) upstream!.cancel();
  await until(() => server.open === 0);
  assert.not(asked.some(({ over }) => over));
});

test_("CONNECT is a tunnel whose two ends are two", async (keep) => {
  const server = keep(
    await new Server(
      (stream) => {
        stream.respond({ ":status": 200 });
        stream.write("hello");
        stream.on("data", (bytes: Buffer) => stream.end(`got ${bytes.toString()}`));
      },
      { enableConnectProtocol: true },
    ).listen(),
  );
  const client = keep(new Client(server.port));
  await client.ask({ method: "POST", body: Buffer.from("x") }).done();
  assert.is(client.pool.takesTunnels, true);
  const exchange = client.ask({
    method: "CONNECT",
    protocol: "websocket",
    path: "/chat",
    end: false,
  });
  await until(() => exchange.tunnel && exchange.body === "hello");
  exchange.upstream!.write(Buffer.from("ping"));
  await exchange.done();
  assert.is(exchange.body, "hellogot ping");
  exchange.upstream!.end(undefined);
  await until(() => server.open === 0);
});

test_("a closed pool finishes what it has taken", async (keep) => {
  const held: http2.ServerHttp2Stream[] = [];
  const server = keep(await new Server((stream) => held.push(stream), { maxConcurrentStreams: 1 }).listen());
  const client = new Client(server.port);
  const asked = Array.from({ length: 10 }, () => client.ask());
  await until(() => held.length === 8);
  client.close();
  await until(() => {
    for (const stream of held.splice(0)) OK(stream, {});
    return asked.every(({ over }) => over);
  });
  assert.ok(asked.every(({ body }) => body === "ok"));
  await until(() => server.live === 0, 5_000, "the end of its connections");
});

test_("a silent peer is asked, and then given up, but only while it owes an answer", async (keep) => {
  const server = keep(
    await RawServer.start((peer) => {
      peer.send(settingsFrame([]));
    }),
  );
  const client = keep(new Client(server.port, {}, hurried(100)));
  const exchange = await client.ask().done();
  assert.is(exchange.broken!.key, "upstream-closed");
  const { received } = await server.connection();
  assert.ok(received.endsWith(frameOf(TYPE.PING, 0, 0, Buffer.alloc(8)).toString("latin1")));
});

test_("connections that are not needed end, the first of them last", async (keep) => {
  const held: http2.ServerHttp2Stream[] = [];
  const server = keep(await new Server((stream) => held.push(stream), { maxConcurrentStreams: 1 }).listen());
  const client = keep(new Client(server.port, {}, hurried(100)));
  const asked = Array.from({ length: 8 }, () => client.ask());
  await until(() => held.length === 8);
  for (const stream of held) OK(stream, {});
  for (const exchange of asked) assert.is((await exchange.done()).body, "ok");
  // On a busy machine one look may miss the time in which just one is left.
  await until(() => server.live <= 1);
  assert.ok(client.pool.size <= 1);
  await until(() => server.live === 0);
  assert.is(client.pool.size, 0);
  held.length = 0;
  const again = client.ask();
  await until(() => held.length === 1);
  OK(held[0]!, {});
  assert.is((await again.done()).body, "ok");
});

/** A server of our own codec that reads no body, and has little room for all of a connection's together. */
async function unreading(): Promise<RawServer> {
  return RawServer.start(({ socket }) => {
    const machine = new Http2Connection(
      {
        write: (bytes) => socket.write(bytes),
        onStream: (stream) => ({
          onHeaders: (headers) => {
            if (headers.some(([name, value]) => name === ":path" && value === "/stuck")) return;
            machine.sendHeaders(stream, [[":status", "204"]], true);
          },
          onData: () => {},
          onTrailers: () => {},
          onClose: () => {},
        }),
        onEnd: () => socket.end(),
      },
      {
        side: "server",
        now: systemClock.monotonic,
        streamWindow: 1_000_000,
        connectionWindow: 65_535,
        maxStreams: 100,
      },
    );
    socket.on("data", (bytes: Buffer) => machine.receive(bytes));
  });
}

test_("a connection that stands still for want of window is joined by another", async (keep) => {
  const server = keep(await unreading());
  const client = keep(new Client(server.port));
  assert.is((await client.ask().done()).response?.status, 204);
  const stuck = client.ask({ path: "/stuck", method: "POST", body: Buffer.alloc(200_000), end: false });
  assert.is((await client.ask().done()).response?.status, 204, "it still carries heads");
  await until(() => client.connects === 2);
  const upload = client.ask({ method: "POST", body: Buffer.alloc(1_000) });
  assert.is((await upload.done()).response?.status, 204);
  assert.is(client.pool.size, 2);
  assert.not(stuck.over);
});

test.run();
