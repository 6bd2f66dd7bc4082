// Reads the protobuf wire format from a buffer, never past the given end.

export const WIRE = { VARINT: 0, FIXED64: 1, LENGTH: 2, FIXED32: 5 } as const;

/** Bytes that are not a protobuf message. */
export class WireError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "WireError";
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class Reader {
  at = 0;
  readonly #data: Buffer;

  constructor(data: Buffer) {
    this.#data = data;
  }

  /** A varint that fits 32 bits, as tags and lengths are. */
  uint32(end: number): number {
    const value = this.uint64(end);
    if (value > 0xffff_ffff) throw new WireError("varint larger than 32 bits");
    return value;
  }

  /** An unsigned varint. @throws WireError beyond 2^53 - 1, which a number cannot hold. */
  uint64(end: number): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count += 1) {
      if (this.at >= end) throw new WireError("varint has no end");
      const byte = this.#data[this.at]!;
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new WireError("varint larger than 2^53");
        return value;
      }
      scale *= 128;
    }
    throw new WireError("varint longer than 10 bytes");
  }

  /** A varint as a signed 64-bit number: negative ones take ten bytes. @throws WireError beyond ±2^53. */
  int64(end: number): number {
    let value = 0n;
    for (let count = 0n; count < 10n; count += 1n) {
      if (this.at >= end) throw new WireError("varint has no end");
      const byte = this.#data[this.at]!;
      this.at += 1;
      if (count === 0n && byte < 0x80) return byte;
      value |= BigInt(byte & 0x7f) << (7n * count);
      if (byte < 0x80) {
        const signed = Number(BigInt.asIntN(64, value));
        if (!Number.isSafeInteger(signed)) throw new WireError("varint larger than 2^53");
        return signed;
      }
    }
    throw new WireError("varint longer than 10 bytes");
  }

  /** Reads a length and gives the position where that many bytes end. */
  length(end: number): number {
    const size = this.uint32(end);
    const stop = this.at + size;
    if (stop > end) throw new WireError(`${size} bytes announced, ${end - this.at} there`);
    return stop;
  }

  string(end: number): string {
    const stop = this.length(end);
    const part = this.#data.subarray(this.at, stop);
    this.at = stop;
    // Most strings are short ASCII; latin1 is the quick way for them.
    for (let i = 0; i < part.length; i += 1) {
      if (part[i]! < 0x80) continue;
      try {
        return utf8.decode(part);
      } catch {
        throw new WireError("string is not UTF-8");
      }
    }
    return part.toString("latin1");
  }

  bytes(end: number): Buffer {
    const stop = this.length(end);
    const copy = Buffer.from(this.#data.subarray(this.at, stop));
    this.at = stop;
    return copy;
  }

  fixed32(end: number): number {
    return this.#data.readUInt32LE(this.#take(4, end));
  }

  fixed64(end: number): bigint {
    return this.#data.readBigUInt64LE(this.#take(8, end));
  }

  float(end: number): number {
    return this.#data.readFloatLE(this.#take(4, end));
  }

  double(end: number): number {
    return this.#data.readDoubleLE(this.#take(8, end));
  }

  skip(wire: number, end: number): void {
    if (wire === WIRE.VARINT) {
      for (let count = 0; ; count += 1) {
        if (this.at >= end || count >= 10) throw new WireError("varint has no end");
        this.at += 1;
        if (this.#data[this.at - 1]! < 0x80) return;
      }
    } else if (wire === WIRE.LENGTH) this.at = this.length(end);
    else if (wire === WIRE.FIXED32) this.#take(4, end);
    else if (wire === WIRE.FIXED64) this.#take(8, end);
    else throw new WireError(`wire type ${wire}`);
  }

  #take(size: number, end: number): number {
    const from = this.at;
    if (from + size > end) throw new WireError(`${size} bytes needed, ${end - from} there`);
    this.at = from + size;
    return from;
  }
}

export const readerOf = (data: Uint8Array): Reader =>
  new Reader(Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength));
