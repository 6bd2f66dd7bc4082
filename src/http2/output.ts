// What one connection is about to send. Frames are written side by side into a page that all connections share, one
// after the other; what was written goes out as one piece. What has gone out of a page is not written over before the
// socket has taken it: it may still be sending from there.

/** Size of a page, of one for bodies, and of one when many are in use, bytes. */
const PAGE = 16 * 1024;
const LARGE_PAGE = 66 * 1024;
const SMALL_PAGE = 2 * 1024;
/** Pages in use at the same time from which on they are small: connections that all have a few bytes to send. */
const MANY = 64;
/** A page with less room than this is not used again, bytes. */
const REMNANT = 512;
/** Pages kept with room in them: as many as connections that are slow to take theirs hold at a time. */
const MAX_SPARE = 32;
/** So many bytes are moved in front of what does not fit behind them, so that both are one write. */
const MAX_MOVED = 4 * 1024;

interface Page {
  readonly bytes: Buffer;
  /** Where there is room from. */
  at: number;
  /** Pieces of it that sockets may still send from. */
  sending: number;
  /** Who has it: one output, `spare`, or nobody but those sockets. */
  place: "output" | "spare" | "away";
}

/** Pages with room, the last one used next; and how many are in use. */
const spare: Page[] = [];
let used = 0;
const NO_PAGES: Page[] = [];
const NO_PAGE: Page = { bytes: Buffer.alloc(0), at: 0, sending: 0, place: "away" };

export class Output {
  /** Where the next frame goes: `bytes` from `at` on, as far as was reserved. */
  bytes = NO_PAGE.bytes;
  at = 0;
  readonly #write: (bytes: Buffer) => void;
  readonly #taken: () => boolean;
  readonly #drains: () => boolean;
  #page = NO_PAGE;
  #from = 0;
  /** Pages that the socket still sends from. */
  #sending: Page[] = NO_PAGES;

  /**
   * @param taken whether all that was written so far may be written over
   * @param drains whether `drained` will be called once it may; of what nobody tells, pages are not used again
   */
  constructor(write: (bytes: Buffer) => void, taken: () => boolean, drains: () => boolean = never) {
    this.#write = write;
    this.#taken = taken;
    this.#drains = drains;
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
    if (this.#sending !== NO_PAGES && this.#taken()) this.drained();
    this.#write(page.bytes.subarray(from, to));
    if (this.#taken()) giveBack(page, from);
    else {
      this.#keepsSending(page);
      giveBack(page, to);
    }
  }

  #keepsSending(page: Page): void {
    page.sending += 1;
    if (!this.#drains()) return;
    if (this.#sending === NO_PAGES) this.#sending = [page];
    else this.#sending.push(page);
  }

  /** All that was written so far may be written over. */
  drained(): void {
    const pages = this.#sending;
    if (pages === NO_PAGES) return;
    this.#sending = NO_PAGES;
    for (const page of pages) {
      page.sending -= 1;
      // Whoever writes into it goes on behind what was there.
      if (page.sending > 0 || page.place === "output") continue;
      page.at = 0;
      if (page.place === "away") keep(page);
    }
  }
}

/** Lets go of the pages that are kept for what comes next: two megabytes at most. */
export function dropSparePages(): void {
  for (const page of spare) page.place = "away";
  spare.length = 0;
}

const never = (): boolean => false;

/** A page with so much room. */
function take(size: number): Page {
  used += 1;
  for (let i = spare.length - 1; i >= 0; i -= 1) {
    const page = spare[i]!;
    if (page.bytes.length - page.at < size) continue;
    spare[i] = spare[spare.length - 1]!;
    spare.pop();
    page.place = "output";
    return page;
  }
  const usual = used > MANY ? SMALL_PAGE : PAGE;
  const length = size <= usual / 2 ? usual : Math.max(size, used > MANY ? 0 : LARGE_PAGE);
  return { bytes: Buffer.allocUnsafeSlow(length), at: 0, sending: 0, place: "output" };
}

/** The page may be written again from `at` on. */
function giveBack(page: Page, at: number): void {
  if (page === NO_PAGE) return;
  used -= 1;
  page.at = page.sending === 0 ? 0 : at;
  keep(page);
}

/** Keeps a page with room for who needs one next; of too many, not the one that was not used for longest. */
function keep(page: Page): void {
  const hasRoom = page.bytes.length - page.at >= REMNANT;
  page.place = hasRoom ? "spare" : "away";
  if (!hasRoom) return;
  spare.push(page);
  if (spare.length > MAX_SPARE) spare.shift()!.place = "away";
}
