// The gRPC client against a bare node:http2 server, which can do what no proper server does.
import * as http2 from "node:http2";
import { type AddressInfo, createConnection } from "node:net";
import { type Duplex, PassThrough } from "node:stream";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encode, type MessageOf } from "../../../src/api/codec.ts";
import { DestinationProfile, Get, GetProfile, type Update } from "../../../src/api/destination.ts";
import { frame } from "../../../src/api/grpc-frame.ts";
import { type GrpcError, STATUS } from "../../../src/api/grpc-status.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import type { Clock } from "../../../src/util/clock.ts";
import { ManualClock, withWaits } from "../../support/clock.ts";
import { until } from "../../support/until.ts";

const test = suite("grpc client");

/** Waits at most 20 ms, so that back-off does not slow the tests. */
const quick = withWaits((ms) => (ms > 2_000 ? ms : Math.min(ms, 20)));

type Handle = (stream: http2.ServerHttp2Stream, path: string) => void;

const OK: http2.OutgoingHttpHeaders = { ":status": 200, "content-type": "application/grpc" };
const profile = (name: string): Buffer => frame(encode(DestinationProfile, { fullyQualifiedName: name }));

/** Sends messages and a status in trailers. */
function finish(
  stream: http2.ServerHttp2Stream,
  bodies: Buffer[],
  trailers: http2.OutgoingHttpHeaders,
): void {
  stream.respond(OK, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  stream.end(Buffer.concat(bodies));
}

class Plane {
  readonly sessions: http2.ServerHttp2Session[] = [];
  readonly streams: http2.ServerHttp2Stream[] = [];
  readonly registry = new Registry();
  readonly server: http2.Http2Server;
  client!: GrpcClient;
  handle: Handle = (stream) => finish(stream, [profile("a")], { "grpc-status": "0" });
  connects = 0;

  constructor(settings: http2.Settings) {
    this.server = http2.createServer({ settings });
    this.server.on("session", (session) => {
      this.sessions.push(session);
      session.on("error", () => {});
    });
    this.server.on("stream", (stream, headers) => {
      this.streams.push(stream);
      stream.on("error", () => {});
      this.handle(stream, String(headers[":path"]));
    });
  }

  ask(timeout = 5_000): Promise<MessageOf<typeof DestinationProfile>> {
    return this.client.unary(GetProfile, { path: "x" }, timeout);
  }
}

async function withPlane(run: (plane: Plane) => Promise<void>, settings: http2.Settings = {}): Promise<void> {
  const plane = new Plane(settings);
  await new Promise<void>((resolve) => plane.server.listen(0, "127.0.0.1", resolve));
  plane.client = new GrpcClient({
    authority: "plane:1",
    clock: quick,
    log: createLogger({ level: "off" }),
    registry: plane.registry,
    connect: () =>
      new Promise((resolve, reject) => {
        plane.connects += 1;
        const socket = createConnection((plane.server.address() as AddressInfo).port, "127.0.0.1");
        socket.once("connect", () => resolve(socket)).once("error", reject);
      }),
  });
  try {
    await run(plane);
  } finally {
    plane.client.close();
    for (const session of plane.sessions) session.destroy();
    await new Promise<void>((resolve) => plane.server.close(() => resolve()));
  }
}

async function failure(promise: Promise<unknown>): Promise<GrpcError> {
  try {
    await promise;
  } catch (error) {
    return error as GrpcError;
  }
  return assert.unreachable() as never;
}

const endings: [string, Handle, number, RegExp][] = [
  [
    "a status in the trailers",
    (stream) => finish(stream, [], { "grpc-status": "7", "grpc-message": "not you: 100%25 sure" }),
    7,
    /^not you: 100% sure$/,
  ],
  [
    "a status without a body",
    (stream) => stream.respond({ ...OK, "grpc-status": "12" }, { endStream: true }),
    STATUS.UNIMPLEMENTED,
    /^$/,
  ],
  [
    "an HTTP status",
    (stream) => stream.respond({ ":status": 503 }, { endStream: true }),
    STATUS.UNAVAILABLE,
    /503/,
  ],
  ["no status", (stream) => finish(stream, [profile("a")], {}), STATUS.UNKNOWN, /without a status/],
  [
    "no message",
    (stream) => finish(stream, [], { "grpc-status": "0" }),
    STATUS.INTERNAL,
    /without a message/,
  ],
  ["a reset", (stream) => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR), STATUS.UNAVAILABLE, /code 2/],
  [
    "a message that is none",
    (stream) => finish(stream, [frame(Buffer.from("0bff", "hex"))], { "grpc-status": "0" }),
    STATUS.INTERNAL,
    /cannot read/,
  ],
  [
    "a compressed message",
    (stream) => finish(stream, [Buffer.from("0100000000", "hex")], { "grpc-status": "0" }),
    STATUS.INTERNAL,
    /compressed/,
  ],
  [
    "a message too large",
    (stream) => {
      stream.respond(OK);
      stream.write(Buffer.from("007fffffff", "hex"));
    },
    STATUS.INTERNAL,
    /limit is 4194304/,
  ],
];
for (const [name, handle, code, message] of endings) {
  // A replica whose proxy answers for it (503) is no place for the next call.
  const connects = /HTTP/.test(name) ? 2 : 1;
  test(`ends with ${name}, and ${connects === 1 ? "the connection serves on" : "another serves"}`, () =>
    withPlane(async (plane) => {
      plane.handle = handle;
      const error = await failure(plane.ask());
      assert.is(error.code, code);
      assert.match(error.message, message);
      plane.handle = (stream) => finish(stream, [profile("next")], { "grpc-status": "0" });
      assert.is((await plane.ask()).fullyQualifiedName, "next");
      assert.is(plane.connects, connects);
    }));
}

test("a message of megabytes, byte by byte at its head, is read whole", () =>
  withPlane(async (plane) => {
    const name = "n".repeat(3_000_000);
    plane.handle = (stream) => {
      const body = profile(name);
      stream.respond(OK, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      for (let i = 0; i < 8; i += 1) stream.write(body.subarray(i, i + 1));
      stream.end(body.subarray(8));
    };
    assert.is((await plane.ask()).fullyQualifiedName, name);
  }));

test("calls beyond what the peer takes at once wait for room on the same connection", () =>
  withPlane(
    async (plane) => {
      const held: http2.ServerHttp2Stream[] = [];
      plane.handle = (stream) => held.push(stream);
      const asked = Array.from({ length: 9 }, () => plane.ask());
      for (let done = 0; done < 9; ) {
        await until(() => held.length > 0);
        assert.ok(held.length <= 3, `${held.length} at once`);
        for (const stream of held.splice(0)) {
          finish(stream, [profile("a")], { "grpc-status": "0" });
          done += 1;
        }
      }
      await Promise.all(asked);
      assert.is(plane.connects, 1);
    },
    { maxConcurrentStreams: 3 },
  ));

test("GOAWAY: streams that are open go on, new calls go over a new connection", () =>
  withPlane(async (plane) => {
    const names: string[] = [];
    plane.handle = (stream) => {
      stream.respond(OK);
      stream.write(profile("one"));
    };
    plane.client.call(
      { ...GetProfile, path: "/stream" },
      { path: "x" },
      { onMessage: (message) => names.push(message.fullyQualifiedName), onEnd: () => names.push("end") },
    );
    await until(() => names.length === 1);
    const [stream] = plane.streams;
    plane.sessions[0]!.goaway(0);
    plane.handle = (next) => finish(next, [profile("two")], { "grpc-status": "0" });
    await until(async () => (await plane.ask()).fullyQualifiedName === "two" && plane.connects === 2);
    stream!.write(profile("three"));
    await until(() => names.includes("three"));
    assert.equal(names, ["one", "three"]);
    stream!.end();
    await until(() => names.includes("end"));
  }));

test("GOAWAY on a full connection: calls that wait for room are made on a new one", () =>
  withPlane(
    async (plane) => {
      plane.handle = (stream) => stream.respond(OK);
      const held = failure(plane.ask());
      await until(() => plane.streams.length === 1);
      const waiting = plane.ask();
      plane.handle = (stream) => finish(stream, [profile("two")], { "grpc-status": "0" });
      plane.sessions[0]!.goaway(0);
      assert.is((await waiting).fullyQualifiedName, "two");
      assert.is(plane.connects, 2);
      plane.client.close();
      await held;
    },
    { maxConcurrentStreams: 1 },
  ));

test("a call that an older connection did not look at is made on the newer one that is there", () =>
  withPlane(async (plane) => {
    plane.handle = () => {};
    const asked = plane.ask();
    await until(() => plane.streams.length === 1);
    plane.sessions[0]!.goaway(0);
    plane.handle = (stream) => finish(stream, [profile("two")], { "grpc-status": "0" });
    await until(async () => (await plane.ask()).fullyQualifiedName === "two" && plane.connects === 2);
    plane.streams[0]!.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    assert.is((await asked).fullyQualifiedName, "two");
    assert.is(plane.connects, 2);
  }));

test("a cancelled call is heard of by the server, and of no more here", () =>
  withPlane(async (plane) => {
    let told = 0;
    plane.handle = (stream) => {
      stream.respond(OK);
      stream.write(frame(Buffer.alloc(0)));
    };
    const cancel = plane.client.call(
      Get,
      { path: "x" },
      { onMessage: (_: MessageOf<typeof Update>) => (told += 1), onEnd: () => (told += 10) },
    );
    await until(() => told === 1);
    cancel();
    await until(() => plane.streams[0]!.closed);
    assert.is(plane.streams[0]!.rstCode, http2.constants.NGHTTP2_CANCEL);
    await plane.client.unary(GetProfile, { path: "x" }, 20).catch(() => {});
    assert.is(told, 1);
  }));

test("closing fails what waits and what is open, and counts it", () =>
  withPlane(async (plane) => {
    plane.handle = (stream) => stream.respond(OK);
    const open = failure(plane.ask());
    await until(() => plane.streams.length === 1);
    plane.client.close();
    assert.is((await open).code, STATUS.CANCELLED);
    assert.is((await failure(plane.ask())).code, STATUS.UNAVAILABLE);
    const text = plane.registry.expose();
    assert.match(text, /^control_request_total\{addr="plane:1"\} 2$/m);
    assert.match(
      text,
      /^control_response_total\{addr="plane:1",grpc_status="1",classification="failure"\} 1$/m,
    );
    assert.match(text, /^control_connected\{addr="plane:1"\} 0$/m);
  }));

test("the server goes and comes back on its port: the next call is served", () =>
  withPlane(async (plane) => {
    await plane.ask();
    const { port } = plane.server.address() as AddressInfo;
    for (const session of plane.sessions) session.destroy();
    await new Promise<void>((resolve) => plane.server.close(() => resolve()));
    assert.is((await failure(plane.ask(15))).code, STATUS.DEADLINE_EXCEEDED);
    const late = plane.ask();
    await new Promise<void>((resolve) => plane.server.listen(port, "127.0.0.1", resolve));
    assert.is((await late).fullyQualifiedName, "a");
  }));

const offline = (clock: Clock, connect: () => Promise<Duplex>): GrpcClient =>
  new GrpcClient({
    authority: "plane:1",
    clock,
    log: createLogger({ level: "off" }),
    registry: new Registry(),
    connect,
  });

const nobody = { onMessage: () => {}, onEnd: () => {} };

test("a control plane that is away is met within three seconds of its return, after a minute within fifteen", async () => {
  const clock = new ManualClock();
  let connects = 0;
  const client = offline(clock, () => {
    connects += 1;
    return Promise.reject(new Error("queryA ENODATA"));
  });
  client.call(GetProfile, { path: "x" }, nobody);
  const delays: [at: number, ms: number][] = [];
  while (clock.now() < 180_000) {
    await until(() => !clock.idle);
    delays.push([clock.now(), clock.step()]);
  }
  assert.equal(
    delays.slice(0, 6).map(([, ms]) => ms),
    [125, 250, 500, 1_000, 2_000, 2_500],
  );
  assert.ok(delays.every(([at, ms]) => ms <= (at < 60_000 ? 3_000 : 15_000)));
  assert.ok(connects < 60, `${connects} connections in three minutes`);
  client.close();
});

test("a control plane that drops each connection is not stormed by callers who come one by one", async () => {
  const clock = new ManualClock();
  let connects = 0;
  const client = offline(clock, async () => {
    connects += 1;
    const socket = new PassThrough();
    setImmediate(() => socket.destroy());
    return socket;
  });
  for (let i = 0; i < 50; i += 1) {
    let ended = false;
    client.call(GetProfile, { path: "x" }, { onMessage: () => {}, onEnd: () => (ended = true) });
    await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
    if (i === 0) assert.ok(ended);
  }
  assert.is(connects, 1);
  client.close();
});

test("UNAVAILABLE sends the next calls to another connection, while other streams end on theirs", () =>
  withPlane(async (plane) => {
    const open: http2.ServerHttp2Stream[] = [];
    plane.handle = (stream) => {
      stream.respond(OK, { waitForTrailers: true });
      stream.write(profile(`on ${plane.sessions.indexOf(stream.session as http2.ServerHttp2Session)}`));
      open.push(stream);
    };
    const watch = () => {
      const seen: { names: string[]; ended: number | undefined } = { names: [], ended: undefined };
      plane.client.call(
        GetProfile,
        { path: "x" },
        {
          onMessage: ({ fullyQualifiedName }) => seen.names.push(fullyQualifiedName),
          onEnd: (error) => {
            seen.ended = error?.code ?? 0;
          },
        },
      );
      return seen;
    };
    const [first, second] = [watch(), watch()];
    await until(() => first.names.length + second.names.length === 2);
    const leave = (stream: http2.ServerHttp2Stream) => {
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(STATUS.UNAVAILABLE) }));
      stream.end();
    };
    leave(open[0]!);
    await until(() => first.ended === STATUS.UNAVAILABLE);
    const third = watch();
    await until(() => third.names.length === 1);
    assert.equal(third.names, ["on 1"]);
    open[1]!.write(profile("still"));
    await until(() => second.names.length === 2);
    assert.equal(second.names, ["on 0", "still"]);
    assert.is(plane.connects, 2);
    // The other replica is in trouble as well: a client that has just moved stays.
    leave(open[2]!);
    await until(() => third.ended === STATUS.UNAVAILABLE);
    const fourth = watch();
    await until(() => fourth.names.length === 1);
    assert.is(plane.connects, 2);
    leave(open[1]!);
    await until(() => second.ended === STATUS.UNAVAILABLE && plane.sessions[0]!.destroyed);
  }));

test.run();
