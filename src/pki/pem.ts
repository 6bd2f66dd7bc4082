// PEM armour around DER.
import { X509Certificate } from "node:crypto";

/** `-----BEGIN label-----` text with lines of 64 characters. */
export function pemOf(der: Uint8Array, label: string): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** The PEM blocks with this label, in order, as written. */
export function pemBlocks(pem: string, label: string): string[] {
  return pem.match(new RegExp(`-----BEGIN ${label}-----[\\s\\S]*?-----END ${label}-----`, "g")) ?? [];
}

/**
 * All certificates of a PEM bundle, in order.
 * @throws Error when there is none, or when block n cannot be read.
 */
export function parseCertificates(pem: string): X509Certificate[] {
  const blocks = pemBlocks(pem, "CERTIFICATE");
  if (blocks.length === 0) throw new Error("expected at least one PEM CERTIFICATE block");
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw new Error(`PEM CERTIFICATE block ${index + 1} cannot be read`, { cause });
    }
  });
}
