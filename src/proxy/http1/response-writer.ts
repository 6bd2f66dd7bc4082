// What goes to an HTTP/1 client: what comes together goes out together, in pages that all connections share, and a client
// that takes nothing of what waits for it is given up.
import type { Socket } from "node:net";
import { copyBytes } from "../../http2/body-queue.ts";
import { Output } from "../../http2/output.ts";
import { TurnWriter } from "../../http2/turn-writer.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { STALL_TIMEOUT } from "../http/limits.ts";
import type { TcpSeries } from "../telemetry/series.ts";
import { sendingOf } from "../transport/progress.ts";

/**
 * So many bytes of a response wait for more only while what was read is looked through. When there are more of them,
 * more are coming: TLS brings them by the record, so they wait until all sockets were read.
 */
export const FEW = 4_096;

/** Writers with a few bytes that wait for more. */
let gathering: ResponseWriter[] = [];

function flushGathered(): void {
  const writers = gathering;
  gathering = [];
  for (const writer of writers) writer.flushFew();
}

export class ResponseWriter {
  /** The client takes no more for now: `drained` says when it does. */
  full = false;
  readonly #socket: Socket;
  readonly #tcp: TcpSeries;
  readonly #clock: Clock;
  readonly #onFull: () => void;
  #stall: Timer | undefined;
  /** Bytes that more may follow in this turn, and what writes them; there once it was needed. */
  #output: Output | undefined;
  #writer: TurnWriter | undefined;

  /** @param onFull `full` has become true, or is still after more was written: whoever sends is to pause */
  constructor(socket: Socket, tcp: TcpSeries, clock: Clock, onFull: () => void) {
    this.#socket = socket;
    this.#tcp = tcp;
    this.#clock = clock;
    this.#onFull = onFull;
  }

  /** Writes, after what waits. The bytes must not change any more. */
  write(bytes: Buffer): void {
    this.flush();
    this.#writeNow(bytes);
  }

  /** Writes, as a copy, what more may follow at once: head, body and last chunk that came together go out together. */
  writeSoon(bytes: Buffer): void {
    const before = this.#output?.size ?? 0;
    const { size } = this.append(bytes, 0, bytes.length);
    if (size > FEW) {
      if (before <= FEW) this.#writer!.announce();
    } else if (before === 0 && size > 0 && gathering.push(this) === 1) process.nextTick(flushGathered);
  }

  /** Writes `buf[start, end)`, which is not ours to keep. */
  writeCopy(buf: Buffer, start: number, end: number): void {
    if (end - start > FEW) {
      this.append(buf, start, end);
      this.flush();
      return;
    }
    const out = Buffer.allocUnsafe(end - start);
    buf.copy(out, 0, start, end);
    this.write(out);
  }

  /** Adds a copy of `buf[start, end)` to what waits; something else is to be written, or `flush` called, in this turn. */
  append(buf: Buffer, start: number, end: number): Output {
    const output = this.#output ?? this.#openOutput();
    output.reserve(end - start);
    copyBytes(buf, start, end, output.bytes, output.at);
    output.at += end - start;
    return output;
  }

  #openOutput(): Output {
    const writer = new TurnWriter(this.#socket, () => this.flush());
    this.#writer = writer;
    this.#output = new Output(
      (bytes) => this.#writeNow(bytes),
      () => writer.taken,
      () => writer.drains,
    );
    return this.#output;
  }

  /** Sends what waits for more. */
  flush(): void {
    this.#output?.flush();
  }

  /** The same, if it is not so much that it waits for the end of the turn. */
  flushFew(): void {
    const output = this.#output!;
    if (output.size <= FEW) output.flush();
  }

  #writeNow(bytes: Buffer): void {
    const socket = this.#socket;
    this.#tcp.write.inc(bytes.length);
    if (this.#writer) this.#writer.write(bytes);
    else socket.write(bytes);
    // Node asks for a pause after much, even when all of it went out at once.
    if (!socket.writableNeedDrain || socket.writableLength === 0) return;
    this.full = true;
    this.#onFull();
    if (this.#stall === undefined) this.#watchStall();
  }

  /** The socket has sent all that was written. @returns whether it was `full` */
  drained(): boolean {
    this.#output?.drained();
    const { full } = this;
    this.full = false;
    if (full) this.stop();
    return full;
  }

  /** The connection is over: it is watched no more. */
  stop(): void {
    this.#clock.clear(this.#stall);
    this.#stall = undefined;
  }

  /** Gives the client up when it takes nothing of what waits for it. */
  #watchStall(): void {
    const socket = this.#socket;
    const before = sendingOf(socket);
    this.#stall = this.#clock.after(STALL_TIMEOUT, () => {
      if (sendingOf(socket) === before) socket.destroy();
      else this.#watchStall();
    });
  }
}
