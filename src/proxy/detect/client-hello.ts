// Reads the server name out of a TLS ClientHello without taking part in the handshake (RFC 8446 §4.1.2, RFC 6066).

export type ClientHello =
  | { readonly kind: "more" }
  | { readonly kind: "not-tls" }
  /** @property sni in lower case; undefined when the client named none, or the hello could not be read on. */
  | { readonly kind: "hello"; readonly sni: string | undefined };

const MORE: ClientHello = { kind: "more" };
const NOT_TLS: ClientHello = { kind: "not-tls" };

/** A hello larger than this is passed on unread. */
export const HELLO_LIMIT = 16_384;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;

export function readClientHello(buf: Buffer): ClientHello {
  const length = buf.length;
  if (length === 0) return MORE;
  if (buf[0] !== HANDSHAKE) return NOT_TLS;
  if (length > 1 && buf[1] !== 3) return NOT_TLS;
  if (length > 2 && buf[2]! > 4) return NOT_TLS;
  if (length > 5 && buf[5] !== CLIENT_HELLO) return NOT_TLS;
  if (length < 9) return MORE;
  const size = buf.readUIntBE(6, 3);
  if (size > HELLO_LIMIT) return { kind: "hello", sni: undefined };
  const message = handshakeMessage(buf, size + 4);
  if (message === "more") return MORE;
  if (message === "invalid") return NOT_TLS;
  return { kind: "hello", sni: serverName(message.subarray(4)) };
}

/** The first `size` bytes of the handshake stream, over as many records as it takes. */
function handshakeMessage(buf: Buffer, size: number): Buffer | "more" | "invalid" {
  const parts: Buffer[] = [];
  let have = 0;
  let at = 0;
  while (have < size) {
    if (buf.length < at + 5) return "more";
    const recordLength = buf.readUInt16BE(at + 3);
    if (buf[at] !== HANDSHAKE || recordLength === 0 || recordLength > 16_640) return "invalid";
    if (buf.length < at + 5 + recordLength) return "more";
    const part = buf.subarray(at + 5, at + 5 + recordLength);
    parts.push(part);
    have += part.length;
    at += 5 + recordLength;
  }
  return (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).subarray(0, size);
}

/** Walks version, random, session id, cipher suites and compression methods to the extensions. */
function serverName(hello: Buffer): string | undefined {
  let at = 34;
  if (at >= hello.length) return undefined;
  at += 1 + hello[at]!;
  if (at + 2 > hello.length) return undefined;
  at += 2 + hello.readUInt16BE(at);
  if (at >= hello.length) return undefined;
  at += 1 + hello[at]!;
  if (at + 2 > hello.length) return undefined;
  const end = Math.min(hello.length, at + 2 + hello.readUInt16BE(at));
  at += 2;
  while (at + 4 <= end) {
    const type = hello.readUInt16BE(at);
    const size = hello.readUInt16BE(at + 2);
    at += 4;
    if (at + size > end) return undefined;
    if (type === SERVER_NAME) return hostName(hello.subarray(at, at + size));
    at += size;
  }
  return undefined;
}

/** The one host_name of the list. */
function hostName(list: Buffer): string | undefined {
  if (list.length < 5 || list.readUInt16BE(0) !== list.length - 2 || list[2] !== 0) return undefined;
  const size = list.readUInt16BE(3);
  if (5 + size > list.length || size === 0) return undefined;
  return list.toString("latin1", 5, 5 + size).toLowerCase();
}
