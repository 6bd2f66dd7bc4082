// Which routes hold, and the reasons that are given for it.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ParentRef, RouteKind, RouteRecord } from "../../src/rules/policy-records.ts";
import { attachedRoutes, conflictingRoute, parentKind } from "../../src/rules/route-parents.ts";
import { Trace } from "../../src/rules/trace.ts";
import { NO_TRAFFIC_SETTINGS } from "../../src/rules/traffic-annotations.ts";

const test = suite("route parents");

const web = { kind: "Service", namespace: "emoji", name: "web", port: 80, portName: "http" } as const;
const toWeb = (change: Partial<ParentRef> = {}): ParentRef => ({
  group: "",
  kind: "Service",
  namespace: "emoji",
  name: "web",
  port: undefined,
  sectionName: undefined,
  ...change,
});
const route = (name: string, change: Partial<RouteRecord> = {}): RouteRecord => ({
  group: "gateway.networking.k8s.io",
  kind: "HTTPRoute",
  namespace: "emoji",
  name,
  created: 10,
  parents: [toWeb()],
  hosts: [],
  rules: [],
  traffic: NO_TRAFFIC_SETTINGS,
  problem: undefined,
  serverProblem: undefined,
  ...change,
});

const CASES: [string, RouteRecord, string | undefined, string][] = [
  ["attached", route("one"), undefined, "it is attached to the port"],
  [
    "another port",
    route("one", { parents: [toWeb({ port: 81 })] }),
    undefined,
    "it is attached to another port than 80",
  ],
  ["broken", route("one", { problem: "rules[0]: no" }), undefined, "it cannot be applied: rules[0]: no"],
  [
    "a stranger's",
    route("one", { namespace: "voting" }),
    "emoji",
    "it is of another namespace than the parent and the client",
  ],
  ["the client's", route("one", { namespace: "voting" }), "voting", "it is attached to the port"],
];
for (const [text, record, client, why] of CASES)
  test(`the trace of a route: ${text}`, () => {
    const trace = new Trace();
    const found = attachedRoutes([record], web, client, trace);
    assert.equal(trace.steps, [
      { rule: `HTTPRoute ${record.namespace}/one`, matched: found.length === 1, why },
    ]);
  });

test("a route that loses to another kind, or to the client's own, is told so", () => {
  const trace = new Trace();
  const routes = [
    route("http"),
    route("grpc", { kind: "GRPCRoute", namespace: "voting" }),
    route("tls", { kind: "TLSRoute", namespace: "voting" }),
  ];
  assert.equal(
    attachedRoutes(routes, web, "voting", trace).map(({ name }) => name),
    ["grpc"],
  );
  const why = Object.fromEntries(trace.steps.map((step) => [step.rule, step.why]));
  assert.equal(why, {
    "HTTPRoute emoji/http": "the client's namespace has its own routes",
    "GRPCRoute voting/grpc": "it is attached to the port",
    "TLSRoute voting/tls": "a GRPCRoute is attached to the same port",
  });
});

test("a route that names a parent twice is attached once", () => {
  const twice = route("one", { parents: [toWeb(), toWeb({ port: 80 })] });
  assert.is(attachedRoutes([twice], web, undefined).length, 1);
});

const KINDS: [string, string, string | undefined][] = [
  ["", "Service", "Service"],
  ["core", "Service", "Service"],
  ["policy.linkerd.io", "Service", undefined],
  ["policy.linkerd.io", "Server", "Server"],
  ["policy.linkerd.io", "EgressNetwork", "EgressNetwork"],
  ["", "Server", undefined],
  ["gateway.networking.k8s.io", "Gateway", undefined],
];
for (const [group, kind, expected] of KINDS)
  test(`parents: ${kind} of group "${group}"`, () => assert.is(parentKind({ group, kind }), expected));

const RANKS: [RouteKind, RouteKind, Partial<ParentRef>, Partial<ParentRef>, boolean][] = [
  ["HTTPRoute", "GRPCRoute", {}, {}, true],
  ["TLSRoute", "HTTPRoute", {}, {}, true],
  ["TCPRoute", "TLSRoute", {}, {}, true],
  ["GRPCRoute", "HTTPRoute", {}, {}, false],
  ["HTTPRoute", "HTTPRoute", {}, {}, false],
  ["HTTPRoute", "GRPCRoute", { port: 80 }, {}, true],
  ["HTTPRoute", "GRPCRoute", { port: 80 }, { port: 80 }, true],
  ["HTTPRoute", "GRPCRoute", { port: 80 }, { port: 81 }, false],
  ["HTTPRoute", "GRPCRoute", {}, { port: 80 }, false],
  ["HTTPRoute", "GRPCRoute", { sectionName: "http" }, {}, true],
  ["HTTPRoute", "GRPCRoute", {}, { sectionName: "http" }, false],
  ["HTTPRoute", "GRPCRoute", {}, { name: "api" }, false],
];
for (const [kind, other, ref, theirs, conflicts] of RANKS)
  test(`${kind} ${JSON.stringify(ref)} against ${other} ${JSON.stringify(theirs)}`, () => {
    const parent = toWeb(ref);
    const found = conflictingRoute(route("one", { kind, parents: [parent] }), parent, [
      route("two", { kind: other, parents: [toWeb(theirs)] }),
    ]);
    assert.is(found !== undefined, conflicts);
  });

test("routes of another namespace, and broken ones, conflict with nobody", () => {
  const others = [
    route("far", { kind: "GRPCRoute", namespace: "voting" }),
    route("broken", { kind: "GRPCRoute", problem: "no" }),
  ];
  assert.is(conflictingRoute(route("one"), toWeb(), others), undefined);
});

test.run();
