// The HTTP/2 machine against itself, in memory: every message arrives whole however the bytes are cut, and every
// broken rule ends what it must end and no more.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ConnectionOptions, Http2Connection } from "../../../src/proxy/http2/connection.ts";
import { CLIENT_PREFACE, ERROR, FLAG, SETTING, TYPE } from "../../../src/proxy/http2/frame.ts";
import { type Header, HpackEncoder } from "../../../src/proxy/http2/hpack.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../../../src/proxy/http2/stream.ts";
import {
  type Frame,
  Frames,
  frameOf,
  headerFrames,
  number32,
  settingsFrame,
} from "../../support/http2-frames.ts";

const test = suite("http2 connection");

const options = (side: "client" | "server", more: Partial<ConnectionOptions> = {}): ConnectionOptions => ({
  side,
  now: () => 0,
  streamWindow: 65_535,
  connectionWindow: 65_535,
  maxStreams: 100,
  ...more,
});

/** Keeps what a stream was told; consumes at once unless told otherwise. */
class Seen implements StreamHandler {
  headers: readonly Header[] | undefined;
  trailers: readonly Header[] | undefined;
  informational: (readonly Header[])[] = [];
  body: Buffer[] = [];
  complete = false;
  closed = false;
  error: Http2Failure | undefined;
  stream: Http2Stream | undefined;
  consume: (chunk: Buffer) => void = () => {};
  onComplete: () => void = () => {};

  onHeaders(headers: readonly Header[], end: boolean): void {
    this.headers = headers;
    if (end) this.#end();
  }
  onInformational(headers: readonly Header[]): void {
    this.informational.push(headers);
  }
  onData(chunk: Buffer, end: boolean): void {
    assert.not(this.complete);
    this.body.push(Buffer.from(chunk));
    this.consume(chunk);
    if (end) this.#end();
  }
  onTrailers(headers: readonly Header[]): void {
    this.trailers = headers;
    this.#end();
  }
  onClose(error: Http2Failure | undefined): void {
    assert.not(this.closed, "onClose comes once");
    this.closed = true;
    this.error = error;
  }
  #end(): void {
    this.complete = true;
    this.onComplete();
  }
}

/** One side and the bytes that it wrote. */
class Side {
  readonly connection: Http2Connection;
  readonly streams: Seen[] = [];
  out: Buffer[] = [];
  ended = false;
  failure: Http2Failure | undefined;

  constructor(given: ConnectionOptions, prepare: (seen: Seen, stream: Http2Stream) => void = () => {}) {
    this.connection = new Http2Connection(
      {
        write: (bytes) => this.out.push(bytes),
        onStream: (stream) => {
          const seen = new Seen();
          seen.stream = stream;
          seen.consume = (chunk) => this.connection.consume(stream, chunk.length);
          this.streams.push(seen);
          prepare(seen, stream);
          return seen;
        },
        onEnd: (failure) => {
          assert.not(this.ended, "onEnd comes once");
          this.ended = true;
          this.failure = failure;
        },
      },
      given,
    );
  }

  take(): Buffer {
    const bytes = Buffer.concat(this.out);
    this.out = [];
    return bytes;
  }

  /** Opens a stream and consumes what comes on it. */
  request(headers: readonly Header[], body?: Buffer, trailers?: readonly Header[]): Seen {
    const seen = new Seen();
    seen.consume = (chunk) => this.connection.consume(seen.stream!, chunk.length);
    this.connection.batch(() => {
      seen.stream = this.connection.open(headers, body === undefined && trailers === undefined, seen);
      if (body) this.connection.sendData(seen.stream, body, trailers === undefined);
      if (trailers) this.connection.sendHeaders(seen.stream, trailers, true);
    });
    return seen;
  }
}

/** Carries bytes both ways in pieces of the given sizes until both are silent. */
function carry(a: Side, b: Side, cuts: Iterator<number>): void {
  for (;;) {
    const [fromA, fromB] = [a.take(), b.take()];
    if (fromA.length + fromB.length === 0) return;
    for (const [bytes, to] of [
      [fromA, b],
      [fromB, a],
    ] as const) {
      for (let at = 0; at < bytes.length; ) {
        const size = Math.max(1, cuts.next().value ?? bytes.length);
        to.connection.receive(Buffer.from(bytes.subarray(at, at + size)));
        at += size;
      }
    }
  }
}

function* cycle(list: readonly number[]): Generator<number> {
  for (;;) {
    if (list.length === 0) yield 1_000_000;
    yield* list;
  }
}

const GET: readonly Header[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "web"],
];
const POST: readonly Header[] = [[":method", "POST"], ...GET.slice(1)];

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

test("a peer with small windows and no table is obeyed", () => {
  const client = new Side(options("client"));
  const sizes: number[] = [];
  const reader = new Frames();
  client.connection.receive(
    settingsFrame([
      [SETTING.INITIAL_WINDOW_SIZE, 10],
      [SETTING.HEADER_TABLE_SIZE, 0],
      [SETTING.MAX_CONCURRENT_STREAMS, 1],
    ]),
  );
  client.request(POST, bodyOf(25, 0));
  assert.not(client.connection.available);
  const data = () => {
    for (const { type, payload } of reader.push(client.take()))
      if (type === TYPE.DATA) sizes.push(payload.length);
    return sizes;
  };
  client.out[0] = client.out[0]!.subarray(CLIENT_PREFACE.length);
  assert.equal(data(), [10]);
  client.connection.receive(frameOf(TYPE.WINDOW_UPDATE, 0, 1, number32(4)));
  assert.equal(data(), [10, 4]);
  // A window may become negative (§6.9.2).
  client.connection.receive(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 0]]));
  client.connection.receive(frameOf(TYPE.WINDOW_UPDATE, 0, 1, number32(10)));
  assert.equal(data(), [10, 4]);
  client.connection.receive(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 100]]));
  assert.equal(data(), [10, 4, 11]);
});

// ---- broken rules ----

/** A raw peer: writes frames, reads ours. */
class Raw {
  readonly side: Side;
  readonly encoder = new HpackEncoder();
  readonly resets = new Map<number, number>();
  goAway: number | undefined;
  readonly frames: Frame[] = [];
  readonly #reader = new Frames();

  constructor(side: "client" | "server", more: Partial<ConnectionOptions> = {}) {
    // The name is of the side under test.
    this.side = new Side(options(side, more), (seen) => {
      seen.consume = () => {};
    });
    if (side === "server") this.send(CLIENT_PREFACE);
    else this.side.out[0] = this.side.out[0]!.subarray(CLIENT_PREFACE.length);
    this.send(settingsFrame([]));
  }

  send(...frames: Buffer[]): void {
    this.side.connection.receive(Buffer.concat(frames));
    this.read();
  }

  /** Reads what the side has written. */
  read(): void {
    for (const frame of this.#reader.push(this.side.take())) {
      const { type, stream, payload } = frame;
      this.frames.push(frame);
      if (type === TYPE.RST_STREAM) this.resets.set(stream, payload.readUInt32BE(0));
      if (type === TYPE.GOAWAY) this.goAway = payload.readUInt32BE(4);
    }
  }

  headers(id: number, list: readonly Header[], end: boolean): Buffer {
    return headerFrames(id, this.encoder.encode(list), end);
  }
}

const data = (id: number, body: string | Buffer, end = false) =>
  frameOf(TYPE.DATA, end ? FLAG.END_STREAM : 0, id, Buffer.from(body as string));

const connectionCases: [string, (raw: Raw) => Buffer[], number][] = [
  ["DATA on stream 0", () => [data(0, "x")], ERROR.PROTOCOL_ERROR],
  ["DATA on a stream that never was", () => [data(1, "x")], ERROR.PROTOCOL_ERROR],
  ["HEADERS of an even stream", (raw) => [raw.headers(2, GET, true)], ERROR.PROTOCOL_ERROR],
  [
    "HEADERS of a stream that ended",
    (raw) => [
      raw.headers(3, GET, true),
      frameOf(TYPE.RST_STREAM, 0, 3, number32(8)),
      raw.headers(3, GET, true),
    ],
    ERROR.STREAM_CLOSED,
  ],
  [
    "HEADERS of an older stream",
    (raw) => [raw.headers(5, GET, true), raw.headers(3, GET, true)],
    ERROR.STREAM_CLOSED,
  ],
  [
    "a header block interrupted",
    () => [frameOf(TYPE.HEADERS, 0, 1, Buffer.from("82", "hex")), frameOf(TYPE.PING, 0, 0, Buffer.alloc(8))],
    ERROR.PROTOCOL_ERROR,
  ],
  ["CONTINUATION of nothing", () => [frameOf(TYPE.CONTINUATION, 4, 1)], ERROR.PROTOCOL_ERROR],
  [
    "CONTINUATION flood",
    () => [
      frameOf(TYPE.HEADERS, 0, 1),
      ...Array.from({ length: 100 }, () => frameOf(TYPE.CONTINUATION, 0, 1)),
    ],
    ERROR.ENHANCE_YOUR_CALM,
  ],
  [
    "a block that is no HPACK",
    () => [frameOf(TYPE.HEADERS, 4, 1, Buffer.from("80", "hex"))],
    ERROR.COMPRESSION_ERROR,
  ],
  ["PUSH_PROMISE", () => [frameOf(TYPE.PUSH_PROMISE, 4, 1)], ERROR.PROTOCOL_ERROR],
  ["SETTINGS on a stream", () => [frameOf(TYPE.SETTINGS, 0, 1)], ERROR.PROTOCOL_ERROR],
  ["SETTINGS of a wrong size", () => [frameOf(TYPE.SETTINGS, 0, 0, Buffer.alloc(5))], ERROR.FRAME_SIZE_ERROR],
  [
    "SETTINGS ACK with content",
    () => [frameOf(TYPE.SETTINGS, 1, 0, Buffer.alloc(6))],
    ERROR.FRAME_SIZE_ERROR,
  ],
  [
    "a window setting too large",
    () => [settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 2 ** 31]])],
    ERROR.FLOW_CONTROL_ERROR,
  ],
  ["ENABLE_PUSH of 2", () => [settingsFrame([[SETTING.ENABLE_PUSH, 2]])], ERROR.PROTOCOL_ERROR],
  ["MAX_FRAME_SIZE too small", () => [settingsFrame([[SETTING.MAX_FRAME_SIZE, 100]])], ERROR.PROTOCOL_ERROR],
  ["PING of a wrong size", () => [frameOf(TYPE.PING, 0, 0, Buffer.alloc(7))], ERROR.FRAME_SIZE_ERROR],
  ["PING on a stream", () => [frameOf(TYPE.PING, 0, 1, Buffer.alloc(8))], ERROR.PROTOCOL_ERROR],
  [
    "PING flood",
    () => Array.from({ length: 6_000 }, () => frameOf(TYPE.PING, 0, 0, Buffer.alloc(8))),
    ERROR.ENHANCE_YOUR_CALM,
  ],
  ["SETTINGS flood", () => Array.from({ length: 1_000 }, () => settingsFrame([])), ERROR.ENHANCE_YOUR_CALM],
  [
    "rapid reset",
    (raw) =>
      Array.from({ length: 500 }, (_, i) => [
        raw.headers(2 * i + 1, GET, true),
        frameOf(TYPE.RST_STREAM, 0, 2 * i + 1, number32(8)),
      ]).flat(),
    ERROR.ENHANCE_YOUR_CALM,
  ],
  [
    "making us reset",
    (raw) =>
      Array.from({ length: 500 }, (_, i) => [
        raw.headers(2 * i + 1, GET, false),
        frameOf(TYPE.WINDOW_UPDATE, 0, 2 * i + 1, number32(0)),
      ]).flat(),
    ERROR.ENHANCE_YOUR_CALM,
  ],
  [
    "empty DATA flood",
    (raw) => [raw.headers(1, POST, false), ...Array.from({ length: 11_000 }, () => data(1, ""))],
    ERROR.ENHANCE_YOUR_CALM,
  ],
  [
    "PRIORITY flood",
    () => Array.from({ length: 11_000 }, () => frameOf(TYPE.PRIORITY, 0, 1, Buffer.alloc(5))),
    ERROR.ENHANCE_YOUR_CALM,
  ],
  ["WINDOW_UPDATE of nothing", () => [frameOf(TYPE.WINDOW_UPDATE, 0, 0, number32(0))], ERROR.PROTOCOL_ERROR],
  [
    "WINDOW_UPDATE beyond 2^31",
    () => [frameOf(TYPE.WINDOW_UPDATE, 0, 0, number32(0x7fff_ffff))],
    ERROR.FLOW_CONTROL_ERROR,
  ],
  [
    "RST_STREAM of a stream that never was",
    () => [frameOf(TYPE.RST_STREAM, 0, 7, number32(8))],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "padding longer than the frame",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.DATA, FLAG.PADDED, 1, Buffer.from([9, 1]))],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a frame too large",
    () => [Buffer.from("ffffff0000000000 01".replace(" ", ""), "hex")],
    ERROR.FRAME_SIZE_ERROR,
  ],
  [
    "more data than the connection has room for",
    (raw) => [
      raw.headers(1, POST, false),
      raw.headers(3, POST, false),
      ...Array.from({ length: 3 }, () => data(1, Buffer.alloc(16_384))),
      ...Array.from({ length: 3 }, () => data(3, Buffer.alloc(16_384))),
    ],
    ERROR.FLOW_CONTROL_ERROR,
  ],
];

for (const [name, frames, code] of connectionCases) {
  test(`a server ends the connection: ${name}`, () => {
    const raw = new Raw("server");
    raw.send(...frames(raw));
    assert.is(raw.goAway, code);
    assert.is(raw.side.failure?.code, code);
    for (const seen of raw.side.streams) assert.ok(seen.closed);
  });
}

const streamCases: [string, (raw: Raw) => Buffer[], number][] = [
  ["no method", (raw) => [raw.headers(1, GET.slice(1), true)], ERROR.PROTOCOL_ERROR],
  ["a capital in a name", (raw) => [raw.headers(1, [...GET, ["X-A", "1"]], true)], ERROR.PROTOCOL_ERROR],
  [
    "connection: close",
    (raw) => [raw.headers(1, [...GET, ["connection", "close"]], true)],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a body shorter than announced",
    (raw) => [raw.headers(1, [...POST, ["content-length", "5"]], false), data(1, "abc", true)],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a body longer than announced",
    (raw) => [raw.headers(1, [...POST, ["content-length", "2"]], false), data(1, "abc")],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "no body though announced",
    (raw) => [raw.headers(1, [...POST, ["content-length", "2"]], true)],
    ERROR.PROTOCOL_ERROR,
  ],
  ["data after the end", (raw) => [raw.headers(1, GET, true), data(1, "x")], ERROR.STREAM_CLOSED],
  [
    "headers in the middle",
    (raw) => [raw.headers(1, POST, false), raw.headers(1, [["a", "b"]], false)],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a pseudo-header in trailers",
    (raw) => [raw.headers(1, POST, false), raw.headers(1, [[":path", "/"]], true)],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a window update of nothing",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.WINDOW_UPDATE, 0, 1, number32(0))],
    ERROR.PROTOCOL_ERROR,
  ],
  [
    "a window update beyond 2^31",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.WINDOW_UPDATE, 0, 1, number32(0x7fff_ffff))],
    ERROR.FLOW_CONTROL_ERROR,
  ],
  [
    "a header list too large",
    (raw) => [raw.headers(1, [...GET, ["x-big", "a".repeat(20_000)]], true)],
    ERROR.ENHANCE_YOUR_CALM,
  ],
];

for (const [name, frames, code] of streamCases) {
  test(`a server ends the stream alone: ${name}`, () => {
    const raw = new Raw("server");
    raw.send(...frames(raw));
    assert.is(raw.resets.get(1), code);
    assert.not(raw.side.ended);
    // Late frames of a stream that we reset are forgiven, and the next request is served.
    raw.send(frameOf(TYPE.WINDOW_UPDATE, 0, 1, number32(5)), data(1, "late"), raw.headers(3, GET, true));
    assert.not(raw.side.ended);
    assert.equal(raw.side.streams.at(-1)!.headers, GET);
  });
}

test("a server bounds the streams of a client, and what came to nobody leaves the tables in step", () => {
  const raw = new Raw("server", { maxStreams: 2 });
  for (const id of [1, 3]) raw.send(raw.headers(id, GET, true));
  raw.send(raw.headers(5, [...GET, ["x-new", "value"]], true));
  assert.is(raw.resets.get(5), ERROR.REFUSED_STREAM);
  raw.side.connection.sendHeaders(raw.side.streams[0]!.stream!, [[":status", "200"]], true);
  raw.send(raw.headers(7, [...GET, ["x-new", "value"]], true));
  assert.equal(raw.side.streams.at(-1)!.headers!.at(-1), ["x-new", "value"]);
});

test("a server takes only the preface of a client, and only SETTINGS first", () => {
  for (const [bytes, why] of [
    [Buffer.from("GET / HTTP/1.1\r\n\r\n"), /not the preface/],
    [Buffer.concat([CLIENT_PREFACE, frameOf(TYPE.PING, 0, 0, Buffer.alloc(8))]), /not SETTINGS/],
  ] as const) {
    const side = new Side(options("server"));
    for (const byte of bytes) side.connection.receive(Buffer.from([byte]));
    assert.match(String(side.failure?.message), why);
  }
});

test("a client refuses what only clients may do, and answers that are none", () => {
  const began = new Raw("client");
  began.send(began.headers(2, GET, true));
  assert.is(began.goAway, ERROR.PROTOCOL_ERROR);
  for (const list of [[["x", "y"]], [[":status", "2000"]], [[":status", "101"]]] as Header[][]) {
    const raw = new Raw("client");
    const seen = raw.side.request(GET);
    raw.send(raw.headers(1, list, false));
    assert.is(seen.error?.code, ERROR.PROTOCOL_ERROR);
    assert.not(raw.side.ended);
  }
  const early = new Raw("client");
  const seen = early.side.request(GET);
  early.send(data(1, "x"));
  assert.is(seen.error?.code, ERROR.PROTOCOL_ERROR);
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

test.run();
