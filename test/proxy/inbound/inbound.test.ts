// The inbound side on real sockets: detection, mesh TLS, authorization, direct connections.
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeTransportHeader, TRANSPORT_PROTOCOL } from "../../../src/api/transport-header.ts";
import type { InboundConfig } from "../../../src/proxy/ports.ts";
import { createAuthority, FakeIdentity, serverPolicy, startInbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("inbound");
const authority = createAuthority();
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const SERVER = "web.test";

const answering = (peer: RawPeer) => {
  peer.onData = (received) => {
    if (received.endsWith("\r\n\r\n")) peer.send(OK);
  };
};
const echoing = (peer: RawPeer) => {
  peer.socket.on("data", (chunk) => peer.socket.write(chunk));
  peer.socket.on("end", () => peer.socket.end());
};

interface World {
  readonly app: RawServer;
  readonly proxy: Awaited<ReturnType<typeof startInbound>>;
  plain(): RawClient;
  meshed(options?: tls.ConnectionOptions, clientName?: string | undefined): Promise<tls.TLSSocket>;
}

async function world(
  onConnection: (peer: RawPeer) => void,
  body: (w: World) => Promise<void>,
  config: Partial<InboundConfig> = {},
  direct = false,
): Promise<void> {
  const app = await RawServer.start(onConnection);
  const proxy = await startInbound(direct ? undefined : { ip: "127.0.0.1", port: app.port }, {
    identity: authority.identity(SERVER),
    config,
  });
  const open: { destroy(): void }[] = [];
  try {
    await body({
      app,
      proxy,
      plain: () => {
        const client = new RawClient(proxy.port);
        open.push(client);
        return client;
      },
      meshed: async (options = {}, clientName = "client.test") => {
        const { clientContext } = authority.credentials(clientName);
        const socket = tls.connect({
          host: "127.0.0.1",
          port: proxy.port,
          servername: SERVER,
          secureContext: clientContext,
          checkServerIdentity: () => undefined,
          ...options,
        });
        open.push(socket);
        socket.on("error", () => {});
        await new Promise<void>((resolve, reject) => {
          socket
            .once("secureConnect", resolve)
            .once("error", reject)
            .once("close", () => reject(new Error("closed")));
        });
        return socket;
      },
    });
  } finally {
    for (const one of open) one.destroy();
    proxy.path.close();
    await app.close();
  }
}

const text = async (socket: tls.TLSSocket, wanted: string): Promise<string> => {
  let received = "";
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  await until(() => received.includes(wanted), 5_000, `${wanted} in ${received}`);
  return received;
};

test("plain HTTP from outside the mesh is served, and counted as such", () =>
  world(answering, async ({ plain, proxy }) => {
    await plain().send(GET).sees("ok");
    assert.match(
      proxy.registry.expose(),
      /request_total\{direction="inbound",[^}]*tls="no_identity",no_tls_reason="no_tls_from_remote",[^}]*\} 1/,
    );
  }));

test("mesh TLS is terminated, the client named to the application and in the metrics", () =>
  world(answering, async ({ meshed, app, proxy }) => {
    const socket = await meshed();
    assert.is(socket.getProtocol(), "TLSv1.3");
    socket.write("GET / HTTP/1.1\r\nhost: a\r\nl5d-client-id: forged\r\n\r\n");
    await text(socket, "ok");
    assert.match(
      app.connections[0]!.received,
      /^GET \/ HTTP\/1.1\r\nhost: a\r\nl5d-client-id: client.test\r\n\r\n$/,
    );
    assert.match(
      proxy.registry.expose(),
      /response_total\{[^}]*tls="true",client_id="client.test"[^}]*status_code="200",classification="success"\} 1/,
    );
  }));

test("a client certificate of another authority gives no identity", () =>
  world(answering, async ({ meshed, app, proxy }) => {
    const stranger = createAuthority().credentials("client.test");
    const socket = await meshed({ secureContext: stranger.clientContext, rejectUnauthorized: false });
    socket.write(GET);
    await text(socket, "ok");
    assert.not.match(app.connections[0]!.received, /l5d-client-id/);
    assert.not.match(proxy.registry.expose(), /client_id/);
  }));

test("a client without a certificate is let in by TLS and left to the policy", () =>
  world(answering, async ({ meshed, app, proxy }) => {
    proxy.discovery.serverOf(app.port).set(serverPolicy("authenticated"));
    const socket = await meshed({ secureContext: tls.createSecureContext(), rejectUnauthorized: false });
    socket.write(GET);
    // The loopback of the pod itself is always admitted, and all of this test is loopback.
    await text(socket, "ok");
  }));

test("TLS 1.2 is not spoken", () =>
  world(answering, async ({ meshed }) => {
    let error: Error | undefined;
    await meshed({
      secureContext: tls.createSecureContext({ maxVersion: "TLSv1.2" }),
      rejectUnauthorized: false,
    }).catch((e) => {
      error = e;
    });
    assert.ok(error);
  }));

test("sessions are resumed, with the identity of the first handshake", () =>
  world(answering, async ({ meshed, app }) => {
    const { clientContext } = authority.credentials("client.test");
    const first = await meshed({ secureContext: clientContext });
    const session = new Promise<Buffer>((resolve) => first.once("session", resolve));
    first.write(GET);
    await text(first, "ok");
    const second = await meshed({ secureContext: clientContext, session: await session });
    assert.ok(second.isSessionReused());
    second.write(GET);
    await text(second, "ok");
    assert.is(
      app.connections
        .map((c) => c.received)
        .join("")
        .match(/l5d-client-id: client.test/g)?.length,
      2,
    );
  }));

test("TLS for somebody else passes through untouched", async () => {
  const other = authority.credentials("other.test");
  const server = tls.createServer(
    { SNICallback: (_name, done) => done(null, other.serverContext) },
    (socket) => socket.end("private"),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const proxy = await startInbound({ ip: "127.0.0.1", port }, { identity: authority.identity(SERVER) });
  const client = tls.connect({
    host: "127.0.0.1",
    port: proxy.port,
    servername: "other.test",
    secureContext: other.clientContext,
  });
  try {
    await text(client, "private");
    assert.match(proxy.registry.expose(), /tcp_open_total\{direction="inbound",peer="src",[^}]*tls="opaque"/);
  } finally {
    client.destroy();
    proxy.path.close();
    server.close();
  }
});

test("bytes that are no HTTP go through both ways, with half-close", () =>
  world(echoing, async ({ plain, proxy }) => {
    const c = plain().send("\x00\x01binary");
    await c.sees("\x00\x01binary");
    c.end();
    await c.seesEnd();
    await until(() => proxy.path.connections() === 0, 5_000, "no connection left");
    const metrics = proxy.registry.expose();
    assert.match(metrics, /tcp_read_bytes_total\{direction="inbound",peer="src"[^}]*\} 8/);
    assert.match(metrics, /tcp_close_total\{direction="inbound",peer="dst"[^}]*\} 1/);
    assert.match(metrics, /inbound_tcp_authz_allow_total\{[^}]*\} 1/);
  }));

test("a server that speaks first is heard at once on an opaque port", () =>
  world(
    (peer) => peer.send("220 ready\r\n"),
    async ({ plain, proxy, app }) => {
      proxy.discovery.serverOf(app.port).set(serverPolicy("all", "opaque"));
      await plain().sees("220 ready");
    },
  ));

test("a silent client is taken for opaque when the detect timeout is over", () =>
  world(
    (peer) => peer.send("220 ready\r\n"),
    async ({ plain }) => void (await plain().sees("220 ready")),
    { detectTimeout: 50 },
  ));

test("a port that the policy calls http1 reads HTTP, also from a client that waits", () =>
  world(
    answering,
    async ({ plain, app, proxy }) => {
      proxy.discovery.serverOf(app.port).set(serverPolicy("all", "http1"));
      const client = plain();
      await until(() => proxy.path.connections() === 1, 5_000, "the connection");
      // Longer than the first bytes are waited for.
      await new Promise((resolve) => setTimeout(resolve, 60));
      await client.send(GET).sees("ok");
      assert.match(proxy.registry.expose(), /request_total\{direction="inbound"[^}]*\} 1/);
    },
    { detectTimeout: 20 },
  ));

test("a port that the policy calls http2 passes no other bytes, also from a client that waits", () =>
  world(
    echoing,
    async ({ plain, app, proxy }) => {
      proxy.discovery.serverOf(app.port).set(serverPolicy("all", "http2"));
      await plain().send("bytes that are nothing known\r\n\r\n").seesEnd();
      const late = plain();
      await until(() => proxy.path.connections() === 1, 5_000, "the connection");
      await new Promise((resolve) => setTimeout(resolve, 60));
      await late.send("bytes that are nothing known\r\n\r\n").seesEnd();
      assert.is(app.connections.length, 0);
      await plain().send(GET).sees("HTTP/1.1");
    },
    { detectTimeout: 20 },
  ));

test("a port that the policy calls http1 answers what is not HTTP as bad HTTP", () =>
  world(echoing, async ({ plain, app, proxy }) => {
    proxy.discovery.serverOf(app.port).set(serverPolicy("all", "http1"));
    assert.match(await plain().send("bytes that are nothing known\r\n\r\n").seesEnd(), /^HTTP\/1\.1 400 /);
    assert.is(app.connections.length, 0);
  }));

test("behind mesh TLS a port that the policy calls tls gets the bytes as they are", () =>
  world(answering, async ({ meshed, app, proxy }) => {
    proxy.discovery.serverOf(app.port).set(serverPolicy("all", "tls"));
    const socket = await meshed();
    socket.write(GET);
    await text(socket, "ok");
    assert.is(app.connections[0]!.received, GET, "nothing is added to a request that nobody read");
  }));

test("an application that does not listen is a 502 with its passport", async () => {
  const app = await RawServer.start();
  const { port } = app;
  await app.close();
  const proxy = await startInbound({ ip: "127.0.0.1", port });
  const client = new RawClient(proxy.port).send(GET);
  try {
    const answer = await client.sees("\r\n\r\n");
    assert.match(answer, /^HTTP\/1.1 502 Bad Gateway\r\nl5d-proxy-error: connection failed\r\n/);
    // The caller is a stranger: it learns no more.
    assert.not.match(answer, /MESH-|ECONNREFUSED/);
    assert.match(
      proxy.registry.expose(),
      /inbound_http_errors_total\{target_port="\d+",error="connect",code="MESH-401"\} 1/,
    );
  } finally {
    client.destroy();
    proxy.path.close();
  }
});

const direct = (header: Buffer | undefined, options: tls.ConnectionOptions = {}) => ({
  header,
  options: { ALPNProtocols: [TRANSPORT_PROTOCOL], ...options },
});

test("a direct connection goes to the port of its transport header, as bytes or as HTTP", () =>
  world(
    (peer) => {
      peer.onData = (received) => peer.send(received.startsWith("GET") ? OK : "bytes");
    },
    async ({ meshed, app, proxy }) => {
      const opaque = await meshed(direct(undefined).options);
      opaque.write(Buffer.concat([encodeTransportHeader({ port: app.port }), Buffer.from("hello")]));
      await text(opaque, "bytes");
      assert.is(app.connections[0]!.received, "hello");
      const http = await meshed(direct(undefined).options);
      http.write(encodeTransportHeader({ port: app.port, sessionProtocol: { http1: {} } }));
      http.write(GET);
      await text(http, "ok");
      assert.match(proxy.registry.expose(), /request_total\{[^}]*client_id="client.test"[^}]*\} 1/);
    },
    {},
    true,
  ));

for (const [name, options, header] of [
  [
    "without a client certificate",
    { secureContext: tls.createSecureContext(), rejectUnauthorized: false },
    80,
  ],
  ["for another identity", { servername: "other.test" }, 80],
  ["without the transport protocol", { ALPNProtocols: [] }, 80],
  ["without a port", {}, 0],
] as const) {
  test(`a direct connection ${name} is refused`, () =>
    world(
      echoing,
      async ({ meshed, app, proxy }) => {
        const socket = await meshed({ ALPNProtocols: [TRANSPORT_PROTOCOL], ...options }).catch(
          () => undefined,
        );
        socket?.write(encodeTransportHeader({ port: header && app.port }));
        if (socket) await until(() => socket.closed || socket.destroyed, 5_000, "the end");
        await until(() => /inbound_tcp_errors_total\{/.test(proxy.registry.expose()), 5_000, "the error");
        assert.is(app.connections.length, 0);
      },
      {},
      true,
    ));
}

test("a plain direct connection is refused", () =>
  world(echoing, async ({ plain }) => void (await plain().send(GET).seesEnd()), {}, true));

test("an address that is not the pod's is refused", () =>
  world(echoing, async ({ plain }) => void (await plain().seesEnd()), { ips: ["10.1.1.1"] }));

test("connections whose port's policy is not known yet wait for it", async () => {
  const app = await RawServer.start(answering);
  const proxy = await startInbound({ ip: "127.0.0.1", port: app.port }, { identity: new FakeIdentity("x") });
  const client = new RawClient(proxy.port);
  try {
    await client.send(GET).sees("ok");
  } finally {
    client.destroy();
    proxy.path.close();
    await app.close();
  }
});

test("draining: no new connections, the current request ends, with a word to the client", () =>
  world(
    () => {},
    async ({ plain, app, proxy }) => {
      const idle = plain().send("");
      const busy = plain().send(GET);
      // The silent client has a connection to the application too, should the application speak first.
      const peer = await until(
        () => app.connections.find(({ received }) => received === GET),
        5_000,
        "the request",
      );
      let drained = false;
      const drain = proxy.path.drain(5_000).then(() => {
        drained = true;
      });
      await until(() => idle.closed || idle.ended, 5_000, "the idle connection's end");
      const late = new RawClient(proxy.port);
      await until(() => late.closed, 5_000, "the late connection's refusal");
      assert.not(drained);
      peer.send(OK);
      assert.match(await busy.seesEnd(), /connection: close/);
      await drain;
      assert.is(proxy.path.connections(), 0);
    },
  ));

test("draining: a connection whose first bytes are on their way is served, and then ends", () =>
  world(answering, async ({ plain, proxy }) => {
    const client = plain().send(GET.slice(0, 2));
    await until(() => proxy.path.connections() === 1, 5_000, "the connection");
    const drain = proxy.path.drain(5_000);
    const refused = async () => {
      const late = new RawClient(proxy.port);
      await until(() => late.error !== undefined || late.socket.readyState === "open", 5_000, "an answer");
      late.destroy();
      return late.error !== undefined;
    };
    await until(refused, 5_000, "the end of the grace");
    client.send(GET.slice(2));
    assert.match(await client.seesEnd(), /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close\r\n/);
    await drain;
  }));

test("draining ends at its deadline whatever is left", () =>
  world(
    () => {},
    async ({ plain, app, proxy }) => {
      const busy = plain().send(GET);
      await (await app.connection()).sees(GET);
      await proxy.path.drain(100);
      await until(() => busy.closed || busy.ended, 5_000, "the end");
    },
  ));

test.run();
