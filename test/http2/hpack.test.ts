// HPACK by the examples of RFC 7541, and against what is malformed.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Header,
  HeaderListTooLarge,
  HpackDecoder,
  HpackEncoder,
  HpackError,
} from "../../src/http2/hpack.ts";
import { huffmanBound, huffmanDecode, huffmanEncode, huffmanSize } from "../../src/http2/huffman.ts";

const test = suite("hpack");
const decoded = (coded: Buffer): string | undefined => {
  const out = Buffer.alloc(huffmanBound(coded.length));
  const size = huffmanDecode(coded, 0, coded.length, out);
  return size < 0 ? undefined : out.toString("latin1", 0, size);
};
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

test("RFC 7541 C.4: requests with Huffman, one table", () => {
  const decoder = new HpackDecoder();
  assert.equal(decoder.decode(hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")), [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ]);
  assert.equal(decoder.decode(hex("8286 84be 5886 a8eb 1064 9cbf")).slice(3), [
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ]);
  assert.equal(decoder.decode(hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")), [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ]);
});

test("RFC 7541 C.6: responses with eviction from a table of 256 bytes", () => {
  const decoder = new HpackDecoder({ tableSize: 256, listSize: 16_384, count: 100 });
  decoder.decode(
    hex(
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    ),
  );
  assert.equal(decoder.decode(hex("4883 640e ffc1 c0bf")), [
    [":status", "307"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ]);
  const third = decoder.decode(
    hex(
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ),
  );
  assert.equal(third.at(-1), ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"]);
});

test("every byte sequence survives the Huffman code", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const text = Buffer.from(bytes).toString("latin1");
      const coded = Buffer.alloc(huffmanSize(text));
      assert.is(huffmanEncode(text, coded, 0), coded.length);
      assert.is(decoded(coded), text);
    }),
  );
  assert.is(decoded(hex("ffffffff")), undefined, "EOS");
  assert.is(decoded(hex("18")), undefined, "padding of zeros");
  assert.is(decoded(hex("1fff")), undefined, "padding of a whole byte");
  assert.is(decoded(hex("fe")), undefined, "the beginning of a code");
});

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const value = fc.string({
  unit: fc.integer({ min: 32, max: 255 }).map((c) => String.fromCharCode(c)),
  maxLength: 60,
});
const headers = fc.array(fc.tuple(name, value) as fc.Arbitrary<Header>, { maxLength: 20 });

test("what one side encodes the other decodes, list after list, while table sizes change", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(headers, fc.option(fc.nat(4096)))), (lists) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (const [list, resize] of lists) {
        if (resize !== null) encoder.resize(resize);
        assert.equal(decoder.decode(encoder.encode(list)), list);
      }
    }),
  );
});

test("a block that is none is refused, and nothing else ever happens", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        new HpackDecoder().decode(Buffer.from(bytes));
      } catch (error) {
        assert.instance(error, HpackError);
      }
    }),
  );
  for (const bad of ["80", "be", "3fe2ff03", "7f ffffffffff", "00 05 61", "82 20", "00 81 ff"]) {
    assert.throws(
      () => new HpackDecoder().decode(hex(bad)),
      (e: unknown) => e instanceof HpackError,
      bad,
    );
  }
});

test("a bomb of references is cut at the list's limit", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  decoder.decode(encoder.encode([["x-big", "a".repeat(1_500)]]));
  assert.throws(
    () => decoder.decode(Buffer.alloc(1_000, 0xbe)),
    (e: unknown) => e instanceof HeaderListTooLarge && /list of 1537000 bytes/.test(e.message),
  );
  // The connection can go on: what was indexed meanwhile is known.
  assert.throws(
    () => decoder.decode(Buffer.concat([Buffer.alloc(1_000, 0xbe), encoder.encode([["x-new", "value"]])])),
    (e: unknown) => e instanceof HeaderListTooLarge,
  );
  assert.equal(decoder.decode(encoder.encode([["x-new", "value"]])), [["x-new", "value"]]);
});

test("a table that shrank and grew between two blocks is announced with its smallest size", () => {
  const encoder = new HpackEncoder();
  encoder.resize(0);
  encoder.resize(4_096);
  assert.is(encoder.encode([[":method", "GET"]]).toString("hex"), "203fe11f82");
  assert.is(encoder.encode([[":method", "GET"]]).toString("hex"), "82");
});

test("RFC 7541 C.3: requests without Huffman, one table", () => {
  const decoder = new HpackDecoder();
  assert.equal(decoder.decode(hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")).at(-1), [
    ":authority",
    "www.example.com",
  ]);
  assert.equal(decoder.decode(hex("8286 84be 5808 6e6f 2d63 6163 6865")).slice(3), [
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ]);
  assert.equal(
    decoder.decode(hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")).at(-1),
    ["custom-key", "custom-value"],
  );
});

test("RFC 7541 C.1, C.2: integers and single fields", () => {
  const decoder = new HpackDecoder();
  assert.equal(decoder.decode(hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")), [
    ["custom-key", "custom-header"],
  ]);
  assert.equal(decoder.decode(hex("040c 2f73 616d 706c 652f 7061 7468")), [[":path", "/sample/path"]]);
  assert.equal(decoder.decode(hex("1008 7061 7373 776f 7264 0673 6563 7265 74")), [["password", "secret"]]);
  assert.equal(decoder.decode(hex("82")), [[":method", "GET"]]);
  // 1337 with a prefix of five bits: 1f 9a 0a.
  assert.equal(new HpackDecoder().decode(hex("3f9a0a 82")), [[":method", "GET"]]);
});

test("a field in a table is one tuple, on all connections, and is written again by its index", () => {
  const block = new HpackEncoder().encode([["x-one", "tuple"]]);
  const decoders = [new HpackDecoder(), new HpackDecoder()];
  const [a, b] = decoders.map((decoder) => decoder.decode(block)[0]);
  assert.is(a, b);
  assert.is(decoders[0]!.decode(hex("be"))[0], a);
  const encoder = new HpackEncoder();
  encoder.encode([a!]);
  assert.is(encoder.encode([b!]).toString("hex"), "be");
  assert.is(encoder.encode([["x-one", "tuple"]]).toString("hex"), "be", "by its text as well");
});

test("what must not be indexed on one connection is not on the next", () => {
  const decoder = new HpackDecoder();
  const [header] = decoder.decode(hex("1008 7061 7373 776f 7264 0673 6563 7265 74"));
  const encoder = new HpackEncoder();
  for (const block of [encoder.encode([header!]), encoder.encode([header!])])
    assert.is(block.toString("hex"), "100870617373776f726406736563726574");
  const [plain] = decoder.decode(hex("0008 7061 7373 776f 7264 0673 6563 7265 74"));
  assert.is(encoder.encode([plain!])[0]! & 0xc0, 0x40);
});

test("a name whose values are always others does not push out those that last", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const lasting: Header = ["user-agent", "a client that stays the same"];
  decoder.decode(encoder.encode([lasting]));
  for (let i = 0; i < 1_000; i += 1) {
    const list: Header[] = [[":path", `/${i}`], ["x-request-id", `id-${i}`], lasting];
    const block = encoder.encode(list);
    if (i > 20) assert.ok(block.length < 24, `${block.length} bytes`);
    assert.equal(decoder.decode(block), list);
  }
  // It recurs, so it is worth a place from now on.
  for (const size of [8, 6, 1]) {
    const block = encoder.encode([[":path", "/same"]]);
    assert.ok(block.length <= size, `${block.length} bytes`);
    assert.equal(decoder.decode(block), [[":path", "/same"]]);
  }
});

test("characters that cannot be sent become question marks, not others", () => {
  for (const value of ["\u010a", "\u010a".repeat(40)]) {
    const [header] = new HpackDecoder().decode(
      new HpackEncoder().encode([
        ["x", value],
        [":path", value],
      ]),
    );
    assert.is(header![1], "?".repeat(value.length));
  }
});

test("secrets are never indexed", () => {
  const block = new HpackEncoder().encode([["authorization", "Bearer x"]]);
  assert.is(block[0]! & 0xf0, 0x10);
});

test.run();
