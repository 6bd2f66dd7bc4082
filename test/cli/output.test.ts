// Tables, JSON and YAML on stdout.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { displayWidth, renderAs, renderTable } from "../../src/cli/output.ts";
import { startProgress } from "../../src/cli/progress.ts";
import { colorLevel } from "../../src/cli/style.ts";

const columns = [
  { header: "NAME", value: (row: { name: string; rps?: number }) => row.name },
  { header: "RPS", value: (row: { name: string; rps?: number }) => row.rps, align: "right" as const },
  { header: "NOTE", value: () => "x", wide: true },
];

test("a table pads columns, right-aligns numbers and shows - for what is absent", () => {
  const rows = [{ name: "web", rps: 10 }, { name: "emoji-store" }];
  assert.is(renderTable(columns, rows), "NAME          RPS\nweb            10\nemoji-store     -\n");
  assert.match(renderTable(columns, rows, { wide: true }), /NOTE\nweb +10 +x/);
});

test("colours and wide characters do not break the columns", () => {
  assert.is(displayWidth("\x1b[31mred\x1b[0m"), 3);
  assert.is(displayWidth("🍩 ok"), 5);
  assert.is(displayWidth("é"), 1);
});

test("json and yaml carry the data, other formats the table", async () => {
  assert.is(await renderAs("json", { a: 1 }, () => "t"), '{\n  "a": 1\n}\n');
  assert.is(await renderAs("yaml", { a: [1] }, () => "t"), "a:\n  - 1\n");
  assert.is(await renderAs("table", {}, () => "t"), "t");
});

test("colour is on for terminals only, unless NO_COLOR, TERM=dumb or FORCE_COLOR say otherwise", () => {
  const cases: [boolean, NodeJS.ProcessEnv, number][] = [
    [true, { TERM: "xterm" }, 1],
    [true, { TERM: "xterm-256color" }, 2],
    [true, { TERM: "xterm", COLORTERM: "truecolor" }, 3],
    [true, { TERM: "xterm", NO_COLOR: "1" }, 0],
    [true, { TERM: "dumb" }, 0],
    [false, { TERM: "xterm" }, 0],
    [false, { FORCE_COLOR: "1", NO_COLOR: "1" }, 1],
    [true, { FORCE_COLOR: "0" }, 0],
  ];
  for (const [isTTY, env, level] of cases) assert.is(colorLevel({ isTTY }, env), level, JSON.stringify(env));
});

test("progress draws on a terminal and keeps silent elsewhere", () => {
  for (const isTTY of [true, false]) {
    let written = "";
    const progress = startProgress("waiting", { isTTY, write: (text: string) => (written += text) });
    progress.stop();
    assert.is(written.includes("waiting"), isTTY && process.env["TERM"] !== "dumb");
  }
});

test.run();
