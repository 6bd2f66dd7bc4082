// RFC 9113 and its relatives, section by section: bytes that a peer sends, and what has to come of them. After
// everything but the end of the connection, a further request is served.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CLIENT_PREFACE, ERROR, FLAG, TYPE } from "../../src/http2/frame.ts";
import type { Header } from "../../src/http2/hpack.ts";
import { SETTING } from "../../src/http2/settings.ts";
import { frameOf, headerFrames, number32, settingsFrame } from "../support/http2-frames.ts";
import { data, GET, POST, Raw, type Seen } from "../support/http2-machine.ts";

const test = suite("RFC 9113");

type Code = keyof typeof ERROR;
/**
 * `goaway CODE`: the connection ends; `reset CODE`: stream 1 does, alone; `200`: stream 1 is answered; `pong`, `ack`:
 * the frame is answered; `nothing`: it is passed over.
 */
type Reaction = `goaway ${Code}` | `reset ${Code}` | "200" | "pong" | "ack" | "nothing";
type Case = [section: string, what: string, send: (raw: Raw) => Buffer[], reaction: Reaction];

/** A header block as it stands on the wire: GET / at "web". */
const BLOCK = Buffer.from("8286844103776562", "hex");
const PADDED_PRIORITY = FLAG.PADDED | FLAG.PRIORITY | FLAG.END_HEADERS | FLAG.END_STREAM;
const HEADERS = FLAG.END_HEADERS | FLAG.END_STREAM;
/** Servers that answer nothing for now. */
const held = new WeakSet<Raw>();
const unanswered =
  (send: Case[2]): Case[2] =>
  (raw) => {
    held.add(raw);
    return send(raw);
  };
const setting = (id: number, value: number): Buffer => settingsFrame([[id, value]]);
const rst = (id: number, code = ERROR.CANCEL as number): Buffer =>
  frameOf(TYPE.RST_STREAM, 0, id, number32(code));
const window = (id: number, increment: number): Buffer =>
  frameOf(TYPE.WINDOW_UPDATE, 0, id, number32(increment));
const ping = (flags = 0): Buffer => frameOf(TYPE.PING, flags, 0, Buffer.from("whatever"));
const request =
  (more: readonly Header[], base = GET) =>
  (raw: Raw) => [raw.headers(1, [...base, ...more], true)];
const without = (name: string): Header[] => GET.filter(([known]) => known !== name);
const but = (name: string, value: string): Header[] => GET.map((h) => (h[0] === name ? [name, value] : h));
const list = (headers: readonly Header[]) => (raw: Raw) => [raw.headers(1, headers, true)];
const body =
  (length: string, ...chunks: string[]) =>
  (raw: Raw) => [
    raw.headers(1, [...POST, ["content-length", length]], chunks.length === 0),
    ...chunks.map((chunk, index) => data(1, chunk, index === chunks.length - 1)),
  ];
const extended: readonly Header[] = [
  [":method", "CONNECT"],
  [":protocol", "websocket"],
  [":scheme", "http"],
  [":path", "/chat"],
  [":authority", "web"],
];

const SERVER_CASES: Case[] = [
  ["4.1", "a frame of a type that nobody knows", () => [frameOf(0xbe, 0xff, 7, Buffer.alloc(20))], "nothing"],
  ["4.1", "flags that nobody knows", () => [frameOf(TYPE.PING, 0xfe, 0, Buffer.alloc(8))], "pong"],
  [
    "4.1",
    "a reserved bit that is set",
    () => {
      const frame = frameOf(TYPE.HEADERS, HEADERS, 1, BLOCK);
      frame[5] = 0x80;
      return [frame];
    },
    "200",
  ],
  [
    "4.2",
    "DATA of the size that every peer must take",
    (raw) => [raw.headers(1, POST, false), data(1, Buffer.alloc(16_384), true)],
    "200",
  ],
  [
    "4.2",
    "DATA of the size that we announce",
    (raw) => [raw.headers(1, POST, false), data(1, Buffer.alloc(65_535), true)],
    "200",
  ],
  [
    "4.2",
    "a frame above the size that we announce",
    () => [Buffer.from("010001000000000001", "hex")],
    "goaway FRAME_SIZE_ERROR",
  ],
  [
    "4.3",
    "a header block that is none",
    () => [frameOf(TYPE.HEADERS, HEADERS, 1, Buffer.from("80", "hex"))],
    "goaway COMPRESSION_ERROR",
  ],
  [
    "4.3",
    "a header block in pieces",
    (raw) => [headerFrames(1, raw.encoder.encode([...GET, ["x-a", "b".repeat(99)]]), true, 10)],
    "200",
  ],
  [
    "4.3",
    "a header block interrupted",
    () => [frameOf(TYPE.HEADERS, FLAG.END_STREAM, 1, BLOCK), ping()],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "4.3",
    "a header block interrupted by an unknown frame",
    () => [frameOf(TYPE.HEADERS, 0, 1, BLOCK), frameOf(0xbe, 0, 1)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "4.3",
    "a header block interrupted by HEADERS of another stream",
    () => [frameOf(TYPE.HEADERS, 0, 1, BLOCK), frameOf(TYPE.HEADERS, HEADERS, 3, BLOCK)],
    "goaway PROTOCOL_ERROR",
  ],
  ["5.1", "idle: DATA", () => [data(1, "x")], "goaway PROTOCOL_ERROR"],
  ["5.1", "idle: RST_STREAM", () => [rst(1)], "goaway PROTOCOL_ERROR"],
  ["5.1", "idle: WINDOW_UPDATE", () => [window(1, 100)], "goaway PROTOCOL_ERROR"],
  [
    "5.1",
    "idle: CONTINUATION",
    () => [frameOf(TYPE.CONTINUATION, FLAG.END_HEADERS, 1, BLOCK)],
    "goaway PROTOCOL_ERROR",
  ],
  ["5.1", "idle: PRIORITY", () => [frameOf(TYPE.PRIORITY, 0, 1, Buffer.alloc(5))], "nothing"],
  [
    "5.1",
    "half-closed: DATA",
    () => [frameOf(TYPE.HEADERS, HEADERS, 1, BLOCK), data(1, "x")],
    "goaway STREAM_CLOSED",
  ],
  [
    "5.1",
    "half-closed: DATA before the answer",
    unanswered((raw) => [raw.headers(1, GET, true), data(1, "x")]),
    "reset STREAM_CLOSED",
  ],
  [
    "5.1",
    "half-closed: HEADERS before the answer",
    unanswered((raw) => [raw.headers(1, GET, true), raw.headers(1, GET, true)]),
    "reset STREAM_CLOSED",
  ],
  [
    "5.1",
    "half-closed: WINDOW_UPDATE",
    unanswered((raw) => [raw.headers(1, GET, true), window(1, 100)]),
    "nothing",
  ],
  ["5.1", "closed: DATA", (raw) => [raw.headers(1, GET, true), data(1, "x")], "goaway STREAM_CLOSED"],
  [
    "5.1",
    "closed: HEADERS",
    (raw) => [raw.headers(1, GET, true), raw.headers(1, GET, true)],
    "goaway STREAM_CLOSED",
  ],
  [
    "5.1",
    "closed by the client: DATA",
    (raw) => [raw.headers(1, POST, false), rst(1), data(1, "x")],
    "goaway STREAM_CLOSED",
  ],
  [
    "5.1",
    "closed by the client: HEADERS",
    (raw) => [raw.headers(1, POST, false), rst(1), raw.headers(1, GET, true)],
    "goaway STREAM_CLOSED",
  ],
  [
    "5.1",
    "closed: WINDOW_UPDATE and RST_STREAM",
    (raw) => [raw.headers(1, GET, true), window(1, 9), rst(1)],
    "200",
  ],
  [
    "5.1.1",
    "a stream with an even number",
    () => [frameOf(TYPE.HEADERS, HEADERS, 2, BLOCK)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "5.1.1",
    "a stream older than the last",
    (raw) => [raw.headers(5, GET, true), raw.headers(3, GET, true)],
    "goaway STREAM_CLOSED",
  ],
  [
    "5.3.2",
    "HEADERS with a priority and padding",
    () => [
      frameOf(
        TYPE.HEADERS,
        PADDED_PRIORITY,
        1,
        Buffer.concat([Buffer.from("020000000510", "hex"), BLOCK, Buffer.alloc(2)]),
      ),
    ],
    "200",
  ],
  [
    "5.3.1 (7540)",
    "HEADERS that depend on themselves",
    () => [
      frameOf(
        TYPE.HEADERS,
        HEADERS | FLAG.PRIORITY,
        1,
        Buffer.concat([Buffer.from("0000000110", "hex"), BLOCK]),
      ),
    ],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "5.3.1 (7540)",
    "PRIORITY of a stream on itself",
    () => [frameOf(TYPE.PRIORITY, 0, 1, Buffer.from("0000000110", "hex"))],
    "goaway PROTOCOL_ERROR",
  ],
  ["6.1", "DATA on stream 0", () => [data(0, "x")], "goaway PROTOCOL_ERROR"],
  [
    "6.1",
    "DATA with padding",
    (raw) => [
      raw.headers(1, [...POST, ["content-length", "1"]], false),
      frameOf(TYPE.DATA, FLAG.PADDED | FLAG.END_STREAM, 1, Buffer.from([3, 0x61, 0, 0, 0])),
    ],
    "200",
  ],
  [
    "6.1",
    "DATA of nothing but padding",
    (raw) => [
      raw.headers(1, POST, false),
      frameOf(TYPE.DATA, FLAG.PADDED | FLAG.END_STREAM, 1, Buffer.from([2, 0, 0])),
    ],
    "200",
  ],
  [
    "6.1",
    "DATA with more padding than frame",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.DATA, FLAG.PADDED, 1, Buffer.from([9, 1]))],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.1",
    "DATA with padding and no length of it",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.DATA, FLAG.PADDED, 1)],
    "goaway PROTOCOL_ERROR",
  ],
  ["6.2", "HEADERS on stream 0", () => [frameOf(TYPE.HEADERS, HEADERS, 0, BLOCK)], "goaway PROTOCOL_ERROR"],
  [
    "6.2",
    "HEADERS with more padding than frame",
    () => [frameOf(TYPE.HEADERS, HEADERS | FLAG.PADDED, 1, Buffer.from([9, 0x82]))],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.2",
    "HEADERS too short for their priority",
    () => [frameOf(TYPE.HEADERS, HEADERS | FLAG.PRIORITY, 1, Buffer.alloc(4))],
    "goaway FRAME_SIZE_ERROR",
  ],
  [
    "6.3",
    "PRIORITY on stream 0",
    () => [frameOf(TYPE.PRIORITY, 0, 0, Buffer.alloc(5))],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.3",
    "PRIORITY of a wrong size",
    () => [frameOf(TYPE.PRIORITY, 0, 1, Buffer.alloc(4))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.4", "RST_STREAM on stream 0", () => [rst(0)], "goaway PROTOCOL_ERROR"],
  [
    "6.4",
    "RST_STREAM of a wrong size",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.RST_STREAM, 0, 1, Buffer.alloc(3))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.5", "SETTINGS", () => [setting(SETTING.MAX_FRAME_SIZE, 20_000)], "ack"],
  ["6.5", "SETTINGS that nobody knows", () => [setting(0xfe, 1), setting(9, 1)], "ack"],
  [
    "6.5",
    "SETTINGS acknowledgment with content",
    () => [frameOf(TYPE.SETTINGS, FLAG.ACK, 0, Buffer.alloc(6))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.5", "SETTINGS on a stream", () => [frameOf(TYPE.SETTINGS, 0, 1)], "goaway PROTOCOL_ERROR"],
  [
    "6.5",
    "SETTINGS of a wrong size",
    () => [frameOf(TYPE.SETTINGS, 0, 0, Buffer.alloc(5))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.5.2", "ENABLE_PUSH of 2", () => [setting(SETTING.ENABLE_PUSH, 2)], "goaway PROTOCOL_ERROR"],
  [
    "6.5.2",
    "INITIAL_WINDOW_SIZE of 2^31",
    () => [setting(SETTING.INITIAL_WINDOW_SIZE, 2 ** 31)],
    "goaway FLOW_CONTROL_ERROR",
  ],
  [
    "6.5.2",
    "MAX_FRAME_SIZE below 2^14",
    () => [setting(SETTING.MAX_FRAME_SIZE, 16_383)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.5.2",
    "MAX_FRAME_SIZE of 2^24",
    () => [setting(SETTING.MAX_FRAME_SIZE, 2 ** 24)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.6",
    "PUSH_PROMISE by a client",
    () => [frameOf(TYPE.PUSH_PROMISE, 4, 1, Buffer.alloc(4))],
    "goaway PROTOCOL_ERROR",
  ],
  ["6.7", "PING", () => [ping()], "pong"],
  ["6.7", "PING acknowledged that nobody sent", () => [ping(FLAG.ACK)], "nothing"],
  ["6.7", "PING on a stream", () => [frameOf(TYPE.PING, 0, 1, Buffer.alloc(8))], "goaway PROTOCOL_ERROR"],
  [
    "6.7",
    "PING of a wrong size",
    () => [frameOf(TYPE.PING, 0, 0, Buffer.alloc(7))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.8", "GOAWAY on a stream", () => [frameOf(TYPE.GOAWAY, 0, 1, Buffer.alloc(8))], "goaway PROTOCOL_ERROR"],
  [
    "6.8",
    "GOAWAY of a wrong size",
    () => [frameOf(TYPE.GOAWAY, 0, 0, Buffer.alloc(7))],
    "goaway FRAME_SIZE_ERROR",
  ],
  ["6.9", "WINDOW_UPDATE of nothing on the connection", () => [window(0, 0)], "goaway PROTOCOL_ERROR"],
  [
    "6.9",
    "WINDOW_UPDATE of nothing on a stream",
    (raw) => [raw.headers(1, POST, false), window(1, 0)],
    "reset PROTOCOL_ERROR",
  ],
  [
    "6.9",
    "WINDOW_UPDATE of a wrong size",
    () => [frameOf(TYPE.WINDOW_UPDATE, 0, 0, Buffer.alloc(3))],
    "goaway FRAME_SIZE_ERROR",
  ],
  [
    "6.9.1",
    "more data than a stream has room for",
    (raw) => [raw.headers(1, POST, false), data(1, Buffer.alloc(65_536))],
    "reset FLOW_CONTROL_ERROR",
  ],
  [
    "6.9.1",
    "a window beyond 2^31-1 on the connection",
    () => [window(0, 0x7fff_ffff)],
    "goaway FLOW_CONTROL_ERROR",
  ],
  [
    "6.9.1",
    "a window beyond 2^31-1 on a stream",
    (raw) => [raw.headers(1, POST, false), window(1, 0x7fff_ffff)],
    "reset FLOW_CONTROL_ERROR",
  ],
  [
    "6.9.2",
    "a setting that makes a window too large",
    (raw) => [
      raw.headers(1, POST, false),
      window(1, 0x7fff_0000),
      setting(SETTING.INITIAL_WINDOW_SIZE, 0x7fff_ffff),
    ],
    "goaway FLOW_CONTROL_ERROR",
  ],
  [
    "6.10",
    "CONTINUATION on stream 0",
    () => [frameOf(TYPE.HEADERS, 0, 1, BLOCK), frameOf(TYPE.CONTINUATION, 4, 0)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.10",
    "CONTINUATION of another stream",
    () => [frameOf(TYPE.HEADERS, 0, 1, BLOCK), frameOf(TYPE.CONTINUATION, 4, 3)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.10",
    "CONTINUATION after the end of the headers",
    (raw) => [raw.headers(1, POST, false), frameOf(TYPE.CONTINUATION, 4, 1)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "8.1",
    "trailers",
    (raw) => [raw.headers(1, POST, false), data(1, "x"), raw.headers(1, [["x-sum", "1"]], true)],
    "200",
  ],
  [
    "8.1",
    "headers in the middle",
    (raw) => [raw.headers(1, POST, false), raw.headers(1, [["a", "b"]], false)],
    "reset PROTOCOL_ERROR",
  ],
  [
    "8.1",
    "content-length in trailers",
    (raw) => [raw.headers(1, POST, false), raw.headers(1, [["content-length", "1"]], true)],
    "reset PROTOCOL_ERROR",
  ],
  ["8.1.1", "a body shorter than announced", body("5", "abc"), "reset PROTOCOL_ERROR"],
  ["8.1.1", "a body longer than announced", body("2", "abc"), "reset PROTOCOL_ERROR"],
  ["8.1.1", "a body longer than announced in several frames", body("2", "ab", "c"), "reset PROTOCOL_ERROR"],
  ["8.1.1", "no body though announced", body("2"), "reset PROTOCOL_ERROR"],
  ["8.1.1", "a body as announced", body("3", "ab", "c"), "200"],
  [
    "8.1.1",
    "trailers before the end of the body",
    (raw) => [raw.headers(1, [...POST, ["content-length", "2"]], false), raw.headers(1, [["x", "y"]], true)],
    "reset PROTOCOL_ERROR",
  ],
  [
    "8.1.1",
    "two lengths",
    request([
      ["content-length", "0"],
      ["content-length", "1"],
    ]),
    "reset PROTOCOL_ERROR",
  ],
  ["8.1.1", "a length that is no number", request([["content-length", "+0"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a capital in a name", request([["X-A", "1"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a space in a name", request([["x a", "1"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "an empty name", request([["", "1"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a colon in a name", request([["x:a", "1"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a line break in a value", request([["x", "a\r\nb: c"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "NUL in a value", request([["x", "a\0b"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a space before a value", request([["x", " a"]]), "reset PROTOCOL_ERROR"],
  ["8.2.1", "a tab behind a value", request([["x", "a\t"]]), "reset PROTOCOL_ERROR"],
  [
    "8.2.1",
    "an empty value, and any other character",
    request([
      ["x", ""],
      ["y", "a \t\xe9~"],
    ]),
    "200",
  ],
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map(
    (name): Case => ["8.2.2", name, request([[name, "x"]]), "reset PROTOCOL_ERROR"],
  ),
  ["8.2.2", "te: trailers", request([["te", "trailers"]]), "200"],
  ["8.2.2", "te that says more", request([["te", "trailers, deflate"]]), "reset PROTOCOL_ERROR"],
  [
    "8.2.3",
    "cookies in pieces",
    request([
      ["cookie", "a=1"],
      ["cookie", "b=2"],
    ]),
    "200",
  ],
  [
    "8.3",
    "a pseudo-header behind fields",
    list([...without(":path"), ["x", "y"], [":path", "/"]]),
    "reset PROTOCOL_ERROR",
  ],
  ["8.3", "a pseudo-header twice", list([[":path", "/"], ...GET]), "reset PROTOCOL_ERROR"],
  [
    "8.3",
    "a pseudo-header that nobody knows",
    request([], [[":other", "x"], ...GET]),
    "reset PROTOCOL_ERROR",
  ],
  ["8.3", "a pseudo-header of responses", request([], [[":status", "200"], ...GET]), "reset PROTOCOL_ERROR"],
  [
    "8.3",
    "a pseudo-header in trailers",
    (raw) => [raw.headers(1, POST, false), raw.headers(1, [[":path", "/"]], true)],
    "reset PROTOCOL_ERROR",
  ],
  ...[":method", ":scheme", ":path"].map(
    (name): Case => ["8.3.1", `no ${name}`, list(without(name)), "reset PROTOCOL_ERROR"],
  ),
  ["8.3.1", "no :authority but host", request([["host", "web"]], without(":authority")), "200"],
  ["8.3.1", "host that is :authority", request([["host", "WEB"]]), "200"],
  ["8.3.1", "host that is not :authority", request([["host", "other"]]), "reset PROTOCOL_ERROR"],
  [
    "8.3.1",
    "host twice",
    request([
      ["host", "web"],
      ["host", "web"],
    ]),
    "reset PROTOCOL_ERROR",
  ],
  ["8.3.1", "an empty :path", list(but(":path", "")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":path without a slash", list(but(":path", "a")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":path with a space", list(but(":path", "/ HTTP/1.1")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":path with a fragment", list(but(":path", "/a#b")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":path of * with GET", list(but(":path", "*")), "reset PROTOCOL_ERROR"],
  [
    "8.3.1",
    ":path of * with OPTIONS",
    list(but(":path", "*").map((h) => (h[0] === ":method" ? [":method", "OPTIONS"] : h))),
    "200",
  ],
  ["8.3.1", ":method with a space", list(but(":method", "GET /")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":authority with user information", list(but(":authority", "a@web")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":authority with a slash", list(but(":authority", "web/a")), "reset PROTOCOL_ERROR"],
  ["8.3.1", ":authority of an address and a port", list(but(":authority", "[::1]:80")), "200"],
  ["8.3.1", ":scheme with a space", list(but(":scheme", "http x")), "reset PROTOCOL_ERROR"],
  [
    "8.5",
    "CONNECT",
    list([
      [":method", "CONNECT"],
      [":authority", "web:80"],
    ]),
    "200",
  ],
  ["8.5", "CONNECT with a path", list([[":method", "CONNECT"], ...GET.slice(1)]), "reset PROTOCOL_ERROR"],
  ["8.5", "CONNECT to nowhere", list([[":method", "CONNECT"]]), "reset PROTOCOL_ERROR"],
  [
    "8.5",
    "CONNECT with a content-length",
    list([
      [":method", "CONNECT"],
      [":authority", "web:80"],
      ["content-length", "0"],
    ]),
    "reset PROTOCOL_ERROR",
  ],
  ["4 (8441)", "CONNECT with a protocol", list(extended), "200"],
  [
    "4 (8441)",
    "a protocol without CONNECT",
    list([[":protocol", "websocket"], ...GET]),
    "reset PROTOCOL_ERROR",
  ],
  [
    "4 (8441)",
    "CONNECT with a protocol and no path",
    list(extended.filter(([name]) => name !== ":path")),
    "reset PROTOCOL_ERROR",
  ],
  [
    "7 (9218)",
    "PRIORITY_UPDATE",
    () => [frameOf(0x10, 0, 0, Buffer.from("00000001753d31", "hex"))],
    "nothing",
  ],
];

/** A server that answers each request with 200 and a body. */
function tinyServer(): Raw {
  const raw: Raw = new Raw(
    "server",
    { extendedConnect: true, connectionWindow: 200_000 },
    {},
    (seen: Seen, stream) => {
      seen.onComplete = () => {
        if (held.has(raw)) return;
        raw.side.connection.sendHeaders(stream, [[":status", "200"]], false);
        raw.side.connection.sendData(stream, Buffer.from("ok"), true);
      };
    },
  );
  return raw;
}

function check(raw: Raw, reaction: Reaction): void {
  const [kind, code] = reaction.split(" ") as [string, Code];
  if (kind === "goaway") {
    assert.is(raw.goAway, ERROR[code]);
    assert.is(raw.side.failure?.code, ERROR[code]);
    for (const seen of raw.side.streams) assert.ok(seen.closed);
    return;
  }
  assert.is(raw.side.failure, undefined);
  assert.is(raw.goAway, undefined);
  assert.is(raw.resets.get(1), kind === "reset" ? ERROR[code] : undefined);
  if (kind === "200") assert.equal(raw.answers.get(1), [[":status", "200"]]);
  const acknowledged = (type: number) => raw.of(type).some(({ flags }) => flags === FLAG.ACK);
  if (kind === "pong") assert.ok(acknowledged(TYPE.PING));
  if (kind === "ack") assert.ok(raw.of(TYPE.SETTINGS).filter(({ flags }) => flags === FLAG.ACK).length > 1);
  // Late frames of a stream that we reset are forgiven.
  if (kind === "reset") raw.send(window(1, 5), data(1, "late"), raw.headers(1, [["late", "1"]], true));
  held.delete(raw);
  raw.send(raw.headers(101, GET, true));
  assert.equal(raw.answers.get(101), [[":status", "200"]]);
  assert.is(raw.side.failure, undefined);
}

for (const [section, what, send, reaction] of SERVER_CASES) {
  test(`§${section}, ${what}: ${reaction}`, () => {
    const raw = tinyServer();
    raw.send(...send(raw));
    check(raw, reaction);
  });
}

test("§3.4, what is not the preface of a client, or not SETTINGS after it, ends the connection", () => {
  for (const bytes of [
    Buffer.from("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    Buffer.concat([CLIENT_PREFACE, ping()]),
    Buffer.concat([CLIENT_PREFACE, frameOf(TYPE.SETTINGS, FLAG.ACK, 0)]),
  ]) {
    const raw = new Raw("server", {}, {}, undefined, false);
    raw.send(bytes);
    assert.is(raw.goAway, ERROR.PROTOCOL_ERROR);
  }
});

test("§5.1.2, streams beyond the limit are refused, and their headers leave the tables in step", () => {
  const raw = new Raw("server", { maxStreams: 2 });
  for (const id of [1, 3]) raw.send(raw.headers(id, GET, true));
  raw.send(raw.headers(5, [...GET, ["x-new", "value"]], true));
  assert.is(raw.resets.get(5), ERROR.REFUSED_STREAM);
  raw.side.connection.sendHeaders(raw.side.streams[0]!.stream!, [[":status", "200"]], true);
  raw.send(raw.headers(7, [...GET, ["x-new", "value"]], true));
  assert.equal(raw.side.streams.at(-1)!.headers!.at(-1), ["x-new", "value"]);
});

test("§4 (8441), a protocol is refused where it was not offered", () => {
  const raw = new Raw("server");
  raw.send(raw.headers(1, extended, true));
  assert.is(raw.resets.get(1), ERROR.PROTOCOL_ERROR);
  assert.ok(!raw.of(TYPE.SETTINGS)[0]!.payload.includes(Buffer.from("000800000001", "hex")));
  assert.ok(tinyServer().of(TYPE.SETTINGS)[0]!.payload.includes(Buffer.from("000800000001", "hex")));
});

// ---- our client ----

type ClientCase = [
  section: string,
  what: string,
  send: (raw: Raw) => Buffer[],
  reaction: string,
  method?: string,
];
const answer = (...more: Header[]): Header[] => [[":status", "200"], ...more];

/** Answers on stream 1 to a request of ours, and how it ends: its error's code, or what came. */
const CLIENT_CASES: ClientCase[] = [
  ["8.1", "an answer", (raw) => [raw.headers(1, answer(), false), data(1, "ok", true)], "200 ok"],
  [
    "8.1",
    "trailers",
    (raw) => [raw.headers(1, answer(), false), data(1, "ok"), raw.headers(1, [["a", "b"]], true)],
    "200 ok a=b",
  ],
  [
    "8.1",
    "interim answers",
    (raw) => [raw.headers(1, [[":status", "103"]], false), raw.headers(1, answer(), true)],
    "103 200",
  ],
  [
    "8.1",
    "an interim answer that ends",
    (raw) => [raw.headers(1, [[":status", "103"]], true)],
    "PROTOCOL_ERROR",
  ],
  ["8.1", "a switch of protocols", (raw) => [raw.headers(1, [[":status", "101"]], false)], "PROTOCOL_ERROR"],
  ["8.1", "data before headers", () => [data(1, "x")], "PROTOCOL_ERROR"],
  ["8.3.2", "no status", (raw) => [raw.headers(1, [["x", "y"]], true)], "PROTOCOL_ERROR"],
  [
    "8.3.2",
    "a status of four digits",
    (raw) => [raw.headers(1, [[":status", "2000"]], true)],
    "PROTOCOL_ERROR",
  ],
  [
    "8.3.2",
    "a pseudo-header of requests",
    (raw) => [raw.headers(1, answer([":path", "/"]), true)],
    "PROTOCOL_ERROR",
  ],
  [
    "8.1.1",
    "a body longer than announced",
    (raw) => [raw.headers(1, answer(["content-length", "1"]), false), data(1, "ok", true)],
    "PROTOCOL_ERROR",
  ],
  [
    "8.1.1",
    "HEAD: a length without a body",
    (raw) => [raw.headers(1, answer(["content-length", "9"]), true)],
    "200",
    "HEAD",
  ],
  [
    "8.1.1",
    "HEAD: a body",
    (raw) => [raw.headers(1, answer(), false), data(1, "x", true)],
    "PROTOCOL_ERROR",
    "HEAD",
  ],
  [
    "8.1.1",
    "304: a length without a body",
    (raw) => [
      raw.headers(
        1,
        [
          [":status", "304"],
          ["content-length", "9"],
        ],
        true,
      ),
    ],
    "304",
  ],
  [
    "8.1.1",
    "204: a body",
    (raw) => [raw.headers(1, [[":status", "204"]], false), data(1, "x", true)],
    "PROTOCOL_ERROR",
  ],
  [
    "8.5",
    "CONNECT: a tunnel, whatever the length",
    (raw) => [raw.headers(1, answer(["content-length", "1"]), false), data(1, "bytes", true)],
    "200 bytes",
    "CONNECT",
  ],
  ["8.4", "push", () => [frameOf(TYPE.PUSH_PROMISE, 4, 1, Buffer.alloc(4))], "goaway PROTOCOL_ERROR"],
  ["5.1.1", "a stream that a server begins", (raw) => [raw.headers(2, GET, true)], "goaway PROTOCOL_ERROR"],
  ["6.5.2", "ENABLE_PUSH by a server", () => [setting(SETTING.ENABLE_PUSH, 1)], "goaway PROTOCOL_ERROR"],
  [
    "3 (8441)",
    "extended CONNECT of 2",
    () => [setting(SETTING.ENABLE_CONNECT_PROTOCOL, 2)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "3 (8441)",
    "extended CONNECT taken back",
    () => [setting(SETTING.ENABLE_CONNECT_PROTOCOL, 1), setting(SETTING.ENABLE_CONNECT_PROTOCOL, 0)],
    "goaway PROTOCOL_ERROR",
  ],
  [
    "6.8",
    "GOAWAY before our request",
    () => [frameOf(TYPE.GOAWAY, 0, 0, Buffer.alloc(8))],
    "REFUSED_STREAM unprocessed",
  ],
  ["8.7", "a refusal", () => [rst(1, ERROR.REFUSED_STREAM)], "REFUSED_STREAM unprocessed"],
  ["5.4.2", "a reset", () => [rst(1, ERROR.INTERNAL_ERROR)], "INTERNAL_ERROR"],
];

for (const [section, what, send, reaction, method = "GET"] of CLIENT_CASES) {
  test(`§${section}, to a client, ${what}: ${reaction}`, () => {
    const raw = new Raw("client");
    const seen = raw.side.request(
      method === "CONNECT"
        ? [
            [":method", method],
            [":authority", "web"],
          ]
        : but(":method", method),
    );
    raw.send(...send(raw));
    const nameOf = (code: number) => Object.entries(ERROR).find(([, known]) => known === code)![0];
    let told: string;
    if (raw.goAway !== undefined) told = `goaway ${nameOf(raw.goAway)}`;
    else if (seen.error) told = nameOf(seen.error.code) + (seen.error.unprocessed ? " unprocessed" : "");
    else {
      const status = [...seen.informational, seen.headers!].map((headers) => headers[0]![1]);
      const trailers = (seen.trailers ?? []).map(([name, value]) => `${name}=${value}`);
      told = [...status, Buffer.concat(seen.body).toString(), ...trailers].filter(Boolean).join(" ");
    }
    assert.is(told, reaction);
  });
}

test("§8.1, an early answer with NO_ERROR stops our request and is no failure", () => {
  const raw = new Raw("client");
  const seen = raw.side.request(POST, Buffer.alloc(100_000));
  raw.send(raw.headers(1, [[":status", "413"]], true), rst(1, ERROR.NO_ERROR));
  assert.ok(seen.complete && seen.closed && !seen.error);
  assert.is(raw.side.connection.bufferedBytes, 0);
});

test("§8.1, an early answer of ours goes out whole before the client is asked to stop", () => {
  const raw = new Raw("server");
  raw.send(setting(SETTING.INITIAL_WINDOW_SIZE, 10), raw.headers(1, POST, false));
  const { connection, streams } = raw.side;
  const stream = streams[0]!.stream!;
  connection.sendHeaders(stream, [[":status", "413"]], false);
  connection.sendData(stream, Buffer.alloc(25), true);
  connection.reset(stream, ERROR.NO_ERROR);
  raw.send(window(1, 5));
  assert.is(raw.resets.get(1), undefined);
  raw.send(window(1, 10));
  assert.is(raw.resets.get(1), ERROR.NO_ERROR);
  assert.is(
    raw.of(TYPE.DATA).reduce((sum, { payload }) => sum + payload.length, 0),
    25,
  );
  raw.send(data(1, "late"), raw.headers(3, GET, true));
  assert.not(raw.side.ended);
  assert.is(streams.length, 2);
});

test("§6.5.2, a peer's frame size is used, and its header list size known", () => {
  const raw = new Raw("client");
  raw.send(
    settingsFrame([
      [SETTING.MAX_FRAME_SIZE, 30_000],
      [SETTING.MAX_HEADER_LIST_SIZE, 200],
    ]),
  );
  raw.side.request([...POST, ["x-big", "b".repeat(40_000)]], Buffer.alloc(50_000));
  raw.read();
  assert.equal(
    raw.of(TYPE.DATA).map(({ payload }) => payload.length),
    [30_000, 20_000],
  );
  assert.equal(raw.of(TYPE.CONTINUATION).length, 1);
  assert.ok(raw.side.connection.fits(GET));
  assert.not(raw.side.connection.fits([...GET, ["x-big", "b".repeat(200)]]));
});

test("§6.9.2, windows shrink below zero and grow again", () => {
  const raw = new Raw("client");
  const sizes = () => raw.of(TYPE.DATA).map(({ payload }) => payload.length);
  raw.send(
    settingsFrame([
      [SETTING.INITIAL_WINDOW_SIZE, 10],
      [SETTING.HEADER_TABLE_SIZE, 0],
    ]),
  );
  raw.side.request(POST, Buffer.alloc(25));
  raw.send(window(1, 4));
  assert.equal(sizes(), [10, 4]);
  raw.send(setting(SETTING.INITIAL_WINDOW_SIZE, 0), window(1, 10));
  assert.equal(sizes(), [10, 4]);
  raw.send(setting(SETTING.INITIAL_WINDOW_SIZE, 100));
  assert.equal(sizes(), [10, 4, 11]);
});

test.run();
