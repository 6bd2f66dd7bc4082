// Proxies as the destination controller sees them: connections with a stream for each Service that they talk to. They only
// take what they are told, and look at the first new endpoint of each piece: a whole HTTP/2 here would measure itself.
import { connect, type Socket } from "node:net";
import { encode } from "../../src/api/codec.ts";
import { Get, GetDestination } from "../../src/api/destination.ts";
import { frame } from "../../src/api/grpc-frame.ts";
import { CLIENT_PREFACE, FLAG, HEAD, TYPE, writeHead } from "../../src/http2/frame.ts";
import { HpackEncoder } from "../../src/http2/hpack.ts";
import { SETTING, writeSettings } from "../../src/http2/settings.ts";
import { authorityOf, nodeName } from "./cluster.ts";

/** So much of a piece holds gRPC's head and the way down to the address: Update.add.addrs[0].addr.ip.ipv4. */
const LOOK = 40;
/** Room for all that is told in a run, bytes: granting it again and again is the proxy's cost. */
const ROOM = 0x7fff_0000;

/** Told of each new endpoint: its address. */
export type OnAdded = (ip: number) => void;

function http2Frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const out = Buffer.alloc(HEAD + payload.length);
  writeHead(out, 0, payload.length, type, flags, stream);
  payload.copy(out, HEAD);
  return out;
}

class Connection {
  readonly #socket: Socket;
  readonly #onAdded: OnAdded;
  #carried: Buffer | undefined;
  /** Bytes of a frame that are of no interest. */
  #skip = 0;
  /** Pieces that came. */
  pieces = 0;

  constructor(socket: Socket, onAdded: OnAdded) {
    this.#socket = socket;
    this.#onAdded = onAdded;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
  }

  #take(chunk: Buffer): void {
    const bytes = this.#carried ? Buffer.concat([this.#carried, chunk]) : chunk;
    this.#carried = undefined;
    let at = Math.min(this.#skip, bytes.length);
    this.#skip -= at;
    while (at < bytes.length) {
      const there = bytes.length - at;
      const length = there < HEAD ? 0 : bytes.readUIntBE(at, 3);
      if (there < HEAD + Math.min(length, LOOK)) {
        this.#carried = Buffer.from(bytes.subarray(at));
        return;
      }
      const type = bytes[at + 3]!;
      const flags = bytes[at + 4]!;
      if (type === TYPE.DATA) this.pieces += 1;
      if (type === TYPE.DATA) this.#look(bytes, at + HEAD + 5, at + HEAD + Math.min(length, LOOK));
      else if (type === TYPE.SETTINGS && (flags & FLAG.ACK) === 0)
        this.#socket.write(http2Frame(TYPE.SETTINGS, FLAG.ACK, 0, Buffer.alloc(0)));
      else if (type === TYPE.PING && (flags & FLAG.ACK) === 0)
        this.#socket.write(http2Frame(TYPE.PING, FLAG.ACK, 0, bytes.subarray(at + HEAD, at + HEAD + length)));
      const end = at + HEAD + length;
      this.#skip = Math.max(0, end - bytes.length);
      at = Math.min(end, bytes.length);
    }
  }

  #look(bytes: Buffer, from: number, to: number): void {
    let at = from;
    // add, addrs, addr, ip: each one's tag is 0x0a.
    for (let depth = 0; depth < 4; depth += 1) {
      if (at >= to || bytes[at] !== 0x0a) return;
      at += 1;
      while (at < to && bytes[at]! >= 0x80) at += 1;
      at += 1;
    }
    if (at + 5 <= to && bytes[at] === 0x0d) this.#onAdded(bytes.readUInt32LE(at + 1));
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
    const connection = new Connection(socket, onAdded);
    const settings = Buffer.alloc(6);
    writeSettings(settings, 0, [[SETTING.INITIAL_WINDOW_SIZE, ROOM]]);
    const room = Buffer.alloc(4);
    room.writeUInt32BE(ROOM);
    const parts = [
      CLIENT_PREFACE,
      http2Frame(TYPE.SETTINGS, 0, 0, settings),
      http2Frame(TYPE.WINDOW_UPDATE, 0, 0, room),
    ];
    const contextToken = JSON.stringify({ ns: "bench", nodeName: nodeName(number), pod: `proxy-${number}` });
    const encoder = new HpackEncoder();
    let stream = 1;
    for (const service of services) {
      const head = encoder.encode([
        [":method", "POST"],
        [":scheme", "http"],
        [":path", Get.path],
        [":authority", "mesh-dst:8086"],
        ["content-type", "application/grpc"],
        ["te", "trailers"],
      ]);
      const request = frame(encode(GetDestination, { path: authorityOf(service), contextToken }));
      parts.push(
        http2Frame(TYPE.HEADERS, FLAG.END_HEADERS, stream, Buffer.from(head)),
        http2Frame(TYPE.DATA, FLAG.END_STREAM, stream, request),
      );
      stream += 2;
      this.streams += 1;
    }
    socket.write(Buffer.concat(parts));
    // Each stream is told at once what there is.
    const expected = (stream - 1) / 2;
    while (connection.pieces < expected) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
