// Body bytes of one stream that wait for the peer's window.

/** Up to this size a loop is quicker than a call, bytes. */
const SHORT = 48;

export class BodyQueue {
  readonly #chunks: Buffer[] = [];
  /** Bytes of the first chunk that have been taken. */
  #offset = 0;
  /** Bytes that wait. */
  size = 0;
  /** Since when the peer lets us send nothing, or next to nothing, whole ms, monotonic; -1: it does. */
  stalledSince = -1;
  /** Bytes sent since then. */
  progress = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.size += chunk.length;
  }

  /** Moves `size` bytes to `out`; there must be so many. */
  take(size: number, out: Buffer, at: number): void {
    this.size -= size;
    for (let left = size; left > 0; ) {
      const chunk = this.#chunks[0]!;
      const part = Math.min(left, chunk.length - this.#offset);
      copyBytes(chunk, this.#offset, this.#offset + part, out, at + size - left);
      this.#offset += part;
      left -= part;
      if (this.#offset < chunk.length) continue;
      this.#chunks.shift();
      this.#offset = 0;
    }
  }

  /** Makes what is left of the chunk that was pushed last our own copy. */
  own(): void {
    const last = this.#chunks.length - 1;
    const chunk = this.#chunks[last]!;
    this.#chunks[last] = Buffer.from(last === 0 ? chunk.subarray(this.#offset) : chunk);
    if (last === 0) this.#offset = 0;
  }
}

/** Copies `from[start, end)` to `to` at `at`. */
export function copyBytes(from: Buffer, start: number, end: number, to: Buffer, at: number): void {
  if (end - start <= SHORT) for (let i = start; i < end; i += 1) to[at + i - start] = from[i]!;
  else from.copy(to, at, start, end);
}
