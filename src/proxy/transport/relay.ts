// One direction of a forwarded connection: what one socket reads, the other writes. A few bytes are copied out of the
// buffer that all sockets read into; when many come the relay reads into a page of its own and writes from there, which
// costs no copy and no new memory. A page still being sent from is not read into again before the target has drained.
import type { Socket } from "node:net";
import type { CounterSeries } from "../../metrics/registry.ts";
import { givePage, takePage } from "./pages.ts";
import { copyOf, READ_BUFFER, readInto } from "./reads.ts";
import type { Replay } from "./replay.ts";

/** From this size on a read asks for a page; with less it is given back. Node's sockets drain after as much. */
const MANY = 16_384;

export class Relay {
  /** Keeps what is written, while it may have to be written again elsewhere. */
  replay: Replay | undefined;
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #read: CounterSeries;
  readonly #written: CounterSeries;
  #buffer: Buffer = READ_BUFFER;
  /** The page that the target still sends from. */
  #sending: Buffer | undefined;
  /** What the read before brought, bytes. */
  #last = 0;

  /** @param read counts what the source reads; `written` what the target writes */
  constructor(source: Socket, target: Socket, read: CounterSeries, written: CounterSeries) {
    this.#source = source;
    this.#target = target;
    this.#read = read;
    this.#written = written;
    readInto(source, READ_BUFFER, this.#onRead, this.#next);
  }

  readonly #onRead = (size: number, buf: Buffer): boolean => {
    this.#last = size;
    // What was read before, the ordinary way, goes first.
    if (this.#source.readableLength > 0) return this.#source.push(copyOf(buf, size));
    if (buf === READ_BUFFER || size < MANY) return this.write(copyOf(buf, size));
    const flows = this.write(buf.subarray(0, size));
    if (this.#target.writableLength > 0) {
      this.#sending = buf;
      this.#buffer = READ_BUFFER;
    }
    return flows;
  };

  readonly #next = (): Buffer | undefined => {
    const before = this.#buffer;
    if (this.#last >= MANY) {
      if (before !== READ_BUFFER) return undefined;
      this.#buffer = takePage();
    } else if (before !== READ_BUFFER) this.#release();
    else return undefined;
    return this.#buffer;
  };

  #release(): void {
    if (this.#buffer !== READ_BUFFER) givePage(this.#buffer);
    this.#buffer = READ_BUFFER;
  }

  /** Writes bytes that nobody will change. @returns false once the source has to wait: until the target drains */
  write(bytes: Buffer): boolean {
    if (this.#target.destroyed) {
      this.#source.pause();
      return false;
    }
    this.replay?.keep(bytes);
    this.#read.inc(bytes.length);
    this.#written.inc(bytes.length);
    // Asks for a drain even when all of it went out at once: then there is nothing to wait for.
    if (this.#target.write(bytes) || this.#target.writableLength === 0) return true;
    this.#source.pause();
    return false;
  }

  /** The target has sent all there was. */
  drained(): void {
    if (this.#sending !== undefined) givePage(this.#sending);
    this.#sending = undefined;
    this.#source.resume();
  }

  /** The source has nothing more. A page that is still sent from is left to the collector. */
  ended(): void {
    this.#release();
  }
}
