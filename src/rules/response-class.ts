// Whether a response counts as a success: HTTP by status, gRPC by its own (reference/data-planes.md §1.19).
import type { Trace } from "./trace.ts";

/** The labels' values as Linkerd writes them. */
export type Classification = "success" | "failure";

/** Unknown, DeadlineExceeded, PermissionDenied, Internal, Unavailable, DataLoss: the server's fault, not the caller's. */
const GRPC_FAILURES = new Set([2, 4, 7, 13, 14, 15]);
/** What tells of an endpoint in trouble: ResourceExhausted among them, PermissionDenied not. */
const GRPC_OVERLOAD = new Set([2, 4, 8, 13, 14, 15]);

/**
 * A status of 500 and above is a failure, and so are gRPC's; so is a response that broke off.
 * @param grpcStatus undefined: no gRPC, or a call that ended without one, which is a success
 */
export function classifyResponse(
  status: number,
  complete: boolean,
  grpcStatus?: number,
  trace?: Trace,
): Classification {
  if (!complete) {
    trace?.add("response ended", true, "it broke off before its end");
    return "failure";
  }
  if (grpcStatus !== undefined) {
    const failure = GRPC_FAILURES.has(grpcStatus);
    trace?.add("grpc-status", failure, `it is ${grpcStatus}`);
    return failure ? "failure" : "success";
  }
  const failure = status >= 500;
  trace?.add("status >= 500", failure, `the status is ${status}`);
  return failure ? "failure" : "success";
}

/** Whether a response says that its endpoint is overloaded or failing (reference/data-planes.md §1.9). */
export function isOverloadOrFailure(status: number, grpcStatus: number | undefined): boolean {
  return status === 429 || status >= 500 || (grpcStatus !== undefined && GRPC_OVERLOAD.has(grpcStatus));
}
