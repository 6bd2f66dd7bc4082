// The numbers, names and kinds of the proxy API's fields are a contract with proxies and control planes that are
// not ours. The fixture was checked against linkerd2-proxy-api; it changes only when that API does, and with what is ours:
// messages of `kubectl_mesh`, in fields of numbers from 50,000 on, which others pass over.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decode, encode, type Message, type Method } from "../../src/api/codec.ts";
import * as destination from "../../src/api/destination.ts";
import * as identity from "../../src/api/identity.ts";
import * as inbound from "../../src/api/inbound.ts";
import * as outbound from "../../src/api/outbound.ts";
import * as tap from "../../src/api/tap.ts";
import * as transport from "../../src/api/transport-header.ts";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("wire contract of the proxy API");

type Any = Message<unknown>;

/** Every message that a method or the transport header can hold, by name; and the methods' paths. */
function contract(): string {
  const messages = new Map<string, Any>();
  const visit = (message: Any): void => {
    if (messages.has(message.name)) return;
    messages.set(message.name, message);
    for (const { type } of Object.values(message.fields)) if (type) visit(type() as Any);
  };
  const methods: Method<unknown, unknown>[] = [];
  for (const module of [destination, identity, inbound, outbound, tap, transport]) {
    for (const value of Object.values(module) as unknown[]) {
      if (typeof value === "object" && value !== null && "path" in value && "request" in value)
        methods.push(value as Method<unknown, unknown>);
    }
  }
  visit(transport.Header as Any);
  for (const { request, response } of methods) {
    visit(request);
    visit(response);
  }
  const lines = methods.map(({ path, request, response }) => `${path} ${request.name} ${response.name}`);
  for (const { name, fields } of messages.values()) {
    const shown = Object.entries(fields)
      .sort(([, a], [, b]) => a.number - b.number)
      .map(([key, f]) => {
        const kind =
          f.cardinality === "map" ? "map" : (f.scalar ?? (f.type!() as Any).name.split(".").at(-1));
        const often =
          f.cardinality === "repeated" ? "[]" : f.cardinality === "optional" && f.scalar ? "?" : "";
        return `${f.number} ${key}: ${kind}${often}`;
      });
    lines.push(`${name} { ${shown.join("; ")} }`);
  }
  return `${lines.sort().join("\n")}\n`;
}

test("methods, messages, field numbers and kinds are those of linkerd2-proxy-api", () => {
  const known = readFileSync(join(packageRoot(), "test/fixtures/api/messages.txt"), "utf8");
  assert.fixture(contract(), known);
});

test("bytes of a tap request and of an event, by hand", () => {
  const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
  // limit 7, match { all { matches { http { path { prefix "/a" } } } matches { not { destination { ports 80-81 } } } } }
  const request =
    "08 07" + "12 1a 0a 18" + "0a 0a 32 08 22 06 12 04 2f 61 62 63" + "0a 0a 1a 08 2a 06 1a 04 08 50 10 51";
  assert.equal(decode(tap.ObserveRequest, hex(request)), {
    limit: 7,
    match: {
      all: {
        matches: [
          { http: { path: { prefix: "/abc" } } },
          { not: { destination: { ports: { min: 80, max: 81 } } } },
        ],
      },
    },
  });
  const event = {
    destination: { ip: { ipv4: 0x0a000001 }, port: 80 },
    http: {
      responseEnd: {
        id: { base: 1, stream: 2 ** 40 },
        sinceRequestInit: { seconds: 0, nanos: 1_500 },
        responseBytes: 300,
        eos: { grpcStatusCode: 0 },
      },
    },
    proxyDirection: tap.TapEventProxyDirection.OUTBOUND,
  };
  const bytes = encode(tap.TapEvent, event);
  assert.is(
    bytes.toString("hex"),
    hex(
      "12 09 0a 05 0d 0100000a 10 50" +
        "1a 19 1a 17 0a 09 08 01 10 8080808080 20" +
        "12 03 10 dc 0b" +
        "20 ac 02" +
        "2a 02 08 00" +
        "30 02",
    ).toString("hex"),
  );
  assert.is(decode(tap.TapEvent, bytes).http?.responseEnd?.eos?.grpcStatusCode, 0);
});

test.run();
