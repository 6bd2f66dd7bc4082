// DER (ITU-T X.690): the values of ASN.1 that certificates are made of, written and read. Read strictly: each value has
// one encoding, so that what was signed is what is read, and nothing stands behind the end.

/** Universal types (X.680 §8.4). */
export const Type = {
  BOOLEAN: 1,
  INTEGER: 2,
  BITSTRING: 3,
  OCTETSTRING: 4,
  OID: 6,
  UTF8: 12,
  SEQUENCE: 16,
  SET: 17,
  UTCTIME: 23,
  GENERALIZEDTIME: 24,
} as const;

const UNIVERSAL = 0x00;
const CONTEXT_SPECIFIC = 0x80;
const CONSTRUCTED = 0x20;
/** Types above need more bytes than one; X.509 has none. */
const MAX_TYPE = 30;
/** Values in values; certificates have ten or so. */
const MAX_DEPTH = 32;

export interface Asn1 {
  /** The two highest bits of its first byte. */
  readonly tagClass: number;
  readonly type: number;
  /** Of a constructed value its children, of a primitive one its bytes. */
  readonly value: readonly Asn1[] | Buffer;
}

const universal = (type: number, value: readonly Asn1[] | Buffer): Asn1 => ({
  tagClass: UNIVERSAL,
  type,
  value,
});

export const sequence = (...items: Asn1[]): Asn1 => universal(Type.SEQUENCE, items);
export const set = (...items: Asn1[]): Asn1 => universal(Type.SET, items);
export const octets = (bytes: Uint8Array): Asn1 => universal(Type.OCTETSTRING, Buffer.from(bytes));
export const utf8 = (text: string): Asn1 => universal(Type.UTF8, Buffer.from(text, "utf8"));
export const boolean = (value: boolean): Asn1 => universal(Type.BOOLEAN, Buffer.from([value ? 0xff : 0x00]));

/** The first two numbers share a place (X.690 §8.19); each takes as many groups of seven bits as it needs. */
export function oid(dotted: string): Asn1 {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift(0x80 | (left % 128));
    bytes.push(...groups);
  }
  return universal(Type.OID, Buffer.from(bytes));
}

/** A non-negative integer given as big-endian bytes; a zero byte is put in front where the sign bit is set. */
export function integer(bytes: Uint8Array): Asn1 {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const sign = (bytes[start]! & 0x80) !== 0 ? [0] : [];
  return universal(Type.INTEGER, Buffer.from([...sign, ...bytes.subarray(start)]));
}

/** A bit string of whole octets. */
export const bits = (bytes: Uint8Array, unused = 0): Asn1 =>
  universal(Type.BITSTRING, Buffer.from([unused, ...bytes]));

/** UTCTime to 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
export function time(ms: number): Asn1 {
  const iso = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, "");
  return new Date(ms).getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, Buffer.from(iso.slice(2), "latin1"))
    : universal(Type.GENERALIZEDTIME, Buffer.from(iso, "latin1"));
}

/** A context-specific value: constructed over items, or primitive over bytes. */
export const context = (tag: number, value: Asn1[] | Uint8Array): Asn1 => ({
  tagClass: CONTEXT_SPECIFIC,
  type: tag,
  value: Array.isArray(value) ? value : Buffer.from(value),
});

export function toDer({ tagClass, type, value }: Asn1): Buffer {
  const constructed = !Buffer.isBuffer(value);
  const content = constructed ? Buffer.concat(value.map(toDer)) : value;
  const first = tagClass | (constructed ? CONSTRUCTED : 0) | type;
  return Buffer.concat([Buffer.from([first, ...lengthOf(content.length)]), content]);
}

/** In as few bytes as can be (X.690 §10.1). */
function lengthOf(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let left = length; left > 0; left = Math.floor(left / 256)) bytes.unshift(left % 256);
  return [0x80 | bytes.length, ...bytes];
}

/** One value, of which all bytes must be used. @throws Error that says where it is not DER */
export function fromDer(der: Uint8Array): Asn1 {
  const buf = Buffer.from(der);
  const { value, end } = read(buf, 0, buf.length, 0);
  if (end !== buf.length) throw new Error(`expected the end of the DER at byte ${end}`);
  return value;
}

function read(buf: Buffer, start: number, limit: number, depth: number): { value: Asn1; end: number } {
  const fail = (what: string): never => {
    throw new Error(`expected ${what} in the DER at byte ${start}`);
  };
  if (depth > MAX_DEPTH) fail(`at most ${MAX_DEPTH} values in one another`);
  if (start + 2 > limit) fail("a value");
  const tag = buf[start]!;
  const type = tag & 0x1f;
  const tagClass = tag & 0xc0;
  const constructed = (tag & CONSTRUCTED) !== 0;
  if (type > MAX_TYPE) fail("a type of one byte");
  if (tagClass === UNIVERSAL && constructed !== (type === Type.SEQUENCE || type === Type.SET))
    fail("sequences and sets, and only those, to be constructed");
  let length = buf[start + 1]!;
  let at = start + 2;
  if (length >= 0x80) {
    const size = length & 0x7f;
    if (size === 0 || size > 4 || at + size > limit) fail("a length of one to four bytes");
    length = buf.readUIntBE(at, size);
    if (length < 0x80 || buf[at] === 0) fail("a length in as few bytes as can be");
    at += size;
  }
  const end = at + length;
  if (end > limit) fail("no more bytes than there are");
  if (!constructed) return { value: { tagClass, type, value: buf.subarray(at, end) }, end };
  const children: Asn1[] = [];
  while (at < end) {
    const child = read(buf, at, end, depth + 1);
    children.push(child.value);
    at = child.end;
  }
  return { value: { tagClass, type, value: children }, end };
}

/** The children of a constructed value of universal `type` (SEQUENCE unless told). @throws Error */
export function childrenOf(
  value: Asn1 | undefined,
  what: string,
  type: number = Type.SEQUENCE,
): readonly Asn1[] {
  if (!value || value.tagClass !== UNIVERSAL || value.type !== type || Buffer.isBuffer(value.value))
    throw new Error(`expected ${what}`);
  return value.value;
}

/** The bytes of a primitive value, of the universal `type` if that is given. @throws Error for any other */
export function bytesOf(value: Asn1 | undefined, what: string, type?: number): Buffer {
  if (!value || !Buffer.isBuffer(value.value)) throw new Error(`expected ${what}`);
  if (type !== undefined && (value.tagClass !== UNIVERSAL || value.type !== type))
    throw new Error(`expected ${what}`);
  return value.value;
}

/** The dotted object identifier. @throws Error */
export function oidOf(value: Asn1 | undefined, what: string): string {
  const arcs: number[] = [];
  let arc = 0;
  let more = false;
  for (const byte of bytesOf(value, what, Type.OID)) {
    // Empty groups in front would be a second way to write the number.
    if ((!more && byte === 0x80) || arc > 2 ** 45) throw new Error(`expected ${what}`);
    arc = arc * 128 + (byte & 0x7f);
    more = byte >= 0x80;
    if (more) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [both, ...rest] = arcs;
  if (more || both === undefined) throw new Error(`expected ${what}`);
  const first = Math.min(2, Math.floor(both / 40));
  return [first, both - first * 40, ...rest].join(".");
}

export const isContext = (value: Asn1, tag: number): boolean =>
  value.tagClass === CONTEXT_SPECIFIC && value.type === tag;
