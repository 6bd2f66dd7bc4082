// The proxy as a process: refuses a bad configuration, becomes ready with its certificate, shows it, ends on a signal.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as destination from "../../src/api/destination.ts";
import * as inbound from "../../src/api/inbound.ts";
import { GrpcServer } from "../../src/controller/grpc-server.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { freePort } from "../support/free-port.ts";
import { Authority, IdentityService } from "../support/identity-service.ts";
import { until } from "../support/until.ts";

const test = suite("proxy process");
const NAME = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
const SERVICE = "mesh-identity.mesh-system.serviceaccount.identity.mesh-system.cluster.local";

class ProxyProcess {
  readonly process: ChildProcess;
  readonly exit: Promise<[number | null, string | null]>;
  log = "";

  constructor(env: NodeJS.ProcessEnv) {
    this.process = spawn(process.execPath, ["--import", "tsx", "src/entry/proxy.ts"], {
      cwd: packageRoot(),
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.process.stdout!.on("data", (chunk) => {
      this.log += chunk;
    });
    this.process.stderr!.on("data", (chunk) => {
      this.log += chunk;
    });
    this.exit = once(this.process, "exit") as Promise<[number | null, string | null]>;
  }

  kill(): void {
    this.process.kill("SIGKILL");
  }
}

async function fetchText(url: string): Promise<[number, string]> {
  try {
    const response = await fetch(url);
    return [response.status, await response.text()];
  } catch {
    return [0, ""];
  }
}

interface Running {
  readonly proxy: ProxyProcess;
  readonly admin: string;
  readonly adminPort: number;
  readonly inboundPort: number;
  readonly service: IdentityService;
  readonly watched: number[];
}

async function withProxy(run: (running: Running) => Promise<void>, certify = true): Promise<void> {
  const authority = new Authority();
  const service = await IdentityService.start(authority, SERVICE);
  if (!certify) {
    service.answer = () => {
      throw new Error("not yet");
    };
  }
  const watched: number[] = [];
  const plane = new GrpcServer({ log: createLogger({ level: "off" }), registry: new Registry() });
  plane.stream(destination.Get, () => {});
  plane.stream(inbound.WatchPort, ({ port }) => {
    watched.push(port);
  });
  const planePort = await plane.listen(0, "127.0.0.1");
  const dir = mkdtempSync(join(tmpdir(), "mesh-proxy-"));
  writeFileSync(join(dir, "token"), "token");
  const [adminPort, inboundPort, outboundPort] = [await freePort(), await freePort(), await freePort()];
  // Loopback addresses mean no TLS, so the identity service has one that is not.
  const proxy = new ProxyProcess({
    LINKERD2_PROXY_LOG: "info",
    LINKERD2_PROXY_IDENTITY_LOCAL_NAME: NAME,
    LINKERD2_PROXY_IDENTITY_TOKEN_FILE: join(dir, "token"),
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS: authority.root.pem,
    LINKERD2_PROXY_IDENTITY_SVC_ADDR: `[::ffff:127.0.0.1]:${service.port}`,
    LINKERD2_PROXY_IDENTITY_SVC_NAME: SERVICE,
    LINKERD2_PROXY_DESTINATION_SVC_ADDR: `localhost.:${planePort}`,
    LINKERD2_PROXY_POLICY_SVC_ADDR: `localhost.:${planePort}`,
    LINKERD2_PROXY_POLICY_WORKLOAD: "workload",
    LINKERD2_PROXY_INBOUND_PORTS: "8080,8081",
    LINKERD2_PROXY_INBOUND_LISTEN_ADDR: `127.0.0.1:${inboundPort}`,
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: `127.0.0.1:${outboundPort}`,
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR: `127.0.0.1:${adminPort}`,
    LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED: "true",
    LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD: "3s",
    LINKERD2_PROXY_WARP_SPEED: "9",
  });
  try {
    await run({ proxy, admin: `http://127.0.0.1:${adminPort}`, adminPort, inboundPort, service, watched });
  } finally {
    proxy.kill();
    await proxy.exit;
    await service.stop();
    await plane.close();
    rmSync(dir, { recursive: true });
  }
}

test("a bad configuration: every problem on stderr, exit 64", async () => {
  const proxy = new ProxyProcess({ LINKERD2_PROXY_INBOUND_LISTEN_ADDR: "x" });
  assert.equal(await proxy.exit, [64, null]);
  assert.match(proxy.log, /^LINKERD2_PROXY_INBOUND_LISTEN_ADDR: expected host:port/m);
  assert.match(proxy.log, /^LINKERD2_PROXY_IDENTITY_LOCAL_NAME: expected a value/m);
});

test("certified, it is ready, shows its leaf and its metrics, watches its ports, and ends on SIGTERM with 0", () =>
  withProxy(async ({ proxy, admin, adminPort, service, watched }) => {
    await until(async () => (await fetchText(`${admin}/ready`))[0] === 200, 20_000, "ready");
    assert.is(service.asked[0]!.identity, NAME);
    await until(() => watched.length === 2);
    assert.equal(watched.sort(), [8080, 8081]);
    const [, metrics] = await fetchText(`${admin}/metrics`);
    for (const name of [
      "proxy_build_info",
      "process_start_time_seconds",
      "process_cpu_seconds_total",
      "process_resident_memory_bytes",
      "identity_cert_expiration_timestamp_seconds",
      "identity_cert_refreshes_total",
      "control_request_total",
      "control_response_total",
    ])
      assert.match(metrics, new RegExp(`^${name}[ {]`, "m"), name);
    const secure = connectTls({
      port: adminPort,
      host: "127.0.0.1",
      servername: NAME,
      rejectUnauthorized: false,
    });
    await once(secure, "secureConnect");
    assert.is(secure.getPeerX509Certificate()?.subjectAltName, `DNS:${NAME}`);
    secure.destroy();
    assert.match(proxy.log, /WARP_SPEED is not known/);
    proxy.process.kill("SIGTERM");
    assert.equal(await proxy.exit, [0, null]);
    assert.match(proxy.log, /draining reason=SIGTERM/);
  }));

test("POST /shutdown ends it too", () =>
  withProxy(async ({ proxy, admin }) => {
    await until(async () => (await fetchText(`${admin}/ready`))[0] === 200, 20_000, "ready");
    assert.is((await fetch(`${admin}/shutdown`, { method: "POST" })).status, 200);
    assert.equal(await proxy.exit, [0, null]);
  }));

test("without a certificate it lives, says why it is not ready, and still ends on a signal", () =>
  withProxy(async ({ proxy, admin, service }) => {
    await until(async () => (await fetchText(`${admin}/live`))[0] === 200, 20_000, "live");
    assert.equal(await fetchText(`${admin}/ready`), [503, "waiting for the first certificate\n"]);
    await until(() => service.asked.length > 1);
    proxy.process.kill("SIGINT");
    assert.equal(await proxy.exit, [0, null]);
  }, false));

test("who connects before there is a certificate is neither refused nor kept from it", () =>
  withProxy(async ({ proxy, admin, inboundPort, service }) => {
    await until(() => service.asked.length > 0, 20_000, "the first request for a certificate");
    const early = connectTls({
      port: inboundPort,
      host: "127.0.0.1",
      servername: NAME,
      rejectUnauthorized: false,
    });
    await once(early, "connect");
    assert.equal(await fetchText(`${admin}/ready`), [503, "waiting for the first certificate\n"]);
    service.answer = service.honest;
    await once(early, "secureConnect");
    assert.is(early.getPeerX509Certificate()?.subjectAltName, `DNS:${NAME}`);
    early.destroy();
    await until(async () => (await fetchText(`${admin}/ready`))[0] === 200, 20_000, "ready");
    assert.not.match(proxy.log, /cannot open/);
  }, false));

test("a port that is taken: said, and exit 1", async () => {
  const taken: Server = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as { port: number };
  const authority = new Authority();
  const proxy = new ProxyProcess({
    LINKERD2_PROXY_IDENTITY_LOCAL_NAME: NAME,
    LINKERD2_PROXY_IDENTITY_TOKEN_FILE: "/nowhere",
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS: authority.root.pem,
    LINKERD2_PROXY_IDENTITY_SVC_ADDR: "localhost.:1",
    LINKERD2_PROXY_DESTINATION_SVC_ADDR: "localhost.:1",
    LINKERD2_PROXY_POLICY_SVC_ADDR: "localhost.:1",
    LINKERD2_PROXY_POLICY_WORKLOAD: "w",
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR: `127.0.0.1:${port}`,
  });
  assert.equal(await proxy.exit, [1, null]);
  assert.match(proxy.log, /cannot open the admin port.*EADDRINUSE/);
  taken.close();
});

test.run();
