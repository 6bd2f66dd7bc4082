// Asks the API server whose token this is.
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import type { KubeClient } from "../../kube/client.ts";
import { errorMessage } from "../../util/error.ts";

/** Audience of the tokens that proxies show (projected for this purpose alone). */
const AUDIENCE = "identity.l5d.io";

/** Where a TokenReview names the pod of a bound token. */
const POD_NAME = "authentication.kubernetes.io/pod-name";

interface TokenReview {
  status?: {
    authenticated?: boolean;
    error?: string;
    audiences?: string[];
    user?: { username?: string; uid?: string; extra?: Record<string, string[]> };
  };
}

export interface ReviewedToken {
  /** `system:serviceaccount:<ns>:<sa>` for a ServiceAccount. */
  readonly username: string;
  readonly uid: string | undefined;
  /** Name of the pod that the token is bound to, if the API server tells. */
  readonly pod: string | undefined;
}

/** The user of a valid token of our audience. @throws GrpcError Unauthenticated, or Unavailable without an answer */
export async function reviewToken(client: KubeClient, token: string): Promise<ReviewedToken> {
  let review: TokenReview;
  try {
    review = (await client.request("/apis/authentication.k8s.io/v1/tokenreviews", {
      method: "POST",
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenReview",
        spec: { token, audiences: [AUDIENCE] },
      },
      timeout: 5_000,
    })) as TokenReview;
  } catch (error) {
    throw new GrpcError(
      STATUS.UNAVAILABLE,
      `the API server could not review the token: ${errorMessage(error)}`,
    );
  }
  const { authenticated, error, audiences, user } = review.status ?? {};
  if (!authenticated || !user?.username) {
    throw new GrpcError(STATUS.UNAUTHENTICATED, `the token was not accepted${error ? `: ${error}` : ""}`);
  }
  // A server that knows no audiences answers for its own alone: that token was not made for us.
  if (!audiences?.includes(AUDIENCE)) {
    throw new GrpcError(STATUS.UNAUTHENTICATED, `the token is not for the audience ${AUDIENCE}`);
  }
  return { username: user.username, uid: user.uid, pod: user.extra?.[POD_NAME]?.[0] };
}
