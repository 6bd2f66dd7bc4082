// Pod addresses: given out, rested, given out again.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PodIpPool } from "../../../src/sandbox/network/addresses.ts";
import { vethName } from "../../../src/sandbox/network/node-network.ts";

const test = suite("pod addresses");

test("a released address rests before it is given out again", () => {
  let now = 0;
  const pool = new PodIpPool(3, { now: () => now, restMs: 1_000 });
  const all = Array.from({ length: 253 }, () => pool.allocate());
  assert.is(new Set(all).size, 253);
  assert.is(all[0], "10.244.3.2");
  assert.throws(() => pool.allocate(), /no free pod address in 10\.244\.3\.0\/24/);
  pool.release("10.244.3.40");
  pool.release("10.244.9.9");
  assert.throws(() => pool.allocate(), /no free pod address/);
  now = 1_000;
  assert.is(pool.allocate(), "10.244.3.40");
});

test("addresses go round before they come back", () => {
  const pool = new PodIpPool(0, { now: () => 0, restMs: 0 });
  const first = pool.allocate();
  pool.release(first);
  assert.is.not(pool.allocate(), first);
});

test("interface names fit the kernel's 15 bytes", () => {
  assert.is(vethName("0b2c6b0e-8d2e-4f5d-9c3b-1a2b3c4d5e6f").length, 14);
});

test.run();
