// transport.l5d.io: what a proxy writes first on a connection of ALPN transport.l5d.io/v1.
import { decode, embed, encode, int32, type MessageOf, message, string, WireError } from "./codec.ts";

export const SessionProtocolHttp1 = message("transport.l5d.io.SessionProtocol.Http1", {});
export const SessionProtocolHttp2 = message("transport.l5d.io.SessionProtocol.Http2", {});

export const SessionProtocol = message("transport.l5d.io.SessionProtocol", {
  http1: embed(1, () => SessionProtocolHttp1),
  http2: embed(2, () => SessionProtocolHttp2),
});

/**
 * Of our own: the dialling proxy would hear when the application cannot be reached, by a word in place of the application's
 * bytes (proxy/transport/unserved.ts). Other proxies pass over it.
 */
export const HearsUnserved = message("kubectl_mesh.transport.HearsUnserved", {});

export const Header = message("transport.l5d.io.Header", {
  port: int32(1),
  name: string(2),
  sessionProtocol: embed(3, () => SessionProtocol),
  hearsUnserved: embed(50_001, () => HearsUnserved),
});

export type TransportHeader = MessageOf<typeof Header>;

/** The ALPN protocol, also the first bytes of the preface. */
export const TRANSPORT_PROTOCOL = "transport.l5d.io/v1";

const PREFACE = Buffer.from(`${TRANSPORT_PROTOCOL}\r\n\r\n`, "latin1");
/** A longer header is refused, bytes. */
export const MAX_TRANSPORT_HEADER = 64 * 1024;

/** Preface, big-endian length, message. */
export function encodeTransportHeader(header: Partial<TransportHeader>): Buffer {
  const body = encode(Header, header);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([PREFACE, length, body]);
}

/**
 * Reads a header from the beginning of `data`: undefined while more bytes are needed.
 * @throws WireError when the bytes are no transport header, or it is too long.
 */
export function decodeTransportHeader(data: Buffer): { header: TransportHeader; size: number } | undefined {
  const known = Math.min(data.length, PREFACE.length);
  if (data.compare(PREFACE, 0, known, 0, known) !== 0) throw new WireError("not a transport header");
  const start = PREFACE.length + 4;
  if (data.length < start) return undefined;
  const size = data.readUInt32BE(PREFACE.length);
  if (size > MAX_TRANSPORT_HEADER) throw new WireError(`transport header of ${size} bytes`);
  if (data.length < start + size) return undefined;
  return { header: decode(Header, data.subarray(start, start + size)), size: start + size };
}
