// A small gRPC client on node:http2 for tests of servers: one connection, unary and streamed calls.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Duplex } from "node:stream";
import { decode, encode, type Method, type Partially } from "../../src/api/codec.ts";
import { Deframer, frame } from "../../src/api/grpc-frame.ts";
import { until } from "./until.ts";

/** One call: what came, and how it ended. */
export class TestCall<R> {
  readonly stream: ClientHttp2Stream;
  readonly messages: R[] = [];
  /** gRPC status; undefined while the call goes on, -1 when it ended without one. */
  status: number | undefined;
  text = "";

  constructor(stream: ClientHttp2Stream, read: (body: Buffer) => R) {
    this.stream = stream;
    const deframer = new Deframer();
    const take = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] === undefined) return;
      this.status = Number(headers["grpc-status"]);
      this.text = decodeURIComponent(String(headers["grpc-message"] ?? ""));
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.on("data", (chunk: Buffer) => {
      for (const body of deframer.push(chunk)) this.messages.push(read(body));
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      this.status ??= -1;
    });
  }

  /** The message with this index, once it came. */
  async message(index: number): Promise<R> {
    await until(() => this.messages.length > index || this.status !== undefined, 5_000, `message ${index}`);
    const found = this.messages[index];
    if (found === undefined)
      throw new Error(`the call ended with ${this.status} ${this.text} before message ${index}`);
    return found;
  }

  async end(): Promise<number> {
    await until(() => this.status !== undefined, 5_000, "the end of the call");
    return this.status!;
  }

  cancel(): void {
    this.stream.close(constants.NGHTTP2_CANCEL);
  }
}

export class TestGrpcClient {
  readonly session: ClientHttp2Session;

  /** @param socket connected already, for instance by TLS */
  constructor(port: number, socket?: Duplex) {
    this.session = connect(`http://127.0.0.1:${port}`, socket ? { createConnection: () => socket } : {});
    this.session.on("error", () => {});
  }

  call<Q, R>(method: Method<Q, R>, request: Partially<Q>, headers: Record<string, string> = {}): TestCall<R> {
    const call = this.raw(method.path, frame(encode(method.request, request)), headers, (body) =>
      decode(method.response, body),
    );
    return call;
  }

  raw<R = Buffer>(
    path: string,
    body: Buffer,
    headers: Record<string, string> = {},
    read: (body: Buffer) => R = (bytes) => bytes as R,
  ): TestCall<R> {
    const stream = this.session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    stream.end(body);
    return new TestCall(stream, read);
  }

  close(): void {
    this.session.destroy();
  }
}
