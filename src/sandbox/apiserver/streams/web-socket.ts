// WebSocket ends of the pod streams: `*.channel.k8s.io`, where each message's first byte names a channel, and the
// tunnel, where messages are the bytes of another protocol.

import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { type RawData, WebSocket, WebSocketServer } from "ws";

const MAX_MESSAGE = 1024 * 1024;
/** v5: a message [255, channel] half-closes that channel. */
const CLOSE_CHANNEL = 255;
/** Unread bytes of one channel at which the socket stops being read. */
const CHANNEL_BUFFER = 256 * 1024;

/** Completes the handshake with one of `protocols` (the first that the client offers and we know). */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
): Promise<WebSocket> {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: MAX_MESSAGE,
    perMessageDeflate: false,
    handleProtocols: () => protocol,
  });
  return new Promise((resolve) => {
    server.handleUpgrade(request, socket, head, (ws) => {
      ws.on("error", () => {});
      resolve(ws);
    });
  });
}

/** The protocols that a client offers, in its order. */
export function offeredProtocols(request: IncomingMessage): string[] {
  return (request.headers["sec-websocket-protocol"] ?? "").split(",").map((text) => text.trim());
}

export class Channel extends Duplex {
  readonly #channels: Channels;
  readonly number: number;

  constructor(channels: Channels, number: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: CHANNEL_BUFFER });
    this.#channels = channels;
    this.number = number;
    this.on("error", () => {});
  }

  override _read(): void {
    this.#channels.resume(this);
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#channels.send(this.number, chunk, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    callback();
  }
}

/** The channels of one WebSocket. */
export class Channels {
  readonly #ws: WebSocket;
  readonly #channels = new Map<number, Channel>();
  readonly #full = new Set<Channel>();

  constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on("message", (data) => this.#message(bytesOf(data)));
    ws.once("close", () => {
      for (const channel of this.#channels.values()) {
        channel.push(null);
        channel.destroy();
      }
    });
  }

  /** Opens a channel; open all of them before the first message can come. */
  open(number: number): Channel {
    const channel = new Channel(this, number);
    this.#channels.set(number, channel);
    return channel;
  }

  send(number: number, chunk: Buffer, callback: (error?: Error | null) => void): void {
    if (this.#ws.readyState !== WebSocket.OPEN) {
      callback(new Error("the connection is closed"));
      return;
    }
    this.#ws.send(Buffer.concat([Buffer.of(number), chunk]), { binary: true }, (error) =>
      callback(error ?? null),
    );
  }

  resume(channel: Channel): void {
    if (this.#full.delete(channel) && this.#full.size === 0) this.#ws.resume();
  }

  close(): void {
    this.#ws.close(1000);
  }

  #message(message: Buffer): void {
    if (message.length === 0) return;
    if (message[0] === CLOSE_CHANNEL) {
      this.#channels.get(message[1] ?? -1)?.push(null);
      return;
    }
    const channel = this.#channels.get(message[0] as number);
    if (!channel || channel.destroyed || channel.readableEnded || message.length === 1) return;
    if (!channel.push(message.subarray(1))) {
      this.#full.add(channel);
      this.#ws.pause();
    }
  }
}

/** The WebSocket's binary messages as one byte stream: what a tunnelled protocol runs over. */
export function tunnel(ws: WebSocket): Duplex {
  const stream = new Duplex({
    read: () => ws.resume(),
    write(chunk: Buffer, _encoding, callback) {
      if (ws.readyState !== WebSocket.OPEN) callback(new Error("the connection is closed"));
      else ws.send(chunk, { binary: true }, (error) => callback(error ?? null));
    },
    final(callback) {
      ws.close(1000);
      callback();
    },
    destroy(error, callback) {
      ws.close(1000);
      callback(error);
    },
  });
  ws.on("message", (data) => {
    if (!stream.push(bytesOf(data))) ws.pause();
  });
  ws.once("close", () => {
    stream.push(null);
    stream.destroy();
  });
  return stream;
}

function bytesOf(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
