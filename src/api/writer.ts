// Writes the protobuf wire format into one growing buffer.

export class Writer {
  #buffer = Buffer.allocUnsafe(256);
  #at = 0;

  finish(): Buffer {
    return Buffer.from(this.#buffer.subarray(0, this.#at));
  }

  tag(number: number, wire: number): void {
    this.varint(number * 8 + wire);
  }

  /** Negative numbers are written as 64-bit two's complement, ten bytes. */
  varint(value: number): void {
    this.#room(10);
    if (value < 0) {
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest >= 0x80n; rest >>= 7n) this.#buffer[this.#at++] = Number(rest & 0x7fn) | 0x80;
      this.#buffer[this.#at++] = Number(rest);
      return;
    }
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) this.#buffer[this.#at++] = (rest % 128) | 0x80;
    this.#buffer[this.#at++] = rest;
  }

  string(text: string): void {
    const size = Buffer.byteLength(text);
    this.varint(size);
    this.#room(size);
    this.#at += this.#buffer.write(text, this.#at, "utf8");
  }

  bytes(data: Uint8Array): void {
    this.varint(data.length);
    this.#room(data.length);
    this.#buffer.set(data, this.#at);
    this.#at += data.length;
  }

  fixed32(value: number): void {
    this.#room(4);
    this.#at = this.#buffer.writeUInt32LE(value >>> 0, this.#at);
  }

  fixed64(value: bigint): void {
    this.#room(8);
    this.#at = this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.#at);
  }

  float(value: number): void {
    this.#room(4);
    this.#at = this.#buffer.writeFloatLE(value, this.#at);
  }

  double(value: number): void {
    this.#room(8);
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
  }

  /** Begins a length-delimited part; pass what it returns to {@link end}. */
  begin(): number {
    this.#room(1);
    this.#at += 1;
    return this.#at;
  }

  /** Writes the length in front of the part; moves it when the length needs more than the one byte kept free. */
  end(mark: number): void {
    const size = this.#at - mark;
    if (size < 0x80) {
      this.#buffer[mark - 1] = size;
      return;
    }
    const width = size < 0x4000 ? 2 : size < 0x20_0000 ? 3 : size < 0x1000_0000 ? 4 : 5;
    this.#room(width - 1);
    this.#buffer.copyWithin(mark + width - 1, mark, this.#at);
    this.#at = mark - 1;
    this.varint(size);
    this.#at += size;
  }

  #room(size: number): void {
    if (this.#at + size <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + size + 64));
    this.#buffer.copy(grown, 0, 0, this.#at);
    this.#buffer = grown;
  }
}
