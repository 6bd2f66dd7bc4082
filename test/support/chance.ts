// Chance from a seed: the same seed gives the same numbers.

/** mulberry32: small, and good enough to choose by. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 bits. */
  #word(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.#word() / 2 ** 32;
  }

  /** A whole number from 0, less than `limit`. */
  below(limit: number): number {
    return this.#word() % limit;
  }

  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** Whether something happens that does so with this probability. */
  happens(probability: number): boolean {
    return this.next() < probability;
  }

  of<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error("nothing to choose from");
    return items[this.below(items.length)]!;
  }

  /** Those of the items that chance takes, each with this probability. */
  some<T>(items: readonly T[], probability: number): T[] {
    return items.filter(() => this.happens(probability));
  }
}
