// Finds the ends of HTTP/1 responses with a content-length: all that a load generator needs to know of them.

const HEAD_END = Buffer.from("\r\n\r\n", "latin1");
const LENGTH = /\r\ncontent-length: *(\d+)/i;

export class ResponseFramer {
  /** Of the last response whose head was complete. */
  status = 0;
  #head: Buffer | undefined;
  /** Body bytes that are missing; -1 while the head is. */
  #missing = -1;

  /**
   * @returns responses that are complete now
   * @throws Error for a head without a content-length, or that is no HTTP/1 response
   */
  push(chunk: Buffer): number {
    let complete = 0;
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#missing < 0) {
        const bytes = this.#head ? Buffer.concat([this.#head, rest]) : rest;
        const end = bytes.indexOf(HEAD_END);
        if (end < 0) {
          this.#head = bytes;
          return complete;
        }
        this.#head = undefined;
        this.#read(bytes.toString("latin1", 0, end));
        rest = bytes.subarray(end + 4);
      }
      const taken = Math.min(rest.length, this.#missing);
      this.#missing -= taken;
      rest = rest.subarray(taken);
      if (this.#missing === 0) {
        complete += 1;
        this.#missing = -1;
      }
    }
    return complete;
  }

  #read(head: string): void {
    const length = LENGTH.exec(head);
    if (!head.startsWith("HTTP/1.") || !length) throw new Error(`not a response with a length: ${head}`);
    this.status = Number(head.slice(9, 12));
    this.#missing = Number(length[1]);
  }
}
