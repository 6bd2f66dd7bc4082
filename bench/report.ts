// Results as data, and as the markdown of docs/benchmarks.md.
import type { Machine } from "./machine.ts";

export type Cell = number | string | null;

export interface Column {
  readonly head: string;
  /** Digits behind the point; 0 by default. */
  readonly digits?: number;
  /** Behind the number: `×`, ` %`. */
  readonly suffix?: string;
}

export interface TableRow {
  readonly name: string;
  /** null: nothing to tell. Fewer than there are columns leave the last ones empty. */
  readonly cells: readonly Cell[];
}

export interface Table {
  readonly caption?: string;
  readonly columns: readonly Column[];
  readonly rows: readonly TableRow[];
}

/** A target of PERFORMANCE and what came of it. */
export interface Verdict {
  readonly work: string;
  readonly sense: "at most" | "at least";
  readonly limit: number;
  /** null: it could not be measured. */
  readonly value: number | null;
  /** Behind both numbers: `× HAProxy`, ` MB`. */
  readonly unit: string;
}

/** What one row of the bench brought. */
export interface RowResult {
  readonly tables: readonly Table[];
  readonly verdicts: readonly Verdict[];
  /** What could not be measured, failed on the way, or was disturbed, and why. */
  readonly failures: readonly string[];
  /** How to read it. */
  readonly notes?: readonly string[];
}

export interface Section extends RowResult {
  readonly title: string;
  /** ISO time. */
  readonly measuredAt: string;
  readonly seconds: number;
  readonly rounds: number;
  /** A trial with short waits, which proves nothing. */
  readonly quick: boolean;
}

export interface Results {
  readonly machine: Machine;
  /** By the row's name. */
  readonly sections: Readonly<Record<string, Section>>;
}

export const isMet = ({ sense, limit, value }: Verdict): boolean =>
  value !== null && (sense === "at most" ? value <= limit : value >= limit);

/** @param order of the sections, by name; those without results are left out */
export function renderResults({ machine, sections }: Results, order: readonly string[]): string {
  const present = order.flatMap((id) => (sections[id] ? [sections[id]] : []));
  const verdicts = present.flatMap((section) => section.verdicts);
  return [
    renderMachine(machine),
    ...(verdicts.length > 0 ? ["### Targets", renderVerdicts(verdicts)] : []),
    ...present.map(renderSection),
  ].join("\n\n");
}

function renderMachine({ kernel, cpu, cores, node, mesh, tools }: Machine): string {
  const peers = Object.entries(tools).map(([tool, version]) => `${tool} ${version}`);
  return `kubectl-mesh ${mesh} on Node ${node}; Linux ${kernel}, ${cores} cores (${cpu}); ${peers.join(", ")}.`;
}

export function renderVerdicts(verdicts: readonly Verdict[]): string {
  return renderTable({
    columns: [{ head: "target" }, { head: "measured" }, { head: "" }],
    rows: verdicts.map((verdict) => {
      const { work, sense, limit, value, unit } = verdict;
      const measured = value === null ? "not measured" : `${significant(value)}${unit}`;
      return {
        name: work,
        cells: [
          `${sense === "at most" ? "≤" : "≥"} ${limit}${unit}`,
          measured,
          isMet(verdict) ? "met" : "**missed**",
        ],
      };
    }),
  });
}

export function renderSection(section: Section): string {
  const { title, tables, failures, notes = [], measuredAt, seconds, rounds, quick } = section;
  const how = `${measuredAt.slice(0, 10)}, ${rounds} ${rounds === 1 ? "round" : "rounds"} of ${seconds} s${quick ? "; a quick trial" : ""}.`;
  return [
    `### ${title}`,
    [...notes, how].join(" "),
    ...tables.map((table) =>
      table.caption ? `${table.caption}:\n\n${renderTable(table)}` : renderTable(table),
    ),
    ...(failures.length > 0 ? [failures.map((failure) => `- ${failure}`).join("\n")] : []),
  ].join("\n\n");
}

export function renderTable({ columns, rows }: Table): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [
    line(["", ...columns.map(({ head }) => head)]),
    `|---|${columns.map(() => "--:|").join("")}`,
    ...rows.map(({ name, cells }) =>
      line([name, ...columns.map((column, at) => renderCell(cells[at] ?? null, column))]),
    ),
  ].join("\n");
}

function renderCell(cell: Cell, { digits = 0, suffix = "" }: Column): string {
  if (cell === null) return "";
  if (typeof cell === "string") return cell;
  return `${cell.toFixed(digits)}${suffix}`;
}

/** Three significant digits, without an exponent. */
function significant(value: number): string {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 4));
}

const BEGIN = "<!-- bench:begin -->";
const END = "<!-- bench:end -->";

/**
 * The text with everything between the two markers replaced.
 * @throws Error when it does not have both, in order
 */
export function replaceBetweenMarkers(text: string, generated: string): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`expected ${BEGIN} and ${END} behind it`);
  return `${text.slice(0, begin + BEGIN.length)}\n\n${generated}\n\n${text.slice(end)}`;
}
