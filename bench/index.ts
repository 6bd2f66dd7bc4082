// `npm run bench`: the proxy's whole table in one run, side by side with HAProxy and nginx.
//
//   npm run bench -- [--only ROW,…] [--seconds 3] [--rounds 3] [--quick] [--write] [--profile DIR] [--list]
//
// A whole run writes bench/results/latest.json, the tables of docs/benchmarks.md and its charts; a part only prints,
// unless --write is given: then it replaces its rows and leaves the others.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/util/package-root.ts";
import { drawCharts } from "./charts.ts";
import { Bench } from "./harness.ts";
import { describeMachine, installAdvice, type Machine, TOOL_NAMES } from "./machine.ts";
import { Mesh, PROXY_BUNDLE } from "./mesh.ts";
import { Progress } from "./progress.ts";
import {
  isMet,
  type Results,
  renderResults,
  renderSection,
  renderVerdicts,
  replaceBetweenMarkers,
  type Section,
} from "./report.ts";
import { bodySize } from "./rows/body-size.ts";
import { commandLine } from "./rows/command-line.ts";
import { connections } from "./rows/connections.ts";
import { grpc } from "./rows/grpc.ts";
import { handshakes } from "./rows/handshakes.ts";
import { http1 } from "./rows/http1.ts";
import { http1Meshed } from "./rows/http1-meshed.ts";
import { http2 } from "./rows/http2.ts";
import { latency } from "./rows/latency.ts";
import { memory } from "./rows/memory.ts";
import { memoryAfter } from "./rows/memory-after.ts";
import { tcp } from "./rows/tcp.ts";
import { type Row, Stage } from "./stage.ts";

const ROWS: readonly Row[] = [
  http1,
  http1Meshed,
  http2,
  grpc,
  tcp,
  handshakes,
  latency,
  memory,
  memoryAfter,
  bodySize,
  connections,
  commandLine,
];
const ORDER = ROWS.map(({ id }) => id);

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string" },
    rounds: { type: "string" },
    quick: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    profile: { type: "string" },
    list: { type: "boolean", default: false },
  },
});

/** A whole number above 0 from a flag. */
function count(name: "seconds" | "rounds", fallback: number): number {
  const value = Number(flags[name] ?? fallback);
  if (!Number.isInteger(value) || value < 1)
    fail(`--${name}: expected a whole number above 0, got ${flags[name]}`);
  return value;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function chosenRows(): Row[] {
  if (flags.only === undefined) return [...ROWS];
  const names = flags.only.split(",");
  const unknown = names.filter((name) => !ORDER.includes(name));
  if (unknown.length > 0) fail(`--only: no row ${unknown.join(", ")}; there are ${ORDER.join(", ")}`);
  return ROWS.filter(({ id }) => names.includes(id));
}

/** The rows whose tools are there; the others are named, with how to install what they lack. */
function possibleRows(rows: readonly Row[], { tools }: Machine): Row[] {
  const missing = TOOL_NAMES.filter((tool) => !(tool in tools));
  const possible = rows.filter(({ needs }) => !needs.some((tool) => missing.includes(tool)));
  const wanted = missing.filter(
    (tool) => tool === "taskset" || rows.some(({ needs }) => needs.includes(tool)),
  );
  const advice = installAdvice(wanted);
  if (advice) process.stderr.write(`${advice}\n`);
  if (wanted.includes("taskset")) fail("Without taskset nothing can be measured.");
  const left = rows.filter((row) => !possible.includes(row));
  if (left.length > 0) process.stderr.write(`Left out: ${left.map(({ id }) => id).join(", ")}\n`);
  return possible;
}

async function measure(rows: readonly Row[], progress: Progress): Promise<Record<string, Section>> {
  const options = {
    seconds: count("seconds", flags.quick ? 1 : 3),
    rounds: count("rounds", flags.quick ? 1 : 3),
    quick: flags.quick,
    profile: flags.profile,
  };
  const bench = await Bench.open(options, [PROXY_BUNDLE]);
  const sections: Record<string, Section> = {};
  try {
    const stage = new Stage(bench, await Mesh.open(bench), (message) => progress.say(message));
    for (const row of rows) {
      progress.begin(row.title);
      const { seconds, rounds, quick } = options;
      const facts = {
        title: row.title,
        measuredAt: new Date().toISOString(),
        ...{ seconds, rounds, quick },
      };
      const result = await row.measure(stage).catch((error: Error) => ({
        tables: [],
        verdicts: [],
        failures: [`the whole row: ${error.message}`],
      }));
      sections[row.id] = { ...facts, ...result };
      progress.end();
      process.stdout.write(`${renderSection(sections[row.id]!)}\n\n`);
    }
  } finally {
    progress.end();
    await bench.close();
  }
  return sections;
}

const RESULTS = join(packageRoot(), "bench/results/latest.json");
const DOCS = join(packageRoot(), "docs");

/** Results of before, as far as they are of this machine. */
function earlier(machine: Machine): Results["sections"] {
  if (!existsSync(RESULTS)) return {};
  const results = JSON.parse(readFileSync(RESULTS, "utf8")) as Results;
  return JSON.stringify(results.machine) === JSON.stringify(machine) ? results.sections : {};
}

function publish(results: Results): void {
  mkdirSync(join(RESULTS, ".."), { recursive: true });
  writeFileSync(RESULTS, `${JSON.stringify(results, roundNumbers, 1)}\n`);
  const file = join(DOCS, "benchmarks.md");
  const charts = drawCharts(results);
  for (const [name, { svg }] of Object.entries(charts)) writeFileSync(join(DOCS, name), svg);
  const pictures = Object.entries(charts).map(([name, { title }]) => `![${title}](${name})`);
  const tables = renderResults(results, ORDER);
  writeFileSync(file, replaceBetweenMarkers(readFileSync(file, "utf8"), [...pictures, tables].join("\n\n")));
}

/** Four digits behind the point are more than any figure here has. */
const roundNumbers = (_key: string, value: unknown) =>
  typeof value === "number" ? Math.round(value * 1e4) / 1e4 : value;

async function main(): Promise<void> {
  if (flags.list) {
    for (const { id, title, needs } of ROWS)
      process.stdout.write(`${id.padEnd(14)} ${title}${needs.length > 0 ? ` (${needs.join(", ")})` : ""}\n`);
    return;
  }
  const machine = describeMachine();
  const rows = possibleRows(chosenRows(), machine);
  if (rows.length === 0) fail("No row can be measured.");
  const sections = await measure(rows, new Progress(process.stderr));
  const verdicts = Object.values(sections).flatMap((section) => section.verdicts);
  if (verdicts.length > 0) process.stdout.write(`${renderVerdicts(verdicts)}\n`);
  process.stdout.write(`${verdicts.filter(isMet).length} of ${verdicts.length} targets met\n`);
  const whole = flags.only === undefined && !flags.quick;
  if (whole || flags.write)
    publish({ machine, sections: whole ? sections : { ...earlier(machine), ...sections } });
}

await main();
