// What the proxy's own answers say in their header fields, the same over HTTP/1 and HTTP/2.

import type { FilterVerdict } from "../../rules/filters.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import { UNSERVED } from "../transport/unserved.ts";
import type { LocalResponse } from "./exchange.ts";
import type { Field } from "./message.ts";

export interface AnswerOptions {
  /** The caller is ours (the pod's own application, or a meshed peer): it may know the code and the details. */
  readonly trusted: boolean;
  /** Tell the peer's proxy to leave this connection (`l5d-proxy-connection: close`). */
  readonly meshClose: boolean;
  /** What exactly went wrong, added to the text for trusted callers. */
  readonly detail?: string | undefined;
  /** Proves to the peer's proxy that its request was not served: see transport/unserved.ts. */
  readonly unserved?: Buffer | undefined;
}

/** The text of an error, fit for a header field. */
export function errorText(key: PassportKey, { trusted, detail }: AnswerOptions): string {
  const { text } = PASSPORTS[key];
  return (trusted && detail ? `${text}: ${detail}` : text).replace(/[^\x20-\x7e]/g, "?").slice(0, 512);
}

/** `l5d-proxy-error` and what goes with it. */
export function errorFields(key: PassportKey, options: AnswerOptions): Field[] {
  const fields: Field[] = [["l5d-proxy-error", errorText(key, options)]];
  if (options.trusted) fields.push(["l5d-mesh-code", PASSPORTS[key].code]);
  if (options.meshClose) fields.push(["l5d-proxy-connection", "close"]);
  if (options.unserved) fields.push([UNSERVED, options.unserved.toString("base64url")]);
  return fields;
}

/** The fields of an answer to a gRPC caller, all in its head. */
export function grpcFields(status: number, message: string): Field[] {
  return [
    ["content-type", "application/grpc"],
    ["grpc-status", String(status)],
    ["grpc-message", percentEncoded(message)],
  ];
}

/** As gRPC writes messages in trailers: everything but printable ASCII, and `%`, as %XX. */
function percentEncoded(text: string): string {
  return text.replace(/[^\x20-\x7e]|%/g, (char) => encodeURIComponent(char));
}

/**
 * The answer of a filter that does not let the request go on.
 * @param trusted as of `AnswerOptions`
 */
export function localResponse(
  verdict: Exclude<FilterVerdict, { kind: "go" }>,
  trusted: boolean,
): LocalResponse {
  if (verdict.kind === "redirect")
    return { status: verdict.status, fields: [["location", verdict.location]] };
  const { status, grpcStatus, message } = verdict;
  return {
    status,
    grpcStatus,
    message,
    error: "fault-injected",
    fields: [
      ["l5d-proxy-error", message.replace(/[^\x20-\x7e]/g, "?") || PASSPORTS["fault-injected"].text],
      ...(trusted ? [["l5d-mesh-code", PASSPORTS["fault-injected"].code] as const] : []),
    ],
  };
}
