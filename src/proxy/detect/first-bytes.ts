// Reads the first bytes of a connection until they decide something, then hands the socket on with those bytes.
import type { Socket } from "node:net";
import type { Clock, Timer } from "../../util/clock.ts";

/** How reading came to its end. */
export type Why = "decided" | "timeout" | "ended" | "limit";

/** What the first bytes decided; `undefined` when they did not, for the reason that `why` names. */
export type Decided<T> = (verdict: T | undefined, bytes: Buffer, why: Why) => void;

export interface FirstBytesOptions<T> {
  readonly clock: Clock;
  /** ms; 0 or less: no timeout. */
  readonly timeout: number;
  /** Undecided after so many bytes: `limit`. */
  readonly limit: number;
  /** Bytes that were read already. */
  readonly bytes?: Buffer | undefined;
  /** undefined: more bytes are needed. */
  readonly decide: (bytes: Buffer) => T | undefined;
  /** The time is over without a byte: whether to go on waiting. */
  readonly patient?: () => boolean;
}

/** Reading that can be given up. */
export interface Reading {
  /** Stops, with the socket paused and without listeners of ours; `done` is not called. Returns what came so far. */
  stop(): Buffer;
}

/**
 * Calls `done` once, at once or later, with the socket paused and without listeners of ours, unless the socket closes before: then
 * never. An end of the client's side with no decision is `ended`.
 */
export function readFirstBytes<T>(
  socket: Socket,
  options: FirstBytesOptions<T>,
  done: Decided<T>,
): Reading | undefined {
  const early = options.bytes;
  if (early && early.length > 0) {
    const verdict = options.decide(early);
    if (verdict !== undefined) {
      done(verdict, early, "decided");
      return undefined;
    }
  }
  return new FirstBytes(socket, options, done);
}

const NOTHING = Buffer.alloc(0);

class FirstBytes<T> implements Reading {
  readonly #socket: Socket;
  readonly #options: FirstBytesOptions<T>;
  readonly #done: Decided<T>;
  #timer: Timer | undefined;
  #bytes: Buffer;

  constructor(socket: Socket, options: FirstBytesOptions<T>, done: Decided<T>) {
    this.#socket = socket;
    this.#options = options;
    this.#done = done;
    this.#bytes = options.bytes ?? NOTHING;
    if (options.timeout > 0) this.#wait();
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("close", this.#onClose);
    socket.resume();
  }

  #wait(): void {
    const { clock, timeout, patient } = this.#options;
    this.#timer = clock.after(timeout, () => {
      if (this.#bytes.length === 0 && patient?.()) this.#wait();
      else this.#finish(undefined, "timeout");
    });
  }

  stop(): Buffer {
    this.#detach();
    this.#socket.pause();
    return this.#bytes;
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const verdict = this.#options.decide(this.#bytes);
    if (verdict !== undefined) this.#finish(verdict, "decided");
    else if (this.#bytes.length >= this.#options.limit) this.#finish(undefined, "limit");
  };

  readonly #onEnd = (): void => this.#finish(undefined, "ended");
  readonly #onClose = (): void => this.#detach();

  #detach(): void {
    this.#options.clock.clear(this.#timer);
    this.#socket.off("data", this.#onData);
    this.#socket.off("end", this.#onEnd);
    this.#socket.off("close", this.#onClose);
  }

  #finish(verdict: T | undefined, why: Why): void {
    this.#detach();
    this.#socket.pause();
    this.#done(verdict, this.#bytes, why);
  }
}
