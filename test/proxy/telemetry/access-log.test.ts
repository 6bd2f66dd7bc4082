// The access log: what its lines say, that nobody can forge one, and that it never holds up anyone.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import {
  type AccessEntry,
  AccessLog,
  type AccessLogFormat,
  type AccessLogSink,
  apacheLine,
  jsonLine,
} from "../../../src/proxy/telemetry/access-log.ts";
import { ManualClock } from "../../support/clock.ts";

const test = suite("access log");

const entry: AccessEntry = {
  clientAddress: "10.0.0.1:4321",
  clientId: "web.ns.test",
  timestamp: Date.UTC(2026, 10, 21, 1, 2, 3),
  method: "GET",
  uri: "/a?b=c",
  version: "HTTP/1.1",
  traceId: "t1",
  host: "web",
  userAgent: 'curl/8 "x"',
  requestBytes: 3,
  status: 200,
  responseBytes: 5,
  totalNs: 1_500_000,
  processingNs: 1_000_000,
  incomplete: false,
};

test("a line in Apache's way", () => {
  assert.is(
    apacheLine(entry),
    '10.0.0.1:4321 web.ns.test - [2026-11-21T01:02:03.000Z] "GET /a?b=c HTTP/1.1" 200 5 "web" ' +
      '"curl/8 \\x22x\\x22" "t1" 3 1500000 complete\n',
  );
});

test("a line as JSON", () => {
  const parsed = JSON.parse(jsonLine({ ...entry, status: 0, incomplete: true }));
  assert.equal(
    [parsed.status, parsed.complete, parsed.user_agent, parsed["client.id"], parsed.total_ns],
    [0, false, 'curl/8 "x"', "web.ns.test", 1_500_000],
  );
});

test("whatever a client sends, it is one line with as many fields", () => {
  const text = fc.string({ unit: "binary", maxLength: 40 });
  fc.assert(
    fc.property(text, text, text, text, (uri, host, userAgent, traceId) => {
      const hostile = { ...entry, uri, host, userAgent, traceId };
      const line = apacheLine(hostile);
      assert.is(line.indexOf("\n"), line.length - 1);
      assert.is(line.match(/"/g)!.length, 8);
      const json = jsonLine(hostile);
      assert.is(json.indexOf("\n"), json.length - 1);
      assert.is(JSON.parse(json).uri, uri);
    }),
  );
});

test("lines that nobody takes are left out, counted, and never wait for", async () => {
  const clock = new ManualClock();
  const taken: string[] = [];
  let more: (() => void) | undefined;
  const sink: AccessLogSink = (text, done) => {
    taken.push(text);
    more = done;
  };
  const log = new AccessLog({
    format: "json" satisfies AccessLogFormat,
    clock,
    log: createLogger({ level: "off" }),
    sink,
  });
  log.write(entry);
  log.write(entry);
  assert.is(taken.length, 0);
  await clock.advance(100);
  assert.is(taken.length, 1, "gathered into one write");
  for (let i = 0; i < 10_000; i += 1) log.write(entry);
  assert.ok(log.dropped > 0 && log.dropped < 10_000);
  more!();
  assert.is(taken.length, 2);
  assert.ok(taken[1]!.length <= 1024 * 1024);
  assert.is(taken.join("").split("\n").length - 1, 10_002 - log.dropped);
});

test.run();
