// How the control plane is reached: plainly on the loopback, else by mesh TLS with both names checked.
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import {
  createSecureContext,
  createServer as createTlsServer,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chooseReplica, connectControl, type LastReplica } from "../../../src/proxy/control/connector.ts";
import { withWaits } from "../../support/clock.ts";
import { Authority } from "../../support/identity-service.ts";
import { until } from "../../support/until.ts";

const test = suite("control-plane connector");
const NAME = "mesh-policy.mesh-system.serviceaccount.identity.mesh-system.cluster.local";
const clock = withWaits((ms) => ms);
const hurried = withWaits(() => 50);
const authority = new Authority();
const clientContext = createSecureContext({
  ...authority.keyPair("web.emoji.test"),
  ca: authority.root.pem,
  minVersion: "TLSv1.3",
});

async function withServer(
  make: (onSocket: (socket: Socket) => void) => Server,
  run: (port: number, sockets: Socket[]) => Promise<void>,
): Promise<void> {
  const sockets: Socket[] = [];
  const server = make((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await run((server.address() as AddressInfo).port, sockets);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

const tls =
  (options: TlsOptions) =>
  (onSocket: (socket: Socket) => void): Server =>
    createTlsServer({ requestCert: true, rejectUnauthorized: false, ...options }, onSocket).on(
      "tlsClientError",
      () => {},
    );

async function refusal(promise: Promise<Socket>): Promise<string> {
  try {
    (await promise).destroy();
  } catch (error) {
    return (error as Error).message;
  }
  return assert.unreachable() as never;
}

test("a service without a name is spoken to plainly, localhost included", () =>
  withServer(
    (onSocket) => createServer(onSocket),
    async (port, sockets) => {
      for (const host of ["127.0.0.1", "localhost.", "localhost"]) {
        const socket = await connectControl({ host, port, name: undefined }, clientContext, clock);
        await until(() => sockets.length > 0);
        socket.destroy();
      }
    },
  ));

test("a service with a name is asked for it, checked for it, and shown our certificate", () =>
  withServer(tls({ ...authority.keyPair(NAME), ca: authority.root.pem }), async (port, sockets) => {
    const socket = await connectControl({ host: "127.0.0.1", port, name: NAME }, clientContext, clock);
    const server = (await until(() => sockets[0])) as TLSSocket & { servername: string };
    assert.is(server.servername, NAME);
    assert.is(server.getPeerX509Certificate()?.subjectAltName, "DNS:web.emoji.test");
    assert.is(server.getProtocol(), "TLSv1.3");
    socket.destroy();
    assert.match(
      await refusal(connectControl({ host: "127.0.0.1", port, name: "other.test" }, clientContext, clock)),
      /expected the identity other\.test, got DNS:mesh-policy/,
    );
  }));

test("a service of another root is refused", () =>
  withServer(tls({ ...new Authority("other.test").keyPair(NAME) }), async (port) => {
    assert.match(
      await refusal(connectControl({ host: "127.0.0.1", port, name: NAME }, clientContext, clock)),
      /certificate/,
    );
  }));

test("TLS below 1.3 is refused", () =>
  withServer(tls({ ...authority.keyPair(NAME), maxVersion: "TLSv1.2" }), async (port) => {
    assert.match(
      await refusal(connectControl({ host: "127.0.0.1", port, name: NAME }, clientContext, clock)),
      /protocol version/i,
    );
  }));

test("who accepts and says nothing is given up; who is not there, and what has no address, is told", async () => {
  await withServer(
    (onSocket) => createServer(onSocket),
    async (port) => {
      assert.match(
        await refusal(connectControl({ host: "127.0.0.1", port, name: NAME }, clientContext, hurried)),
        /no connection within 3000 ms/,
      );
    },
  );
  assert.match(
    await refusal(connectControl({ host: "127.0.0.1", port: 1, name: NAME }, clientContext, clock)),
    /ECONNREFUSED/,
  );
});

test("of several replicas any but the last one is chosen, and the last again where there is no other", () => {
  const all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
  const last: LastReplica = {};
  for (const [random, addresses, chosen] of [
    [0.4, all, "10.0.0.2"],
    [0, all, "10.0.0.1"],
    [0, all, "10.0.0.2"],
    [0.99, all, "10.0.0.3"],
    // It has left, and its name does not know yet.
    [0.99, all, "10.0.0.2"],
    [0.5, ["10.0.0.2"], "10.0.0.2"],
  ] as const)
    assert.is(
      chooseReplica(addresses, last, () => random),
      chosen,
    );
});

test.run();
