// A pod is replaced while its clients go on: its proxy drains, the news of it comes late, and its application ends before
// or after. No request may fail or hang, on connections that were there and on new ones.
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createAuthority, endpointSet, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { type Keep, scenarios } from "../../support/routed.ts";
import { until } from "../../support/until.ts";

const test = suite("a pod that is replaced");
const scenario = scenarios(test);
const authority = createAuthority();
const SERVICE = { ip: "127.0.0.1", port: 80 };
const NAME = "web.ns.serviceaccount.identity.test";
const CLIENT = "app.ns.serviceaccount.identity.test";
/** Requests under way at a time. */
const AT_ONCE = 8;
/** A request that takes longer than this hangs, ms. */
const PATIENCE = 8_000;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** An application that takes up to 30 ms for an answer, and leaves in good order. */
async function startApp(keep: Keep, version: 1 | 2) {
  let requests = 0;
  const handler = async (
    request: http.IncomingMessage | http2.Http2ServerRequest,
    response: http.ServerResponse | http2.Http2ServerResponse,
  ) => {
    requests += 1;
    request.resume();
    await pause((requests * 7) % 30);
    if (request.headers["content-type"] === "application/grpc") {
      const reply = response as http2.Http2ServerResponse;
      reply.setHeader("content-type", "application/grpc");
      reply.addTrailers({ "grpc-status": "0" });
    }
    response.end("served");
  };
  const server = version === 1 ? http.createServer(handler) : http2.createServer(handler);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session: http2.ServerHttp2Session) => {
    session.on("error", () => {});
    sessions.add(session);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  keep(() => {
    server.close();
    (server as http.Server).closeAllConnections?.();
    for (const session of sessions) session.destroy();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get requests() {
      return requests;
    },
    leave(): void {
      server.close();
      for (const session of sessions) session.close();
    },
  };
}

async function startPeer(keep: Keep, version: 1 | 2) {
  const app = await startApp(keep, version);
  const { path, port } = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity(NAME) },
  );
  keep(() => path.close());
  return { app, path, port };
}

/** Sends one request; resolves with what is wrong about its answer. */
type Ask = () => Promise<string | undefined>;

function ask1(port: number, agent: http.Agent | false): Ask {
  return () =>
    new Promise((resolve) => {
      const request = http.get({ port, host: "127.0.0.1", agent }, (response) => {
        let body = "";
        response.on("data", (chunk: Buffer) => {
          body += chunk;
        });
        response.on("error", (error) => resolve(String(error)));
        response.on("end", () =>
          resolve(
            body === "served" ? undefined : `${response.statusCode} ${JSON.stringify(response.headers)}`,
          ),
        );
      });
      request.on("error", (error) => resolve(String(error)));
    });
}

function ask2(session: () => http2.ClientHttp2Session, grpc: boolean): Ask {
  return () =>
    new Promise((resolve) => {
      const used = session();
      const stream = used.request({
        ":method": "POST",
        ":path": "/",
        ...(grpc ? { "content-type": "application/grpc", te: "trailers" } : {}),
      });
      let head: http2.IncomingHttpHeaders = {};
      let body = "";
      let wrong: string | undefined;
      stream.on("response", (headers) => {
        head = headers;
      });
      stream.on("trailers", (trailers) => {
        head = { ...head, ...trailers };
      });
      stream.on("data", (chunk: Buffer) => {
        body += chunk;
      });
      stream.on("error", (error) => {
        wrong = String(error);
      });
      stream.on("close", () => {
        const right = body === "served" && (!grpc || head["grpc-status"] === "0");
        resolve(right ? undefined : (wrong ?? JSON.stringify(head)));
      });
      stream.end("question");
    });
}

interface Kind {
  readonly name: string;
  readonly version: 1 | 2;
  readonly h2: boolean;
  /** Over a connection that is kept, and over one of its own. */
  askers(keep: Keep, port: number): readonly [Ask, Ask];
}

function http1Askers(keep: Keep, port: number): readonly [Ask, Ask] {
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
  keep(() => agent.destroy());
  return [ask1(port, agent), ask1(port, false)];
}

function http2Askers(grpc: boolean) {
  return (keep: Keep, port: number): readonly [Ask, Ask] => {
    const open = () => {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on("error", () => {});
      keep(() => session.destroy());
      return session;
    };
    let kept: http2.ClientHttp2Session | undefined;
    const keptOne = () => {
      if (!kept || kept.closed || kept.destroyed) kept = open();
      return kept;
    };
    const fresh: Ask = async () => {
      const session = open();
      const wrong = await ask2(() => session, grpc)();
      session.close();
      return wrong;
    };
    return [ask2(keptOne, grpc), fresh];
  };
}

const KINDS: readonly Kind[] = [
  { name: "HTTP/1", version: 1, h2: false, askers: http1Askers },
  { name: "HTTP/1 in HTTP/2", version: 1, h2: true, askers: http1Askers },
  { name: "HTTP/2", version: 2, h2: true, askers: http2Askers(false) },
  { name: "gRPC", version: 2, h2: true, askers: http2Askers(true) },
];

/** What happens to the pod, in the order in which its clients' proxy and the pod itself hear of it. */
interface Course {
  readonly name: string;
  run(pod: Awaited<ReturnType<typeof startPeer>>, news: () => void): Promise<void>;
}

const COURSES: readonly Course[] = [
  {
    name: "the news comes during the drain, and its application ends after it",
    async run({ app, path }, news) {
      const drained = path.drain(PATIENCE);
      await pause(30);
      news();
      await drained;
      app.leave();
    },
  },
  {
    name: "the news never comes, and its application ends after the drain",
    async run({ app, path }) {
      await path.drain(PATIENCE);
      app.leave();
    },
  },
  {
    name: "the news never comes, and its application ends while its proxy drains",
    async run({ app, path }) {
      const drained = path.drain(PATIENCE);
      await pause(20);
      app.leave();
      await drained;
    },
  },
  {
    name: "the news never comes, and its application ends long before its proxy",
    async run({ app, path }) {
      app.leave();
      await pause(200);
      await path.drain(PATIENCE);
    },
  },
];

for (const { name, version, h2, askers } of KINDS) {
  for (const course of COURSES) {
    scenario(`${name}: ${course.name}`, async (keep) => {
      const pods = [await startPeer(keep, version), await startPeer(keep, version)] as const;
      const proxy = await startOutbound(SERVICE, { identity: authority.identity(CLIENT) });
      keep(() => proxy.path.close());
      const endpoint = ({ port }: { port: number }) => ({ port, identity: NAME, h2 });
      const watch = proxy.discovery.service("127.0.0.1:80", "web.ns", pods.map(endpoint));
      const [kept, fresh] = askers(keep, proxy.port);
      const wrongs: string[] = [];
      let underWay = 0;
      let over = false;
      const run = async (ask: Ask, who: string) => {
        while (!over) {
          underWay += 1;
          const wrong = await Promise.race([ask(), pause(PATIENCE).then(() => "it hangs")]);
          underWay -= 1;
          if (wrong !== undefined) wrongs.push(`${who}: ${wrong}`);
        }
      };
      const all = Promise.all(
        Array.from({ length: AT_ONCE }, (_, i) => (i % 2 === 0 ? run(kept, "kept") : run(fresh, "new"))),
      );
      await until(() => pods.every(({ app }) => app.requests > 10), 5_000, "both pods at work");
      assert.ok(underWay > 0);
      await course.run(pods[0], () => watch.set(endpointSet([endpoint(pods[1])])));
      const { requests } = pods[1].app;
      await until(() => pods[1].app.requests > requests + 20, 5_000, "the other one at work");
      over = true;
      await all;
      assert.equal(wrongs, []);
      assert.is(pods[0].path.connections(), 0);
    });
  }
}

test.run();
