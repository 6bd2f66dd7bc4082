// The admin port over real sockets: what it answers, to whom, and what it does not put up with.
import { Agent, get, request as httpRequest, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { connect as connectTls } from "node:tls";
import { gunzipSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { type Admin, type AdminOptions, listenAdmin } from "../../../src/proxy/admin/index.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { withWaits } from "../../support/clock.ts";
import { createAuthority, FakeIdentity } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";

const test = suite("proxy admin");
const NAME = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";

interface Reply {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

function ask(
  port: number,
  path: string,
  options: {
    method?: string;
    body?: string;
    headers?: Record<string, string>;
    host?: string;
    agent?: Agent;
  } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { method = "GET", body, headers = {}, host = "127.0.0.1", agent } = options;
    const sent = httpRequest(
      {
        port,
        host,
        path,
        method,
        headers: { ...headers, ...(body === undefined ? {} : { "content-length": String(body.length) }) },
        ...(agent ? { agent } : {}),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
        );
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

async function withAdmin(
  run: (admin: Admin, registry: Registry) => Promise<void>,
  options: Partial<AdminOptions> = {},
): Promise<void> {
  const registry = new Registry();
  registry.counter("x_total", "X.").labels().inc();
  const admin = await listenAdmin({
    host: "127.0.0.1",
    port: 0,
    registry,
    identity: new FakeIdentity(NAME),
    clock: systemClock,
    log: createLogger({ level: "off" }),
    unready: () => undefined,
    shutdown: undefined,
    ...options,
  });
  try {
    await run(admin, registry);
  } finally {
    admin.close();
  }
}

/** Sends bytes and gives all that comes until the end. */
function raw(port: number, bytes: string): Promise<string> & { socket: Socket } {
  const socket = connect(port, "127.0.0.1");
  const promise = new Promise<string>((resolve) => {
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(got));
    socket.write(bytes);
  });
  return Object.assign(promise, { socket });
}

test("live always; ready with a reason until it is", async () => {
  let reason: string | undefined = "waiting for the first certificate";
  await withAdmin(
    async ({ port }) => {
      assert.is((await ask(port, "/live")).status, 200);
      const unready = await ask(port, "/ready");
      assert.is(unready.status, 503);
      assert.is(unready.body.toString(), "waiting for the first certificate\n");
      reason = undefined;
      assert.is((await ask(port, "/ready?x=1")).status, 200);
    },
    { unready: () => reason },
  );
});

test("metrics as text, compressed for whoever asks", () =>
  withAdmin(async ({ port }) => {
    const plain = await ask(port, "/metrics");
    assert.match(plain.body.toString(), /^x_total 1$/m);
    assert.match(String(plain.headers["content-type"]), /version=0\.0\.4/);
    const packed = await ask(port, "/metrics", { headers: { "Accept-Encoding": "gzip, deflate" } });
    assert.is(packed.headers["content-encoding"], "gzip");
    assert.match(gunzipSync(packed.body).toString(), /^x_total 1$/m);
    const head = await ask(port, "/metrics", { method: "HEAD" });
    assert.is(head.status, 200);
    assert.is(head.body.length, 0);
  }));

test("many metrics are compressed too", () =>
  withAdmin(async ({ port }, registry) => {
    for (let i = 0; i < 5_000; i += 1)
      registry
        .counter("many_total", "M.")
        .labels({ name: `series-${i}` })
        .inc();
    const { body } = await ask(port, "/metrics", { headers: { "accept-encoding": "gzip" } });
    assert.is(
      gunzipSync(body)
        .toString()
        .match(/^many_total/gm)?.length,
      5_000,
    );
  }));

test("metrics that are many come in pieces, and let others go first", () =>
  withAdmin(async ({ port }, registry) => {
    const family = registry.counter("many_total", "M.");
    for (let i = 0; i < 9_000; i += 1) family.labels({ name: `series-${i}-${"x".repeat(200)}` }).inc();
    let turns = 0;
    let asking = true;
    const count = () => {
      turns += 1;
      if (asking) setImmediate(count);
    };
    count();
    const { body, headers } = await ask(port, "/metrics");
    asking = false;
    assert.is(headers["transfer-encoding"], "chunked");
    assert.is(body.toString().match(/^many_total/gm)?.length, 9_000);
    assert.ok(turns > body.length / 65_536, `${turns} turns`);
    const head = await ask(port, "/metrics", { method: "HEAD" });
    assert.equal([head.status, head.body.length], [200, 0]);
    const old = await raw(port, "GET /metrics HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    assert.match(old, /^connection: close\r$/m);
    assert.is(old.match(/^many_total/gm)?.length, 9_000);
  }));

test("one connection serves request after request, also when they come at once", () =>
  withAdmin(async ({ port }) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 5; i += 1) assert.is((await ask(port, "/live", { agent })).status, 200);
    assert.is(Object.values(agent.freeSockets).flat().length, 1);
    agent.destroy();
    const one = "GET /live HTTP/1.1\r\nhost: x\r\n\r\n";
    const got = await raw(port, `${one}GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    assert.equal(got.match(/^(live|ready)$/gm), ["live", "ready"]);
    assert.match(await raw(port, "GET /live HTTP/1.0\r\n\r\n"), /^HTTP\/1\.1 200/, "HTTP/1.0 ends by itself");
  }));

test("a request cut into single bytes is read all the same", () =>
  withAdmin(async ({ port }) => {
    const done = raw(port, "");
    for (const byte of "PUT /proxy-log-level HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\ninfo") {
      await new Promise<void>((resolve) => done.socket.write(byte, () => resolve()));
    }
    assert.match(await done, /^HTTP\/1\.1 200/);
  }));

test("the log level is read and set, and nonsense refused", () => {
  const log = createLogger({ level: "warn", write: () => {} });
  return withAdmin(
    async ({ port }) => {
      const put = (body: string) => ask(port, "/proxy-log-level", { method: "PUT", body });
      assert.is((await ask(port, "/proxy-log-level")).body.toString(), "warn\n");
      assert.is((await put("debug")).status, 200);
      assert.is(log.level, "debug");
      await put("warn,linkerd=trace");
      assert.is(log.level, "trace");
      assert.is((await put("loud")).status, 400);
      assert.is((await put("x".repeat(2_000))).status, 413);
      assert.is((await ask(port, "/proxy-log-level", { method: "DELETE" })).status, 405);
      assert.is(log.level, "trace");
    },
    { log },
  );
});

interface Stream {
  lines(): Record<string, unknown>[];
  readonly response: IncomingMessage;
}

/** Opens /logs.json and keeps what comes. */
function logStream(port: number, filter: string, body?: string): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      {
        port,
        host: "127.0.0.1",
        path: `/logs.json${filter}`,
        ...(body !== undefined && { method: "QUERY", headers: { "content-length": body.length } }),
      },
      (response) => {
        let text = "";
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("error", () => {});
        const lines = () =>
          text
            .split("\n")
            .slice(0, -1)
            .map((line) => JSON.parse(line));
        resolve({ lines, response });
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

test("log records are streamed at a level of their own", async () => {
  const written: string[] = [];
  const log = createLogger({ level: "warn", write: (line) => written.push(line) });
  await withAdmin(
    async ({ port }) => {
      const debug = await logStream(port, "?warn,linkerd=debug");
      const errors = await logStream(port, "", "error");
      assert.is(debug.response.statusCode, 200);
      assert.ok(log.enabled("debug"), "someone listens");
      log.child({ side: "inbound" }).debug("one", { a: 1 });
      log.error("two");
      await until(() => debug.lines().length === 2 && errors.lines().length === 1);
      const { timestamp, ...first } = debug.lines()[0]!;
      assert.match(String(timestamp), /^\d{4}-/);
      assert.equal(first, { level: "DEBUG", message: "one", side: "inbound", a: 1 });
      assert.is(errors.lines()[0]!["message"], "two");
      assert.is(written.length, 1, "the log itself is as it was");
      debug.response.destroy();
      errors.response.destroy();
      await until(() => !log.enabled("debug"), 5_000, "the end of listening");
      assert.is((await ask(port, "/logs.json?loud")).status, 400);
      assert.is((await ask(port, "/logs.json", { method: "PUT", body: "debug" })).status, 405);
    },
    { log },
  );
});

test("only so many log streams; and one that is not read loses records and is told", async () => {
  const log = createLogger({ level: "off" });
  await withAdmin(
    async ({ port }) => {
      const streams: Stream[] = [];
      for (let i = 0; i < 4; i += 1) streams.push(await logStream(port, "?info"));
      assert.is((await ask(port, "/logs.json?info")).status, 429);
      const { response } = streams[0]!;
      response.pause();
      for (let round = 0; round < 400; round += 1) {
        for (let i = 0; i < 20; i += 1) log.info("x".repeat(1_000));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.resume();
      const told = () =>
        streams[0]!.lines().some(({ message }) => /records were left out/.test(String(message)));
      await until(told, 5_000, "what was left out");
      for (const stream of streams) stream.response.destroy();
      await until(async () => (await ask(port, "/live")).status === 200);
    },
    { log },
  );
});

test("the environment is shown; shutdown only by POST and when enabled; anything else is not there", async () => {
  let stopped = 0;
  await withAdmin(async ({ port }) => {
    assert.is((await ask(port, "/shutdown", { method: "POST" })).status, 403);
    process.env["MESH_ADMIN_TEST"] = "seen";
    assert.is(JSON.parse((await ask(port, "/env.json")).body.toString()).MESH_ADMIN_TEST, "seen");
    const some = await ask(port, "/env.json?MESH_ADMIN_TEST&MESH_ADMIN_NONE");
    assert.equal(JSON.parse(some.body.toString()), { MESH_ADMIN_TEST: "seen" });
    delete process.env["MESH_ADMIN_TEST"];
    assert.is((await ask(port, "/nothing")).status, 404);
    assert.is((await ask(port, "/ready", { method: "POST" })).status, 405);
  });
  await withAdmin(
    async ({ port }) => {
      assert.is((await ask(port, "/shutdown")).status, 405);
      assert.is(stopped, 0);
      assert.is((await ask(port, "/shutdown", { method: "POST" })).status, 200);
      await until(() => stopped === 1);
    },
    { shutdown: () => (stopped += 1) },
  );
});

const elsewhere = Object.values(networkInterfaces())
  .flat()
  .find((one) => one && !one.internal && one.family === "IPv4")?.address;

test("what changes or discloses something is for the pod itself", async () => {
  if (!elsewhere) return;
  await withAdmin(
    async ({ port }) => {
      for (const path of ["/env.json", "/logs.json", "/proxy-log-level", "/shutdown"]) {
        assert.is((await ask(port, path, { host: elsewhere, method: "POST" })).status, 403, path);
      }
      assert.is((await ask(port, "/metrics", { host: elsewhere })).status, 200);
    },
    { host: "0.0.0.0", shutdown: () => assert.unreachable() },
  );
});

test("whoever asks by the proxy's name gets TLS and its leaf, and can ask on", () => {
  const authority = createAuthority();
  return withAdmin(
    async ({ port }) => {
      const secure = connectTls({ port, host: "127.0.0.1", servername: NAME, rejectUnauthorized: false });
      const got = await new Promise<string>((resolve, reject) => {
        let text = "";
        secure.on("secureConnect", () =>
          secure.write("GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        );
        secure.on("data", (chunk) => {
          text += chunk;
        });
        secure.on("error", reject);
        secure.on("end", () => resolve(text));
      });
      assert.is(secure.getPeerX509Certificate()?.subjectAltName, `DNS:${NAME}`);
      assert.is(secure.getProtocol(), "TLSv1.3");
      assert.match(got, /^HTTP\/1\.1 200 OK\r\n[\s\S]*live\n$/);
      secure.destroy();
    },
    { identity: authority.identity(NAME) },
  );
});

test("what is no request is refused and the connection closed", () =>
  withAdmin(async ({ port }) => {
    for (const [bytes, status] of [
      ["nonsense\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400],
      ["PUT /proxy-log-level HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411],
      [`GET / HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(70_000)}\r\n\r\n`, 400],
    ] as const) {
      const got = await raw(port, bytes);
      if (got !== "" || bytes.length < 60_000) assert.match(got, new RegExp(`^HTTP/1\\.1 ${status} `));
    }
    assert.is((await ask(port, "/live")).status, 200);
  }));

test("connections that say nothing, or not enough, are ended; others are not kept waiting by them", async () => {
  const hurried = withWaits(() => 30);
  await withAdmin(
    async ({ port }) => {
      const slow = [raw(port, ""), raw(port, "GET /li"), raw(port, "\x16\x03\x01")];
      assert.equal(await Promise.all(slow), ["", "", ""]);
      // The hurried clock may end even this one on a busy machine.
      await until(async () => (await ask(port, "/live").catch(() => undefined))?.status === 200);
    },
    { clock: hurried, identity: createAuthority().identity(NAME) },
  );
});

test("whoever asks without reading is not answered without end", () =>
  withAdmin(async ({ port }, registry) => {
    for (let i = 0; i < 5_000; i += 1)
      registry
        .counter("big_total", "B.")
        .labels({ i: `${i}`.padStart(100) })
        .inc();
    const before = process.memoryUsage().arrayBuffers;
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.pause();
    socket.write("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000));
    await until(() => socket.bytesWritten > 30_000);
    for (let i = 0; i < 5; i += 1) assert.is((await ask(port, "/live")).status, 200);
    assert.ok(process.memoryUsage().arrayBuffers - before < 50_000_000);
    socket.destroy();
  }));

test("a port in use is an error", () =>
  withAdmin(async ({ port }) => {
    try {
      await withAdmin(async () => assert.unreachable(), { port });
      assert.unreachable();
    } catch (error) {
      assert.is((error as NodeJS.ErrnoException).code, "EADDRINUSE");
    }
    await new Promise<void>((resolve) =>
      get({ port, host: "127.0.0.1", path: "/live" }, (r) => r.resume().on("end", resolve)),
    );
  }));

test.run();
