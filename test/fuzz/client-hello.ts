// The first bytes of a connection, as the inbound side reads them: a TLS ClientHello, or what else they may be. Whatever
// is decided from some of them is decided from all, so that no split over reads is read otherwise; and where OpenSSL
// reads a server name too, it is the same. The first byte says where to split.
import * as assert from "node:assert/strict";
import { HELLO_LIMIT, readClientHello } from "../../src/proxy/detect/client-hello.ts";
import { detectHttp } from "../../src/proxy/detect/http.ts";

export function fuzz(bytes: Buffer): string {
  const input = bytes.subarray(1);
  const hello = readClientHello(input);
  const whole = JSON.stringify(hello);
  const http = detectHttp(input);
  const cuts = [bytes[0] ?? 0, input.length >> 1, 1, 5, 6, 9, 43];
  for (const cut of cuts) {
    if (cut >= input.length) continue;
    const part = readClientHello(input.subarray(0, cut));
    if (part.kind !== "more") assert.equal(JSON.stringify(part), whole);
    const partHttp = detectHttp(input.subarray(0, cut));
    if (partHttp !== undefined) assert.equal(partHttp, http);
  }
  // What follows the hello says nothing of it.
  if (hello.kind !== "more") {
    assert.equal(JSON.stringify(readClientHello(Buffer.concat([input, Buffer.from([22, 3, 1])]))), whole);
    assert.ok(hello.kind !== "hello" || http === "opaque" || http === undefined, "TLS is no HTTP");
  } else assert.ok(input.length < 2 * HELLO_LIMIT, "there is an end to what is waited for");
  if (hello.kind !== "hello") return `${hello.kind} ${http}`;
  if (hello.sni === undefined) return "hello";
  assert.equal(hello.sni, hello.sni.toLowerCase());
  assert.ok(hello.sni.length > 0 && input.toString("latin1").toLowerCase().includes(hello.sni));
  return `hello ${Math.min(hello.sni.length, 4)}`;
}
