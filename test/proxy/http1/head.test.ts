// Heads of requests and responses: framing found, smuggling refused.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  COMPLETE,
  findHeadEnd,
  HEADER_LIMIT,
  Head,
  INCOMPLETE,
  INVALID,
  METHOD_GET,
  METHOD_POST,
  spliceHead,
} from "../../../src/proxy/http1/head.ts";
import { HeadBuffer } from "../../../src/proxy/http1/head-buffer.ts";

const test = suite("http1 head");

const request = (text: string) => {
  const head = new Head();
  const buf = Buffer.from(text, "latin1");
  return { head, buf, result: head.readRequest(buf, 0, buf.length) };
};
const response = (text: string) => {
  const head = new Head();
  const buf = Buffer.from(text, "latin1");
  return { head, buf, result: head.readResponse(buf, 0, buf.length) };
};
const forwarded = (text: string, added = "") => {
  const { head, buf, result } = request(text);
  assert.is(result, COMPLETE, head.error);
  return spliceHead(buf, head, Buffer.from(added), buf.length).toString("latin1");
};

test("finds the framing of a plain request", () => {
  const { head, result } = request("POST /a?b HTTP/1.1\r\nHost: x\r\ncontent-length:  12 \r\n\r\nhello");
  assert.is(result, COMPLETE);
  assert.is(head.method, METHOD_POST);
  assert.is(head.contentLength, 12);
  assert.is(head.minor, 1);
  assert.not(head.chunked);
});

/** Requests that two servers could read as different requests, after PortSwigger's and RFC 9112's lists. */
const REFUSED: [string, string, string][] = [
  [
    "length and encoding",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n",
    "ambiguous-length",
  ],
  [
    "encoding and length",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n",
    "ambiguous-length",
  ],
  [
    "two different lengths",
    "POST / HTTP/1.1\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\n",
    "ambiguous-length",
  ],
  [
    "two equal lengths",
    "POST / HTTP/1.1\r\nContent-Length: 6\r\nContent-Length: 6\r\n\r\n",
    "ambiguous-length",
  ],
  ["a list of lengths", "POST / HTTP/1.1\r\nContent-Length: 6, 6\r\n\r\n", "content-length"],
  ["a signed length", "POST / HTTP/1.1\r\nContent-Length: +6\r\n\r\n", "content-length"],
  ["a hexadecimal length", "POST / HTTP/1.1\r\nContent-Length: 0x6\r\n\r\n", "content-length"],
  ["an empty length", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "content-length"],
  ["a huge length", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "content-length"],
  [
    "two encodings",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    "transfer-encoding",
  ],
  ["an unknown encoding", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", "transfer-encoding"],
  [
    "encoding not last",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    "transfer-encoding",
  ],
  ["encoding with a vertical tab", "POST / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", "line-ending"],
  ["encoding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding"],
  ["space before the colon", "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n", "header-syntax"],
  ["tab before the colon", "POST / HTTP/1.1\r\nContent-Length\t: 6\r\n\r\n", "header-syntax"],
  ["a folded line", "POST / HTTP/1.1\r\nHost: x\r\nA: b\r\n chunked\r\n\r\n", "header-syntax"],
  ["a line that begins with a space", "POST / HTTP/1.1\r\n Host: x\r\n\r\n", "header-syntax"],
  ["a bare LF", "POST / HTTP/1.1\nHost: x\r\n\r\n", "line-ending"],
  ["a bare LF in a header", "POST / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "line-ending"],
  ["a bare CR", "POST / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "line-ending"],
  ["a NUL in a value", "POST / HTTP/1.1\r\nHost: x\0y\r\n\r\n", "line-ending"],
  ["an empty name", "POST / HTTP/1.1\r\n: x\r\n\r\n", "header-syntax"],
  ["a name with a slash", "POST / HTTP/1.1\r\na/b: x\r\n\r\n", "header-syntax"],
  ["two hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "duplicate-host"],
  ["two spaces", "GET  / HTTP/1.1\r\n\r\n", "request-line"],
  ["no target", "GET HTTP/1.1\r\n\r\n", "request-line"],
  ["a space in the target", "GET /a b HTTP/1.1\r\n\r\n", "request-line"],
  ["HTTP/0.9", "GET /\r\n\r\n", "request-line"],
  ["HTTP/2.0", "GET / HTTP/2.0\r\n\r\n", "http-version"],
  ["HTTP/1.2", "GET / HTTP/1.2\r\n\r\n", "http-version"],
  ["HTTP/1.10", "GET / HTTP/1.10\r\n\r\n", "http-version"],
  ["lower-case http", "GET / http/1.1\r\n\r\n", "request-line"],
];

for (const [name, text, error] of REFUSED) {
  test(`refuses ${name}`, () => {
    const { head, result } = request(text);
    assert.is(result, INVALID);
    assert.is(head.error, error);
  });
}

test("refuses heads over its limits", () => {
  const many = `GET / HTTP/1.1\r\n${"a: b\r\n".repeat(HEADER_LIMIT + 1)}\r\n`;
  assert.is(request(many).result, INVALID);
  assert.is(request(many).head.error, "head-too-large");
  assert.is(request(`GET / HTTP/1.1\r\n${"a: b\r\n".repeat(HEADER_LIMIT)}\r\n`).result, COMPLETE);
  assert.is(request(`GET / HTTP/1.1\r\na: ${"b".repeat(70_000)}`).head.error, "head-too-large");
});

test("takes nothing of the mesh's own headers from a caller", () => {
  assert.is(
    forwarded(
      "GET / HTTP/1.1\r\nL5D-Client-Id: me\r\nA: b\r\nl5d-dst-override: x\r\n\r\nrest",
      "l5d-client-id: you\r\n",
    ),
    "GET / HTTP/1.1\r\nA: b\r\nl5d-client-id: you\r\n\r\nrest",
  );
});

test("hop-by-hop headers end here, with what Connection names", () => {
  assert.is(
    forwarded(
      "GET / HTTP/1.1\r\nConnection: close, X-Hop\r\nx-hop: 1\r\nHost: a\r\nProxy-Connection: x\r\nx-hop: 2\r\n\r\n",
    ),
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  );
});

test("Connection cannot take framing or addressing away", () => {
  const text =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: host, content-length\r\n\r\nab";
  assert.is(forwarded(text), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
});

test("keep-alive alone goes on untouched", () => {
  const { head } = request("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n");
  assert.is(head.cutCount, 0);
  assert.ok(head.keepAlive);
});

test("an upgrade passes, h2c does not", () => {
  const upgrade = "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
  assert.is(forwarded(upgrade), upgrade);
  assert.ok(request(upgrade).head.upgrade);
  const h2c =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
  assert.is(forwarded(h2c), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  assert.not(request(h2c).head.upgrade);
});

test("an empty line before the request is skipped", () => {
  const { head, result } = request("\r\nGET / HTTP/1.1\r\n\r\n");
  assert.is(result, COMPLETE);
  assert.is(head.method, METHOD_GET);
  assert.is(head.start, 2);
});

test("responses: status, framing, keep-alive limit", () => {
  const { head, result } = response("HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=7, max=3\r\n\r\n");
  assert.is(result, COMPLETE);
  assert.is(head.status, 204);
  assert.is(head.keepAliveTimeout, 7);
  assert.is(response("HTTP/1.1 200\r\n\r\n").result, COMPLETE);
  assert.ok(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n").head.chunked);
  assert.ok(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n").head.otherEncoding);
  assert.is(response("HTTP/1.1 2x0 OK\r\n\r\n").result, INVALID);
  assert.is(response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").result, INVALID);
  assert.is(response("SSH-2.0-OpenSSH_9.2p1\r\n").result, INVALID);
});

test("a response with both lengths goes by its encoding, and loses the length", () => {
  const { head, buf } = response(
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
  );
  assert.ok(head.chunked);
  assert.is(head.contentLength, -1);
  assert.is(
    spliceHead(buf, head, Buffer.alloc(0), buf.length).toString(),
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
  );
});

/** Heads that are nearly right, so that all states of the reader are met. */
const headText = fc
  .tuple(
    fc.constantFrom("GET", "POST", "PROPFIND", "", "GE T"),
    fc.constantFrom("/", "/a?b=c", "*", "a b"),
    fc.constantFrom("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.", ""),
    fc.array(
      fc.tuple(
        fc.constantFrom(
          "Host",
          "Content-Length",
          "Transfer-Encoding",
          "Connection",
          "Upgrade",
          "l5d-x",
          "A",
          "B ",
          "",
        ),
        fc.constantFrom("x", "5", "chunked", "close", "upgrade", "keep-alive, a", "", "é", "a\tb", "a\rb"),
        fc.constantFrom("\r\n", "\r\n", "\r\n", "\n", "\r"),
      ),
      { maxLength: 6 },
    ),
    fc.constantFrom("\r\n", "\n", ""),
  )
  .map(
    ([method, target, version, lines, end]) =>
      `${method} ${target} ${version}\r\n${lines.map(([n, v, e]) => `${n}: ${v}${e}`).join("")}${end}`,
  );

test("the same bytes in any chunking give the same verdict", () => {
  fc.assert(
    fc.property(headText, fc.array(fc.nat(300), { maxLength: 5 }), (text, cutsAt) => {
      const bytes = Buffer.from(text, "latin1");
      const whole = new Head();
      const expected = whole.readRequest(bytes, 0, bytes.length);
      const partial = new HeadBuffer();
      const head = new Head();
      let result = INCOMPLETE;
      const points = [...new Set(cutsAt.map((at) => at % (bytes.length + 1)))].sort((a, b) => a - b);
      let last = 0;
      for (const at of [...points, bytes.length]) {
        if (result !== INCOMPLETE) break;
        if (at === last) continue;
        if (partial.length > 0) {
          if (partial.append(bytes, last, at)) {
            const all = partial.take();
            result = head.readRequest(all, 0, all.length);
            if (result === INCOMPLETE) partial.append(all, 0, all.length);
          }
        } else {
          result = head.readRequest(bytes.subarray(last, at), 0, at - last);
          if (result === INCOMPLETE) partial.append(bytes, last, at);
        }
        last = at;
      }
      // A head that is wrong before its end may be refused at once or only when its end has come.
      if (expected === INVALID && result === INCOMPLETE) {
        assert.is(findHeadEnd(bytes, 0, bytes.length), -1);
        return;
      }
      assert.is(result, expected);
      if (expected !== COMPLETE) return;
      assert.equal(
        [
          head.method,
          head.minor,
          head.contentLength,
          head.chunked,
          head.close,
          head.upgrade,
          head.cutCount,
          head.end,
        ],
        [
          whole.method,
          whole.minor,
          whole.contentLength,
          whole.chunked,
          whole.close,
          whole.upgrade,
          whole.cutCount,
          whole.end,
        ],
      );
    }),
    { numRuns: 2_000 },
  );
});

test("what goes on is itself a good head with the same framing", () => {
  fc.assert(
    fc.property(headText, (text) => {
      const { head, buf, result } = request(text);
      if (result !== COMPLETE) return;
      const out = spliceHead(buf, head, Buffer.from("l5d-client-id: a\r\n"), head.end);
      const again = new Head();
      assert.is(again.readRequest(out, 0, out.length), COMPLETE);
      assert.is(again.end, out.length);
      assert.equal(
        [again.method, again.contentLength, again.chunked],
        [head.method, head.contentLength, head.chunked],
      );
    }),
    { numRuns: 1_000 },
  );
});

test("random bytes are never taken for a head without a blank line", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const result = new Head().readRequest(bytes, 0, bytes.length);
      if (result === COMPLETE) assert.ok(findHeadEnd(bytes, 0, bytes.length) >= 0);
    }),
  );
});

test.run();
