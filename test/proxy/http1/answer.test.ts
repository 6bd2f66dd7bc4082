// The answers that the proxy itself gives.
import { STATUS_CODES } from "node:http";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { answer } from "../../../src/proxy/http1/answer.ts";
import { COMPLETE, Head } from "../../../src/proxy/http1/head.ts";
import { PASSPORTS, type PassportKey } from "../../../src/rules/passport.ts";

const test = suite("answers");

test("every error has a whole, well-formed answer with its standard reason", () => {
  for (const [key, { status, text }] of Object.entries(PASSPORTS)) {
    if (status === 0) continue;
    const bytes = answer(key as PassportKey, { trusted: true, meshClose: true, detail: "x\r\ny" }, true);
    const head = new Head();
    assert.is(head.readResponse(bytes, 0, bytes.length), COMPLETE);
    assert.is(head.end, bytes.length);
    assert.is(head.contentLength, 0);
    const lines = bytes.toString("latin1").split("\r\n");
    assert.is(lines[0], `HTTP/1.1 ${status} ${STATUS_CODES[status]}`);
    assert.is(lines[1], `l5d-proxy-error: ${text}: x??y`);
  }
});

test("a stranger learns neither code nor detail", () => {
  const text = answer("connect", { trusted: false, meshClose: false, detail: "10.1.2.3" }, false).toString();
  assert.not.match(text, /MESH-|10\.1\.2\.3|connection: close/);
});

test.run();
