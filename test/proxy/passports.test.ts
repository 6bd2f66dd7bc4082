// Every error that the proxy itself makes, provoked: its status, its text and its code reach the caller, and its code the
// metrics. A new entry of the catalogue needs a case here.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import * as tls from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../src/log/logger.ts";
import { Watches } from "../../src/proxy/telemetry/watches.ts";
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

/** What the proxies of the case at hand wrote to their logs, and the errors that whoever watches was told of. */
const lines: string[] = [];
const watched: (PassportKey | undefined)[] = [];

/** Proxies whose log is read, and that are watched as taps and the access log do. */
function observed() {
  const watches = new Watches();
  watches.add({
    begin: () => ({ record: { response: () => {}, end: (_, { error }) => watched.push(error) } }),
  });
  return { log: createLogger({ level: "warn", write: (line) => lines.push(line) }), watches };
}
const outboundOf: typeof startOutbound = (to, options) => startOutbound(to, { ...observed(), ...options });
const inboundOf: typeof startInbound = (to, options) => startInbound(to, { ...observed(), ...options });

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
  const proxy = await outboundOf({ ip: "127.0.0.1", port: app.port }, options);
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
    const proxy = await outboundOf(SERVICE);
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
    const proxy = await inboundOf({ ip: "127.0.0.1", port: app.port }, { identity });
    keep(proxy.path);
    proxy.discovery.serverOf(app.port).set({ ...serverPolicy("all"), ...change(serverPolicy("all")) });
    // Through a meshed peer: only trusted callers are told codes.
    const peer = await outboundOf(SERVICE, { identity: authority.identity("app.test") });
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
    const proxy = await outboundOf(SERVICE, { identity });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web.ns", [
      { port: await serve(keep), identity: "web.test", h2: true },
    ]);
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
  chunk: async (keep) => {
    let forwarded = false;
    const proxy = await before(keep, (peer) => {
      peer.onData = (received) => {
        forwarded = received.includes("first");
      };
    });
    const client = keep(new RawClient(proxy.port));
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    await until(() => forwarded, 5_000, "the beginning at the server");
    client.send("zz\r\n");
    await client.sees("\r\n\r\n");
    return { text: client.received, metrics: proxy.registry.expose() };
  },
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
    const proxy = await outboundOf(SERVICE, { config: { failfastTimeout: 20 } });
    keep(proxy.path);
    proxy.discovery.service("127.0.0.1:80", "web.ns", []);
    return ask(keep, proxy, GET);
  },
  loop: async (keep) => {
    const proxy = await outboundOf({ ip: "127.0.0.1", port: 9 }, { config: { refuseLoopback: true } });
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
    const proxy = await outboundOf({ ip: "127.0.0.1", port });
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
  "stream-reset": meshed(async (keep) => {
    // A peer's proxy that resets the streams in which HTTP/1 is carried.
    const { serverContext } = authority.credentials("web.test");
    const listener = tls.createServer(
      { SNICallback: (_name, done) => done(null, serverContext) },
      (socket) => {
        const session = http2.performServerHandshake(socket);
        session.on("error", () => {});
        session.on("stream", (stream) => {
          stream.on("error", () => {});
          stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        });
      },
    );
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    keep({ close: () => listener.close() });
    return (listener.address() as AddressInfo).port;
  }),
  "tls-identity": meshed(async (keep) => {
    const other = await inboundOf(undefined, {
      identity: new FakeIdentity("web.test", authority.credentials("other.test")),
    });
    keep(other.path);
    return other.port;
  }),
  "tls-handshake": meshed(async (keep) => keep(await RawServer.start((peer) => peer.send("no TLS"))).port),
  "no-certificate": meshed(async (keep) => keep(await RawServer.start()).port, new FakeIdentity("app.test")),
  "direct-unauthenticated": async (keep) => {
    const proxy = await inboundOf(undefined, { identity: authority.identity("web.test") });
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

/** There was no request that anybody could have been shown. */
const WITHOUT_REQUEST: ReadonlySet<PassportKey> = new Set<PassportKey>([
  "request-line",
  "http-version",
  "header-syntax",
  "line-ending",
  "content-length",
  "ambiguous-length",
  "transfer-encoding",
  "duplicate-host",
  "head-too-large",
  "head-timeout",
]);

for (const [key, run] of Object.entries(CASES)) {
  const { code, status, text } = PASSPORTS[key as PassportKey];
  test(`${code} ${key}`, async () => {
    lines.length = 0;
    watched.length = 0;
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
        assert.match(seen.text, new RegExp(code), `${seen.text}${lines.join("")}`);
        assert.match(seen.text, new RegExp(`l5d-proxy-error: ${text}`));
      }
      // What a route does on purpose is no error of the proxy's.
      if (key !== "fault-injected") {
        assert.match(seen.metrics, new RegExp(`errors_total{.*code="${code}"`));
        assert.ok(
          lines.some((line) => line.includes(code)),
          `a log line of ${code}: ${lines.join("")}`,
        );
      }
      if (!closed && !WITHOUT_REQUEST.has(key as PassportKey)) {
        await until(() => watched.length > 0, 5_000, "the end of what was watched");
        assert.ok(watched.includes(key as PassportKey), `whoever watches is told: ${watched.join()}`);
      }
    } finally {
      for (const thing of kept.reverse()) await ("close" in thing ? thing.close() : thing.destroy());
    }
  });
}

test.run();
