// Chunked bodies (RFC 9112 §7.1): followed byte by byte to know where they end, the bytes going on as they came or
// taken out of their chunks; and written.
//
//   SIZE ─digits→ SIZE ─';'→ EXTENSION ─CR→ SIZE_LF ─LF→ DATA ─→ DATA_CR → DATA_LF → SIZE
//                                             └ size 0 → TRAILER … blank line → DONE

import type { Field } from "../http/message.ts";
import { fieldLines } from "./message.ts";

const SIZE = 0;
const EXTENSION = 1;
const SIZE_LF = 2;
const DATA = 3;
const DATA_CR = 4;
const DATA_LF = 5;
const TRAILER = 6;
const TRAILER_NAME = 7;
const TRAILER_VALUE = 8;
const TRAILER_LF = 9;
const END_LF = 10;
const DONE = 11;
const FAILED = 12;

/** Most hexadecimal digits of a chunk's size: 2^48 bytes is no honest chunk. */
const SIZE_DIGITS = 12;
/** Most bytes of all extensions of one chunk, and of all trailers. */
const EXTENSION_LIMIT = 1_024;
const TRAILER_LIMIT = 16_384;

const CR = 0x0d;
const LF = 0x0a;

/** What frames or addresses a message means nothing behind its body (RFC 9110 §6.5.1). */
const NO_TRAILERS = new Set([
  "connection",
  "content-length",
  "host",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

export class ChunkedBody {
  #state = SIZE;
  #remaining = 0;
  #digits = 0;
  /** Bytes of the current extension, or of the trailers so far. */
  #bytes = 0;
  /** The trailer lines so far; kept only where they are asked for. */
  #trailers = "";

  reset(): void {
    this.#state = SIZE;
    this.#trailers = "";
    this.#remaining = 0;
    this.#digits = 0;
    this.#bytes = 0;
  }

  get done(): boolean {
    return this.#state === DONE;
  }

  /** The framing is not chunked coding; nothing after it can be trusted. */
  get failed(): boolean {
    return this.#state === FAILED;
  }

  /**
   * Reads on in `buf[start, end)`; returns the position after the last byte that belongs to the body.
   * @param onData told where the data of chunks are; with it, trailers are kept too
   */
  read(
    buf: Buffer,
    start: number,
    end: number,
    onData?: (buf: Buffer, start: number, end: number) => void,
  ): number {
    let i = start;
    while (i < end && this.#state < DONE) {
      if (this.#state === DATA) {
        const step = Math.min(this.#remaining, end - i);
        onData?.(buf, i, i + step);
        i += step;
        this.#remaining -= step;
        if (this.#remaining === 0) this.#state = DATA_CR;
        continue;
      }
      const byte = buf[i]!;
      this.#state = this.#next(byte);
      if (onData && this.#state >= TRAILER_NAME && this.#state <= TRAILER_LF)
        this.#trailers += String.fromCharCode(byte);
      i += 1;
    }
    return i;
  }

  /** The trailers of a body that is done; undefined when there are none, or they were not kept. */
  get trailers(): readonly Field[] | undefined {
    if (this.#trailers === "") return undefined;
    const fields: Field[] = [];
    for (const line of this.#trailers.split("\r")) {
      const colon = line.indexOf(":");
      const name = line.slice(0, colon).toLowerCase();
      if (colon > 0 && !NO_TRAILERS.has(name)) fields.push([name, line.slice(colon + 1).trim()]);
    }
    return fields;
  }

  #next(byte: number): number {
    switch (this.#state) {
      case SIZE: {
        const digit = hexDigit(byte);
        if (digit >= 0) {
          this.#digits += 1;
          if (this.#digits > SIZE_DIGITS) return FAILED;
          this.#remaining = this.#remaining * 16 + digit;
          return SIZE;
        }
        if (this.#digits === 0) return FAILED;
        this.#bytes = 0;
        if (byte === CR) return SIZE_LF;
        return byte === 0x3b ? EXTENSION : FAILED;
      }
      case EXTENSION:
        this.#bytes += 1;
        if (byte === CR) return SIZE_LF;
        return this.#bytes > EXTENSION_LIMIT || isControl(byte) ? FAILED : EXTENSION;
      case SIZE_LF:
        if (byte !== LF) return FAILED;
        this.#digits = 0;
        this.#bytes = 0;
        return this.#remaining === 0 ? TRAILER : DATA;
      case DATA_CR:
        return byte === CR ? DATA_LF : FAILED;
      case DATA_LF:
        return byte === LF ? SIZE : FAILED;
      case TRAILER:
        if (byte === CR) return END_LF;
        return isNameByte(byte) ? TRAILER_NAME : FAILED;
      case TRAILER_NAME:
        if (this.#overTrailerLimit()) return FAILED;
        return byte === 0x3a ? TRAILER_VALUE : isNameByte(byte) ? TRAILER_NAME : FAILED;
      case TRAILER_VALUE:
        if (this.#overTrailerLimit()) return FAILED;
        return byte === CR ? TRAILER_LF : isControl(byte) ? FAILED : TRAILER_VALUE;
      case TRAILER_LF:
        return byte === LF ? TRAILER : FAILED;
      default:
        return byte === LF ? DONE : FAILED;
    }
  }

  #overTrailerLimit(): boolean {
    this.#bytes += 1;
    return this.#bytes > TRAILER_LIMIT;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function isControl(byte: number): boolean {
  return (byte < 0x20 && byte !== 0x09) || byte === 0x7f;
}

/** Good enough to refuse folded lines and line ends in a trailer's name; the name itself means nothing to us. */
function isNameByte(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f && byte !== 0x3a;
}

/** The end of a chunked body without trailers. */
export const LAST_CHUNK = Buffer.from("0\r\n\r\n", "latin1");

/** The end of a chunked body with trailers. */
export function lastChunk(trailers: readonly Field[]): Buffer {
  return Buffer.from(`0\r\n${fieldLines(trailers)}\r\n`, "latin1");
}

/** What stands behind a chunk's bytes. */
export const CHUNK_END = Buffer.from("\r\n", "latin1");

/** What stands before a chunk's bytes. @param size of the chunk, not 0: that would be the last */
export const chunkStart = (size: number): Buffer => Buffer.from(`${size.toString(16)}\r\n`, "latin1");

/** `bytes` as one chunk. They are copied: one buffer is one system call. */
export function chunk(bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes;
  const size = `${bytes.length.toString(16)}\r\n`;
  const out = Buffer.allocUnsafe(size.length + bytes.length + 2);
  out.write(size, 0, "latin1");
  bytes.copy(out, size.length);
  out[out.length - 2] = 0x0d;
  out[out.length - 1] = 0x0a;
  return out;
}
