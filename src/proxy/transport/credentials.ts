// Makes TLS contexts of a key, a certificate chain and the trust anchors: the one place that says how proxies
// speak TLS to each other.
import { createHash } from "node:crypto";
import * as tls from "node:tls";
import type { Credentials } from "../ports.ts";

export interface CredentialMaterial {
  /** PEM */
  readonly key: string;
  /** PEM, leaf first */
  readonly chain: string;
  /** PEM */
  readonly anchors: string;
  /** ms since the epoch */
  readonly expiresAt: number;
}

/** AES first: every machine of the last ten years has it in hardware. */
const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/**
 * How long a session may be resumed, s. Tickets are sealed with keys of the context that gave them, so a renewed
 * certificate and changed trust anchors end them at once; this bounds the rest.
 */
const SESSION_LIFETIME = 600;

export function createCredentials(material: CredentialMaterial): Credentials {
  const { key, chain, anchors, expiresAt } = material;
  const base: tls.SecureContextOptions = {
    key,
    cert: chain,
    ca: anchors,
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ciphers: CIPHERS,
  };
  return {
    clientContext: tls.createSecureContext(base),
    // OpenSSL resumes sessions of clients with certificates only under a session id context.
    serverContext: tls.createSecureContext({
      ...base,
      sessionTimeout: SESSION_LIFETIME,
      sessionIdContext: createHash("sha256").update(anchors).digest("hex").slice(0, 32),
    }),
    expiresAt,
  };
}
