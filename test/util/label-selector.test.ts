// Label selectors as kubectl means them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { matchesLabels, parseLabelSelector } from "../../src/util/label-selector.ts";

const test = suite("label selector");
const labels = { app: "web", tier: "front", "example.com/x": "" };

test("selectors mean what they mean to kubectl", () => {
  const cases: [string, boolean][] = [
    ["", true],
    ["app=web", true],
    ["app==web", true],
    ["app = web , tier = front", true],
    ["app=web,tier=back", false],
    ["app!=web", false],
    ["other!=web", true],
    ["app in (web, api)", true],
    ["app notin (web)", false],
    ["other notin (web)", true],
    ["app", true],
    ["!app", false],
    ["!other", true],
    ["example.com/x=", true],
  ];
  for (const [text, expected] of cases) {
    assert.is(matchesLabels(parseLabelSelector(text), labels), expected, text);
  }
  assert.is(matchesLabels(parseLabelSelector("toString"), labels), false);
  assert.is(matchesLabels(parseLabelSelector("app"), undefined), false);
});

test("what cannot be read is named", () => {
  for (const text of ["=", "app=(", "app in web", "-x", "a b"]) {
    assert.throws(
      () => parseLabelSelector(`ok,${text}`),
      (error: Error) => error.message.includes(JSON.stringify(text)),
    );
  }
});

test.run();
