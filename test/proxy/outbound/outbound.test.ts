// The outbound side on real sockets: discovery, balancing, failing over, mesh TLS to a peer.

import * as net from "node:net";
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf } from "../../../src/api/address.ts";
import { createAuthority, endpointSet, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("outbound");
const authority = createAuthority();
const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const SERVICE = { ip: "127.0.0.1", port: 80 };

const answering = (peer: RawPeer) => {
  peer.onData = (received) => {
    if (received.endsWith("\r\n\r\n")) peer.send(OK);
  };
};

/** A port nobody listens on. */
async function closedPort(): Promise<number> {
  const server = await RawServer.start();
  const { port } = server;
  await server.close();
  return port;
}

type Closable = { close(): unknown } | { destroy(): void };
const test_ = (name: string, body: (keep: <T extends Closable>(thing: T) => T) => Promise<void>) =>
  test(name, async () => {
    const things: Closable[] = [];
    try {
      await body((thing) => {
        things.push(thing);
        return thing;
      });
    } finally {
      for (const thing of things.reverse()) await ("close" in thing ? thing.close() : thing.destroy());
    }
  });

test_("a service's requests go to its endpoints, under its name", async (keep) => {
  const apps = [keep(await RawServer.start(answering)), keep(await RawServer.start(answering))];
  const proxy = await startOutbound(SERVICE);
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", [
    { port: apps[0]!.port, labels: { pod: "web-0" } },
    { port: apps[1]!.port, labels: { pod: "web-1" } },
  ]);
  const client = keep(new RawClient(proxy.port));
  for (let i = 1; i <= 40; i += 1) {
    client.send(GET);
    await until(() => client.received.length === OK.length * i, 5_000, "response");
  }
  assert.ok(
    apps.every((app) => app.connections.length === 1),
    "both endpoints are used",
  );
  const metrics = proxy.registry.expose();
  assert.match(
    metrics,
    /request_total\{direction="outbound",authority="web.ns.svc.cluster.local:80",[^}]*dst_pod="web-1"\}/,
  );
  assert.match(metrics, /outbound_http_balancer_endpoints\{[^}]*endpoint_state="ready"\} 2/);
});

test_("an address that discovery does not know is forwarded to as it is", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const proxy = await startOutbound({ ip: "127.0.0.1", port: app.port });
  keep(proxy.path);
  await keep(new RawClient(proxy.port)).send(GET).sees("ok");
});

test_("discovery that does not answer is not waited for longer than its time", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const proxy = await startOutbound(
    { ip: "127.0.0.1", port: app.port },
    { config: { profileTimeout: 20, policyTimeout: 20 } },
  );
  keep(proxy.path);
  proxy.discovery.profileOf(`127.0.0.1:${app.port}`).current = undefined;
  await keep(new RawClient(proxy.port)).send(GET).sees("ok");
});

test_(
  "an endpoint that refuses connections costs no request, and comes back when it listens",
  async (keep) => {
    const app = keep(await RawServer.start(answering));
    const dead = await closedPort();
    const proxy = await startOutbound(SERVICE, {
      config: { connectBackoff: { min: 20, max: 50, jitter: 0 } },
    });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web", [{ port: app.port }, { port: dead }]);
    const client = keep(new RawClient(proxy.port));
    for (let i = 1; i <= 20; i += 1) {
      client.send(GET);
      await until(() => client.received.length === OK.length * i, 5_000, "response");
    }
    assert.is(client.received, OK.repeat(20));
    assert.match(proxy.registry.expose(), /endpoint_state="pending"\} 1/);
    keep(await RawServer.start(answering, dead));
    await until(
      () => /endpoint_state="ready"\} 2/.test(proxy.registry.expose()),
      5_000,
      "the endpoint's return",
    );
  },
);

test_("when all endpoints refuse, each is tried and the answer is a 502", async (keep) => {
  const proxy = await startOutbound(SERVICE);
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web", [
    { port: await closedPort() },
    { port: await closedPort() },
  ]);
  const client = keep(new RawClient(proxy.port)).send(GET);
  assert.match(
    await client.sees("\r\n\r\n"),
    /^HTTP\/1.1 502 Bad Gateway\r\nl5d-proxy-error: connection failed: .*ECONNREFUSED.*\r\nl5d-mesh-code: MESH-401\r\n/,
  );
  client.received = "";
  client.send(GET);
  await client.sees("502");
});

test_("without endpoints requests wait, then fail fast, then flow when endpoints come", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const proxy = await startOutbound(SERVICE, { config: { failfastTimeout: 100 } });
  keep(proxy.path);
  const watch = proxy.discovery.service("127.0.0.1:80", "web", []);
  const client = keep(new RawClient(proxy.port)).send(GET);
  // And the client is let go: it may know another address.
  assert.match(
    await client.seesEnd(),
    /^HTTP\/1.1 504 .*l5d-proxy-error: service in fail-fast: web:80.*connection: close/s,
  );
  watch.set(endpointSet([{ port: app.port }]));
  await keep(new RawClient(proxy.port)).send(GET).sees("ok");
});

test_("connections of bytes have a queue and a time of their own", async (keep) => {
  const connectionQueue = { capacity: 1, failfastTimeout: 100 };
  const proxy = await startOutbound(SERVICE, { config: { failfastTimeout: 60_000, connectionQueue } });
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "db", [], true);
  const [first, second] = [keep(new RawClient(proxy.port)), keep(new RawClient(proxy.port))];
  await Promise.all([first.seesEnd(), second.seesEnd()]);
  const metrics = proxy.registry.expose();
  assert.match(metrics, /outbound_tcp_errors_total\{error="load shed",code="MESH-601"\} 1\n/);
  assert.match(metrics, /outbound_tcp_errors_total\{error="fail-fast",code="MESH-301"\} 1\n/);
  assert.match(metrics, /outbound_tcp_route_close_total\{[^}]*error="unexpected"\} 2\n/);
});

test_("requests beyond the queue's capacity are shed", async (keep) => {
  const proxy = await startOutbound(SERVICE, { config: { failfastTimeout: 500, queueCapacity: 1 } });
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web", []);
  const clients = [GET, GET].map((bytes) => keep(new RawClient(proxy.port)).send(bytes));
  const answers = await Promise.all(clients.map((client) => client.sees("\r\n\r\n")));
  assert.equal(answers.map((text) => text.slice(9, 12)).sort(), ["503", "504"]);
});

for (const kind of ["http1", "http2"] as const) {
  test_(`a destination whose policy says ${kind} takes nothing else`, async (keep) => {
    const app = keep(await RawServer.start());
    const proxy = await startOutbound({ ip: "127.0.0.1", port: app.port });
    keep(proxy.path);
    proxy.discovery.outboundPolicy("127.0.0.1", app.port);
    proxy.discovery.policies.get(`127.0.0.1:${app.port}`)!.set({ protocol: { [kind]: { routes: [] } } });
    const client = keep(new RawClient(proxy.port)).send("\x00\x01\x02 what is this?\r\n\r\n");
    await client.seesEnd();
    assert.is(app.connections.length, 0, "not a byte went through");
  });
}

test_("a request that waits for endpoints goes on when they come", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const proxy = await startOutbound(SERVICE);
  keep(proxy.path);
  const watch = proxy.discovery.service("127.0.0.1:80", "web", []);
  const client = keep(new RawClient(proxy.port)).send(GET);
  await until(() => proxy.path.connections() === 1, 5_000, "the connection");
  watch.set(endpointSet([{ port: app.port }]));
  await client.sees("ok");
});

test_(
  "an endpoint that leaves the set gets no further requests; its request in flight ends in peace",
  async (keep) => {
    const old = keep(await RawServer.start());
    const next = keep(await RawServer.start(answering));
    const proxy = await startOutbound(SERVICE);
    keep(proxy.path);
    const watch = proxy.discovery.service("127.0.0.1:80", "web", [{ port: old.port }]);
    const client = keep(new RawClient(proxy.port)).send(GET);
    const peer = await old.connection();
    await peer.sees(GET);
    watch.set(endpointSet([{ port: next.port }]));
    peer.send(OK);
    await client.sees("ok");
    client.send(GET);
    await until(() => client.received === OK + OK, 5_000, "the second response");
    assert.is(next.connections.length, 1);
    await until(() => peer.closed || peer.ended, 5_000, "the old connection's end");
  },
);

test_("a peer that cannot prove the expected identity gets nothing", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const peer = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity("imposter.test") },
  );
  keep(peer.path);
  const proxy = await startOutbound(SERVICE, { identity: authority.identity("client.test") });
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web", [
    { port: peer.port, identity: "web.test", serverName: "imposter.test" },
  ]);
  const client = keep(new RawClient(proxy.port)).send(GET);
  assert.match(await client.sees("\r\n\r\n"), /502.*required id web.test; found imposter.test.*MESH-501/s);
  assert.is(app.connections.length, 0);
});

test_("a peer of another authority gets nothing", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const peer = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: createAuthority().identity("web.test") },
  );
  keep(peer.path);
  const proxy = await startOutbound(SERVICE, { identity: authority.identity("client.test") });
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web", [{ port: peer.port, identity: "web.test" }]);
  const client = keep(new RawClient(proxy.port)).send(GET);
  assert.match(await client.sees("\r\n\r\n"), /502.*MESH-502/s);
  assert.is(app.connections.length, 0);
});

test_(
  "through a pair the application sees who called, and both sides count the same identity",
  async (keep) => {
    const app = keep(await RawServer.start(answering));
    const peer = await startInbound(
      { ip: "127.0.0.1", port: app.port },
      { identity: authority.identity("web.test") },
    );
    keep(peer.path);
    const proxy = await startOutbound(SERVICE, { identity: authority.identity("client.test") });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web", [{ port: peer.port, identity: "web.test" }]);
    await keep(new RawClient(proxy.port)).send(GET).sees("ok");
    assert.match(app.connections[0]!.received, /l5d-client-id: client.test/);
    assert.match(
      proxy.registry.expose(),
      /request_total\{direction="outbound",[^}]*tls="true",server_id="web.test"/,
    );
    assert.match(
      peer.registry.expose(),
      /tcp_open_connections\{direction="inbound",peer="src",[^}]*client_id="client.test"[^}]*\} 1/,
    );
  },
);

test_("an opaque service is carried under a transport header, server speaking first", async (keep) => {
  const app = keep(
    await RawServer.start((p) => {
      p.send("hello");
      p.socket.on("end", () => p.socket.end("bye"));
    }),
  );
  const peer = await startInbound(undefined, { identity: authority.identity("web.test") });
  keep(peer.path);
  const proxy = await startOutbound(SERVICE, { identity: authority.identity("client.test") });
  keep(proxy.path);
  proxy.discovery.service(
    "127.0.0.1:80",
    "db",
    [{ port: app.port, identity: "web.test", inboundPort: peer.port }],
    true,
  );
  const client = keep(new RawClient(proxy.port));
  await client.sees("hello");
  client.send("data").end();
  await client.sees("bye");
  await app.connections[0]!.sees("data");
  assert.match(peer.registry.expose(), /inbound_tcp_authz_allow_total\{[^}]*client_id="client.test"/);
});

test_(
  "bytes that the policy forbids go nowhere, detected or declared; nothing is dialled for them",
  async (keep) => {
    const app = keep(await RawServer.start((p) => p.send("hello")));
    const forbidden = {
      routes: [
        {
          metadata: { default: "tcp-egress-deny" },
          rules: [
            {
              backends: {
                firstAvailable: {
                  backends: [
                    {
                      backend: {
                        forward: { addr: addressOf("127.0.0.1", app.port), weight: 1, metricLabels: {} },
                      },
                      filters: [],
                    },
                  ],
                },
              },
              filters: [{ forbidden: {} }],
            },
          ],
        },
      ],
    };
    const http = { routes: [] };
    for (const protocol of [
      { opaque: forbidden },
      { detect: { opaque: forbidden, http1: http, http2: http } },
    ]) {
      const proxy = await startOutbound(SERVICE);
      keep(proxy.path);
      proxy.discovery.service("127.0.0.1:80", "db", [{ port: app.port }]);
      proxy.discovery.outboundPolicy("127.0.0.1", 80);
      proxy.discovery.policies.get("127.0.0.1:80")!.set({ protocol } as never);
      const client = keep(new RawClient(proxy.port));
      client.send("\x16\x03\x01 no HTTP at all \r\n\r\n");
      await until(() => client.ended || client.closed, 5_000, "the refusal");
      assert.is(app.connections.length, 0);
      assert.match(proxy.registry.expose(), /outbound_tcp_errors_total\{[^}]*error="unauthorized"[^}]*\} 1/);
    }
  },
);

test_("connections of bytes are shared by weight", async (keep) => {
  const apps = [
    keep(await RawServer.start((p) => p.send("a"))),
    keep(await RawServer.start((p) => p.send("b"))),
  ];
  const proxy = await startOutbound(SERVICE);
  keep(proxy.path);
  const backend = (port: number) => ({
    backend: { forward: { addr: addressOf("127.0.0.1", port), weight: 1, metricLabels: {} } },
    filters: [],
  });
  const backends = {
    randomAvailable: {
      backends: [
        { backend: backend(apps[0]!.port), weight: 3 },
        { backend: backend(apps[1]!.port), weight: 1 },
      ],
    },
  };
  proxy.discovery.service("127.0.0.1:80", "db", [{ port: apps[0]!.port }]);
  proxy.discovery.outboundPolicy("127.0.0.1", 80);
  proxy.discovery.policies
    .get("127.0.0.1:80")!
    .set({ protocol: { opaque: { routes: [{ rules: [{ backends, filters: [] }] }] } } } as never);
  for (let i = 0; i < 60; i += 1) {
    const client = keep(new RawClient(proxy.port));
    await until(() => client.received !== "", 5_000, "a greeting");
  }
  const [a, b] = apps.map(({ connections }) => connections.length) as [number, number];
  assert.is(a + b, 60);
  assert.ok(a > b && b > 0, `${a} and ${b}`);
});

test_("renewed credentials serve new connections, and old ones live on", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const identity = authority.identity("client.test");
  const peer = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity("web.test") },
  );
  keep(peer.path);
  const proxy = await startOutbound(SERVICE, { identity });
  keep(proxy.path);
  proxy.discovery.service("127.0.0.1:80", "web", [{ port: peer.port, identity: "web.test" }]);
  const first = keep(new RawClient(proxy.port)).send(GET);
  await first.sees("ok");
  identity.current = authority.credentials("renewed.test");
  first.send(GET);
  await until(() => first.received === OK + OK, 5_000, "the old connection's response");
  const [a, b] = [
    keep(new RawClient(proxy.port)).send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n"),
    keep(new RawClient(proxy.port)),
  ];
  await until(() => app.connections[0]!.received.includes("POST"), 5_000, "the pooled connection in use");
  await b.send(GET).sees("ok");
  a.destroy();
  assert.match(app.connections.map((c) => c.received).join(""), /renewed.test/);
});

for (const [name, to] of [
  ["not redirected", undefined],
  ["meant for its own loopback", { ip: "127.0.0.1", port: 80 }],
] as const) {
  test_(`a connection that was ${name} is reset`, async (keep) => {
    const proxy = await startOutbound(to, { config: { refuseLoopback: true } });
    keep(proxy.path);
    const client = keep(new RawClient(proxy.port)).send(GET);
    await client.seesEnd();
    assert.is(client.error?.code, "ECONNRESET");
    assert.match(
      proxy.registry.expose(),
      /outbound_tcp_errors_total\{error="loop detected",code="MESH-302"\} 1/,
    );
  });
}

for (const [family, host, ip] of [
  ["IPv4", "127.0.0.1", "127.0.0.1"],
  ["IPv6", "::1", "0:0:0:0:0:0:0:1"],
] as const) {
  test_(`a connection to its own port is a loop, on a dual-stack listener: ${family}`, async (keep) => {
    const proxy = await startOutbound(undefined, { config: { listen: [{ ip: "::", port: 0 }] } });
    keep(proxy.path);
    proxy.originalDestination.to = { ip, port: proxy.port };
    const client = net.connect(proxy.port, host);
    keep(client);
    client.on("error", () => {});
    client.write(GET);
    client.resume();
    await new Promise((resolve) => client.once("close", resolve));
    assert.match(proxy.registry.expose(), /outbound_tcp_errors_total\{error="loop detected"/);
  });
}

test_("a destination is forgotten when it is idle", async (keep) => {
  const app = keep(await RawServer.start(answering));
  const proxy = await startOutbound(SERVICE, { config: { discoveryIdleTimeout: 20 } });
  keep(proxy.path);
  const watch = proxy.discovery.service("127.0.0.1:80", "web", [{ port: app.port }]);
  const client = keep(new RawClient(proxy.port)).send(GET);
  await client.sees("ok");
  client.destroy();
  await until(() => watch.closed, 5_000, "the watch's end");
  await until(() => app.connections[0]!.closed || app.connections[0]!.ended, 5_000, "the pool's end");
});

test_("TLS of the application's own goes by the server name that it asks for", async (keep) => {
  const noTls = (peer: RawPeer) => {
    peer.onData = () => peer.send("this is no TLS\r\n");
    peer.socket.on("end", () => peer.end());
  };
  const [a, b] = [keep(await RawServer.start(noTls)), keep(await RawServer.start(noTls))];
  const proxy = await startOutbound(SERVICE);
  keep(proxy.path);
  proxy.discovery.service("127.0.0.2:443", "a.ns", [{ port: a.port }]);
  proxy.discovery.service("127.0.0.2:443", "b.ns", [{ port: b.port }]);
  const route = (name: string, path: string, sni: object) => ({
    metadata: {
      resource: { group: "g", kind: "TLSRoute", name, namespace: "ns", section: "", port: 0 },
    },
    snis: [sni],
    rules: [
      {
        filters: [],
        backends: {
          firstAvailable: {
            backends: [{ filters: [], backend: { balancer: { discovery: { dst: { path } } } } }],
          },
        },
      },
    ],
  });
  proxy.discovery.outboundPolicy("127.0.0.1", 80);
  proxy.discovery.policies.get("127.0.0.1:80")!.set({
    protocol: {
      tls: {
        routes: [
          route("one", "a.ns:443", { exact: "a.test" }),
          route("all", "b.ns:443", { suffix: { reverseLabels: ["test"] } }),
        ],
      },
    },
  });
  const hello = async (servername: string) => {
    const before = [a.connections.length, b.connections.length];
    let closed = false;
    const made = keep(tls.connect({ port: proxy.port, host: "127.0.0.1", servername }));
    made.on("error", () => {});
    made.on("close", () => {
      closed = true;
    });
    // The answer is no TLS, which ends the client.
    await until(() => closed, 5_000, "the end");
    return [a.connections.length - before[0]!, b.connections.length - before[1]!];
  };
  assert.equal(await hello("a.test"), [1, 0]);
  assert.equal(await hello("x.test"), [0, 1]);
  assert.equal(await hello("y.test"), [0, 1]);
  assert.equal(await hello("elsewhere.example"), [0, 0]);
  const counted = (family: string, name: string) => {
    const labels = `route_group="g",route_kind="TLSRoute",route_namespace="ns",route_name="${name}"`;
    const series = new RegExp(`^outbound_tls_route_${family}_total\\{[^}]*${labels}[^}]*\\} (\\d+)$`, "m");
    return Number(series.exec(proxy.registry.expose())?.[1] ?? 0);
  };
  assert.equal([counted("open", "one"), counted("open", "all")], [1, 2]);
  await until(() => counted("close", "all") === 2, 5_000, "the count of what has ended");
  assert.match(proxy.registry.expose(), /outbound_tcp_errors_total\{[^}]*code="MESH-303"\} 1/);
});

test.run();
