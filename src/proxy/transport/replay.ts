// What a client has said on a connection of bytes, as long as it may have to be said again to somebody else.
import { REPLAY_LIMIT } from "../../rules/retry.ts";

export class Replay {
  /** undefined: it was too much. */
  #kept: Buffer[] | undefined = [];
  #size = 0;

  /** @param bytes copied: they may be in a buffer that is used again */
  keep(bytes: Buffer): void {
    if (this.#kept === undefined) return;
    this.#size += bytes.length;
    if (this.#size > REPLAY_LIMIT) this.#kept = undefined;
    else if (bytes.length > 0) this.#kept.push(Buffer.from(bytes));
  }

  /** All that was said; undefined when that was too much to keep. */
  get bytes(): Buffer | undefined {
    return this.#kept && Buffer.concat(this.#kept);
  }
}
