// Descriptions: defaults, absence, problems by path, rules on top of what OpenAPI can say.
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  anyMap,
  check,
  choice,
  decimal,
  described,
  flag,
  type Infer,
  integer,
  intOrString,
  list,
  mapOf,
  nested,
  numberChoice,
  object,
  optional,
  parsed,
  ruled,
  type Schema,
  settings,
  text,
} from "../../src/schema/index.ts";

const told = (schema: Schema<unknown>, input: unknown, withRules = true) =>
  check(schema, input, "at", withRules).problems.map(({ path, message }) => `${path}: ${message}`);

test("each form says what it expects and what came", () => {
  const cases: readonly (readonly [Schema<unknown>, unknown, string])[] = [
    [text(), 1, "expected text, got 1"],
    [text({ minLength: 1, maxLength: 3 }), "four", 'expected text of 1 to 3 characters, got "four"'],
    [text({ maxLength: 1 }), "ab", 'expected text of at most 1 characters, got "ab"'],
    [text({ pattern: /^a/ }), "b", 'expected text that matches ^a, got "b"'],
    [text({ expects: "a word", pattern: /^\w+$/ }), "a b", 'expected a word, got "a b"'],
    [text({ format: "duration" }), "soon", 'expected a duration such as 30s, got "soon"'],
    [text(), "x".repeat(100), ""],
    [integer({ min: 1 }), 0, "expected an integer of at least 1, got 0"],
    [integer({ max: 5 }), 6, "expected an integer of at most 5, got 6"],
    [integer(), 1.5, "expected an integer, got 1.5"],
    [integer({ format: "int32" }), 2 ** 31, "expected an integer, got 2147483648"],
    [decimal({ min: 0, max: 1 }), 2, "expected a number from 0 to 1, got 2"],
    [flag(), "true", 'expected true or false, got "true"'],
    [choice(["a", "b"]), "c", 'expected one of a, b, got "c"'],
    [numberChoice([301, 302]), 303, "expected one of 301, 302, got 303"],
    [intOrString(), true, "expected an integer or a text, got true"],
    [list(text()), {}, "expected a list, got {}"],
    [list(text(), { minItems: 1 }), [], "expected at least 1 item, got 0"],
    [list(text(), { maxItems: 1 }), ["a", "b"], "expected at most 1 item, got 2"],
    [mapOf(text()), [], "expected a map, got []"],
    [anyMap(), "x", 'expected a map, got "x"'],
    [object({}), [], "expected a map, got []"],
    [text(), undefined, "expected text, but it is missing"],
    [text(), { long: "y".repeat(100) }, `expected text, got {"long":"${"y".repeat(51)}…`],
  ];
  for (const [schema, input, message] of cases)
    assert.equal(told(schema, input), message === "" ? [] : [`at: ${message}`]);
});

const pair = object(
  {
    name: text(),
    port: optional(integer()),
    mode: choice(["x", "y"], { default: "x" }),
    items: optional(list(object({ key: text() }), { keys: ["key"] })),
    a: optional(flag()),
    b: optional(flag()),
  },
  { exactlyOneOf: ["a", "b"] },
);
// The type has what must be there, and what may be.
const typed: Infer<typeof pair> = { name: "n", mode: "y" };
assert.is(typed.port, undefined);

test("an object fills in defaults, leaves out what is absent, and tells of every field", () => {
  assert.equal(check(pair, { name: "n", a: true, port: null }).value, { name: "n", mode: "x", a: true });
  assert.equal(told(pair, { mode: "z", items: [{ key: "k" }, { key: "k" }], a: true, b: true }), [
    "at.name: expected text, but it is missing",
    'at.mode: expected one of x, y, got "z"',
    'at.items[1]: expected key to be unique in the list, got that of [0] again: ["k"]',
    "at: expected exactly one of a, b, got a and b",
  ]);
  assert.equal(check(pair, { name: "n", a: true, pot: 1 }).warnings, [
    { path: "pot", message: "unknown name; did you mean port?" },
  ]);
});

test("the OpenAPI schema says the same", () => {
  assert.equal(described("A pair.", pair).openApi(), {
    description: "A pair.",
    type: "object",
    required: ["name"],
    properties: {
      name: { type: "string" },
      port: { type: "integer" },
      mode: { type: "string", enum: ["x", "y"], default: "x" },
      items: {
        type: "array",
        items: { type: "object", required: ["key"], properties: { key: { type: "string" } } },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["key"],
      },
      a: { type: "boolean" },
      b: { type: "boolean" },
    },
    oneOf: [{ required: ["a"] }, { required: ["b"] }],
  });
  assert.equal(intOrString({ pattern: /^\d+$/ }).openApi(), {
    "x-kubernetes-int-or-string": true,
    pattern: "^\\d+$",
  });
  assert.equal(mapOf(text()).openApi(), { type: "object", additionalProperties: { type: "string" } });
});

test("rules speak only of what is in form, with paths from where they stand", () => {
  const range = ruled(object({ min: integer(), max: integer() }), ({ min, max }, report) => {
    if (max < min) report.problem("max", `expected at least ${min}`);
    if (max === min) report.warning("", "it is empty");
  });
  assert.equal(told(list(range), [{ min: 2, max: 1 }, { min: "x" }]), [
    "at[0].max: expected at least 2",
    'at[1].min: expected an integer, got "x"',
    "at[1].max: expected an integer, but it is missing",
  ]);
  assert.equal(check(range, { min: 1, max: 1 }).warnings, [{ path: "", message: "it is empty" }]);
  assert.equal(told(range, { min: 2, max: 1 }, false), [], "without rules it is what OpenAPI can say");
  const number = parsed({ expects: "a number" }, (source) => {
    if (Number.isNaN(Number(source))) throw new RangeError(`no number: ${source}`);
  });
  assert.equal(told(number, "x"), ["at: no number: x"]);
  assert.equal(told(number, "x", false), []);
});

interface Tree {
  readonly value?: string;
  readonly inner?: Tree;
}

test("what nests is checked all the way down, and any map to OpenAPI", () => {
  const tree: Schema<Tree> = object(
    { value: optional(text()), inner: optional(nested(() => tree)) },
    { strict: true },
  ) as Schema<Tree>;
  assert.equal(told(tree, { inner: { inner: { value: 1, valeu: "x" } } }), [
    "at.inner.inner.valeu: unknown name; did you mean value?",
    "at.inner.inner.value: expected text, got 1",
  ]);
  assert.equal(told(tree, { inner: { inner: { value: 1 } } }, false), []);
  assert.equal(tree.openApi()["properties"], {
    value: { type: "string" },
    inner: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
  });
});

test("settings may be absent as a whole, and know all their names", () => {
  const schema = settings({
    port: integer({ default: 80 }),
    deep: settings({ on: flag({ default: true }) }),
  });
  const all = { port: 80, deep: { on: true } };
  assert.equal(check(schema, undefined).value, all);
  assert.equal(check(schema, { deep: null }).value, all);
  assert.equal(told(schema, { prot: 1 }), ["at.prot: unknown name; did you mean port?"]);
});

test("inherited names are no fields", () => {
  assert.equal(told(object({ constructor: optional(text()) }), {}), []);
  assert.equal(told(object({}), JSON.parse('{"__proto__": 1}')), []);
});

test.run();
