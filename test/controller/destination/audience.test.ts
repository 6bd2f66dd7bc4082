// Who is told while others come, leave and go elsewhere.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Audience, Seat } from "../../../src/controller/destination/audience.ts";

class Chair extends Seat {}

/** An audience in which each hears by its name. */
function hall(names: string) {
  const audience = new Audience<string, Chair>();
  const heard = new Map<string, string[]>();
  const chairs = new Map<string, Chair>();
  const listener = {
    update: (value: string, key: unknown, first: boolean) => {
      heard.set(String(key), [...(heard.get(String(key)) ?? []), first ? `first ${value}` : value]);
      onTold(String(key));
    },
  };
  let onTold: (name: string) => void = () => {};
  for (const name of names) {
    const chair = new Chair();
    chairs.set(name, chair);
    audience.join(chair, listener, name, "now");
  }
  return { audience, heard, chairs, onTold: (fn: typeof onTold) => (onTold = fn) };
}

const test = suite("audience");

test("whoever joins is told what there is, then each change, by its key", () => {
  const { audience, heard } = hall("ab");
  audience.tell("change");
  for (const name of "ab") assert.equal(heard.get(name), ["first now", "change"]);
});

test("nobody who stays misses a change because others leave while it is told", () => {
  const names = "abcdef";
  for (const on of names) {
    for (const leavers of ["a", "f", "c", "ab", "ef", "bde", "abcdef"]) {
      const { audience, heard, chairs, onTold } = hall(names);
      onTold((name) => {
        if (name === on) for (const leaver of leavers) audience.leave(chairs.get(leaver)!);
      });
      audience.tell("change");
      const stay = [...names].filter((name) => !leavers.includes(name));
      for (const name of stay) assert.ok(heard.get(name)!.includes("change"), `${name}: ${leavers} at ${on}`);
      assert.is(audience.size, stay.length);
      onTold(() => {});
      audience.tell("next");
      for (const name of names) assert.is(heard.get(name)!.at(-1) === "next", stay.includes(name));
    }
  }
});

test("to leave twice is to leave once", () => {
  const { audience, chairs } = hall("ab");
  audience.leave(chairs.get("a")!);
  audience.leave(chairs.get("a")!);
  assert.equal(audience.seats, [chairs.get("b")]);
});

test("whoever goes over to another audience is told the difference, and what comes there", () => {
  const { audience, heard, chairs } = hall("ab");
  const other = new Audience<string, Chair>();
  audience.move(chairs.get("a")!, other, "difference");
  audience.move(chairs.get("b")!, other, undefined);
  audience.tell("nobody hears it");
  other.tell("change");
  assert.equal(heard.get("a"), ["first now", "difference", "change"]);
  assert.equal(heard.get("b"), ["first now", "change"]);
});

test.run();
