// The Identity API: Certify, from a token and a request to a leaf.
import { X509Certificate } from "node:crypto";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { Certify } from "../../api/identity.ts";
import { timestampOf } from "../../api/time.ts";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import { RateLimiter } from "../../rules/rate-limit.ts";
import type { Clock } from "../../util/clock.ts";
import type { EventRecorder } from "../event-recorder.ts";
import type { GrpcServer } from "../grpc-server.ts";
import { type CertifyPolicy, certify, type Issuer, serviceAccountOf } from "./certifier.ts";
import { serialOf } from "./issuer-source.ts";
import type { ReviewedToken } from "./token-review.ts";

export interface IdentityOptions {
  /** Whose token it is. @throws GrpcError */
  readonly review: (token: string) => Promise<ReviewedToken>;
  readonly issuer: {
    /** The issuer in use now. */
    readonly current: Issuer | undefined;
    /** It has ended, and a request could not be granted. */
    ended(): void;
  };
  readonly policy: CertifyPolicy;
  readonly events: Pick<EventRecorder, "record">;
  readonly registry: Registry;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Longest name of a certificate: a DNS name's. */
const MAX_NAME = 253;
/** Requests that wait for the API server at once; proxies ask again, so a storm must not pile up here. */
const MAX_PENDING = 500;
/**
 * Requests a second, which are as many TokenReviews: of all proxies, and of those that ask for one name. A Deployment that
 * grows by a thousand pods has its certificates in five seconds.
 */
const MAX_RATE = 400;
const MAX_RATE_OF_A_NAME = 200;

export function serveIdentity(server: GrpcServer, options: IdentityOptions): void {
  const { review, issuer, policy, events, registry, log, clock } = options;
  const issued = registry.counter(
    "identity_cert_issued_total",
    "Leaf certificates issued, by the serial number of their issuer.",
  );
  const refused = registry.counter("identity_cert_refused_total", "Requests refused, by gRPC status code.");
  const limits = new RateLimiter({
    total: { requestsPerSecond: MAX_RATE },
    identity: { requestsPerSecond: MAX_RATE_OF_A_NAME },
    overrides: [],
  });
  let pending = 0;
  const grant = async (identity: string, token: Buffer, csr: Buffer) => {
    if (token.length === 0) throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected a token");
    if (identity.length > MAX_NAME)
      throw new GrpcError(STATUS.INVALID_ARGUMENT, `expected a name of at most ${MAX_NAME} characters`);
    if (pending >= MAX_PENDING)
      throw new GrpcError(STATUS.RESOURCE_EXHAUSTED, `${MAX_PENDING} requests are under way; ask again`);
    const over = limits.check(identity, clock.monotonic());
    if (over !== undefined)
      throw new GrpcError(
        STATUS.RESOURCE_EXHAUSTED,
        over === "total"
          ? `more than ${MAX_RATE} requests a second; ask again`
          : `more than ${MAX_RATE_OF_A_NAME} requests a second for ${JSON.stringify(identity)}; ask again`,
      );
    pending += 1;
    const reviewed = await review(token.toString("utf8")).finally(() => {
      pending -= 1;
    });
    const user = serviceAccountOf(reviewed.username);
    const used = issuer.current;
    if (!used)
      throw new GrpcError(
        STATUS.FAILED_PRECONDITION,
        "there is no issuer that can be used; see the events of mesh-identity",
      );
    const leaf = certify({ identity, csr }, user, used, policy, clock.now());
    return { reviewed, user, used, leaf };
  };
  server.unary(Certify, async (request) => {
    const { identity } = request;
    let granted: Awaited<ReturnType<typeof grant>>;
    try {
      granted = await grant(identity, request.token, request.certificateSigningRequest);
    } catch (error) {
      if (error instanceof GrpcError) {
        refused.labels({ code: error.code }).inc();
        // Those beyond the limit are many, and only the limit's.
        log[error.code === STATUS.RESOURCE_EXHAUSTED ? "debug" : "info"]("a certificate was refused", {
          identity: identity.slice(0, MAX_NAME),
          code: error.code,
          reason: error.message,
        });
        if (error.code === STATUS.FAILED_PRECONDITION) issuer.ended();
      }
      throw error;
    }
    const { reviewed, user, used, leaf } = granted;
    const until = new Date(leaf.notAfter).toISOString();
    const issuerSerial = serialOf(used.certificate);
    issued.labels({ issuer: issuerSerial }).inc();
    // The audit line: who got what, from whom, until when; no token and no key.
    log.info("a certificate was issued", {
      identity,
      serial: serialOf(new X509Certificate(leaf.der)),
      issuer: issuerSerial,
      expires: until,
      uid: reviewed.uid,
      pod: reviewed.pod,
    });
    events.record(
      {
        apiVersion: "v1",
        kind: "ServiceAccount",
        name: user.serviceAccount,
        namespace: user.namespace,
        uid: reviewed.uid,
      },
      "Normal",
      "IssuedLeafCertificate",
      `issued certificate for ${identity} until ${until}`,
    );
    return {
      leafCertificate: leaf.der,
      intermediateCertificates: leaf.chain,
      validUntil: timestampOf(leaf.notAfter),
    };
  });
}
