// The answers that the proxy itself gives over HTTP/1: errors of the catalogue (reference/data-planes.md §1.13), and
// what filters answer.

import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import { type AnswerOptions, errorFields } from "../http/answer.ts";
import type { Field } from "../http/message.ts";

/** Reason phrases of the statuses that proxies write most; node:http has them all, and is megabytes. */
const REASONS: Readonly<Record<number, string>> = {
  100: "Continue",
  101: "Switching Protocols",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  508: "Loop Detected",
};

/** The usual phrase for a status; empty when there is none. */
export function reasonOf(status: number): string {
  return REASONS[status] ?? "";
}

/** A whole HTTP/1.1 response without body for an error of the proxy's own. @param close the connection ends after it */
export function answer(key: PassportKey, options: AnswerOptions, close: boolean): Buffer {
  return response(PASSPORTS[key].status, errorFields(key, options), close);
}

/** A whole HTTP/1.1 response without body. */
export function response(status: number, fields: readonly Field[], close: boolean): Buffer {
  let head = `HTTP/1.1 ${status} ${reasonOf(status)}\r\n`;
  for (const [name, value] of fields) head += `${name}: ${value}\r\n`;
  if (close) head += "connection: close\r\n";
  head += `content-length: 0\r\ndate: ${new Date().toUTCString()}\r\n\r\n`;
  return Buffer.from(head, "latin1");
}
