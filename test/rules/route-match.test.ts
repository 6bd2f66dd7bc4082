// Which route takes a request: the Gateway API's precedence, case by case.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../src/api/codec.ts";
import type { HttpRouteMatch } from "../../src/api/http-route.ts";
import { chooseBackend } from "../../src/rules/distribution.ts";
import { type Candidate, type RequestFacts, RouteTable } from "../../src/rules/route-match.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("routes");

type Match = Partial<MessageOf<typeof HttpRouteMatch>>;
const http = (rule: string, matches: Match[], hosts: Candidate<string>["hosts"] = []): Candidate<string> => ({
  rule,
  hosts,
  text: rule,
  http: matches.map((match) => ({ headers: [], queryParams: [], ...match })),
});
const request = (path: string, parts: Partial<RequestFacts> & { headers?: Record<string, string> } = {}) => ({
  method: "GET",
  path,
  authority: "web.test",
  get: (name: string) => parts.headers?.[name],
  ...parts,
});
const find = (table: Candidate<string>[], facts: RequestFacts) => new RouteTable(table).find(facts)?.rule;
const header = (name: string, exact: string) => ({ name, exact: Buffer.from(exact) });

const BY_PATH = [
  http("root", [{ path: { prefix: "/" } }]),
  http("a", [{ path: { prefix: "/a" } }]),
  http("a/b", [{ path: { prefix: "/a/b/" } }]),
  http("exact", [{ path: { exact: "/a/b" } }]),
  http("regex", [{ path: { regex: "/re/[0-9]+" } }]),
];
for (const [path, rule] of [
  ["/", "root"],
  ["/ab", "root"],
  ["/a", "a"],
  ["/a/", "a"],
  ["/a/x?b=/c", "a"],
  ["/a/b", "exact"],
  ["/a/b?x", "exact"],
  ["/a/b/c", "a/b"],
  ["/re/12", "root"],
] as const) {
  test(`${path} goes to ${rule}: exact, then the longest prefix of whole segments`, () => {
    assert.is(find(BY_PATH, request(path)), rule);
  });
}

test("an expression takes what no prefix does", () => {
  const table = [http("regex", [{ path: { regex: "/re/[0-9]+" } }])];
  assert.is(find(table, request("/re/12")), "regex");
  assert.is(find(table, request("/re/x")), undefined);
});

test("of equal paths the method wins, then more headers, then more query parameters, then the first", () => {
  const path = { prefix: "/x" };
  const table = [
    http("first", [{ path }]),
    http("second", [{ path }]),
    http("query", [{ path, queryParams: [{ name: "q", exact: "1" }] }]),
    http("header", [{ path, headers: [header("H", "1")] }]),
    http("headers", [{ path, headers: [header("h", "1"), { name: "i", regex: "a+" }] }]),
    http("method", [{ path, method: { registered: 1 } }]),
    http("own method", [{ path, method: { unregistered: "PURGE" } }]),
  ];
  assert.is(find(table, request("/x")), "first");
  assert.is(find(table, request("/x?q=1")), "query");
  assert.is(find(table, request("/x?q=1", { headers: { h: "1" } })), "header");
  assert.is(find(table, request("/x", { headers: { h: "1", i: "aa" } })), "headers");
  assert.is(find(table, request("/x", { method: "POST", headers: { h: "1", i: "aa" } })), "method");
  assert.is(find(table, request("/x", { method: "PURGE" })), "own method");
});

test("an exact host beats a suffix, a longer suffix a shorter one, and any of them the path", () => {
  const suffix = (...reverseLabels: string[]) => [{ suffix: { reverseLabels } }];
  const table = [
    http("any host", [{ path: { exact: "/x" } }]),
    http("short", [{ path: { prefix: "/" } }], suffix("test")),
    http("long", [{ path: { prefix: "/" } }], suffix("test", "web")),
    http("exact", [{ path: { prefix: "/" } }], [{ exact: "a.web.test" }]),
  ];
  assert.is(find(table, request("/x", { authority: "A.web.test:8080" })), "exact");
  assert.is(find(table, request("/x", { authority: "b.web.test" })), "long");
  assert.is(find(table, request("/x", { authority: "c.test" })), "short");
  assert.is(find(table, request("/x", { authority: "elsewhere" })), "any host");
  assert.is(find(table, request("/y", { authority: "elsewhere" })), undefined);
});

test("gRPC routes go by service and method", () => {
  const rpc = (rule: string, service: string, method: string): Candidate<string> => ({
    rule,
    hosts: [],
    text: rule,
    grpc: [{ rpc: { service, method }, headers: [] }],
  });
  const table = [
    rpc("any", "", ""),
    rpc("service", "pkg.Svc", ""),
    rpc("method", "pkg.Svc", "Get"),
    rpc("any Get", "", "Get"),
  ];
  assert.is(find(table, request("/pkg.Svc/Get")), "method");
  assert.is(find(table, request("/pkg.Svc/List")), "service");
  assert.is(find(table, request("/pkg.SvcTwo/List")), "any");
  assert.is(find(table, request("/other/Get")), "any Get");
});

test("a decision says why", () => {
  const trace = new Trace();
  new RouteTable(BY_PATH).find(request("/a/x"), trace);
  assert.equal(trace.steps.at(-1), { rule: "a", matched: true, why: "all its conditions hold" });
  assert.ok(trace.steps.some(({ rule, why }) => rule === "exact" && why === "the path is not /a/b"));
});

test("backends share by weight among those that are available, and all when none is", () => {
  const backends = [
    { weight: 1, text: "a" },
    { weight: 3, text: "b" },
    { weight: 0, text: "c" },
  ];
  const draw = (available: string, at: number, kind: "first" | "random" = "random") =>
    chooseBackend(
      { kind, backends },
      ({ text }) => available.includes(text),
      () => at,
    )?.text;
  assert.is(draw("abc", 0.24), "a");
  assert.is(draw("abc", 0.26), "b");
  assert.is(draw("a", 0.99), "a");
  assert.is(draw("", 0.99), "b");
  assert.is(draw("c", 0.5), undefined);
  assert.is(draw("bc", 0.5, "first"), "b");
});

test.run();
