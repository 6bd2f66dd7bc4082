// Proxies as the destination controller sees them: connections with a stream for each Service that they talk to. Of what
// they are told, the address of the first new endpoint is read; the rest is only taken.
import { connect, type Socket } from "node:net";
import { encode } from "../../src/api/codec.ts";
import { Get, GetDestination } from "../../src/api/destination.ts";
import { frame } from "../../src/api/grpc-frame.ts";
import { Http2Connection } from "../../src/http2/connection.ts";
import type { Http2Stream, StreamHandler } from "../../src/http2/stream.ts";
import { authorityOf, nodeName } from "./cluster.ts";

/** gRPC's head, and the way down to the address: Update.add.addrs[0].addr.ip.ipv4. */
const LEAST = 30;

/** Told of each new endpoint: its address. */
export type OnAdded = (ip: number) => void;

/** One stream: cuts messages, which may come in pieces. */
class Watch implements StreamHandler {
  readonly #connection: () => Http2Connection;
  readonly #onAdded: OnAdded;
  stream: Http2Stream | undefined;
  /** Bytes of the present message that have not come. */
  #left = 0;
  #head: Buffer | undefined;

  constructor(connection: () => Http2Connection, onAdded: OnAdded) {
    this.#connection = connection;
    this.#onAdded = onAdded;
  }

  onHeaders(): void {}
  onTrailers(): void {}
  onClose(): void {}

  onData(chunk: Buffer): void {
    this.#connection().consume(this.stream!, chunk.length);
    const bytes = this.#head ? Buffer.concat([this.#head, chunk]) : chunk;
    this.#head = undefined;
    let at = 0;
    while (at < bytes.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, bytes.length - at);
        this.#left -= taken;
        at += taken;
        continue;
      }
      const there = bytes.length - at;
      const size = there >= 5 ? bytes.readUInt32BE(at + 1) + 5 : LEAST;
      if (there < Math.min(size, LEAST)) {
        this.#head = Buffer.from(bytes.subarray(at));
        return;
      }
      this.#look(bytes, at + 5, at + size);
      this.#left = size;
    }
  }

  #look(bytes: Buffer, from: number, to: number): void {
    let at = from;
    // add, addrs, addr, ip: each one's tag is 0x0a.
    for (let depth = 0; depth < 4; depth += 1) {
      if (at >= to || bytes[at] !== 0x0a) return;
      at += 1;
      while (bytes[at]! >= 0x80) at += 1;
      at += 1;
    }
    if (bytes[at] === 0x0d) this.#onAdded(bytes.readUInt32LE(at + 1));
  }
}

export class Proxies {
  readonly #sockets: Socket[] = [];
  streams = 0;

  /** Opens one connection with a stream for each of these Services. */
  async add(number: number, port: number, services: Iterable<number>, onAdded: OnAdded): Promise<void> {
    const socket = connect(port, "127.0.0.1");
    this.#sockets.push(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.on("error", () => {});
    const machine: Http2Connection = new Http2Connection(
      {
        write: (bytes) => void socket.write(Buffer.from(bytes)),
        onStream: () => {
          throw new Error("the server opened a stream");
        },
        onEnd: () => socket.destroy(),
      },
      // As large as the windows of linkerd2-proxy's client.
      {
        side: "client",
        now: () => performance.now(),
        streamWindow: 65_535,
        connectionWindow: 1024 * 1024,
        maxStreams: 100,
      },
    );
    socket.on("data", (bytes: Buffer) => machine.receive(bytes));
    while (!machine.settled) await new Promise((resolve) => setImmediate(resolve));
    const contextToken = JSON.stringify({ ns: "bench", nodeName: nodeName(number), pod: `proxy-${number}` });
    machine.batch(() => {
      for (const service of services) {
        const watch = new Watch(() => machine, onAdded);
        watch.stream = machine.open(
          [
            [":method", "POST"],
            [":scheme", "http"],
            [":path", Get.path],
            [":authority", "mesh-dst:8086"],
            ["content-type", "application/grpc"],
            ["te", "trailers"],
          ],
          false,
          watch,
        );
        machine.sendData(
          watch.stream,
          frame(encode(GetDestination, { path: authorityOf(service), contextToken })),
          true,
        );
        this.streams += 1;
      }
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
