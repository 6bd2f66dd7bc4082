// Several values for a key, of which nearly all have only one: that one then needs no set of its own.

/** Values are told apart by identity, and are no Sets. */
export class MultiMap<T> {
  readonly #map = new Map<string, T | Set<T>>();

  add(key: string, value: T): void {
    const there = this.#map.get(key);
    if (there === undefined) this.#map.set(key, value);
    else if (there instanceof Set) there.add(value);
    else if (there !== value) this.#map.set(key, new Set([there, value]));
  }

  delete(key: string, value: T): void {
    const there = this.#map.get(key);
    if (there === value) this.#map.delete(key);
    else if (there instanceof Set && there.delete(value) && there.size === 0) this.#map.delete(key);
  }

  /** In the order in which they came. */
  get(key: string): Iterable<T> {
    const there = this.#map.get(key);
    if (there === undefined) return [];
    return there instanceof Set ? there : [there];
  }

  has(key: string): boolean {
    return this.#map.has(key);
  }
}
