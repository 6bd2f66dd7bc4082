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

export const CLIENT_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** The size that every peer must take, and the least that it may announce, bytes. */
export const MIN_FRAME = 16_384;
/** The most that it may announce. */
export const MAX_FRAME = 0xff_ffff;
/** The most that we announce and send. Bodies are never gathered to a frame, so larger ones cost no memory. */
export const OUR_FRAME = 65_536;
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

/** Bytes before a frame's payload. */
export const HEAD = 9;
const NOTHING = Buffer.alloc(0);

/**
 * Cuts bytes into frames: after each `push`, `next` moves on while it can. A frame comes whole, except for DATA, which
 * comes as its bytes come, in one piece or several, and without its padding.
 */
export class FrameReader {
  type = 0;
  flags = 0;
  stream = 0;
  /** Bytes of the frame's payload, padding included; and, of DATA, those that are padding. */
  length = 0;
  padding = 0;
  /** Payload, or a piece of it: `data[from, to)`, only good until the next `push`. */
  data: Buffer = NOTHING;
  from = 0;
  to = 0;
  /** The piece is the frame's first; its last. */
  first = true;
  last = true;
  #chunk: Buffer = NOTHING;
  #at = 0;
  /** What is left to come of a DATA frame: of its body, and of its padding. */
  #body = 0;
  #padding = 0;
  /** The beginning of a frame that is not whole yet: `#had` bytes of `#partial`. */
  #partial: Buffer = NOTHING;
  #had = 0;

  /** A frame other than DATA has begun and not ended. */
  get waiting(): boolean {
    return this.#had > 0;
  }

  /** Takes bytes; only when `next` has said that it needs some. They must not change until it says so again. */
  push(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** Moves on to the next frame or piece. @throws ConnectionError for a frame that is too large or badly padded */
  next(): boolean {
    if (this.#body > 0) {
      this.first = false;
      return this.#piece();
    }
    if (this.#padding > 0 && !this.#skip()) return false;
    if (this.#had > 0) return this.#complete();
    const chunk = this.#chunk;
    const at = this.#at;
    const there = chunk.length - at;
    if (there < HEAD) return this.#keep(HEAD);
    this.#readHead(chunk, at);
    if (this.type === TYPE.DATA) {
      if ((this.flags & FLAG.PADDED) !== 0 && there === HEAD && this.length > 0) return this.#keep(HEAD + 1);
      this.#at = at + this.#begin(chunk, at);
      return this.#piece();
    }
    const size = HEAD + this.length;
    if (there < size) return this.#keep(size);
    this.data = chunk;
    this.from = at + HEAD;
    this.to = at + size;
    this.#at = at + size;
    return true;
  }

  #readHead(data: Buffer, at: number): void {
    const length = (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
    if (length > OUR_FRAME) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, `frame of ${length} bytes`);
    this.length = length;
    this.type = data[at + 3]!;
    this.flags = data[at + 4]!;
    this.stream = readUInt32(data, at + 5) & 0x7fff_ffff;
    this.first = true;
    this.last = true;
  }

  /** A DATA frame begins. @returns how many bytes stand before its body */
  #begin(data: Buffer, at: number): number {
    if ((this.flags & FLAG.PADDED) === 0) {
      this.padding = 0;
      this.#body = this.length;
      return HEAD;
    }
    const padding = this.length === 0 ? 0 : data[at + HEAD]!;
    if (padding >= this.length)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "padding longer than the frame");
    this.padding = padding + 1;
    this.#padding = padding;
    this.#body = this.length - padding - 1;
    return HEAD + 1;
  }

  /** What is here of a DATA frame's body. The first piece may be empty, others may not. */
  #piece(): boolean {
    const there = this.#chunk.length - this.#at;
    if (there === 0 && !this.first) return false;
    const size = Math.min(this.#body, there);
    this.#body -= size;
    this.data = this.#chunk;
    this.from = this.#at;
    this.to = this.#at + size;
    this.last = this.#body === 0;
    this.#at += size;
    return true;
  }

  /** Passes over padding. */
  #skip(): boolean {
    const size = Math.min(this.#padding, this.#chunk.length - this.#at);
    this.#padding -= size;
    this.#at += size;
    return this.#padding === 0;
  }

  /** Keeps what is here of a frame whose first `size` bytes are needed together: the chunk is not ours to keep. */
  #keep(size: number): boolean {
    const there = this.#chunk.length - this.#at;
    if (there === 0) return false;
    this.#partial = Buffer.allocUnsafe(size);
    this.#chunk.copy(this.#partial, 0, this.#at);
    this.#had = there;
    this.#at = this.#chunk.length;
    return false;
  }

  /** Fills the frame that was begun. */
  #complete(): boolean {
    if (!this.#fill()) return false;
    let partial = this.#partial;
    if (partial.length === HEAD) {
      this.#readHead(partial, 0);
      const padded = this.type === TYPE.DATA && (this.flags & FLAG.PADDED) !== 0 && this.length > 0;
      const size = this.type === TYPE.DATA ? (padded ? HEAD + 1 : HEAD) : HEAD + this.length;
      if (size > HEAD) {
        this.#partial = Buffer.allocUnsafe(size);
        partial.copy(this.#partial, 0);
        if (!this.#fill()) return false;
        partial = this.#partial;
      }
    }
    this.#had = 0;
    this.#partial = NOTHING;
    this.#readHead(partial, 0);
    if (this.type === TYPE.DATA) {
      this.#begin(partial, 0);
      return this.#piece();
    }
    this.data = partial;
    this.from = HEAD;
    this.to = HEAD + this.length;
    return true;
  }

  #fill(): boolean {
    const size = Math.min(this.#partial.length - this.#had, this.#chunk.length - this.#at);
    this.#chunk.copy(this.#partial, this.#had, this.#at, this.#at + size);
    this.#had += size;
    this.#at += size;
    return this.#had === this.#partial.length;
  }
}

/** Writes the head of a frame at `at`. */
export function writeHead(
  out: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  stream: number,
): void {
  out[at] = length >>> 16;
  out[at + 1] = length >>> 8;
  out[at + 2] = length;
  out[at + 3] = type;
  out[at + 4] = flags;
  writeUInt32(out, at + 5, stream);
}

export function writeUInt32(out: Buffer, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}

export function readUInt32(data: Buffer, at: number): number {
  return ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;
}
