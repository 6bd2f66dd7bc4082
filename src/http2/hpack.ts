// HPACK (RFC 7541): header lists ↔ header blocks, with the dynamic table of one direction of one connection.
//
// A field that is in a table is one tuple for as long as it is there, and the same tuple on every connection: reading
// it makes no string, its kind (http2/fields.ts) was found when it came, and writing it again elsewhere finds its
// index by the tuple.
import { KIND, kindOf, kindOfName } from "./fields.ts";
import { huffmanBound, huffmanDecode, huffmanEncode, huffmanSize } from "./huffman.ts";

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
const STATIC_SIZE = STATIC.length;
const STATIC_NAME_KINDS = Uint8Array.from(STATIC, ([name]) => kindOfName(name));
const STATIC_KINDS = Uint8Array.from(STATIC, ([name, value]) => kindOf(kindOfName(name), value));
/** Index in the static table of the first entry with a name, and of each value that a name has there. */
const STATIC_NAMES = new Map<string, number>();
const STATIC_VALUES = new Map<string, Map<string, number>>();
STATIC.forEach((header, index) => {
  const [name, value] = header;
  if (!STATIC_NAMES.has(name)) STATIC_NAMES.set(name, index + 1);
  if (!STATIC_VALUES.has(name)) STATIC_VALUES.set(name, new Map());
  STATIC_VALUES.get(name)!.set(value, index + 1);
});

/** An entry's size is its text plus this (RFC 7541 §4.1). */
const OVERHEAD = 32;
const sizeOf = (header: Header) => header[0].length + header[1].length + OVERHEAD;

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

// ---- tuples ----

/** Values of these are never kept in a table, by us or by anyone on the way (§7.1.3). */
const SECRET = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie"]);
/** Others that came with that wish, which holds for the whole way (§6.2.3). */
const NEVER_INDEXED = new WeakSet<Header>();

/** Tuples known by their text, of all connections; begun anew when there are too many. */
let interned = new Map<string, Map<string, Header>>();
let internedCount = 0;
const MAX_INTERNED = 512;
/** Longer fields are of one connection, characters. */
const MAX_INTERNED_LENGTH = 256;

/** The one tuple for a field, as far as it is remembered. */
function intern(header: Header): Header {
  const [name, value] = header;
  if (name.length + value.length > MAX_INTERNED_LENGTH) return header;
  let values = interned.get(name);
  const known = values?.get(value);
  if (known !== undefined) return known;
  if (internedCount >= MAX_INTERNED) {
    interned = new Map();
    internedCount = 0;
    values = undefined;
  }
  if (values === undefined) {
    values = new Map();
    interned.set(name, values);
  }
  values.set(value, header);
  internedCount += 1;
  return header;
}

/** Entries in a ring, each with its kind, bounded by their summed size. */
class DynamicTable {
  #ring: Header[] = [];
  #kinds: Uint8Array = new Uint8Array(0);
  #mask = -1;
  #size = 0;
  #limit: number;
  /** Entries there are, and how many there ever were: the newest is number `added`, the oldest `added - length + 1`. */
  length = 0;
  added = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  /** @param number counts all that were ever added, from 1 */
  at(number: number): Header {
    return this.#ring[number & this.#mask]!;
  }

  kindAt(number: number): number {
    return this.#kinds[number & this.#mask]!;
  }

  /** Whether the entry with this number is still there. */
  has(number: number): boolean {
    return number > this.added - this.length;
  }

  resize(limit: number): void {
    this.#limit = limit;
    this.#evict(limit);
  }

  add(header: Header, kind: number): void {
    const size = sizeOf(header);
    this.#evict(this.#limit - size);
    // An entry larger than the table empties it; that is no error (§4.4).
    if (size > this.#limit) return;
    if (this.length > this.#mask) this.#grow();
    this.added += 1;
    this.length += 1;
    this.#size += size;
    this.#ring[this.added & this.#mask] = header;
    this.#kinds[this.added & this.#mask] = kind;
  }

  #evict(room: number): void {
    while (this.length > 0 && this.#size > room) {
      this.#size -= sizeOf(this.at(this.added - this.length + 1));
      this.length -= 1;
    }
  }

  #grow(): void {
    const capacity = Math.max(16, (this.#mask + 1) * 2);
    const ring = new Array<Header>(capacity).fill(STATIC[0]!);
    const kinds = new Uint8Array(capacity);
    for (let number = this.added - this.length + 1; number <= this.added; number += 1) {
      ring[number & (capacity - 1)] = this.at(number);
      kinds[number & (capacity - 1)] = this.kindAt(number);
    }
    this.#ring = ring;
    this.#kinds = kinds;
    this.#mask = capacity - 1;
  }
}

// ---- decoding ----

export interface HpackLimits {
  /** Most dynamic table that we keep, bytes; the value of our SETTINGS_HEADER_TABLE_SIZE. */
  readonly tableSize: number;
  /** A header list above this is refused, bytes as RFC 9113 §6.5.2 counts them. */
  readonly listSize: number;
  /** Fields of one list. */
  readonly count: number;
}

/** Whatever head HTTP/1 lets pass (64 KiB, 100 lines; http1/head.ts) may be carried on as HTTP/2. */
export const HPACK_LIMITS: HpackLimits = { tableSize: 4_096, listSize: 72 * 1_024, count: 200 };

/** Where a list is gathered, with what was there before behind it. */
const list: Header[] = [];
/** Where Huffman codes are decoded; never longer than a block allows. */
let scratch = Buffer.allocUnsafe(4_096);

export class HpackDecoder {
  /** Kinds (http2/fields.ts) of the headers that were decoded last, one each. */
  readonly kinds: Uint8Array;
  readonly #limits: HpackLimits;
  readonly #table: DynamicTable;
  #data: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  constructor(limits: HpackLimits = HPACK_LIMITS) {
    this.#limits = limits;
    this.#table = new DynamicTable(limits.tableSize);
    this.kinds = new Uint8Array(limits.count);
  }

  /** The header list of the whole block `data[from, to)`. @throws HpackError, HeaderListTooLarge */
  decode(data: Buffer, from = 0, to = data.length): Header[] {
    this.#data = data;
    this.#at = from;
    this.#end = to;
    const { listSize, count: most } = this.#limits;
    const { kinds } = this;
    const table = this.#table;
    let size = 0;
    let count = 0;
    let resizable = true;
    while (this.#at < to) {
      const byte = data[this.#at]!;
      let header: Header;
      let kind: number;
      if (byte >= 0x80) {
        const index = byte === 0xff ? this.#integer(0x7f) : this.#short(byte & 0x7f);
        if (index <= STATIC_SIZE) {
          if (index === 0) throw new HpackError("no header at index 0");
          header = STATIC[index - 1]!;
          kind = STATIC_KINDS[index - 1]!;
        } else {
          const number = this.#number(index);
          header = table.at(number);
          kind = table.kindAt(number);
        }
      } else if (byte >= 0x20 && byte < 0x40) {
        if (!resizable) throw new HpackError("table size update after a header");
        this.#resize(this.#integer(0x1f));
        continue;
      } else {
        header = this.#literal(byte, count < most ? count : -1);
        kind = count < most ? kinds[count]! : 0;
      }
      resizable = false;
      size += sizeOf(header);
      // Beyond the limits it is read on, so that the tables stay in step, but nothing more is kept.
      if (size <= listSize && count < most) {
        list[count] = header;
        kinds[count] = kind;
      }
      count += 1;
    }
    this.#data = NOTHING;
    if (size > listSize)
      throw new HeaderListTooLarge(`header list of ${size} bytes, the limit is ${listSize}`);
    if (count > most) throw new HeaderListTooLarge(`${count} headers, the limit is ${most}`);
    // A copy of the right size, which an array that grows never has.
    return list.slice(0, count);
  }

  /** A field with its value as text; its kind goes to `kinds[slot]`, unless that is -1. */
  #literal(byte: number, slot: number): Header {
    const incremental = byte >= 0x40;
    const index = this.#integer(incremental ? 0x3f : 0x0f);
    let name: string;
    let named: number;
    if (index === 0) {
      name = this.#string();
      named = kindOfName(name);
    } else if (index <= STATIC_SIZE) {
      name = STATIC[index - 1]![0];
      named = STATIC_NAME_KINDS[index - 1]!;
    } else {
      name = this.#table.at(this.#number(index))[0];
      named = kindOfName(name);
    }
    const value = this.#string();
    const kind = kindOf(named, value);
    if (slot >= 0) this.kinds[slot] = kind;
    if (incremental) {
      const header = SECRET.has(name) ? ([name, value] as const) : intern([name, value]);
      this.#table.add(header, kind);
      return header;
    }
    const header: Header = [name, value];
    if (byte >= 0x10 && !SECRET.has(name)) NEVER_INDEXED.add(header);
    return header;
  }

  #resize(limit: number): void {
    if (limit > this.#limits.tableSize)
      throw new HpackError(`table size ${limit} above ${this.#limits.tableSize}`);
    this.#table.resize(limit);
  }

  /** The number in the table of what has this index, counted from the newest entry. */
  #number(index: number): number {
    const number = this.#table.added - (index - STATIC_SIZE - 1);
    if (!this.#table.has(number)) throw new HpackError(`no header at index ${index}`);
    return number;
  }

  #short(value: number): number {
    this.#at += 1;
    return value;
  }

  /** An integer with a prefix under `mask` (§5.1), at most 2^28. */
  #integer(mask: number): number {
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
    if (this.#at >= this.#end) throw new HpackError("header block ends early");
    const byte = this.#data[this.#at]!;
    this.#at += 1;
    return byte;
  }

  #string(): string {
    const huffman = this.#at < this.#end && this.#data[this.#at]! >= 0x80;
    const size = this.#integer(0x7f);
    const from = this.#at;
    const to = from + size;
    if (to > this.#end) throw new HpackError("header block ends early");
    this.#at = to;
    if (!huffman) return textOf(this.#data, from, to);
    const bound = huffmanBound(size);
    if (bound > scratch.length) scratch = Buffer.allocUnsafe(bound);
    const length = huffmanDecode(this.#data, from, to, scratch);
    if (length < 0) throw new HpackError("not a Huffman code");
    return textOf(scratch, 0, length);
  }
}

const NOTHING = Buffer.alloc(0);

const textOf = (data: Buffer, from: number, to: number): string => data.toString("latin1", from, to);

// ---- encoding ----

/** What the encoder has seen of a name. */
interface NameUse {
  /** Number of the newest entry with the name, 0 for none. */
  newest: number;
  /** Values in a row that were not in the table. */
  misses: number;
  /** The last of them that was not put there. */
  last: string;
}

/** A name with this many new values in a row (paths, lengths, ids) has its values indexed only when one recurs. */
const FICKLE = 8;
/** Tuples and names remembered at the same time. */
const MAX_KNOWN = 256;

export class HpackEncoder {
  readonly #table: DynamicTable;
  /** Where tuples are found: the index in the static table, or that many plus the number in the dynamic one. */
  readonly #known = new Map<Header, number>();
  readonly #names = new Map<string, NameUse>();
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

  /** A block by itself. */
  encode(headers: readonly Header[]): Buffer {
    const out = Buffer.allocUnsafe(encodedBound(headers));
    return out.subarray(0, this.encodeInto(headers, out, 0));
  }

  /** Writes a block at `at`, where there must be room (`encodedBound`). @returns the position after it */
  encodeInto(headers: readonly Header[], out: Buffer, at: number): number {
    let end = at;
    if (this.#announce) {
      const { least, last } = this.#announce;
      if (least < last) end = integer(out, end, least, 0x1f, 0x20);
      end = integer(out, end, last, 0x1f, 0x20);
      this.#announce = undefined;
    }
    for (let i = 0; i < headers.length; i += 1) {
      const header = headers[i]!;
      const place = this.#known.get(header);
      if (place === undefined || (place > STATIC_SIZE && !this.#table.has(place - STATIC_SIZE)))
        end = this.#unknown(out, end, header);
      else end = this.#indexed(out, end, place);
    }
    return end;
  }

  #indexed(out: Buffer, at: number, place: number): number {
    const index = place <= STATIC_SIZE ? place : this.#indexOf(place - STATIC_SIZE);
    return integer(out, at, index, 0x7f, 0x80);
  }

  #indexOf(number: number): number {
    return STATIC_SIZE + 1 + this.#table.added - number;
  }

  /** A field that was not met as this tuple. */
  #unknown(out: Buffer, at: number, header: Header): number {
    const [name, value] = header;
    if (SECRET.has(name) || NEVER_INDEXED.has(header))
      return this.#literal(out, at, header, 0x0f, 0x10, false);
    const fixed = STATIC_VALUES.get(name)?.get(value);
    if (fixed !== undefined) {
      if (STATIC[fixed - 1] === header) this.#remember(header, fixed);
      return this.#indexed(out, at, fixed);
    }
    let use = this.#names.get(name);
    if (use === undefined) {
      if (this.#names.size >= MAX_KNOWN) this.#names.clear();
      use = { newest: 0, misses: 0, last: "" };
      this.#names.set(name, use);
    }
    const number = this.#find(name, value, use.newest);
    if (number > 0) {
      use.misses = 0;
      return this.#indexed(out, at, STATIC_SIZE + number);
    }
    use.misses += 1;
    if (!this.#isWorthIndexing(header, use)) return this.#literal(out, at, header, 0x0f, 0x00, false);
    const end = this.#literal(out, at, header, 0x3f, 0x40, true);
    const tuple = intern(header);
    this.#table.add(tuple, KIND.FIELD);
    use.newest = this.#table.added;
    this.#remember(tuple, STATIC_SIZE + use.newest);
    return end;
  }

  #isWorthIndexing(header: Header, use: NameUse): boolean {
    const [name, value] = header;
    // It would push everything else out.
    if (sizeOf(header) > this.#table.limit / 2) return false;
    if (use.misses <= FICKLE || use.last === value) return true;
    use.last = value;
    // The name alone is worth an entry.
    return !STATIC_NAMES.has(name) && !this.#table.has(use.newest);
  }

  #remember(header: Header, place: number): void {
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(header, place);
  }

  /** Number of the entry with this text, 0 for none. @param newest where the name was put last */
  #find(name: string, value: string, newest: number): number {
    const table = this.#table;
    if (!table.has(newest)) return 0;
    const first = table.added - table.length;
    for (let number = newest; number > first; number -= 1) {
      const entry = table.at(number);
      if (entry[1] === value && entry[0] === name) return number;
    }
    return 0;
  }

  /** @param coded whether the shorter form is worth its time: for what is sent but once it is */
  #literal(out: Buffer, at: number, header: Header, mask: number, flags: number, coded: boolean): number {
    const [name, value] = header;
    let index = STATIC_NAMES.get(name) ?? 0;
    if (index === 0) {
      const newest = this.#names.get(name)?.newest ?? 0;
      if (this.#table.has(newest)) index = this.#indexOf(newest);
    }
    let end = integer(out, at, index, mask, flags);
    if (index === 0) end = string(out, end, name, coded);
    end = string(out, end, value, coded);
    return end;
  }
}

/** Most bytes that a block with these headers takes. */
export function encodedBound(headers: readonly Header[]): number {
  let bound = 16;
  for (let i = 0; i < headers.length; i += 1) {
    const header = headers[i]!;
    bound += header[0].length + header[1].length + 16;
  }
  return bound;
}

/** The size of a header list as RFC 9113 §6.5.2 counts it. */
export function listSize(headers: readonly Header[]): number {
  let size = 0;
  for (const header of headers) size += sizeOf(header);
  return size;
}

function integer(out: Buffer, from: number, value: number, mask: number, flags: number): number {
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

function string(out: Buffer, from: number, text: string, coded: boolean): number {
  if (coded) {
    const size = huffmanSize(text);
    if (size < text.length) return huffmanEncode(text, out, integer(out, from, size, 0x7f, 0x80));
  }
  const at = integer(out, from, text.length, 0x7f, 0);
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    // What cannot be sent becomes a question mark, and never another character.
    out[at + i] = code > 0xff ? 0x3f : code;
  }
  return at + text.length;
}
