// Reads the head of an HTTP/1 message in place: one pass over the bytes, no strings, no allocation. It finds how
// the message is framed, what the proxy must know, and which header lines must not go on ("cuts").
//
// Framing is strict where leniency lets two parties read one byte stream differently (RFC 9112 §2.2, §5, §6):
// bare CR or LF, space before a colon, folded lines, repeated or odd lengths are refused, never repaired.

export const INCOMPLETE = 0;
export const COMPLETE = 1;
export const INVALID = 2;

/** Most bytes of a head, and most header lines. */
export const HEAD_LIMIT = 65_536;
export const HEADER_LIMIT = 100;

export const METHOD_OTHER = 0;
export const METHOD_GET = 1;
export const METHOD_HEAD = 2;
export const METHOD_POST = 3;
export const METHOD_PUT = 4;
export const METHOD_DELETE = 5;
export const METHOD_CONNECT = 6;
export const METHOD_OPTIONS = 7;
export const METHOD_TRACE = 8;

/** Why a head is refused; keys of the error catalogue. */
export type HeadError =
  | "request-line"
  | "bad-response"
  | "http-version"
  | "header-syntax"
  | "line-ending"
  | "content-length"
  | "ambiguous-length"
  | "transfer-encoding"
  | "duplicate-host"
  | "head-too-large";

const SP = 0x20;
const HTAB = 0x09;
const CR = 0x0d;
const LF = 0x0a;
const COLON = 0x3a;
const COMMA = 0x2c;

/** What a Connection header may not take away: framing, addressing, and what is dealt with on its own. */
const KEPT_NAMES = [
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "upgrade",
  "close",
  "keep-alive",
  "",
];

/** Classes of bytes: 1 = token character, 2 = may stand in a field value, 4 = may stand in a request target. */
const CLASS = new Uint8Array(256);
const TOKEN = 1;
const FIELD = 2;
const TARGET = 4;
for (let byte = 0; byte < 256; byte += 1) {
  if (byte === HTAB || (byte >= 0x20 && byte !== 0x7f)) CLASS[byte]! |= FIELD;
  if (byte > 0x20 && byte !== 0x7f) CLASS[byte]! |= TARGET;
}
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  CLASS[char.charCodeAt(0)]! |= TOKEN;
}

const bytesOf = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const HOST = bytesOf("host");
const UPGRADE = bytesOf("upgrade");
const CONNECTION = bytesOf("connection");
const KEEP_ALIVE = bytesOf("keep-alive");
const CONTENT_LENGTH = bytesOf("content-length");
const PROXY_CONNECTION = bytesOf("proxy-connection");
const TRANSFER_ENCODING = bytesOf("transfer-encoding");
const L5D = bytesOf("l5d-");
const L5D_PROXY_CONNECTION = bytesOf("l5d-proxy-connection");
const L5D_MESH_UNSERVED = bytesOf("l5d-mesh-unserved");
const CHUNKED = bytesOf("chunked");
const CLOSE = bytesOf("close");
const H2C = bytesOf("h2c");
const TIMEOUT = bytesOf("timeout=");

/** Whether `buf[start, end)` is `lower` (given in lower case), disregarding case. */
function same(buf: Uint8Array, start: number, end: number, lower: Uint8Array): boolean {
  if (end - start !== lower.length) return false;
  return startsWith(buf, start, lower);
}

function startsWith(buf: Uint8Array, start: number, lower: Uint8Array): boolean {
  for (let i = 0; i < lower.length; i += 1) {
    let byte = buf[start + i]!;
    if (byte >= 0x41 && byte <= 0x5a) byte |= 0x20;
    if (byte !== lower[i]) return false;
  }
  return true;
}

/**
 * One message head. The object is reused: `readRequest` or `readResponse` overwrite all of it. Positions are
 * offsets into the buffer that was read.
 */
export class Head {
  error: HeadError = "request-line";
  start = 0;
  /** First byte of the first header line. */
  fields = 0;
  /** First byte after the blank line. */
  end = 0;
  /** 0 for HTTP/1.0, 1 for HTTP/1.1. */
  minor = 1;
  /** Position of the minor version's digit. */
  versionAt = 0;
  method = METHOD_OTHER;
  methodEnd = 0;
  targetStart = 0;
  targetEnd = 0;
  status = 0;
  headers = 0;
  /** -1: no Content-Length. */
  contentLength = -1;
  chunked = false;
  /** A Transfer-Encoding whose last coding is not chunked (responses only): the body ends with the connection. */
  otherEncoding = false;
  /** Tokens of Connection. */
  close = false;
  keepAlive = false;
  /** An upgrade is asked for or agreed to: token in Connection, and an Upgrade header other than h2c. */
  upgrade = false;
  /** `Keep-Alive: timeout=` in seconds; -1: none. */
  keepAliveTimeout = -1;
  /** The mesh peer asks that this connection is not used again (`l5d-proxy-connection: close`). */
  meshClose = false;
  /** Of a response: the value of `l5d-mesh-unserved`; none when it ends at 0. */
  unservedStart = 0;
  unservedEnd = 0;
  /** Ranges to leave out, ascending: cuts[2i] to cuts[2i+1]. */
  readonly cuts = new Int32Array(4 * (HEADER_LIMIT + 2));
  cutCount = 0;

  #response = false;
  #hasHost = false;
  #connectionToken = false;
  #connectionEnd = 0;
  #connectionNames = false;
  #upgradeStart = 0;
  #upgradeEnd = 0;
  #upgradeH2c = false;

  #reset(start: number, response: boolean): void {
    this.start = start;
    this.headers = 0;
    this.contentLength = -1;
    this.chunked = false;
    this.otherEncoding = false;
    this.close = false;
    this.keepAlive = false;
    this.upgrade = false;
    this.#hasHost = false;
    this.keepAliveTimeout = -1;
    this.meshClose = false;
    this.unservedEnd = 0;
    this.cutCount = 0;
    this.#response = response;
    this.#connectionToken = false;
    this.#connectionEnd = 0;
    this.#connectionNames = false;
    this.#upgradeEnd = 0;
    this.#upgradeH2c = false;
  }

  #invalid(error: HeadError): number {
    this.error = error;
    return INVALID;
  }

  /** Reads a request head from `buf[start, limit)`: INCOMPLETE, COMPLETE or INVALID (see `error`). */
  readRequest(buf: Uint8Array, start: number, limit: number): number {
    // RFC 9112 §2.2: an empty line before the request line is ignored.
    const blank = limit - start >= 2 && buf[start] === CR && buf[start + 1] === LF;
    if (limit - start === 1 && buf[start] === CR) return INCOMPLETE;
    this.#reset(blank ? start + 2 : start, false);
    let i = this.start;
    while (i < limit && (CLASS[buf[i]!]! & TOKEN) !== 0) i += 1;
    if (i === limit) return this.#more(start, limit);
    if (buf[i] !== SP || i === this.start) return this.#invalid("request-line");
    this.methodEnd = i;
    this.method = methodOf(buf, this.start, i);
    i += 1;
    this.targetStart = i;
    while (i < limit && (CLASS[buf[i]!]! & TARGET) !== 0) i += 1;
    if (i === limit) return this.#more(start, limit);
    if (buf[i] !== SP || i === this.targetStart) return this.#invalid("request-line");
    this.targetEnd = i;
    i += 1;
    if (limit - i < 10)
      return isPrefixOfVersion(buf, i, limit) ? this.#more(start, limit) : this.#badVersion(buf, i, limit);
    if (!this.#readVersion(buf, i)) return this.#badVersion(buf, i, limit);
    if (buf[i + 8] !== CR || buf[i + 9] !== LF)
      return this.#invalid(buf[i + 8] === LF || buf[i + 8] === CR ? "line-ending" : "http-version");
    return this.#readFields(buf, i + 10, limit);
  }

  /** Reads a response head from `buf[start, limit)`: INCOMPLETE, COMPLETE or INVALID (see `error`). */
  readResponse(buf: Uint8Array, start: number, limit: number): number {
    this.#reset(start, true);
    if (limit - start < 13) {
      return isPrefixOfVersion(buf, start, limit) ? this.#more(start, limit) : this.#invalid("bad-response");
    }
    if (!this.#readVersion(buf, start) || buf[start + 8] !== SP) return this.#invalid("bad-response");
    let status = 0;
    for (let at = start + 9; at < start + 12; at += 1) {
      const digit = buf[at]! - 0x30;
      if (digit < 0 || digit > 9) return this.#invalid("bad-response");
      status = status * 10 + digit;
    }
    if (status < 100) return this.#invalid("bad-response");
    this.status = status;
    let i = start + 12;
    // RFC 9112 §4: a space follows even when the reason is empty; many servers leave it out.
    if (buf[i] !== SP && buf[i] !== CR) return this.#invalid("bad-response");
    while (i < limit && (CLASS[buf[i]!]! & FIELD) !== 0) i += 1;
    if (i + 1 >= limit)
      return i < limit && buf[i] !== CR ? this.#invalid("line-ending") : this.#more(start, limit);
    if (buf[i] !== CR || buf[i + 1] !== LF) return this.#invalid("line-ending");
    return this.#readFields(buf, i + 2, limit);
  }

  #more(start: number, limit: number): number {
    return limit - start > HEAD_LIMIT ? this.#invalid("head-too-large") : INCOMPLETE;
  }

  #badVersion(buf: Uint8Array, i: number, limit: number): number {
    return this.#invalid(startsHttp(buf, i, limit) ? "http-version" : "request-line");
  }

  #readVersion(buf: Uint8Array, i: number): boolean {
    if (
      buf[i] !== 0x48 ||
      buf[i + 1] !== 0x54 ||
      buf[i + 2] !== 0x54 ||
      buf[i + 3] !== 0x50 ||
      buf[i + 4] !== 0x2f ||
      buf[i + 5] !== 0x31 ||
      buf[i + 6] !== 0x2e
    ) {
      return false;
    }
    this.versionAt = i + 7;
    this.minor = buf[i + 7]! - 0x30;
    return this.minor === 0 || this.minor === 1;
  }

  #readFields(buf: Uint8Array, from: number, limit: number): number {
    this.fields = from;
    let i = from;
    for (;;) {
      if (i >= limit) return this.#more(this.start, limit);
      if (buf[i] === CR) {
        if (i + 1 >= limit) return this.#more(this.start, limit);
        if (buf[i + 1] !== LF) return this.#invalid("line-ending");
        this.end = i + 2;
        if (this.end - this.start > HEAD_LIMIT) return this.#invalid("head-too-large");
        return this.#finish(buf);
      }
      const nameStart = i;
      while (i < limit && (CLASS[buf[i]!]! & TOKEN) !== 0) i += 1;
      if (i === limit) return this.#more(this.start, limit);
      if (buf[i] !== COLON || i === nameStart) {
        return this.#invalid(buf[i] === LF || buf[i] === CR ? "line-ending" : "header-syntax");
      }
      const nameEnd = i;
      i += 1;
      while (i < limit && (buf[i] === SP || buf[i] === HTAB)) i += 1;
      const valueStart = i;
      while (i < limit && (CLASS[buf[i]!]! & FIELD) !== 0) i += 1;
      if (i + 1 >= limit) {
        return i < limit && buf[i] !== CR ? this.#invalid("line-ending") : this.#more(this.start, limit);
      }
      if (buf[i] !== CR || buf[i + 1] !== LF) return this.#invalid("line-ending");
      let valueEnd = i;
      while (valueEnd > valueStart && (buf[valueEnd - 1] === SP || buf[valueEnd - 1] === HTAB)) valueEnd -= 1;
      i += 2;
      this.headers += 1;
      if (this.headers > HEADER_LIMIT) return this.#invalid("head-too-large");
      if (!this.#field(buf, nameStart, nameEnd, valueStart, valueEnd, i)) return INVALID;
    }
  }

  /** Notes what a header line means to the proxy. False: the message is refused. */
  #field(
    buf: Uint8Array,
    start: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    lineEnd: number,
  ): boolean {
    // The length of the name tells nearly all headers apart from those that matter.
    switch (nameEnd - start) {
      case 4:
        if (!this.#response && same(buf, start, nameEnd, HOST)) {
          if (this.#hasHost) return this.#refuse("duplicate-host");
          this.#hasHost = true;
          return true;
        }
        break;
      case 7:
        if (same(buf, start, nameEnd, UPGRADE)) {
          this.#upgradeStart = start;
          this.#upgradeEnd = lineEnd;
          this.#upgradeH2c = hasToken(buf, valueStart, valueEnd, H2C);
          return true;
        }
        break;
      case 10:
        if (same(buf, start, nameEnd, CONNECTION)) {
          this.#connection(buf, valueStart, valueEnd, lineEnd);
          return true;
        }
        if (this.#response && same(buf, start, nameEnd, KEEP_ALIVE)) {
          this.keepAliveTimeout = timeoutParameter(buf, valueStart, valueEnd);
          return true;
        }
        break;
      case 14:
        if (same(buf, start, nameEnd, CONTENT_LENGTH)) {
          const length = decimal(buf, valueStart, valueEnd);
          if (length < 0) return this.#refuse("content-length");
          // A server that repeats one and the same length is sloppy; a client that does is suspect.
          if (this.contentLength >= 0 && (!this.#response || this.contentLength !== length))
            return this.#refuse("ambiguous-length");
          this.contentLength = length;
          return true;
        }
        break;
      case 16:
        if (same(buf, start, nameEnd, PROXY_CONNECTION)) {
          this.#cut(start, lineEnd);
          return true;
        }
        break;
      case 17:
        if (same(buf, start, nameEnd, TRANSFER_ENCODING))
          return this.#transferEncoding(buf, valueStart, valueEnd);
        if (this.#response && same(buf, start, nameEnd, L5D_MESH_UNSERVED)) {
          this.unservedStart = valueStart;
          this.unservedEnd = valueEnd;
          this.#cut(start, lineEnd);
          return true;
        }
        break;
      case 20:
        if (this.#response && same(buf, start, nameEnd, L5D_PROXY_CONNECTION)) {
          this.meshClose = same(buf, valueStart, valueEnd, CLOSE);
          this.#cut(start, lineEnd);
          return true;
        }
        break;
    }
    // What the mesh tells itself is never taken from a caller.
    if (
      !this.#response &&
      nameEnd - start > 4 &&
      (buf[start] === 0x6c || buf[start] === 0x4c) &&
      startsWith(buf, start, L5D)
    ) {
      this.#cut(start, lineEnd);
    }
    return true;
  }

  #refuse(error: HeadError): boolean {
    this.error = error;
    return false;
  }

  #cut(start: number, end: number): void {
    this.cuts[2 * this.cutCount] = start;
    this.cuts[2 * this.cutCount + 1] = end;
    this.cutCount += 1;
  }

  #transferEncoding(buf: Uint8Array, start: number, end: number): boolean {
    if (this.chunked || this.otherEncoding || this.minor === 0) return this.#refuse("transfer-encoding");
    if (same(buf, start, end, CHUNKED)) {
      this.chunked = true;
      return true;
    }
    if (!this.#response) return this.#refuse("transfer-encoding");
    // `gzip, chunked` is framed by chunks; anything that does not end in chunked, by the end of the connection.
    const last = end - CHUNKED.length;
    if (last > start && startsWith(buf, last, CHUNKED) && (buf[last - 1] === COMMA || buf[last - 1] === SP))
      this.chunked = true;
    else this.otherEncoding = true;
    return true;
  }

  #connection(buf: Uint8Array, valueStart: number, valueEnd: number, lineEnd: number): void {
    // A second Connection line is rare; what it names is cut, and so is the line.
    if (this.#connectionEnd !== 0) this.#connectionNames = true;
    this.#connectionEnd = lineEnd;
    let at = valueStart;
    while (at < valueEnd) {
      const tokenStart = at;
      while (at < valueEnd && buf[at] !== COMMA) at += 1;
      const from = trimStart(buf, tokenStart, at);
      const to = trimEnd(buf, from, at);
      if (same(buf, from, to, KEEP_ALIVE)) this.keepAlive = true;
      else if (same(buf, from, to, CLOSE)) this.close = true;
      else if (same(buf, from, to, UPGRADE)) this.#connectionToken = true;
      else if (to > from) this.#connectionNames = true;
      at += 1;
    }
  }

  #finish(buf: Uint8Array): number {
    if (this.chunked || this.otherEncoding) {
      if (this.contentLength >= 0) {
        if (!this.#response) return this.#invalid("ambiguous-length");
        // RFC 9112 §6.3: the encoding decides, and the length must not go on.
        this.contentLength = -1;
        this.#cutNamed(buf, CONTENT_LENGTH);
      }
    }
    this.upgrade = this.#connectionToken && this.#upgradeEnd !== 0 && !this.#upgradeH2c;
    if (this.#upgradeEnd !== 0 && !this.upgrade && this.status !== 426)
      this.#cut(this.#upgradeStart, this.#upgradeEnd);
    if (this.#connectionNames) this.#cutConnectionNames(buf);
    // `Connection: keep-alive` and an agreed upgrade say what is so on the next hop too and may stay.
    if (
      this.#connectionEnd !== 0 &&
      !this.upgrade &&
      (this.close || this.#connectionToken || this.#connectionNames)
    ) {
      this.#cutNamed(buf, CONNECTION);
    }
    if (this.cutCount > 1) this.#sortCuts();
    return COMPLETE;
  }

  /** Leaves out the Connection header, whatever it says: the proxy states its own. */
  cutConnection(buf: Uint8Array): void {
    if (this.#connectionEnd === 0) return;
    this.#cutNamed(buf, CONNECTION);
    this.#sortCuts();
  }

  /** Cuts every line with this name. Only for rare heads: it goes over the lines again. */
  #cutNamed(buf: Uint8Array, name: Uint8Array): void {
    let i = this.fields;
    while (buf[i] !== CR) {
      let nameEnd = i;
      while (buf[nameEnd] !== COLON) nameEnd += 1;
      let lineEnd = nameEnd;
      while (buf[lineEnd] !== LF) lineEnd += 1;
      if (same(buf, i, nameEnd, name)) this.#cut(i, lineEnd + 1);
      i = lineEnd + 1;
    }
  }

  /** Headers named in Connection belong to this hop; those that frame or address the message cannot. */
  #cutConnectionNames(buf: Uint8Array): void {
    const text = Buffer.from(buf.buffer, buf.byteOffset, buf.byteLength);
    const names = new Set<string>();
    for (const line of text.toString("latin1", this.fields, this.end).split("\r\n")) {
      if (!/^connection:/i.test(line)) continue;
      for (const token of line.slice(11).split(",")) names.add(token.trim().toLowerCase());
    }
    for (const kept of KEPT_NAMES) names.delete(kept);
    for (const name of names) if (!name.startsWith("l5d-")) this.#cutNamed(buf, bytesOf(name));
  }

  #sortCuts(): void {
    const { cuts, cutCount } = this;
    const pairs: [number, number][] = [];
    for (let i = 0; i < cutCount; i += 1) pairs.push([cuts[2 * i]!, cuts[2 * i + 1]!]);
    pairs.sort((a, b) => a[0] - b[0]);
    this.cutCount = 0;
    let last = -1;
    for (const [start, end] of pairs) {
      if (start === last) continue;
      last = start;
      this.#cut(start, end);
    }
  }
}

/**
 * The head as it goes on: without its cuts, with `added` (whole header lines) before the blank line, followed by
 * `buf[head.end, end)`. One new buffer.
 */
export function spliceHead(buf: Uint8Array, head: Head, added: Buffer, end: number): Buffer {
  let size = end - head.start + added.length;
  for (let i = 0; i < head.cutCount; i += 1) size -= head.cuts[2 * i + 1]! - head.cuts[2 * i]!;
  const out = Buffer.allocUnsafe(size);
  let at = 0;
  let from = head.start;
  for (let i = 0; i < head.cutCount; i += 1) {
    at = copyTo(out, at, buf, from, head.cuts[2 * i]!);
    from = head.cuts[2 * i + 1]!;
  }
  at = copyTo(out, at, buf, from, head.end - 2);
  out.set(added, at);
  copyTo(out, at + added.length, buf, head.end - 2, end);
  return out;
}

function copyTo(out: Buffer, at: number, buf: Uint8Array, start: number, end: number): number {
  out.set(buf.subarray(start, end), at);
  return at + end - start;
}

/**
 * Position after the blank line that ends a head (however ill-formed its line ends are), looking only at
 * `buf[from, limit)`; -1 when there is none yet. `from` may be three bytes before what was looked at already.
 */
export function findHeadEnd(buf: Uint8Array, from: number, limit: number): number {
  for (let i = from; i < limit; i += 1) {
    if (buf[i] !== LF) continue;
    if (i + 1 < limit && buf[i + 1] === LF) return i + 2;
    if (i + 2 < limit && buf[i + 1] === CR && buf[i + 2] === LF) return i + 3;
  }
  return -1;
}

function methodOf(buf: Uint8Array, start: number, end: number): number {
  const first = buf[start];
  switch (end - start) {
    case 3:
      if (first === 0x47 && buf[start + 1] === 0x45 && buf[start + 2] === 0x54) return METHOD_GET;
      if (first === 0x50 && buf[start + 1] === 0x55 && buf[start + 2] === 0x54) return METHOD_PUT;
      return METHOD_OTHER;
    case 4:
      return exact(buf, start, end, "HEAD")
        ? METHOD_HEAD
        : exact(buf, start, end, "POST")
          ? METHOD_POST
          : METHOD_OTHER;
    case 5:
      return exact(buf, start, end, "TRACE") ? METHOD_TRACE : METHOD_OTHER;
    case 6:
      return exact(buf, start, end, "DELETE") ? METHOD_DELETE : METHOD_OTHER;
    case 7:
      return exact(buf, start, end, "CONNECT")
        ? METHOD_CONNECT
        : exact(buf, start, end, "OPTIONS")
          ? METHOD_OPTIONS
          : METHOD_OTHER;
    default:
      return METHOD_OTHER;
  }
}

/** Methods are case-sensitive (RFC 9110 §9.1). */
function exact(buf: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i += 1) if (buf[start + i] !== text.charCodeAt(i)) return false;
  return true;
}

const VERSION = bytesOf("HTTP/1.");

function startsHttp(buf: Uint8Array, start: number, limit: number): boolean {
  for (let i = 0; i < 5 && start + i < limit; i += 1) if (buf[start + i] !== VERSION[i]) return false;
  return limit > start;
}

/** Whether `buf[start, limit)`, shorter than a version and its line end, can still become one. */
function isPrefixOfVersion(buf: Uint8Array, start: number, limit: number): boolean {
  for (let i = 0; i < VERSION.length && start + i < limit; i += 1)
    if (buf[start + i] !== VERSION[i]) return false;
  if (start + 7 >= limit) return true;
  const minor = buf[start + 7];
  return minor === 0x30 || minor === 0x31;
}

function decimal(buf: Uint8Array, start: number, end: number): number {
  if (end === start || end - start > 15) return -1;
  let value = 0;
  for (let i = start; i < end; i += 1) {
    const digit = buf[i]! - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function trimStart(buf: Uint8Array, start: number, end: number): number {
  let i = start;
  while (i < end && (buf[i] === SP || buf[i] === HTAB)) i += 1;
  return i;
}

function trimEnd(buf: Uint8Array, start: number, end: number): number {
  let i = end;
  while (i > start && (buf[i - 1] === SP || buf[i - 1] === HTAB)) i -= 1;
  return i;
}

function hasToken(buf: Uint8Array, start: number, end: number, token: Uint8Array): boolean {
  let at = start;
  while (at < end) {
    const from = at;
    while (at < end && buf[at] !== COMMA) at += 1;
    const first = trimStart(buf, from, at);
    if (same(buf, first, trimEnd(buf, first, at), token)) return true;
    at += 1;
  }
  return false;
}

function timeoutParameter(buf: Uint8Array, start: number, end: number): number {
  for (let at = start; at + TIMEOUT.length < end; at += 1) {
    if (!startsWith(buf, at, TIMEOUT)) continue;
    let to = at + TIMEOUT.length;
    while (to < end && buf[to]! >= 0x30 && buf[to]! <= 0x39) to += 1;
    return decimal(buf, at + TIMEOUT.length, Math.min(to, at + TIMEOUT.length + 9));
  }
  return -1;
}
