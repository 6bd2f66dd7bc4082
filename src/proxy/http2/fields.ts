// Whether a header list may stand where it came (RFC 9113 §8): names, values, pseudo-headers, lengths. What passes
// here can be written as HTTP/1 without changing its meaning.
import type { Header } from "./hpack.ts";

/** tchar of RFC 9110 without capitals. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const BAD_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;
/** They speak of one HTTP/1 connection and have no meaning here (§8.2.2). */
export const CONNECTION_SPECIFIC = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);
const REQUEST_PSEUDO = new Set([":method", ":scheme", ":authority", ":path"]);

/** What the machine itself needs to know of a message's headers. */
export interface Message {
  /** Announced length of the body, undefined when none is. */
  readonly length: number | undefined;
  /** :method or :status. */
  readonly kind: string;
}

/** Why a request's headers are malformed, as text; else what they say. */
export function readRequest(headers: readonly Header[]): Message | string {
  let method: string | undefined;
  let scheme: string | undefined;
  let path: string | undefined;
  let authority: string | undefined;
  let pseudos = 0;
  for (; pseudos < headers.length && headers[pseudos]![0].startsWith(":"); pseudos += 1) {
    const [name, value] = headers[pseudos]!;
    if (!REQUEST_PSEUDO.has(name)) return `unknown pseudo-header ${name}`;
    if (BAD_VALUE.test(value)) return `bad value of ${name}`;
    const seen =
      name === ":method" ? method : name === ":scheme" ? scheme : name === ":path" ? path : authority;
    if (seen !== undefined) return `${name} twice`;
    if (name === ":method") method = value;
    else if (name === ":scheme") scheme = value;
    else if (name === ":path") path = value;
    else authority = value;
  }
  if (!method || /[^!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(method)) return "no method";
  if (method === "CONNECT") {
    if (scheme !== undefined || path !== undefined || !authority) return "CONNECT takes an authority alone";
  } else {
    if (!scheme || !path) return "no scheme or path";
    if (path[0] !== "/" && !(method === "OPTIONS" && path === "*")) return "path without a slash";
  }
  const length = fieldsLength(headers, pseudos);
  return typeof length === "string" ? length : { length: length.value, kind: method };
}

/** Why a response's headers are malformed, as text; else what they say. */
export function readResponse(headers: readonly Header[]): Message | string {
  const [name, status] = headers[0] ?? ["", ""];
  if (name !== ":status" || !/^[1-5]\d\d$/.test(status)) return "no status";
  const length = fieldsLength(headers, 1);
  return typeof length === "string" ? length : { length: length.value, kind: status };
}

/** Why trailers are malformed. */
export function readTrailers(headers: readonly Header[]): string | undefined {
  const length = fieldsLength(headers, 0);
  return typeof length === "string" ? length : undefined;
}

function fieldsLength(headers: readonly Header[], from: number): { value: number | undefined } | string {
  let length: number | undefined;
  for (let i = from; i < headers.length; i += 1) {
    const [name, value] = headers[i]!;
    if (!NAME.test(name)) return name.startsWith(":") ? `${name} out of place` : "bad header name";
    if (BAD_VALUE.test(value)) return `bad value of ${name}`;
    if (CONNECTION_SPECIFIC.has(name)) return `${name} has no place in HTTP/2`;
    if (name === "te" && value !== "trailers") return "te may only say trailers";
    if (name === "content-length") {
      const number = Number(value);
      if (!/^\d{1,15}$/.test(value) || (length !== undefined && length !== number))
        return "bad content-length";
      length = number;
    }
  }
  return { value: length };
}
