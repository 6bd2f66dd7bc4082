// io.linkerd.proxy.identity
import { bytes, embed, message, method, repeated, string } from "./codec.ts";
import { Timestamp } from "./time.ts";

export const CertifyRequest = message("io.linkerd.proxy.identity.CertifyRequest", {
  identity: string(1),
  token: bytes(2),
  /** DER, although the original's remark says PEM. */
  certificateSigningRequest: bytes(3),
});

export const CertifyResponse = message("io.linkerd.proxy.identity.CertifyResponse", {
  /** DER. */
  leafCertificate: bytes(1),
  intermediateCertificates: repeated(bytes(2)),
  validUntil: embed(3, () => Timestamp),
});

export const Certify = method("/io.linkerd.proxy.identity.Identity/Certify", CertifyRequest, CertifyResponse);
