// stat and top through a kubeconfig, an API server's port-forward (WebSocket) and a real metrics API.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { WebSocketServer } from "ws";
import type { PodRecord } from "../../src/controller/metrics-api/pod.ts";
import { createMetricsServer } from "../../src/controller/metrics-api/server.ts";
import { TrafficStore } from "../../src/controller/metrics-api/store.ts";
import { createLogger } from "../../src/log/logger.ts";
import { exposition, podOf } from "../support/exposition.ts";
import { runCommand } from "../support/run-command.ts";

const test = suite("stat and top against a cluster");
const METRICS_PORT = 8085;

let directory: string;
let kubeconfig: string;
const servers: Server[] = [];

/** Forwards WebSocket channel 0 to a local port, as an API server forwards it to a pod's. */
function serveApi(metricsPort: number): Server {
  const objects: Record<string, unknown> = {
    "/api/v1/namespaces/mesh-system/services/mesh-metrics-api": {
      metadata: { name: "mesh-metrics-api" },
      spec: { selector: { app: "metrics" }, ports: [{ name: "http", port: 8085, targetPort: METRICS_PORT }] },
    },
    "/api/v1/namespaces/mesh-system/pods": {
      metadata: {},
      items: [
        {
          metadata: { name: "metrics-1", namespace: "mesh-system" },
          spec: { containers: [] },
          status: { conditions: [{ type: "Ready", status: "True" }] },
        },
      ],
    },
  };
  const server = createServer((request, response) => {
    const found = objects[new URL(request.url!, "http://x").pathname];
    response.statusCode = found ? 200 : 404;
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify(found ?? { kind: "Status", reason: "NotFound", code: 404, message: "not found" }),
    );
  });
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket, request) => {
    assert.is(request.url, `/api/v1/namespaces/mesh-system/pods/metrics-1/portforward?ports=${METRICS_PORT}`);
    const pod = connect(metricsPort, "127.0.0.1");
    for (const channel of [0, 1]) socket.send(Buffer.from([channel, METRICS_PORT & 255, METRICS_PORT >> 8]));
    pod.on("data", (data) => socket.send(Buffer.concat([Buffer.from([0]), data])));
    pod.on("close", () => socket.close());
    socket.on("message", (data: Buffer) => pod.write(data.subarray(1)));
    socket.on("close", () => pod.destroy());
  });
  return server;
}

const listen = (server: Server) =>
  new Promise<number>((resolve) => {
    servers.push(server);
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });

test.before(async () => {
  const store = new TrafficStore<PodRecord>();
  const pods = [podOf("web"), podOf("voting"), podOf("plain", { meshed: false })];
  const counted = (rate: number, failed: number) => (second: number) =>
    exposition([
      {
        labels: { direction: "inbound", tls: "true" },
        success: (rate - failed) * second,
        failure: failed * second,
        latency: { 10: rate * second },
        open: 2,
      },
    ]);
  for (const [i, traffic] of [counted(10, 0), counted(5, 1)].entries()) {
    for (let second = 0; second <= 60; second += 3) {
      store.ingest(`demo/${pods[i]!.name}`, pods[i]!, traffic(second), second * 1_000);
    }
  }
  const metrics = await listen(
    createMetricsServer(() => ({ store, pods: () => pods, now: 60_000 }), createLogger({ level: "off" })),
  );
  const api = await listen(serveApi(metrics));
  directory = mkdtempSync(join(tmpdir(), "mesh-traffic-"));
  kubeconfig = join(directory, "config");
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      "current-context": "test",
      contexts: [{ name: "test", context: { cluster: "test", user: "test", namespace: "demo" } }],
      clusters: [
        { name: "test", cluster: { server: `http://127.0.0.1:${api}`, "insecure-skip-tls-verify": true } },
      ],
      users: [{ name: "test", user: {} }],
    }),
  );
});

test.after(() => {
  rmSync(directory, { recursive: true });
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

const mesh = (...args: string[]) => runCommand(...args, "--kubeconfig", kubeconfig);

test("stat shows the meshed workloads of the context's namespace", async () => {
  const { stdout, stderr, code } = await mesh("stat", "deploy");
  assert.is(stderr, "");
  assert.is(
    stdout,
    [
      "NAME     MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN",
      "voting      1/1    80.00%    5.0rps           8ms          10ms          10ms          2",
      "web         1/1   100.00%   10.0rps           8ms          10ms          10ms          2",
      "",
    ].join("\n"),
  );
  assert.is(code, 0);
});

test("viz stat is the same command", async () => {
  assert.equal(await mesh("viz", "stat", "deploy"), await mesh("stat", "deploy"));
});

test("-o json has Linkerd's shape; --unmeshed adds what has no proxy", async () => {
  const { stdout } = await mesh("stat", "deploy", "-A", "--unmeshed", "-o", "json");
  const rows = JSON.parse(stdout) as { name: string; meshed: string; rps: number | null }[];
  assert.equal(
    rows.map(({ name, meshed, rps }) => [name, meshed, rps]),
    [
      ["plain", "0/1", null],
      ["voting", "1/1", 5],
      ["web", "1/1", 10],
    ],
  );
});

test("a namespace without traffic says so, and is no failure", async () => {
  const { stdout, stderr, code } = await mesh("stat", "deploy", "-n", "empty");
  assert.equal([stdout, stderr, code], ["", "No traffic found.\n", 0]);
});

test("--fail-under prints the table and exits 1 when quality falls short", async () => {
  const short = await mesh("stat", "deploy", "--fail-under", "success=99");
  assert.is(short.code, 1);
  assert.match(short.stdout, "voting");
  assert.match(short.stderr, "deploy/voting: success is 80.00%, under 99.00%");
  assert.is((await mesh("stat", "deploy/web", "--fail-under", "success=99,p99=1s,rps=5")).code, 0);
});

test("a resource of several kinds is named with its kind", async () => {
  const { stdout } = await mesh("stat", "deploy/web", "ns/demo", "-o", "json");
  assert.equal(
    (JSON.parse(stdout) as { kind: string; name: string }[]).map(({ kind, name }) => `${kind}/${name}`),
    ["deployment/web", "namespace/demo"],
  );
});

test("top without a terminal prints one snapshot", async () => {
  const { stdout, code } = await mesh("top");
  assert.is(code, 0);
  assert.match(stdout, /^web +1\/1 +100\.00% +10\.0rps/m);
  assert.equal(await mesh("viz", "top"), { stdout, code, stderr: "" });
});

test("where no mesh is installed, it says so and what to do", async () => {
  const { code, stderr } = await mesh("stat", "deploy", "-L", "elsewhere");
  assert.is(code, 1);
  assert.match(stderr, "there is no metrics API in namespace elsewhere");
  assert.match(stderr, "kubectl mesh check");
});

test.run();
