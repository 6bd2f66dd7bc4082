// Runs one probe of a container again and again, and tells when its verdict changes.
import type { Clock, Timer } from "../../util/clock.ts";
import type { Json } from "../cluster.ts";
import type { ProbeResult } from "./probe.ts";

/** First extra attempt of a container that has just started, ms. */
const EARLY_MS = 50;

export interface ProberOptions {
  readonly probe: Json;
  readonly clock: Clock;
  /** Never rejects. */
  readonly run: () => Promise<ProbeResult>;
  /** The thresholds were met: `ok` is the new verdict. Called once a change. */
  readonly onVerdict: (ok: boolean, message: string) => void;
  /** A counted attempt failed. */
  readonly onFailure: (message: string) => void;
  /**
   * Look more often until the first success: attempts between the periods that count only when they succeed, so
   * that what is ready in 200 ms is seen so, not a period later.
   */
  readonly eager: boolean;
}

export class Prober {
  readonly #options: ProberOptions;
  readonly #periodMs: number;
  #verdict: boolean | undefined;
  #successes = 0;
  #failures = 0;
  #early = EARLY_MS;
  #nextCounted: number;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#periodMs = (options.probe.periodSeconds ?? 10) * 1000;
    const first = (options.probe.initialDelaySeconds ?? 0) * 1000;
    // A container that has just started may need a moment: looked at, not yet counted.
    this.#nextCounted = options.clock.monotonic() + first + (options.eager ? this.#periodMs : 0);
    this.#arm(first);
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
  }

  #arm(ms: number): void {
    this.#timer = this.#options.clock.after(ms, () => void this.#attempt());
  }

  async #attempt(): Promise<void> {
    const { clock, probe, run, onFailure } = this.#options;
    const counted = clock.monotonic() >= this.#nextCounted - 1;
    if (counted) this.#nextCounted = clock.monotonic() + this.#periodMs;
    const { ok, message } = await run();
    if (this.#stopped) return;
    if (ok) {
      this.#failures = 0;
      this.#successes += 1;
      if (this.#successes >= (probe.successThreshold ?? 1)) this.#decide(true, "");
    } else if (counted) {
      this.#successes = 0;
      this.#failures += 1;
      onFailure(message);
      if (this.#failures >= (probe.failureThreshold ?? 3)) this.#decide(false, message);
    }
    if (this.#stopped) return;
    const rest = Math.max(0, this.#nextCounted - clock.monotonic());
    if (this.#options.eager && this.#verdict !== true) {
      this.#arm(Math.min(rest, this.#early));
      this.#early = Math.min(this.#early * 1.5, this.#periodMs);
    } else this.#arm(rest);
  }

  #decide(ok: boolean, message: string): void {
    if (this.#verdict === ok) return;
    this.#verdict = ok;
    this.#options.onVerdict(ok, message);
  }
}
