// exec, attach and portforward: requests that turn their connection into a stream, by WebSocket or SPDY.

import type { Duplex } from "node:stream";
import type { Exchange } from "../http/exchange.ts";
import { noSuchPath } from "../status.ts";

export async function serveStream(
  _exchange: Omit<Exchange, "response">,
  _socket: Duplex,
  _head: Buffer,
): Promise<void> {
  throw noSuchPath();
}
