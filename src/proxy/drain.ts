// The proxy's end: a trigger, the data paths that finish what is in flight, a deadline, and a second trigger for
// whoever cannot wait.
import type { Logger } from "../log/logger.ts";
import type { DataPath } from "./ports.ts";

export interface DrainOptions {
  readonly paths: readonly Pick<DataPath, "drain" | "close" | "connections">[];
  /** What is still open after this long is cut, ms. */
  readonly gracePeriod: number;
  readonly log: Logger;
  /** Called once, when all is over. */
  readonly onEnd: () => void;
}

export class Drain {
  readonly #options: DrainOptions;
  #reason: string | undefined;
  #ended = false;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  /** Why the proxy ends, or undefined while it does not. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Begins to drain; asked again, cuts what is still open. */
  begin(reason: string): void {
    const { paths, gracePeriod, log } = this.#options;
    if (this.#reason !== undefined) {
      this.#end(`asked again by ${reason}`);
      return;
    }
    this.#reason = reason;
    log.info("draining", { reason, connections: this.#open(), deadline_ms: gracePeriod });
    Promise.all(paths.map((path) => path.drain(gracePeriod))).then(
      () => this.#end("drained"),
      (error) => this.#end(String(error)),
    );
  }

  #open(): number {
    return this.#options.paths.reduce((sum, path) => sum + path.connections(), 0);
  }

  #end(why: string): void {
    if (this.#ended) return;
    this.#ended = true;
    const { paths, log, onEnd } = this.#options;
    log.info("stopped", { why, cut: this.#open() });
    for (const path of paths) path.close();
    onEnd();
  }
}
