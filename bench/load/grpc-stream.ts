// Streaming gRPC: on each of many streams a message goes out, comes back, and the next one follows. Every stream must
// end with grpc-status 0.
//
//   GRPC_STREAM='{"port":8080,"connections":8,"streams":16,"seconds":4,"bytes":60}' node grpc-stream.mjs
//
// Writes one line of JSON: GrpcStreamResult.
import { connect, type Socket } from "node:net";
import { frame } from "../../src/api/grpc-frame.ts";
import { Http2Connection } from "../../src/http2/connection.ts";
import type { Header } from "../../src/http2/hpack.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../../src/http2/stream.ts";
import { type Counts, Histogram } from "../histogram.ts";

export interface GrpcStreamSettings {
  readonly port: number;
  readonly connections: number;
  /** Of each connection. */
  readonly streams: number;
  readonly seconds: number;
  /** Of a message, without its frame. */
  readonly bytes: number;
}

export interface GrpcStreamResult {
  /** Messages that went and came back. */
  readonly messages: number;
  /** Streams that did not end with grpc-status 0. */
  readonly failed: number;
  readonly seconds: number;
  readonly latency: Counts;
}

const HEAD: readonly Header[] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/bench.Echo/Stream"],
  [":authority", "bench.test"],
  ["te", "trailers"],
  ["content-type", "application/grpc"],
];
/** How long the streams' ends are waited for, ms. */
const LAST_WORDS = 2_000;

const settings: GrpcStreamSettings = JSON.parse(process.env["GRPC_STREAM"] ?? "{}");
const message = frame(Buffer.alloc(settings.bytes, 0x61));
const latency = new Histogram();
let messages = 0;
let failed = 0;
let open = settings.connections * settings.streams;
let ending = false;
let whenDone = () => {};

class PingPong implements StreamHandler {
  readonly #machine: Http2Connection;
  readonly #stream: Http2Stream;
  #missing = 0;
  #sentAt = 0;
  #status: string | undefined;

  constructor(machine: Http2Connection) {
    this.#machine = machine;
    this.#stream = machine.open(HEAD, false, this);
    this.#send();
  }

  #send(): void {
    this.#missing = message.length;
    this.#sentAt = performance.now();
    this.#machine.sendData(this.#stream, message, false);
  }

  onHeaders(headers: readonly Header[], end: boolean): void {
    if (end) this.onTrailers(headers);
  }

  onData(chunk: Buffer): void {
    this.#machine.consume(this.#stream, chunk.length);
    this.#missing -= chunk.length;
    if (this.#missing > 0) return;
    messages += 1;
    latency.record((performance.now() - this.#sentAt) * 1_000);
    if (ending) this.#machine.sendData(this.#stream, Buffer.alloc(0), true);
    else this.#send();
  }

  onTrailers(headers: readonly Header[]): void {
    this.#status = headers.find(([name]) => name === "grpc-status")?.[1];
  }

  onClose(_error: Http2Failure | undefined): void {
    if (this.#status !== "0") failed += 1;
    open -= 1;
    if (open === 0) whenDone();
  }
}

async function begin(): Promise<Socket> {
  const socket = connect(settings.port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.setNoDelay(true);
  let opened = 0;
  // A server may allow few streams at first: what finds no room is opened when there is some.
  const fill = () => {
    for (; opened < settings.streams && machine.available; opened += 1) new PingPong(machine);
  };
  const machine: Http2Connection = new Http2Connection(
    {
      write: (bytes) => socket.write(bytes),
      onStream: () => {
        throw new Error("a client is not called");
      },
      onRoom: fill,
      onEnd: () => socket.destroy(),
    },
    {
      side: "client",
      now: () => performance.now(),
      streamWindow: 262_144,
      connectionWindow: 1_048_576,
      maxStreams: 0,
    },
  );
  socket.on("data", (chunk: Buffer) => machine.receive(chunk));
  socket.on("error", () => {});
  socket.on("close", () => process.nextTick(whenDone));
  machine.batch(fill);
  return socket;
}

const sockets: Socket[] = [];
for (let i = 0; i < settings.connections; i += 1) sockets.push(await begin());
const started = performance.now();
await new Promise((resolve) => setTimeout(resolve, settings.seconds * 1_000));
const seconds = (performance.now() - started) / 1_000;
const carried = messages;
ending = true;
await new Promise<void>((resolve) => {
  whenDone = resolve;
  setTimeout(resolve, LAST_WORDS);
});
for (const socket of sockets) socket.destroy();
const result: GrpcStreamResult = {
  messages: carried,
  failed: failed + open,
  seconds,
  latency: latency.counts(),
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
