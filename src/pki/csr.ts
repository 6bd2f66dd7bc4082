// PKCS#10 certificate signing requests (RFC 2986): made by the proxy, checked by the identity controller.
import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import {
  bits,
  bytesOf,
  childrenOf,
  context,
  fromDer,
  integer,
  isContext,
  octets,
  oid,
  oidOf,
  sequence,
  set,
  Type,
  toDer,
} from "./der.ts";
import { type KeyPair, spkiOf } from "./key.ts";
import { distinguishedName, GENERAL_NAME, generalNames } from "./name.ts";
import { OID } from "./oids.ts";

/** Larger requests are refused before they are parsed, bytes. */
const MAX_CSR_BYTES = 16 * 1024;

/** A DER request for one DNS-like name, with an empty subject, signed by the key it asks for. */
export function createCsr(options: { key: KeyPair; dnsName: string }): Buffer {
  const extensions = sequence(
    sequence(oid(OID.subjectAltName), octets(toDer(generalNames({ dns: [options.dnsName] })))),
  );
  const info = sequence(
    integer(Buffer.from([0])),
    distinguishedName(""),
    fromDer(spkiOf(options.key.publicKey)),
    context(0, [sequence(oid(OID.extensionRequest), set(extensions))]),
  );
  const signature = sign("sha256", toDer(info), options.key.privateKey);
  return toDer(sequence(info, sequence(oid(OID.ecdsaWithSha256)), bits(signature)));
}

export interface CertificateRequest {
  /** DER SubjectPublicKeyInfo, P-256. */
  readonly spki: Buffer;
  /** Common names of the subject; empty when there is none. */
  readonly commonNames: readonly string[];
  readonly dnsNames: readonly string[];
  /** Alternative names of other kinds than DNS, described for an error message. */
  readonly otherNames: readonly string[];
  /** It asks to be a certificate authority. */
  readonly authority: boolean;
}

/**
 * Parses a DER request strictly and verifies its signature (proof that the sender holds the key).
 * @throws Error that says what was expected.
 */
export function parseCsr(der: Uint8Array): CertificateRequest {
  if (der.length > MAX_CSR_BYTES)
    throw new Error(`expected at most ${MAX_CSR_BYTES} bytes of request, got ${der.length}`);
  const [info, algorithm, signature, ...extra] = childrenOf(parse(der), "a certification request");
  if (extra.length > 0) throw new Error("expected a certification request of three parts");
  const [version, subject, spki, attributes] = childrenOf(info, "certification request info");
  if (!bytesOf(version, "a version", Type.INTEGER).equals(Buffer.from([0])))
    throw new Error("expected request version 1");
  if (oidOf(childrenOf(algorithm, "a signature algorithm")[0], "an algorithm") !== OID.ecdsaWithSha256) {
    throw new Error("expected a signature by ecdsa-with-SHA256");
  }
  const spkiDer = toDer(spki!);
  verifySignature(p256Key(spkiDer), toDer(info!), wholeBits(signature));
  const asked = requestedExtensions(attributes);
  return {
    spki: spkiDer,
    commonNames: childrenOf(subject, "a subject").flatMap((rdn) =>
      childrenOf(rdn, "a relative name", Type.SET).flatMap((attribute) => {
        const [type, value] = childrenOf(attribute, "a name attribute");
        return oidOf(type, "an attribute type") === OID.commonName
          ? [bytesOf(value, "a common name").toString("utf8")]
          : [];
      }),
    ),
    ...alternativeNames(asked),
    authority: asked.some(({ type, value }) => type === OID.basicConstraints && isAuthority(value)),
  };
}

function parse(der: Uint8Array) {
  try {
    return fromDer(der);
  } catch (cause) {
    throw new Error("expected a DER certification request", { cause });
  }
}

function p256Key(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch (cause) {
    throw new Error("expected a public key", { cause });
  }
  if (key.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw new Error("expected a P-256 public key");
  }
  return key;
}

/** The bytes of a bit string without unused bits: any other encoding of a signature is refused. */
function wholeBits(signature: ReturnType<typeof fromDer> | undefined): Buffer {
  const bytes = bytesOf(signature, "a signature", Type.BITSTRING);
  if (bytes[0] !== 0) throw new Error("expected a signature of whole bytes");
  return bytes.subarray(1);
}

function verifySignature(key: KeyObject, signed: Buffer, signature: Buffer): void {
  if (!verify("sha256", signed, key, signature)) throw new Error("expected a signature by the requested key");
}

interface RequestedExtension {
  readonly type: string;
  readonly value: Buffer;
}

/** Every extension of every extension request in the attributes. */
function requestedExtensions(attributes: ReturnType<typeof fromDer> | undefined): RequestedExtension[] {
  if (attributes === undefined) return [];
  if (!isContext(attributes, 0) || !Array.isArray(attributes.value))
    throw new Error("expected request attributes");
  return attributes.value.flatMap((attribute) => {
    const [type, values] = childrenOf(attribute, "an attribute");
    if (oidOf(type, "an attribute type") !== OID.extensionRequest) return [];
    return childrenOf(values, "attribute values", Type.SET).flatMap((extensions) =>
      childrenOf(extensions, "extensions").map((extension) => {
        const parts = childrenOf(extension, "an extension");
        return {
          type: oidOf(parts[0], "an extension type"),
          value: bytesOf(parts.at(-1), "an extension value", Type.OCTETSTRING),
        };
      }),
    );
  });
}

function alternativeNames(extensions: readonly RequestedExtension[]) {
  const dnsNames: string[] = [];
  const otherNames: string[] = [];
  for (const { type, value } of extensions) {
    if (type !== OID.subjectAltName) continue;
    for (const name of childrenOf(fromDer(value), "alternative names")) {
      if (isContext(name, GENERAL_NAME.dns)) dnsNames.push(bytesOf(name, "a DNS name").toString("latin1"));
      else if (isContext(name, GENERAL_NAME.uri)) otherNames.push("a URI");
      else if (isContext(name, GENERAL_NAME.ip)) otherNames.push("an IP address");
      else if (isContext(name, GENERAL_NAME.email)) otherNames.push("an e-mail address");
      else otherNames.push("another kind of name");
    }
  }
  return { dnsNames, otherNames };
}

/** basicConstraints: a sequence whose first value, if it is a boolean, says it. */
function isAuthority(value: Buffer): boolean {
  const [first] = childrenOf(fromDer(value), "basic constraints");
  return first?.type === Type.BOOLEAN && bytesOf(first, "a boolean", Type.BOOLEAN).some((byte) => byte !== 0);
}
