// How many bytes the process may hold in buffers: what was read and could not be written yet, bodies kept to be sent
// again, heads that came in part. Each connection's share is bounded by its windows; this bounds their sum. It is looked
// at from time to time, so that it costs nothing a byte.
import type { Registry } from "../../metrics/registry.ts";
import type { Clock } from "../../util/clock.ts";

/** Between two looks, ms. */
const INTERVAL = 1_000;
/** Without a word about it, bytes; at most half of the memory that the process may have. */
const DEFAULT_LIMIT = 256 * 1024 * 1024;

export interface BufferBudgetOptions {
  readonly clock: Clock;
  readonly registry: Registry;
  readonly limit: number;
  /** Bytes in buffers now. */
  readonly held?: () => number;
}

export class BufferBudget {
  readonly #options: BufferBudgetOptions;
  readonly #held: () => number;
  #over = 0;

  constructor(options: BufferBudgetOptions) {
    const { registry, limit } = options;
    this.#options = options;
    this.#held = options.held ?? (() => process.memoryUsage().arrayBuffers);
    const bytes = registry.gauge("mesh_buffer_bytes", "Bytes in the proxy's buffers.").labels();
    registry.onCollect(() => bytes.set(this.#held()));
    registry
      .gauge("mesh_buffer_limit_bytes", "Bytes in buffers beyond which nothing new is taken on.")
      .labels()
      .set(limit);
    this.#look();
  }

  /** Nothing new is to be taken on. One look is not enough: some of the bytes may be garbage that is about to be freed. */
  get exhausted(): boolean {
    return this.#over >= 2;
  }

  #look(): void {
    this.#over = this.#held() > this.#options.limit ? this.#over + 1 : 0;
    this.#options.clock.after(INTERVAL, () => this.#look());
  }
}

/**
 * The limit where the configuration names none, bytes.
 * @param memory what the process may have, bytes; 0 or less: not known
 */
export function defaultBufferLimit(memory: number): number {
  return memory > 0 ? Math.min(DEFAULT_LIMIT, Math.floor(memory / 2)) : DEFAULT_LIMIT;
}
