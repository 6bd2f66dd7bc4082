// Ends a connection so that its peer sees a failure, not an end: by a reset. With TLS it is the connection below that is
// reset, since peers, we among them, take an end without close_notify for any other.
import type { Socket } from "node:net";

/** A socket of TLS, with what Node keeps of the connection below. */
interface Wrapped {
  readonly _handle?: { readonly _parentWrap?: Socket } | null;
}

export function abort(socket: Socket): void {
  if (!("encrypted" in socket)) {
    socket.resetAndDestroy();
    return;
  }
  // Of those that we accepted; those that we dialled have no socket of their own below.
  const below = (socket as unknown as Wrapped)._handle?._parentWrap;
  if (below) below.resetAndDestroy();
  socket.destroy();
}
