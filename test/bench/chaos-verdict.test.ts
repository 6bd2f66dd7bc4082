// The verdict on a chaos run: what makes it fail, and what it tells of a failure.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ChaosReport, conclude, growth } from "../../bench/chaos/verdict.ts";

const test = suite("chaos verdict");

const AT = Date.UTC(2026, 0, 1, 12);
const well: ChaosReport = {
  seconds: 60,
  seed: 7,
  replicas: 2,
  busy: 2,
  cores: 2,
  sums: { web: { sent: 10, ok: 10, failed: 0 } },
  percentiles: { web: { p50: 1, p99: 2, p999: 3, max: 4 } },
  failures: [],
  events: [{ at: AT, until: AT + 100, event: "kill", target: "mesh-identity-1" }],
  problems: [],
  memory: [],
  restarts: 1,
  leaders: { writer: 1 },
};
const rss = (...values: number[]) => ({
  program: "destination",
  samples: values.map((value, index) => ({ at: index * 1_000, rss: value })),
});

test("a run in which no request failed and nothing is amiss is well", () => {
  const { lines, well: verdict } = conclude(well);
  assert.ok(verdict, lines.join("\n"));
  assert.match(lines[1]!, /1 × kill/);
});

const cases: [string, Partial<ChaosReport>, RegExp][] = [
  [
    "a failed request, told with the event before it",
    { failures: [{ kind: "web", id: 4, at: AT + 2_000, took: 50, outcome: "502 MESH-401" }] },
    /502 MESH-401\n {4}2\.0 s after kill of mesh-identity-1/,
  ],
  [
    "endpoints that are not the cluster's",
    { problems: ["client reaches a, the cluster has a,b"] },
    /has a,b/,
  ],
  ["memory that grows", { memory: [rss(60, 61, 90, 120, 150, 180)] }, /GROWS/],
  ["a run without a request", { sums: {} }, /FAILED/],
];
for (const [what, change, told] of cases) {
  test(`what fails a run: ${what}`, () => {
    const { lines, well: verdict } = conclude({ ...well, ...change });
    assert.not(verdict);
    assert.match(lines.join("\n"), told);
  });
}

test("memory that comes and goes does not grow", () => {
  assert.equal(growth(rss(60, 75, 62, 74, 61, 76)), { first: 75, last: 76, peak: 76, grows: false });
});

test.run();
