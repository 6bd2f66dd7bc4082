// Small values: durations, port sets, addresses, back-off, log lines.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger, parseLevel } from "../../src/log/logger.ts";
import { Backoff } from "../../src/util/backoff.ts";
import { formatDuration, parseDuration } from "../../src/util/duration.ts";
import { cidrHas, formatCidr, formatIp, parseCidr, parseIp } from "../../src/util/ip.ts";
import { formatPortSet, mergePorts, parsePortSet, portSetHas } from "../../src/util/port-set.ts";

const test = suite("util");

test("durations survive writing and reading", () => {
  fc.assert(fc.property(fc.nat(1e9), (ms) => assert.is(parseDuration(formatDuration(ms)), ms)));
  assert.is(parseDuration("0"), 0);
  for (const bad of ["", "10", "1.5s", "-1s", "s", "10 s", "1w"])
    assert.throws(() => parseDuration(bad), /expected a duration/);
});

test("a port set holds exactly its ports", () => {
  const range = fc
    .tuple(fc.integer({ min: 1, max: 500 }), fc.nat(20))
    .map(([from, n]) => ({ from, to: from + n }));
  fc.assert(
    fc.property(fc.array(range), fc.integer({ min: 1, max: 600 }), (ranges, port) => {
      const set = parsePortSet(formatPortSet(mergePorts(ranges)));
      assert.is(
        portSetHas(set, port),
        ranges.some((r) => r.from <= port && port <= r.to),
      );
      assert.ok(set.every((r, i) => i === 0 || r.from > set[i - 1]!.to + 1));
    }),
  );
  for (const bad of ["0", "65536", "5-4", "a", "1-2-3"])
    assert.throws(() => parsePortSet(bad), /expected a port/);
});

test("addresses survive, and networks hold their addresses", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const { family, bits } = parseIp(text);
      assert.equal(parseIp(formatIp(family, bits)), { family, bits });
      const cidr = parseCidr(`${formatIp(family, bits)}/8`);
      assert.ok(cidrHas(cidr, text));
      assert.equal(parseCidr(formatCidr(cidr)), cidr);
    }),
  );
  assert.equal(parseIp("::ffff:10.0.0.1"), parseIp("10.0.0.1"));
  assert.not(cidrHas(parseCidr("10.0.0.0/8"), "11.0.0.1"));
  assert.not(cidrHas(parseCidr("::/0"), "11.0.0.1"));
  for (const bad of ["10.0.0.0/33", "10.0.0/8", "a/1", "10.0.0.0/8/9", "10.0.0.0/"])
    assert.throws(() => parseCidr(bad), /expected/);
});

test("backoff doubles to its bound and starts over", () => {
  const backoff = new Backoff({ min: 100, max: 1_000, jitter: 0.5 }, () => 1);
  assert.equal(
    [1, 2, 3, 4, 5].map(() => backoff.next()),
    [150, 300, 600, 1200, 1500],
  );
  backoff.reset();
  assert.is(backoff.next(), 150);
});

test("log lines carry fields, quote what needs it, and honour the filter", () => {
  const lines: string[] = [];
  const log = createLogger({ level: "info", write: (line) => lines.push(line), now: () => 0 }).child({
    a: 1,
  });
  log.debug("no");
  log.warn("yes", { b: 'x "y"', c: undefined });
  assert.equal(lines, ['1970-01-01T00:00:00.000Z WARN  yes a=1 b="x \\"y\\""\n']);
  assert.is(parseLevel("warn,linkerd=debug,hickory=error"), "debug");
  assert.is(parseLevel("warn,hickory=trace"), "warn");
  assert.is(parseLevel(undefined), "info");
});

test.run();
