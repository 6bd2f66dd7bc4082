// Connections that the proxy dials: what the kernel was told of them, with and without TLS.
import { createServer, type Server, type Socket } from "node:net";
import koffi from "koffi";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DialHandler, type DialTarget, dial } from "../../../src/proxy/transport/dial.ts";
import { terminateTls } from "../../../src/proxy/transport/terminate.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { createAuthority } from "../../support/proxy-fakes.ts";

const test = suite("dial");
const NAME = "server.test";
const [IPPROTO_TCP, TCP_NODELAY, SOL_SOCKET, SO_KEEPALIVE] = [6, 1, 1, 9];

const getsockopt = koffi
  .load(null)
  .func("int getsockopt(int fd, int level, int name, _Out_ int *value, _Inout_ uint32_t *length)");

/** An option that is on or off, of a socket of Node's. */
function isOn(socket: object, level: number, name: number): boolean {
  const value = [0];
  const { fd } = (socket as { _handle: { fd: number } })._handle;
  assert.is(getsockopt(fd, level, name, value, [4]), 0);
  return value[0] !== 0;
}

const authority = createAuthority();

/** Accepts, with mesh TLS or without. */
async function listen(tls: boolean): Promise<{ server: Server; port: number }> {
  const credentials = authority.credentials(NAME);
  const server = createServer({ pauseOnConnect: true }, (raw) => {
    if (tls) terminateTls(raw, Buffer.alloc(0), credentials, systemClock, () => {});
    raw.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as { port: number }).port };
}

for (const tls of [false, true]) {
  test(`small writes are not held back, and dead peers are noticed, ${tls ? "with" : "without"} TLS`, async () => {
    const { server, port } = await listen(tls);
    const target: DialTarget = {
      ip: "127.0.0.1",
      port,
      tls: tls
        ? {
            serverName: NAME,
            identity: NAME,
            alpn: undefined,
            session: undefined,
            sessionContext: undefined,
            sessionExpiry: 0,
          }
        : undefined,
    };
    const identity = authority.identity("client.test");
    const socket = await new Promise<Socket>((resolve, reject) => {
      const handler: DialHandler = {
        onConnected: () => resolve(dialled),
        onClosed: (error) => reject(error),
        onBytes: () => {},
        onEnd: () => {},
        onDrain: () => {},
      };
      const options = { clock: systemClock, connectTimeout: 5_000, keepAlive: 10_000, identity };
      const dialled = dial(target, options, handler);
    });
    assert.ok(isOn(socket, IPPROTO_TCP, TCP_NODELAY), "TCP_NODELAY");
    assert.ok(isOn(socket, SOL_SOCKET, SO_KEEPALIVE), "SO_KEEPALIVE");
    socket.destroy();
    server.close();
  });
}

test("a process that itself stood still does not take it for the peer's silence", async () => {
  const { server, port } = await listen(false);
  const target: DialTarget = { ip: "127.0.0.1", port, tls: undefined };
  const error = await new Promise<unknown>((resolve) => {
    const handler: DialHandler = {
      onConnected: () => dialled.destroy(),
      onClosed: resolve,
      onBytes: () => {},
      onEnd: () => {},
      onDrain: () => {},
    };
    const identity = authority.identity("client.test");
    const options = { clock: systemClock, connectTimeout: 50, keepAlive: 0, identity };
    const dialled = dial(target, options, handler);
    // The kernel connects meanwhile; the timer is due when we are back.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  });
  server.close();
  assert.is(error, undefined);
});

test.run();
