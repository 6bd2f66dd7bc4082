// Port-forward: each local connection of the client becomes a pair of streams, one for data and one for the error.

import type { Duplex } from "node:stream";
import { errorMessage } from "../../../util/error.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";

export type Dial = (port: number) => Promise<Duplex>;

/** Serves SPDY port-forwarding over a transport: pairs are told apart by their requestID header. */
export function forwardSpdy(transport: Duplex, dial: Dial): SpdyConnection {
  const waiting = new Map<string, SpdyStream>();
  return new SpdyConnection(transport, (stream) => {
    const port = Number(stream.headers.get("port"));
    const id = stream.headers.get("requestid") ?? "";
    const type = stream.headers.get("streamtype");
    if (!(port > 0 && port < 65536) || (type !== "error" && type !== "data")) {
      stream.destroy(new Error("invalid port-forward stream"));
      return;
    }
    const other = waiting.get(id);
    if (!other || other.destroyed) {
      waiting.set(id, stream);
      stream.once("close", () => {
        if (waiting.get(id) === stream) waiting.delete(id);
      });
      return;
    }
    waiting.delete(id);
    const [data, error] = type === "data" ? [stream, other] : [other, stream];
    void connect(dial, port, data, error);
  });
}

/** Joins one pair with a port of the pod until either side is done. */
export async function connect(dial: Dial, port: number, data: Duplex, error: Duplex): Promise<void> {
  error.resume();
  let target: Duplex;
  try {
    target = await dial(port);
  } catch (failure) {
    error.end(`error forwarding port ${port} to pod: ${errorMessage(failure)}`);
    data.end();
    data.resume();
    return;
  }
  target.on("error", (failure) => {
    if (!error.writableEnded) error.end(`error forwarding port ${port} to pod: ${failure.message}`);
    data.destroy();
  });
  data.once("close", () => target.destroy());
  target.once("close", () => {
    if (!data.writableEnded) data.end();
    if (!error.writableEnded) error.end();
  });
  data.pipe(target);
  target.pipe(data);
}
