// Recent traffic of every meshed pod, in a bounded amount of memory.
//
//   target (a pod)  ring of scrape times            t0 t1 t2 …
//     └ series      ring of increases, same slots   d0 d1 d2 …   (a gauge keeps its values)
//
// A scrape fills one slot of the target's rings. Counters are stored as increases since the scrape before, taken
// per exposed series, so that a restart of the proxy or the expiry of one idle series never shows as a fall.
// Labels that no question asks for (status codes, addresses) are summed away: what remains a pod is a few
// series for itself and a few for each of its destinations.
//
// Memory: a series takes 8 bytes a slot, a latency histogram 4 bytes a slot and bucket; every exposed series
// adds its name. When the sum reaches the budget, new series are left out, counted, and answers say so.
import { parseMetrics } from "../../metrics/parse.ts";
import { LATENCY_BUCKETS_MS } from "../../metrics/registry.ts";

/** Finite upper bounds of the latency histogram, ms; finer ones that a proxy may expose are skipped. */
export const BOUNDS: readonly number[] = LATENCY_BUCKETS_MS;
const BUCKETS = BOUNDS.length + 1;
const BOUND_INDEX = new Map<string, number>([
  ...BOUNDS.map((bound, i) => [String(bound), i] as const),
  ["+Inf", BOUNDS.length],
]);

/** Exposed names that are kept, and what becomes of them. */
const FAMILIES = {
  response_total: "counter",
  response_latency_ms_bucket: "histogram",
  tcp_open_connections: "gauge",
  tcp_read_bytes_total: "counter",
  tcp_write_bytes_total: "counter",
} as const;
export type FamilyName = keyof typeof FAMILIES;

const KEPT_LABELS = ["direction", "peer", "tls", "classification"];
const DESTINATION_LABEL =
  /^dst_(namespace|service|pod|deployment|statefulset|daemonset|job|cronjob|replicaset|replicationcontroller)$/;
const SERVICE_AUTHORITY = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.|:|$)/;

export type SeriesLabels = Readonly<Record<string, string>>;

export interface Series {
  readonly family: FamilyName;
  readonly labels: SeriesLabels;
  /** One value a slot; a histogram has one a slot and bucket, cumulative over buckets. */
  readonly ring: Float64Array | Uint32Array;
  /** Number of the last scrape that changed it. */
  changed: number;
}

/** What is remembered of one exposed line. */
interface Entry {
  /** Undefined for a line that no question asks for. */
  readonly series: Series | undefined;
  /** Bucket of a histogram, else 0. */
  readonly bucket: number;
  value: number;
  seen: number;
}

export interface Target<Info> {
  info: Info;
  /** When each slot was filled, ms. */
  readonly times: Float64Array;
  /** Scrapes so far; the next slot is `scrapes % capacity`. */
  scrapes: number;
  firstScrape: number;
  lastScrape: number;
  /** The pod is gone: its past still counts, its open connections do not. */
  gone: boolean;
  readonly series: Map<string, Series>;
  readonly entries: Map<string, Entry>;
  bytes: number;
}

export interface StoreOptions {
  /** How far back answers can reach, ms. Default 5 min. */
  readonly retention?: number;
  /** Time between two scrapes of a pod, ms. Default 3 s. */
  readonly interval?: number;
  /** Default 192 MiB: about a thousand pods that talk to half a dozen others each. */
  readonly budgetBytes?: number;
}

/** Estimated cost of the objects around a series and around an exposed line. */
const SERIES_OVERHEAD = 400;
const ENTRY_OVERHEAD = 120;
/** Longest exposed line that is looked at, bytes. */
const MAX_LINE = 8_192;

export class TrafficStore<Info> {
  readonly #targets = new Map<string, Target<Info>>();
  readonly #capacity: number;
  readonly #retention: number;
  readonly #budget: number;
  #bytes = 0;
  #refused = 0;
  #refusedAt = Number.NEGATIVE_INFINITY;

  constructor(options: StoreOptions = {}) {
    this.#retention = options.retention ?? 300_000;
    this.#capacity = Math.ceil(this.#retention / (options.interval ?? 3_000)) + 2;
    this.#budget = options.budgetBytes ?? 192 * 1024 * 1024;
  }

  get targets(): ReadonlyMap<string, Target<Info>> {
    return this.#targets;
  }

  /** Estimated memory of all that is stored; never above the budget. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Series that found no room so far. */
  get refused(): number {
    return this.#refused;
  }

  /** Whether series were left out within the time that answers cover. */
  incomplete(now: number): boolean {
    return now - this.#refusedAt < this.#retention;
  }

  /** Takes in one exposition of a pod. @throws SyntaxError for text that is not one. */
  ingest(id: string, info: Info, text: string, now: number): void {
    const target = this.#target(id, info, now);
    if (!target) return;
    const slot = target.scrapes % this.#capacity;
    const first = target.scrapes === 0;
    target.scrapes += 1;
    target.times[slot] = now;
    target.lastScrape = now;
    if (first) target.firstScrape = now;
    for (const series of target.series.values()) clearSlot(series, slot);

    eachLine(text, (key, value) => {
      let entry = target.entries.get(key);
      const known = entry !== undefined;
      if (!known) entry = this.#entry(target, key, now);
      if (!entry) return;
      entry.seen = target.scrapes;
      const { series, bucket } = entry;
      if (!series || !Number.isFinite(value)) return;
      if (FAMILIES[series.family] === "gauge") {
        series.ring[slot]! += value;
        series.changed = target.scrapes;
        return;
      }
      // The first scrape of a pod is the base line. A series that appears later began at zero since.
      const increase = known ? (value >= entry.value ? value - entry.value : value) : first ? 0 : value;
      entry.value = value;
      if (increase === 0) return;
      series.ring[series.family === "response_latency_ms_bucket" ? slot * BUCKETS + bucket : slot]! +=
        increase;
      series.changed = target.scrapes;
    });
    this.#forgetIdle(target);
  }

  /** The pod ended. */
  markGone(id: string): void {
    const target = this.#targets.get(id);
    if (target) target.gone = true;
  }

  /** Drops pods whose past lies before what answers cover. */
  sweep(now: number): void {
    for (const [id, target] of this.#targets) {
      if (now - target.lastScrape <= this.#retention) continue;
      this.#bytes -= target.bytes;
      this.#targets.delete(id);
    }
  }

  #target(id: string, info: Info, now: number): Target<Info> | undefined {
    const found = this.#targets.get(id);
    if (found) {
      found.info = info;
      found.gone = false;
      return found;
    }
    const bytes = SERIES_OVERHEAD + this.#capacity * 8;
    if (!this.#reserve(bytes, now)) return undefined;
    const made: Target<Info> = {
      info,
      times: new Float64Array(this.#capacity),
      scrapes: 0,
      firstScrape: now,
      lastScrape: now,
      gone: false,
      series: new Map(),
      entries: new Map(),
      bytes,
    };
    this.#targets.set(id, made);
    return made;
  }

  #reserve(bytes: number, now: number): boolean {
    if (this.#bytes + bytes > this.#budget) {
      this.#refused += 1;
      this.#refusedAt = now;
      return false;
    }
    this.#bytes += bytes;
    return true;
  }

  /** Remembers an exposed line that is new; undefined when there is no room for it. */
  #entry(target: Target<Info>, key: string, now: number): Entry | undefined {
    const parsed = readKey(key);
    const bytes = ENTRY_OVERHEAD + key.length;
    if (!this.#reserve(bytes, now)) return undefined;
    const series = parsed && this.#series(target, parsed.family, parsed.labels, now);
    if (parsed && !series) {
      this.#bytes -= bytes;
      return undefined;
    }
    const entry: Entry = { series, bucket: parsed?.bucket ?? 0, value: 0, seen: target.scrapes };
    // A copy: a slice would keep the whole exposition alive.
    target.entries.set(Buffer.from(key).toString(), entry);
    target.bytes += bytes;
    return entry;
  }

  #series(target: Target<Info>, family: FamilyName, labels: SeriesLabels, now: number): Series | undefined {
    const seriesKey = `${family}|${Object.entries(labels).join("|")}`;
    const found = target.series.get(seriesKey);
    if (found) return found;
    const histogram = family === "response_latency_ms_bucket";
    const cells = histogram ? this.#capacity * BUCKETS : this.#capacity;
    const bytes = SERIES_OVERHEAD + cells * (histogram ? 4 : 8);
    if (!this.#reserve(bytes, now)) return undefined;
    const made: Series = {
      family,
      labels,
      ring: histogram ? new Uint32Array(cells) : new Float64Array(cells),
      changed: target.scrapes,
    };
    target.series.set(seriesKey, made);
    target.bytes += bytes;
    return made;
  }

  /** Lines that are no longer exposed, then series that no slot of the ring says anything of. */
  #forgetIdle(target: Target<Info>): void {
    for (const [key, entry] of target.entries) {
      if (entry.seen === target.scrapes) continue;
      target.entries.delete(key);
      const bytes = ENTRY_OVERHEAD + key.length;
      target.bytes -= bytes;
      this.#bytes -= bytes;
    }
    if (target.scrapes % this.#capacity !== 0) return;
    const used = new Set<Series>();
    for (const { series } of target.entries.values()) if (series) used.add(series);
    for (const [key, series] of target.series) {
      if (used.has(series) || target.scrapes - series.changed < this.#capacity) continue;
      target.series.delete(key);
      const bytes = SERIES_OVERHEAD + series.ring.byteLength;
      target.bytes -= bytes;
      this.#bytes -= bytes;
    }
  }

  /** Slots of a target whose increases lie within the last `window` ms, and the time they cover. */
  slots(target: Target<Info>, window: number, now: number): { slots: number[]; covered: number } {
    const slots: number[] = [];
    const count = Math.min(target.scrapes, this.#capacity);
    // The oldest scrape is a base line, unless the ring has turned since; there its increase has no start.
    for (let age = 0; age < count - 1; age += 1) {
      const slot = (target.scrapes - 1 - age) % this.#capacity;
      const before = target.times[(target.scrapes - 2 - age) % this.#capacity]!;
      if (target.times[slot]! <= now - window) break;
      slots.push(slot);
      if (before <= now - window) break;
    }
    if (slots.length === 0) return { slots, covered: 0 };
    const oldest = slots.at(-1)!;
    const from = target.times[(oldest + this.#capacity - 1) % this.#capacity]!;
    return { slots, covered: (target.gone ? now : target.lastScrape) - from };
  }

  /** The newest slot of a target. */
  newest(target: Target<Info>): number {
    return (target.scrapes - 1) % this.#capacity;
  }
}

/** Sum of a counter's increases over slots. */
export function sumSlots(series: Series, slots: readonly number[]): number {
  let sum = 0;
  for (const slot of slots) sum += series.ring[slot]!;
  return sum;
}

/** Adds a histogram's increases over slots to `into`: one cell a bound, then +Inf. */
export function addBuckets(series: Series, slots: readonly number[], into: Float64Array): void {
  for (const slot of slots) {
    for (let i = 0; i < BUCKETS; i += 1) into[i]! += series.ring[slot * BUCKETS + i]!;
  }
}

function clearSlot(series: Series, slot: number): void {
  if (series.family === "response_latency_ms_bucket")
    series.ring.fill(0, slot * BUCKETS, (slot + 1) * BUCKETS);
  else series.ring[slot] = 0;
}

/** Name and labels of an exposed line as one key, and its value; only families that are kept. */
function eachLine(text: string, visit: (key: string, value: number) => void): void {
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found;
    const from = start;
    start = end + 1;
    if (end - from > MAX_LINE || !isKept(text, from)) continue;
    const brace = text.lastIndexOf("}", end);
    const cut = brace > from ? brace + 1 : text.indexOf(" ", from);
    if (cut <= from || cut >= end)
      throw new SyntaxError(`not a metric: ${text.slice(from, Math.min(end, from + 120))}`);
    visit(text.slice(from, cut), Number.parseFloat(text.slice(cut, end)));
  }
}

const NAMES = Object.keys(FAMILIES);

function isKept(text: string, from: number): boolean {
  // r…, t…: nearly all other lines end here.
  const first = text.charCodeAt(from);
  if (first !== 0x72 && first !== 0x74) return false;
  return NAMES.some((name) => {
    const after = text[from + name.length];
    return text.startsWith(name, from) && (after === "{" || after === " ");
  });
}

function readKey(key: string): { family: FamilyName; labels: SeriesLabels; bucket: number } | undefined {
  let family = "" as FamilyName;
  let exposed: Readonly<Record<string, string>> = {};
  parseMetrics(`${key} 0`, (sample) => {
    family = sample.name as FamilyName;
    exposed = sample.labels;
  });
  const bucket = family === "response_latency_ms_bucket" ? BOUND_INDEX.get(exposed["le"] ?? "") : 0;
  if (bucket === undefined) return undefined;
  const labels: Record<string, string> = {};
  for (const name of KEPT_LABELS) if (exposed[name] !== undefined) labels[name] = exposed[name];
  // Latency is asked for over all answers: splitting it by class and by TLS would only cost memory.
  if (family === "response_latency_ms_bucket") {
    delete labels["tls"];
    delete labels["classification"];
  }
  for (const [name, value] of Object.entries(exposed)) if (DESTINATION_LABEL.test(name)) labels[name] = value;
  if (labels["direction"] === "outbound" && labels["dst_service"] === undefined) {
    const service = SERVICE_AUTHORITY.exec(exposed["authority"] ?? "");
    if (service) {
      labels["dst_service"] = service[1]!;
      labels["dst_namespace"] ??= service[2]!;
    }
  }
  return { family, labels, bucket };
}
