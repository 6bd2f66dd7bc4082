// DER values as node-forge's ASN.1 encoder wants them. Only its ASN.1 module is loaded: the proxy carries this
// file, and the whole of node-forge would cost every pod memory it never uses.
import asn1 from "node-forge/lib/asn1.js";

export type Asn1 = asn1.Asn1;

const { Class, Type } = asn1;

const universal = (type: number, constructed: boolean, value: string | Asn1[]): Asn1 =>
  asn1.create(Class.UNIVERSAL, type, constructed, value);
const binary = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

export const sequence = (...items: Asn1[]): Asn1 => universal(Type.SEQUENCE, true, items);
export const set = (...items: Asn1[]): Asn1 => universal(Type.SET, true, items);
export const oid = (dotted: string): Asn1 => universal(Type.OID, false, asn1.oidToDer(dotted).getBytes());
export const octets = (bytes: Uint8Array): Asn1 => universal(Type.OCTETSTRING, false, binary(bytes));
export const utf8 = (text: string): Asn1 => universal(Type.UTF8, false, binary(Buffer.from(text, "utf8")));
export const boolean = (value: boolean): Asn1 => universal(Type.BOOLEAN, false, value ? "\xff" : "\x00");

/** A non-negative integer given as big-endian bytes; a zero byte is put in front where the sign bit is set. */
export function integer(bytes: Uint8Array): Asn1 {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const trimmed = binary(bytes.subarray(start));
  return universal(Type.INTEGER, false, (bytes[start]! & 0x80) !== 0 ? `\x00${trimmed}` : trimmed);
}

/** A bit string of whole octets. */
export const bits = (bytes: Uint8Array, unused = 0): Asn1 =>
  universal(Type.BITSTRING, false, String.fromCharCode(unused) + binary(bytes));

/** UTCTime to 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
export function time(ms: number): Asn1 {
  const iso = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, "");
  return new Date(ms).getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, false, iso.slice(2))
    : universal(Type.GENERALIZEDTIME, false, iso);
}

/** A context-specific value: constructed over items, or primitive over bytes. */
export const context = (tag: number, value: Asn1[] | Uint8Array): Asn1 =>
  Array.isArray(value)
    ? asn1.create(Class.CONTEXT_SPECIFIC, tag as asn1.Type, true, value)
    : asn1.create(Class.CONTEXT_SPECIFIC, tag as asn1.Type, false, binary(value));

export const toDer = (value: Asn1): Buffer => Buffer.from(asn1.toDer(value).getBytes(), "latin1");

/** Strict DER; all bytes must be used; bit strings stay bytes. @throws Error from the decoder. */
export const fromDer = (der: Uint8Array): Asn1 =>
  asn1.fromDer(binary(der), { strict: true, parseAllBytes: true, decodeBitStrings: false } as never);

/** The children of a constructed value of universal `type` (SEQUENCE unless told). @throws Error */
export function childrenOf(value: Asn1 | undefined, what: string, type: number = Type.SEQUENCE): Asn1[] {
  if (!value || value.tagClass !== Class.UNIVERSAL || value.type !== type || !Array.isArray(value.value)) {
    throw new Error(`expected ${what}`);
  }
  return value.value;
}

/** The bytes of a primitive value, of the universal `type` if that is given. @throws Error for any other */
export function bytesOf(value: Asn1 | undefined, what: string, type?: number): Buffer {
  if (!value || typeof value.value !== "string") throw new Error(`expected ${what}`);
  if (type !== undefined && (value.tagClass !== Class.UNIVERSAL || value.type !== type))
    throw new Error(`expected ${what}`);
  return Buffer.from(value.value, "latin1");
}

/** The dotted object identifier. @throws Error */
export function oidOf(value: Asn1 | undefined, what: string): string {
  if (value?.type !== Type.OID || value.tagClass !== Class.UNIVERSAL) throw new Error(`expected ${what}`);
  return asn1.derToOid(bytesOf(value, what).toString("latin1"));
}

export const isContext = (value: Asn1, tag: number): boolean =>
  value.tagClass === Class.CONTEXT_SPECIFIC && (value.type as number) === tag;

export { Type };
