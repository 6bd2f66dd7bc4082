// Distinguished names (organisations and a common name) and subject alternative names.
import { isIP } from "node:net";
import { parseIp } from "../util/ip.ts";
import { type Asn1, context, oid, sequence, set, utf8 } from "./der.ts";
import { OID } from "./oids.ts";

/** Organisations, then the common name; empty text gives the empty name. */
export function distinguishedName(commonName: string, organizations: readonly string[] = []): Asn1 {
  const attribute = (type: string, text: string) => set(sequence(oid(type), utf8(text)));
  return sequence(
    ...organizations.map((name) => attribute(OID.organization, name)),
    ...(commonName === "" ? [] : [attribute(OID.commonName, commonName)]),
  );
}

export interface AlternativeNames {
  readonly dns: readonly string[];
  readonly ip?: readonly string[];
}

const GENERAL_NAME = { email: 1, dns: 2, uri: 6, ip: 7 } as const;

/** The GeneralNames sequence. @throws RangeError on an IP that is none. */
export function generalNames(names: AlternativeNames): Asn1 {
  const dns = names.dns.map((name) => context(GENERAL_NAME.dns, Buffer.from(name, "ascii")));
  const ips = (names.ip ?? []).map((ip) => {
    const { bits } = parseIp(ip);
    return context(
      GENERAL_NAME.ip,
      Buffer.from(bits.toString(16).padStart(isIP(ip) === 4 ? 8 : 32, "0"), "hex"),
    );
  });
  return sequence(...dns, ...ips);
}

export { GENERAL_NAME };
