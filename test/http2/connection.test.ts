// The HTTP/2 machine against itself, in memory: every message arrives whole however the bytes are cut, within the
// windows of both sides.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Http2Connection } from "../../src/http2/connection.ts";
import { CLIENT_PREFACE, ERROR, TYPE } from "../../src/http2/frame.ts";
import { type Header, HpackEncoder } from "../../src/http2/hpack.ts";
import { SETTING } from "../../src/http2/settings.ts";
import type { Http2Failure, StreamHandler } from "../../src/http2/stream.ts";
import { frameOf, headerFrames, number32, settingsFrame } from "../support/http2-frames.ts";
import { carry, cycle, GET, options, POST, Seen, Side } from "../support/http2-machine.ts";

const test = suite("http2 connection");

const fieldName = fc.stringMatching(/^x-[a-z0-9]{1,12}$/);
const fieldValue = fc.stringMatching(/^([!-~]([ -~]{0,40}[!-~])?)?$/);
const fields = fc.array(fc.tuple(fieldName, fieldValue) as fc.Arbitrary<Header>, { maxLength: 8 });
const part = fc.record({
  fields,
  size: fc.oneof(fc.constant(0), fc.nat(300), fc.integer({ min: 60_000, max: 200_000 })),
  trailers: fc.option(fields, { nil: undefined }),
});

const bodyOf = (size: number, salt: number): Buffer => {
  const body = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i += 1) body[i] = (i * 31 + salt) & 0xff;
  return body;
};

test("requests and responses of all sizes, many at once, arrive whole however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(part, part), { minLength: 1, maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 40_000 }), { maxLength: 20 }),
      (exchanges, sizes) => {
        const server = new Side(options("server"), (seen, stream) => {
          const number = server.streams.length - 1;
          seen.onComplete = () => {
            const { fields: own, size, trailers } = exchanges[number]![1];
            const { connection } = server;
            connection.sendHeaders(stream, [[":status", "200"], ...own], false);
            connection.sendData(stream, bodyOf(size, number), trailers === undefined);
            if (trailers) connection.sendHeaders(stream, trailers, true);
          };
        });
        const client = new Side(options("client"));
        const sent = exchanges.map(([{ fields: own, size, trailers }], i) =>
          client.request([...POST, ...own], bodyOf(size, i), trailers),
        );
        carry(client, server, cycle(sizes));
        exchanges.forEach(([request, response], i) => {
          const [there, back] = [server.streams[i]!, sent[i]!];
          assert.equal(there.headers, [...POST, ...request.fields]);
          assert.ok(Buffer.concat(there.body).equals(bodyOf(request.size, i)));
          assert.equal(there.trailers, request.trailers);
          assert.equal(back.headers, [[":status", "200"], ...response.fields]);
          assert.ok(Buffer.concat(back.body).equals(bodyOf(response.size, i)));
          assert.equal(back.trailers, response.trailers);
          assert.ok(there.closed && back.closed && !there.error && !back.error);
        });
        assert.is(client.connection.active, 0);
        assert.not(client.ended);
        assert.not(server.ended);
      },
    ),
    { numRuns: 60 },
  );
});

test("a receiver that does not consume is not sent more than its windows, and the rest once it does", () => {
  const server = new Side(options("server"), (seen) => {
    seen.consume = () => {};
  });
  const client = new Side(options("client"));
  const [one, two] = [client.request(POST, bodyOf(50_000, 1)), client.request(POST, bodyOf(50_000, 2))];
  carry(client, server, cycle([]));
  const size = (seen: Seen) => seen.body.reduce((sum, chunk) => sum + chunk.length, 0);
  const [first, second] = [server.streams[0]!, server.streams[1]!];
  assert.is(size(first) + size(second), 65_535);
  server.connection.consume(first.stream!, size(first));
  carry(client, server, cycle([]));
  assert.is(size(first) + size(second), 100_000);
  assert.ok(first.complete && second.complete);
  assert.not(one.closed || two.closed);
});

/** What the peer may have on its way, as the WINDOW_UPDATEs of the stream in `bytes` raise it. */
function grantsOf(bytes: Buffer, id: number): number[] {
  const grants: number[] = [];
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === 8 && bytes.readUInt32BE(at + 5) === id) grants.push(bytes.readUInt32BE(at + 9));
  }
  return grants;
}

for (const { name, size, announced, grants } of [
  {
    name: "the end of a body that is all on its way asks for no room",
    size: 60_000,
    announced: true,
    grants: 0,
  },
  { name: "a body of unknown length is given new room at half", size: 80_000, announced: false, grants: 1 },
  // 32 of them with a window that stays at 64 KiB.
  { name: "the window grows while all that comes is consumed", size: 1_048_576, announced: true, grants: 5 },
]) {
  test(`room on a stream: ${name}`, () => {
    const length: Header[] = announced ? [["content-length", String(size)]] : [];
    const server = new Side(options("server"), (_seen, stream) => {
      server.connection.sendHeaders(stream, [[":status", "200"], ...length], false);
      server.connection.sendData(stream, bodyOf(size, 1), true);
    });
    const client = new Side(options("client", { connectionWindow: 8 << 20 }));
    const seen = client.request(GET);
    const given: number[] = [];
    for (let bytes = client.take(); bytes.length > 0; bytes = client.take()) {
      // The preface is no frame.
      given.push(...grantsOf(bytes.subarray(bytes[0] === 0x50 ? CLIENT_PREFACE.length : 0), seen.stream!.id));
      server.connection.receive(bytes);
      client.connection.receive(server.take());
    }
    assert.is(Buffer.concat(seen.body).length, size);
    assert.is(given.length, grants, given.join());
    assert.ok(given.every((grant) => grant <= 768 * 1024));
  });
}

test("streams that wait for the connection's window get their turns", () => {
  const server = new Side(options("server"), (seen) => {
    seen.consume = () => {};
  });
  const client = new Side(options("client"));
  for (let i = 0; i < 4; i += 1) client.request(POST, bodyOf(60_000, i));
  carry(client, server, cycle([]));
  // The first took the connection's whole window; as it is consumed, all of them move.
  server.connection.consume(server.streams[0]!.stream!, 60_000);
  carry(client, server, cycle([]));
  for (const seen of server.streams) assert.ok(seen.body.length > 0);
});

test("data of a stream that was dropped does not lessen the others' room", () => {
  const server = new Side(options("server"), (seen) => {
    seen.consume = () => {};
  });
  const client = new Side(options("client"));
  for (let i = 0; i < 20; i += 1) {
    client.request(POST, bodyOf(60_000, i));
    carry(client, server, cycle([]));
    server.connection.reset(server.streams.at(-1)!.stream!, ERROR.CANCEL);
    carry(client, server, cycle([]));
    assert.ok(server.streams.at(-1)!.body.length > 0, `stream ${i} had room`);
  }
});

test("sendData says when the queue is full, and onDrain when it is empty", () => {
  const server = new Side(options("server"), (seen) => {
    seen.consume = () => {};
  });
  const client = new Side(options("client"));
  const seen = client.request(POST, undefined, undefined);
  assert.ok(seen.stream!.localEnded);
  let drained = 0;
  const handler: StreamHandler = Object.assign(new Seen(), { onDrain: () => (drained += 1) });
  const stream = client.connection.open(POST, false, handler);
  assert.is(client.connection.sendData(stream, bodyOf(1_000, 0), false), true);
  assert.is(client.connection.sendData(stream, bodyOf(100_000, 0), false), false);
  carry(client, server, cycle([]));
  assert.is(drained, 0);
  server.connection.consume(server.streams[1]!.stream!, 65_535);
  carry(client, server, cycle([]));
  assert.is(drained, 1);
});

test("goAway serves what was under way, refuses what comes after the client has seen it, then ends both sides", () => {
  const server = new Side(options("server"));
  const client = new Side(options("client"));
  const seen = client.request(GET);
  carry(client, server, cycle([]));
  server.connection.goAway();
  const underWay = client.request(GET);
  // What the client said before it saw the first GOAWAY is served.
  server.connection.receive(client.take());
  assert.is(server.streams.length, 2);
  carry(client, server, cycle([]));
  assert.not(client.connection.available);
  assert.not(client.connection.lasting);
  for (const { stream } of server.streams) server.connection.sendHeaders(stream!, [[":status", "204"]], true);
  carry(client, server, cycle([]));
  assert.ok(seen.complete && !seen.error && underWay.complete && !underWay.error);
  assert.ok(server.ended && client.ended && !server.failure && !client.failure);
});

test("goAway called again does not wait for the client", () => {
  const server = new Side(options("server"));
  const client = new Side(options("client"));
  const seen = client.request(GET);
  carry(client, server, cycle([]));
  server.connection.goAway();
  server.connection.goAway();
  const late = client.request(GET);
  carry(client, server, cycle([]));
  assert.ok(late.closed && late.error?.unprocessed, "the client knows that it may send it elsewhere");
  server.connection.sendHeaders(server.streams[0]!.stream!, [[":status", "204"]], true);
  carry(client, server, cycle([]));
  assert.ok(seen.complete && !seen.error);
  assert.ok(server.ended && client.ended && !server.failure && !client.failure);
});

test("informational responses come before the headers; HEAD and 304 may announce a length without a body", () => {
  const server = new Side(options("server"));
  const client = new Side(options("client"));
  const head = client.request([[":method", "HEAD"], ...GET.slice(1)]);
  const cached = client.request(GET);
  carry(client, server, cycle([]));
  const { connection } = server;
  const [first, second] = server.streams.map((seen) => seen.stream!);
  connection.sendHeaders(
    first!,
    [
      [":status", "103"],
      ["link", "</x>"],
    ],
    false,
  );
  connection.sendHeaders(
    first!,
    [
      [":status", "200"],
      ["content-length", "5"],
    ],
    true,
  );
  connection.sendHeaders(
    second!,
    [
      [":status", "304"],
      ["content-length", "5"],
    ],
    true,
  );
  carry(client, server, cycle([3]));
  assert.equal(head.informational, [
    [
      [":status", "103"],
      ["link", "</x>"],
    ],
  ]);
  assert.ok(head.complete && !head.error && cached.complete && !cached.error);
});

test("whatever bytes come, the machine does not throw, and ends at most once", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<"client" | "server">("client", "server"),
      fc.array(
        fc.oneof(
          fc
            .tuple(fc.nat(11), fc.nat(255), fc.nat(6), fc.uint8Array({ maxLength: 40 }))
            .map(([t, f, s, p]) => frameOf(t, f, s, p)),
          fc.uint8Array({ maxLength: 20 }).map((b) => Buffer.from(b)),
          fc.constant(headerFrames(1, new HpackEncoder().encode(GET), false)),
        ),
        { maxLength: 30 },
      ),
      (side, frames) => {
        const raw = new Side(options(side));
        if (side === "server") raw.connection.receive(CLIENT_PREFACE);
        raw.connection.receive(settingsFrame([]));
        const seen = side === "client" ? raw.request(POST, Buffer.alloc(100)) : undefined;
        for (const frame of frames) raw.connection.receive(frame);
        raw.connection.abort({ name: "x", message: "gone", code: 0, unprocessed: false } as Http2Failure);
        assert.ok(raw.ended);
        for (const stream of [...raw.streams, ...(seen ? [seen] : [])]) assert.ok(stream.closed);
      },
    ),
    { numRuns: 500 },
  );
});

test("while the socket sends, memory of what was written stays as it is; once it has drained, it is used again", () => {
  const written: Buffer[] = [];
  const copies: Buffer[] = [];
  let waits = true;
  const client = new Http2Connection(
    {
      write: (bytes) => {
        written.push(bytes);
        copies.push(Buffer.from(bytes));
      },
      taken: () => !waits,
      drains: () => true,
      onStream: () => new Seen(),
      onEnd: () => {},
    },
    options("client"),
  );
  client.receive(
    Buffer.concat([
      settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 10_000_000]]),
      frameOf(TYPE.WINDOW_UPDATE, 0, 0, number32(10_000_000)),
    ]),
  );
  const stream = client.open(POST, false, new Seen());
  const pages = () => new Set(written.map(({ buffer }) => buffer)).size;
  const before = pages();
  for (let i = 0; i < 10; i += 1) client.sendData(stream, bodyOf(60_000, i), false);
  const held = pages() - before;
  assert.ok(held >= 9, `${held} pages for ten bodies that wait`);
  for (const [i, bytes] of written.entries()) assert.is(bytes.compare(copies[i]!), 0, `write ${i}`);
  for (let i = 0; i < 50; i += 1) {
    waits = false;
    client.drained();
    waits = true;
    client.sendData(stream, bodyOf(60_000, i), false);
  }
  assert.ok(pages() - before <= held + 1, `${pages() - before} pages for one body at a time after them`);
});

test.run();
