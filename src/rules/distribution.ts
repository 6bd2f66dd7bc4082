// Which of a rule's backends takes a request: the first that is available, or one at random by weight among those
// that are (reference/data-planes.md §1.9).
import type { Trace } from "./trace.ts";

/** A backend as far as the choice is concerned. */
export interface Weighted {
  readonly weight: number;
  /** For traces. */
  readonly text: string;
}

export interface Distribution<B extends Weighted> {
  readonly kind: "empty" | "first" | "random";
  readonly backends: readonly B[];
}

/**
 * The backend for a request; undefined when there is none, or none with a weight. When none is available, the choice
 * is made among all: whoever waits there hears first of it becoming available.
 * @param random uniform in [0, 1)
 */
export function chooseBackend<B extends Weighted>(
  { kind, backends }: Distribution<B>,
  isAvailable: (backend: B) => boolean,
  random: () => number,
  trace?: Trace,
): B | undefined {
  if (backends.length === 0) {
    trace?.add("backends", false, "the rule has none");
    return undefined;
  }
  const available = backends.length === 1 ? backends : backends.filter(isAvailable);
  const among = available.length > 0 ? available : backends;
  if (kind === "first") {
    trace?.add(
      among[0]!.text,
      true,
      available.length > 0 ? "it is the first that is available" : "none is available",
    );
    return among[0];
  }
  let total = 0;
  for (const { weight } of among) total += weight;
  // Weight only matters where another one could be taken: what is left of a split takes all there is.
  if (total === 0) return undefined;
  let at = random() * total;
  for (const backend of among) {
    at -= backend.weight;
    if (at >= 0) continue;
    trace?.add(backend.text, true, `drawn with a weight of ${backend.weight} in ${total}`);
    return backend;
  }
  return among.findLast(({ weight }) => weight > 0);
}
