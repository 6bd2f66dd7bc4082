// Slow peers are told from those that take nothing.
import * as net from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { sendingOf } from "../../../src/proxy/transport/progress.ts";
import { until } from "../../support/until.ts";
import { RawServer } from "../../support/wire.ts";

const test = suite("progress");

test("within one write of many bytes it is seen whether the peer takes any", async () => {
  const server = await RawServer.start((peer) => peer.socket.pause());
  const socket = net.connect(server.port, "127.0.0.1");
  try {
    const peer = await server.connection();
    socket.write(Buffer.alloc(64_000_000));
    // The kernel's buffers fill up.
    let before = Number.NaN;
    await until(
      () => {
        const [last, now] = [before, sendingOf(socket)];
        before = now;
        return last === now;
      },
      5_000,
      "it to stand still",
    );
    const waiting = socket.writableLength;
    assert.is(waiting, 64_000_000, "Node tells of the write as a whole");
    peer.socket.resume();
    await until(() => sendingOf(socket) !== before, 5_000, "progress");
    await until(() => socket.writableLength === 0, 10_000, "the end of the write");
  } finally {
    socket.destroy();
    await server.close();
  }
});

test("of a socket that is gone there is a figure too", () => {
  assert.is(sendingOf(new net.Socket()), 0);
});

test.run();
