// Heads of HTTP/2 as the rest of the proxy sees them: views over decoded header lists. And the other way: any
// request, with a route's edits, as a header list; HTTP/1 between two proxies among them (reference/data-planes.md
// §1.6).

import { CONNECTION_SPECIFIC } from "../../http2/fields.ts";
import type { Header } from "../../http2/hpack.ts";
import {
  editFields,
  type Field,
  type RequestEdits,
  type RequestHead,
  type ResponseHead,
} from "../http/message.ts";
import { UNSERVED } from "../transport/unserved.ts";

/** Says that a message is HTTP/1 underneath: its version and, if so, that its target was a whole URI. */
export const ORIG_PROTO = "l5d-orig-proto";
/** One proxy's word to the next, about the connection between them. */
const PROXY_CONNECTION = "l5d-proxy-connection";

/** A response that came over a dialled connection. */
export class Http2Response implements ResponseHead {
  readonly status: number;
  readonly #headers: readonly Header[];
  #contentLength: number | undefined;

  constructor(headers: readonly Header[]) {
    this.#headers = headers;
    // A response has this one pseudo-header, first of all.
    this.status = Number(headers[0]![1]);
  }

  get(name: string): string | undefined {
    let found: string | undefined;
    for (const [known, value] of this.#headers) {
      if (known === name) found = found === undefined ? value : `${found}, ${value}`;
    }
    return found;
  }

  fields(): readonly Field[] {
    return this.#headers.filter(
      ([name], index) => index > 0 && name !== ORIG_PROTO && name !== PROXY_CONNECTION && name !== UNSERVED,
    );
  }

  get contentLength(): number {
    this.#contentLength ??= Number(this.#headers.find(([name]) => name === "content-length")?.[1] ?? -1);
    return this.#contentLength;
  }
}

/** @param upgraded it is an HTTP/1 request, to be one again behind the peer */
export function requestHeaders(head: RequestHead, edits: RequestEdits, upgraded: boolean): Header[] {
  const { method } = head;
  const authority = edits.authority ?? head.authority;
  const path = edits.path ?? head.path;
  const headers: Header[] = [[":method", method]];
  // CONNECT names no more than where to (RFC 9113 §8.5), unless it is an extended one (RFC 8441).
  if (method !== "CONNECT" || path !== "") {
    if (head.protocol !== undefined) headers.push([":protocol", head.protocol]);
    headers.push([":scheme", head.scheme], [":path", path]);
  }
  if (authority !== "") headers.push([":authority", authority]);
  const { fields } = edits;
  for (const field of fields.length === 0 ? head.fields() : editFields(head.fields(), fields)) {
    if (fields.length === 0 || isEndToEnd(field)) headers.push(field);
  }
  if (upgraded)
    headers.push([ORIG_PROTO, `HTTP/1.${head.minor}${head.absoluteForm ? "; absolute-form" : ""}`]);
  return headers;
}

/** An edit may not bring in what HTTP/2 forbids: the peer would reset the stream. */
function isEndToEnd([name, value]: Field): boolean {
  return !CONNECTION_SPECIFIC.has(name) && name !== "host" && (name !== "te" || value === "trailers");
}
