// Proxies as a controller sees them: connections with a stream for each thing that they ask. They only take what they are
// told, and look for the changes in it: a whole HTTP/2 here would measure itself.
import { connect, type Socket } from "node:net";
import { FRAME_HEAD } from "../../src/api/grpc-frame.ts";
import { CLIENT_PREFACE, FLAG, HEAD, TYPE, writeHead } from "../../src/http2/frame.ts";
import { HpackEncoder } from "../../src/http2/hpack.ts";
import { SETTING, writeSettings } from "../../src/http2/settings.ts";
import type { Ask, Subject } from "./subject.ts";

/** Room for all that is told in a run, bytes: granting it again and again is the proxy's cost. */
const ROOM = 0x7fff_0000;
/** What one read takes at most, bytes. */
const READ = 256 * 1024;
const EMPTY = Buffer.alloc(0);

/** Told of each change that a stream is told, and when it was read (performance.now()). */
export type OnHeard = (id: number, at: number) => void;

function http2Frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const out = Buffer.alloc(HEAD + payload.length);
  writeHead(out, 0, payload.length, type, flags, stream);
  payload.copy(out, HEAD);
  return out;
}

/** The streams of a client have odd numbers. */
const streamOf = (ask: number) => ask * 2 + 1;
const askOf = (stream: number) => (stream - 1) / 2;

class Connection {
  readonly #read: Subject["read"];
  readonly #onHeard: OnHeard;
  /** Which streams are looked at, by what was asked. */
  readonly #looked: readonly boolean[];
  #socket: Socket | undefined;
  /** The beginning of a frame. */
  #carried: Buffer = EMPTY;
  /** Beginnings of messages that go on in another frame, by stream. */
  readonly #begun = new Map<number, Buffer>();
  /** Streams that were told something. */
  #told = 0;
  #awaited:
    | { readonly streams: number; readonly resolve: () => void; readonly reject: (error: Error) => void }
    | undefined;

  constructor(asks: readonly Ask[], read: Subject["read"], onHeard: OnHeard) {
    this.#looked = asks.map((ask) => ask.read);
    this.#read = read;
    this.#onHeard = onHeard;
  }

  use(socket: Socket): void {
    this.#socket = socket;
  }

  /** Resolves when so many messages have come: each stream is told at once what there is. */
  heard(streams: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#awaited = { streams, resolve, reject };
    });
  }

  /** The connection is no more. */
  lost(): void {
    this.#awaited?.reject(new Error("the controller closed a connection"));
  }

  /** @param chunk only good during the call */
  take(chunk: Buffer): void {
    const now = performance.now();
    const bytes = this.#carried.length > 0 ? Buffer.concat([this.#carried, chunk]) : chunk;
    let at = 0;
    while (bytes.length - at >= HEAD) {
      const end = at + HEAD + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      this.#frame(bytes, at, end, now);
      at = end;
    }
    this.#carried = at === bytes.length ? EMPTY : Buffer.from(bytes.subarray(at));
    if (this.#awaited && this.#told >= this.#awaited.streams) {
      this.#awaited.resolve();
      this.#awaited = undefined;
    }
  }

  #frame(bytes: Buffer, at: number, end: number, now: number): void {
    const type = bytes[at + 3]!;
    const asked = (bytes[at + 4]! & FLAG.ACK) === 0;
    if (type === TYPE.DATA) this.#data(bytes.readUInt32BE(at + 5), bytes, at + HEAD, end, now);
    else if (type === TYPE.SETTINGS && asked)
      this.#socket!.write(http2Frame(TYPE.SETTINGS, FLAG.ACK, 0, EMPTY));
    else if (type === TYPE.PING && asked)
      this.#socket!.write(http2Frame(TYPE.PING, FLAG.ACK, 0, bytes.subarray(at + HEAD, end)));
    else if (type === TYPE.RST_STREAM || type === TYPE.GOAWAY) throw new Error("a proxy was sent away");
  }

  #data(stream: number, data: Buffer, from: number, to: number, now: number): void {
    const begun = this.#begun.get(stream);
    let bytes = data;
    let at = from;
    let end = to;
    if (begun) {
      bytes = Buffer.concat([begun, data.subarray(from, to)]);
      at = 0;
      end = bytes.length;
      this.#begun.delete(stream);
    }
    while (end - at >= FRAME_HEAD) {
      const next = at + FRAME_HEAD + bytes.readUInt32BE(at + 1);
      if (next > end) break;
      this.#told += 1;
      if (this.#looked[askOf(stream)]!)
        this.#read(bytes, at + FRAME_HEAD, next, (id) => this.#onHeard(id, now));
      at = next;
    }
    if (at < end) this.#begun.set(stream, Buffer.from(bytes.subarray(at, end)));
  }
}

export class Proxies {
  readonly #sockets: Socket[] = [];
  readonly #read: Subject["read"];
  readonly #onHeard: OnHeard;
  /** All of them read into this, one after the other. */
  readonly #buffer = Buffer.allocUnsafe(READ);
  streams = 0;

  constructor(read: Subject["read"], onHeard: OnHeard) {
    this.#read = read;
    this.#onHeard = onHeard;
  }

  /**
   * Opens a connection, asks, and resolves when everything was answered.
   * @param port where the controller serves
   */
  async add(port: number, asks: readonly Ask[]): Promise<void> {
    const connection = new Connection(asks, this.#read, this.#onHeard);
    const socket = connect({
      port,
      host: "127.0.0.1",
      onread: {
        buffer: this.#buffer,
        callback: (size, bytes) => {
          connection.take((bytes as Buffer).subarray(0, size));
          return true;
        },
      },
    });
    this.#sockets.push(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.on("error", () => {});
    socket.once("close", () => connection.lost());
    connection.use(socket);
    const settings = Buffer.alloc(6);
    writeSettings(settings, 0, [[SETTING.INITIAL_WINDOW_SIZE, ROOM]]);
    const room = Buffer.alloc(4);
    room.writeUInt32BE(ROOM);
    const parts = [
      CLIENT_PREFACE,
      http2Frame(TYPE.SETTINGS, 0, 0, settings),
      http2Frame(TYPE.WINDOW_UPDATE, 0, 0, room),
    ];
    const encoder = new HpackEncoder();
    asks.forEach(({ path, request }, ask) => {
      const head = encoder.encode([
        [":method", "POST"],
        [":scheme", "http"],
        [":path", path],
        [":authority", "mesh:8086"],
        ["content-type", "application/grpc"],
        ["te", "trailers"],
      ]);
      const stream = streamOf(ask);
      parts.push(
        http2Frame(TYPE.HEADERS, FLAG.END_HEADERS, stream, Buffer.from(head)),
        http2Frame(TYPE.DATA, FLAG.END_STREAM, stream, request),
      );
    });
    this.streams += asks.length;
    const heard = connection.heard(asks.length);
    socket.write(Buffer.concat(parts));
    await heard;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
