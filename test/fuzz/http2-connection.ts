// A peer that sends anything over HTTP/2: the machine never throws, tells each stream's end once and its own, writes
// nothing but frames, and takes the bytes for the same whether they come at once or in pieces.
// The first byte says which side we are and the second how the bytes are cut; frames follow, behind a proper beginning.
import * as assert from "node:assert/strict";
import { Http2Connection } from "../../src/http2/connection.ts";
import { CLIENT_PREFACE, ERROR } from "../../src/http2/frame.ts";
import type { Header } from "../../src/http2/hpack.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "../../src/http2/stream.ts";
import { Frames, settingsFrame } from "../support/http2-frames.ts";

const BODY = Buffer.alloc(20_000, 0x61);
const MAX_STREAMS = 20;
const REQUESTS: readonly Header[][] = ["GET", "HEAD", "CONNECT", "POST"].map((method) =>
  method === "CONNECT"
    ? [
        [":method", method],
        [":authority", "a"],
      ]
    : [
        [":method", method],
        [":scheme", "http"],
        [":path", "/"],
        [":authority", "a"],
      ],
);

class Story implements StreamHandler {
  readonly told: string[] = [];
  stream!: Http2Stream;
  closed = false;
  readonly #connection: Http2Connection;
  #body = "";

  constructor(connection: Http2Connection) {
    this.#connection = connection;
  }
  onHeaders(headers: readonly Header[], end: boolean): void {
    this.#tell(`headers ${headers.join("|")}`);
    if (end) this.#end();
  }
  onInformational(headers: readonly Header[]): void {
    this.#tell(`informational ${headers.join("|")}`);
  }
  onData(chunk: Buffer, end: boolean): void {
    this.#body += chunk.toString("latin1");
    this.#connection.consume(this.stream, chunk.length);
    if (end) this.#end();
  }
  onTrailers(headers: readonly Header[]): void {
    this.#tell(`trailers ${headers.join("|")}`);
    this.#end();
  }
  onClose(error: Http2Failure | undefined): void {
    assert.ok(!this.closed, "closed twice");
    this.#tell(error ? `failed ${error.code} ${error.message}` : "closed");
    this.closed = true;
  }
  #tell(what: string): void {
    assert.ok(!this.closed, `after the close: ${what}`);
    this.told.push(what);
  }
  #end(): void {
    this.#tell(`end of ${this.#body}`);
    this.#connection.sendHeaders(this.stream, [[":status", "200"]], false);
    this.#connection.sendData(this.stream, BODY, false);
    this.#connection.sendHeaders(this.stream, [["x-sum", "1"]], true);
  }
}

/** What the machine made of the bytes in pieces of `size`. */
function play(side: "client" | "server", bytes: Buffer, size: number): string[] {
  const stories: Story[] = [];
  const frames = new Frames();
  let ends = 0;
  let failure: Http2Failure | undefined;
  let preface = side === "client" ? CLIENT_PREFACE.length : 0;
  const connection: Http2Connection = new Http2Connection(
    {
      write: (written) => {
        const rest = written.subarray(Math.min(preface, written.length));
        preface -= written.length - rest.length;
        frames.push(rest);
      },
      onStream: (stream) => {
        const story = new Story(connection);
        story.stream = stream;
        stories.push(story);
        return story;
      },
      onOversized: (stream) => connection.sendHeaders(stream, [[":status", "431"]], true),
      onEnd: (reason) => {
        ends += 1;
        failure = reason;
      },
    },
    {
      side,
      now: () => 0,
      streamWindow: 65_535,
      connectionWindow: 100_000,
      maxStreams: MAX_STREAMS,
      extendedConnect: true,
    },
  );
  if (side === "server") connection.receive(CLIENT_PREFACE);
  connection.receive(settingsFrame([]));
  if (side === "client") {
    for (const request of REQUESTS) {
      if (!connection.available) break;
      const story = new Story(connection);
      story.stream = connection.open(request, request.length < 4, story);
      stories.push(story);
    }
  }
  for (let at = 0; at < bytes.length; at += size) {
    // A view that is overwritten afterwards, as a socket's buffer is.
    const piece = Buffer.from(bytes.subarray(at, at + size));
    connection.receive(piece);
    piece.fill(0xff);
  }
  assert.ok(connection.active <= MAX_STREAMS + REQUESTS.length);
  assert.ok(connection.bufferedBytes <= (connection.active + 1) * BODY.length);
  const { ended } = connection;
  connection.abort(new Http2Failure("gone", ERROR.CANCEL));
  assert.equal(ends, 1);
  assert.ok(stories.every(({ closed }) => closed));
  assert.equal(connection.active, 0);
  assert.equal(connection.bufferedBytes, 0);
  return [
    ended ? `ended ${failure?.code} ${failure?.message}` : "open",
    ...stories.map(({ told }) => told.join("\n")),
  ];
}

export function fuzz(bytes: Buffer): string {
  const side = (bytes[0] ?? 0) % 2 === 0 ? "server" : "client";
  const size = (bytes[1] ?? 0) + 1;
  const whole = play(side, bytes.subarray(2), Number.MAX_SAFE_INTEGER);
  assert.deepEqual(play(side, bytes.subarray(2), size), whole);
  const stories = whole.slice(1).map((story) => story.replace(/^(\w+)[^\n]*/gm, "$1").replace(/\n/g, "-"));
  return `${side} ${whole[0]!.replace(/\d+/g, "n")} ${[...new Set(stories)].sort().join(" ")}`;
}
