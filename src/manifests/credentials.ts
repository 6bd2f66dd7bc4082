// The certificates that an installation starts with: the user's own, checked, or new ones.
import { createPublicKey, X509Certificate } from "node:crypto";
import {
  createIssuer,
  createRoot,
  createServerCertificate,
  parseCertificates,
  parsePrivateKey,
  privateKeyPem,
  verifyChain,
} from "../pki/index.ts";
import { errorMessage, MeshError } from "../util/error.ts";
import { INJECTOR_WEBHOOK_NAMES, VALIDATOR_WEBHOOK_NAMES, type WebhookNames } from "./names.ts";

const DAY_MS = 86_400_000;
/** A long root and a short issuer: the issuer can be replaced while the root's trust stays as it is. */
const ROOT_LIFETIME_MS = 3650 * DAY_MS;
const ISSUER_LIFETIME_MS = 365 * DAY_MS;

/** PEM texts. The key goes into the issuer's Secret and nowhere else. */
export interface IdentityCredentials {
  readonly trustAnchors: string;
  readonly issuerCertificate: string;
  readonly issuerKey: string;
}

/** A new root, whose key is forgotten at once, and an issuer signed by it. */
export function createIdentityCredentials(
  mesh: { namespace: string; trustDomain: string },
  now: number,
): IdentityCredentials {
  const root = createRoot({ commonName: `root.${mesh.trustDomain}`, lifetimeMs: ROOT_LIFETIME_MS, now });
  const issuer = createIssuer({
    root: { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey },
    commonName: `identity.${mesh.namespace}.${mesh.trustDomain}`,
    lifetimeMs: ISSUER_LIFETIME_MS,
    now,
  });
  return { trustAnchors: root.pem, issuerCertificate: issuer.pem, issuerKey: issuer.keyPem };
}

/**
 * The user's certificates, checked as the identity controller will: CA, P-256 key that belongs to it, chain to an
 * anchor, all valid now.
 * @throws MeshError that says which of them is wrong and how
 */
export function checkIdentityCredentials(given: IdentityCredentials, now: number): IdentityCredentials {
  const read = <T>(what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (cause) {
      throw new MeshError(`the ${what} cannot be used: ${errorMessage(cause)}`, { cause });
    }
  };
  const anchors = read("trust anchors", () => parseCertificates(given.trustAnchors));
  const [issuer, ...intermediates] = read("issuer certificate", () =>
    parseCertificates(given.issuerCertificate),
  );
  const key = read("issuer key", () => parsePrivateKey(given.issuerKey));
  const problem = (message: string, ...hints: string[]) => new MeshError(message, { hints });
  if (!issuer!.ca)
    throw problem("the issuer certificate is not a CA", "make it with basicConstraints CA:TRUE");
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw problem("the issuer key is not ECDSA P-256", "openssl ecparam -name prime256v1 -genkey -noout");
  }
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  if (!issuer!.publicKey.export({ type: "spki", format: "der" }).equals(spki)) {
    throw problem("the issuer key does not belong to the issuer certificate");
  }
  const chain = verifyChain(issuer!, intermediates, anchors, now);
  if (!chain.ok) throw problem(`the issuer certificate does not chain to the trust anchors: ${chain.reason}`);
  return { ...given, issuerKey: privateKeyPem(key) };
}

/**
 * Certificate of the webhook's server, under a CA of its own whose key is forgotten at once: a renewal makes a new CA too
 * (controller/webhook-credentials.ts).
 */
export interface WebhookCredentials {
  readonly caBundle: string;
  readonly certificate: string;
  readonly key: string;
}

export function createWebhookCredentials(
  service: string,
  namespace: string,
  now: number,
  lifetimeMs = ISSUER_LIFETIME_MS,
): WebhookCredentials {
  const name = `${service}.${namespace}.svc`;
  const root = createRoot({ commonName: `${name} CA`, lifetimeMs, now });
  const server = createServerCertificate({
    authority: { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey },
    commonName: name,
    names: { dns: [name, `${service}.${namespace}`, service] },
    lifetimeMs,
    now,
  });
  return { caBundle: root.pem, certificate: server.pem, key: server.keyPem };
}

/** Of every webhook of an installation, by the value with its settings. */
export const createAllWebhookCredentials = (
  namespace: string,
  now: number,
  lifetimeMs?: number,
): Record<WebhookNames["value"], WebhookCredentials> => {
  const of = ({ service }: WebhookNames) =>
    createWebhookCredentials(service, namespace, now, lifetimeMs ?? ISSUER_LIFETIME_MS);
  return { proxyInjector: of(INJECTOR_WEBHOOK_NAMES), policyValidator: of(VALIDATOR_WEBHOOK_NAMES) };
};

/** The data of the Secret that holds them, in base64. `ca.crt` is what a renewal must keep trusted. */
export const webhookSecretData = ({
  caBundle,
  certificate,
  key,
}: WebhookCredentials): Record<string, string> =>
  Object.fromEntries(
    Object.entries({ "tls.crt": certificate, "tls.key": key, "ca.crt": caBundle }).map(([name, text]) => [
      name,
      Buffer.from(text).toString("base64"),
    ]),
  );
