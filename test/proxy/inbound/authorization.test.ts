// Who is refused, and how: over an address of this machine that is not loopback, since the pod's own loopback is
// always admitted. Without such an address there is nothing to test here.
import * as net from "node:net";
import { networkInterfaces } from "node:os";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { serverPolicy, startInbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("inbound authorization");
const address = Object.values(networkInterfaces())
  .flat()
  .find((one) => one && !one.internal && one.family === "IPv4")?.address;
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async function world(
  onConnection: (peer: RawPeer) => void,
  body: (
    proxy: Awaited<ReturnType<typeof startInbound>>,
    app: RawServer,
    dial: () => { socket: net.Socket; text: () => string },
  ) => Promise<void>,
): Promise<void> {
  const app = await RawServer.start(onConnection);
  const proxy = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { config: { listen: [{ ip: "0.0.0.0", port: 0 }] } },
  );
  const sockets: net.Socket[] = [];
  try {
    await body(proxy, app, () => {
      const socket = net.connect(proxy.port, address);
      sockets.push(socket);
      let received = "";
      socket.on("data", (chunk) => {
        received += chunk.toString("latin1");
      });
      socket.on("error", () => {});
      return { socket, text: () => received };
    });
  } finally {
    for (const socket of sockets) socket.destroy();
    proxy.path.close();
    await app.close();
  }
}

const answering = (peer: RawPeer) => {
  peer.onData = () => peer.send(OK);
};

if (address) {
  test("a request that nothing admits is a 403, counted, and the connection lives on", () =>
    world(answering, async (proxy, app, dial) => {
      const policy = proxy.discovery.serverOf(app.port);
      policy.set(serverPolicy("authenticated"));
      const { socket, text } = dial();
      socket.write(GET + GET);
      await until(() => text().split("403 Forbidden").length === 3, 5_000, "both refusals");
      assert.match(text(), /l5d-proxy-error: unauthorized request on route\r\n/);
      assert.not.match(text(), /connection: close/);
      const metrics = proxy.registry.expose();
      assert.match(metrics, /inbound_http_authz_deny_total\{[^}]*srv_name="authenticated"[^}]*\} 2/);
      assert.match(metrics, /response_total\{[^}]*status_code="403",classification="success"\} 2/);
      assert.is(app.connections.length, 0);
      // A policy that changes is in force with the next request of the same connection.
      policy.set(serverPolicy("all"));
      socket.write(GET);
      await until(() => text().endsWith("ok"), 5_000, "the response");
    }));

  test("a connection of bytes is closed", () =>
    world(answering, async (proxy, app, dial) => {
      proxy.discovery.serverOf(app.port).set(serverPolicy("none"));
      const { socket } = dial();
      socket.write("\x00\x01");
      await until(() => socket.closed, 5_000, "the end");
      assert.match(proxy.registry.expose(), /inbound_tcp_authz_deny_total\{[^}]*\} 1/);
      assert.is(app.connections.length, 0);
    }));

  test("an open connection of bytes ends when the policy no longer admits it", () =>
    world(
      (peer) => peer.send("hello"),
      async (proxy, app, dial) => {
        const policy = proxy.discovery.serverOf(app.port);
        policy.set(serverPolicy("all", "opaque"));
        const { socket, text } = dial();
        await until(() => text() === "hello", 5_000, "the greeting");
        policy.set(serverPolicy("authenticated", "opaque"));
        await until(() => socket.closed, 5_000, "the end");
        await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
      },
    ));

  test("an open tunnel ends when the policy no longer admits it, and only then", () =>
    world(
      (peer) => {
        peer.socket.once("data", () =>
          peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
        );
      },
      async (proxy, app, dial) => {
        const policy = proxy.discovery.serverOf(app.port);
        policy.set(serverPolicy("all"));
        const { socket, text } = dial();
        socket.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
        await until(() => text().endsWith("\r\n\r\n"), 5_000, "the tunnel");
        policy.set({ ...serverPolicy("all"), labels: { group: "", kind: "Server", name: "another" } });
        const [peer] = app.connections;
        socket.write("up");
        await peer!.sees("up");
        assert.not(socket.closed);
        policy.set(serverPolicy("authenticated"));
        await until(() => socket.closed, 5_000, "the end");
        await peer!.seesEnd();
        assert.not.match(text().slice(10), /HTTP/, "nothing is said in between its bytes");
      },
    ));

  test("a policy that cannot be understood lets nothing through", () =>
    world(answering, async (proxy, app, dial) => {
      proxy.discovery.serverOf(app.port).set({ ...serverPolicy("all"), protocol: {} });
      const { socket, text } = dial();
      socket.write(GET);
      await until(() => text().includes("500 Internal Server Error"), 5_000, "the refusal");
      assert.is(app.connections.length, 0);
    }));
}

test.run();
