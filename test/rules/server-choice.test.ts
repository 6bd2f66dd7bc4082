// Which Server speaks for a port.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ServerRecord, Workload } from "../../src/rules/policy-records.ts";
import { chooseServer, mayOverlap, portsOf } from "../../src/rules/server-choice.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("server choice");

const server = (name: string, change: Partial<ServerRecord> = {}): ServerRecord => ({
  namespace: "emoji",
  name,
  created: 10,
  labels: {},
  podSelector: {},
  externalWorkloadSelector: undefined,
  port: 8080,
  protocol: "unknown",
  accessPolicy: "deny",
  ...change,
});

const pod: Workload = {
  kind: "Pod",
  namespace: "emoji",
  name: "web-1",
  labels: { app: "web", tier: "front" },
  ports: [
    { name: "http", port: 8080 },
    { name: "admin", port: 9090 },
    { name: "http", port: 8081 },
  ],
};
const machine: Workload = { ...pod, kind: "ExternalWorkload", name: "vm-1" };

const CASES: [string, Partial<ServerRecord>, Workload, number, boolean][] = [
  ["an empty selector takes all pods", {}, pod, 8080, true],
  ["another port", {}, pod, 9090, false],
  ["labels that match", { podSelector: { matchLabels: { app: "web" } } }, pod, 8080, true],
  ["labels that differ", { podSelector: { matchLabels: { app: "api" } } }, pod, 8080, false],
  [
    "an expression",
    { podSelector: { matchExpressions: [{ key: "tier", operator: "In", values: ["front"] }] } },
    pod,
    8080,
    true,
  ],
  [
    "an expression that excludes",
    { podSelector: { matchExpressions: [{ key: "tier", operator: "DoesNotExist" }] } },
    pod,
    8080,
    false,
  ],
  ["a port by name", { port: "admin" }, pod, 9090, true],
  ["a name of two ports means both", { port: "http" }, pod, 8081, true],
  ["a name that no port has", { port: "metrics" }, pod, 9090, false],
  ["a number written as text", { port: "8080" }, pod, 8080, true],
  ["another namespace", { namespace: "voting" }, pod, 8080, false],
  ["pods are no external workloads", {}, machine, 8080, false],
  ["external workloads", { podSelector: undefined, externalWorkloadSelector: {} }, machine, 8080, true],
  [
    "external workloads are no pods",
    { podSelector: undefined, externalWorkloadSelector: {} },
    pod,
    8080,
    false,
  ],
];
for (const [text, change, workload, port, expected] of CASES)
  test(text, () => {
    const trace = new Trace();
    const chosen = chooseServer([server("one", change)], workload, port, trace);
    assert.is(chosen !== undefined, expected);
    assert.is(trace.steps.at(-1)!.matched, expected);
    assert.ok(trace.steps.at(-1)!.why.length > 0);
  });

test("of two that select one port the older one speaks, whatever the order of looking; then the first by name", () => {
  const older = server("z", { created: 1 });
  const twins = [server("b"), server("a")];
  for (const servers of [
    [older, ...twins],
    [...twins, older],
  ]) {
    const trace = new Trace();
    assert.is(chooseServer(servers, pod, 8080, trace)!.name, "z");
    assert.equal(
      trace.steps.map(({ rule, matched }) => `${rule} ${matched}`),
      ["Server emoji/z true", "Server emoji/a false", "Server emoji/b false"],
    );
  }
  assert.is(chooseServer(twins, pod, 8080)!.name, "a");
});

test("Servers that select one port of whatever workload may overlap", () => {
  const selectors = [
    undefined,
    {},
    { matchLabels: { app: "web" } },
    { matchLabels: { app: "web", tier: "front" } },
    { matchLabels: { tier: "front" } },
    { matchExpressions: [{ key: "tier", operator: "Exists" }] },
  ];
  const ports = [8080, "8080", "http", "admin"];
  const servers = [undefined, ...selectors].flatMap((podSelector, index) =>
    ports.map((port) =>
      server("one", { podSelector, externalWorkloadSelector: selectors.at(-1 - (index % 6)), port }),
    ),
  );
  for (const a of servers)
    for (const b of servers)
      for (const workload of [pod, machine])
        for (const port of [8080, 8081, 9090])
          if ([a, b].every((each) => chooseServer([each], workload, port)))
            assert.ok(mayOverlap(a, b), JSON.stringify([a, b]));
});

const APART: [string, Partial<ServerRecord>][] = [
  ["another value of one label", { podSelector: { matchLabels: { tier: "x", app: "api" } } }],
  ["another number of the port", { port: "8081" }],
  ["another kind of workload", { podSelector: undefined, externalWorkloadSelector: {} }],
  ["another namespace", { namespace: "voting" }],
];
for (const [text, change] of APART)
  test(`Servers do not overlap: ${text}`, () => {
    const web = server("web", { podSelector: { matchLabels: { app: "web" } } });
    assert.not(mayOverlap(web, server("other", change)));
    assert.not(mayOverlap(server("other", change), web));
    assert.ok(mayOverlap(web, server("other", { podSelector: { matchLabels: { tier: "x" } } })));
  });

test("the ports that a Server means", () => {
  assert.equal(portsOf(server("one", { port: "http" }), pod), [8080, 8081]);
  assert.equal(portsOf(server("one", { port: 1234 }), pod), [1234]);
});

test.run();
