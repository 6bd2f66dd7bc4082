// Requests of one HTTP/1 connection, one after the other: each is refused, or read the same however the bytes are
// split over reads, and what goes on of it reads as the same request again. The first byte says where to split.
import * as assert from "node:assert/strict";
import { ChunkedBody } from "../../src/proxy/http1/chunked.ts";
import { COMPLETE, Head, INCOMPLETE } from "../../src/proxy/http1/head.ts";
import { HeadBuffer } from "../../src/proxy/http1/head-buffer.ts";
import { Http1Request } from "../../src/proxy/http1/message.ts";

interface Reading {
  readonly requests: string[];
  /** How it ended: waiting for more bytes, or refused and why. */
  readonly end: string;
}

export function fuzz(bytes: Buffer): string {
  const input = bytes.subarray(1);
  const whole = read([input], true);
  const at = bytes.length === 0 ? 0 : Math.min(bytes[0]!, input.length);
  assertSame(read([input.subarray(0, at), input.subarray(at)], false), whole);
  assertSame(
    read(
      [...input].map((byte) => Buffer.from([byte])),
      false,
    ),
    whole,
  );
  return `${Math.min(whole.requests.length, 3)} ${whole.end}`;
}

/** A head that came in part is read on only when it has come to its end, so what is wrong with it is told later. */
function assertSame(split: Reading, whole: Reading): void {
  assert.deepEqual(split.requests, whole.requests);
  if (split.end !== "more") assert.equal(split.end, whole.end);
  else assert.notEqual(whole.end, "between");
}

/** Reads as a connection would that gets `pieces`. @param check whether what goes on is looked at too */
function read(pieces: readonly Buffer[], check: boolean): Reading {
  const requests: string[] = [];
  const head = new Head();
  const partial = new HeadBuffer();
  const chunks = new ChunkedBody();
  let remaining = 0;
  let body: "none" | "length" | "chunked" = "none";
  let text = "";
  const data = (buf: Buffer, start: number, end: number) => {
    text += buf.toString("latin1", start, end);
  };
  for (const piece of pieces) {
    let buf = piece;
    let at = 0;
    if (body === "none" && partial.length > 0) {
      if (!partial.append(buf, 0, buf.length)) continue;
      buf = partial.take();
    }
    while (at < buf.length) {
      if (body === "none") {
        const result = head.readRequest(buf, at, buf.length);
        if (result === INCOMPLETE) {
          partial.append(buf, at, buf.length);
          break;
        }
        if (result !== COMPLETE) return { requests, end: head.error };
        text = describe(buf, head, check);
        at = head.end;
        chunks.reset();
        remaining = head.contentLength;
        body = head.chunked ? "chunked" : remaining > 0 ? "length" : "none";
      } else if (body === "length") {
        const step = Math.min(remaining, buf.length - at);
        data(buf, at, at + step);
        remaining -= step;
        at += step;
        if (remaining === 0) body = "none";
      } else {
        at = chunks.read(buf, at, buf.length, data);
        if (chunks.failed) return { requests, end: "chunk" };
        if (chunks.done) {
          text += JSON.stringify(chunks.trailers ?? []);
          body = "none";
        }
      }
      if (body === "none") requests.push(text);
    }
  }
  return { requests, end: body === "none" && partial.length === 0 ? "between" : "more" };
}

function describe(buf: Buffer, head: Head, check: boolean): string {
  const request = new Http1Request(head);
  request.take(buf);
  const { method, authority, path, absoluteForm, tunnels } = request;
  const framing = [head.chunked, head.contentLength, head.close, head.keepAlive, head.minor];
  const fields = request.fields();
  for (const [name, value] of fields) assert.match(`${name}${value}`, /^[^\r\n\0]*$/);
  const text = JSON.stringify([method, authority, path, absoluteForm, tunnels, framing, fields]);
  if (check) assertGoesOnTheSame(request, head);
  return text;
}

/** The head that goes on is one that reads alike, and changes no more. */
function assertGoesOnTheSame(request: Http1Request, head: Head): void {
  const sent = Buffer.from(request.alone());
  const again = new Head();
  assert.equal(again.readRequest(sent, 0, sent.length), COMPLETE);
  assert.equal(again.end, sent.length);
  const mirror = new Http1Request(again);
  mirror.take(sent);
  assert.deepEqual(
    [mirror.method, mirror.authority, mirror.path, again.chunked, again.contentLength, again.minor],
    [request.method, request.authority, request.path, head.chunked, head.contentLength, head.minor],
  );
  assert.deepEqual(mirror.fields(), request.fields());
  assert.deepEqual(Buffer.from(mirror.alone()), sent);
}
