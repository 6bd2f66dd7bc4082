// The gRPC server against a real HTTP/2 client: statuses, limits, deadlines, slow subscribers, the end.
import { connect } from "node:http2";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../src/api/codec.ts";
import { encode } from "../../src/api/codec.ts";
import { Get, GetDestination, type Update } from "../../src/api/destination.ts";
import { frame } from "../../src/api/grpc-frame.ts";
import { GrpcError, STATUS } from "../../src/api/grpc-status.ts";
import { Certify, CertifyRequest } from "../../src/api/identity.ts";
import { GrpcServer, type GrpcServerOptions, type Sender } from "../../src/controller/grpc-server.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { ManualClock } from "../support/clock.ts";
import { TestGrpcClient } from "../support/grpc-client.ts";
import { until } from "../support/until.ts";

const test = suite("grpc server");

type UpdateSender = Sender<MessageOf<typeof Update>>;

interface Rig {
  readonly server: GrpcServer;
  readonly client: TestGrpcClient;
  readonly registry: Registry;
  readonly port: number;
  /** Subscribers of Get, in order. */
  readonly senders: UpdateSender[];
}

/** A server whose Get keeps its subscribers, and whose Certify answers with the token or as the token says. */
async function withServer(
  run: (rig: Rig) => Promise<void>,
  options: Partial<GrpcServerOptions> = {},
): Promise<void> {
  const registry = new Registry();
  const server = new GrpcServer({ log: createLogger({ level: "off" }), registry, ...options });
  const senders: UpdateSender[] = [];
  server.stream(Get, (request, sender) => {
    if (request.path === "broken") throw new Error("a secret of ours");
    if (request.path === "refused") throw new GrpcError(STATUS.NOT_FOUND, "nö: 50 %\n");
    senders.push(sender);
    sender.send({ noEndpoints: { exists: true } });
  });
  server.unary(Certify, async ({ token }) => {
    const text = token.toString();
    if (text === "never") await new Promise(() => {});
    if (text === "long")
      throw new GrpcError(STATUS.FAILED_PRECONDITION, `${"x".repeat(999)}\u{1f600}${"y".repeat(99_999)}`);
    return { leafCertificate: token };
  });
  const port = await server.listen(0, "127.0.0.1");
  const client = new TestGrpcClient(port);
  try {
    await run({ server, client, registry, port, senders });
  } finally {
    client.close();
    await server.close();
  }
}

test("a unary call has one answer and status 0", () =>
  withServer(async ({ client, registry }) => {
    const call = client.call(Certify, { token: Buffer.from("hello") });
    assert.is(await call.end(), STATUS.OK);
    assert.equal(
      call.messages.map((m) => m.leafCertificate.toString()),
      ["hello"],
    );
    assert.match(registry.expose(), /grpc_server_handled_total\{method="Certify",code="0"\} 1/);
  }));

test("refusals carry code and message; our own faults say nothing", () =>
  withServer(async ({ client }) => {
    const refused = client.call(Get, { path: "refused" });
    assert.is(await refused.end(), STATUS.NOT_FOUND);
    assert.is(refused.text, "nö: 50 %\n");
    const broken = client.call(Get, { path: "broken" });
    assert.is(await broken.end(), STATUS.INTERNAL);
    assert.is(broken.text, "internal error");
    const long = client.call(Certify, { token: Buffer.from("long") });
    assert.is(await long.end(), STATUS.FAILED_PRECONDITION);
    assert.is(long.text.length, 1_000);
  }));

test("what is no call of ours is refused: method, content type, bytes, size, compression, nothing", () =>
  withServer(async ({ client }) => {
    const body = (bytes: Buffer) => client.raw(Get.path, bytes).end();
    assert.is(await client.raw("/x.Y/Z", frame(Buffer.alloc(0))).end(), STATUS.UNIMPLEMENTED);
    assert.is(await body(frame(Buffer.from([0xff, 0xff, 0xff]))), STATUS.INVALID_ARGUMENT);
    assert.is(await body(Buffer.alloc(0)), STATUS.INVALID_ARGUMENT);
    assert.is(await body(frame(Buffer.alloc(70 * 1024))), STATUS.RESOURCE_EXHAUSTED);
    const compressed = frame(encode(GetDestination, { path: "a" }));
    compressed[0] = 1;
    assert.is(await body(compressed), STATUS.RESOURCE_EXHAUSTED);
    const plain = client.raw(Get.path, Buffer.alloc(0), { "content-type": "text/plain" });
    let http = 0;
    plain.stream.on("response", (headers) => {
      http = headers[":status"]!;
    });
    await plain.end();
    assert.is(http, 415);
  }));

test("a request may come byte by byte, and one that stops coming is given up", async () => {
  const clock = new ManualClock();
  await withServer(
    async ({ client }) => {
      const begin = () =>
        client.session.request({
          ":method": "POST",
          ":path": Certify.path,
          "content-type": "application/grpc",
        });
      const bytes = frame(encode(CertifyRequest, { token: Buffer.from("slowly") }));
      const whole = begin();
      const status = new Promise((resolve) => whole.on("trailers", (t) => resolve(t["grpc-status"])));
      whole.resume();
      for (const byte of bytes) {
        whole.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.is(await status, "0");
      const half = begin();
      let answer: unknown;
      half.on("response", (headers) => {
        answer = headers["grpc-status"];
      });
      half.write(bytes.subarray(0, 7));
      await until(() => {
        clock.advance(1_000);
        return answer !== undefined;
      });
      assert.is(answer, String(STATUS.DEADLINE_EXCEEDED));
    },
    { clock },
  );
});

test("a deadline ends calls of both kinds, and the subscriber is let go", () =>
  withServer(async ({ client, senders }) => {
    const timeout = { "grpc-timeout": "50m" };
    assert.is(
      await client.call(Certify, { token: Buffer.from("never") }, timeout).end(),
      STATUS.DEADLINE_EXCEEDED,
    );
    assert.is(await client.call(Get, { path: "a" }, timeout).end(), STATUS.DEADLINE_EXCEEDED);
    assert.ok(senders[0]!.closed);
  }));

test("a subscriber that does not read is cut, and others are not", () =>
  withServer(
    async ({ client, senders, registry }) => {
      const slow = client.call(Get, { path: "slow" });
      await slow.message(0);
      slow.stream.pause();
      const quick = client.call(Get, { path: "quick" });
      await quick.message(0);
      const update = { add: { addrs: [], metricLabels: { filler: "x".repeat(10_000) } } };
      let sent = 1;
      while (!senders[0]!.closed && sent < 1_000) {
        for (const sender of senders) sender.send(update);
        sent += 1;
        await quick.message(sent - 1);
      }
      assert.ok(senders[0]!.closed);
      assert.not(senders[1]!.closed);
      assert.match(registry.expose(), /grpc_server_streams_cut_total\{method="Get"\} 1/);
    },
    { maxQueued: 100_000 },
  ));

test("a caller that goes away is let go", () =>
  withServer(async ({ client, senders, registry }) => {
    const call = client.call(Get, { path: "a" });
    await call.message(0);
    let closed = false;
    senders[0]!.whenClosed(() => {
      closed = true;
    });
    call.cancel();
    await until(() => closed);
    assert.ok(senders[0]!.closed);
    assert.match(registry.expose(), /grpc_server_streams\{method="Get"\} 0/);
  }));

test("at the end streams are told to go elsewhere, and new calls are not taken", async () => {
  await withServer(async ({ server, client }) => {
    const stream = client.call(Get, { path: "a" });
    await stream.message(0);
    let goaway = false;
    client.session.on("goaway", () => {
      goaway = true;
    });
    await server.close();
    assert.is(await stream.end(), STATUS.UNAVAILABLE);
    await until(() => goaway || client.session.closed);
  });
});

test("a handover: GOAWAY first, streams end one after another, what still comes is served, and all is over in time", () => {
  const clock = new ManualClock();
  return withServer(
    async ({ server, client, port, senders, registry }) => {
      const streams = Array.from({ length: 40 }, (_, index) => client.call(Get, { path: `s${index}` }));
      for (const stream of streams) await stream.message(0);
      const ended = () => streams.filter(({ status }) => status !== undefined).length;
      let goaways = 0;
      client.session.on("goaway", (code, last) => {
        assert.is(code, 0);
        if (goaways === 0) assert.is(last, 2 ** 31 - 1);
        goaways += 1;
      });
      const drained = server.drain();
      await until(() => goaways > 0);
      assert.is(ended(), 0, "first the notice");
      assert.match(registry.expose(), /grpc_server_draining 1/);
      senders[0]!.send({ noEndpoints: { exists: false } });
      await streams[0]!.message(1);

      await clock.advance(500);
      await until(() => ended() >= 18);
      assert.ok(ended() <= 24, `${ended()} of 40 at half-time`);
      // As one that did not hear of it yet, or has found no other replica.
      const late = new TestGrpcClient(port);
      const stream = late.call(Get, { path: "late" });
      await stream.message(0);
      assert.is(await late.call(Certify, { token: Buffer.from("late") }).end(), STATUS.OK);

      await clock.advance(500);
      await drained;
      await until(() => ended() === 40);
      assert.ok(streams.every(({ status }) => status === STATUS.UNAVAILABLE));
      assert.match(streams[7]!.text, /is leaving: ask another/);
      assert.is(await stream.end(), STATUS.UNAVAILABLE);
      late.close();
    },
    { clock },
  );
});

test("a handover of many streams takes longer, with a bound, and of none no time", async () => {
  const clock = new ManualClock();
  await withServer(async ({ server }) => server.drain(), { clock });
  await withServer(
    async ({ server, client, senders }) => {
      for (let at = 0; at < 3_000; at += 1) client.call(Get, { path: "x" });
      await until(() => senders.length === 3_000);
      const open = () => senders.filter(({ closed }) => !closed).length;
      let over = false;
      const drained = server.drain().then(() => {
        over = true;
      });
      for (const left of [2_700, 2_400, 2_100]) {
        await clock.advance(1_000);
        assert.ok(Math.abs(open() - left) <= 60, `${open()} are open, not about ${left}`);
      }
      assert.not(over);
      await clock.advance(7_000);
      await drained;
      assert.is(open(), 0);
    },
    { clock },
  );
});

test("messages that are sent, and those that wait for a slow subscriber, are counted", () =>
  withServer(async ({ client, senders, registry }) => {
    const slow = client.call(Get, { path: "slow" });
    await slow.message(0);
    slow.stream.pause();
    for (let at = 0; at < 100; at += 1)
      senders[0]!.send({ add: { addrs: [], metricLabels: { filler: "x".repeat(10_000), at: String(at) } } });
    const value = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(registry.expose())?.[1]);
    assert.match(registry.expose(), /grpc_server_messages_sent_total\{method="Get"\} 101/);
    await until(() => value("grpc_server_queued_bytes") > 100_000);
    assert.is(value("grpc_server_queued_bytes_max"), value("grpc_server_queued_bytes"));
    slow.stream.resume();
    await until(() => value("grpc_server_queued_bytes") === 0);
  }));

test("connections beyond the limit are refused while the first goes on", () =>
  withServer(
    async ({ client, port }) => {
      assert.is(await client.call(Certify, { token: Buffer.from("a") }).end(), STATUS.OK);
      const second = connect(`http://127.0.0.1:${port}`);
      let closed = false;
      second.on("error", () => {});
      second.on("close", () => {
        closed = true;
      });
      await until(() => closed);
      assert.is(await client.call(Certify, { token: Buffer.from("b") }).end(), STATUS.OK);
    },
    { maxConnections: 1 },
  ));

test.run();
