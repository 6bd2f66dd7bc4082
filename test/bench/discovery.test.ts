// What the measurement of discovery is read with: addresses found in messages, growth told from a heap that breathes.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { churnTrend } from "../../bench/discovery/churn.ts";
import { markedIn } from "../../bench/discovery/policy.ts";
import { addedIn } from "../../bench/discovery/update-reader.ts";
import { seeded } from "../../bench/random.ts";
import { addressOf } from "../../src/api/address.ts";
import { encode } from "../../src/api/codec.ts";
import { Update } from "../../src/api/destination.ts";
import { normal } from "../support/random.ts";

const test = suite("discovery bench");

const added = (update: Parameters<typeof encode<unknown>>[1]) => {
  const bytes = encode(Update, update as never);
  const found: number[] = [];
  addedIn(bytes, 0, bytes.length, (ip) => found.push(ip));
  return found;
};

test("every address that a message adds is found, whatever else it says", () => {
  const address = (ip: string) => ({
    addr: addressOf(ip, 8080),
    weight: 10_000,
    metricLabels: { pod: "a", zone: "east" },
    tlsIdentity: { dnsLikeIdentity: { name: "web" }, serverName: { name: "web" } },
    protocolHint: { h2: {}, opaqueTransport: { inboundPort: 4143 } },
  });
  const addrs = [address("10.1.0.1"), address("10.1.0.2"), address("10.1.1.44")];
  assert.equal(
    added({ add: { addrs, metricLabels: { service: "web" } } }),
    [0x0a010001, 0x0a010002, 0x0a01012c],
  );
});

test("the change that a policy tells is found, wherever in the message its mark is", () => {
  const message = Buffer.from("\x0a\x10/other\x12\x10change-000000417\x1a\x10change-000000009");
  const found: number[] = [];
  const look = (from: number, to: number) => markedIn(message, from, to, (id) => found.push(id));
  look(0, message.length);
  look(0, 12);
  look(26, message.length);
  assert.equal(found, [417, 9]);
});

test("what a message removes is not added", () => {
  assert.equal(added({ remove: { addrs: [addressOf("10.1.0.1", 8080)] } }), []);
  assert.equal(added({ noEndpoints: { exists: true } }), []);
});

/** An hour of samples, each 10 s. */
const hour = (mbAt: (at: number, random: () => number) => number) => {
  const random = seeded(7);
  return Array.from({ length: 360 }, (_, index) => {
    const anonymous = mbAt(index * 10, random);
    return { at: index * 10, changes: index * 150, anonymous, rss: anonymous + 40 };
  });
};

test("a heap that breathes and warms up is flat", () => {
  const { verdict, perHour } = churnTrend(
    hour((at, random) => 150 + (at % 600) / 100 + normal(random) - (at < 300 ? 20 : 0)),
  );
  assert.is(verdict, "flat");
  assert.ok(Math.abs(perHour) < 2, `${perHour} MB an hour`);
});

test("one that keeps 200 bytes of each change grows", () => {
  const { verdict, perHour, perChange } = churnTrend(
    hour((at, random) => 150 + (at / 3_600) * 10 + normal(random)),
  );
  assert.is(verdict, "grows");
  assert.ok(perHour > 9 && perHour < 11, `${perHour} MB an hour`);
  assert.ok(perChange > 170 && perChange < 220, `${perChange} bytes a change`);
});

test.run();
