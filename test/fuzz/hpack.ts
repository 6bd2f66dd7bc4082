// Header blocks, one after the other on one connection: each is refused, or read as a list that we can write again.
// The input is a sequence of blocks, each behind a byte with its length.
import * as assert from "node:assert/strict";
import { KIND, readRequest, readResponse, readTrailers } from "../../src/http2/fields.ts";
import {
  HeaderListTooLarge,
  HPACK_LIMITS,
  HpackDecoder,
  HpackEncoder,
  HpackError,
  listSize,
} from "../../src/http2/hpack.ts";

export function fuzz(bytes: Buffer): string {
  const decoder = new HpackDecoder();
  const encoder = new HpackEncoder();
  const mirror = new HpackDecoder();
  const seen: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(at + 1 + bytes[at]!, bytes.length);
    try {
      const headers = decoder.decode(bytes, at + 1, end);
      assert.ok(headers.length <= HPACK_LIMITS.count && listSize(headers) <= HPACK_LIMITS.listSize);
      assert.ok(decoder.kinds.subarray(0, headers.length).every((kind) => kind <= KIND.MALFORMED));
      assert.deepEqual(mirror.decode(encoder.encode(headers)), headers);
      const { kinds } = decoder;
      const request = readRequest(headers, kinds, true) === undefined;
      if (request) assertPlain(headers);
      const other = readResponse(headers, kinds) ?? readTrailers(headers, kinds);
      seen.push(request ? "request" : other === undefined ? "message" : "list");
    } catch (error) {
      if (error instanceof HeaderListTooLarge) seen.push("large");
      else if (error instanceof HpackError) return [...seen, error.message.replace(/\d+/g, "n")].join(" ");
      else throw error;
    }
    at = end;
  }
  return [...new Set(seen)].join(" ");
}

/** What passes for a request can be written as HTTP/1: no line can end early, and its first line has two spaces. */
function assertPlain(headers: readonly (readonly [string, string])[]): void {
  for (const [name, value] of headers) {
    assert.ok(!/[\0\r\n]/.test(name + value), "a line break in a field");
    if (name === ":path" || name === ":method") assert.ok(!/[\s\x7f]/.test(value), `a space in ${name}`);
  }
}
