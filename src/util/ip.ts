// IP addresses and CIDR networks, parsed strictly and compared as numbers.
import { isIPv4, isIPv6 } from "node:net";

export interface Cidr {
  readonly family: 4 | 6;
  readonly bits: bigint;
  readonly prefix: number;
}

const WIDTH = { 4: 32, 6: 128 } as const;

/** The address as an integer with its family; IPv4-mapped IPv6 counts as IPv4. @throws RangeError */
export function parseIp(text: string): { family: 4 | 6; bits: bigint } {
  const plain = text.toLowerCase().startsWith("::ffff:") && isIPv4(text.slice(7)) ? text.slice(7) : text;
  if (isIPv4(plain)) {
    let bits = 0n;
    for (const part of plain.split(".")) bits = (bits << 8n) | BigInt(part);
    return { family: 4, bits };
  }
  if (isIPv6(plain) && !plain.includes("%")) return { family: 6, bits: ipv6Bits(plain) };
  throw new RangeError(`expected an IP address, got ${JSON.stringify(text)}`);
}

function ipv6Bits(text: string): bigint {
  let source = text;
  const v4 = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(source);
  if (v4) {
    const hex = (a: string, b: string) => ((Number(a) << 8) | Number(b)).toString(16);
    source = `${v4[1]}${hex(v4[2]!, v4[3]!)}:${hex(v4[4]!, v4[5]!)}`;
  }
  const [head = "", tail] = source.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  return groups.reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n);
}

/** Writes an integer address; IPv6 in full groups without `::`. */
export function formatIp(family: 4 | 6, bits: bigint): string {
  const parts: string[] = [];
  if (family === 4) {
    for (let shift = 24n; shift >= 0n; shift -= 8n) parts.push(String((bits >> shift) & 0xffn));
    return parts.join(".");
  }
  for (let shift = 112n; shift >= 0n; shift -= 16n) parts.push(((bits >> shift) & 0xffffn).toString(16));
  return parts.join(":");
}

/** The one text of an address, however it was written. @throws RangeError */
export function canonicalIp(text: string): string {
  const { family, bits } = parseIp(text);
  return formatIp(family, bits);
}

/** `10.0.0.0/8`, or a bare address as a network of one. Host bits are cleared. @throws RangeError */
export function parseCidr(text: string): Cidr {
  const [address = "", suffix, extra] = text.split("/");
  const { family, bits } = parseIp(address);
  const width = WIDTH[family];
  const prefix = suffix === undefined ? width : Number(suffix);
  if (extra !== undefined || (suffix !== undefined && !/^\d{1,3}$/.test(suffix)) || prefix > width) {
    throw new RangeError(`expected a network such as 10.0.0.0/8, got ${JSON.stringify(text)}`);
  }
  const shift = BigInt(width - prefix);
  return { family, bits: (bits >> shift) << shift, prefix };
}

export function cidrHas(cidr: Cidr, ip: string | { family: 4 | 6; bits: bigint }): boolean {
  const address = typeof ip === "string" ? parseIp(ip) : ip;
  if (address.family !== cidr.family) return false;
  const shift = BigInt(WIDTH[cidr.family] - cidr.prefix);
  return address.bits >> shift === cidr.bits >> shift;
}

/** Whether every address of `inner` is one of `outer`. */
export const cidrContains = (outer: Cidr, inner: Cidr): boolean =>
  inner.prefix >= outer.prefix && cidrHas(outer, inner);

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.family, cidr.bits)}/${cidr.prefix}`;
}

/** Whether a socket's address is this host's own, so that the peer is in the same network namespace. */
export const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
