// Heads of HTTP/1 as the rest of the proxy sees them: views over the bytes that were read, which become strings only
// when somebody asks. And the other way: any head, with a route's edits, as HTTP/1 bytes.
import { randomBytes } from "node:crypto";
import {
  type Field,
  type FieldEdit,
  NO_EDITS,
  type RequestEdits,
  type RequestHead,
  type ResponseHead,
} from "../http/message.ts";
import { reasonOf } from "./answer.ts";
import { type Head, METHOD_CONNECT, spliceHead } from "./head.ts";

/** They speak of one connection, or are stated anew on the next (RFC 9110 §7.6.1); `host` is the authority. */
const NOT_END_TO_END = new Set([
  "connection",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;

/** The view of a head; `buf` and `head` are its connection's, and change with the next message. */
class Http1Message {
  protected readonly head: Head;
  protected buf: Buffer = EMPTY;

  constructor(head: Head) {
    this.head = head;
  }

  get contentLength(): number {
    return this.head.contentLength;
  }

  get minor(): number {
    return this.head.minor;
  }

  get size(): number {
    return this.head.end - this.head.start;
  }

  get(name: string): string | undefined {
    let found: string | undefined;
    this.eachLine((line, value) => {
      if (line === name) found = found === undefined ? value : `${found}, ${value}`;
    }, false);
    return found;
  }

  fields(): readonly Field[] {
    const fields: Field[] = [];
    let length = false;
    this.eachLine((name, value) => {
      if (NOT_END_TO_END.has(name) || (name === "te" && value !== "trailers")) return;
      if (name === "content-length") {
        if (length) return;
        length = true;
      }
      fields.push([name, value]);
    }, true);
    return fields;
  }

  /** Calls `fn` for each header line, in lower case and trimmed; `cut`: without those that do not go on. */
  protected eachLine(
    fn: (name: string, value: string, start: number, end: number) => void,
    cut: boolean,
  ): void {
    const { buf, head } = this;
    const { cuts, cutCount } = head;
    let i = head.fields;
    let next = 0;
    while (buf[i] !== CR) {
      let nameEnd = i;
      while (buf[nameEnd] !== COLON) nameEnd += 1;
      let end = nameEnd;
      while (buf[end] !== LF) end += 1;
      end += 1;
      while (next < cutCount && cuts[2 * next]! < i) next += 1;
      if (!cut || next === cutCount || cuts[2 * next] !== i) {
        const name = buf.toString("latin1", i, nameEnd).toLowerCase();
        fn(name, buf.toString("latin1", nameEnd + 1, end - 2).trim(), i, end);
      }
      i = end;
    }
  }

  /** The header lines that go on, as they came, without those that `edits` replace. */
  protected linesWithout(names: ReadonlySet<string>): string {
    let text = "";
    this.eachLine((name, _value, start, end) => {
      if (!names.has(name)) text += this.buf.toString("latin1", start, end);
    }, true);
    return text;
  }
}

export class Http1Request extends Http1Message implements RequestHead {
  #method: string | undefined;
  #target: { authority: string; path: string; scheme: string; absoluteForm: boolean } | undefined;

  /** Takes the head that was just read from `buf`. */
  take(buf: Buffer): void {
    this.buf = buf;
    this.#method = undefined;
    this.#target = undefined;
  }

  /** An upgrade or CONNECT: bytes both ways if it is agreed to. */
  get tunnels(): boolean {
    return this.head.upgrade || this.head.method === METHOD_CONNECT;
  }

  get method(): string {
    this.#method ??= this.buf.toString("latin1", this.head.start, this.head.methodEnd);
    return this.#method;
  }

  get scheme(): string {
    return this.#read().scheme;
  }

  get authority(): string {
    return this.#read().authority;
  }

  get path(): string {
    return this.#read().path;
  }

  get absoluteForm(): boolean {
    return this.#read().absoluteForm;
  }

  #read() {
    this.#target ??= readTarget(
      this.method,
      this.buf.toString("latin1", this.head.targetStart, this.head.targetEnd),
      this.get("host") ?? "",
    );
    return this.#target;
  }

  /** As it goes on, with `added` lines, and `buf[head.end, end)` behind it. */
  splice(added: Buffer, end: number): Buffer {
    const { buf, head } = this;
    if (head.cutCount > 0 || added.length > 0) return spliceHead(buf, head, added, end);
    return head.start === 0 && end === buf.length ? buf : buf.subarray(head.start, end);
  }

  /** As it goes on, with nothing behind it. */
  alone(): Buffer {
    return this.splice(EMPTY, this.head.end);
  }

  /** As it goes on with `edits`, with nothing behind it. */
  edited(edits: RequestEdits): Buffer {
    const { head, buf } = this;
    const target = buf.toString("latin1", head.targetStart, head.targetEnd);
    const moved = edits.path !== undefined || edits.authority !== undefined;
    const replaced = replacedNames(edits.fields);
    if (edits.authority !== undefined) replaced.add("host");
    let text = `${this.method} ${moved ? (edits.path ?? this.path) : target} HTTP/1.${head.minor}\r\n`;
    if (edits.authority !== undefined) text += `host: ${edits.authority}\r\n`;
    text += `${this.linesWithout(replaced)}${addedLines(edits.fields)}\r\n`;
    return Buffer.from(text, "latin1");
  }
}

export class Http1Response extends Http1Message implements ResponseHead {
  get status(): number {
    return this.head.status;
  }

  /** Takes the head that was just read from `buf`, which stays as it is. */
  take(buf: Buffer): void {
    this.buf = buf;
  }

  /** As it goes on, with its framing. */
  whole(): Buffer {
    return spliceHead(this.buf, this.head, EMPTY, this.head.end);
  }

  /** As it goes on, with `added` lines in place of its framing. */
  reframed(added: string): Buffer {
    const statusLine = this.buf.toString("latin1", this.head.versionAt + 1, this.head.fields);
    return Buffer.from(`HTTP/1.1${statusLine}${this.linesWithout(FRAMING)}${added}\r\n`, "latin1");
  }
}

const FRAMING = new Set(["connection", "keep-alive", "transfer-encoding"]);

const EMPTY = Buffer.alloc(0);

/** What a request target says, in any of its forms (RFC 9112 §3.2). */
function readTarget(method: string, target: string, host: string) {
  if (method === "CONNECT") return { authority: target, path: "", scheme: "http", absoluteForm: false };
  const absolute = /^(https?):\/\/([^/?#]*)(.*)$/i.exec(target);
  if (!absolute) return { authority: host, path: target, scheme: "http", absoluteForm: false };
  const [, scheme, authority, rest] = absolute;
  return {
    authority: authority!,
    path: rest!.startsWith("/") ? rest! : `/${rest}`,
    scheme: scheme!.toLowerCase(),
    absoluteForm: true,
  };
}

function replacedNames(edits: readonly FieldEdit[]): Set<string> {
  const names = new Set<string>();
  for (const { op, name } of edits) if (op !== "add") names.add(name);
  return names;
}

/** The lines that `edits` leave behind those that were there. */
function addedLines(edits: readonly FieldEdit[]): string {
  let added: FieldEdit[] = [];
  for (const edit of edits) {
    if (edit.op !== "add") added = added.filter(({ name }) => name !== edit.name);
    if (edit.op !== "remove") added.push(edit);
  }
  return fieldLines(added.map(({ name, value }) => [name, value]));
}

/** Fields as header lines. */
export function fieldLines(fields: readonly Field[]): string {
  let text = "";
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  return text;
}

/** A request of any kind as an HTTP/1 head. @param framing lines that say how its body is framed */
export function writeRequest(head: RequestHead, edits: RequestEdits, framing: string): Buffer {
  if (head instanceof Http1Request) {
    return edits === NO_EDITS ? head.alone() : head.edited(edits);
  }
  const authority = edits.authority ?? head.authority;
  const path = edits.path ?? head.path;
  const target =
    head.absoluteForm && edits.path === undefined ? `${head.scheme}://${authority}${path}` : path;
  const { protocol } = head;
  let text = `${protocol === undefined ? head.method : "GET"} ${target || authority} HTTP/1.${head.minor}\r\n`;
  if (authority !== "") text += `host: ${authority}\r\n`;
  if (protocol !== undefined) text += upgradeLines(protocol);
  let cookies = "";
  const replaced = replacedNames(edits.fields);
  for (const [name, value] of head.fields()) {
    if (replaced.has(name)) continue;
    // HTTP/2 may split cookies for better compression; HTTP/1 knows one line (RFC 9113 §8.2.3).
    if (name === "cookie") cookies = cookies === "" ? value : `${cookies}; ${value}`;
    else text += `${name}: ${value}\r\n`;
  }
  if (cookies !== "") text += `cookie: ${cookies}\r\n`;
  return Buffer.from(`${text}${addedLines(edits.fields)}${framing}\r\n`, "latin1");
}

/** An extended CONNECT asks as an upgrade over HTTP/1 (RFC 8441 §5); the WebSocket key is of this hop only. */
function upgradeLines(protocol: string): string {
  const lines = `connection: upgrade\r\nupgrade: ${protocol}\r\n`;
  return protocol === "websocket"
    ? `${lines}sec-websocket-key: ${randomBytes(16).toString("base64")}\r\n`
    : lines;
}

/** A response of any kind as an HTTP/1 head. @param framing lines on body and connection, for a final response */
export function writeResponse(head: ResponseHead, framing: string): Buffer {
  if (head instanceof Http1Response) return head.status < 200 ? head.whole() : head.reframed(framing);
  return Buffer.from(
    `HTTP/1.1 ${head.status} ${reasonOf(head.status)}\r\n${fieldLines(head.fields())}${framing}\r\n`,
    "latin1",
  );
}
