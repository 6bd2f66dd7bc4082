// What `top` looks like: a title, the table, the edges of the selected row, the keys. Pure: state and size in,
// picture out; works from 60x10 up.
import { Box, Text } from "ink";
import type { EdgeRow, RequestStats, StatRow, TcpStats } from "../api/stat.ts";
import { sparkline } from "./sparkline.ts";
import { rowKey, type Sort, shownEdges, shownRows, type TopState } from "./top-store.ts";

export interface TopViewProps {
  readonly state: TopState;
  readonly columns: number;
  readonly rows: number;
  /** What is looked at, e.g. `deploy in demo`. */
  readonly title: string;
  /** Rows of more than one namespace are shown. */
  readonly namespaces: boolean;
}

interface Cell {
  readonly header: string;
  readonly sort?: Sort;
  readonly width: number;
  readonly text: (requests: RequestStats | null, tcp: TcpStats | null) => string;
}

const milliseconds = (value: number | null | undefined) => (value == null ? "-" : `${Math.round(value)}ms`);

const CELLS: readonly Cell[] = [
  {
    header: "SUCCESS",
    sort: "success",
    width: 8,
    text: (requests) => (requests ? `${(requests.successRate * 100).toFixed(2)}%` : "-"),
  },
  { header: "RPS", sort: "rps", width: 7, text: (requests) => (requests ? requests.rps.toFixed(1) : "-") },
  { header: "P50", width: 7, text: (requests) => milliseconds(requests?.p50) },
  { header: "P95", width: 7, text: (requests) => milliseconds(requests?.p95) },
  { header: "P99", sort: "p99", width: 7, text: (requests) => milliseconds(requests?.p99) },
  { header: "TCP", sort: "tcp", width: 5, text: (_, tcp) => (tcp ? String(tcp.openConnections) : "-") },
];
const CELLS_WIDTH = CELLS.reduce((sum, cell) => sum + cell.width + 1, 0);
const MESHED_WIDTH = 7;
/** Edges of the selected row that are shown at most. */
const MAX_EDGES = 6;
const MIN_NAME = 12;
const MAX_SPARK = 40;

const nameOf = (row: StatRow, namespaces: boolean) => (namespaces ? rowKey(row) : row.name);
const edgeName = (edge: EdgeRow) => `${edge.from.name} → ${edge.to.name}`;

export function TopView({ state, columns, rows, title, namespaces }: TopViewProps) {
  const all = shownRows(state);
  const edges = shownEdges(state);
  const edgeLines = edges.length === 0 ? 0 : Math.min(edges.length, MAX_EDGES, Math.max(0, rows - 8));
  // Title, blank, header and keys take four lines; the edges one more for their heading and one for a blank.
  const room = Math.max(1, rows - 4 - (edgeLines > 0 ? edgeLines + 2 : 0));
  const at = Math.max(
    0,
    all.findIndex((row) => rowKey(row) === state.selected),
  );
  const first = Math.max(0, Math.min(at - Math.floor(room / 2), all.length - room));
  const shown = all.slice(first, first + room);
  const names = [...shown.map((row) => nameOf(row, namespaces)), ...edges.slice(0, edgeLines).map(edgeName)];
  const longest = Math.max(MIN_NAME, ...names.map((text) => text.length));
  // Names get what they need, then the sparkline what is left.
  const free = columns - 2 - MESHED_WIDTH - CELLS_WIDTH;
  const spark = Math.max(0, Math.min(MAX_SPARK, free - longest - 1));
  const name = Math.max(0, Math.min(free, longest));
  return (
    <Box flexDirection="column" width={columns} height={rows}>
      <Title state={state} title={title} count={all.length} />
      <Text> </Text>
      <Text bold wrap="truncate">
        {`  ${cut("NAME", name)}${"MESHED".padStart(MESHED_WIDTH)}`}
        {CELLS.map((cell) => {
          const mark = cell.sort === state.sort ? "▾" : "";
          return ` ${(cell.header + mark).padStart(cell.width)}`;
        }).join("")}
        {spark > 0 ? ` ${"RPS, LAST MINUTES".slice(0, spark).padEnd(spark)}` : ""}
      </Text>
      {shown.map((row) => (
        <Row
          key={rowKey(row)}
          row={row}
          name={nameOf(row, namespaces)}
          nameWidth={name}
          selected={rowKey(row) === state.selected}
          spark={spark > 0 ? sparkline(state.history.get(rowKey(row)) ?? [], spark) : ""}
        />
      ))}
      {all.length === 0 ? <Text dimColor>{`  ${emptyText(state)}`}</Text> : null}
      <Box flexGrow={1} />
      {edgeLines > 0 ? <Edges edges={edges.slice(0, edgeLines)} state={state} width={name} /> : null}
      <Keys state={state} />
    </Box>
  );
}

function emptyText(state: TopState): string {
  if (!state.loaded) return "waiting for the first numbers…";
  return state.filter === "" ? "no workloads here" : `nothing matches "${state.filter}"`;
}

function Title({ state, title, count }: { state: TopState; title: string; count: number }) {
  return (
    <Text wrap="truncate">
      <Text bold color="cyan">
        kubectl mesh top
      </Text>
      {`  ${title}  ${count} shown`}
      {state.filter !== "" && !state.typing ? `  filter: ${state.filter}` : ""}
      {state.paused ? <Text color="yellow"> paused</Text> : null}
      {state.error === undefined ? null : <Text color="red">{`  ${state.error}`}</Text>}
    </Text>
  );
}

function Row(props: { row: StatRow; name: string; nameWidth: number; selected: boolean; spark: string }) {
  const { row, name, nameWidth, selected, spark } = props;
  const meshed = row.pods ? `${row.pods.meshed}/${row.pods.total}` : "-";
  return (
    <Text wrap="truncate" inverse={selected}>
      {`${selected ? "▸" : " "} ${cut(name, nameWidth)}${meshed.padStart(MESHED_WIDTH)}`}
      <Numbers requests={row.requests} tcp={row.tcp} />
      {spark === "" ? null : <Text color="cyan">{` ${spark}`}</Text>}
    </Text>
  );
}

function Numbers({ requests, tcp }: { requests: RequestStats | null; tcp: TcpStats | null }) {
  return CELLS.map((cell) => {
    const text = ` ${cell.text(requests, tcp).padStart(cell.width)}`;
    const colour = cell.header === "SUCCESS" && requests ? successColour(requests.successRate) : undefined;
    return colour ? (
      <Text key={cell.header} color={colour}>
        {text}
      </Text>
    ) : (
      text
    );
  });
}

function successColour(rate: number): string {
  if (rate >= 0.99) return "green";
  return rate >= 0.9 ? "yellow" : "red";
}

function Edges({ edges, state, width }: { edges: readonly EdgeRow[]; state: TopState; width: number }) {
  return (
    <Box flexDirection="column">
      <Text bold wrap="truncate">{`  TRAFFIC OF ${state.selected?.split("/")[1] ?? ""}`}</Text>
      {edges.map((edge) => {
        const secured = (edge.requests ?? edge.tcp)?.secured === 1;
        return (
          <Text key={`${rowKey(edge.from)}>${rowKey(edge.to)}`} wrap="truncate">
            {`  ${cut(edgeName(edge), width)}${(secured ? "mTLS" : "").padStart(MESHED_WIDTH)}`}
            <Numbers requests={edge.requests} tcp={edge.tcp} />
          </Text>
        );
      })}
      <Text> </Text>
    </Box>
  );
}

function Keys({ state }: { state: TopState }) {
  if (state.typing) {
    return (
      <Text wrap="truncate">
        {`/${state.filter}█`}
        <Text dimColor> enter keep · esc clear</Text>
      </Text>
    );
  }
  return (
    <Text dimColor wrap="truncate">
      {`q quit · ↑↓ select · s sort (${state.sort}) · / filter · p ${state.paused ? "go on" : "pause"}`}
    </Text>
  );
}

function cut(text: string, width: number): string {
  if (width <= 1) return "";
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);
}
