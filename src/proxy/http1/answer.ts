// The answers that the proxy itself gives, from the error catalogue (reference/data-planes.md §1.13).
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";

export interface AnswerOptions {
  /** The connection ends after this answer. */
  readonly close: boolean;
  /** The caller is ours (the pod's own application, or a meshed peer): it may know the code and the details. */
  readonly trusted: boolean;
  /** Tell the peer's proxy to leave this connection (`l5d-proxy-connection: close`). */
  readonly meshClose: boolean;
  /** What exactly went wrong, added to the text for trusted callers. */
  readonly detail?: string | undefined;
}

/** Of the catalogue's statuses; node:http has them all, and is megabytes that no proxy needs. */
const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  508: "Loop Detected",
};

/** A whole HTTP/1.1 response without body. */
export function answer(key: PassportKey, options: AnswerOptions): Buffer {
  const passport = PASSPORTS[key];
  const text = options.trusted && options.detail ? `${passport.text}: ${options.detail}` : passport.text;
  let head = `HTTP/1.1 ${passport.status} ${REASONS[passport.status] ?? ""}\r\n`;
  head += `l5d-proxy-error: ${text.replace(/[^\x20-\x7e]/g, "?").slice(0, 512)}\r\n`;
  if (options.trusted) head += `l5d-mesh-code: ${passport.code}\r\n`;
  if (options.meshClose) head += "l5d-proxy-connection: close\r\n";
  if (options.close) head += "connection: close\r\n";
  head += `content-length: 0\r\ndate: ${new Date().toUTCString()}\r\n\r\n`;
  return Buffer.from(head, "latin1");
}
