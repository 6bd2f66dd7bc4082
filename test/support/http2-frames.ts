// HTTP/2 frames for tests that speak to the machine in bytes: writing them, and reading ours.
import { FrameReader, HEAD, TYPE, writeHead, writeUInt32 } from "../../src/http2/frame.ts";
import { writeSettings } from "../../src/http2/settings.ts";

/** One frame. */
export function frameOf(type: number, flags: number, stream: number, payload: Uint8Array = NOTHING): Buffer {
  const out = Buffer.alloc(HEAD + payload.length);
  writeHead(out, 0, payload.length, type, flags, stream);
  out.set(payload, HEAD);
  return out;
}

const NOTHING = new Uint8Array(0);

/** A payload of one 32-bit number, as RST_STREAM and WINDOW_UPDATE have it. */
export function number32(value: number): Buffer {
  const out = Buffer.alloc(4);
  writeUInt32(out, 0, value);
  return out;
}

/** A SETTINGS frame. */
export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  writeSettings(payload, 0, settings);
  return frameOf(TYPE.SETTINGS, 0, 0, payload);
}

/** The frames of a header block: HEADERS, then CONTINUATIONs when it is longer than `size`. */
export function headerFrames(stream: number, block: Buffer, endStream: boolean, size = 16_384): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += size) {
    const last = at + size >= block.length;
    const flags = (last ? 4 : 0) | (at === 0 && endStream ? 1 : 0);
    out.push(
      frameOf(at === 0 ? TYPE.HEADERS : TYPE.CONTINUATION, flags, stream, block.subarray(at, at + size)),
    );
  }
  return Buffer.concat(out);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Reads whole frames of a byte stream that comes in pieces. */
export class Frames {
  readonly #reader = new FrameReader();
  #parts: Buffer[] = [];

  /** The frames that these bytes complete. */
  push(bytes: Buffer): Frame[] {
    const out: Frame[] = [];
    const reader = this.#reader;
    reader.push(bytes);
    while (reader.next()) {
      const { type, flags, stream } = reader;
      this.#parts.push(Buffer.from(reader.data.subarray(reader.from, reader.to)));
      if (!reader.last) continue;
      out.push({ type, flags, stream, payload: Buffer.concat(this.#parts) });
      this.#parts = [];
    }
    return out;
  }
}
