// Addresses between the wire's integers and text.
import { formatIp, parseCidr, parseIp } from "../util/ip.ts";
import type { MessageOf } from "./codec.ts";
import type { IPAddress, IPNetwork, TcpAddress } from "./net.ts";

type IpMessage = MessageOf<typeof IPAddress>;

const LOW = (1n << 64n) - 1n;

/** @throws RangeError when `ip` is none. */
function ipOf(ip: string): IpMessage {
  const { family, bits } = parseIp(ip);
  return family === 4 ? { ipv4: Number(bits) } : { ipv6: { first: bits >> 64n, last: bits & LOW } };
}

/** The text of an address, undefined when the message holds none. IPv6 is written in full groups. */
function ipText(message: IpMessage | undefined): string | undefined {
  if (message?.ipv4 !== undefined) return formatIp(4, BigInt(message.ipv4));
  if (message?.ipv6) return formatIp(6, (message.ipv6.first << 64n) | message.ipv6.last);
  return undefined;
}

export const addressOf = (ip: string, port: number): MessageOf<typeof TcpAddress> => ({ ip: ipOf(ip), port });

/** `{ip, port}`, undefined when the message holds no address. */
export function addressText(
  message: MessageOf<typeof TcpAddress> | undefined,
): { ip: string; port: number } | undefined {
  const ip = ipText(message?.ip);
  return ip === undefined ? undefined : { ip, port: message!.port };
}

/** `1.2.3.4:80` or `[1:2:…]:80`: the key of endpoint sets. */
export const addressKey = (ip: string, port: number): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

/** @throws RangeError when `cidr` is none. */
export function networkOf(cidr: string): MessageOf<typeof IPNetwork> {
  const { family, bits, prefix } = parseCidr(cidr);
  return { ip: ipOf(formatIp(family, bits)), prefixLen: prefix };
}

/** `10.0.0.0/8`, undefined when the message holds no address. */
export function networkText(message: MessageOf<typeof IPNetwork>): string | undefined {
  const ip = ipText(message.ip);
  return ip === undefined ? undefined : `${ip}/${message.prefixLen}`;
}
