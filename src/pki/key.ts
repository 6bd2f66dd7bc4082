// ECDSA P-256 keys, the only kind the mesh makes (node:crypto; DESIGN §4.4).
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";

export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export function generateKey(): KeyPair {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

/** PKCS#8 PEM of a private key. */
export const privateKeyPem = (key: KeyObject): string =>
  key.export({ type: "pkcs8", format: "pem" }) as string;

/** DER SubjectPublicKeyInfo of a public key. */
export const spkiOf = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" });

/** Reads a PEM private key (PKCS#8 or SEC1). @throws Error that never holds the key. */
export function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new Error("expected a PEM private key (PKCS#8 or SEC1)");
  }
}
