// Charts as SVG text. Colours follow the reader's scheme, light or dark, by a media query inside the picture.

/** Who a bar or line is: decides its colour. */
export type Kind = "haproxy" | "nginx" | "naive" | "ours" | "direct";

export interface Bar {
  readonly label: string;
  readonly kind: Kind;
  readonly value: number;
}

export interface BarGroup {
  readonly name: string;
  readonly bars: readonly Bar[];
}

export interface BarChart {
  readonly title: string;
  readonly groups: readonly BarGroup[];
  /** Of the numbers behind the bars. */
  readonly digits: number;
}

export interface Line {
  readonly label: string;
  readonly kind: Kind;
  /** To tell two of a kind apart. */
  readonly dashed?: boolean;
  /** One for each tick; null leaves a gap. */
  readonly values: readonly (number | null)[];
}

export interface LineChart {
  readonly title: string;
  /** Names below the x axis, evenly spaced. */
  readonly ticks: readonly string[];
  readonly lines: readonly Line[];
  readonly digits: number;
}

const WIDTH = 760;
const LABELS = 230;
const VALUES = 70;
const BAR = 16;
const GAP = 5;

const STYLE = `<style>
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  .faint { fill: #57606a; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .haproxy { fill: #8c959f; stroke: #8c959f; }
  .nginx { fill: #b7bdc4; stroke: #b7bdc4; }
  .naive { fill: #d4a72c; stroke: #d4a72c; }
  .ours { fill: #0969da; stroke: #0969da; }
  .direct { fill: #1a7f37; stroke: #1a7f37; }
  .line { fill: none; stroke-width: 2; }
  .dashed { stroke-dasharray: 6 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .faint { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .nginx { fill: #656c76; stroke: #656c76; }
    .ours { fill: #4493f8; stroke: #4493f8; }
    .direct { fill: #3fb950; stroke: #3fb950; }
  }
</style>`;

/** Horizontal bars in groups; each group has a scale of its own, since only its bars are to be compared. */
export function drawBars({ title, groups, digits }: BarChart): string {
  const parts: string[] = [text(0, 18, title, "title")];
  let y = 44;
  for (const { name, bars } of groups) {
    parts.push(text(0, y, name, "group"));
    y += 10;
    const most = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
    for (const { label, kind, value } of bars) {
      const width = (value / most) * (WIDTH - LABELS - VALUES);
      parts.push(
        text(LABELS - 8, y + BAR - 4, label, undefined, "end"),
        `<rect class="${kind}" x="${LABELS}" y="${y}" width="${round(width)}" height="${BAR}"/>`,
        text(LABELS + width + 6, y + BAR - 4, value.toFixed(digits), "faint"),
      );
      y += BAR + GAP;
    }
    y += 20;
  }
  return svg(y - 10, title, parts);
}

const HEIGHT = 260;
const TOP = 40;
const LEFT = 60;
const RIGHT = 250;

/** Lines over named ticks, on a logarithmic scale: what differs tenfold shows as well as what differs by half. */
export function drawLines({ title, ticks, lines, digits }: LineChart): string {
  const values = lines.flatMap((line) =>
    line.values.filter((value) => value !== null && value > 0),
  ) as number[];
  const low = Math.floor(Math.log10(Math.min(...values, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 1))));
  const x = (index: number) => LEFT + (index * (WIDTH - LEFT - RIGHT)) / Math.max(1, ticks.length - 1);
  const y = (value: number) => TOP + (HEIGHT - TOP) * (1 - (Math.log10(value) - low) / (high - low));
  const parts: string[] = [text(0, 18, title, "title")];
  for (let power = low; power <= high; power += 1) {
    const at = y(10 ** power);
    parts.push(
      `<line class="grid" x1="${LEFT}" y1="${round(at)}" x2="${WIDTH - RIGHT}" y2="${round(at)}"/>`,
      text(LEFT - 8, at + 4, (10 ** power).toLocaleString("en"), "faint", "end"),
    );
  }
  for (const [index, tick] of ticks.entries())
    parts.push(text(x(index), HEIGHT + 20, tick, "faint", "middle"));
  const ends = spreadOut(lines.map((line) => y(last(line.values) ?? 10 ** low)));
  for (const [index, { label, kind, dashed, values: points }] of lines.entries()) {
    const path = points.flatMap((value, at) =>
      value === null || value <= 0 ? [] : [`${round(x(at))},${round(y(value))}`],
    );
    if (path.length === 0) continue;
    parts.push(`<polyline class="${kind} line${dashed ? " dashed" : ""}" points="${path.join(" ")}"/>`);
    parts.push(text(WIDTH - RIGHT + 8, ends[index]! + 4, `${label} ${last(points)!.toFixed(digits)}`));
  }
  return svg(HEIGHT + 32, title, parts);
}

/** Moves labels apart that would lie on each other, keeping their order. */
function spreadOut(positions: readonly number[]): number[] {
  const LEAST = 16;
  const order = positions
    .map((position, index) => ({ position, index }))
    .sort((a, b) => a.position - b.position);
  const out = [...positions];
  let lowest = Number.NEGATIVE_INFINITY;
  for (const { position, index } of order) {
    lowest = Math.max(position, lowest + LEAST);
    out[index] = lowest;
  }
  return out;
}

const last = (values: readonly (number | null)[]): number | undefined =>
  values.findLast((value): value is number => value !== null && value > 0);

const round = (value: number): number => Math.round(value * 10) / 10;

function text(x: number, y: number, content: string, style?: string, anchor?: "middle" | "end"): string {
  const attributes = `${style ? ` class="${style}"` : ""}${anchor ? ` text-anchor="${anchor}"` : ""}`;
  return `<text x="${round(x)}" y="${round(y)}"${attributes}>${escapeXml(content)}</text>`;
}

const escapeXml = (content: string): string =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function svg(height: number, title: string, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escapeXml(title)}">\n${STYLE}\n${parts.join("\n")}\n</svg>\n`;
}
