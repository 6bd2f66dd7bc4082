// Decides whether a request for a leaf is granted: who holds the token, what the CSR asks for (reference §5).
import type { X509Certificate } from "node:crypto";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import {
  type Authority,
  issueLeaf,
  notAfterOf,
  notBeforeOf,
  parseCertificates,
  parseCsr,
  parsePrivateKey,
  verifyChain,
} from "../../pki/index.ts";
import { errorMessage } from "../../util/error.ts";

/** The issuer in use: its chain up to, but without, the trust anchor. */
export interface Issuer extends Authority {
  /** Certificates that a verifier needs between leaf and anchor, DER, issuer first. */
  readonly chain: readonly Buffer[];
}

/** An issuer that is not taken: it cannot be read, or it can and is not valid for these anchors now. */
export class IssuerError extends Error {
  readonly readable: boolean;
  /** When what is not valid yet will be, ms since the epoch. */
  readonly validFrom: number | undefined;

  constructor(
    message: string,
    { readable, validFrom }: { readonly readable: boolean; readonly validFrom?: number | undefined },
  ) {
    super(message);
    this.name = "IssuerError";
    this.readable = readable;
    this.validFrom = validFrom;
  }
}

/**
 * Reads an issuer and checks that it can sign for these anchors now.
 * @throws IssuerError that says what is wrong, never showing the key.
 */
export function readIssuer(certificatePem: string, keyPem: string, anchorsPem: string, now: number): Issuer {
  const read = <T>(what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (error) {
      throw new IssuerError(`${what}: ${errorMessage(error)}`, { readable: false });
    }
  };
  const invalid = (message: string, validFrom?: number) =>
    new IssuerError(message, { readable: true, validFrom });
  const [certificate, ...intermediates] = read("the issuer certificate", () =>
    parseCertificates(certificatePem),
  );
  const privateKey = read("the issuer's key", () => parsePrivateKey(keyPem));
  const anchors = read("the trust anchors", () => parseCertificates(anchorsPem));
  if (!certificate!.ca) throw invalid("the issuer certificate is not a CA");
  if (!certificate!.checkPrivateKey(privateKey))
    throw invalid("the issuer's key does not belong to its certificate");
  if (privateKey.asymmetricKeyDetails?.namedCurve !== "prime256v1")
    throw invalid("expected an issuer key of ECDSA P-256");
  const result = verifyChain(certificate!, intermediates, anchors, now);
  if (!result.ok) {
    const begins = [certificate!, ...intermediates, ...anchors].map(notBeforeOf).filter((at) => at > now);
    throw invalid(
      `the issuer does not chain to a trust anchor: ${result.reason}`,
      begins.length > 0 ? Math.min(...begins) : undefined,
    );
  }
  const isAnchor = (c: X509Certificate) =>
    anchors.some((anchor) => anchor.fingerprint256 === c.fingerprint256);
  // An issuer that is itself the anchor needs no chain: every verifier has it.
  const chain = result.path.filter((c) => !isAnchor(c)).map((c) => c.raw);
  return { certificate: certificate!, privateKey, chain };
}

export interface CertifyPolicy {
  readonly trustDomain: string;
  /** Namespace of the control plane, part of every name. */
  readonly meshNamespace: string;
  readonly lifetimeMs: number;
  readonly skewMs: number;
}

/** Name of a ServiceAccount's workloads. */
export const nameOf = (policy: CertifyPolicy, user: { namespace: string; serviceAccount: string }): string =>
  `${user.serviceAccount}.${user.namespace}.serviceaccount.identity.${policy.meshNamespace}.${policy.trustDomain}`;

/** `system:serviceaccount:<ns>:<sa>`. @throws GrpcError Unauthenticated for any other user. */
export function serviceAccountOf(username: string): { namespace: string; serviceAccount: string } {
  const match = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username);
  if (!match)
    throw new GrpcError(
      STATUS.UNAUTHENTICATED,
      `the token is not a ServiceAccount's but ${JSON.stringify(username)}'s`,
    );
  return { namespace: match[1]!, serviceAccount: match[2]! };
}

export interface Leaf {
  readonly der: Buffer;
  readonly chain: readonly Buffer[];
  /** ms since the epoch. */
  readonly notAfter: number;
}

/**
 * Issues the leaf for an authenticated ServiceAccount.
 * @throws GrpcError: InvalidArgument for a CSR that breaks a rule, PermissionDenied for another's name,
 * FailedPrecondition when the issuer has expired.
 */
export function certify(
  request: { readonly identity: string; readonly csr: Buffer },
  user: { readonly namespace: string; readonly serviceAccount: string },
  issuer: Issuer,
  policy: CertifyPolicy,
  now: number,
): Leaf {
  const name = nameOf(policy, user);
  if (request.identity !== name) {
    throw new GrpcError(
      STATUS.PERMISSION_DENIED,
      `the token is for ${name}, the request for ${JSON.stringify(request.identity)}`,
    );
  }
  const spki = checkCsr(request.csr, name);
  if (notAfterOf(issuer.certificate) <= now) {
    throw new GrpcError(
      STATUS.FAILED_PRECONDITION,
      `the issuer certificate expired at ${issuer.certificate.validTo}`,
    );
  }
  const leaf = issueLeaf({
    issuer,
    spki,
    dnsName: name,
    lifetimeMs: policy.lifetimeMs,
    skewMs: policy.skewMs,
    now,
  });
  return { der: leaf.der, chain: issuer.chain, notAfter: leaf.notAfter };
}

/** Exactly one DNS name, this one; nothing else. Gives the public key. */
function checkCsr(der: Buffer, name: string): Buffer {
  let csr: ReturnType<typeof parseCsr>;
  try {
    csr = parseCsr(der);
  } catch (error) {
    throw new GrpcError(STATUS.INVALID_ARGUMENT, `certificate signing request: ${errorMessage(error)}`);
  }
  const refuse = (what: string): never => {
    throw new GrpcError(STATUS.INVALID_ARGUMENT, `certificate signing request: ${what}`);
  };
  if (csr.dnsNames.length !== 1 || csr.dnsNames[0] !== name) refuse(`expected exactly the DNS name ${name}`);
  if (csr.otherNames.length > 0) refuse(`expected no other names, got ${csr.otherNames[0]}`);
  if (csr.authority) refuse("expected a request for a leaf, got one for a certificate authority");
  if (csr.commonNames.some((commonName) => commonName !== "" && commonName !== name))
    refuse(`expected no common name or ${name}`);
  return csr.spki;
}
