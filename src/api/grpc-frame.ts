// gRPC's framing: one flag byte (0: not compressed), a big-endian length, the message.

/** Messages larger than this are refused unless a limit is given, bytes (gRPC's usual default). */
const MAX_GRPC_MESSAGE = 4 * 1024 * 1024;

/** A framed message. */
export function frame(body: Buffer): Buffer {
  const out = Buffer.allocUnsafe(body.length + 5);
  out[0] = 0;
  out.writeUInt32BE(body.length, 1);
  body.copy(out, 5);
  return out;
}

export class GrpcFrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "GrpcFrameError";
  }
}

/** The message of a chunk that is exactly one, as nearly all small ones come: a view. Undefined: it is for a Deframer. */
export function wholeMessage(chunk: Buffer, limit: number): Buffer | undefined {
  if (chunk.length < 5 || chunk.length > limit + 5 || chunk[0] !== 0) return undefined;
  return chunk.readUInt32BE(1) === chunk.length - 5 ? chunk.subarray(5) : undefined;
}

/** Cuts a byte stream into messages. */
export class Deframer {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #size = 0;

  constructor(limit = MAX_GRPC_MESSAGE) {
    this.#limit = limit;
  }

  /** Bytes of a message that has not ended. */
  get pending(): number {
    return this.#size;
  }

  /**
   * Takes a chunk and gives the messages that it completes.
   * @throws GrpcFrameError on compression and on messages above the limit.
   */
  push(chunk: Buffer): Buffer[] {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    const out: Buffer[] = [];
    while (this.#size >= 5) {
      const head = this.#joined();
      if (head[0] !== 0)
        throw new GrpcFrameError(head[0] === 1 ? "compressed message" : `frame flag ${head[0]}`);
      const length = head.readUInt32BE(1);
      if (length > this.#limit)
        throw new GrpcFrameError(`message of ${length} bytes, the limit is ${this.#limit}`);
      if (this.#size < length + 5) break;
      out.push(head.subarray(5, length + 5));
      this.#parts = [head.subarray(length + 5)];
      this.#size -= length + 5;
    }
    return out;
  }

  /** All bytes in one buffer; joins only while a message's end is awaited. */
  #joined(): Buffer {
    if (this.#parts.length > 1) {
      // Joining at each small chunk of a large message would be quadratic: only look at the head until all is here.
      const first = this.#parts[0]!;
      if (first.length >= 5 && this.#size < first.readUInt32BE(1) + 5 && first.readUInt32BE(1) <= this.#limit)
        return first;
      this.#parts = [Buffer.concat(this.#parts, this.#size)];
    }
    return this.#parts[0]!;
  }
}
