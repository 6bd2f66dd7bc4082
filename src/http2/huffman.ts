// HPACK's Huffman code (RFC 7541, appendix B). The code is canonical, so its lengths say it all. Decoding takes eight
// bits at a time through tables of 256: a prefix leads to a symbol and how many of the bits were its own, or, for
// codes longer than the bits so far, to another table.

// biome-ignore format: sixteen symbols a line.
const LENGTHS = new Uint8Array([
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
]);
const EOS = 256;

/** Code of each symbol, in the low bits. */
const CODES = new Uint32Array(257);
/**
 * Decoding tables, 256 slots each. A slot is `symbol << 4 | bits` of a code that ends in it, or, with TABLE set, the
 * offset of the table for the bits that follow.
 */
const TABLE = 0x8000;
const TABLES = build();

function build(): Uint16Array {
  const tables = new Uint16Array(16 * 256);
  const symbols = Array.from(LENGTHS.keys()).sort((a, b) => LENGTHS[a]! - LENGTHS[b]! || a - b);
  let code = 0;
  let width = LENGTHS[symbols[0]!]!;
  let used = 256;
  for (const symbol of symbols) {
    code *= 2 ** (LENGTHS[symbol]! - width);
    width = LENGTHS[symbol]!;
    CODES[symbol] = code;
    let table = 0;
    let left = width;
    for (; left > 8; left -= 8) {
      const slot = table + ((code >>> (left - 8)) & 0xff);
      if (tables[slot] === 0) {
        tables[slot] = TABLE | used;
        used += 256;
      }
      table = tables[slot]! & ~TABLE;
    }
    const first = table + ((code << (8 - left)) & 0xff);
    tables.fill((symbol << 4) | left, first, first + (1 << (8 - left)));
    code += 1;
  }
  return tables.slice(0, used);
}

/** What cannot be sent, a character beyond Latin-1, becomes a question mark. */
const byteOf = (text: string, index: number): number => {
  const code = text.charCodeAt(index);
  return code > 0xff ? 0x3f : code;
};

/** Encoded size in bytes. */
export function huffmanSize(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i += 1) bits += LENGTHS[byteOf(text, i)]!;
  return (bits + 7) >> 3;
}

/** Writes the code of `text` at `at`; returns the position after it. There must be room. */
export function huffmanEncode(text: string, out: Uint8Array, at: number): number {
  let pending = 0;
  let count = 0;
  let position = at;
  for (let i = 0; i < text.length; i += 1) {
    const symbol = byteOf(text, i);
    // At most 7 bits wait and a code has at most 30: in two halves this stays within 32 bits.
    let rest = LENGTHS[symbol]!;
    const code = CODES[symbol]!;
    while (rest > 0) {
      const take = Math.min(rest, 16);
      pending = (pending << take) | ((code >>> (rest - take)) & ((1 << take) - 1));
      count += take;
      rest -= take;
      while (count >= 8) {
        count -= 8;
        out[position] = pending >>> count;
        position += 1;
        pending &= (1 << count) - 1;
      }
    }
  }
  if (count > 0) {
    out[position] = ((pending << (8 - count)) | (0xff >>> count)) & 0xff;
    position += 1;
  }
  return position;
}

/** Most bytes that `size` encoded ones can stand for: the shortest code has 5 bits. */
export const huffmanBound = (size: number): number => Math.ceil((size * 8) / 5);

/**
 * Decodes `data[from, to)` into `out`, which has room for `huffmanBound`.
 * @returns how many bytes it stands for; -1 when it is not a valid code (EOS inside, or padding that is none, §5.2)
 */
export function huffmanDecode(data: Uint8Array, from: number, to: number, out: Uint8Array): number {
  let size = 0;
  let table = 0;
  let pending = 0;
  /** Bits in `pending`, and those of an unfinished code that are gone from it already. */
  let count = 0;
  let taken = 0;
  let at = from;
  for (;;) {
    if (count < 8) {
      if (at < to) {
        pending = ((pending << 8) | data[at]!) & 0xffff;
        at += 1;
        count += 8;
      } else if (count === 0) break;
    }
    // At the end the bits that are missing are taken as ones; only a code that needs none of them counts.
    const prefix =
      count >= 8 ? (pending >>> (count - 8)) & 0xff : ((pending << (8 - count)) | (0xff >>> count)) & 0xff;
    const slot = TABLES[table + prefix]!;
    if (slot >= TABLE) {
      if (count < 8) break;
      table = slot & ~TABLE;
      count -= 8;
      taken += 8;
      continue;
    }
    const bits = slot & 0xf;
    if (bits > count) break;
    const symbol = slot >>> 4;
    if (symbol === EOS) return -1;
    out[size] = symbol;
    size += 1;
    count -= bits;
    table = 0;
    taken = 0;
  }
  // What is left must be the beginning of EOS, shorter than a byte.
  const mask = (1 << count) - 1;
  return taken === 0 && count < 8 && (pending & mask) === mask ? size : -1;
}
