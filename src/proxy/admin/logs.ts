// Log records as they come, for whoever asks in the pod: at a level of their own, whatever the log is set to. A
// reader that does not keep up loses records, and is told how many.
import type { Level, Logger } from "../../log/logger.ts";
import { type AdminResponse, text } from "./http.ts";

/** Streams at the same time: each makes a line of every record. */
const MAX_STREAMS = 4;
/** Lines that wait for one reader, characters. */
const MAX_WAITING = 256 * 1024;

export class LogStreams {
  readonly #log: Logger;
  #open = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  open(level: Level): AdminResponse {
    if (this.#open >= MAX_STREAMS) return text(429, `${MAX_STREAMS} streams are open already`);
    this.#open += 1;
    const body = new LogStream(this.#log, level, () => {
      this.#open -= 1;
    });
    return { status: 200, type: "application/json", body };
  }
}

/** Ends when its reader goes. */
class LogStream implements AsyncIterableIterator<Buffer> {
  readonly #stop: () => void;
  readonly #onClose: () => void;
  #waiting: string[] = [];
  #size = 0;
  #lost = 0;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(log: Logger, level: Level, onClose: () => void) {
    this.#stop = log.listen(level, (line) => this.#push(line));
    this.#onClose = onClose;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #push(line: string): void {
    if (this.#size + line.length > MAX_WAITING) this.#lost += 1;
    else {
      this.#waiting.push(line);
      this.#size += line.length;
    }
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Buffer>> {
    while (this.#waiting.length === 0 && !this.#closed)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    this.#wake = undefined;
    if (this.#closed) return { done: true, value: undefined };
    const lines = this.#waiting;
    if (this.#lost > 0)
      lines.push(`${JSON.stringify({ level: "WARN", message: `${this.#lost} records were left out` })}\n`);
    this.#waiting = [];
    this.#size = 0;
    this.#lost = 0;
    return { done: false, value: Buffer.from(lines.join("")) };
  }

  async return(): Promise<IteratorResult<Buffer>> {
    if (!this.#closed) {
      this.#closed = true;
      this.#stop();
      this.#onClose();
      this.#wake?.();
    }
    return { done: true, value: undefined };
  }
}
