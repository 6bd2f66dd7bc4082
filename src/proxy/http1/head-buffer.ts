// Collects a head that came in several reads. It looks at each byte once, so a head sent byte by byte costs no
// more than one sent whole.
import { findHeadEnd, HEAD_LIMIT } from "./head.ts";

export class HeadBuffer {
  #bytes: Buffer | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds `buf[start, end)`. True: the whole head is here, or it is over the limit; `take` it. */
  append(buf: Uint8Array, start: number, end: number): boolean {
    const before = this.#length;
    const size = before + end - start;
    if (!this.#bytes || this.#bytes.length < size) {
      const grown = Buffer.allocUnsafeSlow(Math.max(2 * size, 1_024));
      if (this.#bytes) this.#bytes.copy(grown, 0, 0, before);
      this.#bytes = grown;
    }
    this.#bytes.set(buf.subarray(start, end), before);
    this.#length = size;
    return size > HEAD_LIMIT || findHeadEnd(this.#bytes, Math.max(0, before - 3), size) >= 0;
  }

  /** All bytes so far; the buffer is empty again. */
  take(): Buffer {
    const bytes = this.#bytes!.subarray(0, this.#length);
    this.#bytes = undefined;
    this.#length = 0;
    return bytes;
  }
}
