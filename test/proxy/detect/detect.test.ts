// The protocol of a connection by its first bytes.
import * as net from "node:net";
import * as tls from "node:tls";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readClientHello } from "../../../src/proxy/detect/client-hello.ts";
import { detectHttp } from "../../../src/proxy/detect/http.ts";

const test = suite("detection");
const http = (text: string) => detectHttp(Buffer.from(text, "latin1"));

for (const [text, expected] of [
  ["GET / HTTP/1.1\r\n", "http1"],
  ["PROPFIND /a HTTP/1.0\r\n", "http1"],
  ["CONNECT a:443 HTTP/1.1\r\n", "http1"],
  ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"],
  ["GET key\r\n", "opaque"],
  ["PING\r\n", "opaque"],
  ["*1\r\n$4\r\nPING\r\n", "opaque"],
  ["SSH-2.0-OpenSSH\r\n", "opaque"],
  ["GET / FTP/1.1\r\n", "opaque"],
  ["\x16\x03\x01", "opaque"],
  ["", undefined],
  ["G", undefined],
  ["GET /a", undefined],
  ["GET /a HTTP/", undefined],
  ["PRI * HTTP/2.0\r\n\r\nSM", undefined],
  [`GET /${"a".repeat(20_000)}`, "http1"],
] as const) {
  test(`${JSON.stringify(text.slice(0, 24))} is ${expected ?? "undecided"}`, () =>
    assert.is(http(text), expected));
}

test("more bytes never change a decision", () => {
  const near = fc.constantFrom(
    "GET / HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET key\r\n",
    "\x16\x03\x01\x02",
    "PRI * HTTP/1.1\r\n",
  );
  fc.assert(
    fc.property(near, fc.uint8Array({ maxLength: 40 }), fc.nat(60), (text, tail, cut) => {
      const bytes = Buffer.concat([Buffer.from(text, "latin1"), tail]);
      const early = detectHttp(bytes.subarray(0, cut));
      if (early !== undefined) assert.is(detectHttp(bytes), early);
    }),
  );
});

/** The first bytes that a TLS client of Node sends. */
async function clientHello(servername: string | undefined): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.once("data", (chunk) => {
        resolve(chunk);
        client.destroy();
        server.close();
      });
      socket.on("error", () => {});
    });
    let client: tls.TLSSocket;
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo;
      client = tls.connect({ port, host: "127.0.0.1", ...(servername ? { servername } : {}) });
      client.on("error", () => {});
    });
  });
}

test("the server name is read, in any chunking and over several records", async () => {
  const bytes = await clientHello("Web.NS.serviceaccount.identity.mesh-system.cluster.local");
  const expected = { kind: "hello", sni: "web.ns.serviceaccount.identity.mesh-system.cluster.local" };
  assert.equal(readClientHello(bytes), expected);
  for (let i = 0; i < bytes.length; i += 1)
    assert.equal(readClientHello(bytes.subarray(0, i)), { kind: "more" });
  const record = (part: Buffer) =>
    Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]);
  const body = bytes.subarray(5);
  assert.equal(
    readClientHello(Buffer.concat([record(body.subarray(0, 50)), record(body.subarray(50))])),
    expected,
  );
});

test("a hello without a name has none", async () => {
  assert.equal(readClientHello(await clientHello(undefined)), { kind: "hello", sni: undefined });
});

test("damaged hellos are read without harm", async () => {
  const bytes = await clientHello("a.test");
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const damaged = Buffer.from(bytes);
      damaged[at] = value;
      assert.ok(["more", "hello", "not-tls"].includes(readClientHello(damaged).kind));
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (random) => void readClientHello(Buffer.from(random))),
  );
});

test.run();
