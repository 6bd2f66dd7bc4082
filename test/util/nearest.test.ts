// What is offered for a mistyped word.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { nearest } from "../../src/util/nearest.ts";

const commands = ["stat", "sandbox up", "version", "inject", "uninject", "logLevel"];
const cases: [word: string, meant: string | undefined][] = [
  ["stats", "stat"],
  ["sandbox pu", "sandbox up"],
  ["verison", "version"],
  ["loglevel", "logLevel"],
  ["UNINJECT", "uninject"],
  ["qwertyuiop", undefined],
  ["", undefined],
];
for (const [word, meant] of cases) {
  test(`${JSON.stringify(word)}: ${meant ?? "nothing"}`, () => assert.is(nearest(word, commands), meant));
}

test.run();
