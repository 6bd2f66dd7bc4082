// Log lines of the proxy's own errors: each kind is told, and a flood of them is counted instead of written.
import type { Fields, Logger } from "../../log/logger.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import type { Clock } from "../../util/clock.ts";

/** Lines of one kind within a window, and the window, ms. */
const LINES = 5;
const WINDOW = 10_000;

export class ErrorLog {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #seen = new Map<PassportKey, { since: number; count: number }>();

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  write(key: PassportKey, fields: Fields): void {
    if (!this.#log.enabled("warn")) return;
    const now = this.#clock.monotonic();
    let seen = this.#seen.get(key);
    if (!seen || now - seen.since >= WINDOW) {
      const more = seen ? seen.count - LINES : 0;
      if (more > 0)
        this.#log.warn(`${PASSPORTS[key].text}: ${more} more of these`, { code: PASSPORTS[key].code });
      seen = { since: now, count: 0 };
      this.#seen.set(key, seen);
    }
    seen.count += 1;
    if (seen.count <= LINES) this.#log.warn(PASSPORTS[key].text, { code: PASSPORTS[key].code, ...fields });
  }
}
