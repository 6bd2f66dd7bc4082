// Routes' regular expressions: as JavaScript's where both have the construct, and in linear time.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { compileRegex, RegexError } from "../../src/rules/regex.ts";

const test = suite("regular expressions");

const CASES: readonly [pattern: string, matching: readonly string[], other: readonly string[]][] = [
  ["/api/v[0-9]+/.*", ["/api/v1/", "/api/v22/x/y"], ["/api/v/", "/api/v1", "x/api/v1/"]],
  ["^/a$", ["/a"], ["/ab", "b/a"]],
  ["a|bc|", ["a", "bc", ""], ["b", "abc"]],
  ["(?i)GET|post", ["get", "GET", "POST"], ["gett"]],
  ["a(?i:b)c", ["abc", "aBc"], ["Abc", "abC"]],
  ["[^/]+\\.(?P<ext>png|gif)", ["a.png", "x.y.gif"], ["a/b.png", ".jpg", "png"]],
  ["x{2,3}y{2}z{1,}", ["xxyyz", "xxxyyzzz"], ["xyyz", "xxxxyyz", "xxyy"]],
  ["\\d\\D\\w\\W\\s\\S", ["1a_- x"], ["a1_- x"]],
  ["[a\\-z]", ["a", "-", "z"], ["b"]],
  ["[]a]", ["]", "a"], ["b"]],
  ["[a-]", ["a", "-"], ["b"]],
  ["[[:alpha:]]+", ["abZ"], ["a1"]],
  ["a*?b+?", ["aab", "b"], ["a"]],
  ["\\x41\\.", ["A."], ["Ax"]],
  ["(a|b)*c", ["c", "ababc"], ["abab"]],
  [".", ["x"], ["\n", "xx"]],
  ["(?s).", ["\n"], []],
  ["", [""], ["a"]],
  ["ü", [Buffer.from("ü", "utf8").toString("latin1")], ["u"]],
];

for (const [pattern, matching, other] of CASES) {
  test(`/${pattern}/`, () => {
    const regex = compileRegex(pattern);
    for (const text of matching) assert.ok(regex.matches(text), `matches ${JSON.stringify(text)}`);
    for (const text of other) assert.not(regex.matches(text), `does not match ${JSON.stringify(text)}`);
  });
}

for (const [pattern, reason] of [
  ["(a", /without its/],
  ["a)", /unmatched/],
  ["*a", /nothing to repeat/],
  ["[a", /ends where/],
  ["a{3,2}", /counts down/],
  ["\\bword", /not supported/],
  ["(?=a)b", /not supported/],
  ["(a)\\1", /not supported/],
  ["\\p{Greek}", /not supported/],
  ["a^b", /anchor inside/],
  ["((a{500}){500}){500}", /too large/],
  ["x".repeat(2_000), /at most 1024/],
] as const) {
  test(`/${pattern.slice(0, 20)}/ is refused with a reason`, () => {
    assert.throws(
      () => compileRegex(pattern),
      (error: Error) => error instanceof RegexError && reason.test(error.message),
    );
  });
}

test("expressions that make backtracking engines stand still are matched in a step a byte", () => {
  for (const pattern of [
    "(a+)+",
    "(x+x+)+y",
    "(a|a)*b",
    "(.*)*c",
    "a?{50}a{50}".replace("?{50}", "{0,50}"),
  ]) {
    const regex = compileRegex(pattern);
    assert.not(regex.matches(`${"a".repeat(50_000)}!`));
  }
});

test("what is remembered is bounded, and forgetting changes nothing", () => {
  const regex = compileRegex("(a|b)*a(a|b){9}");
  for (let i = 0; i < 2_000; i += 1) {
    const text = i.toString(2).padStart(11, "0").replaceAll("0", "a").replaceAll("1", "b");
    assert.is(regex.matches(text), /^(a|b)*a(a|b){9}$/.test(text));
  }
});

/** Patterns of constructs that mean the same in both languages. */
const pattern = fc.letrec<{ node: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom("a", "b", "c", ".", "[ab]", "[^a]", "\\d", "\\."),
    tie("node").map((node) => `(?:${node})`),
  ),
  node: fc
    .array(fc.tuple(tie("atom"), fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,2}")), { maxLength: 3 })
    .chain((parts) =>
      fc
        .constantFrom("", "|b", "|ac")
        .map((tail) => parts.map(([atom, quantifier]) => atom + quantifier).join("") + tail),
    ),
})).node;

test("as JavaScript's engine, for any expression and text", () => {
  fc.assert(
    fc.property(
      pattern,
      fc.array(fc.constantFrom("a", "b", "c", ".", "1"), { maxLength: 8 }),
      (source, text) => {
        const joined = text.join("");
        assert.is(compileRegex(source).matches(joined), new RegExp(`^(?:${source})$`).test(joined), source);
      },
    ),
    { numRuns: 2_000 },
  );
});

test.run();
