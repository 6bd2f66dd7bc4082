// When a process should give memory back. Collecting garbage stops everything for some milliseconds, so it is done
// only while next to nothing happens, when there is something to gain, and ever more rarely while that goes on.

/** More CPU than this share of a core is work, in which nobody may be held up: some 200 requests/s. */
const WORK = 0.003;
/** So much more than after the last time is worth it. */
const GAIN = 1.1;
/** Between two times, ms; each without work in between doubles it. */
const SPACING = { min: 20_000, max: 600_000 };

/** `release`, or why not. */
export type MemoryVerdict = "release" | "at work" | "nothing to gain" | "too soon";

export class MemoryReturn {
  #cpu: number;
  #lookedAt: number;
  #level = 0;
  #releasedAt = Number.NEGATIVE_INFINITY;
  #spacing = SPACING.min;

  /** @param cpu time used so far, ms  @param now monotonic, ms */
  constructor(cpu: number, now: number) {
    this.#cpu = cpu;
    this.#lookedAt = now;
  }

  /**
   * Looks at the process once more.
   * @param cpu time used so far, ms
   * @param held memory, in any unit
   * @param now monotonic, ms
   */
  look(cpu: number, held: number, now: number): MemoryVerdict {
    const share = (cpu - this.#cpu) / (now - this.#lookedAt);
    this.#cpu = cpu;
    this.#lookedAt = now;
    if (share > WORK) {
      this.#spacing = SPACING.min;
      return "at work";
    }
    if (held <= this.#level * GAIN) return "nothing to gain";
    if (now - this.#releasedAt < this.#spacing) return "too soon";
    this.#spacing = Math.min(this.#spacing * 2, SPACING.max);
    this.#releasedAt = now;
    return "release";
  }

  /** What was done is done. The CPU that it took is not work. */
  released(cpu: number, held: number, now: number): void {
    this.#cpu = cpu;
    this.#lookedAt = now;
    this.#level = held;
  }
}
