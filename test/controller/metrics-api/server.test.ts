// The metrics API from scrape to answer, over HTTP.
import { createServer, get, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatAnswer } from "../../../src/api/stat.ts";
import { parseStatParams, type StatQuery, statParams } from "../../../src/api/stat.ts";
import type { PodRecord } from "../../../src/controller/metrics-api/pod.ts";
import { podRecord } from "../../../src/controller/metrics-api/pod.ts";
import { Scraper } from "../../../src/controller/metrics-api/scraper.ts";
import { createMetricsServer } from "../../../src/controller/metrics-api/server.ts";
import { TrafficStore } from "../../../src/controller/metrics-api/store.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { exposition, podOf } from "../../support/exposition.ts";
import { until } from "../../support/until.ts";

const test = suite("metrics api");
const log = createLogger({ level: "off" });

function listen(server: Server): Promise<number> {
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );
}

function ask(port: number, path: string): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode!, body: JSON.parse(text) }));
    }).on("error", reject);
  });
}

test("scrapes meshed pods over HTTP and answers with their traffic; broken pods do not disturb", async () => {
  let requests = 0;
  const proxy = createServer((_, response) => {
    requests += 50;
    response.end(exposition([{ labels: { direction: "inbound", tls: "true" }, success: requests, open: 1 }]));
  });
  const huge = createServer((_, response) => {
    response.end("x".repeat(100_000));
  });
  const ports = { web: await listen(proxy), huge: await listen(huge), silent: 1 };
  const pods = [podOf("web"), podOf("huge"), podOf("silent"), podOf("plain", { meshed: false })];
  const store = new TrafficStore<PodRecord>({ interval: 50 });
  const registry = new Registry();
  const scraper = new Scraper({
    store,
    pods: () => pods,
    registry,
    clock: systemClock,
    log,
    interval: 50,
    maxBytes: 50_000,
    address: (pod) => ({ host: "127.0.0.1", port: ports[pod.owners.deployment as keyof typeof ports] }),
  });
  scraper.start();
  const api = createMetricsServer(() => ({ store, pods: () => pods, now: Date.now() }), log);
  const port = await listen(api);
  try {
    const query: StatQuery = { resource: { kind: "deployment" }, window: 60_000 };
    const answer = await until(async () => {
      const { body } = await ask(port, `/api/stat?${statParams(query)}`);
      const rows = (body as StatAnswer).rows;
      return rows.find((row) => row.name === "web")?.requests ? (body as StatAnswer) : undefined;
    });
    assert.equal(
      answer.rows.map((row) => [row.name, row.pods?.meshed, row.tcp?.openConnections]),
      [
        ["huge", 1, undefined],
        ["plain", 0, undefined],
        ["silent", 1, undefined],
        ["web", 1, 1],
      ],
    );
    assert.match(registry.expose(), /mesh_metrics_scrapes_total\{result="failed"\} [1-9]/);
    assert.is((await ask(port, "/api/stat?kind=nonsense")).status, 400);
    assert.is((await ask(port, "/api/stat?kind=pod&window=-1")).status, 400);
    assert.is((await ask(port, "/api/stat?kind=pod&selector=%3D")).status, 400);
    assert.is((await ask(port, "/nothing")).status, 404);
    assert.is((await ask(port, "/api/edges?kind=deployment")).status, 200);
  } finally {
    scraper.stop();
    for (const server of [api, proxy, huge]) {
      server.closeAllConnections();
      server.close();
    }
  }
});

test("questions survive the way through the query string", () => {
  const query: StatQuery = {
    resource: { kind: "pod", name: "a", namespace: "b" },
    to: { kind: "service", name: "c" },
    from: { kind: "namespace" },
    selector: "app in (a,b)",
    window: 15_000,
  };
  assert.equal(parseStatParams(statParams(query)), query);
});

test("a pod's workload is read from the injector's label, else from its owners", () => {
  const pod = (labels: Record<string, string>, kind: string, name: string) =>
    podRecord(
      {
        metadata: { name: "p", namespace: "n", labels, ownerReferences: [{ kind, name, controller: true }] },
      },
      "mesh-system",
    );
  assert.is(pod({ "linkerd.io/proxy-deployment": "web" }, "ReplicaSet", "x-1").owners.deployment, "web");
  assert.is(pod({ "pod-template-hash": "5d9c" }, "ReplicaSet", "web-app-5d9c").owners.deployment, "web-app");
  assert.is(pod({}, "StatefulSet", "db").owners.statefulset, "db");
  assert.is(pod({}, "Job", "backup-28123456").owners.cronjob, "backup");
  assert.is(pod({ "linkerd.io/control-plane-ns": "mesh-system" }, "Job", "x").meshed, true);
  assert.is(pod({ "linkerd.io/control-plane-ns": "other" }, "Job", "x").meshed, false);
});

test.run();
