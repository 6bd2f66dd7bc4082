// Sets of TCP ports as annotations write them: `25,587,4000-4010`.

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Ranges of a comma list of ports and a-b ranges, sorted and merged. Empty text is the empty set.
 * @throws RangeError naming the offending item.
 */
export function parsePortSet(text: string): PortRange[] {
  const ranges: PortRange[] = [];
  for (const raw of text.split(",")) {
    const item = raw.trim();
    if (item === "") continue;
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(item);
    const from = Number(match?.[1]);
    const to = match?.[2] === undefined ? from : Number(match[2]);
    if (!match || from < 1 || to > 65_535 || from > to) {
      throw new RangeError(`expected a port 1-65535 or a range a-b, got ${JSON.stringify(item)}`);
    }
    ranges.push({ from, to });
  }
  return mergePorts(ranges);
}

/** Sorted, with touching ranges joined. */
export function mergePorts(ranges: readonly PortRange[]): PortRange[] {
  const sorted = [...ranges].sort((a, b) => a.from - b.from || a.to - b.to);
  const out: PortRange[] = [];
  for (const range of sorted) {
    const last = out.at(-1);
    if (last && range.from <= last.to + 1)
      out[out.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    else out.push(range);
  }
  return out;
}

export function portSetHas(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some((range) => port >= range.from && port <= range.to);
}

export function formatPortSet(ranges: readonly PortRange[]): string {
  return ranges.map((r) => (r.from === r.to ? `${r.from}` : `${r.from}-${r.to}`)).join(",");
}
