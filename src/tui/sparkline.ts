// A row of block characters that shows how a number went.

const BLOCKS = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** The last `width` values, oldest first, scaled to the largest of them; blank where there is none yet. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const top = Math.max(...shown, 0);
  const bars = shown.map((value) =>
    value <= 0 || top === 0 ? BLOCKS[0]! : BLOCKS[Math.min(7, Math.floor((value / top) * 7.999))]!,
  );
  return bars.join("").padStart(width);
}
