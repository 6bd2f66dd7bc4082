// When an endpoint that could not be reached is tried again.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Reach } from "../../../src/proxy/balance/reach.ts";
import { DialError } from "../../../src/proxy/transport/dial.ts";
import { ManualClock } from "../../support/clock.ts";
import { FakeIdentity } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawServer } from "../../support/wire.ts";

const test = suite("reach");

function reach(port = 1) {
  const clock = new ManualClock();
  const changes: boolean[] = [];
  const it = new Reach({
    clock,
    target: { ip: "127.0.0.1", port, tls: undefined },
    dial: { clock, connectTimeout: 60_000, keepAlive: 0, identity: new FakeIdentity("unused.test") },
    backoff: { min: 100, max: 300, jitter: 0 },
    onChange: () => changes.push(it.reached),
  });
  return { it, clock, changes };
}

test("what its proxy cannot reach rests, longer each time, until it has served", async () => {
  const { it, clock } = reach();
  for (const rest of [100, 200, 300, 300]) {
    it.unserved();
    // Those that were on their way as well do not lengthen it.
    it.unserved();
    await clock.advance(rest - 1);
    assert.not(it.reached, `before ${rest} ms are over`);
    await clock.advance(1);
    assert.ok(it.reached, `after ${rest} ms`);
  }
  await clock.advance(1);
  it.served(clock.monotonic());
  it.unserved();
  await clock.advance(100);
  assert.ok(it.reached, "its waits have begun anew");
});

test("only a request that began after the failure ends a rest", async () => {
  const { it, clock } = reach();
  await clock.advance(50);
  it.unserved();
  await clock.advance(10);
  it.served(49);
  assert.not(it.reached);
  it.served(55);
  assert.ok(it.reached);
  assert.ok(clock.idle);
});

test("its proxy's own connections do not end a rest", () => {
  const { it } = reach();
  it.unserved();
  it.connected();
  assert.not(it.reached);
});

test("what rests and is then lost is probed", async () => {
  const server = await RawServer.start();
  const { it, clock, changes } = reach(server.port);
  it.unserved();
  it.lost(new DialError("connect", "refused"));
  it.unserved();
  await clock.advance(200);
  await until(() => it.reached, 5_000, "the probe");
  assert.equal(changes, [false, true]);
  assert.ok(clock.idle);
  await server.close();
});

test("once stopped it says nothing more", async () => {
  const { it, clock, changes } = reach();
  it.unserved();
  it.stop();
  it.lost(new DialError("connect", "refused"));
  await clock.advance(1_000);
  assert.equal(changes, [false]);
  assert.ok(clock.idle);
});

test.run();
