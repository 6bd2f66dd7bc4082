// gRPC's framing: one flag byte (0: not compressed), a big-endian length, the message.

/** Bytes of the flag and the length. */
export const FRAME_HEAD = 5;
/** Messages larger than this are refused unless a limit is given, bytes (gRPC's usual default). */
const MAX_GRPC_MESSAGE = 4 * 1024 * 1024;

/** A framed message. */
export function frame(body: Buffer): Buffer {
  const out = Buffer.allocUnsafe(body.length + FRAME_HEAD);
  out[0] = 0;
  out.writeUInt32BE(body.length, 1);
  body.copy(out, FRAME_HEAD);
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
  const size = chunk.length - FRAME_HEAD;
  if (size < 0 || size > limit || chunk[0] !== 0) return undefined;
  return chunk.readUInt32BE(1) === size ? chunk.subarray(FRAME_HEAD) : undefined;
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
    while (this.#size >= FRAME_HEAD) {
      const head = this.#joined();
      if (head[0] !== 0)
        throw new GrpcFrameError(head[0] === 1 ? "compressed message" : `frame flag ${head[0]}`);
      const length = head.readUInt32BE(1);
      if (length > this.#limit)
        throw new GrpcFrameError(`message of ${length} bytes, the limit is ${this.#limit}`);
      const end = FRAME_HEAD + length;
      if (this.#size < end) break;
      out.push(head.subarray(FRAME_HEAD, end));
      this.#parts = [head.subarray(end)];
      this.#size -= end;
    }
    return out;
  }

  /** All bytes in one buffer; joins only while a message's end is awaited. */
  #joined(): Buffer {
    if (this.#parts.length > 1) {
      // Joining at each small chunk of a large message would be quadratic: only look at the head until all is here.
      const first = this.#parts[0]!;
      if (first.length >= FRAME_HEAD) {
        const length = first.readUInt32BE(1);
        if (this.#size < FRAME_HEAD + length && length <= this.#limit) return first;
      }
      this.#parts = [Buffer.concat(this.#parts, this.#size)];
    }
    return this.#parts[0]!;
  }
}
