// AdmissionReview, by which the API server asks webhooks about a request: what the mesh reads of it, and its answers.
import type { Resource } from "../inject/index.ts";

export interface AdmissionRequest {
  readonly uid: string;
  readonly kind?: { readonly group?: string; readonly version?: string; readonly kind?: string };
  readonly operation?: string;
  readonly name?: string;
  readonly namespace?: string;
  readonly object?: Resource;
  readonly oldObject?: Resource;
  readonly dryRun?: boolean;
}

export interface AdmissionResponse {
  readonly uid: string;
  readonly allowed: boolean;
  readonly patchType?: "JSONPatch";
  /** Base64 of a JSON patch. */
  readonly patch?: string;
  /** Shown to the user by kubectl and others. */
  readonly warnings?: readonly string[];
  /** Why it is refused. */
  readonly status?: { readonly code: number; readonly reason: string; readonly message: string };
}

/** A request that a webhook cannot read. */
export class AdmissionError extends Error {}

/** The request of an AdmissionReview. @throws AdmissionError */
export function parseReview(body: unknown): AdmissionRequest {
  const review = body as { apiVersion?: unknown; kind?: unknown; request?: AdmissionRequest } | null;
  if (review?.kind !== "AdmissionReview" || review.apiVersion !== "admission.k8s.io/v1") {
    throw new AdmissionError("expected an AdmissionReview of admission.k8s.io/v1");
  }
  if (typeof review.request?.uid !== "string") throw new AdmissionError("expected a request with a uid");
  return review.request;
}

/** Longer warnings may be cut by the API server. */
const MAX_WARNING = 256;
const MAX_WARNINGS = 10;

/** The member of a response that carries warnings; nothing when there are none. */
export const warned = (texts: readonly string[]): Pick<AdmissionResponse, "warnings"> =>
  texts.length === 0
    ? {}
    : { warnings: texts.slice(0, MAX_WARNINGS).map((text) => text.slice(0, MAX_WARNING)) };
