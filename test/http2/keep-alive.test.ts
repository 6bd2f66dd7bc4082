// When a silent peer is asked, when it is given up, and when it is left alone.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KeepAlive } from "../../src/http2/keep-alive.ts";
import { ManualClock } from "../support/clock.ts";

const test = suite("HTTP/2 keep-alive");

function world(whileIdle: boolean) {
  const clock = new ManualClock();
  const owner = {
    active: 0,
    pings: [] as number[],
    silentAt: undefined as number | undefined,
    ping: () => owner.pings.push(clock.monotonic()),
    onSilence: () => {
      owner.silentAt = clock.monotonic();
    },
  };
  const keepAlive = new KeepAlive({ interval: 10_000, timeout: 3_000, whileIdle }, clock, owner);
  return { clock, owner, keepAlive };
}

test("a silent peer is asked after the interval and given up after the timeout", async () => {
  const { clock, owner, keepAlive } = world(false);
  owner.active = 1;
  keepAlive.wake();
  await clock.advance(9_999);
  assert.equal(owner.pings, []);
  await clock.advance(1);
  assert.equal(owner.pings, [10_000]);
  await clock.advance(3_000);
  assert.is(owner.silentAt, 13_000);
  assert.ok(clock.idle);
});

test("any byte is a sign of life", async () => {
  const { clock, owner, keepAlive } = world(false);
  owner.active = 1;
  keepAlive.wake();
  await clock.advance(6_000);
  keepAlive.heard();
  await clock.advance(9_999);
  assert.equal(owner.pings, []);
  await clock.advance(1);
  assert.equal(owner.pings, [16_000]);
  await clock.advance(2_000);
  keepAlive.heard();
  await clock.advance(10_000);
  assert.is(owner.silentAt, undefined);
});

test("without streams nothing is asked, and no timer is kept", async () => {
  const { clock, owner, keepAlive } = world(false);
  assert.ok(clock.idle);
  owner.active = 1;
  keepAlive.wake();
  owner.active = 0;
  await clock.advance(60_000);
  assert.equal(owner.pings, []);
  assert.ok(clock.idle);
  owner.active = 1;
  keepAlive.wake();
  await clock.advance(10_000);
  assert.equal(owner.pings, [70_000], "silence is counted from the new stream on");
});

test("where it is asked for, idle peers are asked too", async () => {
  const { clock, owner } = world(true);
  await clock.advance(13_000);
  assert.equal(owner.pings, [10_000]);
  assert.is(owner.silentAt, 13_000);
});

test("stopped, it asks nothing more", async () => {
  const { clock, owner, keepAlive } = world(true);
  keepAlive.stop();
  keepAlive.wake();
  await clock.advance(60_000);
  assert.equal(owner.pings, []);
  assert.ok(clock.idle);
});

test.run();
