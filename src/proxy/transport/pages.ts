// Memory for bytes on their way through: pages of a read's size, used again at once when they have gone out at once.

/** Bytes of a page: as much as one read of Node brings. */
export const PAGE_SIZE = 65_536;
/** Pages kept for the next who asks. */
const MAX_SPARE = 4;

const spare: Buffer[] = [];

/** A page, to be given back once nobody reads from it; one that is not is left to the collector. */
export function takePage(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(PAGE_SIZE);
}

export function givePage(page: Buffer): void {
  if (spare.length < MAX_SPARE) spare.push(page);
}

/** Lets go of the pages that are kept. */
export function dropPages(): void {
  spare.length = 0;
}
