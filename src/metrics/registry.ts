// Prometheus metrics for hot paths: a series is a slot in a Float64Array, resolved once and then added to.
//
//   family (name, help, type, label names)
//     └ series (label values)  → slots in one growing Float64Array
//
// A histogram takes one slot a bucket, one for +Inf, and one for the sum. Series that nothing touched for
// `retainIdle` are dropped, on exposition and when new ones come: what only grows is memory. A holder may keep its
// series for ever: one that was dropped comes back, with its value, when it is next touched.

import { ExpositionWriter, type FamilyText, familyText, renderLabels } from "./exposition.ts";

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
  readonly #type: Type;
  readonly #bounds: readonly number[];
  readonly #text: FamilyText;
  readonly #series = new Map<string, S & { slots: Slots }>();
  readonly #limits: Limits;
  #sweptAt: number;
  #overflowed = 0;

  constructor(name: string, help: string, type: Type, bounds: readonly number[], limits: Limits) {
    this.name = name;
    this.#type = type;
    this.#bounds = bounds;
    this.#text = familyText(name, help, type, bounds);
    this.#limits = limits;
    this.#sweptAt = limits.now();
  }

  /** Series that are kept. */
  get size(): number {
    return this.#series.size;
  }

  /** How often a new series was asked for and there was no room for it. */
  get overflowed(): number {
    return this.#overflowed;
  }

  /**
   * The series with these label values, in the given order. Undefined values are left out. Past the family's
   * limit of series all further ones share one without labels, so a flood of label values cannot exhaust memory.
   */
  labels(labels: Labels = {}): S {
    const key = keyOf(labels);
    const found = this.#series.get(key);
    if (found) return found;
    this.#makeRoom();
    if (key !== "" && this.#series.size >= this.#limits.series) {
      this.#overflowed += 1;
      return this.labels({});
    }
    const slots = new Slots(this.#type === "histogram" ? this.#bounds.length + 2 : 1, () => {
      this.#series.set(key, made);
    });
    const made = (this.#type === "histogram"
      ? new Histogram(slots, this.#bounds)
      : this.#type === "gauge"
        ? new Gauge(slots)
        : new Counter(slots)) as unknown as S & { slots: Slots };
    slots.touch();
    return made;
  }

  /** Drops idle series where nobody asks for the exposition, which does so too. */
  #makeRoom(): void {
    const now = this.#limits.now();
    if (now - this.#sweptAt < this.#limits.sweepInterval) return;
    this.#sweptAt = now;
    for (const [key, { slots }] of this.#series) this.#dropIfIdle(key, slots, now);
  }

  /** Drops a series when nothing touched it for long; says whether it did. The one without labels stays: it cannot become many. */
  #dropIfIdle(key: string, slots: Slots, now: number): boolean {
    if (slots.touched) {
      slots.touched = false;
      slots.idleSince = now;
      return false;
    }
    if (key === "" || now - slots.idleSince < this.#limits.retainIdle) return false;
    if (this.#type === "gauge" && slots.values[0] !== 0) return false;
    this.#series.delete(key);
    return true;
  }

  /** Writes all series, and yields after each: the caller may take what is written, or let others go first. */
  *write(writer: ExpositionWriter): Generator<void> {
    const now = this.#limits.now();
    const text = this.#text;
    this.#sweptAt = now;
    writer.head(text);
    for (const [key, { slots }] of this.#series) {
      if (this.#dropIfIdle(key, slots, now)) continue;
      if (this.#type === "histogram") writer.histogram(text, key, slots.values);
      else writer.sample(text.name, key, slots.values[0]!);
      yield;
    }
  }
}

interface Limits {
  /** Series of a family. */
  readonly series: number;
  /** ms */
  readonly retainIdle: number;
  readonly sweepInterval: number;
  readonly now: () => number;
}

/** A family that new series come to looks for idle ones once in a time between these, ms: the shorter they are kept, the more often. */
const SWEEP_INTERVAL = { min: 1_000, max: 60_000 };

/** The labels that were rendered last: what is counted in several families is looked up in one after the other. */
let lastLabels: Labels | undefined;
let lastKey = "";

/** Rendered once, the text is also kept once for all families. */
function keyOf(labels: Labels): string {
  if (labels !== lastLabels) {
    lastKey = renderLabels(labels);
    lastLabels = labels;
  }
  return lastKey;
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
  readonly #limits: Limits;

  constructor(options: RegistryOptions = {}) {
    const retainIdle = options.retainIdle ?? 600_000;
    this.#limits = {
      series: options.seriesLimit ?? 10_000,
      retainIdle,
      sweepInterval: Math.min(Math.max(retainIdle, SWEEP_INTERVAL.min), SWEEP_INTERVAL.max),
      now: options.now ?? Date.now,
    };
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
    const made = new Family<CounterSeries>(name, help, type, bounds, this.#limits);
    this.#families.set(name, made);
    return made;
  }

  /** The whole exposition as text; also drops idle series. */
  expose(): string {
    return Buffer.concat([...this.pieces()]).toString("utf8");
  }

  /**
   * Text exposition format 0.0.4 in pieces of some 64 KiB, each made when it is asked for: between two of them others
   * may work, and what they count may stand in later pieces.
   */
  *pieces(): Generator<Buffer> {
    for (const collect of this.#collectors) collect();
    const writer = new ExpositionWriter();
    const families = [...this.#families.values()];
    for (const family of families) {
      for (const _ of family.write(writer)) {
        for (let piece = writer.take(); piece; piece = writer.take()) yield piece;
      }
    }
    this.#writeOverflow(writer, families);
    for (let piece = writer.take(); piece; piece = writer.take()) yield piece;
    yield writer.finish();
  }

  #writeOverflow(writer: ExpositionWriter, families: readonly { name: string; overflowed: number }[]): void {
    const full = families.filter(({ overflowed }) => overflowed > 0);
    if (full.length === 0) return;
    writer.head(OVERFLOW);
    for (const { name: family, overflowed } of full)
      writer.sample(OVERFLOW.name, renderLabels({ family }), overflowed);
  }
}

const OVERFLOW = familyText(
  "mesh_metrics_series_overflow_total",
  "Look-ups of new series beyond a family's limit.",
  "counter",
  [],
);
