// Which of the results are drawn, and how.
import { type BarGroup, drawBars, drawLines, type Kind } from "./chart.ts";
import type { Results, Section, Table } from "./report.ts";

export interface Picture {
  readonly title: string;
  readonly svg: string;
}

/** Tables whose CPU column is drawn: the section, the beginning of the caption, the name of the group. */
const COSTS: readonly { section: string; caption?: string; name: string }[] = [
  { section: "http1", name: "HTTP/1, one proxy" },
  { section: "http1-meshed", name: "HTTP/1, a pair with mTLS" },
  { section: "http2", caption: "One proxy", name: "HTTP/2, one proxy" },
  { section: "http2", caption: "A pair", name: "HTTP/2, a pair with mTLS" },
  { section: "grpc", caption: "unary, one proxy", name: "gRPC unary, one proxy" },
  { section: "grpc", caption: "unary, a pair", name: "gRPC unary, a pair with mTLS" },
  { section: "grpc", caption: "streaming, one proxy", name: "gRPC streaming, one proxy" },
  { section: "grpc", caption: "streaming, a pair", name: "gRPC streaming, a pair with mTLS" },
  { section: "tcp", caption: "One proxy, to", name: "TCP to the server, one proxy, a MB" },
  { section: "tcp", caption: "A pair with mTLS, to", name: "TCP to the server, a pair with mTLS, a MB" },
  { section: "tcp", caption: "One proxy, from", name: "TCP from the server, one proxy, a MB" },
  { section: "tcp", caption: "A pair with mTLS, from", name: "TCP from the server, a pair with mTLS, a MB" },
  { section: "handshakes", caption: "Accepted in full", name: "New mTLS connection, accepted in full" },
  { section: "handshakes", caption: "Accepted resumed", name: "New mTLS connection, accepted resumed" },
  { section: "handshakes", caption: "Between a pair", name: "New mTLS connection, a pair" },
];

/** The pictures that the results suffice for, by file name. */
export function drawCharts({ sections }: Results): Record<string, Picture> {
  const pictures: Record<string, Picture> = {};
  const groups = COSTS.flatMap(({ section, caption, name }): BarGroup[] => {
    const table = tableOf(sections[section], caption);
    const bars = table ? column(table, "CPU µs") : [];
    return bars.length > 0 ? [{ name, bars }] : [];
  });
  if (groups.length > 0) {
    const title = "CPU µs per request, message, MB or connection, and proxy: less is better";
    pictures["benchmarks.svg"] = { title, svg: drawBars({ title, groups, digits: 1 }) };
  }
  const memory = tableOf(sections["memory"]);
  if (memory) {
    const title = "Anonymous memory of a proxy, MB: less is better";
    // CPU and RSS stand in the same table.
    const heads = memory.columns.map(({ head }) => head).filter((head) => !/CPU|RSS/.test(head));
    const held = heads.map((head) => ({ name: head.replace(/ MB$/, ""), bars: column(memory, head) }));
    if (held.every(({ bars }) => bars.length > 0))
      pictures["benchmarks-memory.svg"] = { title, svg: drawBars({ title, groups: held, digits: 1 }) };
  }
  const latency = tableOf(sections["latency"], "1000 requests/s");
  if (latency) {
    const title = "Latency at 1,000 requests/s through a pair with mTLS, ms";
    const heads = ["p50", "p90", "p99", "p99.9"];
    const lines = linesOf(latency, heads);
    if (lines.length > 0)
      pictures["benchmarks-latency.svg"] = {
        title,
        svg: drawLines({ title, ticks: heads, lines, digits: 2 }),
      };
  }
  for (const [section, name, what] of [
    ["body-size", "benchmarks-body-size.svg", "size of the response's body"],
    ["connections", "benchmarks-connections.svg", "number of connections"],
  ] as const) {
    const table = tableOf(sections[section], "CPU");
    if (!table) continue;
    const title = `CPU µs per request and proxy, by ${what}`;
    const ticks = table.columns.map(({ head }) => head);
    const lines = linesOf(table, ticks).map((line) => ({ ...line, dashed: line.label.includes("pair") }));
    if (lines.length > 0) pictures[name] = { title, svg: drawLines({ title, ticks, lines, digits: 1 }) };
  }
  return pictures;
}

const tableOf = (section: Section | undefined, caption = ""): Table | undefined =>
  section?.tables.find((table) => (table.caption ?? "").startsWith(caption));

const indexOf = (table: Table, head: string): number =>
  table.columns.findIndex(
    (each) => each.head === head || each.head.startsWith(`${head} `) || each.head.startsWith(`${head}/`),
  );

/** A column's numbers as bars; rows without one are left out. */
function column(table: Table, head: string) {
  const at = indexOf(table, head);
  return table.rows.flatMap(({ name, cells }) => {
    const value = cells[at];
    return typeof value === "number" ? [{ label: name, kind: kindOf(name), value }] : [];
  });
}

/** Rows as lines over these columns; rows without a number are left out. */
function linesOf(table: Table, heads: readonly string[]) {
  return table.rows.flatMap(({ name, cells }) => {
    const values = heads.map((head) => {
      const value = cells[indexOf(table, head)];
      return typeof value === "number" ? value : null;
    });
    return values.some((value) => value !== null) ? [{ label: name, kind: kindOf(name), values }] : [];
  });
}

const KINDS: readonly [prefix: string, kind: Kind][] = [
  ["kubectl-mesh", "ours"],
  ["HAProxy", "haproxy"],
  ["nginx", "nginx"],
  ["node:http", "naive"],
];

const kindOf = (name: string): Kind => KINDS.find(([prefix]) => name.startsWith(prefix))?.[1] ?? "direct";
