// What one connection is about to send. Frames are written side by side into a page that all connections share, one
// after the other; what was written goes out as one piece. What has gone out of a page is not written over, unless the
// socket says that it has taken it: it may still be sending from there.

/** Size of a page, of one for bodies, and of one when many are in use, bytes. */
const PAGE = 16 * 1024;
const LARGE_PAGE = 66 * 1024;
const SMALL_PAGE = 2 * 1024;
/** Pages in use at the same time from which on they are small: connections that all have a few bytes to send. */
const MANY = 64;
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

/** Pages with room, the last one used next; and how many are in use. */
const spare: Page[] = [];
let used = 0;
const NO_PAGE: Page = { bytes: Buffer.alloc(0), at: 0 };

export class Output {
  /** Where the next frame goes: `bytes` from `at` on, as far as was reserved. */
  bytes = NO_PAGE.bytes;
  at = 0;
  readonly #write: (bytes: Buffer) => void;
  readonly #taken: () => boolean;
  #page = NO_PAGE;
  #from = 0;

  /** @param taken whether all that was written so far may be written over */
  constructor(write: (bytes: Buffer) => void, taken: () => boolean) {
    this.#write = write;
    this.#taken = taken;
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
    const before = this.#page;
    const from = this.#from;
    const moved = this.size;
    const page = take(moved + size);
    if (moved > 0) before.bytes.copy(page.bytes, page.at, from, from + moved);
    // Nobody has seen what was moved.
    giveBack(before, from);
    this.#page = page;
    this.bytes = page.bytes;
    this.#from = page.at;
    this.at = page.at + moved;
  }

  #leave(): void {
    this.#page = NO_PAGE;
    this.bytes = NO_PAGE.bytes;
    this.at = 0;
    this.#from = 0;
  }

  /** Forgets what there is. */
  discard(): void {
    giveBack(this.#page, this.#from);
    this.#leave();
  }

  /** Hands over what there is. */
  flush(): void {
    const page = this.#page;
    const from = this.#from;
    const to = this.at;
    if (to === from) return;
    this.#leave();
    this.#write(page.bytes.subarray(from, to));
    giveBack(page, this.#taken() ? from : to);
  }
}

/** Lets go of the pages that are kept for what comes next: a megabyte at most. */
export function dropSparePages(): void {
  spare.length = 0;
}

/** A page with so much room. */
function take(size: number): Page {
  used += 1;
  const last = spare.at(-1);
  if (last !== undefined && last.bytes.length - last.at >= size) return spare.pop()!;
  const usual = used > MANY ? SMALL_PAGE : PAGE;
  const length = size <= usual / 2 ? usual : Math.max(size, used > MANY ? 0 : LARGE_PAGE);
  return { bytes: Buffer.allocUnsafeSlow(length), at: 0 };
}

/** The page may be written again from `at` on. */
function giveBack(page: Page, at: number): void {
  if (page === NO_PAGE) return;
  used -= 1;
  page.at = at;
  if (page.bytes.length - at >= REMNANT && spare.length < MAX_SPARE) spare.push(page);
}
