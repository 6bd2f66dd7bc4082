// SPDY/3.1, the server's side, as Kubernetes clients speak it (moby/spdystream): streams opened by the client, headers
// under zlib, no flow control windows. One transport byte stream in, one Duplex out for each stream.

import { Duplex } from "node:stream";
import { constants, createInflate, type Inflate } from "node:zlib";
import { SPDY_DICTIONARY } from "./spdy-dictionary.ts";

const VERSION = 3;
const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const PING = 6;
const GOAWAY = 7;
const FLAG_FIN = 1;
const PROTOCOL_ERROR = 1;
const REFUSED = 3;

const MAX_FRAME = 1024 * 1024;
const MAX_HEADERS = 64 * 1024;
const MAX_STREAMS = 1024;
/** Data frames written; larger writes are cut. */
const CHUNK = 32 * 1024;
/** Bytes that a stream may hold unread before the whole connection waits for its reader. */
const STREAM_BUFFER = 256 * 1024;

/** One stream of a connection; ending it sends FIN. */
export class SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly #connection: SpdyConnection;

  constructor(connection: SpdyConnection, id: number, headers: ReadonlyMap<string, string>) {
    super({ allowHalfOpen: true, readableHighWaterMark: STREAM_BUFFER });
    this.id = id;
    this.headers = headers;
    this.#connection = connection;
    this.on("error", () => {});
  }

  override _read(): void {
    this.#connection.resume(this);
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#connection.sendData(this.id, chunk, false, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#connection.sendData(this.id, Buffer.alloc(0), true, callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#connection.forget(this, error !== null);
    callback(error);
  }
}

export class SpdyConnection {
  readonly #transport: Duplex;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate: Inflate;
  #inflated: Buffer[] = [];
  #inflatedSize = 0;
  #buffer: Buffer = Buffer.alloc(0);
  #parsing = false;
  #sentHeaders = false;
  #lastId = 0;
  #closed = false;
  /** Streams whose readers must catch up before more is read from the transport. */
  readonly #full = new Set<SpdyStream>();

  constructor(transport: Duplex, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
    this.#inflate = createInflate({ dictionary: SPDY_DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH });
    this.#inflate.on("data", (chunk: Buffer) => {
      this.#inflatedSize += chunk.length;
      if (this.#inflatedSize <= MAX_HEADERS) this.#inflated.push(chunk);
    });
    this.#inflate.on("error", () => this.close());
    transport.on("data", (chunk: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
      this.#parse().catch(() => this.close());
    });
    transport.once("close", () => this.close());
    transport.once("end", () => this.close());
    transport.on("error", () => this.close());
  }

  /** Ends every stream and the transport. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#inflate.close();
    for (const stream of this.#streams.values()) stream.destroy();
    this.#streams.clear();
    this.#transport.end(() => this.#transport.destroy());
  }

  sendData(id: number, data: Buffer, fin: boolean, callback: (error?: Error | null) => void): void {
    if (this.#closed) {
      callback(new Error("the connection is closed"));
      return;
    }
    const parts = Math.max(1, Math.ceil(data.length / CHUNK));
    this.#transport.cork();
    for (let i = 0; i < parts; i++) {
      const part = data.subarray(i * CHUNK, (i + 1) * CHUNK);
      const last = i === parts - 1;
      const head = Buffer.alloc(8);
      head.writeUInt32BE(id, 0);
      head.writeUInt32BE(part.length, 4);
      head[4] = fin && last ? FLAG_FIN : 0;
      this.#transport.write(head);
      if (last) this.#transport.write(part, (error) => callback(error ?? null));
      else this.#transport.write(part);
    }
    this.#transport.uncork();
  }

  /** A reader has room again. */
  resume(stream: SpdyStream): void {
    if (this.#full.delete(stream) && this.#full.size === 0) this.#transport.resume();
  }

  forget(stream: SpdyStream, reset: boolean): void {
    if (this.#streams.delete(stream.id) && reset && !this.#closed) this.#sendReset(stream.id, PROTOCOL_ERROR);
    this.resume(stream);
  }

  /** Takes whole frames off the buffer, one after the other: header blocks share one zlib context. */
  async #parse(): Promise<void> {
    if (this.#parsing) return;
    this.#parsing = true;
    try {
      while (!this.#closed && this.#buffer.length >= 8) {
        const length = this.#buffer.readUInt32BE(4) & 0xffffff;
        if (length > MAX_FRAME) throw new Error("frame too long");
        if (this.#buffer.length < 8 + length) return;
        const head = this.#buffer.readUInt32BE(0);
        const flags = this.#buffer[4] as number;
        const body = this.#buffer.subarray(8, 8 + length);
        this.#buffer = this.#buffer.subarray(8 + length);
        if (head >>> 31 === 0) this.#data(head, flags, body);
        else {
          if (((head >>> 16) & 0x7fff) !== VERSION) throw new Error("not SPDY/3");
          await this.#control(head & 0xffff, flags, body);
        }
      }
    } finally {
      this.#parsing = false;
    }
  }

  #data(id: number, flags: number, body: Buffer): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    if (body.length > 0 && !stream.readableEnded && !stream.push(body)) {
      this.#full.add(stream);
      this.#transport.pause();
    }
    if (flags & FLAG_FIN) stream.push(null);
  }

  async #control(type: number, flags: number, body: Buffer): Promise<void> {
    switch (type) {
      case SYN_STREAM:
        await this.#open(flags, body);
        return;
      case RST_STREAM: {
        const id = body.readUInt32BE(0) & 0x7fffffff;
        const stream = this.#streams.get(id);
        this.#streams.delete(id);
        stream?.destroy();
        return;
      }
      case PING:
        this.#sendControl(PING, body.subarray(0, 4));
        return;
      case GOAWAY:
        return;
      default:
        // SETTINGS, WINDOW_UPDATE, HEADERS: nothing here depends on them, except that HEADERS share the zlib context.
        if (type === 8) await this.#headers(body.subarray(4));
    }
  }

  async #open(flags: number, body: Buffer): Promise<void> {
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const headers = await this.#headers(body.subarray(10));
    if (this.#closed) return;
    if (id <= this.#lastId || id % 2 === 0) {
      this.#sendReset(id, PROTOCOL_ERROR);
      return;
    }
    this.#lastId = id;
    if (this.#streams.size >= MAX_STREAMS) {
      this.#sendReset(id, REFUSED);
      return;
    }
    const stream = new SpdyStream(this, id, headers);
    this.#streams.set(id, stream);
    const reply = Buffer.alloc(4);
    reply.writeUInt32BE(id);
    this.#sendControl(SYN_REPLY, Buffer.concat([reply, this.#emptyHeaders()]));
    if (flags & FLAG_FIN) stream.push(null);
    this.#onStream(stream);
  }

  async #headers(block: Buffer): Promise<Map<string, string>> {
    this.#inflated = [];
    this.#inflatedSize = 0;
    await new Promise<void>((resolve, reject) => {
      this.#inflate.once("error", reject);
      this.#inflate.write(block, () => {
        this.#inflate.off("error", reject);
        resolve();
      });
    });
    if (this.#inflatedSize > MAX_HEADERS) throw new Error("headers too long");
    const plain = Buffer.concat(this.#inflated);
    const headers = new Map<string, string>();
    let offset = 4;
    const text = () => {
      const length = plain.readUInt32BE(offset);
      const value = plain.toString("latin1", offset + 4, offset + 4 + length);
      offset += 4 + length;
      return value;
    };
    const count = plain.length >= 4 ? plain.readUInt32BE(0) : 0;
    for (let i = 0; i < count && offset < plain.length; i++) headers.set(text().toLowerCase(), text());
    return headers;
  }

  /** A header block with no headers, as stored deflate blocks: an empty one after it makes the reader flush. */
  #emptyHeaders(): Buffer {
    const zlibHead = this.#sentHeaders ? [] : [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
    this.#sentHeaders = true;
    return Buffer.from([...zlibHead, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
  }

  #sendReset(id: number, status: number): void {
    const body = Buffer.alloc(8);
    body.writeUInt32BE(id, 0);
    body.writeUInt32BE(status, 4);
    this.#sendControl(RST_STREAM, body);
  }

  #sendControl(type: number, body: Buffer): void {
    if (this.#closed) return;
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8000 | VERSION, 0);
    head.writeUInt16BE(type, 2);
    head.writeUInt32BE(body.length, 4);
    this.#transport.write(Buffer.concat([head, body]));
  }
}
