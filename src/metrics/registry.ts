// Prometheus metrics for hot paths: a series is a slot in a Float64Array, resolved once and then added to.
//
//   family (name, help, type, label names)
//     └ series (label values)  → slots in one growing Float64Array
//
// A histogram takes one slot a bucket, one for +Inf, and one for the sum. Series that nothing touched for
// `retainIdle` are dropped on exposition. A holder may keep its series for ever: one that was dropped comes
// back, with its value, when it is next touched.

export type Labels = Readonly<Record<string, string | number | undefined>>;

export interface CounterSeries {
  inc(by?: number): void;
  readonly value: number;
}

export interface GaugeSeries {
  set(value: number): void;
  inc(by?: number): void;
  dec(by?: number): void;
  readonly value: number;
}

export interface HistogramSeries {
  observe(value: number): void;
  readonly count: number;
  readonly sum: number;
}

/** Linkerd's latency buckets in ms (reference/data-planes.md §1.22). */
export const LATENCY_BUCKETS_MS: readonly number[] = [
  1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000,
  20_000, 30_000, 40_000, 50_000,
];

type Type = "counter" | "gauge" | "histogram";

/** Values of one series; `touched` says it changed since the last sweep. */
class Slots {
  readonly values: Float64Array;
  touched = false;
  idleSince = 0;
  readonly #register: () => void;
  constructor(size: number, register: () => void) {
    this.values = new Float64Array(size);
    this.#register = register;
  }
  /** The first change since a sweep: the series may have been dropped meanwhile. */
  touch(): void {
    this.touched = true;
    this.#register();
  }
}

class Counter implements CounterSeries {
  readonly slots: Slots;
  constructor(slots: Slots) {
    this.slots = slots;
  }
  inc(by = 1): void {
    this.slots.values[0]! += by;
    if (!this.slots.touched) this.slots.touch();
  }
  get value(): number {
    return this.slots.values[0]!;
  }
}

class Gauge extends Counter implements GaugeSeries {
  set(value: number): void {
    this.slots.values[0] = value;
    if (!this.slots.touched) this.slots.touch();
  }
  dec(by = 1): void {
    this.inc(-by);
  }
}

class Histogram implements HistogramSeries {
  readonly slots: Slots;
  readonly bounds: readonly number[];
  constructor(slots: Slots, bounds: readonly number[]) {
    this.slots = slots;
    this.bounds = bounds;
  }
  observe(value: number): void {
    const { bounds } = this;
    let i = 0;
    // Most observations fall into the first buckets; a linear scan beats a binary search there.
    while (i < bounds.length && value > bounds[i]!) i += 1;
    this.slots.values[i]! += 1;
    this.slots.values[bounds.length + 1]! += value;
    if (!this.slots.touched) this.slots.touch();
  }
  get count(): number {
    let count = 0;
    for (let i = 0; i <= this.bounds.length; i += 1) count += this.slots.values[i]!;
    return count;
  }
  get sum(): number {
    return this.slots.values[this.bounds.length + 1]!;
  }
}

/** One metric name with all its series. `labels()` finds or makes a series; keep what it returns. */
export class Family<S extends CounterSeries | GaugeSeries | HistogramSeries> {
  readonly name: string;
  readonly help: string;
  readonly type: Type;
  readonly bounds: readonly number[];
  readonly series = new Map<string, S & { slots: Slots }>();
  readonly #overflow: () => void;
  readonly #limit: number;

  constructor(
    name: string,
    help: string,
    type: Type,
    bounds: readonly number[],
    limit: number,
    overflow: () => void,
  ) {
    this.name = name;
    this.help = help;
    this.type = type;
    this.bounds = bounds;
    this.#limit = limit;
    this.#overflow = overflow;
  }

  /**
   * The series with these label values, in the given order. Undefined values are left out. Past the family's
   * limit of series all further ones share one without labels, so a flood of label values cannot exhaust memory.
   */
  labels(labels: Labels = {}): S {
    const key = renderLabels(labels);
    const found = this.series.get(key);
    if (found) return found;
    if (this.series.size >= this.#limit && key !== "") {
      this.#overflow();
      return this.labels({});
    }
    const slots = new Slots(this.type === "histogram" ? this.bounds.length + 2 : 1, () => {
      this.series.set(key, made);
    });
    const made = (this.type === "histogram"
      ? new Histogram(slots, this.bounds)
      : this.type === "gauge"
        ? new Gauge(slots)
        : new Counter(slots)) as unknown as S & { slots: Slots };
    slots.touch();
    return made;
  }
}

export interface RegistryOptions {
  /** Series unchanged for this long are dropped, ms. Gauges above zero are kept. Default 10 min. */
  retainIdle?: number;
  /** Most series a family holds. Default 10,000. */
  seriesLimit?: number;
  now?: () => number;
}

export class Registry {
  readonly #families = new Map<string, Family<CounterSeries | GaugeSeries | HistogramSeries>>();
  readonly #collectors: (() => void)[] = [];
  readonly #retainIdle: number;
  readonly #limit: number;
  readonly #now: () => number;
  #dropped = 0;

  constructor(options: RegistryOptions = {}) {
    this.#retainIdle = options.retainIdle ?? 600_000;
    this.#limit = options.seriesLimit ?? 10_000;
    this.#now = options.now ?? Date.now;
  }

  counter(name: string, help: string): Family<CounterSeries> {
    return this.#family(name, help, "counter", []) as Family<CounterSeries>;
  }

  gauge(name: string, help: string): Family<GaugeSeries> {
    return this.#family(name, help, "gauge", []) as Family<GaugeSeries>;
  }

  /** @param bounds ascending upper bounds, without +Inf. */
  histogram(name: string, help: string, bounds: readonly number[]): Family<HistogramSeries> {
    return this.#family(name, help, "histogram", bounds) as Family<HistogramSeries>;
  }

  /** Runs `fn` before each exposition, to set gauges that are read rather than counted. */
  onCollect(fn: () => void): void {
    this.#collectors.push(fn);
  }

  #family(name: string, help: string, type: Type, bounds: readonly number[]) {
    const found = this.#families.get(name);
    if (found) return found;
    const made = new Family<CounterSeries>(name, help, type, bounds, this.#limit, () => {
      this.#dropped += 1;
    });
    this.#families.set(name, made);
    return made;
  }

  /** Text exposition format 0.0.4; also sweeps idle series. */
  expose(): string {
    for (const collect of this.#collectors) collect();
    const now = this.#now();
    const out: string[] = [];
    for (const family of this.#families.values()) {
      out.push(`# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`);
      for (const [key, { slots }] of family.series) {
        if (slots.touched) {
          slots.touched = false;
          slots.idleSince = now;
        } else if (
          now - slots.idleSince >= this.#retainIdle &&
          (family.type !== "gauge" || slots.values[0] === 0)
        ) {
          family.series.delete(key);
          continue;
        }
        writeSeries(out, family, key, slots.values);
      }
    }
    if (this.#dropped > 0) {
      out.push(
        "# HELP mesh_metrics_series_overflow_total Look-ups of new series beyond a family's limit.\n" +
          `# TYPE mesh_metrics_series_overflow_total counter\nmesh_metrics_series_overflow_total ${this.#dropped}\n`,
      );
    }
    return out.join("");
  }
}

function writeSeries(
  out: string[],
  family: { name: string; type: Type; bounds: readonly number[] },
  key: string,
  values: Float64Array,
): void {
  if (family.type !== "histogram") {
    out.push(`${family.name}${key === "" ? "" : `{${key}}`} ${formatNumber(values[0]!)}\n`);
    return;
  }
  const prefix = key === "" ? "" : `${key},`;
  let cumulative = 0;
  for (let i = 0; i <= family.bounds.length; i += 1) {
    cumulative += values[i]!;
    const le = i === family.bounds.length ? "+Inf" : formatNumber(family.bounds[i]!);
    out.push(`${family.name}_bucket{${prefix}le="${le}"} ${cumulative}\n`);
  }
  const braces = key === "" ? "" : `{${key}}`;
  out.push(`${family.name}_sum${braces} ${formatNumber(values[family.bounds.length + 1]!)}\n`);
  out.push(`${family.name}_count${braces} ${cumulative}\n`);
}

function formatNumber(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

function renderLabels(labels: Labels): string {
  let out = "";
  for (const name in labels) {
    const value = labels[name];
    if (value === undefined) continue;
    const text = String(value);
    const safe = /[\\"\n]/.test(text)
      ? text.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))
      : text;
    out += out === "" ? `${name}="${safe}"` : `,${name}="${safe}"`;
  }
  return out;
}
