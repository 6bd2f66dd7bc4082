// Cron expressions of five fields (minute hour day month weekday), with names, ranges, lists, steps and @hourly & co.

const MACROS: Record<string, string> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: readonly {
  name: string;
  min: number;
  max: number;
  names?: readonly string[];
  base?: number;
}[] = [
  { name: "minute", min: 0, max: 59 },
  { name: "hour", min: 0, max: 23 },
  { name: "day of month", min: 1, max: 31 },
  { name: "month", min: 1, max: 12, names: MONTHS, base: 1 },
  { name: "day of week", min: 0, max: 7, names: DAYS, base: 0 },
];
const MINUTE = 60_000;
/** Longest search for a next time: a leap day may be eight years away. */
const HORIZON_DAYS = 366 * 9;

export interface CronSchedule {
  /** The first time strictly after `ms` (epoch, UTC) that matches; undefined when there is none (30 February). */
  next(ms: number): number | undefined;
}

/** @throws RangeError that names the field and what was expected. */
export function parseCron(text: string): CronSchedule {
  const source = MACROS[text.trim().toLowerCase()] ?? text.trim();
  const parts = source.split(/\s+/);
  if (parts.length !== 5)
    throw new RangeError(`expected 5 fields, got ${parts.length}: ${JSON.stringify(text)}`);
  const [minutes, hours, days, months, weekdays] = parts.map((part, i) => parseField(part, FIELDS[i]!)) as [
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
  ];
  if (weekdays.delete(7)) weekdays.add(0);
  const anyDay = /^[*?]/.test(parts[2]!);
  const anyWeekday = /^[*?]/.test(parts[4]!);
  const dayMatches = (date: Date) => {
    const day = days.has(date.getUTCDate());
    const weekday = weekdays.has(date.getUTCDay());
    // Where both are given, either is enough (cron's own rule).
    return anyDay || anyWeekday ? day && weekday : day || weekday;
  };
  return {
    next(ms) {
      const from = Math.floor(ms / MINUTE) * MINUTE + MINUTE;
      const date = new Date(from);
      for (let i = 0; i < HORIZON_DAYS; i++) {
        if (months.has(date.getUTCMonth() + 1) && dayMatches(date)) {
          const found = timeIn(date, hours, minutes);
          if (found !== undefined) return found;
        }
        date.setUTCHours(0, 0, 0, 0);
        date.setUTCDate(date.getUTCDate() + 1);
      }
      return undefined;
    },
  };
}

/** The first matching time of `date`'s day that is not before it. */
function timeIn(date: Date, hours: Set<number>, minutes: Set<number>): number | undefined {
  const first = date.getUTCHours() * 60 + date.getUTCMinutes();
  for (let minute = first; minute < 1_440; minute++) {
    if (hours.has(Math.floor(minute / 60)) && minutes.has(minute % 60)) {
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()) + minute * MINUTE;
    }
  }
  return undefined;
}

function parseField(text: string, field: (typeof FIELDS)[number]): Set<number> {
  const values = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^(\*|\?|[a-z0-9]+)(?:-([a-z0-9]+))?(?:\/(\d+))?$/i.exec(part);
    const bad = () =>
      new RangeError(`${field.name}: expected ${field.min}-${field.max}, got ${JSON.stringify(part)}`);
    if (!match) throw bad();
    const [, start, end, every] = match;
    const star = start === "*" || start === "?";
    const number = (word: string) => {
      const named = field.names?.indexOf(word.toLowerCase()) ?? -1;
      const value = named >= 0 ? named + field.base! : /^\d+$/.test(word) ? Number(word) : Number.NaN;
      if (!(value >= field.min && value <= field.max)) throw bad();
      return value;
    };
    const low = star ? field.min : number(start!);
    const high = star ? field.max : end !== undefined ? number(end) : every !== undefined ? field.max : low;
    const step = every === undefined ? 1 : Number(every);
    if (step < 1 || high < low) throw bad();
    for (let value = low; value <= high; value += step) values.add(value);
  }
  return values;
}
