// Filters of routes: what they make of a request, and which of them no proxy can apply.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decode, embed, encode, type MessageOf, message, repeated } from "../../src/api/codec.ts";
import { HttpRouteFilter, HttpRouteRule, type MeshFilter } from "../../src/api/outbound.ts";
import {
  applyFilters,
  compileFilters,
  drawDelay,
  type FilterMessage,
  rewritten,
} from "../../src/rules/filters.ts";
import { policyRoutes } from "../../src/rules/outbound-routes.ts";
import { PolicyError } from "../../src/rules/policy-error.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("filters");

const request = (path: string, authority = "web.test") => ({
  method: "GET",
  path,
  authority,
  get: () => undefined,
});

const redirect = (parts: object) =>
  compileFilters([{ redirect: { host: "", port: 0, status: 0, ...parts } }]);
for (const [name, parts, expected] of [
  ["another scheme", { scheme: { registered: 1 } }, "https://web.test/old/x?q"],
  [
    "another scheme, with its own port",
    { scheme: { registered: 1 }, host: "new.test" },
    "https://new.test/old/x?q",
  ],
  ["another host", { host: "new.test", status: 301 }, "http://new.test/old/x?q"],
  ["another port", { port: 8080 }, "http://web.test:8080/old/x?q"],
  ["the usual port is left out", { port: 80 }, "http://web.test/old/x?q"],
  ["a whole path", { path: { full: "/new" } }, "http://web.test:81/new"],
  ["a prefix", { path: { prefix: "/new/" } }, "http://web.test:81/new/x?q"],
  ["a prefix taken away", { path: { prefix: "/" } }, "http://web.test:81/x?q"],
] as const) {
  test(`a redirect to ${name}`, () => {
    const authority = "path" in parts || "port" in parts ? "web.test:81" : "web.test";
    const facts = { ...request("/old/x?q"), scheme: "http", authority };
    const verdict = applyFilters(redirect(parts), facts, "/old", () => 0);
    assert.equal(verdict, {
      kind: "redirect",
      status: "status" in parts ? parts.status : 301,
      location: expected,
    });
  });
}

test("faults hit their share of requests", () => {
  const filters = compileFilters([
    { failureInjector: { status: 418, message: "on purpose", ratio: { numerator: 1, denominator: 4 } } },
  ]);
  const facts = request("/");
  assert.is(applyFilters(filters, facts, undefined, () => 0.24).kind, "fail");
  assert.is(applyFilters(filters, facts, undefined, () => 0.25).kind, "go");
});

test("a redirect to where the request is already lets it go on", () => {
  const facts = { ...request("/old/x?q"), scheme: "http" };
  assert.is(applyFilters(redirect({ host: "web.test" }), facts, "/old", () => 0).kind, "go");
});

test("fields are added, then set, then removed", () => {
  const fields = (name: string, value: string) => ({ headers: [{ name, value: Buffer.from(value) }] });
  const { request: changes } = compileFilters([
    { requestHeaderModifier: { set: fields("b", "2"), add: fields("A", "1"), remove: ["C"] } },
  ]);
  assert.equal(
    changes.map(({ op, name, value }) => [op, name, value]),
    [
      ["add", "a", "1"],
      ["set", "b", "2"],
      ["remove", "c", ""],
    ],
  );
});

type Rule = MessageOf<typeof HttpRouteRule>;
type Own = MessageOf<typeof MeshFilter>;
const discovery = { dst: { path: "a.ns:80" } };
const ruleOf = (path: object | undefined, own: Own[], filters: FilterMessage[] = []): Rule => ({
  matches: path ? [{ path, headers: [], queryParams: [] }] : [],
  filters: filters as Rule["filters"],
  meshFilters: { filters: own },
  backends: { firstAvailable: { backends: [{ filters: [], backend: { balancer: { discovery } } }] } },
  allowL5dRequestHeaders: false,
});
const routesOf = (rule: Rule) => policyRoutes([{ hosts: [], rules: [rule] }], undefined);
const rewrite = (path: object | undefined, hostname = ""): Own => ({ urlRewrite: { hostname, path } });

/** What a request to `target` becomes, by a rule that takes it by `match`. */
function rewrittenTo(target: string, match: object | undefined, own: Own) {
  const found = routesOf(ruleOf(match, [own])).find(request(target))!;
  return rewritten(found.rule.filters, request(target), found.prefix);
}

// The table of Gateway API's HTTPPathModifier, and below what it leaves to the reader.
for (const [target, prefix, by, expected] of [
  ["/foo/bar", "/foo", "/xyz", "/xyz/bar"],
  ["/foo/bar", "/foo", "/xyz/", "/xyz/bar"],
  ["/foo/bar", "/foo/", "/xyz", "/xyz/bar"],
  ["/foo/bar", "/foo/", "/xyz/", "/xyz/bar"],
  ["/foo", "/foo", "/xyz", "/xyz"],
  ["/foo/", "/foo", "/xyz", "/xyz/"],
  ["/foo/bar", "/foo", "", "/bar"],
  ["/foo/", "/foo", "", "/"],
  ["/foo", "/foo", "", "/"],
  ["/foo/", "/foo", "/", "/"],
  ["/foo", "/foo", "/", "/"],
  ["/foo?q=/foo", "/foo", "/xyz", "/xyz?q=/foo"],
  ["/foo?q", "/foo", "/", "/?q"],
  ["/foo/?q", "/foo/", "", "/?q"],
  ["/foo/foo", "/foo", "/xyz", "/xyz/foo"],
  ["/foo//bar", "/foo", "/xyz", "/xyz//bar"],
  ["/foo", "/", "/xyz", "/xyz/foo"],
  ["/", "/", "/xyz", "/xyz/"],
  ["/foo/bar", "/foo", "xyz", "/xyz/bar"],
] as const) {
  test(`${target}, with its prefix ${prefix} replaced by "${by}", is ${expected}`, () => {
    const renamed = rewrittenTo(target, { prefix }, rewrite({ prefix: by }));
    assert.is(renamed?.path ?? target, expected);
    assert.is(renamed?.authority, undefined);
  });
}

test("a route that takes every path has the prefix /", () => {
  assert.is(rewrittenTo("/foo", undefined, rewrite({ prefix: "/xyz" }))?.path, "/xyz/foo");
});

test("a whole path is replaced and its query stays, unless another is given", () => {
  for (const match of [{ exact: "/a" }, { regex: "/a.*" }, { prefix: "/" }]) {
    assert.is(rewrittenTo("/a?x=1", match, rewrite({ full: "/b" }))?.path, "/b?x=1");
    assert.is(rewrittenTo("/a?x=1", match, rewrite({ full: "/b?y" }))?.path, "/b?y");
  }
  assert.is(rewrittenTo("*", undefined, rewrite({ full: "/b" }))?.path, undefined);
});

test("a host name is replaced with its port", () => {
  const facts = request("/a", "web.test:8080");
  const { filters } = routesOf(ruleOf(undefined, [rewrite(undefined, "new.test")])).find(facts)!.rule;
  const trace = new Trace();
  assert.equal(rewritten(filters, facts, undefined, trace), { path: undefined, authority: "new.test" });
  assert.is(trace.steps[0]!.why, "web.test:8080/a becomes new.test/a");
});

const delay = (ms: number, ratio?: { numerator: number; denominator: number }): Own => ({
  delayInjector: { delay: { seconds: 0, nanos: ms * 1e6 }, ratio },
});

test("delays hit their share of requests", () => {
  const filters = compileFilters([], [delay(250, { numerator: 1, denominator: 4 })]);
  assert.is(
    drawDelay(filters, () => 0.24),
    250,
  );
  assert.is(
    drawDelay(filters, () => 0.25),
    0,
  );
  assert.is(
    drawDelay(compileFilters([], [delay(40)]), () => 0.999),
    40,
  );
});

const mirror = (backend: object | undefined, ratio?: { numerator: number; denominator: number }): Own => ({
  requestMirror: { backend, ratio },
});

test("mirrors have a share and a backend of their own, beside that of the same name", () => {
  const own = mirror({ balancer: { discovery } }, { numerator: 10, denominator: 100 });
  const { only, backends, find } = routesOf(ruleOf(undefined, [own]));
  assert.is(only, undefined, "there is something to be done");
  const [one] = find(request("/"))!.rule.mirrors;
  assert.is(one!.share, 0.1);
  assert.is(backends.length, 2);
  assert.ok(backends.includes(one!.backend));
  assert.is(one!.backend.target.kind === "balance" && one!.backend.target.mirror, true);
});

for (const [why, rule] of [
  ["a filter of no kind", ruleOf(undefined, [], [{}])],
  ["a filter of ours of no kind", ruleOf(undefined, [{}])],
  ["a prefix replaced where the path is whole", ruleOf({ exact: "/a" }, [rewrite({ prefix: "/b" })])],
  ["a prefix replaced where an expression matches", ruleOf({ regex: "/a" }, [rewrite({ prefix: "/b" })])],
  [
    "a prefix redirected where the path is whole",
    ruleOf({ exact: "/a" }, [], [{ redirect: { host: "", port: 0, status: 0, path: { prefix: "/b" } } }]),
  ],
  ["two rewrites", ruleOf(undefined, [rewrite({ full: "/a" }), rewrite(undefined, "b.test")])],
  [
    "a rewrite beside a redirect",
    ruleOf(undefined, [rewrite({ full: "/a" })], [{ redirect: { host: "b", port: 0, status: 0 } }]),
  ],
  ["a path that would end the request line", ruleOf(undefined, [rewrite({ full: "/a HTTP/1.1\r\nx: y" })])],
  ["a host that is a field more", ruleOf(undefined, [rewrite(undefined, "a\r\nx: y")])],
  ["a mirror that leads nowhere", ruleOf(undefined, [mirror(undefined)])],
  [
    "a share of nothing",
    ruleOf(undefined, [mirror({ balancer: { discovery } }, { numerator: 1, denominator: 0 })]),
  ],
  ["a delay of no time", ruleOf(undefined, [delay(0)])],
  [
    "a delay of a day",
    ruleOf(undefined, [{ delayInjector: { delay: { seconds: 86_400, nanos: 0 }, ratio: undefined } }]),
  ],
] as const) {
  test(`refused: ${why}`, () => {
    assert.throws(
      () => routesOf(rule),
      (error: unknown) => error instanceof PolicyError,
    );
  });
}

test("a proxy that does not know these filters reads the rest of the rule, and no filter without a kind", () => {
  // The rule as linkerd2-proxy-api has it.
  const Theirs = message("Rule", {
    filters: repeated(embed(2, () => HttpRouteFilter)),
    backends: HttpRouteRule.fields["backends"]!,
  });
  const own = [rewrite({ full: "/b" }), delay(1), mirror({ balancer: { discovery } })];
  const bytes = encode(HttpRouteRule, ruleOf(undefined, own));
  const read = decode(Theirs, bytes) as { filters: unknown[]; backends: Rule["backends"] };
  assert.is(read.filters.length, 0);
  assert.is(read.backends?.firstAvailable?.backends.length, 1);
  assert.is(decode(HttpRouteRule, bytes).meshFilters?.filters.length, 3);
});

test.run();
