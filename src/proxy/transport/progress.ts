// Whether anything comes or goes over a socket, as whoever waits for a slow peer wants to know: figures of which only
// the differences tell something.
import type { Socket } from "node:net";

/**
 * Changes whenever bytes were sent. Node tells of a write when all of it has gone out, which with much of it and a slow
 * reader takes minutes; how much of it still waits below Node is asked for beside.
 */
export function sendingOf(socket: Socket): number {
  const handle = (socket as unknown as { _handle?: { writeQueueSize?: number } | null })._handle;
  return socket.bytesWritten - socket.writableLength - (handle?.writeQueueSize ?? 0);
}

/** Changes whenever bytes were read or sent. */
export function progressOf(socket: Socket): number {
  return socket.bytesRead + sendingOf(socket);
}
