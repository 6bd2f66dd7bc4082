// X.509 certificates (RFC 5280): the encoder of node-forge around keys and signatures of node:crypto.
import {
  createHash,
  createPublicKey,
  type KeyObject,
  randomBytes,
  sign,
  type X509Certificate,
} from "node:crypto";
import {
  type Asn1,
  bits,
  boolean,
  bytesOf,
  childrenOf,
  context,
  fromDer,
  integer,
  octets,
  oid,
  sequence,
  time,
  toDer,
} from "./der.ts";
import { generateKey, type KeyPair, privateKeyPem, spkiOf } from "./key.ts";
import { type AlternativeNames, distinguishedName, generalNames } from "./name.ts";
import { OID } from "./oids.ts";
import { pemOf } from "./pem.ts";

/** Something that can sign certificates: its own certificate and key. */
export interface Authority {
  readonly certificate: X509Certificate;
  readonly privateKey: KeyObject;
}

/** A certificate we made, with the key that belongs to it where we made that too. */
export interface Issued {
  readonly der: Buffer;
  readonly pem: string;
  /** ms since the epoch. */
  readonly notAfter: number;
}

export interface IssuedWithKey extends Issued {
  readonly key: KeyPair;
  readonly keyPem: string;
}

interface Template {
  readonly subject: Asn1;
  readonly issuer: Asn1;
  readonly spki: Uint8Array;
  readonly signer: KeyObject;
  /** Public key of the signer, for the authority key identifier. */
  readonly signerSpki: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  /** Path length of a CA; undefined for a leaf. */
  readonly ca?: { readonly pathLength?: number };
  readonly names?: AlternativeNames;
  readonly usage?: readonly string[];
}

/** Key usage bits, most significant first: digitalSignature is bit 0, keyCertSign 5, cRLSign 6. */
const USAGE_CA = bits(Buffer.from([0b0000_0110]), 1);
const USAGE_LEAF = bits(Buffer.from([0b1000_0000]), 7);

function build(template: Template): Issued {
  // X.509 times have whole seconds: round inwards, so that a certificate is never valid outside what was asked.
  const notBefore = Math.ceil(template.notBefore / 1000) * 1000;
  const notAfter = Math.floor(template.notAfter / 1000) * 1000;
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const tbs = sequence(
    context(0, [integer(Buffer.from([2]))]),
    integer(serialNumber()),
    algorithm,
    template.issuer,
    sequence(time(notBefore), time(notAfter)),
    template.subject,
    fromDer(template.spki),
    context(3, [sequence(...extensions(template))]),
  );
  const der = toDer(sequence(tbs, algorithm, bits(sign("sha256", toDer(tbs), template.signer))));
  return { der, pem: pemOf(der, "CERTIFICATE"), notAfter };
}

/** 16 random bytes, positive and not zero (RFC 5280 §4.1.2.2 allows up to 20). */
function serialNumber(): Buffer {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  return serial;
}

function extensions(template: Template): Asn1[] {
  const make = (type: string, critical: boolean, value: Asn1) =>
    critical
      ? sequence(oid(type), boolean(true), octets(toDer(value)))
      : sequence(oid(type), octets(toDer(value)));
  const pathLength = template.ca?.pathLength;
  const constraints =
    template.ca === undefined
      ? sequence()
      : pathLength === undefined
        ? sequence(boolean(true))
        : sequence(boolean(true), integer(Buffer.from([pathLength])));
  const out = [
    make(OID.basicConstraints, true, constraints),
    make(OID.keyUsage, true, template.ca ? USAGE_CA : USAGE_LEAF),
    make(OID.subjectKeyIdentifier, false, octets(keyIdentifier(template.spki))),
    make(OID.authorityKeyIdentifier, false, sequence(context(0, keyIdentifier(template.signerSpki)))),
  ];
  if (template.usage) out.push(make(OID.extendedKeyUsage, false, sequence(...template.usage.map(oid))));
  if (template.names) out.push(make(OID.subjectAltName, false, generalNames(template.names)));
  return out;
}

/** SHA-1 of the public key's bit string (RFC 5280 §4.2.1.2, method 1). */
function keyIdentifier(spki: Uint8Array): Buffer {
  const key = bytesOf(childrenOf(fromDer(spki), "a public key")[1], "public key bits").subarray(1);
  return createHash("sha1").update(key).digest();
}

/** The subject of a certificate as it is encoded there, so that issuer and subject match byte for byte. */
function subjectOf(certificate: X509Certificate): Asn1 {
  const tbs = childrenOf(childrenOf(fromDer(certificate.raw), "a certificate")[0], "a certificate body");
  return tbs[5]!;
}

/** A self-signed P-256 root. `lifetimeMs` from `now` (ms since the epoch). */
export function createRoot(options: { commonName: string; lifetimeMs: number; now: number }): IssuedWithKey {
  const key = generateKey();
  const name = distinguishedName(options.commonName);
  const spki = spkiOf(key.publicKey);
  const issued = build({
    subject: name,
    issuer: name,
    spki,
    signer: key.privateKey,
    signerSpki: spki,
    notBefore: options.now - CLOCK_SKEW_MS,
    notAfter: options.now + options.lifetimeMs,
    ca: {},
  });
  return { ...issued, key, keyPem: privateKeyPem(key.privateKey) };
}

/** A CA for leaves only (path length 0), signed by a root and never outliving it. */
export function createIssuer(options: {
  root: Authority;
  commonName: string;
  lifetimeMs: number;
  now: number;
}): IssuedWithKey {
  const key = generateKey();
  const issued = build({
    subject: distinguishedName(options.commonName),
    ...signedBy(options.root),
    spki: spkiOf(key.publicKey),
    notBefore: options.now - CLOCK_SKEW_MS,
    notAfter: Math.min(options.now + options.lifetimeMs, notAfterOf(options.root.certificate)),
    ca: { pathLength: 0 },
  });
  return { ...issued, key, keyPem: privateKeyPem(key.privateKey) };
}

/** Certificates made on one machine must be valid on one whose clock is a little behind. */
export const CLOCK_SKEW_MS = 20_000;

/**
 * A workload's leaf: one DNS-like name, for both TLS sides, from `now - skewMs` to `now + lifetimeMs + skewMs`
 * but never past its issuer's end.
 */
export function issueLeaf(options: {
  issuer: Authority;
  /** DER SubjectPublicKeyInfo from the request. */
  spki: Uint8Array;
  dnsName: string;
  lifetimeMs: number;
  skewMs: number;
  now: number;
}): Issued {
  return build({
    subject: distinguishedName(options.dnsName.length <= MAX_COMMON_NAME ? options.dnsName : ""),
    ...signedBy(options.issuer),
    spki: options.spki,
    notBefore: options.now - options.skewMs,
    notAfter: Math.min(
      options.now + options.lifetimeMs + options.skewMs,
      notAfterOf(options.issuer.certificate),
    ),
    names: { dns: [options.dnsName] },
    usage: [OID.serverAuth, OID.clientAuth],
  });
}

/** RFC 5280 bounds a common name at 64 characters (ub-common-name). */
const MAX_COMMON_NAME = 64;

/** A server certificate with a new key (webhooks, the sandbox's API server). Client use is included on request. */
export function createServerCertificate(options: {
  authority: Authority;
  commonName: string;
  names: AlternativeNames;
  lifetimeMs: number;
  now: number;
}): IssuedWithKey {
  const key = generateKey();
  const issued = build({
    subject: distinguishedName(options.commonName),
    ...signedBy(options.authority),
    spki: spkiOf(key.publicKey),
    notBefore: options.now - CLOCK_SKEW_MS,
    notAfter: Math.min(options.now + options.lifetimeMs, notAfterOf(options.authority.certificate)),
    names: options.names,
    usage: [OID.serverAuth],
  });
  return { ...issued, key, keyPem: privateKeyPem(key.privateKey) };
}

/** A client certificate as API servers read it: user in the common name, groups as organisations. */
export function createClientCertificate(options: {
  authority: Authority;
  user: string;
  groups: readonly string[];
  lifetimeMs: number;
  now: number;
}): IssuedWithKey {
  const key = generateKey();
  const issued = build({
    subject: distinguishedName(options.user, options.groups),
    ...signedBy(options.authority),
    spki: spkiOf(key.publicKey),
    notBefore: options.now - CLOCK_SKEW_MS,
    notAfter: Math.min(options.now + options.lifetimeMs, notAfterOf(options.authority.certificate)),
    usage: [OID.clientAuth],
  });
  return { ...issued, key, keyPem: privateKeyPem(key.privateKey) };
}

function signedBy(authority: Authority) {
  return {
    issuer: subjectOf(authority.certificate),
    signer: authority.privateKey,
    signerSpki: spkiOf(createPublicKey(authority.privateKey)),
  };
}

/** End of validity in ms since the epoch. */
export const notAfterOf = (certificate: X509Certificate): number => Date.parse(certificate.validTo);
/** Start of validity in ms since the epoch. */
export const notBeforeOf = (certificate: X509Certificate): number => Date.parse(certificate.validFrom);
