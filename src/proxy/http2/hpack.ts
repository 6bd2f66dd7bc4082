// HPACK (RFC 7541): header lists ↔ header blocks, with the dynamic table of one direction of one connection.
import { huffmanDecode, huffmanEncode, huffmanSize } from "./huffman.ts";

export type Header = readonly [name: string, value: string];

// biome-ignore format: the static table of appendix A, in its order.
const STATIC: readonly Header[] = [
  [":authority", ""], [":method", "GET"], [":method", "POST"], [":path", "/"], [":path", "/index.html"], [":scheme", "http"],
  [":scheme", "https"], [":status", "200"], [":status", "204"], [":status", "206"], [":status", "304"], [":status", "400"],
  [":status", "404"], [":status", "500"], ["accept-charset", ""], ["accept-encoding", "gzip, deflate"], ["accept-language", ""],
  ["accept-ranges", ""], ["accept", ""], ["access-control-allow-origin", ""], ["age", ""], ["allow", ""], ["authorization", ""],
  ["cache-control", ""], ["content-disposition", ""], ["content-encoding", ""], ["content-language", ""], ["content-length", ""],
  ["content-location", ""], ["content-range", ""], ["content-type", ""], ["cookie", ""], ["date", ""], ["etag", ""], ["expect", ""],
  ["expires", ""], ["from", ""], ["host", ""], ["if-match", ""], ["if-modified-since", ""], ["if-none-match", ""], ["if-range", ""],
  ["if-unmodified-since", ""], ["last-modified", ""], ["link", ""], ["location", ""], ["max-forwards", ""],
  ["proxy-authenticate", ""], ["proxy-authorization", ""], ["range", ""], ["referer", ""], ["refresh", ""], ["retry-after", ""],
  ["server", ""], ["set-cookie", ""], ["strict-transport-security", ""], ["transfer-encoding", ""], ["user-agent", ""], ["vary", ""],
  ["via", ""], ["www-authenticate", ""],
];

/** An entry's size is its text plus this (RFC 7541 §4.1). */
const OVERHEAD = 32;
const sizeOf = ([name, value]: Header) => name.length + value.length + OVERHEAD;

/** Bytes that are not a header block. The connection is of no use afterwards: both tables may differ. */
export class HpackError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "HpackError";
  }
}

/** A well-formed list above the limits. The tables are in step: the connection goes on, only the message is lost. */
export class HeaderListTooLarge extends Error {
  constructor(message: string) {
    super(message);
    this.name = "HeaderListTooLarge";
  }
}

/** A ring of entries, newest first, bounded by their summed size. */
class DynamicTable {
  readonly #entries: Header[] = [];
  #size = 0;
  #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  get length(): number {
    return this.#entries.length;
  }

  /** @param index 0 is the newest */
  at(index: number): Header | undefined {
    return this.#entries[this.#entries.length - 1 - index];
  }

  resize(limit: number): void {
    this.#limit = limit;
    this.#evict();
  }

  add(header: Header): void {
    // An entry larger than the table empties it; that is no error (§4.4).
    this.#entries.push(header);
    this.#size += sizeOf(header);
    this.#evict();
  }

  /** Index of the same header, or of one with the name: [full, name], -1 for none. */
  find(name: string, value: string): readonly [number, number] {
    let byName = -1;
    for (let i = this.#entries.length - 1, index = 0; i >= 0; i -= 1, index += 1) {
      const entry = this.#entries[i]!;
      if (entry[0] !== name) continue;
      if (entry[1] === value) return [index, index];
      if (byName < 0) byName = index;
    }
    return [-1, byName];
  }

  #evict(): void {
    let drop = 0;
    while (this.#size > this.#limit) {
      this.#size -= sizeOf(this.#entries[drop]!);
      drop += 1;
    }
    if (drop > 0) this.#entries.splice(0, drop);
  }
}

export interface HpackLimits {
  /** Most dynamic table that we keep, bytes; the value of our SETTINGS_HEADER_TABLE_SIZE. */
  readonly tableSize: number;
  /** A header list above this is refused, bytes as RFC 9113 §6.5.2 counts them. */
  readonly listSize: number;
  /** Fields of one list. */
  readonly count: number;
}

export const HPACK_LIMITS: HpackLimits = { tableSize: 4_096, listSize: 16_384, count: 200 };

export class HpackDecoder {
  readonly #limits: HpackLimits;
  readonly #table: DynamicTable;
  #data: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(limits: HpackLimits = HPACK_LIMITS) {
    this.#limits = limits;
    this.#table = new DynamicTable(limits.tableSize);
  }

  /** The header list of a whole block. @throws HpackError, HeaderListTooLarge */
  decode(block: Uint8Array): Header[] {
    this.#data = block;
    this.#at = 0;
    const headers: Header[] = [];
    const { listSize, count: most } = this.#limits;
    let size = 0;
    let count = 0;
    let resizable = true;
    while (this.#at < block.length) {
      const byte = block[this.#at]!;
      if ((byte & 0xe0) === 0x20) {
        if (!resizable) throw new HpackError("table size update after a header");
        this.#resize(this.#integer(5));
        continue;
      }
      resizable = false;
      const header = this.#header(byte);
      size += sizeOf(header);
      count += 1;
      // Beyond the limits it is read on, so that the tables stay in step, but nothing more is kept.
      if (size <= listSize && count <= most) headers.push(header);
    }
    if (size > listSize)
      throw new HeaderListTooLarge(`header list of ${size} bytes, the limit is ${listSize}`);
    if (count > most) throw new HeaderListTooLarge(`${count} headers, the limit is ${most}`);
    return headers;
  }

  #header(byte: number): Header {
    if (byte & 0x80) return this.#entry(this.#integer(7));
    const incremental = (byte & 0x40) !== 0;
    const index = this.#integer(incremental ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#entry(index)[0];
    const header: Header = [name, this.#string()];
    if (incremental) this.#table.add(header);
    return header;
  }

  #resize(limit: number): void {
    if (limit > this.#limits.tableSize)
      throw new HpackError(`table size ${limit} above ${this.#limits.tableSize}`);
    this.#table.resize(limit);
  }

  #entry(index: number): Header {
    const entry = index <= STATIC.length ? STATIC[index - 1] : this.#table.at(index - STATIC.length - 1);
    if (!entry) throw new HpackError(`no header at index ${index}`);
    return entry;
  }

  /** An integer with a prefix of `width` bits (§5.1), at most 2^28. */
  #integer(width: number): number {
    const mask = (1 << width) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw new HpackError("integer too long");
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  #byte(): number {
    if (this.#at >= this.#data.length) throw new HpackError("header block ends early");
    const byte = this.#data[this.#at]!;
    this.#at += 1;
    return byte;
  }

  #string(): string {
    const huffman = ((this.#data[this.#at] ?? 0) & 0x80) !== 0;
    const size = this.#integer(7);
    const end = this.#at + size;
    if (end > this.#data.length) throw new HpackError("header block ends early");
    const raw = this.#data.subarray(this.#at, end);
    this.#at = end;
    const bytes = huffman ? huffmanDecode(raw) : Buffer.from(raw.buffer, raw.byteOffset, raw.length);
    if (!bytes) throw new HpackError("not a Huffman code");
    return bytes.toString("latin1");
  }
}

/** Index in the static table of `name: value`, and of the first entry with the name. */
const STATIC_FULL = new Map<string, number>();
const STATIC_NAME = new Map<string, number>();
STATIC.forEach(([name, value], index) => {
  STATIC_FULL.set(`${name}\0${value}`, index + 1);
  if (!STATIC_NAME.has(name)) STATIC_NAME.set(name, index + 1);
});

/** Values of these are never kept in a table, by us or by anyone on the way (§7.1.3). */
const SECRET = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie", "l5d-client-id"]);
/** Values that rarely occur twice would only push others out. */
const FLEETING = new Set([
  ":path",
  "content-length",
  "date",
  "etag",
  "if-none-match",
  "grpc-timeout",
  "traceparent",
]);

export class HpackEncoder {
  readonly #table: DynamicTable;
  /** Sizes that the next block must tell the decoder: the smallest since the last block, then the current one. */
  #announce: { least: number; last: number } | undefined;

  constructor(tableSize: number = HPACK_LIMITS.tableSize) {
    this.#table = new DynamicTable(tableSize);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; we never use more than we were made with. */
  resize(limit: number): void {
    const size = Math.min(limit, HPACK_LIMITS.tableSize);
    if (size === this.#table.limit) return;
    this.#table.resize(size);
    this.#announce = { least: Math.min(size, this.#announce?.least ?? size), last: size };
  }

  encode(headers: readonly Header[]): Buffer {
    let bound = 16;
    for (const [name, value] of headers) bound += name.length + value.length + 16;
    const out = Buffer.allocUnsafe(bound);
    let at = 0;
    if (this.#announce) {
      const { least, last } = this.#announce;
      if (least < last) at = integer(out, at, least, 5, 0x20);
      at = integer(out, at, last, 5, 0x20);
      this.#announce = undefined;
    }
    for (const [name, value] of headers) at = this.#header(out, at, name, value);
    return out.subarray(0, at);
  }

  #header(out: Buffer, from: number, name: string, value: string): number {
    const secret = SECRET.has(name);
    const fixed = secret ? undefined : STATIC_FULL.get(`${name}\0${value}`);
    if (fixed !== undefined) return integer(out, from, fixed, 7, 0x80);
    const [full, byName] = secret ? [-1, -1] : this.#table.find(name, value);
    if (full >= 0) return integer(out, from, full + STATIC.length + 1, 7, 0x80);
    const keep = !secret && !FLEETING.has(name);
    const index = STATIC_NAME.get(name) ?? (byName >= 0 ? byName + STATIC.length + 1 : 0);
    let at = integer(out, from, index, keep ? 6 : 4, keep ? 0x40 : secret ? 0x10 : 0x00);
    if (index === 0) at = string(out, at, name);
    at = string(out, at, value);
    if (keep) this.#table.add([name, value]);
    return at;
  }
}

function integer(out: Buffer, from: number, value: number, width: number, flags: number): number {
  const mask = (1 << width) - 1;
  let at = from;
  if (value < mask) {
    out[at] = flags | value;
    return at + 1;
  }
  out[at] = flags | mask;
  at += 1;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) {
    out[at] = (rest & 0x7f) | 0x80;
    at += 1;
  }
  out[at] = rest;
  return at + 1;
}

function string(out: Buffer, from: number, text: string): number {
  const raw = Buffer.from(text, "latin1");
  const coded = huffmanSize(raw);
  if (coded < raw.length) return huffmanEncode(raw, out, integer(out, from, coded, 7, 0x80));
  const at = integer(out, from, raw.length, 7, 0);
  raw.copy(out, at);
  return at + raw.length;
}
