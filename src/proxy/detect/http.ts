// What the first bytes of a connection say about its protocol.

export type Detected = "http1" | "http2" | "opaque";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const VERSION = Buffer.from("HTTP/1.", "latin1");
/** Longest method taken for HTTP (the longest registered one, UPDATEREDIRECTREF, has 17). */
const METHOD_LIMIT = 24;
/** A first line longer than this is HTTP all the same; its parser will refuse it with a proper answer. */
export const DETECT_LIMIT = 16_384;

/**
 * The protocol that `buf` begins with; undefined while more bytes are needed. HTTP/1 is only recognised by a whole
 * request line: `GET key\r\n` is memcached, and `SET / HTTP` might go on in any way.
 */
export function detectHttp(buf: Uint8Array): Detected | undefined {
  const length = buf.length;
  let i = 0;
  while (i < PREFACE.length && i < length && buf[i] === PREFACE[i]) i += 1;
  if (i === PREFACE.length) return "http2";
  if (i === length) return undefined;

  i = 0;
  while (i < length && i <= METHOD_LIMIT && isMethodByte(buf[i]!)) i += 1;
  if (i === length) return undefined;
  if (i === 0 || buf[i] !== 0x20) return "opaque";
  i += 1;
  const target = i;
  while (i < length && buf[i]! > 0x20 && buf[i] !== 0x7f) i += 1;
  if (i === length) return length >= DETECT_LIMIT ? "http1" : undefined;
  if (i === target || buf[i] !== 0x20) return "opaque";
  i += 1;
  for (let at = 0; at < VERSION.length; at += 1, i += 1) {
    if (i === length) return undefined;
    if (buf[i] !== VERSION[at]) return "opaque";
  }
  return "http1";
}

function isMethodByte(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x2d || byte === 0x5f;
}
