// TCP_USER_TIMEOUT is really set, on accepted and on dialled sockets.
import * as net from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { kernelUserTimeout } from "../../../src/proxy/transport/user-timeout.ts";
import { startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("user timeout");

test("the kernel is told, for both connections of a request", async () => {
  const set: [port: number | undefined, ms: number][] = [];
  const kernel = await kernelUserTimeout();
  const server = await RawServer.start();
  const proxy = await startOutbound(
    { ip: "127.0.0.1", port: server.port },
    {
      setUserTimeout: (socket, ms) => {
        set.push([socket.remotePort, ms]);
        kernel(socket, ms);
      },
      config: { userTimeout: 1_234, acceptUserTimeout: 4_321 },
    },
  );
  const client = new RawClient(proxy.port).send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  try {
    await until(() => set.length === 2, 5_000, "both sockets");
    assert.equal(set, [
      [client.socket.localPort, 4_321],
      [server.port, 1_234],
    ]);
  } finally {
    client.destroy();
    proxy.path.close();
    await server.close();
  }
});

test("a socket that is gone is left alone", async () => {
  const kernel = await kernelUserTimeout();
  const socket = new net.Socket();
  kernel(socket, 1_000);
  socket.destroy();
  kernel(socket, 1_000);
});

test.run();
