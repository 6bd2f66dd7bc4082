// What can go wrong between us and an API server, typed once here: its refusals, and not reaching it.
import { errorCode, errorMessage, MeshError } from "../util/error.ts";
import type { Status } from "./types.ts";

/** A refusal by the API server: `status` is the HTTP code, `reason` Kubernetes' word for it (`NotFound` …). */
export class KubeApiError extends MeshError {
  readonly status: number;
  readonly reason: string;
  readonly details: Status["details"];

  constructor(status: number, body: Status, request: string) {
    const message = body.message ?? `the API server answered ${status}`;
    super(`${message} (${request})`, { hints: hintsFor(status) });
    this.name = "KubeApiError";
    this.status = status;
    this.reason = body.reason ?? "";
    this.details = body.details;
  }
}

function hintsFor(status: number): string[] {
  if (status === 401) return ["The cluster does not know you: log in again, or choose another --context."];
  if (status === 403)
    return ["Ask for the permission, or use a context that has it: kubectl auth can-i --list"];
  return [];
}

export const isNotFound = (error: unknown): boolean => error instanceof KubeApiError && error.status === 404;
export const isConflict = (error: unknown): boolean => error instanceof KubeApiError && error.status === 409;
export const isGone = (error: unknown): boolean => error instanceof KubeApiError && error.status === 410;

const REFUSED = new Set(["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT", "EPIPE"]);

/** Turns a socket, DNS or TLS error on the way to `server` into one that a person can act on. */
export function connectionError(error: unknown, server: string): MeshError {
  if (error instanceof MeshError) return error;
  const code = errorCode(error) ?? "";
  const check = "Is the cluster running, and is this the right one? kubectl config current-context";
  if (REFUSED.has(code))
    return new MeshError(`cannot reach the cluster at ${server}: ${code}`, { hints: [check], cause: error });
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return new MeshError(`cannot find the cluster's host name in ${server}`, {
      hints: [check],
      cause: error,
    });
  }
  if (/CERT|SELF_SIGNED|ISSUER|ALTNAME|SSL|TLS/.test(code)) {
    return new MeshError(`cannot trust the cluster at ${server}: ${errorMessage(error)}`, {
      hints: ["The kubeconfig's certificate-authority does not match this server; fetch a fresh kubeconfig."],
      cause: error,
    });
  }
  return new MeshError(`the request to the cluster at ${server} failed: ${errorMessage(error)}`, {
    hints: [check],
    cause: error,
  });
}
