// How answers are written: tables in kubectl's style, JSON, YAML. Data goes to stdout, talk to stderr.
import { plain } from "./style.ts";

export type OutputFormat = "table" | "wide" | "json" | "yaml" | "short" | "name" | "pem";

export interface Column<Row> {
  readonly header: string;
  /** Nothing at all is shown as `-`. */
  readonly value: (row: Row) => string | number | null | undefined;
  /** Numbers line up on the right. Default left. */
  readonly align?: "left" | "right";
  /** Shown only with `-o wide`. */
  readonly wide?: boolean;
  /** Colours the finished cell. */
  readonly paint?: (text: string, row: Row) => string;
}

const GAP = "   ";

/** What stands for a value that does not exist. */
export const ABSENT = "-";

/**
 * Rows under upper-case headers, columns three spaces apart and as wide as their widest cell; no trailing
 * blanks. Ends with a newline.
 */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: { wide?: boolean; headers?: boolean } = {},
): string {
  const shown = columns.filter((column) => options.wide || !column.wide);
  const cells = rows.map((row) => shown.map((column) => String(column.value(row) ?? ABSENT)));
  const head = options.headers === false ? [] : [shown.map((column) => column.header)];
  const widths = shown.map((_, i) =>
    [...head, ...cells].reduce((widest, line) => Math.max(widest, displayWidth(line[i]!)), 0),
  );
  const line = (texts: readonly string[], row: Row | undefined) =>
    texts
      .map((text, i) => {
        const column = shown[i]!;
        const blank = " ".repeat(widths[i]! - displayWidth(text));
        const painted = row !== undefined && column.paint ? column.paint(text, row) : text;
        return column.align === "right" ? blank + painted : painted + blank;
      })
      .join(GAP)
      .replace(/\s+$/, "");
  const lines = [
    ...head.map((texts) => line(texts, undefined)),
    ...cells.map((texts, i) => line(texts, rows[i])),
  ];
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Columns of a terminal that a text takes: wide East Asian characters and emoji count two. */
export function displayWidth(text: string): number {
  const bare = plain(text);
  // Nearly all cells are ASCII.
  if (/^[\x20-\x7e]*$/.test(bare)) return bare.length;
  let width = 0;
  for (const character of bare) {
    const code = character.codePointAt(0)!;
    if (code === 0x200d || (code >= 0xfe00 && code <= 0xfe0f) || /\p{Mn}/u.test(character)) continue;
    width += isWide(code) ? 2 : 1;
  }
  return width;
}

function isWide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0x1f300 && code <= 0x1faff)
  );
}

export function renderJson(data: unknown): string {
  return `${JSON.stringify(data, undefined, 2)}\n`;
}

/** YAML of one document, or of several separated by `---`. Loads the YAML library at first use. */
export async function renderYaml(...documents: readonly unknown[]): Promise<string> {
  const { stringify } = await import("../util/yaml.ts");
  return documents
    .map((data) => stringify(data, { lineWidth: 0, aliasDuplicateObjects: false }))
    .join("---\n");
}

/** `data` as JSON or YAML, or whatever `table` draws for any other format. */
export async function renderAs(
  format: OutputFormat,
  data: unknown,
  table: () => string | Promise<string>,
): Promise<string> {
  if (format === "json") return renderJson(data);
  if (format === "yaml") return renderYaml(data);
  return table();
}
