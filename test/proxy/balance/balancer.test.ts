// Balancing over HTTP/1, over HTTP/2, and over HTTP/1 carried in HTTP/2.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import { createAuthority, startInbound } from "../../support/proxy-fakes.ts";
import { RawServer } from "../../support/wire.ts";
import { type App, balancerCases, type Kind } from "./balancer-cases.ts";

const test = suite("balancer");

async function http1(port?: number): Promise<App> {
  const server = await RawServer.start((peer) => {
    let leaving = false;
    let seen = 0;
    peer.onData = (received) => {
      while (!leaving && received.slice(seen).includes("\r\n\r\n")) {
        seen = received.indexOf("\r\n\r\n", seen) + 4;
        app.requests += 1;
        void answer();
      }
    };
    const answer = async () => {
      await app.hold;
      leaving = left;
      const close = leaving ? "connection: close\r\n" : "";
      peer.send(`HTTP/1.1 ${app.status} X\r\ncontent-length: 2\r\n${close}\r\nok`);
      if (leaving) peer.end();
    };
  }, port);
  let left = false;
  const app: App = {
    port: server.port,
    requests: 0,
    status: 200,
    hold: undefined,
    leave: () => {
      left = true;
    },
    close: () => server.close(),
  };
  return app;
}

async function h2(port = 0): Promise<App> {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => {});
    session.on("close", () => sessions.delete(session));
  });
  server.on("stream", async (stream) => {
    stream.on("error", () => {});
    app.requests += 1;
    await app.hold;
    if (stream.destroyed) return;
    stream.respond({ ":status": app.status });
    stream.end("ok");
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const app: App = {
    port: (server.address() as AddressInfo).port,
    requests: 0,
    status: 200,
    hold: undefined,
    leave: () => {
      for (const session of sessions) session.close();
    },
    close: async () => {
      for (const session of sessions) session.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return app;
}

const authority = createAuthority();
const PEER = "peer.test";

/** An application behind its own proxy, which takes HTTP/1 carried in HTTP/2 over mutual TLS. */
async function carried(port = 0): Promise<App> {
  const app = await http1();
  const { path, port: bound } = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity(PEER), config: { listen: [{ ip: "127.0.0.1", port }] } },
  );
  const { close } = app;
  return Object.assign(app, {
    port: bound,
    leave: () => void path.drain(5_000),
    close: () => {
      path.close();
      return close();
    },
  });
}

const KINDS: readonly Kind[] = [
  { name: "HTTP/1", version: 1, start: http1 },
  { name: "HTTP/2", version: 2, start: h2 },
  {
    name: "HTTP/1 in HTTP/2",
    version: 1,
    identity: authority.identity("client.test"),
    endpoint: { identity: PEER, h2: true },
    start: carried,
  },
];
for (const kind of KINDS) balancerCases(test, kind);

test.run();
