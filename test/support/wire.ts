// Raw clients and servers for tests that care about the bytes.
import * as net from "node:net";
import { until } from "./until.ts";

/** One end of a connection: what it received so far as text, and ways to act on the socket. */
export class RawPeer {
  readonly socket: net.Socket;
  received = "";
  ended = false;
  closed = false;
  error: NodeJS.ErrnoException | undefined;
  /** Called at each arrival, with all that was received so far. */
  onData: (received: string) => void = () => {};

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.received += chunk.toString("latin1");
      this.onData(this.received);
    });
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("error", (error) => {
      this.error = error;
    });
    socket.on("close", () => {
      this.closed = true;
    });
  }

  send(text: string | Buffer): this {
    this.socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
    return this;
  }

  /** Waits for `text` in what was received. */
  async sees(text: string, timeout = 5_000): Promise<string> {
    await until(
      () => this.received.includes(text),
      timeout,
      () => `${JSON.stringify(text)} in ${JSON.stringify(this.received)}`,
    );
    return this.received;
  }

  async seesEnd(timeout = 5_000): Promise<string> {
    await until(
      () => this.ended || this.closed,
      timeout,
      () => `the end after ${JSON.stringify(this.received)}`,
    );
    return this.received;
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** The end that connects. */
export class RawClient extends RawPeer {
  constructor(port: number) {
    super(net.connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
  }
}

/** A raw server: each accepted connection as a peer. */
export class RawServer {
  readonly connections: RawPeer[] = [];
  readonly server: net.Server;

  constructor(onConnection: (peer: RawPeer) => void) {
    this.server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const peer = new RawPeer(socket);
      this.connections.push(peer);
      onConnection(peer);
    });
  }

  static async start(onConnection: (peer: RawPeer) => void = () => {}, port = 0): Promise<RawServer> {
    const server = new RawServer(onConnection);
    await new Promise<void>((resolve, reject) => {
      server.server.once("error", reject);
      server.server.listen(port, "127.0.0.1", resolve);
    });
    return server;
  }

  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }

  /** The nth connection, once there is one. */
  async connection(index = 0): Promise<RawPeer> {
    return until(() => this.connections[index], 5_000, `connection ${index}`);
  }

  async close(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}
