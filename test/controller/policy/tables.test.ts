// Tables tell of a change whoever read what changed, and nobody else.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Computed,
  type Dependent,
  Graph,
  Reading,
  Table,
} from "../../../src/controller/policy/tables.ts";

const test = suite("tables");

interface Animal {
  readonly name: string;
  readonly kinds: readonly string[];
  readonly legs: number;
}

class Watcher implements Dependent {
  told = 0;
  readonly reading = new Reading(this);

  changed(): void {
    this.told += 1;
  }

  /** How often it was told since it was asked last. */
  take(): number {
    const { told } = this;
    this.told = 0;
    return told;
  }
}

const animals = () => new Table<Animal, "kind">({ kind: ({ kinds }) => kinds });
const otter: Animal = { name: "otter", kinds: ["mustelid", "swimmer"], legs: 4 };

test("whoever read a key is told of that key alone, also when there was nothing", () => {
  const table = animals();
  const [one, other] = [new Watcher(), new Watcher()];
  assert.is(table.get("otter", one.reading), undefined);
  table.get("heron", other.reading);
  table.put("otter", otter);
  assert.equal([one.take() > 0, other.take()], [true, 0]);
  table.remove("otter");
  assert.ok(one.take() > 0);
  table.remove("otter");
  assert.is(one.take(), 0);
});

test("whoever read a group is told of what comes, changes, leaves it and goes", () => {
  const table = animals();
  const watcher = new Watcher();
  assert.equal(table.group("kind", "swimmer", watcher.reading), []);
  const steps: [string, () => void, boolean][] = [
    ["comes", () => table.put("otter", otter), true],
    ["changes", () => table.put("otter", { ...otter, legs: 3 }), true],
    ["equals", () => table.put("otter", { ...otter, legs: 3 }), false],
    ["leaves", () => table.put("otter", { ...otter, kinds: ["mustelid"] }), true],
    ["changes elsewhere", () => table.put("otter", { ...otter, kinds: ["mustelid"], legs: 2 }), false],
    ["comes back", () => table.put("otter", otter), true],
    ["goes", () => table.remove("otter"), true],
  ];
  for (const [text, step, expected] of steps) {
    step();
    assert.is(watcher.take() > 0, expected, text);
  }
  assert.equal(table.group("kind", "swimmer", watcher.reading), []);
});

test("a reader who takes only some is not told of the others, but of those that come to be his or cease to", () => {
  const table = animals();
  const watcher = new Watcher();
  table.put("otter", otter);
  const fourLegged = ({ legs }: Animal) => legs === 4;
  assert.equal(table.group("kind", "swimmer", watcher.reading, fourLegged), [otter]);
  table.put("duck", { name: "duck", kinds: ["swimmer"], legs: 2 });
  assert.is(watcher.take(), 0);
  table.put("duck", { name: "duck", kinds: ["swimmer"], legs: 4 });
  assert.ok(watcher.take() > 0);
  table.put("otter", { ...otter, legs: 3 });
  assert.ok(watcher.take() > 0);
});

test("what was read before concerns nobody after `forget`", () => {
  const table = animals();
  const watcher = new Watcher();
  table.get("otter", watcher.reading);
  table.group("kind", "swimmer", watcher.reading);
  watcher.reading.forget();
  table.put("otter", otter);
  assert.is(watcher.take(), 0);
});

test("a change brings up to date once what was told of it often, in stages, and what it makes change in turn", () => {
  const graph = new Graph();
  const runs: string[] = [];
  const computed = (name: string, stage: number, refresh = () => {}): Computed => ({
    stage,
    refresh() {
      runs.push(name);
      refresh();
    },
  });
  const last = computed("last", 1);
  const first = computed("first", 0, () => {
    graph.add(last);
    graph.settle();
  });
  const late = computed("late", 1, () => graph.add(early));
  const early = computed("early", 0);
  for (const one of [late, first, first]) graph.add(one);
  assert.ok(graph.has(first) && !graph.has(last) && !graph.isSettled);
  graph.settle();
  assert.equal(runs, ["first", "late", "early", "last"]);
  assert.ok(graph.isSettled);
  graph.add(first);
  graph.cancel(first);
  graph.settle();
  assert.is(runs.length, 4);
});

test.run();
