// Gathers what one connection sends in a turn of the event loop into one write: streams that have nothing to do with
// each other share a system call and, with TLS, a record.
import type { Duplex } from "node:stream";

/** Beyond this a turn's output goes out at once, bytes. */
const TURN_LIMIT = 256 * 1024;
/** What may wait in the socket before whoever writes is told to stop, bytes. */
const SOCKET_LIMIT = 128 * 1024;

/** Writers with something to send in this turn; they share one immediate. */
let waiting: TurnWriter[] = [];

function flushAll(): void {
  const writers = waiting;
  waiting = [];
  for (const writer of writers) writer.flush();
}

export class TurnWriter {
  readonly #socket: Duplex;
  readonly #onUncongested: () => void;
  /** Somebody was told to stop. */
  #told = false;
  #out: Buffer[] = [];
  #size = 0;
  #scheduled = false;

  /** @param onUncongested whoever found it `congested` may go on */
  constructor(socket: Duplex, onUncongested: () => void) {
    this.#socket = socket;
    this.#onUncongested = onUncongested;
  }

  /** The socket has enough to do. */
  get congested(): boolean {
    const congested = this.#size + this.#socket.writableLength >= SOCKET_LIMIT;
    if (congested) this.#told = true;
    return congested;
  }

  /** The socket has told that all was written. */
  drained(): void {
    if (!this.#told || this.congested) return;
    this.#told = false;
    this.#onUncongested();
  }

  /** The bytes must not change afterwards. */
  write(bytes: Buffer): void {
    this.#out.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= TURN_LIMIT) {
      this.flush();
      return;
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    // The check phase comes right after the sockets that are readable now were all read: later than a microtask,
    // which would run between two of them, and sooner than any of them can be heard again.
    if (waiting.push(this) === 1) setImmediate(flushAll);
  }

  /** Sends what there is now. */
  flush(): void {
    this.#scheduled = false;
    const size = this.#size;
    if (size === 0) return;
    const out = this.#out;
    this.#out = [];
    this.#size = 0;
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    // What the kernel takes at once is never told of by a `drain`.
    if (this.#socket.write(out.length === 1 ? out[0]! : Buffer.concat(out, size))) this.drained();
  }
}
