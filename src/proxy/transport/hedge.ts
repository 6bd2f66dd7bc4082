// A connection to the server while the client is silent: in protocols such as MySQL's or SMTP's the server speaks first,
// and waiting for the client would be waiting for ever. Whoever speaks first decides what the connection carries.
//
//   silence for a moment → dial → the server speaks → bytes, both ways
//                               └ the client speaks → what it says decides; the connection is used for bytes, or dropped
//
// A server of HTTP/2 speaks first too, but its clients wait for nothing: one of those that is silent, a peer's proxy on a busy
// machine before its TLS hello, is late, and what it will say decides.
import type { Socket } from "node:net";
import { HEAD, TYPE } from "../../http2/frame.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { DialError, DialHandler } from "./dial.ts";

/** How long a client may be silent before its server is called, ms. HTTP clients speak at once. */
const SILENCE = 50;

/** @typeParam P where it leads, as its owner knows it */
export interface HedgeOptions<P> {
  readonly clock: Clock;
  /** undefined: there is nowhere to dial to. */
  readonly place: () => P | undefined;
  readonly dial: (place: P, handler: DialHandler) => Socket;
  /** Once it is connected: what must come before anything else. */
  readonly preface: (place: P) => Buffer | undefined;
  /** The server spoke, or closed, before the client did: `adopt` the connection. */
  readonly onServer: () => void;
  /** The server was not reached; nothing is lost. */
  readonly onFailed: (place: P, error: DialError) => void;
}

export class Hedge<P> implements DialHandler {
  readonly #options: HedgeOptions<P>;
  #timer: Timer | undefined;
  #place: P | undefined;
  #socket: Socket | undefined;
  #connected = false;
  /** Who carries the connection's bytes from now on. */
  #heir: DialHandler | undefined;

  constructor(options: HedgeOptions<P>) {
    this.#options = options;
    this.#timer = options.clock.after(SILENCE, () => {
      this.#place = options.place();
      if (this.#place !== undefined) this.#socket = options.dial(this.#place, this);
    });
  }

  /** There is a connection, over which nothing has been said; and where it leads. */
  get connected(): P | undefined {
    return this.#connected && this.#heir === undefined ? this.#place : undefined;
  }

  /** Gives the connection away: its events are the heir's from now on. Only while `connected`. */
  adopt(heir: DialHandler): Socket {
    this.#heir = heir;
    return this.#socket!;
  }

  /** It is not needed. */
  drop(): void {
    this.#options.clock.clear(this.#timer);
    if (this.#heir === undefined) this.#socket?.destroy();
  }

  onConnected(): void {
    this.#connected = true;
    const preface = this.#options.preface(this.#place!);
    if (preface) this.#socket!.write(preface);
  }

  onBytes(size: number, buf: Buffer): void {
    if (this.#heir === undefined && isHttp2(buf.subarray(0, size))) {
      this.#connected = false;
      this.#socket!.destroy();
      return;
    }
    if (this.#heir === undefined) this.#options.onServer();
    this.#heir?.onBytes(size, buf);
  }

  onEnd(): void {
    if (this.#heir === undefined) this.#options.onServer();
    this.#heir?.onEnd();
  }

  onDrain(): void {
    this.#heir?.onDrain();
  }

  onClosed(error: DialError | undefined): void {
    const connected = this.#connected;
    this.#connected = false;
    if (this.#heir) this.#heir.onClosed(error);
    else if (error && !connected) this.#options.onFailed(this.#place!, error);
  }
}

/** Whether these bytes are how a server of HTTP/2 begins: a SETTINGS frame, of no stream, without ACK. */
function isHttp2(bytes: Buffer): boolean {
  if (bytes.length < HEAD) return false;
  const settings = bytes[3] === TYPE.SETTINGS && bytes[4] === 0 && bytes.readUInt32BE(5) === 0;
  return settings && bytes.readUIntBE(0, 3) % 6 === 0;
}
