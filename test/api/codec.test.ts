// The codec: values survive it, other encoders are understood, what is malformed is refused.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressKey, addressOf, addressText, networkOf, networkText } from "../../src/api/address.ts";
import {
  bool,
  bytes,
  decode,
  double,
  embed,
  encode,
  enumeration,
  fixed32,
  fixed64,
  float,
  int32,
  int64,
  type Message,
  member,
  message,
  repeated,
  string,
  stringMap,
  uint32,
  uint64,
  WireError,
} from "../../src/api/codec.ts";
import * as destination from "../../src/api/destination.ts";
import { Deframer, frame, wholeMessage } from "../../src/api/grpc-frame.ts";
import * as outbound from "../../src/api/outbound.ts";
import { durationMs, durationOf } from "../../src/api/time.ts";
import { decodeTransportHeader, encodeTransportHeader } from "../../src/api/transport-header.ts";
import { parseIp } from "../../src/util/ip.ts";

const test = suite("api codec");

const Inner = message("test.Inner", { text: string(1), flag: bool(2) });
interface TreeShape {
  leaf: string;
  children: TreeShape[];
}
const Tree: Message<TreeShape> = message("test.Tree", {
  leaf: string(1),
  children: repeated(embed(2, (): Message<TreeShape> => Tree)),
});
const All = message("test.All", {
  s: string(1),
  b: bytes(2),
  t: bool(3),
  u: uint32(4),
  i: int32(5),
  uu: uint64(6),
  ii: int64(7),
  e: enumeration(8),
  f: fixed32(9),
  ff: fixed64(10),
  fl: float(11),
  d: double(12),
  inner: embed(13, () => Inner),
  list: repeated(embed(14, () => Inner)),
  packed: repeated(uint32(15)),
  words: repeated(string(16)),
  map: stringMap(17),
  choice: member(string(2000)),
});

const safe = fc.maxSafeInteger();
const text = fc.string({ unit: "grapheme" });
const inner = fc.record({ text, flag: fc.boolean() });
const all = fc.record({
  s: text,
  b: fc.uint8Array().map((b) => Buffer.from(b)),
  t: fc.boolean(),
  u: fc.nat(0xffff_ffff),
  i: fc.integer(),
  uu: fc.maxSafeNat(),
  ii: safe,
  e: fc.nat(100),
  f: fc.nat(0xffff_ffff),
  ff: fc.bigInt(0n, (1n << 64n) - 1n),
  fl: fc.float({ noNaN: true }),
  d: fc.double({ noNaN: true }),
  inner: fc.option(inner, { nil: undefined }),
  list: fc.array(inner),
  packed: fc.array(fc.nat(0xffff_ffff)),
  words: fc.array(text),
  map: fc.dictionary(fc.string(), text),
  choice: fc.option(text, { nil: undefined }),
});

const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, v) =>
      typeof v === "bigint"
        ? `${v}n`
        : Object.is(v, -0)
          ? "-0"
          : v instanceof Uint8Array
            ? Buffer.from(v).toString("hex")
            : v,
    ),
  );

test("any value survives encoding and decoding", () => {
  fc.assert(fc.property(all, (value) => assert.equal(plain(decode(All, encode(All, value))), plain(value))));
});

test("bytes of other encoders are read: negative int32, unpacked and packed lists, unknown fields, defaults", () => {
  const hex = (s: string) => Buffer.from(s.replaceAll(" ", ""), "hex");
  assert.is(decode(All, hex("28 ff ff ff ff ff ff ff ff ff 01")).i, -1);
  assert.equal(decode(All, hex("78 01 78 96 01 7a 03 02 96 01")).packed, [1, 150, 2, 150]);
  assert.equal(decode(Inner, hex("0a 02 68 69 18 07 25 01020304 29 0102030405060708 32 01 61 10 01")), {
    text: "hi",
    flag: true,
  });
  assert.equal(decode(Inner, Buffer.alloc(0)), { text: "", flag: false });
  assert.equal(encode(Inner, { text: "", flag: false }).length, 0);
  // protobuf's documented examples: 150 as a varint, "testing" as a string.
  assert.is(encode(message("m", { a: int32(1) }), { a: 150 }).toString("hex"), "089601");
  assert.is(encode(message("m", { b: string(2) }), { b: "testing" }).toString("hex"), "120774657374696e67");
});

test("a member of a oneof is there even when it is empty", () => {
  assert.is(decode(All, encode(All, { choice: "" })).choice, "");
  assert.is(decode(All, encode(All, {})).choice, undefined);
});

test("malformed bytes are refused with a typed error, and nothing else ever happens", () => {
  fc.assert(
    fc.property(all, fc.nat(), fc.nat(255), (value, at, byte) => {
      const data = encode(All, value);
      if (data.length > 0) data[at % data.length] = byte;
      try {
        decode(All, data);
      } catch (error) {
        assert.instance(error, WireError);
      }
    }),
  );
  for (const bad of [
    "0a",
    "0a05 61",
    "08 ffffffffffffffffffffff",
    "00 01",
    "0b",
    "0a01 ff",
    "15 010203",
    "32 ff ff ff ff ff 01",
  ]) {
    assert.throws(
      () => decode(All, Buffer.from(bad.replaceAll(" ", ""), "hex")),
      (e: unknown) => e instanceof WireError,
      bad,
    );
  }
});

test("nesting is bounded", () => {
  let tree: TreeShape = { leaf: "x", children: [] };
  for (let i = 0; i < 20; i += 1) tree = { leaf: "", children: [tree] };
  assert.equal(decode(Tree, encode(Tree, tree)), tree);
  for (let i = 0; i < 20; i += 1) tree = { leaf: "", children: [tree] };
  assert.throws(() => decode(Tree, encode(Tree, tree)), /nested deeper/);
});

test("a map from the wire cannot reach a prototype", () => {
  const value = decode(All, encode(All, { map: JSON.parse('{"__proto__": "x"}') }));
  assert.is(({} as Record<string, unknown>)["x"], undefined);
  assert.is(Object.getPrototypeOf(value.map), null);
});

test("the API's deep messages fit their types", () => {
  const policy = {
    protocol: {
      detect: {
        timeout: durationOf(10_000),
        http1: {
          routes: [
            {
              rules: [
                {
                  backends: {
                    firstAvailable: {
                      backends: [{ backend: { balancer: { discovery: { dst: { path: "a:80" } } } } }],
                    },
                  },
                },
              ],
            },
          ],
        },
      },
    },
  };
  const decoded = decode(outbound.OutboundPolicy, encode(outbound.OutboundPolicy, policy));
  const backend = decoded.protocol?.detect?.http1?.routes[0]?.rules[0]?.backends?.firstAvailable?.backends[0];
  assert.is(backend?.backend?.balancer?.discovery?.dst?.path, "a:80");
  assert.is(durationMs(decoded.protocol!.detect!.timeout!), 10_000);
  const profile = {
    routes: [{ condition: { not: { all: { matches: [{ path: { regex: "/x" } }] } } } }],
    fullyQualifiedName: "a",
  };
  const back = decode(destination.DestinationProfile, encode(destination.DestinationProfile, profile));
  assert.is(back.routes[0]?.condition?.not?.all?.matches[0]?.path?.regex, "/x");
});

test("addresses and networks survive", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(65_535), (ip, port) => {
      const back = addressText(addressOf(ip, port))!;
      assert.equal(parseIp(back.ip), parseIp(ip));
      assert.is(back.port, port);
    }),
  );
  assert.is(networkText(networkOf("10.1.2.3/8")), "10.0.0.0/8");
  assert.is(addressKey("10.0.0.1", 80), "10.0.0.1:80");
  assert.is(addressKey("::1", 80), "[::1]:80");
});

test("a transport header is read from any split, and anything else is refused at its first wrong byte", () => {
  const bytesOf = encodeTransportHeader({ port: 8080, name: "web:80", sessionProtocol: { http1: {} } });
  const rest = Buffer.from("payload");
  for (let cut = 0; cut < bytesOf.length; cut += 1)
    assert.is(decodeTransportHeader(bytesOf.subarray(0, cut)), undefined);
  const read = decodeTransportHeader(Buffer.concat([bytesOf, rest]))!;
  assert.equal(read, {
    header: { port: 8080, name: "web:80", sessionProtocol: { http1: {} } },
    size: bytesOf.length,
  });
  assert.throws(() => decodeTransportHeader(Buffer.from("GET /")), /not a transport header/);
  assert.throws(
    () => decodeTransportHeader(Buffer.concat([bytesOf.subarray(0, 23), Buffer.from("00100000", "hex")])),
    /of 1048576 bytes/,
  );
});

test("gRPC messages come out whole however the stream is cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 200 })), (list, cuts) => {
      const stream = Buffer.concat(list.map((m) => frame(Buffer.from(m))));
      const deframer = new Deframer();
      const out: Buffer[] = [];
      let at = 0;
      for (const size of [...cuts, stream.length]) {
        out.push(...deframer.push(stream.subarray(at, at + size)));
        at = Math.min(stream.length, at + size);
      }
      assert.equal(
        out.map((b) => b.toString("hex")),
        list.map((m) => Buffer.from(m).toString("hex")),
      );
      assert.is(deframer.pending, 0);
    }),
  );
  assert.throws(() => new Deframer(10).push(frame(Buffer.alloc(11))), /the limit is 10/);
  assert.throws(() => new Deframer().push(Buffer.from("0100000000", "hex")), /compressed/);
});

test("a chunk that is exactly one message is read where it is; any other is for who joins pieces", () => {
  const message = Buffer.from("message");
  const chunk = frame(message);
  assert.equal(wholeMessage(chunk, 10), message);
  assert.is(wholeMessage(chunk, 10)!.buffer, chunk.buffer);
  assert.equal(wholeMessage(frame(Buffer.alloc(0)), 10), Buffer.alloc(0));
  const compressed = Buffer.from(chunk);
  compressed[0] = 1;
  for (const other of [
    Buffer.alloc(0),
    chunk.subarray(0, 4),
    chunk.subarray(0, -1),
    Buffer.concat([chunk, Buffer.of(0)]),
    compressed,
  ])
    assert.is(wholeMessage(other, 10), undefined);
  assert.is(wholeMessage(chunk, message.length - 1), undefined);
});

test.run();
