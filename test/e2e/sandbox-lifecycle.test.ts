// The sandbox as a person uses it, from the built command line: up, pods that work, a crash, up again, down. As root
// where we are root, and as an ordinary user.
import { execFile, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KubeClient, type KubeObject, loadKubeConfig } from "../../src/kube/index.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { freePort } from "../support/free-port.ts";
import { until } from "../support/until.ts";

const test = suite("sandbox lifecycle");
const isRoot = process.getuid?.() === 0;
const user = process.env["MESH_TEST_USER"] ?? "tester";

interface Mode {
  readonly name: string;
  readonly prefix: readonly string[];
  readonly uid?: number;
}

function modes(): Mode[] {
  if (!isRoot) return [{ name: "as an ordinary user", prefix: [] }];
  const uid = Number(spawnSync("id", ["-u", user], { encoding: "utf8" }).stdout);
  const drop = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "env", `HOME=/home/${user}`];
  return [
    { name: "as root", prefix: [] },
    ...(uid > 0 ? [{ name: "as an ordinary user", prefix: drop, uid }] : []),
  ];
}

class Sandbox {
  readonly directory: string;
  readonly port: number;
  readonly #mode: Mode;

  constructor(mode: Mode, port: number) {
    this.#mode = mode;
    this.port = port;
    this.directory = mkdtempSync(join(tmpdir(), "mesh-sandbox-"));
    if (mode.uid !== undefined) chownSync(this.directory, mode.uid, mode.uid);
  }

  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const [file, ...rest] = [
      ...this.#mode.prefix,
      process.execPath,
      join(packageRoot(), "bin/run.js"),
      "sandbox",
      ...args,
    ];
    return new Promise((resolve) => {
      execFile(file!, rest, { timeout: 90_000, cwd: "/" }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
      });
    });
  }

  up(...args: string[]) {
    return this.run("up", "--dir", this.directory, "--port", String(this.port), ...args);
  }

  async status() {
    return JSON.parse((await this.run("status", "--dir", this.directory, "-o", "json")).stdout);
  }

  async client(): Promise<KubeClient> {
    return new KubeClient(await loadKubeConfig({ kubeconfig: join(this.directory, "kubeconfig") }));
  }
}

/** Processes in the PID namespace of the sandbox that `pid` (its unshare) keeps. */
function inside(pid: number): number[] {
  const space = link(`/proc/${pid}/ns/pid_for_children`);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && space !== undefined && link(`/proc/${name}/ns/pid`) === space)
    .map(Number);
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

const SERVER = `
const http = require("node:http"), fs = require("node:fs");
http.createServer((q, s) => s.end(fs.readFileSync("/etc/shop/greeting", "utf8") + " from " + process.getuid()))
  .listen(8080, () => console.log("listening"));
process.on("SIGTERM", () => process.exit(0));`;
const CLIENT = `fetch("http://web.default.svc.cluster.local/").then((r) => r.text()).then(console.log);`;

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects are open JSON.
const OBJECTS: [string, any][] = [
  [
    "/api/v1/namespaces/default/configmaps",
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "shop" }, data: { greeting: "hello" } },
  ],
  [
    "/api/v1/namespaces/default/services",
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: "http" }] },
    },
  ],
  [
    "/api/v1/namespaces/default/pods",
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web", labels: { app: "web" } },
      spec: {
        initContainers: [
          {
            name: "redirect",
            image: "any",
            command: [
              "sh",
              "-c",
              "iptables -t nat -A OUTPUT -p tcp -d 192.0.2.1 -j RETURN; iptables -t nat -S OUTPUT",
            ],
            securityContext: { capabilities: { add: ["NET_ADMIN", "NET_RAW"] }, runAsUser: 65_534 },
          },
          {
            name: "side",
            image: "any",
            restartPolicy: "Always",
            command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
          },
        ],
        containers: [
          {
            name: "web",
            image: "any",
            command: ["node", "-e", SERVER],
            ports: [{ name: "http", containerPort: 8080 }],
            readinessProbe: { httpGet: { path: "/", port: "http" } },
            securityContext: {
              runAsUser: 2102,
              readOnlyRootFilesystem: true,
              allowPrivilegeEscalation: false,
            },
            volumeMounts: [{ name: "shop", mountPath: "/etc/shop" }],
          },
        ],
        volumes: [{ name: "shop", configMap: { name: "shop" } }],
      },
    },
  ],
];

const visitor = (name: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: {
    restartPolicy: "Never",
    containers: [{ name: "visitor", image: "any", command: ["node", "-e", CLIENT] }],
  },
});

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects are open JSON.
const podOf = (client: KubeClient, name: string): Promise<any> =>
  client.get(`/api/v1/namespaces/default/pods/${name}`);

async function ready(client: KubeClient, name: string) {
  return until(
    async () => {
      const pod = await podOf(client, name);
      const is = pod.status?.conditions?.some(
        (c: { type: string; status: string }) => c.type === "Ready" && c.status === "True",
      );
      return is ? pod : undefined;
    },
    30_000,
    `pod ${name} ready`,
  );
}

async function log(client: KubeClient, name: string, container?: string): Promise<string> {
  const query = container ? `?container=${container}` : "";
  const text = await client.request(`/api/v1/namespaces/default/pods/${name}/log${query}`, {
    raw: true,
  } as never);
  return String(text);
}

async function visit(client: KubeClient, name: string): Promise<string> {
  await client.create(visitor(name) as KubeObject, "/api/v1/namespaces/default/pods");
  await until(async () => (await podOf(client, name)).status?.phase === "Succeeded", 30_000, `${name} done`);
  return log(client, name);
}

for (const mode of modes()) {
  test(`up, pods, crash, up again and down ${mode.name}`, async () => {
    const sandbox = new Sandbox(mode, await freePort());
    try {
      const first = await sandbox.up();
      assert.is(first.code, 0, first.stderr);
      assert.is(first.stdout, `export KUBECONFIG=${sandbox.directory}/kubeconfig\n`);
      const { pid, state } = await sandbox.status();
      assert.is(state, "running");
      const client = await sandbox.client();
      for (const [path, object] of OBJECTS) await client.create(object, path);
      await ready(client, "web");
      assert.match(await log(client, "web", "redirect"), /-A OUTPUT -d 192\.0\.2\.1\/32 -p tcp -j RETURN/);
      assert.is(await visit(client, "one"), "hello from 2102\n");

      const again = await sandbox.up();
      assert.is(again.code, 0);
      assert.match(again.stderr, /already up/);
      const other = new Sandbox(mode, sandbox.port);
      const refused = await other.up();
      assert.is(refused.code, 1);
      assert.match(refused.stderr, /port \d+ on 127\.0\.0\.1 is in use\n.*--port/);
      rmSync(other.directory, { recursive: true });

      const before = inside(pid);
      assert.ok(before.length > 3, "pods are processes in the sandbox's namespace");
      process.kill(pid, "SIGKILL");
      await until(() => before.every((each) => !existsSync(`/proc/${each}`)), 10_000, "all processes gone");
      assert.is((await sandbox.status()).state, "stopped");
      client.close();

      assert.is((await sandbox.up("--nodes", "2")).code, 0);
      const second = await sandbox.client();
      // Not the readiness from before the crash: the container has been started once more.
      await until(
        async () => (await podOf(second, "web")).status.containerStatuses[0].restartCount === 1,
        30_000,
        "restart",
      );
      await ready(second, "web");
      assert.is((await podOf(second, "one")).status.phase, "Succeeded");
      assert.is(await visit(second, "two"), "hello from 2102\n");
      second.close();

      const running = inside((await sandbox.status()).pid);
      const end = await sandbox.run("down", "--dir", sandbox.directory, "--delete");
      assert.is(end.code, 0, end.stderr);
      assert.not.match(end.stderr, /killed/);
      assert.ok(running.every((each) => !existsSync(`/proc/${each}`)));
      assert.not(existsSync(sandbox.directory));
    } finally {
      await sandbox.run("down", "--dir", sandbox.directory, "--delete");
      rmSync(sandbox.directory, { recursive: true, force: true });
    }
  });
}

test.run();
