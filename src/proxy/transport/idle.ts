// Ends accepted connections on which nothing has been asked for a long time: abandoned clients, and pools that only grow.
// It is looked at all of them from time to time, so that it costs nothing a request.
import type { Socket } from "node:net";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Carried } from "./acceptor.ts";

/** Looks in a timeout. */
const LOOKS = 4;

/**
 * Has each of the `open` connections that is idle for `timeout` ms, or up to a quarter more, leave. A client that sends
 * anything, if only a PING, is there.
 */
export function endIdle(
  open: ReadonlyMap<Socket, Carried | undefined>,
  timeout: number,
  clock: Clock,
): { stop(): void } {
  let resting = new Map<Socket, { readonly bytes: number; readonly since: number }>();
  let timer: Timer;
  const look = () => {
    const now = clock.monotonic();
    const before = resting;
    resting = new Map();
    for (const [socket, carried] of open) {
      if (!carried?.idle) continue;
      const known = before.get(socket);
      const rests = known?.bytes === socket.bytesRead ? known : { bytes: socket.bytesRead, since: now };
      resting.set(socket, rests);
      if (now - rests.since >= timeout) carried.closeWhenIdle();
    }
    timer = clock.after(timeout / LOOKS, look);
  };
  timer = clock.after(timeout / LOOKS, look);
  return { stop: () => clock.clear(timer) };
}
