// A controller's process: its admin port, and what it says when it cannot run.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { listenAdmin } from "../../src/controller/admin.ts";
import { type Controller, createController } from "../../src/controller/process.ts";
import { reflectorMetrics } from "../../src/controller/reflector-metrics.ts";
import { KubeClient } from "../../src/kube/client.ts";
import { createLogger, type Logger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { isLoopback } from "../../src/util/ip.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { ApiServer } from "../support/api-server.ts";
import { ManualClock } from "../support/clock.ts";
import { until } from "../support/until.ts";

const test = suite("controller process");

interface Port {
  readonly ask: (path: string, init?: RequestInit) => Promise<string>;
  readonly log: Logger;
}

async function withAdmin(
  run: (port: Port) => Promise<void>,
  options: { registry?: Registry; unready?: () => readonly string[] } = {},
): Promise<void> {
  const log = createLogger({ level: "info", write: () => {} });
  const { registry = new Registry(), unready = () => [] } = options;
  const server = await listenAdmin({ port: 0, host: "127.0.0.1", registry, log, unready });
  const { port } = server.address() as AddressInfo;
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      ...init,
      headers: { connection: "close" },
    });
    return `${response.status} ${(await response.text()).trim()}`;
  };
  try {
    await run({ ask, log });
  } finally {
    server.close();
    await once(server, "close");
  }
}

test("the admin port tells life, readiness with what is missing, and metrics", () => {
  const registry = new Registry();
  registry.counter("things_total", "Things.").labels().inc(3);
  const missing = ["a list", "a certificate"];
  return withAdmin(
    async ({ ask }) => {
      assert.is(await ask("/live"), "200 live");
      assert.is(await ask("/ping"), "200 pong");
      assert.is(await ask("/ready"), "503 not ready, waiting for: a list; a certificate");
      missing.length = 0;
      assert.is(await ask("/ready?verbose"), "200 ready");
      assert.match(await ask("/metrics"), /^200 .*things_total 3/s);
      assert.match(await ask("/other"), /^404/);
    },
    { registry, unready: () => missing },
  );
});

test("the pod itself may change the log level, and read the mesh's own settings and no others", async () => {
  process.env["MESH_TEST_SETTING"] = "seen";
  process.env["NOT_OURS"] = "secret";
  try {
    await withAdmin(async ({ ask, log }) => {
      assert.is(await ask("/log-level"), "200 info");
      assert.is(await ask("/log-level", { method: "PUT", body: "debug\n" }), "200 debug");
      assert.is(log.level, "debug");
      assert.match(await ask("/log-level", { method: "PUT", body: "loud" }), /^400 expected one of trace, /);
      assert.match(await ask("/log-level", { method: "PUT", body: "x".repeat(100_000) }), /^400/);
      assert.match(await ask("/log-level", { method: "POST", body: "info" }), /^405/);
      assert.is(log.level, "debug");
      const settings = await ask("/env.json");
      assert.match(settings, /"MESH_TEST_SETTING":"seen"/);
      assert.not.match(settings, /secret/);
    });
  } finally {
    delete process.env["MESH_TEST_SETTING"];
    delete process.env["NOT_OURS"];
  }
});

test("others may not: who comes from another address is refused", () => {
  assert.ok(isLoopback("127.0.0.1") && isLoopback("::ffff:127.8.8.8") && isLoopback("::1"));
  assert.not(isLoopback("10.1.2.3") || isLoopback("::ffff:10.1.2.3") || isLoopback(undefined));
});

interface Built {
  readonly controller: Controller;
  readonly api: ApiServer;
  readonly clock: ManualClock;
  readonly lines: string[];
}

/** A controller without its process, on a clock that the test holds. */
async function withController(run: (built: Built) => Promise<void>): Promise<void> {
  const api = new ApiServer();
  const client = new KubeClient(await api.listen());
  const clock = new ManualClock();
  const lines: string[] = [];
  const log = createLogger({ level: "info", write: (line) => lines.push(line) });
  const controller = createController({ env: {}, log, client, registry: new Registry(), port: 0, clock });
  try {
    await run({ controller, api, clock, lines });
  } finally {
    const stopped = controller.stop();
    await clock.advance(30_000);
    await stopped;
    client.close();
    await api.close();
  }
}

test("it is ready when all it needs is there, and stays so while the API server is away", () =>
  withController(async ({ controller, api, clock, lines }) => {
    api.put("a");
    let loaded = false;
    controller.readyWhen("a certificate", () => loaded);
    const reflector = controller.reflect({ path: "/api/v1/things" });
    assert.equal(controller.unready(), ["a certificate", "the first list of /api/v1/things"]);
    await reflector.synced;
    assert.equal(controller.unready(), ["a certificate"]);
    loaded = true;
    assert.equal(controller.unready(), ["the start"]);
    controller.started();
    assert.equal(controller.unready(), []);
    await until(() => api.watchers === 1);
    await api.close();
    await until(() => lines.some((line) => line.includes("watching failed")));
    await clock.advance(60_000);
    assert.equal(controller.unready(), []);
    assert.is(reflector.size, 1, "what was known is known");
    const metrics = controller.registry.expose();
    for (const line of [
      'kube_reflector_objects{path="/api/v1/things"} 1',
      'kube_reflector_synced{path="/api/v1/things"} 1',
      'kube_reflector_lists_total{path="/api/v1/things"} 1',
      'kube_reflector_silence_seconds{path="/api/v1/things"} 60',
    ])
      assert.ok(metrics.includes(line), `${line} in\n${metrics}`);
    assert.match(metrics, /kube_reflector_errors_total\{path="\/api\/v1\/things"\} [1-9]/);
  }));

test("a kind that is followed while it is served is counted, and counted on when it comes back", () => {
  const registry = new Registry();
  const observe = reflectorMetrics(registry, new ManualClock());
  const follow = (lists: number) => {
    const stats = { lists, watches: 0, events: 0, errors: 0, heardAt: 0 };
    const reflector = { stats, size: 3, isSynced: true, isStopped: false };
    observe("/apis/a.io/v1/things", reflector);
    return reflector;
  };
  const told = (name: string) =>
    Number(new RegExp(`^kube_reflector_${name}\\{[^}]*\\} (\\d+)$`, "m").exec(registry.expose())?.[1]);
  const first = follow(2);
  assert.equal([told("objects"), told("synced"), told("lists_total")], [3, 1, 2]);
  first.isStopped = true;
  assert.equal([told("objects"), told("synced"), told("lists_total")], [0, 0, 2]);
  follow(1);
  assert.equal([told("objects"), told("synced"), told("lists_total")], [3, 1, 3]);
});

test("the end: not ready at once, then the handover, then what was opened last is closed first", () =>
  withController(async ({ controller, clock, lines }) => {
    controller.started();
    const order: string[] = [];
    let handed = () => {};
    controller.onStop(() => void order.push("reflector"));
    controller.onStop(() => void order.push("server"));
    controller.onStop(() => {
      throw new Error("a fault of ours");
    });
    controller.onHandover(
      () =>
        new Promise((resolve) => {
          order.push("handing over");
          handed = resolve;
        }),
    );
    const stopped = controller.stop();
    assert.equal(controller.unready(), ["the end: this replica is leaving"]);
    assert.equal(order, ["handing over"]);
    await clock.advance(1_000);
    assert.equal(order, ["handing over"]);
    handed();
    await stopped;
    assert.equal(order, ["handing over", "server", "reflector"]);
    assert.ok(lines.some((line) => line.includes("a fault of ours")));
  }));

test("a handover that does not end holds nothing up for longer than its bound", () =>
  withController(async ({ controller, clock }) => {
    controller.onHandover(() => new Promise(() => {}));
    let closed = false;
    controller.onStop(() => {
      closed = true;
    });
    const stopped = controller.stop();
    await clock.advance(11_000);
    assert.not(closed);
    await clock.advance(1_100);
    await stopped;
    assert.ok(closed);
  }));

for (const name of ["identity", "destination", "policy", "proxy-injector"]) {
  test(`${name} outside a cluster says so and ends`, () => {
    const { KUBERNETES_SERVICE_HOST: _host, ...env } = process.env;
    const entry = join(packageRoot(), `src/entry/${name}.ts`);
    const result = spawnSync(process.execPath, ["--import", "tsx", entry], { env, encoding: "utf8" });
    assert.is(result.status, 1);
    assert.is(result.stderr, `${name}: not running in a pod: KUBERNETES_SERVICE_HOST is not set\n`);
  });
}

test.run();
