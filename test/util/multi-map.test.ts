import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MultiMap } from "../../src/util/multi-map.ts";

const test = suite("multi-map");

test("a key has its values in the order in which they came, each once", () => {
  const map = new MultiMap<string>();
  for (const value of ["a", "b", "a", "c"]) map.add("key", value);
  assert.equal([...map.get("key")], ["a", "b", "c"]);
  assert.equal([...map.get("other")], []);
});

test("a value goes and leaves the others; the key goes with the last", () => {
  const map = new MultiMap<string>();
  map.add("key", "a");
  map.add("key", "b");
  map.delete("key", "never there");
  map.delete("other", "a");
  map.delete("key", "a");
  assert.equal([...map.get("key")], ["b"]);
  map.delete("key", "b");
  assert.not(map.has("key"));
  map.add("key", "c");
  map.delete("key", "x");
  assert.equal([...map.get("key")], ["c"]);
});

test.run();
