// The bench's charts: well-formed, legible in both schemes, to scale.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { drawBars, drawLines } from "../../bench/chart.ts";
import { drawCharts } from "../../bench/charts.ts";

const test = suite("bench charts");

/** Every element closed, in order. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  for (const [, closing, name, selfClosing] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
    if (closing) assert.is(open.pop(), name);
    else if (!selfClosing) open.push(name!);
  }
  assert.equal(open, []);
  assert.match(svg, /prefers-color-scheme: dark/);
  assert.not.match(svg, /NaN|Infinity|undefined/);
}

test("bars are as long as their values, within their group", () => {
  const svg = drawBars({
    title: "a < b & c",
    digits: 1,
    groups: [
      {
        name: "g",
        bars: [
          { label: "one", kind: "haproxy", value: 10 },
          { label: "two", kind: "ours", value: 5 },
        ],
      },
      { name: "h", bars: [{ label: "three", kind: "ours", value: 0.1 }] },
    ],
  });
  assertWellFormed(svg);
  assert.match(svg, /a &lt; b &amp; c/);
  const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map((match) => Number(match[1]));
  assert.is(widths[0], 2 * widths[1]!);
  assert.is(widths[2], widths[0]);
});

test("lines leave gaps where nothing was measured, and need no value at all", () => {
  const svg = drawLines({
    title: "t",
    ticks: ["a", "b", "c"],
    digits: 2,
    lines: [
      { label: "with a gap", kind: "ours", values: [1, null, 100] },
      { label: "empty", kind: "direct", values: [null, null, null] },
    ],
  });
  assertWellFormed(svg);
  assert.is(svg.match(/<polyline/g)?.length, 1);
  assertWellFormed(drawLines({ title: "t", ticks: [], digits: 0, lines: [] }));
});

test("results are drawn as far as they go", () => {
  const machine = { kernel: "", cpu: "", cores: 2, node: "", mesh: "", tools: {} };
  assert.equal(drawCharts({ machine, sections: {} }), {});
  const charts = drawCharts({
    machine,
    sections: {
      http1: {
        title: "HTTP/1",
        measuredAt: "2026-11-20T10:00:00.000Z",
        ...{ seconds: 4, rounds: 3, quick: false, verdicts: [], failures: [] },
        tables: [
          {
            columns: [{ head: "requests/s" }, { head: "CPU µs/request" }],
            rows: [
              { name: "no proxy", cells: [9, null] },
              { name: "HAProxy", cells: [5, 10.8] },
              { name: "kubectl-mesh outbound", cells: [4, 12.4] },
            ],
          },
        ],
      },
      memory: {
        title: "Memory",
        measuredAt: "2026-11-20T10:00:00.000Z",
        ...{ seconds: 4, rounds: 3, quick: false, verdicts: [], failures: [] },
        tables: [
          {
            columns: [
              { head: "idle MB" },
              { head: "60 s after" },
              { head: "most RSS" },
              { head: "idle CPU" },
            ],
            rows: [{ name: "kubectl-mesh pair", cells: [17.2, 18.1, 64, 0.1] }],
          },
        ],
      },
    },
  });
  assert.equal(Object.keys(charts), ["benchmarks.svg", "benchmarks-memory.svg"]);
  assert.equal(charts["benchmarks-memory.svg"]!.svg.match(/class="group">[^<]*/g), [
    'class="group">idle',
    'class="group">60 s after',
  ]);
  assert.match(charts["benchmarks.svg"]!.svg, /class="ours"[^>]*\/>\n<text[^>]*>12\.4/);
  assert.not.match(charts["benchmarks.svg"]!.svg, /no proxy/);
});

test.run();
