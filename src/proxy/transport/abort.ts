// Ends a connection so that its peer sees a failure, not an end.
import type { Socket } from "node:net";

export function abort(socket: Socket): void {
  // Only plain sockets can be reset; with TLS the missing close_notify says the same.
  if ("encrypted" in socket) socket.destroy();
  else socket.resetAndDestroy();
}
