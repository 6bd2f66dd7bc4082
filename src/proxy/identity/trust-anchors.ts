// The trust anchors: from a file that is followed while it exists, else as the environment gave them at injection.
// Anchors that arrive as data are what lets a root be rotated while the proxy runs.
import { readFile } from "node:fs/promises";
import type { Logger } from "../../log/logger.ts";
import { parseCertificates } from "../../pki/pem.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorCode, errorMessage } from "../../util/error.ts";

export interface TrustAnchorsOptions {
  /** PEM */
  readonly fallback: string;
  readonly file: string | undefined;
  /** Default: from the file system. */
  readonly readFile?: (file: string, encoding: "utf8") => Promise<string>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onChange: () => void;
}

/** How often the file is looked at, ms. Kubernetes itself renews mounted files within a minute. */
const INTERVAL = 5_000;

export class TrustAnchors {
  readonly #options: TrustAnchorsOptions;
  #pem: string;
  #refused: string | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  private constructor(options: TrustAnchorsOptions) {
    this.#options = options;
    this.#pem = options.fallback;
  }

  static async start(options: TrustAnchorsOptions): Promise<TrustAnchors> {
    const anchors = new TrustAnchors(options);
    // The first look is not a change: nothing was built on the environment's anchors yet.
    if (options.file !== undefined) await anchors.#look(() => {});
    return anchors;
  }

  /** PEM, at least one certificate. */
  get pem(): string {
    return this.#pem;
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
  }

  async #look(changed: () => void): Promise<void> {
    const { file, clock, log, onChange, readFile: read = readFile } = this.#options;
    try {
      const text = await read(file!, "utf8");
      if (text !== this.#pem && text !== this.#refused) {
        this.#refused = text;
        const count = parseCertificates(text).length;
        this.#refused = undefined;
        this.#pem = text;
        log.info("trust anchors read", { file, certificates: count });
        changed();
      }
    } catch (error) {
      if (errorCode(error) !== "ENOENT")
        log.warn("the trust anchors' file is refused", { error: errorMessage(error) });
    }
    if (!this.#stopped) this.#timer = clock.after(INTERVAL, () => void this.#look(onChange));
  }
}
