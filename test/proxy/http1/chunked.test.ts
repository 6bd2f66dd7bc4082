// Chunked bodies: where they end, and what is none.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ChunkedBody } from "../../../src/proxy/http1/chunked.ts";

const test = suite("chunked body");

const read = (text: string) => {
  const body = new ChunkedBody();
  const bytes = Buffer.from(text, "latin1");
  const at = body.read(bytes, 0, bytes.length);
  return { body, at };
};

test("ends after the last chunk and its trailers", () => {
  for (const text of [
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    'A;x="y"\r\n0123456789\r\n000\r\nT: v\r\nU:\r\n\r\n',
  ]) {
    const { body, at } = read(`${text}GET /`);
    assert.ok(body.done, text);
    assert.is(at, text.length);
  }
});

for (const [name, text] of [
  ["an empty size", "\r\n"],
  ["a size with a sign", "+5\r\nhello\r\n"],
  ["a size with 0x", "0x5\r\nhello\r\n"],
  ["a size too large", "1234567890123\r\n"],
  ["a space after the size", "5 \r\nhello\r\n"],
  ["a bare LF after the size", "5\nhello\r\n"],
  ["a bare LF in an extension", "5;a\nhello\r\n"],
  ["a chunk longer than its size", "5\r\nhello!\r\n"],
  ["a bare LF after a chunk", "5\r\nhello\n"],
  ["a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"],
  ["a bare LF in the trailers", "0\r\nA: b\n\r\n"],
  ["an endless extension", `5;${"a".repeat(2_000)}`],
  ["endless trailers", `0\r\n${"a: b\r\n".repeat(5_000)}`],
]) {
  test(`refuses ${name}`, () => assert.ok(read(text!).body.failed));
}

test("any chunking of the same bytes gives the same end", () => {
  const chunk = fc.string({ minLength: 1, maxLength: 20, unit: "grapheme-ascii" });
  fc.assert(
    fc.property(
      fc.array(chunk, { maxLength: 4 }),
      fc.string({ maxLength: 10 }),
      fc.array(fc.nat(100)),
      (chunks, rest, cuts) => {
        const body = `${chunks.map((c) => `${c.length.toString(16)}\r\n${c}\r\n`).join("")}0\r\n\r\n`;
        const bytes = Buffer.from(body + rest, "latin1");
        const reader = new ChunkedBody();
        const points = [...cuts.map((c) => c % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        let consumed = 0;
        let last = 0;
        for (const point of points) {
          consumed += reader.read(bytes, last, point) - last;
          last = point;
        }
        assert.is(consumed, body.length);
        assert.ok(reader.done);
      },
    ),
  );
});

test.run();
