// The back end of streaming gRPC: sends back each message as it came, until the client has no more. On the project's
// own HTTP/2 machine, since node:http2 would cost more than the proxies that are measured.
//
//   GRPC_SERVER='{"port":8080}' node grpc-server.mjs
import { createServer, type Socket } from "node:net";
import { Http2Connection } from "../../src/http2/connection.ts";
import type { Header } from "../../src/http2/hpack.ts";
import type { Http2Stream, StreamHandler } from "../../src/http2/stream.ts";

const { port } = JSON.parse(process.env["GRPC_SERVER"] ?? "{}") as { port: number };

const HEAD: readonly Header[] = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
const TRAILERS: readonly Header[] = [["grpc-status", "0"]];

class Echo implements StreamHandler {
  readonly #machine: Http2Connection;
  readonly #stream: Http2Stream;

  constructor(machine: Http2Connection, stream: Http2Stream) {
    this.#machine = machine;
    this.#stream = stream;
  }

  onHeaders(_headers: readonly Header[], end: boolean): void {
    this.#machine.sendHeaders(this.#stream, HEAD, false);
    if (end) this.#machine.sendHeaders(this.#stream, TRAILERS, true);
  }

  onData(chunk: Buffer, end: boolean): void {
    this.#machine.consume(this.#stream, chunk.length);
    this.#machine.sendData(this.#stream, Buffer.from(chunk), false);
    if (end) this.#machine.sendHeaders(this.#stream, TRAILERS, true);
  }

  onTrailers(): void {
    this.#machine.sendHeaders(this.#stream, TRAILERS, true);
  }

  onClose(): void {}
}

function serve(socket: Socket): void {
  const machine: Http2Connection = new Http2Connection(
    {
      write: (bytes) => socket.write(bytes),
      onStream: (stream) => new Echo(machine, stream),
      onEnd: () => socket.destroy(),
    },
    {
      side: "server",
      now: () => performance.now(),
      streamWindow: 262_144,
      connectionWindow: 1_048_576,
      maxStreams: 1_000,
    },
  );
  socket.setNoDelay(true);
  socket.on("data", (chunk: Buffer) => machine.receive(chunk));
  socket.on("error", () => {});
}

createServer(serve).listen(port, "127.0.0.1");
