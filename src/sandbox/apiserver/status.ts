// Kubernetes' own error shape: `Status` objects with the reasons and messages that clients look at.

import type { Json } from "../cluster.ts";

export interface StatusCause {
  reason: string;
  message: string;
  field?: string;
}

export interface StatusDetails {
  name?: string;
  group?: string;
  kind?: string;
  uid?: string;
  causes?: StatusCause[];
  retryAfterSeconds?: number;
}

/** An error that a client of the API server sees as a `Status`. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;

  constructor(status: number, reason: string, message: string, details?: StatusDetails) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.details = details;
  }
}

/** The `Status` object of a failure. */
export function statusObject(error: ApiError): Json {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: error.message,
    ...(error.reason ? { reason: error.reason } : {}),
    ...(error.details ? { details: error.details } : {}),
    code: error.status,
  };
}

/** `pods`, `deployments.apps`: how messages name a resource. */
export function qualified(group: string, resource: string): string {
  return group ? `${resource}.${group}` : resource;
}

const detailsOf = (group: string, kind: string, name?: string): StatusDetails => ({
  ...(name === undefined ? {} : { name }),
  ...(group ? { group } : {}),
  kind,
});

export const notFound = (group: string, resource: string, name: string) =>
  new ApiError(
    404,
    "NotFound",
    `${qualified(group, resource)} ${JSON.stringify(name)} not found`,
    detailsOf(group, resource, name),
  );

export const noSuchPath = () =>
  new ApiError(404, "NotFound", "the server could not find the requested resource");

export const alreadyExists = (group: string, resource: string, name: string) =>
  new ApiError(
    409,
    "AlreadyExists",
    `${qualified(group, resource)} ${JSON.stringify(name)} already exists`,
    detailsOf(group, resource, name),
  );

export const conflict = (
  group: string,
  resource: string,
  name: string,
  why = "the object has been modified; please apply your changes to the latest version and try again",
) =>
  new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(group, resource)} ${JSON.stringify(name)}: ${why}`,
    detailsOf(group, resource, name),
  );

export const badRequest = (message: string) => new ApiError(400, "BadRequest", message);
export const unauthorized = () => new ApiError(401, "Unauthorized", "Unauthorized");
export const methodNotAllowed = () =>
  new ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
export const tooLarge = (limit: number) =>
  new ApiError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${limit}`);
export const unsupportedMedia = (message: string) => new ApiError(415, "UnsupportedMediaType", message);
export const expired = (message: string) => new ApiError(410, "Expired", message);
export const internal = (message: string) =>
  new ApiError(500, "InternalError", `Internal error occurred: ${message}`, {
    causes: [{ reason: "", message }],
  });
export const forbidden = (group: string, resource: string, name: string, why: string) =>
  new ApiError(
    403,
    "Forbidden",
    `${qualified(group, resource)} ${JSON.stringify(name)} is forbidden: ${why}`,
    detailsOf(group, resource, name),
  );

export interface FieldError {
  /** Path as Kubernetes writes it: `spec.containers[0].name`. */
  field: string;
  reason:
    | "FieldValueInvalid"
    | "FieldValueRequired"
    | "FieldValueNotSupported"
    | "FieldValueForbidden"
    | "FieldValueDuplicate"
    | "FieldValueTypeInvalid"
    | "FieldValueTooLong";
  /** Text after the field, as Kubernetes writes it: `Required value: …`. */
  message: string;
}

/** `Invalid value: "x": why`. */
export const invalidValue = (field: string, value: unknown, why: string): FieldError => ({
  field,
  reason: "FieldValueInvalid",
  message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
});
export const required = (field: string, why = ""): FieldError => ({
  field,
  reason: "FieldValueRequired",
  message: why ? `Required value: ${why}` : "Required value",
});
export const notSupported = (field: string, value: unknown, allowed: readonly unknown[]): FieldError => ({
  field,
  reason: "FieldValueNotSupported",
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${allowed.map((v) => JSON.stringify(v)).join(", ")}`,
});
export const forbiddenField = (field: string, why: string): FieldError => ({
  field,
  reason: "FieldValueForbidden",
  message: `Forbidden: ${why}`,
});
export const duplicate = (field: string, value: unknown): FieldError => ({
  field,
  reason: "FieldValueDuplicate",
  message: `Duplicate value: ${JSON.stringify(value)}`,
});

/** 422 with every error listed, as `kubectl` prints it. */
export function invalid(group: string, kind: string, name: string, errors: readonly FieldError[]): ApiError {
  const lines = errors.map((e) => `${e.field}: ${e.message}`);
  const text = lines.length === 1 ? lines[0] : `[${lines.join(", ")}]`;
  return new ApiError(
    422,
    "Invalid",
    `${group ? `${kind}.${group}` : kind} ${JSON.stringify(name)} is invalid: ${text}`,
    {
      ...detailsOf(group, kind, name),
      causes: errors.map((e) => ({ reason: e.reason, message: e.message, field: e.field })),
    },
  );
}
