// What one connection is about to send. Frames are written side by side into a page that all connections share, one
// after the other; what was written goes out as one piece. A page is written once from its beginning to its end and
// then left to the garbage collector: a socket may still be sending from it.

/** Size of a page, and of one for bodies, bytes. */
const PAGE = 16 * 1024;
const LARGE_PAGE = 66 * 1024;
/** A page with less room than this is not used again, bytes. */
const REMNANT = 512;
/** Pages kept with room in them. */
const MAX_SPARE = 16;
/** So many bytes are moved in front of what does not fit behind them, so that both are one write. */
const MAX_MOVED = 4 * 1024;

interface Page {
  readonly bytes: Buffer;
  at: number;
}

/** Pages with room, the last one used next. */
const spare: Page[] = [];
const NO_PAGE: Page = { bytes: Buffer.alloc(0), at: 0 };

export class Output {
  /** Where the next frame goes: `bytes` from `at` on, as far as was reserved. */
  bytes = NO_PAGE.bytes;
  at = 0;
  readonly #write: (bytes: Buffer) => void;
  #page = NO_PAGE;
  #from = 0;

  constructor(write: (bytes: Buffer) => void) {
    this.#write = write;
  }

  /** Bytes that have not gone out. */
  get size(): number {
    return this.at - this.#from;
  }

  /** Sees to it that `size` bytes can be written at `at`. */
  reserve(size: number): void {
    if (this.bytes.length - this.at < size) this.#turn(size);
  }

  #turn(size: number): void {
    const waiting = this.size;
    if (waiting > MAX_MOVED || waiting + size > LARGE_PAGE) this.flush();
    const { bytes } = this;
    const from = this.#from;
    const moved = this.size;
    // Nobody has seen what is moved: the next user may write over it, once it is copied.
    this.at = from;
    const page = take(moved + size);
    bytes.copy(page.bytes, page.at, from, from + moved);
    this.#release();
    this.#page = page;
    this.bytes = page.bytes;
    this.#from = page.at;
    this.at = page.at + moved;
  }

  #release(): void {
    const page = this.#page;
    page.at = this.at;
    if (page.bytes.length - page.at >= REMNANT && spare.length < MAX_SPARE) spare.push(page);
    this.#page = NO_PAGE;
    this.bytes = NO_PAGE.bytes;
    this.at = 0;
    this.#from = 0;
  }

  /** Forgets what there is. */
  discard(): void {
    this.at = this.#from;
    this.#release();
  }

  /** Hands over what there is. */
  flush(): void {
    if (this.at === this.#from) return;
    const written = this.bytes.subarray(this.#from, this.at);
    this.#release();
    this.#write(written);
  }
}

/** A page with so much room. */
function take(size: number): Page {
  const last = spare.at(-1);
  if (last !== undefined && last.bytes.length - last.at >= size) return spare.pop()!;
  const length = size <= PAGE / 2 ? PAGE : Math.max(size, LARGE_PAGE);
  return { bytes: Buffer.allocUnsafeSlow(length), at: 0 };
}
