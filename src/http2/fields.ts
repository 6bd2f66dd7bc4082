// Whether a header list may stand where it came (RFC 9113 §8): names, values, pseudo-headers, lengths. What passes
// here can be written as HTTP/1 without changing its meaning.
//
// A field by itself is judged once, when HPACK reads it (`kindOf`); the verdict stays with it in the tables. What is
// left for each message is the order and number of the fields that matter, told by their kinds.
import type { Header } from "./hpack.ts";

/** What a field is to the machine. */
export const KIND = {
  FIELD: 0,
  METHOD: 1,
  SCHEME: 2,
  PATH: 3,
  AUTHORITY: 4,
  PROTOCOL: 5,
  STATUS: 6,
  /** Above here, fields that are no pseudo-headers. */
  HOST: 7,
  LENGTH: 8,
  TE: 9,
  /** Not to be taken wherever it stands. */
  MALFORMED: 10,
} as const;

/** They speak of one HTTP/1 connection and have no meaning here (§8.2.2). */
export const CONNECTION_SPECIFIC = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

const KINDS = new Map<string, number>([
  [":method", KIND.METHOD],
  [":scheme", KIND.SCHEME],
  [":path", KIND.PATH],
  [":authority", KIND.AUTHORITY],
  [":protocol", KIND.PROTOCOL],
  [":status", KIND.STATUS],
  ["host", KIND.HOST],
  ["content-length", KIND.LENGTH],
  ["te", KIND.TE],
  ...[...CONNECTION_SPECIFIC].map((name) => [name, KIND.MALFORMED] as const),
]);

/** Classes of characters. */
const CLASS = new Uint8Array(256);
/** tchar of RFC 9110. */
const TOKEN = 1;
/** Capitals have no place in names (§8.2.1). */
const NAME = 2;
/** What HTTP/1 lets stand in a value: no control characters but HTAB. */
const VALUE = 4;
/** In a target: no space either, and no fragment (§8.3.1). */
const TARGET = 8;
/** In an authority: nothing that ends one in a URI, and no user information. */
const AUTHORITY = 16;
for (let code = 0; code < 256; code += 1) {
  const visible = code > 0x20 && code !== 0x7f;
  if (visible || code === 0x20 || code === 0x09) CLASS[code]! |= VALUE;
  if (visible && code !== 0x23) CLASS[code]! |= TARGET;
  if (visible && code < 0x7f && !'/?#@\\"<>^`{|} '.includes(String.fromCharCode(code)))
    CLASS[code]! |= AUTHORITY;
}
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
  CLASS[char.charCodeAt(0)]! |= TOKEN | NAME;
for (const char of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") CLASS[char.charCodeAt(0)]! |= TOKEN;

/** Whether all characters of `text` are of the class. */
function all(text: string, wanted: number): boolean {
  for (let i = 0; i < text.length; i += 1) if ((CLASS[text.charCodeAt(i)]! & wanted) === 0) return false;
  return true;
}

/** What fields with this name are; FIELD also for those that mean nothing to the machine. */
export function kindOfName(name: string): number {
  return KINDS.get(name) ?? (name.length > 0 && all(name, NAME) ? KIND.FIELD : KIND.MALFORMED);
}

/** The kind of a field, which is MALFORMED when its value is. @param kind its name's */
export function kindOf(kind: number, value: string): number {
  return isValue(kind, value) ? kind : KIND.MALFORMED;
}

function isValue(kind: number, value: string): boolean {
  switch (kind) {
    case KIND.FIELD:
      return (
        !isBlank(value.charCodeAt(0)) && !isBlank(value.charCodeAt(value.length - 1)) && all(value, VALUE)
      );
    case KIND.METHOD:
    case KIND.PROTOCOL:
      return value.length > 0 && all(value, TOKEN);
    case KIND.SCHEME:
      return /^[A-Za-z][A-Za-z0-9+.-]*$/.test(value);
    case KIND.PATH:
      return (value.charCodeAt(0) === 0x2f || value === "*") && all(value, TARGET);
    case KIND.AUTHORITY:
    case KIND.HOST:
      return all(value, AUTHORITY);
    case KIND.STATUS:
      return /^[1-5]\d\d$/.test(value);
    case KIND.LENGTH:
      return /^\d{1,15}$/.test(value);
    case KIND.TE:
      return value.toLowerCase() === "trailers";
    default:
      return false;
  }
}

const isBlank = (code: number): boolean => code === 0x20 || code === 0x09;

/** What the machine itself needs to know of the message that was read last. */
export interface Message {
  /** Announced length of the body, undefined when none is. */
  length: number | undefined;
  /** :method or :status. */
  kind: string;
}

/** Written by `readRequest` and `readResponse`, to be looked at before the next call. */
export const message: Message = { length: undefined, kind: "" };

/**
 * Reads a request's headers into `message`.
 * @param kinds of the headers, one each
 * @param extended whether CONNECT may name a protocol (RFC 8441)
 * @returns why they are malformed; undefined when they are not
 */
export function readRequest(
  headers: readonly Header[],
  kinds: Uint8Array,
  extended: boolean,
): string | undefined {
  let method = -1;
  let scheme = -1;
  let path = -1;
  let authority = -1;
  let protocol = -1;
  let at = 0;
  for (; at < headers.length; at += 1) {
    const kind = kinds[at]!;
    if (kind === KIND.METHOD && method < 0) method = at;
    else if (kind === KIND.PATH && path < 0) path = at;
    else if (kind === KIND.SCHEME && scheme < 0) scheme = at;
    else if (kind === KIND.AUTHORITY && authority < 0) authority = at;
    else if (kind === KIND.PROTOCOL && protocol < 0) protocol = at;
    else break;
  }
  const problem = readFields(headers, kinds, at, authority < 0 ? undefined : headers[authority]![1]);
  if (problem !== undefined) return problem;
  if (method < 0) return "no :method";
  message.kind = headers[method]![1];
  if (protocol >= 0 && !(extended && message.kind === "CONNECT")) return ":protocol out of place";
  if (message.kind === "CONNECT") {
    if (message.length !== undefined) return "CONNECT has no content-length";
    if (protocol < 0) {
      const alone = scheme < 0 && path < 0 && authority >= 0 && headers[authority]![1] !== "";
      return alone ? undefined : "CONNECT takes an authority alone";
    }
  }
  if (scheme < 0 || path < 0) return "no :scheme or :path";
  if (headers[path]![1] === "*" && message.kind !== "OPTIONS") return ":path without a slash";
  return undefined;
}

/** Reads a response's headers into `message`. @returns why they are malformed; undefined when they are not */
export function readResponse(headers: readonly Header[], kinds: Uint8Array): string | undefined {
  if (headers.length === 0 || kinds[0] !== KIND.STATUS) return "no :status";
  message.kind = headers[0]![1];
  return readFields(headers, kinds, 1, undefined);
}

/** Why trailers are malformed; undefined when they are not. */
export function readTrailers(headers: readonly Header[], kinds: Uint8Array): string | undefined {
  const problem = readFields(headers, kinds, 0, undefined);
  // What frames or addresses a message cannot come behind it.
  return problem ?? (message.length === undefined ? undefined : "content-length out of place");
}

/** The fields behind the pseudo-headers; their length goes into `message`. */
function readFields(
  headers: readonly Header[],
  kinds: Uint8Array,
  from: number,
  authority: string | undefined,
): string | undefined {
  message.length = undefined;
  let host: string | undefined;
  for (let i = from; i < headers.length; i += 1) {
    const kind = kinds[i]!;
    if (kind === KIND.FIELD || kind === KIND.TE) continue;
    const value = headers[i]![1];
    if (kind === KIND.LENGTH) {
      const length = Number(value);
      if (message.length !== undefined && message.length !== length) return "two values of content-length";
      message.length = length;
    } else if (kind !== KIND.HOST) return complaint(headers[i]!, kind);
    else if (host !== undefined) return "host twice";
    else host = value;
  }
  // Two parties could read the request as being for two servers.
  if (host !== undefined && authority !== undefined && host.toLowerCase() !== authority.toLowerCase())
    return "host is not :authority";
  return undefined;
}

function complaint([name, value]: Header, kind: number): string {
  if (kind !== KIND.MALFORMED) return `${name} out of place or twice`;
  if (CONNECTION_SPECIFIC.has(name)) return `${name} has no place in HTTP/2`;
  const named = kindOfName(name);
  if (named === KIND.MALFORMED)
    return name.startsWith(":") ? `unknown pseudo-header ${name}` : "bad header name";
  return kindOf(named, value) === KIND.MALFORMED ? `bad value of ${name}` : "bad header";
}
