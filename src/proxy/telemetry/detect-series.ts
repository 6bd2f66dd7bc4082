// How connections were told apart: by their first bytes, by configuration, by a peer's transport header. Names and labels
// are linkerd2-proxy's (reference/data-planes.md §1.22).
import type { CounterSeries, Family, HistogramSeries, Labels, Registry } from "../../metrics/registry.ts";
import type { Why } from "../detect/first-bytes.ts";
import type { Detected } from "../detect/http.ts";
import type { Direction } from "./series.ts";

/** Linkerd's (1 and 100 ms), and finer ones, s. */
const BUCKETS = [0.001, 0.01, 0.1, 1, 10];
const RESULTS = { http1: "http/1", http2: "h2", opaque: "not_http" } as const;

interface Series {
  /** By verdict; sparse. */
  readonly results: Record<string, CounterSeries | undefined>;
  readonly duration: HistogramSeries;
}

export class DetectFamilies {
  readonly #results: Family<CounterSeries>;
  readonly #duration: Family<HistogramSeries>;
  /** By the very labels object: whoever has connections keeps one. */
  readonly #series = new WeakMap<Labels, Series>();

  constructor(registry: Registry, direction: Direction) {
    const name = (rest: string) => `${direction}_tcp_detect_http_${rest}`;
    this.#results = registry.counter(name("results_total"), "Protocol detection results.");
    this.#duration = registry.histogram(
      name("duration_seconds"),
      "Time taken for protocol detection.",
      BUCKETS,
    );
  }

  /**
   * @param verdict undefined: none within the time, or before the client's end
   * @param ms from the first look to the verdict
   */
  observe(verdict: Detected | undefined, why: Why, ms: number, labels: Labels): void {
    const result = verdict ? RESULTS[verdict] : why === "timeout" ? "read_timeout" : "not_http";
    let series = this.#series.get(labels);
    if (!series) {
      series = { results: {}, duration: this.#duration.labels(labels) };
      this.#series.set(labels, series);
    }
    series.results[result] ??= this.#results.labels({ ...labels, result });
    series.results[result].inc();
    series.duration.observe(ms / 1_000);
  }
}
