// Walks a leaf to a trust anchor and says why it cannot.
import type { X509Certificate } from "node:crypto";
import { notAfterOf, notBeforeOf } from "./certificate.ts";

export type ChainResult =
  | { readonly ok: true; readonly path: readonly X509Certificate[] }
  | { readonly ok: false; readonly reason: string };

/** Longer paths are refused. */
const MAX_DEPTH = 8;

/**
 * Looks for a path from `leaf` over `intermediates` to one of `anchors`, all valid at `at` (ms since the epoch).
 * Signatures, names and the CA flag are checked; revocation is not.
 */
export function verifyChain(
  leaf: X509Certificate,
  intermediates: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
  at: number,
): ChainResult {
  let reason = "no trust anchor signed it";
  const visit = (certificate: X509Certificate, path: X509Certificate[]): X509Certificate[] | undefined => {
    const window = validityProblem(certificate, at);
    if (window) {
      reason = window;
      return undefined;
    }
    if (anchors.some((anchor) => anchor.fingerprint256 === certificate.fingerprint256)) return path;
    if (path.length >= MAX_DEPTH) return undefined;
    for (const issuer of [...anchors, ...intermediates]) {
      if (path.includes(issuer) || !issuer.ca || !certificate.checkIssued(issuer)) continue;
      if (!certificate.verify(issuer.publicKey)) {
        reason = `the signature on ${describe(certificate)} is not by ${describe(issuer)}`;
        continue;
      }
      const found = visit(issuer, [...path, issuer]);
      if (found) return found;
    }
    return undefined;
  };
  const path = visit(leaf, [leaf]);
  return path ? { ok: true, path } : { ok: false, reason };
}

/** Why a certificate is not valid at `at` (ms since the epoch), or undefined. */
export function validityProblem(certificate: X509Certificate, at: number): string | undefined {
  if (at < notBeforeOf(certificate))
    return `${describe(certificate)} is not valid before ${certificate.validFrom}`;
  if (at > notAfterOf(certificate)) return `${describe(certificate)} expired at ${certificate.validTo}`;
  return undefined;
}

const describe = (certificate: X509Certificate): string =>
  certificate.subject === undefined || certificate.subject === ""
    ? `certificate ${certificate.serialNumber}`
    : certificate.subject.replaceAll("\n", ",");
