// What a peer's proxy sends first on a direct connection: refused, or read as a header that is the same however the bytes
// are split over reads, that survives being written again, and behind which the connection's own bytes are left whole.
// The first byte says where to split.
import * as assert from "node:assert/strict";
import { WireError } from "../../src/api/codec.ts";
import {
  decodeTransportHeader,
  encodeTransportHeader,
  MAX_TRANSPORT_HEADER,
} from "../../src/api/transport-header.ts";

export function fuzz(bytes: Buffer): string {
  const input = bytes.subarray(1);
  const whole = read(input);
  for (const cut of [bytes[0] ?? 0, input.length >> 1, input.length - 1, 23, 27, 28]) {
    if (cut < 0 || cut >= input.length) continue;
    const part = read(input.subarray(0, cut));
    // What is wrong may be told later, but never taken back; what is right is right at once.
    if (part === "more") continue;
    assert.deepEqual(part, whole);
  }
  if (typeof whole === "string") {
    assert.ok(
      whole !== "more" || input.length < MAX_TRANSPORT_HEADER + 64,
      "there is an end to what is waited for",
    );
    return whole;
  }
  const { header, size } = whole;
  assert.ok(size <= input.length);
  const tail = Buffer.from("the connection's own");
  assert.deepEqual(read(Buffer.concat([input.subarray(0, size), tail])), whole);
  const written = encodeTransportHeader(header);
  assert.deepEqual(read(written), { header, size: written.length });
  const { port, name, sessionProtocol } = header;
  return `${Math.sign(port)} ${Math.min(name.length, 3)} ${sessionProtocol && Object.keys(sessionProtocol).join()}`;
}

function read(bytes: Buffer): NonNullable<ReturnType<typeof decodeTransportHeader>> | string {
  try {
    return decodeTransportHeader(bytes) ?? "more";
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return error.message.replace(/\d+/g, "n");
  }
}
