// Huffman codes: a text has one, and only that is taken for it.
import * as assert from "node:assert/strict";
import { huffmanBound, huffmanDecode, huffmanEncode, huffmanSize } from "../../src/http2/huffman.ts";

export function fuzz(bytes: Buffer): string {
  const text = bytes.toString("latin1");
  const coded = Buffer.alloc(huffmanSize(text));
  assert.equal(huffmanEncode(text, coded, 0), coded.length);
  assert.equal(decoded(coded), text);

  const meant = decoded(bytes);
  if (meant === undefined) return "no code";
  const again = Buffer.alloc(huffmanSize(meant));
  huffmanEncode(meant, again, 0);
  assert.ok(again.equals(bytes), "two codes for one text");
  return `code of ${Math.min(meant.length, 8)}`;
}

function decoded(coded: Buffer): string | undefined {
  const bound = huffmanBound(coded.length);
  // What is written beyond the bound would be seen here.
  const out = Buffer.alloc(bound + 8, 0xee);
  const size = huffmanDecode(coded, 0, coded.length, out);
  assert.ok(size <= bound);
  assert.ok(out.subarray(bound).every((byte) => byte === 0xee));
  return size < 0 ? undefined : out.toString("latin1", 0, size);
}
