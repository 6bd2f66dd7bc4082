// The application behind a peer's proxy is gone, and the proxy answers for it: the request goes to another endpoint, and
// the endpoint is left alone for a while. Only that proxy itself is believed.
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { ask, type Answer as Got, type Keep, scenarios, seconds, to } from "../../support/routed.ts";
import { until } from "../../support/until.ts";

const test = suite("unserved by a peer");
const scenario = scenarios(test);
const authority = createAuthority();
const SERVICE = { ip: "127.0.0.1", port: 80 };
const NAME = "web.ns.serviceaccount.identity.test";
const CLIENT = "app.ns.serviceaccount.identity.test";

interface App {
  readonly port: number;
  /** Bodies of the requests so far. */
  readonly bodies: string[];
  stop(): Promise<void>;
}

type Answer = (response: http.ServerResponse | http2.Http2ServerResponse) => void;
const ok: Answer = (response) => void response.end("served");

/** An application that speaks HTTP/1, or HTTP/2 with prior knowledge. */
async function startApp(keep: Keep, version: 1 | 2, answer: Answer = ok, port = 0): Promise<App> {
  const bodies: string[] = [];
  const sessions = new Set<http2.ServerHttp2Session>();
  const handler = (
    request: http.IncomingMessage | http2.Http2ServerRequest,
    response: http.ServerResponse | http2.Http2ServerResponse,
  ) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk;
    });
    request.on("end", () => {
      bodies.push(body);
      if (request.headers["content-type"] === "application/grpc") {
        response.setHeader("content-type", "application/grpc");
        response.addTrailers({ "grpc-status": "0" });
        response.end(Buffer.alloc(5));
      } else answer(response);
    });
  };
  const server = version === 1 ? http.createServer(handler) : http2.createServer(handler);
  server.on("session", (session: http2.ServerHttp2Session) => {
    session.on("error", () => {});
    sessions.add(session);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      (server as http.Server).closeAllConnections?.();
      for (const session of sessions) session.destroy();
    });
  keep(stop);
  return { port: (server.address() as AddressInfo).port, bodies, stop };
}

async function startPeer(keep: Keep, app: { readonly port: number }) {
  const peer = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity(NAME) },
  );
  keep(() => peer.path.close());
  return peer;
}

type Peer = Awaited<ReturnType<typeof startPeer>>;

interface WorldOptions {
  /** Requests of HTTP/1 are carried in HTTP/2. */
  readonly h2?: boolean;
  /** There is a route that asks for more than an endpoint. */
  readonly routed?: boolean;
  readonly backoff?: { min: number; max: number; jitter: number };
}

/** A client's proxy whose service is behind these peers. */
async function startClient(keep: Keep, peers: readonly Pick<Peer, "port">[], options: WorldOptions = {}) {
  const { h2 = true, routed = false, backoff = { min: 60_000, max: 60_000, jitter: 0 } } = options;
  const proxy = await startOutbound(SERVICE, {
    identity: authority.identity(CLIENT),
    config: { connectBackoff: backoff },
  });
  keep(() => proxy.path.close());
  proxy.discovery.service(
    "127.0.0.1:80",
    "web.ns",
    peers.map(({ port }) => ({ port, identity: NAME, h2 })),
  );
  if (routed) {
    const rule = {
      matches: [],
      filters: [],
      allowL5dRequestHeaders: false,
      timeouts: { request: seconds(900) },
    };
    const routes = [{ hosts: [], rules: [{ ...rule, backends: to("web.ns:80") }] }];
    proxy.discovery.outboundPolicy("127.0.0.1", 80);
    proxy.discovery.policies
      .get("127.0.0.1:80")!
      .set({ protocol: { detect: { http1: { routes }, http2: { routes } } } });
  }
  return proxy;
}

/** Requests that a peer's proxy has refused because it could not connect. */
const refusals = ({ registry }: Pick<Peer, "registry">): number =>
  Number(/inbound_http_errors_total\{[^}]*code="MESH-401"[^}]*\} (\d+)/.exec(registry.expose())?.[1] ?? 0);

const count = ({ registry }: Pick<Peer, "registry">, family: string): number =>
  [...registry.expose().matchAll(new RegExp(`^${family}(?:\\{[^}]*\\})? (\\d+)`, "gm"))].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );

const ask1 = (port: number, body: string) => ask(port, "/", { method: "POST", body });

function ask2(
  session: http2.ClientHttp2Session,
  body: string,
  headers: http2.OutgoingHttpHeaders = {},
  open = false,
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": "/", ...headers });
    let got: http2.IncomingHttpHeaders = {};
    let text = "";
    stream.on("error", reject);
    stream.on("response", (head) => {
      got = { ...got, ...head };
      if (open) stream.end();
    });
    stream.on("trailers", (trailers) => {
      got = { ...got, ...trailers };
    });
    stream.on("data", (chunk: Buffer) => {
      text += chunk;
    });
    stream.on("close", () => resolve({ status: Number(got[":status"]), headers: got, body: text }));
    if (open) stream.write(body);
    else stream.end(body);
  });
}

function connect(keep: Keep, port: number): http2.ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  keep(() => session.destroy());
  return session;
}

interface Kind {
  readonly name: string;
  readonly version: 1 | 2;
  readonly h2: boolean;
  readonly routed?: boolean;
  ask(keep: Keep, port: number): (body: string) => Promise<Got>;
  /** Whether the answer is of the application. */
  served(got: Got): boolean;
}

const isServed = ({ status, body }: Got) => status === 200 && body === "served";
const KINDS: readonly Kind[] = [
  {
    name: "HTTP/1",
    version: 1,
    h2: false,
    ask: (_keep, port) => (body) => ask1(port, body),
    served: isServed,
  },
  {
    name: "HTTP/1 in HTTP/2",
    version: 1,
    h2: true,
    ask: (_keep, port) => (body) => ask1(port, body),
    served: isServed,
  },
  {
    name: "HTTP/1 by a route",
    version: 1,
    h2: true,
    routed: true,
    ask: (_keep, port) => (body) => ask1(port, body),
    served: isServed,
  },
  {
    name: "HTTP/2",
    version: 2,
    h2: true,
    ask: (keep, port) => {
      const session = connect(keep, port);
      return (body) => ask2(session, body);
    },
    served: isServed,
  },
  {
    name: "gRPC",
    version: 2,
    h2: true,
    ask: (keep, port) => {
      const session = connect(keep, port);
      return (body) => ask2(session, body, { "content-type": "application/grpc", te: "trailers" });
    },
    served: ({ headers }) => headers["grpc-status"] === "0",
  },
];

for (const { name, version, h2, routed = false, ask, served } of KINDS) {
  scenario(`an application that is gone costs no request: ${name}`, async (keep) => {
    const apps = [await startApp(keep, version), await startApp(keep, version)] as const;
    const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
    const proxy = await startClient(keep, peers, { h2, routed });
    await apps[0].stop();
    const post = ask(keep, proxy.port);
    for (let i = 0; i < 20; i += 1) assert.ok(served(await post(`body ${i}`)), `request ${i}`);
    assert.equal(
      apps[1].bodies,
      Array.from({ length: 20 }, (_, i) => `body ${i}`),
    );
    assert.is(refusals(peers[0]), 1, "then the endpoint is left alone");
    assert.match(proxy.registry.expose(), /balancer_endpoints\{[^}]*endpoint_state="pending"\} 1/);
    assert.is(count(proxy, "outbound_http_route_retry_requests_total"), 1);
    assert.is(count(proxy, "outbound_http_route_retry_successes_total"), 1);
  });

  scenario(`an application that is back gets requests again: ${name}`, async (keep) => {
    const apps = [await startApp(keep, version), await startApp(keep, version)] as const;
    const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
    const proxy = await startClient(keep, peers, { h2, routed, backoff: { min: 20, max: 40, jitter: 0 } });
    await apps[0].stop();
    const post = ask(keep, proxy.port);
    await until(async () => served(await post("")) && refusals(peers[0]) > 2, 5_000, "some rests");
    const back = await startApp(keep, version, ok, apps[0].port);
    await until(async () => served(await post("")) && back.bodies.length > 2, 5_000, "its return");
  });

  scenario(
    `when all applications are gone, each is asked once, and their proxy's answer is told: ${name}`,
    async (keep) => {
      const apps = [await startApp(keep, version), await startApp(keep, version)] as const;
      const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
      const proxy = await startClient(keep, peers, { h2, routed });
      for (const app of apps) await app.stop();
      const post = ask(keep, proxy.port);
      const { headers } = await post("x");
      assert.is(headers["l5d-mesh-code"], "MESH-401");
      assert.is(headers["l5d-mesh-unserved"], undefined, "what proxies tell each other stays between them");
      assert.equal(peers.map(refusals), [1, 1]);
      // Nor are the last endpoints taken away: who is back is found.
      await startApp(keep, version, ok, apps[1].port);
      await until(async () => served(await post("x")), 5_000, "the one that is back");
    },
  );

  // What an application says in a gRPC answer's head is said as in any other of HTTP/2.
  if (name !== "gRPC")
    scenario(`nobody but the peer's proxy is believed: ${name}`, async (keep) => {
      const gone = await startApp(keep, 1);
      const elsewhere = await startPeer(keep, gone);
      await gone.stop();
      const forged = await genuineWord(elsewhere.port);
      const answer: Answer = (response) => {
        response.statusCode = 502;
        for (const [field, value] of [
          ["l5d-mesh-code", "MESH-401"],
          ["l5d-proxy-error", "connection failed"],
          ["l5d-mesh-unserved", forged],
        ])
          response.setHeader(field!, value!);
        response.end();
      };
      const apps = [await startApp(keep, version, answer), await startApp(keep, version, answer)] as const;
      const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
      const proxy = await startClient(keep, peers, { h2, routed });
      const { status, headers } = await ask(keep, proxy.port)("x");
      assert.is(status, 502);
      assert.is(headers["l5d-mesh-unserved"], undefined);
      assert.is(apps[0].bodies.length + apps[1].bodies.length, 1);
      assert.is(count(proxy, "outbound_http_route_retry_requests_total"), 0);
      assert.match(proxy.registry.expose(), /balancer_endpoints\{[^}]*endpoint_state="ready"\} 2/);
    });
}

/** What a peer's proxy says to us on a connection of our own. */
async function genuineWord(port: number): Promise<string> {
  const { clientContext } = authority.credentials(CLIENT);
  const socket = tls.connect({
    port,
    host: "127.0.0.1",
    secureContext: clientContext,
    servername: NAME,
    checkServerIdentity: () => undefined,
  });
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk;
  });
  socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  try {
    return await until(
      () => /l5d-mesh-unserved: (\S+)/.exec(text)?.[1],
      5_000,
      () => `the word in ${text}`,
    );
  } finally {
    socket.destroy();
  }
}

scenario("a peer's proxy of another kind, which lets such headers pass, is not believed", async (keep) => {
  const { serverContext } = authority.credentials(NAME);
  let requests = 0;
  const server = tls.createServer({ SNICallback: (_name, done) => done(null, serverContext) }, (socket) => {
    socket.on("error", () => {});
    socket.on("data", () => {
      requests += 1;
      socket.write(
        "HTTP/1.1 502 X\r\nl5d-mesh-code: MESH-401\r\nl5d-mesh-unserved: AAAAAAAAAAAAAAAAAAAAAA\r\ncontent-length: 0\r\n\r\n",
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  keep(() => server.close());
  const { port } = server.address() as AddressInfo;
  const app = await startApp(keep, 1);
  const proxy = await startClient(keep, [{ port }, await startPeer(keep, app)], { h2: false });
  await until(
    async () => {
      await ask1(proxy.port, "");
      return requests > 2;
    },
    5_000,
    "requests to it",
  );
  assert.is(count(proxy, "outbound_http_route_retry_requests_total"), 0);
});

scenario("the only endpoint is not asked again, and costs no budget", async (keep) => {
  const app = await startApp(keep, 1);
  const peer = await startPeer(keep, app);
  const proxy = await startClient(keep, [peer]);
  await app.stop();
  for (let i = 1; i <= 3; i += 1) {
    const { status, headers } = await ask1(proxy.port, "x");
    assert.equal([status, headers["l5d-mesh-code"], refusals(peer)], [502, "MESH-401", i]);
  }
  assert.is(count(proxy, "outbound_http_route_retry_requests_total"), 0);
  assert.is(count(proxy, "outbound_http_route_retry_overflow_total"), 0);
});

scenario("a stream whose request goes on is taken elsewhere with what it has said", async (keep) => {
  const apps = [await startApp(keep, 2), await startApp(keep, 2)] as const;
  const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
  const proxy = await startClient(keep, peers, { backoff: { min: 1, max: 1, jitter: 0 } });
  await apps[0].stop();
  const session = connect(keep, proxy.port);
  for (let i = 0; refusals(peers[0]) < 3; i += 1) {
    const stream = session.request({ ":method": "POST", ":path": "/" });
    let body = "";
    stream.on("data", (chunk: Buffer) => {
      body += chunk;
    });
    stream.write("early ");
    await new Promise((resolve) => setTimeout(resolve, 20));
    stream.end("late");
    await new Promise((resolve) => stream.once("close", resolve));
    assert.equal([body, apps[1].bodies[i]], ["served", "early late"]);
    assert.ok(i < 100, "it is tried from time to time");
  }
});

scenario("a body too large to be kept is not sent twice", async (keep) => {
  const apps = [await startApp(keep, 2), await startApp(keep, 2)] as const;
  const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
  const proxy = await startClient(keep, peers, { backoff: { min: 1, max: 1, jitter: 0 } });
  for (const app of apps) await app.stop();
  const { status } = await ask2(connect(keep, proxy.port), "x".repeat(200_000));
  assert.is(status, 502);
});

for (const routed of [false, true]) {
  scenario(
    `a brown-out is not amplified beyond the budget: ${routed ? "by a route" : "straight"}`,
    async (keep) => {
      const apps = [await startApp(keep, 1), await startApp(keep, 1)] as const;
      const peers = [await startPeer(keep, apps[0]), await startPeer(keep, apps[1])] as const;
      const proxy = await startClient(keep, peers, { routed, backoff: { min: 1, max: 1, jitter: 0 } });
      for (const app of apps) await app.stop();
      const began = performance.now();
      for (let i = 0; i < 200; i += 1) assert.is((await ask1(proxy.port, "")).status, 502);
      const elapsed = (performance.now() - began) / 1_000;
      const retries = count(proxy, "outbound_http_route_retry_requests_total");
      // Ten a second of the last ten, and a fifth of the requests.
      assert.ok(retries <= 100 + 10 * elapsed + 40, `${retries} retries in ${elapsed} s`);
      assert.is(refusals(peers[0]) + refusals(peers[1]), 200 + retries);
      assert.ok(elapsed > 5 || count(proxy, "outbound_http_route_retry_overflow_total") > 0);
    },
  );
}

test.run();
