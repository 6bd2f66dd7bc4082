// When a process should give memory back. Collecting garbage stops everything for some milliseconds, so it is done
// only while next to nothing happens, when there is something to gain, and ever more rarely while that goes on.

/** More CPU than this share of a core is work, in which nobody may be held up: some 200 requests/s. */
const WORK = 0.003;
/** So much more than the least that it ever came to is worth it. */
const GAIN = 1.1;
/** Between two times, ms; from the second without work in between on, each doubles it. */
const SPACING = { min: 20_000, max: 600_000 };

/** `release`, or why not. */
export type MemoryVerdict = "release" | "at work" | "nothing to gain" | "too soon";

export class MemoryReturn {
  #cpu: number;
  #lookedAt: number;
  /** The least that any time left. */
  #least = 0;
  #releasedAt = Number.NEGATIVE_INFINITY;
  #spacing = SPACING.min;
  /** Times since there was work. */
  #times = 0;

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
      this.#times = 0;
      return "at work";
    }
    // What held on to memory the last time, an idle connection say, may be gone: garbage looks like what is in use.
    if (held <= this.#least * GAIN) return "nothing to gain";
    if (now - this.#releasedAt < this.#spacing) return "too soon";
    if (this.#times > 0) this.#spacing = Math.min(this.#spacing * 2, SPACING.max);
    this.#times += 1;
    this.#releasedAt = now;
    return "release";
  }

  /** What was done is done. The CPU that it took is not work. */
  released(cpu: number, held: number, now: number): void {
    this.#cpu = cpu;
    this.#lookedAt = now;
    this.#least = this.#least === 0 ? held : Math.min(this.#least, held);
  }
}
