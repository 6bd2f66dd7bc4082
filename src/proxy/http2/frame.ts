// HTTP/2 frames (RFC 9113 §4, §6): cutting a byte stream into them and writing them.

export const TYPE = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const FLAG = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const;

export const ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
  INADEQUATE_SECURITY: 12,
  HTTP_1_1_REQUIRED: 13,
} as const;

export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
  ENABLE_CONNECT_PROTOCOL: 8,
} as const;

export const CLIENT_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** The size every peer must take, and all that we send and announce. */
export const MAX_FRAME = 16_384;
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW = 0x7fff_ffff;

/** A violation that ends the connection, with the code for GOAWAY. */
export class ConnectionError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.name = "ConnectionError";
    this.code = code;
  }
}

const HEAD = 9;

/** Cuts bytes into frames. `payload` is only good during the call. */
export class FrameReader {
  readonly #take: (type: number, flags: number, stream: number, payload: Buffer) => void;
  #rest: Buffer | undefined;

  constructor(take: (type: number, flags: number, stream: number, payload: Buffer) => void) {
    this.#take = take;
  }

  /** @throws ConnectionError for a frame that is too large, and whatever the taker throws. */
  push(chunk: Buffer): void {
    const data = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    while (data.length - at >= HEAD) {
      const length = data.readUIntBE(at, 3);
      if (length > MAX_FRAME) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, `frame of ${length} bytes`);
      const end = at + HEAD + length;
      if (end > data.length) break;
      this.#take(
        data[at + 3]!,
        data[at + 4]!,
        data.readUInt32BE(at + 5) & 0x7fff_ffff,
        data.subarray(at + HEAD, end),
      );
      at = end;
    }
    // A copy: the socket's buffer is used again.
    this.#rest = at === data.length ? undefined : Buffer.from(data.subarray(at));
  }
}

/** One frame. */
export function frameOf(type: number, flags: number, stream: number, payload: Uint8Array = EMPTY): Buffer {
  const out = Buffer.allocUnsafe(HEAD + payload.length);
  writeHead(out, type, flags, stream, payload.length);
  out.set(payload, HEAD);
  return out;
}

/** The head alone, for a payload that follows as it is. */
export function frameHead(type: number, flags: number, stream: number, length: number): Buffer {
  const out = Buffer.allocUnsafe(HEAD);
  writeHead(out, type, flags, stream, length);
  return out;
}

function writeHead(out: Buffer, type: number, flags: number, stream: number, length: number): void {
  out.writeUIntBE(length, 0, 3);
  out[3] = type;
  out[4] = flags;
  out.writeUInt32BE(stream, 5);
}

const EMPTY = new Uint8Array(0);

/** A payload of one 32-bit number, as RST_STREAM and WINDOW_UPDATE have it. */
export function number32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

/** A SETTINGS frame. */
export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.allocUnsafe(settings.length * 6);
  settings.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return frameOf(TYPE.SETTINGS, 0, 0, payload);
}

/** The frames of a header block: HEADERS, then as many CONTINUATIONs as it needs. */
export function headerFrames(stream: number, block: Buffer, endStream: boolean): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += MAX_FRAME) {
    const last = at + MAX_FRAME >= block.length;
    const flags = (last ? FLAG.END_HEADERS : 0) | (at === 0 && endStream ? FLAG.END_STREAM : 0);
    out.push(
      frameOf(at === 0 ? TYPE.HEADERS : TYPE.CONTINUATION, flags, stream, block.subarray(at, at + MAX_FRAME)),
    );
  }
  return out;
}

/** A payload without its padding. @throws ConnectionError */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if ((flags & FLAG.PADDED) === 0) return payload;
  const padding = payload[0] ?? 255;
  if (padding >= payload.length)
    throw new ConnectionError(ERROR.PROTOCOL_ERROR, "padding longer than the frame");
  return payload.subarray(1, payload.length - padding);
}
