// The HTTP/2 machine in memory, for its tests: one side with what its streams were told, two sides with bytes carried
// between them, and a raw peer that sends any frames and reads ours.
import * as assert from "uvu/assert";
import {
  type ConnectionHandler,
  type ConnectionOptions,
  Http2Connection,
} from "../../src/http2/connection.ts";
import { CLIENT_PREFACE, FLAG, TYPE } from "../../src/http2/frame.ts";
import { type Header, HPACK_LIMITS, HpackDecoder, HpackEncoder } from "../../src/http2/hpack.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../../src/http2/stream.ts";
import { type Frame, Frames, frameOf, headerFrames, settingsFrame } from "./http2-frames.ts";

export const options = (
  side: "client" | "server",
  more: Partial<ConnectionOptions> = {},
): ConnectionOptions => ({
  side,
  now: () => 0,
  streamWindow: 65_535,
  connectionWindow: 65_535,
  maxStreams: 100,
  ...more,
});

/** Keeps what a stream was told; consumes at once unless told otherwise. */
export class Seen implements StreamHandler {
  headers: readonly Header[] | undefined;
  trailers: readonly Header[] | undefined;
  informational: (readonly Header[])[] = [];
  body: Buffer[] = [];
  complete = false;
  closed = false;
  error: Http2Failure | undefined;
  stream: Http2Stream | undefined;
  consume: (chunk: Buffer) => void = () => {};
  onComplete: () => void = () => {};

  onHeaders(headers: readonly Header[], end: boolean): void {
    this.headers = headers;
    if (end) this.#end();
  }
  onInformational(headers: readonly Header[]): void {
    this.informational.push(headers);
  }
  onData(chunk: Buffer, end: boolean): void {
    assert.not(this.complete);
    this.body.push(Buffer.from(chunk));
    this.consume(chunk);
    if (end) this.#end();
  }
  onTrailers(headers: readonly Header[]): void {
    this.trailers = headers;
    this.#end();
  }
  onClose(error: Http2Failure | undefined): void {
    assert.not(this.closed, "onClose comes once");
    this.closed = true;
    this.error = error;
  }
  #end(): void {
    this.complete = true;
    this.onComplete();
  }
}

/** One side and the bytes that it wrote. */
export class Side {
  readonly connection: Http2Connection;
  readonly streams: Seen[] = [];
  out: Buffer[] = [];
  ended = false;
  failure: Http2Failure | undefined;

  constructor(
    given: ConnectionOptions,
    prepare: (seen: Seen, stream: Http2Stream) => void = () => {},
    more: Partial<ConnectionHandler> = {},
  ) {
    this.connection = new Http2Connection(
      {
        ...more,
        write: (bytes) => this.out.push(bytes),
        onStream: (stream) => {
          const seen = new Seen();
          seen.stream = stream;
          seen.consume = (chunk) => this.connection.consume(stream, chunk.length);
          this.streams.push(seen);
          prepare(seen, stream);
          return seen;
        },
        onEnd: (failure) => {
          assert.not(this.ended, "onEnd comes once");
          this.ended = true;
          this.failure = failure;
        },
      },
      given,
    );
  }

  take(): Buffer {
    const bytes = Buffer.concat(this.out);
    this.out = [];
    return bytes;
  }

  /** Opens a stream and consumes what comes on it. */
  request(headers: readonly Header[], body?: Buffer, trailers?: readonly Header[]): Seen {
    const seen = new Seen();
    seen.consume = (chunk) => this.connection.consume(seen.stream!, chunk.length);
    this.connection.batch(() => {
      seen.stream = this.connection.open(headers, body === undefined && trailers === undefined, seen);
      if (body) this.connection.sendData(seen.stream, body, trailers === undefined);
      if (trailers) this.connection.sendHeaders(seen.stream, trailers, true);
    });
    return seen;
  }
}

/** Carries bytes both ways in pieces of the given sizes until both are silent. */
export function carry(a: Side, b: Side, cuts: Iterator<number>): void {
  for (;;) {
    const [fromA, fromB] = [a.take(), b.take()];
    if (fromA.length + fromB.length === 0) return;
    for (const [bytes, to] of [
      [fromA, b],
      [fromB, a],
    ] as const) {
      for (let at = 0; at < bytes.length; ) {
        const size = Math.max(1, cuts.next().value ?? bytes.length);
        to.connection.receive(Buffer.from(bytes.subarray(at, at + size)));
        at += size;
      }
    }
  }
}

export function* cycle(list: readonly number[]): Generator<number> {
  for (;;) {
    if (list.length === 0) yield 1_000_000;
    yield* list;
  }
}

export const GET: readonly Header[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "web"],
];
export const POST: readonly Header[] = [[":method", "POST"], ...GET.slice(1)];

/** A raw peer: writes frames, reads ours. A server under test does not consume bodies, nor answer unless told to. */
export class Raw {
  readonly side: Side;
  readonly encoder = new HpackEncoder();
  readonly resets = new Map<number, number>();
  goAway: number | undefined;
  readonly frames: Frame[] = [];
  readonly #reader = new Frames();

  /** Headers of the answers, by stream. */
  readonly answers = new Map<number, readonly Header[]>();
  readonly #decoder = new HpackDecoder({ ...HPACK_LIMITS, listSize: 100_000 });
  readonly #block: Buffer[] = [];

  /**
   * @param side the one under test
   * @param introduced preface and SETTINGS have been exchanged
   */
  constructor(
    side: "client" | "server",
    more: Partial<ConnectionOptions> = {},
    handler: Partial<ConnectionHandler> = {},
    prepare: (seen: Seen, stream: Http2Stream) => void = (seen) => {
      seen.consume = () => {};
    },
    introduced = true,
  ) {
    this.side = new Side(options(side, more), prepare, handler);
    if (side === "client") this.side.out[0] = this.side.out[0]!.subarray(CLIENT_PREFACE.length);
    else if (introduced) this.send(CLIENT_PREFACE);
    if (introduced) this.send(settingsFrame([]), frameOf(TYPE.SETTINGS, FLAG.ACK, 0));
  }

  send(...frames: Buffer[]): void {
    this.side.connection.receive(Buffer.concat(frames));
    this.read();
  }

  /** Reads what the side has written. */
  read(): void {
    for (const frame of this.#reader.push(this.side.take())) {
      const { type, flags, stream, payload } = frame;
      this.frames.push(frame);
      if (type === TYPE.RST_STREAM) this.resets.set(stream, payload.readUInt32BE(0));
      if (type === TYPE.GOAWAY) this.goAway = payload.readUInt32BE(4);
      if (type === TYPE.HEADERS || type === TYPE.CONTINUATION) {
        this.#block.push(payload);
        if ((flags & FLAG.END_HEADERS) === 0) continue;
        this.answers.set(stream, this.#decoder.decode(Buffer.concat(this.#block.splice(0))));
      }
    }
  }

  /** Frames of a type that we have written. */
  of(type: number): Frame[] {
    return this.frames.filter((frame) => frame.type === type);
  }

  headers(id: number, list: readonly Header[], end: boolean): Buffer {
    return headerFrames(id, this.encoder.encode(list), end);
  }
}

export const data = (id: number, body: string | Buffer, end = false): Buffer =>
  frameOf(TYPE.DATA, end ? FLAG.END_STREAM : 0, id, Buffer.from(body as string));
