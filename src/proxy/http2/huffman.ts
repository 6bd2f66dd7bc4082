// HPACK's Huffman code (RFC 7541, appendix B). The code is canonical, so its lengths say it all.

// biome-ignore format: sixteen symbols a line.
const LENGTHS = [
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
];
const EOS = 256;

/** Code of each symbol, in the low bits. */
const CODES = new Uint32Array(257);
/** The decoding tree: two children a node; a leaf is the symbol's bitwise complement, 0 is no child. */
const TREE = new Int16Array(2 * 512);

{
  const symbols = LENGTHS.map((_, symbol) => symbol).sort((a, b) => LENGTHS[a]! - LENGTHS[b]! || a - b);
  let code = 0;
  let width = LENGTHS[symbols[0]!]!;
  let nodes = 1;
  for (const symbol of symbols) {
    code *= 2 ** (LENGTHS[symbol]! - width);
    width = LENGTHS[symbol]!;
    CODES[symbol] = code;
    let node = 0;
    for (let bit = width - 1; bit >= 0; bit -= 1) {
      const slot = node * 2 + ((code >>> bit) & 1);
      if (bit === 0) TREE[slot] = ~symbol;
      else {
        if (TREE[slot] === 0) {
          TREE[slot] = nodes;
          nodes += 1;
        }
        node = TREE[slot]!;
      }
    }
    code += 1;
  }
}

/** Encoded size in bytes. */
export function huffmanSize(text: Uint8Array): number {
  let bits = 0;
  for (let i = 0; i < text.length; i += 1) bits += LENGTHS[text[i]!]!;
  return (bits + 7) >> 3;
}

/** Writes the code of `text` at `at`; returns the position after it. There must be room. */
export function huffmanEncode(text: Uint8Array, out: Uint8Array, at: number): number {
  let pending = 0;
  let count = 0;
  let position = at;
  for (let i = 0; i < text.length; i += 1) {
    const symbol = text[i]!;
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

/** Decodes all of `data`; undefined when it is not a valid code (EOS inside, or padding that is none). */
export function huffmanDecode(data: Uint8Array): Buffer | undefined {
  // The shortest code has 5 bits.
  const out = Buffer.allocUnsafe(Math.ceil((data.length * 8) / 5));
  let size = 0;
  let node = 0;
  let depth = 0;
  let ones = true;
  for (let i = 0; i < data.length; i += 1) {
    const byte = data[i]!;
    for (let bit = 7; bit >= 0; bit -= 1) {
      const value = (byte >>> bit) & 1;
      const next = TREE[node * 2 + value]!;
      depth += 1;
      ones = ones && value === 1;
      if (next < 0) {
        const symbol = ~next;
        if (symbol === EOS) return undefined;
        out[size] = symbol;
        size += 1;
        node = 0;
        depth = 0;
        ones = true;
      } else node = next;
    }
  }
  // What is left must be the beginning of EOS, shorter than a byte.
  return depth < 8 && ones ? out.subarray(0, size) : undefined;
}
