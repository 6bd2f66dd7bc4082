// Gathers what one connection sends in a turn of the event loop into one write: streams that have nothing to do with
// each other share a system call and, with TLS, a record. The bytes wait in the machine, which tells when it has some.
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";

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
  readonly #flushMachine: () => void;
  /** All that was written last has been encrypted. */
  #encrypted = false;

  /** @param flushMachine makes the machine `write` what it has */
  constructor(socket: Duplex, flushMachine: () => void) {
    this.#socket = socket;
    // What waits behind a write would be copied into one piece before it is encrypted: page by page it is not.
    if (socket instanceof TLSSocket) (socket as { _writev?: unknown })._writev = undefined;
    this.#flushMachine = flushMachine;
  }

  /** The socket has enough to do: it tells by its `drain` when it has not. */
  get congested(): boolean {
    return this.#socket.writableLength >= SOCKET_LIMIT;
  }

  /** The kernel, or TLS, has all that was written: its memory may be used again. Other streams may keep it. */
  get taken(): boolean {
    return this.#encrypted || (this.#socket instanceof Socket && this.#socket.writableLength === 0);
  }

  /** The socket will tell by its `drain` when it has sent all that waits in it. */
  get drains(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** The machine has something to send. */
  announce(): void {
    // The check phase comes right after the sockets that are readable now were all read: later than a microtask,
    // which would run between two of them, and sooner than any of them can be heard again.
    if (waiting.push(this) === 1) setImmediate(flushAll);
  }

  /** Sends what there is now. */
  flush(): void {
    this.#flushMachine();
  }

  /** The bytes must not change until they are `taken`. */
  write(bytes: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return;
    // TLS encrypts at once what does not wait behind something else, though it tells so only later.
    this.#encrypted = socket instanceof TLSSocket && socket.writableLength === 0 && !socket.connecting;
    socket.write(bytes);
  }
}
