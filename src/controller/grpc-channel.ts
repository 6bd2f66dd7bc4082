// The streams of one method on one connection. Of hundreds of thousands of streams hardly any is in the CPU's caches: who
// tells many of them the same goes by their channels, which are few, and a stream is touched once, when its turn comes.
import type { GrpcError } from "../api/grpc-status.ts";
import type { Http2Stream } from "../http2/stream.ts";
import type { CallConnection, GrpcCall, Handled } from "./grpc-call.ts";

export interface Channel {
  /** Queues a message that `encodeFrame` has encoded, for one of its streams; one that is over by then gets nothing. */
  sendFrame(stream: Http2Stream, bytes: Buffer): void;
  end(stream: Http2Stream, error?: GrpcError): void;
}

export class GrpcChannel implements Channel {
  readonly method: Handled;
  readonly connection: CallConnection;

  constructor(connection: CallConnection, method: Handled) {
    this.connection = connection;
    this.method = method;
  }

  sendFrame(stream: Http2Stream, bytes: Buffer): void {
    this.method.sent?.();
    this.connection.sendLater(stream, bytes);
  }

  end(stream: Http2Stream, error?: GrpcError): void {
    (stream.handler as GrpcCall).end(error);
  }
}
