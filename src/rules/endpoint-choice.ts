// Which of several endpoints gets the next request: power of two choices over peak-EWMA load, as Finagle and
// Linkerd do it (tower's `load::PeakEwma`; reference/data-planes.md §1.9). Pure arithmetic; the state is the caller's.
import type { Trace } from "./trace.ts";

/** RTT assumed of an endpoint that was not measured yet, ms. */
export const DEFAULT_RTT_MS = 30;
/** Time constant with which old measurements fade, ms. */
export const DECAY_MS = 10_000;

/**
 * The estimate after a measurement. A worse RTT counts at once (peak), a better one gradually.
 * @param estimate the last estimate, ms
 * @param elapsed since the last estimate, ms
 * @param rtt what was measured, ms; 0 to let the estimate fade
 */
export function nextEstimate(estimate: number, elapsed: number, rtt: number, decayMs = DECAY_MS): number {
  if (rtt > estimate) return rtt;
  const weight = Math.exp(-Math.max(elapsed, 0) / decayMs);
  return estimate * weight + rtt * (1 - weight);
}

/** Cost of giving an endpoint one more request. */
export function endpointLoad(estimate: number, pending: number): number {
  return estimate * (pending + 1);
}

/**
 * Index of the less loaded of two endpoints drawn at random; -1 when there is none.
 * @param load of the endpoint at an index
 * @param random uniform in [0, 1)
 */
export function chooseOfTwo(
  count: number,
  load: (index: number) => number,
  random: () => number,
  trace?: Trace,
): number {
  if (count === 0) return -1;
  if (count === 1) {
    trace?.add("endpoint 0", true, "it is the only one");
    return 0;
  }
  const a = Math.floor(random() * count);
  let b = Math.floor(random() * (count - 1));
  if (b >= a) b += 1;
  const [loadA, loadB] = [load(a), load(b)];
  const chosen = loadB < loadA ? b : a;
  if (trace) {
    trace.add(`endpoint ${a}`, chosen === a, `its load is ${loadA.toFixed(2)}`);
    trace.add(`endpoint ${b}`, chosen === b, `its load is ${loadB.toFixed(2)}`);
  }
  return chosen;
}
