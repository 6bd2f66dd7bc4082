// When memory is given back: after work, while nothing happens, and not for its own sake.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryReturn, type MemoryVerdict } from "../../src/rules/memory-return.ts";

const test = suite("memory return");
const INTERVAL = 10_000;

/** A process that is looked at each 10 s; giving back leaves it with what it needs. */
class Process {
  readonly #rule = new MemoryReturn(0, 0);
  #now = 0;
  #cpu = 0;

  /** @param share of a core that it used since  @param held what it holds  @param needed what giving back leaves */
  look(share: number, held: number, needed = 1_000): MemoryVerdict {
    this.#now += INTERVAL;
    this.#cpu += share * INTERVAL;
    const verdict = this.#rule.look(this.#cpu, held, this.#now);
    if (verdict === "release") {
      this.#now += 1_000;
      this.#cpu += 30;
      this.#rule.released(this.#cpu, needed, this.#now);
    }
    return verdict;
  }

  looks(count: number, share: number, held: number): MemoryVerdict[] {
    return Array.from({ length: count }, () => this.look(share, held));
  }
}

test("nobody who works is held up, however much there is to gain", () => {
  const process = new Process();
  assert.equal(new Set(process.looks(100, 0.004, 1e9)), new Set(["at work"]));
});

test("what starting up left is given back, and then there is nothing to gain", () => {
  const process = new Process();
  assert.is(process.look(0.2, 1_500), "at work");
  assert.is(process.look(0.001, 1_500), "release");
  assert.equal(new Set(process.looks(100, 0.001, 1_090)), new Set(["nothing to gain"]));
});

test("what a load left is given back within 30 s, however often there is one", () => {
  const process = new Process();
  for (let load = 0; load < 20; load += 1) {
    process.looks(3, 0.9, 4_000);
    assert.ok(process.looks(2, 0.001, 4_000).includes("release"), `after load ${load + 1}`);
  }
});

test("what could not be given back at first is tried again within the minute, and then ever more rarely", () => {
  const process = new Process();
  process.look(0.001, 1_500);
  process.looks(3, 0.9, 4_000);
  const held = [4_000, 3_000];
  const tried: number[] = [];
  for (let look = 1; look <= 60; look += 1) {
    // Idle connections hold on to it until the second time; afterwards it is garbage that looks no different.
    const needed = tried.length === 0 ? held[1]! : 2_000;
    if (process.look(0.001, held[Math.min(tried.length, 1)]!, needed) === "release") tried.push(look * 10);
  }
  assert.is(tried[0], 10);
  assert.ok(tried[1]! <= 40, `tried after ${tried} s`);
  assert.ok(tried.length <= 6, `${tried.length} times in ten minutes`);
});

test("what comes back without work is given back ever more rarely", () => {
  const process = new Process();
  const hours = process.looks((24 * 3_600_000) / INTERVAL, 0.001, 1_200);
  const released = hours.filter((verdict) => verdict === "release").length;
  assert.ok(released > 100 && released <= 150, `${released} times in a day`);
  assert.ok(hours.includes("too soon"));
});

test.run();
