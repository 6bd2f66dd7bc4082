// A real Prometheus scrapes a meshed pair of proxies, one of them over mesh TLS: every family parses, promtool finds
// nothing that is ours to mend, and the queries behind `stat` and `edges` (reference/linkerd-interfaces.md §7.3) give the
// numbers of the traffic that there was.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../src/log/logger.ts";
import { parseMetrics } from "../../src/metrics/parse.ts";
import type { Registry } from "../../src/metrics/registry.ts";
import { listenAdmin } from "../../src/proxy/admin/index.ts";
import { registerProcessMetrics } from "../../src/proxy/process-metrics.ts";
import { systemClock } from "../../src/util/clock.ts";
import { freePort } from "../support/free-port.ts";
import { createAuthority, type FakeIdentity, startInbound, startOutbound } from "../support/proxy-fakes.ts";
import { until } from "../support/until.ts";
import { RawClient, RawServer } from "../support/wire.ts";

const test = suite("prometheus");
const WEB = "web.emoji.serviceaccount.identity.test";
const APP = "app.emoji.serviceaccount.identity.test";

type Row = { readonly metric: Readonly<Record<string, string>>; readonly value: [number, string] };

class Prometheus {
  readonly #url: string;
  readonly #undo: (() => Promise<unknown>)[];

  private constructor(url: string, undo: (() => Promise<unknown>)[]) {
    this.#url = url;
    this.#undo = undo;
  }

  static async start(config: object): Promise<Prometheus> {
    const dir = mkdtempSync(join(tmpdir(), "mesh-prometheus-"));
    const file = join(dir, "prometheus.json");
    writeFileSync(file, JSON.stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(
      "prometheus",
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${join(dir, "data")}`,
        `--web.listen-address=${address}`,
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    let log = "";
    child.stderr.on("data", (chunk) => {
      log += chunk;
    });
    const prometheus = new Prometheus(`http://${address}`, [
      async () => {
        child.kill("SIGKILL");
        await once(child, "exit");
        rmSync(dir, { recursive: true });
      },
    ]);
    const ready = () =>
      fetch(`http://${address}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
    await until(ready, 30_000, () => `Prometheus to be ready: ${log}`);
    return prometheus;
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#url}/api/v1/${path}`);
    const { status, data, error } = (await response.json()) as { status: string; data: T; error?: string };
    assert.is(status, "success", error);
    return data;
  }

  async query(query: string): Promise<readonly Row[]> {
    return (await this.get<{ result: Row[] }>(`query?query=${encodeURIComponent(query)}`)).result;
  }

  /** The one value of a query; undefined when there is none. */
  async value(query: string): Promise<number | undefined> {
    const rows = await this.query(query);
    assert.ok(rows.length <= 1, `${rows.length} rows of ${query}`);
    return rows[0] && Number(rows[0].value[1]);
  }

  async stop(): Promise<void> {
    for (const fn of this.#undo) await fn();
  }
}

async function admin(registry: Registry, identity: FakeIdentity) {
  return listenAdmin({
    host: "127.0.0.1",
    port: 0,
    registry,
    identity,
    clock: systemClock,
    log: createLogger({ level: "off" }),
    unready: () => undefined,
    shutdown: undefined,
  });
}

/** Names and units that are Linkerd's, which promtool would have otherwise. */
const LINKERDS =
  /^(response_latency_ms|tcp_connection_duration_ms|control_response_latency_ms|\w*_gate_\w+) /;

test("a scraped pair of proxies tells of its traffic as Linkerd's does", async () => {
  const authority = createAuthority();
  const undo: (() => unknown)[] = [];
  const app = await RawServer.start((peer) => {
    peer.onData = (received) => {
      if (!received.endsWith("\r\n\r\n")) return;
      const status = received.includes("GET /bad") ? "500 No" : "200 OK";
      peer.received = "";
      peer.send(`HTTP/1.1 ${status}\r\ncontent-length: 2\r\n\r\nok`);
    };
  });
  undo.push(() => app.close());
  const [webId, appId] = [authority.identity(WEB), authority.identity(APP)];
  const inbound = await startInbound({ ip: "127.0.0.1", port: app.port }, { identity: webId });
  const outbound = await startOutbound({ ip: "127.0.0.1", port: 80 }, { identity: appId });
  undo.push(
    () => inbound.path.close(),
    () => outbound.path.close(),
  );
  outbound.discovery.service("127.0.0.1:80", "web.emoji.svc.cluster.local", [
    {
      port: inbound.port,
      identity: WEB,
      h2: true,
      labels: { namespace: "emoji", deployment: "web", service: "web", pod: "web-1" },
    },
  ]);
  registerProcessMetrics(inbound.registry);
  const [plain, secure] = [await admin(outbound.registry, appId), await admin(inbound.registry, webId)];
  undo.push(
    () => plain.close(),
    () => secure.close(),
  );
  const dir = mkdtempSync(join(tmpdir(), "mesh-anchors-"));
  undo.push(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "ca.crt"), authority.anchors);
  const job = (name: string, port: number, labels: object, more: object = {}) => ({
    job_name: name,
    ...more,
    static_configs: [{ targets: [`127.0.0.1:${port}`], labels }],
  });
  const prometheus = await Prometheus.start({
    global: { scrape_interval: "1s" },
    scrape_configs: [
      job("app", plain.port, { namespace: "emoji", deployment: "app" }),
      job(
        "web",
        secure.port,
        { namespace: "emoji", deployment: "web" },
        { scheme: "https", tls_config: { ca_file: join(dir, "ca.crt"), server_name: WEB } },
      ),
    ],
  });
  undo.push(() => prometheus.stop());
  try {
    const client = new RawClient(outbound.port);
    undo.push(() => client.destroy());
    const ask = async (path: string) => {
      client.received = "";
      client.send(`GET ${path} HTTP/1.1\r\nhost: web\r\n\r\n`);
      await until(
        () => client.received.endsWith("ok"),
        5_000,
        () => `an answer: ${client.received}`,
      );
    };
    const seen = (good: number, bad: number) =>
      until(
        async () => {
          const rows = await prometheus.query("sum(response_total) by (direction, classification)");
          const counts = rows.map(
            ({ metric, value }) => `${metric["direction"]} ${metric["classification"]} ${value[1]}`,
          );
          return ["inbound", "outbound"].every(
            (direction) =>
              counts.includes(`${direction} success ${good}`) &&
              counts.includes(`${direction} failure ${bad}`),
          );
        },
        20_000,
        `${good} good and ${bad} bad answers to be scraped`,
      );
    // Every series is there once before it grows: what Prometheus first sees of one is no increase.
    await ask("/good");
    await ask("/bad");
    await seen(1, 1);
    for (let i = 0; i < 30; i += 1) await ask("/good");
    for (let i = 0; i < 10; i += 1) await ask("/bad");
    await seen(31, 11);

    const { activeTargets } = await prometheus.get<{
      activeTargets: { health: string; lastError: string; scrapePool: string }[];
    }>("targets");
    for (const { health, lastError, scrapePool } of activeTargets)
      assert.is(health, "up", `${scrapePool}: ${lastError}`);

    for (const direction of ["inbound", "outbound"]) {
      const who =
        direction === "inbound"
          ? 'direction="inbound",deployment="web"'
          : 'direction="outbound",dst_deployment="web",dst_namespace="emoji"';
      const rows = await prometheus.query(
        `sum(increase(response_total{${who}}[1m])) by (classification, tls)`,
      );
      const of = (classification: string) =>
        Number(rows.find(({ metric }) => metric["classification"] === classification)?.value[1]);
      for (const { metric } of rows) assert.is(metric["tls"], "true");
      const [success, failure] = [of("success"), of("failure")];
      // Prometheus extrapolates to the window's edges, as far as each counter lets it.
      assert.ok(success >= 30 && success < 60, `${direction}: ${success}`);
      assert.ok(Math.abs(success / (success + failure) - 0.75) < 0.03, `${direction}: ${success} ${failure}`);
      for (const quantile of [0.5, 0.95, 0.99]) {
        const ms = await prometheus.value(
          `histogram_quantile(${quantile}, sum(increase(response_latency_ms_bucket{${who}}[1m])) by (le))`,
        );
        assert.ok(ms !== undefined && ms > 0 && ms <= 50_000, `${direction} p${quantile}: ${ms}`);
      }
    }
    const outboundTo = 'direction="outbound",peer="dst",dst_service="web"';
    assert.is(await prometheus.value(`sum(tcp_open_connections{${outboundTo}})`), 1);
    for (const family of ["tcp_read_bytes_total", "tcp_write_bytes_total"])
      assert.ok((await prometheus.value(`sum(increase(${family}{${outboundTo}}[1m]))`))! > 0, family);
    const edges = await prometheus.query(
      'sum(tcp_open_connections{direction="outbound",peer="dst"}) by (server_id)',
    );
    assert.equal(
      edges.map(({ metric }) => metric["server_id"]),
      [WEB],
    );
    const clients = await prometheus.query(
      'sum(tcp_open_connections{direction="inbound",peer="src"}) by (client_id)',
    );
    assert.equal(
      clients.map(({ metric }) => metric["client_id"]),
      [APP],
    );
    assert.is(await prometheus.value("sum(inbound_http_authz_allow_total)"), 42);
    assert.is(await prometheus.value('sum(outbound_tcp_detect_http_results_total{result="http/1"})'), 1);
    assert.is(await prometheus.value('sum(inbound_tcp_detect_http_results_total{result="h2"})'), 1);
    assert.is(await prometheus.value('sum(outbound_tcp_protocol_connections_total{protocol="detect"})'), 1);

    client.destroy();
    await until(
      async () =>
        (await prometheus.value('sum(tcp_connection_duration_ms_count{direction="outbound",peer="src"})')) ===
        1,
      20_000,
      "the connection's duration",
    );

    for (const { registry } of [inbound, outbound]) {
      const text = registry.expose();
      parseMetrics(text, () => {});
      const { stdout, stderr } = spawnSync("promtool", ["check", "metrics"], {
        input: text,
        encoding: "utf8",
      });
      const problems = `${stdout}${stderr}`.split("\n").filter((line) => line !== "" && !LINKERDS.test(line));
      assert.equal(problems, []);
    }
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
});

test.run();
