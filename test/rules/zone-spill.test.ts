// How much traffic leaves the zone, by readiness and by load, and who is in it.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { isLocal, ZoneSpill } from "../../src/rules/zone-spill.ts";

const test = suite("zone spill");

/** Load for a while, looked at ten times a second. @returns the time after it */
function run(zone: ZoneSpill, from: number, ms: number, load: number): number {
  let now = from;
  for (; now < from + ms; now += 100) zone.observe(load, now);
  return now;
}

test("as much stays as the endpoints that are ready can take", () => {
  const zone = new ZoneSpill();
  for (const [ready, total, share] of [
    [10, 10, 0],
    [8, 10, 0],
    [5, 10, 0.3],
    [1, 10, 0.86],
    [0, 10, 1],
  ] as const) {
    zone.ready(ready, total);
    assert.ok(Math.abs(zone.share - share) < 1e-9, `${ready} of ${total}: ${zone.share}`);
  }
});

test("overload opens the zone within seconds, calm closes it within tens of them", () => {
  const zone = new ZoneSpill();
  zone.ready(3, 3);
  let now = run(zone, 0, 5_000, 1);
  assert.is(zone.share, 0, "neither much nor little");
  now = run(zone, now, 5_000, 10);
  assert.is(zone.share, 1);
  now = run(zone, now, 5_000, 1);
  assert.is(zone.share, 1, "it does not flap between the bounds");
  now = run(zone, now, 20_000, 0.1);
  assert.is(zone.share, 0);
});

test("a pause does not open the zone in one step", () => {
  const zone = new ZoneSpill();
  zone.ready(3, 3);
  const now = run(zone, 0, 3_000, 1);
  zone.observe(50, now + 60_000);
  assert.ok(zone.share <= 0.1 + 1e-9, `${zone.share}`);
});

test("who is in the zone: as the control plane, which knows ours, has compared", () => {
  for (const [labels, local] of [
    [{ zone_locality: "local", zone: "b" }, true],
    [{ zone_locality: "remote", zone: "a" }, false],
    [{ zone_locality: "unknown", zone: "a" }, false],
    [{ zone: "a" }, false],
    [{}, false],
  ] as const)
    assert.is(isLocal(labels), local, JSON.stringify(labels));
});

test.run();
