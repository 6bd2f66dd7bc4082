// What the bench is doing, for whoever watches: one line that changes on a terminal, a line each elsewhere.
import type { WriteStream } from "node:tty";

export class Progress {
  readonly #stream: NodeJS.WriteStream | WriteStream;
  #what = "";

  constructor(stream: NodeJS.WriteStream | WriteStream) {
    this.#stream = stream;
  }

  begin(what: string): void {
    this.#what = what;
    this.say("starting");
  }

  say(message: string): void {
    const line = this.#what ? `${this.#what}: ${message}` : message;
    if (!this.#stream.isTTY) this.#stream.write(`${line}\n`);
    else this.#stream.write(`\r\x1b[2K${line.slice(0, (this.#stream.columns ?? 80) - 1)}`);
  }

  end(): void {
    if (this.#stream.isTTY) this.#stream.write("\r\x1b[2K");
    this.#what = "";
  }
}
