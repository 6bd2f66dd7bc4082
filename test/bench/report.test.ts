// The bench's report: tables that markdown reads, verdicts by their sense, documents changed only between the markers.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  isMet,
  type Results,
  renderResults,
  renderTable,
  replaceBetweenMarkers,
  type Verdict,
} from "../../bench/report.ts";

const test = suite("bench report");

const verdict = (sense: Verdict["sense"], value: number | null): Verdict => ({
  work: "a pass",
  sense,
  limit: 1.6,
  value,
  unit: "× HAProxy",
});

test("a target is met on its side of the limit, and not when it was not measured", () => {
  assert.ok(isMet(verdict("at most", 1.6)));
  assert.not(isMet(verdict("at most", 1.61)));
  assert.ok(isMet(verdict("at least", 1.6)));
  assert.not(isMet(verdict("at least", 1.59)));
  assert.not(isMet(verdict("at most", null)));
});

test("numbers have the column's digits, what is missing stays empty, and bars in text do not break the table", () => {
  const table = renderTable({
    columns: [{ head: "a", digits: 1, suffix: "×" }, { head: "b" }, { head: "c" }],
    rows: [
      { name: "x|y", cells: [1.25, null, "text"] },
      { name: "z", cells: ["not measured"] },
    ],
  });
  assert.is(
    table,
    [
      "|  | a | b | c |",
      "|---|--:|--:|--:|",
      "| x\\|y | 1.3× |  | text |",
      "| z | not measured |  |  |",
    ].join("\n"),
  );
});

const RESULTS: Results = {
  machine: { kernel: "6.1", cpu: "a CPU", cores: 2, node: "20.19.0", mesh: "0.1.0", tools: { wrk: "4.1.0" } },
  sections: {
    second: section("Second", [verdict("at most", 2)]),
    first: section("First", [verdict("at most", 1.234)]),
  },
};

function section(title: string, verdicts: Verdict[]) {
  return {
    title,
    verdicts,
    measuredAt: "2026-11-20T10:00:00.000Z",
    ...{ seconds: 4, rounds: 3, quick: false, tables: [], failures: ["nginx: gone"] },
  };
}

test("sections come in their order, with targets first, misses marked and failures told", () => {
  const text = renderResults(RESULTS, ["first", "absent", "second"]);
  assert.match(text, /^kubectl-mesh 0\.1\.0 on Node 20\.19\.0; Linux 6\.1, 2 cores \(a CPU\); wrk 4\.1\.0\./);
  assert.match(text, /a pass \| ≤ 1\.6× HAProxy \| 1\.23× HAProxy \| met/);
  assert.match(text, /a pass \| ≤ 1\.6× HAProxy \| 2\.00× HAProxy \| \*\*missed\*\*/);
  assert.ok(text.indexOf("### First") < text.indexOf("### Second"));
  assert.match(text, /- nginx: gone/);
});

test("only what is between the markers changes", () => {
  const text = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n";
  assert.is(
    replaceBetweenMarkers(text, "new"),
    "before\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\nafter\n",
  );
  assert.is(
    replaceBetweenMarkers(replaceBetweenMarkers(text, "x"), "new"),
    replaceBetweenMarkers(text, "new"),
  );
});

test("a document without markers is refused", () => {
  assert.throws(() => replaceBetweenMarkers("text", "new"), /expected <!-- bench:begin -->/);
  assert.throws(() => replaceBetweenMarkers("<!-- bench:end --><!-- bench:begin -->", "new"), /expected/);
});

test.run();
