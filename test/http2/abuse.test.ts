// Peers that mean harm, or might as well: each sends what an attack sends, and is stopped before it costs us much more
// than it costs the peer. And those that only look like it are served.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CLIENT_PREFACE, ERROR, FLAG, TYPE } from "../../src/http2/frame.ts";
import type { Header } from "../../src/http2/hpack.ts";
import { SETTING } from "../../src/http2/settings.ts";
import { frameOf, headerFrames, number32, settingsFrame } from "../support/http2-frames.ts";
import { data, GET, options, POST, Raw, type Seen, Side } from "../support/http2-machine.ts";

const test = suite("http2 abuse");

const rst = (id: number): Buffer => frameOf(TYPE.RST_STREAM, 0, id, number32(ERROR.CANCEL));
const grant = (id: number, increment: number): Buffer =>
  frameOf(TYPE.WINDOW_UPDATE, 0, id, number32(increment));
const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));
/** A stream after the other, each with some frames. */
const streams = (count: number, make: (id: number) => Buffer[]): Buffer[] =>
  times(count, (index) => make(2 * index + 1)).flat();

const FLOODS: [name: string, send: (raw: Raw) => Buffer[]][] = [
  ["rapid reset (CVE-2023-44487)", (raw) => streams(500, (id) => [raw.headers(id, GET, true), rst(id)])],
  [
    "made you reset (CVE-2025-8671): window updates of nothing",
    (raw) => streams(500, (id) => [raw.headers(id, GET, true), grant(id, 0)]),
  ],
  [
    "made you reset: windows beyond their limit",
    (raw) => streams(500, (id) => [raw.headers(id, GET, true), grant(id, 0x7fff_ffff)]),
  ],
  [
    "made you reset: data after the end",
    (raw) => streams(500, (id) => [raw.headers(id, GET, true), data(id, "x")]),
  ],
  [
    "made you reset: headers after the end",
    (raw) => streams(500, (id) => [raw.headers(id, GET, true), raw.headers(id, GET, true)]),
  ],
  [
    "made you reset: more body than announced",
    (raw) =>
      streams(500, (id) => [raw.headers(id, [...POST, ["content-length", "0"]], false), data(id, "x")]),
  ],
  ["requests that are none", (raw) => streams(500, (id) => [raw.headers(id, [["x", "y"]], true)])],
  ["streams beyond the limit", (raw) => streams(500, (id) => [raw.headers(id, GET, true)])],
  [
    "CONTINUATION without end (CVE-2024-27316)",
    () => [
      frameOf(TYPE.HEADERS, 0, 1),
      ...times(100, () => frameOf(TYPE.CONTINUATION, 0, 1, Buffer.alloc(16_000))),
    ],
  ],
  [
    "CONTINUATION of nothing without end",
    () => [frameOf(TYPE.HEADERS, 0, 1), ...times(100, () => frameOf(TYPE.CONTINUATION, 0, 1))],
  ],
  ["PING (CVE-2019-9512)", () => times(6_000, () => frameOf(TYPE.PING, 0, 0, Buffer.alloc(8)))],
  ["SETTINGS (CVE-2019-9515)", () => times(300, () => settingsFrame([]))],
  ["SETTINGS acknowledged", () => times(300, () => frameOf(TYPE.SETTINGS, FLAG.ACK, 0))],
  ["settings in one frame", () => [settingsFrame(times(2_000, (i) => [SETTING.INITIAL_WINDOW_SIZE, i]))]],
  [
    "RST_STREAM of a stream that has ended",
    (raw) => [raw.headers(1, GET, true), ...times(11_000, () => rst(1))],
  ],
  ["empty DATA (CVE-2019-9518)", (raw) => [raw.headers(1, POST, false), ...times(11_000, () => data(1, ""))]],
  [
    "DATA of nothing but padding",
    (raw) => [
      raw.headers(1, POST, false),
      ...times(11_000, () => frameOf(TYPE.DATA, FLAG.PADDED, 1, Buffer.from([1, 0]))),
    ],
  ],
  ["PRIORITY (CVE-2019-9513)", () => times(11_000, () => frameOf(TYPE.PRIORITY, 0, 1, Buffer.alloc(5)))],
  ["frames that nobody knows", () => times(11_000, () => frameOf(0xbe, 0, 0))],
  [
    "GOAWAY",
    (raw) => [raw.headers(1, GET, true), ...times(11_000, () => frameOf(TYPE.GOAWAY, 0, 0, Buffer.alloc(8)))],
  ],
];

for (const [name, send] of FLOODS) {
  test(`a flood ends the connection: ${name}`, () => {
    // The padding of the DATA that is nothing else is given back at once.
    const raw = new Raw("server");
    raw.send(...send(raw));
    assert.is(raw.goAway, ERROR.ENHANCE_YOUR_CALM);
    assert.ok(raw.side.streams.every(({ closed }) => closed));
    assert.is(raw.side.connection.active, 0);
  });
}

test("a server that floods its client with interim answers is left", () => {
  const raw = new Raw("client");
  raw.side.request(GET);
  raw.send(...times(11_000, () => raw.headers(1, [[":status", "103"]], false)));
  assert.is(raw.goAway, ERROR.ENHANCE_YOUR_CALM);
});

test("PINGs whose answers are not read are answered but a few times", () => {
  let congested = false;
  const raw = new Raw("server", {}, { congested: () => congested });
  const pings = () => raw.send(...times(300, () => frameOf(TYPE.PING, 0, 0, Buffer.alloc(8))));
  pings();
  assert.is(raw.goAway, undefined);
  congested = true;
  pings();
  assert.is(raw.goAway, ERROR.ENHANCE_YOUR_CALM);
});

test("clients that change their mind after a while, or after the answer began, may do so often", () => {
  let now = 0;
  const raw = new Raw("server", { now: () => now });
  for (let round = 0; round < 10; round += 1) {
    const ids = times(90, (index) => 2 * (round * 90 + index) + 1);
    raw.send(...ids.map((id) => raw.headers(id, GET, true)));
    now += 21;
    raw.send(...ids.map(rst));
  }
  for (let id = 2_001; id < 3_000; id += 2) {
    raw.send(raw.headers(id, GET, true));
    raw.side.connection.sendHeaders(raw.side.streams.at(-1)!.stream!, [[":status", "200"]], false);
    raw.send(rst(id));
  }
  assert.is(raw.goAway, undefined);
  assert.is(raw.side.streams.length, 1_400);
});

test("windows of all streams are gone through once a frame, however often it sets them", () => {
  const raw = new Raw("server", { maxStreams: 1_000 });
  raw.send(...streams(1_000, (id) => [raw.headers(id, POST, false)]));
  const { connection, streams: all } = raw.side;
  for (const { stream } of all) connection.sendHeaders(stream!, [[":status", "200"]], false);
  raw.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 0]]));
  for (const { stream } of all) connection.sendData(stream!, Buffer.from("a"), false);
  raw.send(settingsFrame(times(100, (i) => [SETTING.INITIAL_WINDOW_SIZE, i % 2 === 0 ? 1_000 : 0])));
  assert.is(raw.of(TYPE.DATA).length, 0, "only the last value counts");
  assert.is(connection.bufferedBytes, 1_000);
  raw.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 1_000]]));
  assert.is(raw.of(TYPE.DATA).length, 1_000);
});

// ---- headers ----

const HUGE: [name: string, block: (raw: Raw) => Buffer][] = [
  [
    "a bomb of references to one large field",
    (raw) => {
      raw.send(headerFrames(1, raw.encoder.encode([...GET, ["x-big", "a".repeat(1_900)]]), true));
      return Buffer.alloc(60_000, 0xbe);
    },
  ],
  ["more fields than anyone sends", () => Buffer.alloc(1_000, 0x82)],
  [
    "a field larger than all may be together",
    (raw) => raw.encoder.encode([...GET, ["x-big", "a".repeat(80_000)]]),
  ],
];

for (const [name, block] of HUGE) {
  test(`headers above the limits: ${name}`, () => {
    const raw = new Raw("server");
    raw.send(headerFrames(3, block(raw), true));
    assert.is(raw.resets.get(3), ERROR.ENHANCE_YOUR_CALM);
    raw.send(raw.headers(5, GET, true));
    assert.equal(raw.side.streams.at(-1)!.headers, GET);
  });
}

test("headers above the limits may be answered, whether a body was to follow or not", () => {
  for (const end of [true, false]) {
    const refused: string[] = [];
    const raw: Raw = new Raw(
      "server",
      {},
      {
        onOversized: (stream, reason) => {
          refused.push(reason);
          raw.side.connection.sendHeaders(stream, [[":status", "431"]], true);
        },
      },
    );
    const large: Header[] = [...GET, ["x-big", "a".repeat(80_000)]];
    raw.send(raw.headers(1, large, end), raw.headers(3, GET, true));
    assert.equal(raw.answers.get(1), [[":status", "431"]]);
    assert.is(raw.resets.get(1), end ? undefined : ERROR.NO_ERROR);
    assert.match(refused[0]!, /^header list of 80\d\d\d bytes/);
    assert.is(raw.side.streams.length, 1, "the next request is served");
    if (!end) raw.send(data(1, "late"));
    assert.not(raw.side.ended);
  }
});

// ---- slowness ----

/** A server whose only client has asked for 100,000 bytes with a window of `window`. */
function stalling(window: number, now: () => number): { raw: Raw; seen: Seen } {
  const raw = new Raw("server", { now });
  raw.send(
    settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, window]]),
    grant(0, 1_000_000),
    raw.headers(1, GET, true),
  );
  const [seen] = raw.side.streams;
  raw.side.connection.sendHeaders(seen!.stream!, [[":status", "200"]], false);
  raw.side.connection.sendData(seen!.stream!, Buffer.alloc(100_000), true);
  raw.read();
  return { raw, seen: seen! };
}

test("a client that gives no room is found, and its stream alone given up", () => {
  let now = 1_000;
  const { raw, seen } = stalling(0, () => now);
  const { connection } = raw.side;
  assert.is(connection.stalledSince, 1_000);
  assert.is(connection.bufferedBytes, 100_000);
  now = 31_000;
  raw.send(raw.headers(3, GET, true));
  connection.dropStalled(1_000);
  assert.not(seen.closed);
  connection.dropStalled(1_001);
  raw.read();
  assert.is(raw.resets.get(1), ERROR.CANCEL);
  assert.ok(seen.error);
  assert.is(connection.bufferedBytes, 0);
  assert.is(connection.stalledSince, Number.POSITIVE_INFINITY);
  assert.is(connection.active, 1);
});

test("room in crumbs is no progress; room enough is", () => {
  let now = 0;
  const { raw } = stalling(0, () => now);
  const { connection } = raw.side;
  for (; now < 20_000; now += 100) raw.send(grant(1, 10));
  assert.is(connection.stalledSince, 0);
  assert.is(connection.bufferedBytes, 98_000);
  raw.send(grant(1, 20_000));
  assert.is(connection.stalledSince, 20_000);
  raw.send(grant(1, 100_000));
  assert.is(connection.stalledSince, Number.POSITIVE_INFINITY);
  assert.is(connection.active, 0);
});

test("room for the connection alone is missing: the stream has stalled too", () => {
  const raw = new Raw("server", { now: () => 5 });
  raw.send(settingsFrame([[SETTING.INITIAL_WINDOW_SIZE, 1_000_000]]), raw.headers(1, GET, true));
  const { stream } = raw.side.streams[0]!;
  raw.side.connection.sendHeaders(stream!, [[":status", "200"]], false);
  raw.side.connection.sendData(stream!, Buffer.alloc(100_000), true);
  assert.is(stream!.stalledSince, 5);
  assert.ok(raw.side.connection.saturated);
});

test("room by the byte, thousands of times a second (CVE-2019-9511), ends the connection", () => {
  const { raw } = stalling(0, () => 0);
  raw.send(...times(11_000, () => grant(1, 1)));
  assert.is(raw.goAway, ERROR.ENHANCE_YOUR_CALM);
  const shared = stalling(1_000_000, () => 0);
  assert.not(shared.raw.side.ended);
});

const OWED: [name: string, bytes: (raw: Raw) => Buffer, code: number][] = [
  [
    "the rest of a header block",
    () => frameOf(TYPE.HEADERS, 0, 1, Buffer.from("82", "hex")),
    ERROR.ENHANCE_YOUR_CALM,
  ],
  ["the rest of a frame", (raw) => raw.headers(1, GET, true).subarray(0, 12), ERROR.ENHANCE_YOUR_CALM],
];

for (const [name, bytes, code] of OWED) {
  test(`a client that owes ${name} is dropped`, () => {
    let now = 0;
    const raw = new Raw("server", { now: () => now });
    assert.is(raw.side.connection.stalledSince, Number.POSITIVE_INFINITY);
    now = 7;
    raw.send(bytes(raw));
    now = 8;
    assert.is(raw.side.connection.stalledSince, 7);
    raw.side.connection.dropStalled(7);
    assert.not(raw.side.ended);
    raw.side.connection.dropStalled(8);
    raw.read();
    assert.is(raw.goAway, code);
  });
}

test("a busy client is not taken for one that owes: what is unfinished is always something else", () => {
  let now = 0;
  const raw = new Raw("server", { now: () => now, maxStreams: 1_000 });
  const bytes = Buffer.concat(times(100, (index) => raw.headers(2 * index + 1, GET, true)));
  for (let at = 0; at < bytes.length; at += 50) {
    now += 10;
    raw.send(bytes.subarray(at, at + 50));
    assert.ok(raw.side.connection.stalledSince >= now);
  }
});

test("a peer that does not introduce itself, or does not acknowledge us, is dropped", () => {
  for (const [bytes, code] of [
    [[], ERROR.ENHANCE_YOUR_CALM],
    [[CLIENT_PREFACE], ERROR.ENHANCE_YOUR_CALM],
    [[CLIENT_PREFACE, settingsFrame([])], ERROR.SETTINGS_TIMEOUT],
  ] as const) {
    let now = 0;
    const raw = new Raw("server", { now: () => now }, {}, undefined, false);
    now = 5_000;
    raw.send(...bytes);
    assert.is(raw.side.connection.stalledSince, 0);
    raw.side.connection.dropStalled(1);
    raw.read();
    assert.is(raw.goAway, code);
  }
});

test("what waits for the peer is counted, and ends with its streams", () => {
  const client = new Side(options("client"));
  const seen = client.request(POST, Buffer.alloc(100_000));
  assert.is(client.connection.bufferedBytes, 100_000 - 65_535);
  client.connection.reset(seen.stream!, ERROR.CANCEL);
  assert.is(client.connection.bufferedBytes, 0);
});

test("a body that waits is our own copy: the caller's buffer may be used again", () => {
  const raw = new Raw("client");
  const body = Buffer.alloc(100_000, "a");
  const seen = raw.side.request(POST, body);
  body.fill("b");
  raw.send(grant(0, 100_000), grant(seen.stream!.id, 100_000));
  const sent = Buffer.concat(raw.of(TYPE.DATA).map(({ payload }) => payload));
  assert.ok(sent.equals(Buffer.alloc(100_000, "a")));
});

test.run();
