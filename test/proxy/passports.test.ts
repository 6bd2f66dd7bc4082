// Every error that the proxy itself makes, provoked: its status, its text and its code reach the caller, and its code the
// metrics. A new entry of the catalogue needs a case here.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PASSPORTS, type PassportKey } from "../../src/rules/passport.ts";
import { systemClock } from "../../src/util/clock.ts";
import { withWaits } from "../support/clock.ts";
import {
  createAuthority,
  FakeIdentity,
  serverPolicy,
  startInbound,
  startOutbound,
} from "../support/proxy-fakes.ts";
import { until } from "../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../support/wire.ts";

const test = suite("passports");
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const SERVICE = { ip: "127.0.0.1", port: 80 };
const authority = createAuthority();

type Outbound = Awaited<ReturnType<typeof startOutbound>>;
type Keep = <T extends { close(): unknown } | { destroy(): void }>(thing: T) => T;

/** What a caller got, and the proxy's metrics. */
interface Seen {
  readonly text: string;
  readonly metrics: string;
}

type Case = (keep: Keep) => Promise<Seen>;

/** Sends `bytes` through `proxy`, until an answer or an end comes. */
async function ask(keep: Keep, proxy: Pick<Outbound, "port" | "registry">, bytes: string): Promise<Seen> {
  const client = keep(new RawClient(proxy.port)).send(bytes);
  await until(
    () => client.received.includes("\r\n\r\n") || client.ended || client.closed,
    5_000,
    "an answer",
  );
  return { text: client.received, metrics: proxy.registry.expose() };
}

/** An outbound side before an application that does `onConnection`. */
async function before(
  keep: Keep,
  onConnection: (peer: RawPeer) => void = () => {},
  options: Parameters<typeof startOutbound>[1] = {},
): Promise<Outbound> {
  const app = keep(await RawServer.start(onConnection));
  const proxy = await startOutbound({ ip: "127.0.0.1", port: app.port }, options);
  keep(proxy.path);
  return proxy;
}

const request =
  (bytes: string): Case =>
  async (keep) =>
    ask(keep, await before(keep), bytes);

const answered =
  (answer: (peer: RawPeer) => void): Case =>
  async (keep) => {
    const proxy = await before(keep, (peer) => {
      peer.onData = () => answer(peer);
    });
    return ask(keep, proxy, GET);
  };

/** With a rule on the only route. */
const routed =
  (rule: object, onConnection: (peer: RawPeer) => void = () => {}, bytes = GET): Case =>
  async (keep) => {
    const app = keep(await RawServer.start(onConnection));
    const proxy = await startOutbound(SERVICE);
    keep(proxy.path);
    proxy.discovery.service("127.0.0.2:80", "web.ns", [{ port: app.port }]);
    const backends = {
      firstAvailable: {
        backends: [{ filters: [], backend: { balancer: { discovery: { dst: { path: "web.ns:80" } } } } }],
      },
    };
    const routes = [
      {
        hosts: [],
        rules: [{ matches: [], filters: [], allowL5dRequestHeaders: false, backends, ...rule }],
      },
    ];
    proxy.discovery.outboundPolicy("127.0.0.1", 80);
    proxy.discovery.policies.get("127.0.0.1:80")!.set({ protocol: { http1: { routes } } });
    return ask(keep, proxy, bytes);
  };

const inboundWith =
  (change: (policy: ReturnType<typeof serverPolicy>) => object): Case =>
  async (keep) => {
    const app = keep(
      await RawServer.start((peer) => {
        peer.onData = () => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      }),
    );
    const identity = authority.identity("web.test");
    const proxy = await startInbound({ ip: "127.0.0.1", port: app.port }, { identity });
    keep(proxy.path);
    proxy.discovery.serverOf(app.port).set({ ...serverPolicy("all"), ...change(serverPolicy("all")) });
    // Through a meshed peer: only trusted callers are told codes.
    const peer = await startOutbound(SERVICE, { identity: authority.identity("app.test") });
    keep(peer.path);
    peer.discovery.service("127.0.0.1:80", "web.ns", [{ port: proxy.port, identity: "web.test" }]);
    await ask(keep, peer, GET);
    const second = await ask(keep, peer, GET);
    return { text: second.text, metrics: proxy.registry.expose() };
  };

/** To an endpoint that must prove to be `identity`. */
const meshed =
  (serve: (keep: Keep) => Promise<number>, identity = authority.identity("app.test")): Case =>
  async (keep) => {
    const proxy = await startOutbound(SERVICE, { identity });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web.ns", [{ port: await serve(keep), identity: "web.test" }]);
    return ask(keep, proxy, GET);
  };

const prefixOnly = { path: { prefix: "/only" }, headers: [], queryParams: [] };
const milliseconds = (ms: number) => ({ seconds: 0, nanos: ms * 1e6 });

/**
 * Only clients that do not come from loopback can be refused: see inbound/authorization.test.ts. To run out of
 * descriptors takes a process of its own: see transport/acceptor.test.ts.
 */
type Elsewhere = "unauthorized" | "out-of-sockets";

const CASES: Readonly<Record<Exclude<PassportKey, Elsewhere>, Case>> = {
  "request-line": async (keep) => {
    const proxy = await before(keep, (peer) => {
      peer.onData = () => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    // What a connection begins with tells its protocol; this is its second request.
    const client = keep(new RawClient(proxy.port)).send(GET);
    const first = await client.sees("ok");
    client.send("GET  / HTTP/1.1\r\n\r\n");
    await client.sees("MESH-101");
    return { text: client.received.slice(first.length), metrics: proxy.registry.expose() };
  },
  "http-version": request("GET / HTTP/1.9\r\nhost: a\r\n\r\n"),
  "header-syntax": request("GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
  "line-ending": request("GET / HTTP/1.1\r\nhost: a\n\r\n\r\n"),
  "content-length": request("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n"),
  "ambiguous-length": request("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n"),
  "transfer-encoding": request("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"),
  "duplicate-host": request("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
  "head-too-large": request(`GET / HTTP/1.1\r\nhost: a\r\n${"x: y\r\n".repeat(200)}\r\n`),
  chunk: request("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
  "head-timeout": async (keep) => {
    const clock = withWaits((ms) => (ms === 30_000 ? 20 : ms));
    return ask(keep, await before(keep, () => {}, { clock }), "GET / HTTP/1.1\r\nhost: a\r\nx:");
  },
  "invalid-policy": inboundWith(() => ({ protocol: undefined })),
  "rate-limited": inboundWith(() => ({
    protocol: {
      detect: { httpRoutes: [], httpLocalRateLimit: { total: { requestsPerSecond: 1 }, overrides: [] } },
    },
  })),
  "fail-fast": async (keep) => {
    const proxy = await startOutbound(SERVICE, { config: { failfastTimeout: 20 } });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web.ns", []);
    return ask(keep, proxy, GET);
  },
  loop: async (keep) => {
    const proxy = await startOutbound({ ip: "127.0.0.1", port: 9 }, { config: { refuseLoopback: true } });
    keep(proxy.path);
    return ask(keep, proxy, GET);
  },
  "no-route": routed({ matches: [prefixOnly] }),
  "fault-injected": routed({ filters: [{ failureInjector: { status: 503, message: "" } }] }),
  "request-timeout": routed({ timeouts: { request: milliseconds(30) } }),
  "response-timeout": routed({ timeouts: { response: milliseconds(30) } }),
  "idle-timeout": routed({ timeouts: { idle: milliseconds(30) } }),
  connect: async (keep) => {
    const gone = await RawServer.start();
    const { port } = gone;
    await gone.close();
    const proxy = await startOutbound({ ip: "127.0.0.1", port });
    keep(proxy.path);
    return ask(keep, proxy, GET);
  },
  "connect-timeout": async (keep) => {
    // The time for it is over before the kernel has had any.
    const after: typeof systemClock.after = (ms, fn) => {
      if (ms !== 77) return systemClock.after(ms, fn);
      queueMicrotask(fn);
      return { id: undefined };
    };
    const options = { clock: { ...systemClock, after }, config: { connectTimeout: 77 } };
    return ask(keep, await before(keep, () => {}, options), GET);
  },
  "upstream-closed": answered((peer) => peer.socket.destroy()),
  "bad-response": answered((peer) => peer.send("no HTTP\r\n\r\n")),
  "unexpected-upgrade": answered((peer) =>
    peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
  ),
  "stream-reset": async (keep) => {
    // A peer's proxy that resets the streams in which HTTP/1 is carried.
    const peer = http2.createServer();
    peer.on("stream", (stream) => {
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    });
    await new Promise<void>((resolve) => peer.listen(0, "127.0.0.1", resolve));
    keep({ close: () => peer.close() });
    const proxy = await startOutbound(SERVICE, { identity: authority.identity("app.test") });
    keep(proxy.path);
    const inbound = await startInbound(
      { ip: "127.0.0.1", port: (peer.address() as AddressInfo).port },
      { identity: authority.identity("web.test") },
    );
    keep(inbound.path);
    proxy.discovery.service("127.0.0.1:80", "web.ns", [
      { port: inbound.port, identity: "web.test", h2: true },
    ]);
    const client = http2.connect(`http://127.0.0.1:${proxy.port}`);
    keep(client);
    client.on("error", () => {});
    const stream = client.request({ ":path": "/" });
    stream.on("error", () => {});
    await new Promise((resolve) => stream.on("close", resolve));
    // Toward HTTP/2 callers the reset itself is the answer.
    const { code, status } = PASSPORTS["stream-reset"];
    return { text: `HTTP/1.1 ${status} ${code} ${stream.rstCode}`, metrics: `code="${code}"` };
  },
  "tls-identity": meshed(async (keep) => {
    const other = await startInbound(undefined, {
      identity: new FakeIdentity("web.test", authority.credentials("other.test")),
    });
    keep(other.path);
    return other.port;
  }),
  "tls-handshake": meshed(async (keep) => keep(await RawServer.start((peer) => peer.send("no TLS"))).port),
  "no-certificate": meshed(async (keep) => keep(await RawServer.start()).port, new FakeIdentity("app.test")),
  "direct-unauthenticated": async (keep) => {
    const proxy = await startInbound(undefined, { identity: authority.identity("web.test") });
    keep(proxy.path);
    return ask(keep, proxy, GET);
  },
  shutdown: async (keep) => {
    let asked = false;
    const proxy = await before(keep, (peer) => {
      peer.onData = () => {
        asked = true;
      };
    });
    const seen = ask(keep, proxy, GET);
    await until(() => asked, 5_000, "the request to be under way");
    await proxy.path.drain(20);
    return seen;
  },
  "connection-limit": async (keep) =>
    ask(keep, await before(keep, () => {}, { config: { maxConnections: 0 } }), GET),
  "load-shed": async (keep) => ask(keep, await before(keep, () => {}, { config: { maxInFlight: 0 } }), GET),
};

for (const [key, run] of Object.entries(CASES)) {
  const { code, status, text } = PASSPORTS[key as PassportKey];
  test(`${code} ${key}`, async () => {
    const kept: ({ close(): unknown } | { destroy(): void })[] = [];
    try {
      const seen = await run((thing) => {
        kept.push(thing);
        return thing;
      });
      const closed = status === 0 || key === "loop";
      if (closed) assert.is(seen.text, "", "there is nobody to answer");
      else {
        assert.match(seen.text, new RegExp(`^HTTP/1\\.1 ${status} `));
        assert.match(seen.text, new RegExp(code));
        if (key !== "stream-reset") assert.match(seen.text, new RegExp(`l5d-proxy-error: ${text}`));
      }
      if (key !== "fault-injected") assert.match(seen.metrics, new RegExp(`code="${code}"`));
    } finally {
      for (const thing of kept.reverse()) await ("close" in thing ? thing.close() : thing.destroy());
    }
  });
}

test.run();
