// Those who are told the same. A change goes through all of them, and there are hundreds of thousands in a large mesh, hardly
// any of which is in the CPU's caches: so their listeners and keys stand side by side here, and nothing else of them is
// touched.
import type { Listener } from "./listener.ts";

/** A place in an audience: whoever has it can leave. */
export abstract class Seat {
  /** For the audience: where it is. */
  at = -1;
}

export class Audience<T, S extends Seat = Seat> {
  readonly #listeners: Listener<T>[] = [];
  readonly #keys: unknown[] = [];
  readonly #seats: S[] = [];

  get size(): number {
    return this.#seats.length;
  }

  get seats(): readonly S[] {
    return this.#seats;
  }

  /** Takes a seat, and is told what there is now. */
  join(seat: S, listener: Listener<T>, key: unknown, now: T): void {
    this.#add(seat, listener, key);
    listener.update(now, key, true);
  }

  leave(seat: S): void {
    const { at } = seat;
    if (this.#seats[at] !== seat) return;
    seat.at = -1;
    const listener = this.#listeners.pop()!;
    const key = this.#keys.pop()!;
    const last = this.#seats.pop()!;
    if (last === seat) return;
    last.at = at;
    this.#listeners[at] = listener;
    this.#keys[at] = key;
    this.#seats[at] = last;
  }

  /** Goes over to another audience, and is told the difference if there is one. */
  move(seat: S, to: Audience<T, S>, change: T | undefined): void {
    const listener = this.#listeners[seat.at]!;
    const key = this.#keys[seat.at]!;
    this.leave(seat);
    to.#add(seat, listener, key);
    if (change !== undefined) listener.update(change, key, false);
  }

  /** Whoever leaves meanwhile is not told; another may then be told twice, which is no harm. */
  tell(change: T): void {
    // From behind: the place of one that leaves is taken by the last one.
    for (let at = this.#seats.length - 1; at >= 0; at = Math.min(at, this.#seats.length) - 1)
      this.#listeners[at]!.update(change, this.#keys[at]!, false);
  }

  #add(seat: S, listener: Listener<T>, key: unknown): void {
    seat.at = this.#seats.push(seat) - 1;
    this.#listeners.push(listener);
    this.#keys.push(key);
  }
}
