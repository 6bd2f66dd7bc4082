// The Identity API: Certify, from a token and a request to a leaf.
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { Certify } from "../../api/identity.ts";
import { timestampOf } from "../../api/time.ts";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { Clock } from "../../util/clock.ts";
import type { EventRecorder } from "../event-recorder.ts";
import type { GrpcServer } from "../grpc-server.ts";
import { type CertifyPolicy, certify, type Issuer, serviceAccountOf } from "./certifier.ts";
import type { ReviewedToken } from "./token-review.ts";

export interface IdentityOptions {
  /** Whose token it is. @throws GrpcError */
  readonly review: (token: string) => Promise<ReviewedToken>;
  /** The issuer in use now. */
  readonly issuer: () => Issuer;
  readonly policy: CertifyPolicy;
  readonly events: Pick<EventRecorder, "record">;
  readonly registry: Registry;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Requests that wait for the API server at once; proxies ask again, so a storm must not pile up here. */
const MAX_PENDING = 500;

export function serveIdentity(server: GrpcServer, options: IdentityOptions): void {
  const { review, issuer, policy, events, registry, log, clock } = options;
  const issued = registry.counter("identity_cert_issued_total", "Leaf certificates issued.").labels();
  let pending = 0;
  server.unary(Certify, async (request) => {
    if (request.token.length === 0) throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected a token");
    if (pending >= MAX_PENDING)
      throw new GrpcError(STATUS.RESOURCE_EXHAUSTED, `${MAX_PENDING} requests are under way; ask again`);
    pending += 1;
    const reviewed = await review(request.token.toString("utf8")).finally(() => {
      pending -= 1;
    });
    const user = serviceAccountOf(reviewed.username);
    const { identity } = request;
    const leaf = certify(
      { identity, csr: request.certificateSigningRequest },
      user,
      issuer(),
      policy,
      clock.now(),
    );
    issued.inc();
    log.debug("certified", { identity });
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
      `issued certificate for ${identity} until ${new Date(leaf.notAfter).toISOString()}`,
    );
    return {
      leafCertificate: leaf.der,
      intermediateCertificates: leaf.chain,
      validUntil: timestampOf(leaf.notAfter),
    };
  });
}
