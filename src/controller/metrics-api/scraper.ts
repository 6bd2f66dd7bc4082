// Reads the metrics of every meshed pod in rounds, a few pods at a time, and puts them into the store.
import { Agent, get } from "node:http";
import type { Logger } from "../../log/logger.ts";
import type { CounterSeries, Registry } from "../../metrics/registry.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { hasEnded, type PodRecord } from "./pod.ts";
import type { TrafficStore } from "./store.ts";

export interface ScraperOptions {
  readonly store: TrafficStore<PodRecord>;
  readonly pods: () => Iterable<PodRecord>;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** From the end of a round to the start of the next at the least, and between the starts else, ms. Default 3 s. */
  readonly interval?: number;
  /** Pods read at once. Default 32. */
  readonly concurrency?: number;
  /** Longest that one pod may take, ms. Default 2 s. */
  readonly timeout?: number;
  /** Largest exposition that is read, bytes. Default 8 MiB. */
  readonly maxBytes?: number;
  /** Where a pod's metrics are. Default its address, port 4191. */
  readonly address?: (pod: PodRecord) => { host: string; port: number };
}

const ADMIN_PORT = 4191;

export class Scraper {
  readonly #options: ScraperOptions;
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: 1_024, timeout: 30_000 });
  readonly #results: { ok: CounterSeries; failed: CounterSeries };
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: ScraperOptions) {
    this.#options = options;
    const family = options.registry.counter("mesh_metrics_scrapes_total", "Reads of a pod's metrics.");
    this.#results = { ok: family.labels({ result: "ok" }), failed: family.labels({ result: "failed" }) };
    const bytes = options.registry
      .gauge("mesh_metrics_store_bytes", "Memory of the stored traffic.")
      .labels();
    const targets = options.registry.gauge("mesh_metrics_targets", "Pods whose traffic is stored.").labels();
    const refused = options.registry
      .gauge("mesh_metrics_store_refused_series", "Series that found no room.")
      .labels();
    options.registry.onCollect(() => {
      bytes.set(options.store.bytes);
      targets.set(options.store.targets.size);
      refused.set(options.store.refused);
    });
  }

  /** Starts the rounds. */
  start(): void {
    void this.#rounds();
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
    this.#agent.destroy();
  }

  async #rounds(): Promise<void> {
    const { clock } = this.#options;
    const started = clock.monotonic();
    await this.round();
    if (this.#stopped) return;
    const rest = (this.#options.interval ?? 3_000) - (clock.monotonic() - started);
    this.#timer = clock.after(Math.max(rest, 250), () => void this.#rounds());
  }

  /** Reads every meshed pod once. */
  async round(): Promise<void> {
    const { store, pods, clock } = this.#options;
    const due: PodRecord[] = [];
    const alive = new Set<string>();
    for (const pod of pods()) {
      if (!pod.meshed || hasEnded(pod)) continue;
      alive.add(podId(pod));
      if (pod.ip !== undefined) due.push(pod);
    }
    for (const id of store.targets.keys()) if (!alive.has(id)) store.markGone(id);
    const workers = Array.from(
      { length: Math.min(this.#options.concurrency ?? 32, due.length) },
      async () => {
        for (let pod = due.pop(); pod && !this.#stopped; pod = due.pop()) await this.#scrape(pod);
      },
    );
    await Promise.all(workers);
    store.sweep(clock.now());
  }

  async #scrape(pod: PodRecord): Promise<void> {
    const { store, clock, log } = this.#options;
    try {
      const text = await this.#read(pod);
      if (this.#stopped) return;
      store.ingest(podId(pod), pod, text, clock.now());
      this.#results.ok.inc();
    } catch (error) {
      this.#results.failed.inc();
      log.debug("scrape failed", { pod: podId(pod), error: (error as Error).message });
    }
  }

  #read(pod: PodRecord): Promise<string> {
    const { host, port } = this.#options.address?.(pod) ?? { host: pod.ip!, port: ADMIN_PORT };
    const timeout = this.#options.timeout ?? 2_000;
    const maxBytes = this.#options.maxBytes ?? 8 << 20;
    return new Promise((resolve, reject) => {
      const request = get({ host, port, path: "/metrics", agent: this.#agent }, (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          chunks.push(chunk);
          if (size > maxBytes) request.destroy(new Error(`more than ${maxBytes} bytes`));
        });
        response.on("error", reject);
        response.on("end", () => {
          if (response.statusCode === 200) resolve(Buffer.concat(chunks).toString());
          else reject(new Error(`status ${response.statusCode}`));
        });
      });
      const deadline = setTimeout(() => request.destroy(new Error(`no answer in ${timeout} ms`)), timeout);
      request.on("error", reject);
      request.on("close", () => clearTimeout(deadline));
    });
  }
}

function podId(pod: PodRecord): string {
  return `${pod.namespace}/${pod.name}`;
}
