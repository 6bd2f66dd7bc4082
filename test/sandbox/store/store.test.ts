// The store: what watches that resume are told, and when they are told that it is too late.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Store } from "../../../src/sandbox/store/store.ts";

const test = suite("store");
const object = (name: string) => ({ metadata: { name } });

test("after a compaction nothing from before is known, and everything since is", () => {
  const store = new Store();
  store.put("/maps", "a", object("a"));
  const before = store.version;
  store.put("/maps", "b", object("b"));
  assert.is(store.since("/maps", before)?.length, 1);
  store.compact();
  assert.is(store.since("/maps", before), undefined);
  assert.is(store.since("/none", before), undefined, "nor of a kind that has nothing");
  const now = store.version;
  assert.equal(store.since("/maps", now), []);
  store.put("/maps", "c", object("c"));
  assert.equal(
    store.since("/maps", now)?.map(({ key }) => key),
    ["c"],
  );
  assert.equal([...store.entries("/maps")].map(([key]) => key).sort(), ["a", "b", "c"]);
});

test.run();
