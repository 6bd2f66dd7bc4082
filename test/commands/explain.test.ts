// `kubectl mesh explain`, offline.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PASSPORTS } from "../../src/rules/passport.ts";
import { findPassport } from "../../src/rules/passport-help.ts";
import { runCommand } from "../support/run-command.ts";

const test = suite("explain");
const some = findPassport(PASSPORTS["connect-timeout"].code)!;

test("a code is explained: cause, remedy, what the caller got", async () => {
  for (const typed of [some.code, some.code.toLowerCase(), some.code.slice("MESH-".length)]) {
    const { stdout, code } = await runCommand("explain", typed);
    assert.is(code, 0);
    for (const part of [some.code, some.text, some.cause, some.remedy, `HTTP ${some.status}`]) {
      assert.ok(stdout.includes(part), part);
    }
  }
  assert.equal(JSON.parse((await runCommand("explain", some.code, "-o", "json")).stdout), some);
});

test("without a code all are listed", async () => {
  const { stdout } = await runCommand("explain");
  for (const entry of Object.values(PASSPORTS)) assert.match(stdout, entry.code);
});

test("an unknown code suggests a near one and exits 2", async () => {
  const { stderr, code } = await runCommand("explain", "MESH-4021");
  assert.is(code, 2);
  assert.match(stderr, "did you mean: MESH-40");
});

test.run();
