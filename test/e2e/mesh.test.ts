// The whole mesh in a sandbox: what is on the wire, who is whom, who gets in, and what a rollout or a crash costs.
import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";
import { MeshSandbox } from "../support/mesh-sandbox.ts";
import { until } from "../support/until.ts";

const test = suite("mesh");
let sandbox: MeshSandbox;

const load = readFileSync(join(packageRoot(), "test/fixtures/load.mjs"), "utf8");
const { version } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8"));

const object = (apiVersion: string, kind: string, name: string, rest: object) => ({
  apiVersion,
  kind,
  metadata: { name, namespace: "shop" },
  ...rest,
});

/** Three replicas of a back end, and a client, each with its own ServiceAccount. */
const SHOP = {
  apiVersion: "v1",
  kind: "List",
  items: [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "shop", annotations: { "linkerd.io/inject": "enabled" } },
    },
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "outside" } },
    object("v1", "ServiceAccount", "api", {}),
    object("v1", "ServiceAccount", "client", {}),
    object("v1", "ConfigMap", "load", { data: { "load.mjs": load } }),
    object("v1", "Service", "api", {
      spec: { selector: { app: "api" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
    }),
    object("apps/v1", "Deployment", "api", {
      spec: {
        replicas: 3,
        selector: { matchLabels: { app: "api" } },
        template: {
          metadata: { labels: { app: "api" } },
          spec: {
            serviceAccountName: "api",
            containers: [
              {
                name: "api",
                image: `kubectl-mesh:${version}`,
                command: ["node", "/app/dist/entry/demo.js", "emoji"],
                env: [{ name: "PORT", value: "8080" }],
                ports: [{ containerPort: 8080 }],
                readinessProbe: { httpGet: { path: "/emoji", port: 8080 }, periodSeconds: 1 },
              },
            ],
          },
        },
      },
    }),
    clientPod("shop", "client"),
    clientPod("outside", "default"),
  ],
};

function clientPod(namespace: string, serviceAccountName: string) {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "client", namespace },
    spec: {
      serviceAccountName,
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "client",
          image: "node",
          command: ["sleep", "infinity"],
          volumeMounts: namespace === "shop" ? [{ name: "load", mountPath: "/load" }] : [],
        },
      ],
      volumes: namespace === "shop" ? [{ name: "load", configMap: { name: "load" } }] : [],
    },
  };
}

interface Answer {
  status?: number;
  error?: string | null;
  body?: string;
}

/** One GET from a client pod. */
function get(namespace: string, url = "http://api.shop/emoji/otter?secret=kangaroo"): Answer {
  const script = `fetch(${JSON.stringify(url)},{headers:{"x-marker":"kangaroo"}}).then(async r=>console.log(JSON.stringify({status:r.status,error:r.headers.get("l5d-proxy-error"),body:await r.text()})),e=>console.log(JSON.stringify({error:String(e.cause?.code)})))`;
  return JSON.parse(
    sandbox.ask("exec", "-n", namespace, "client", "-c", "client", "--", "node", "-e", script),
  ) as Answer;
}

interface LoadResult {
  total: number;
  statuses: Record<string, number>;
  failures: unknown[];
}

async function underLoad(
  rate: number,
  seconds: number,
  act: () => void | Promise<void>,
): Promise<LoadResult> {
  const running = sandbox.meanwhile(
    "exec",
    "-n",
    "shop",
    "client",
    "-c",
    "client",
    "--",
    "node",
    "/load/load.mjs",
    "http://api/emoji",
    String(rate),
    String(seconds),
  );
  // The load must be there before what it is to witness.
  await until(() => sandbox.processes("load.mjs").length > 0);
  await act();
  return JSON.parse(await running) as LoadResult;
}

const rollout = () => sandbox.ask("rollout", "status", "-n", "shop", "deploy/api", "--timeout=90s");

// uvu keeps what a hook throws to itself.
const told = (hook: () => Promise<void>) => () =>
  hook().catch((error) => {
    process.stdout.write(`${error}\n`);
    throw error;
  });

test.before(
  told(async () => {
    sandbox = await MeshSandbox.up();
    sandbox.install();
    sandbox.apply(JSON.stringify(SHOP));
    rollout();
    sandbox.ask("wait", "-n", "shop", "--for=condition=Ready", "pod/client", "--timeout=60s");
    sandbox.ask("wait", "-n", "outside", "--for=condition=Ready", "pod/client", "--timeout=60s");
  }),
);

test.after(() => sandbox?.down());

test("the webhook has meshed the pods of the annotated namespace, and no others", () => {
  const containers = (namespace: string) =>
    sandbox
      .ask("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].spec.initContainers[*].name}")
      .trim();
  assert.match(containers("shop"), /linkerd-init linkerd-proxy/);
  assert.is(containers("outside"), "");
});

test("what cannot be applied is refused, and an annotation that does nothing is told three times", async () => {
  const apply = (...objects: object[]) =>
    sandbox.run(["kubectl", "apply", "-f", "-"], {
      input: JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
    });
  const server = (port: unknown) =>
    object("policy.linkerd.io/v1beta3", "Server", "unused", {
      spec: { podSelector: { matchLabels: { app: "nobody" } }, port },
    });
  const refused = apply(server(0));
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /admission webhook "linkerd-policy-validator.linkerd.io" denied the request/);
  assert.match(refused.stderr, "spec.port: expected a port by number (1-65535) or by name, got 0");
  assert.is(apply(server(8080)).code, 0);
  const strange = apply({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "strange", namespace: "shop", annotations: { "retry.linkerd.io/htpp": "5xx" } },
    spec: { ports: [{ port: 80 }] },
  });
  const meant = "did you mean retry.linkerd.io/http?";
  assert.is(strange.code, 0);
  assert.match(strange.stderr, meant);
  await until(
    () => sandbox.ask("get", "events", "-n", "shop", "-o", "jsonpath={.items[*].message}").includes(meant),
    30_000,
    "an event on the Service",
  );
  const { stdout } = sandbox.mesh("check", "--proxy", "-n", "shop", "--wait", "0", "-o", "json");
  assert.match(stdout, "mesh-annotations");
  assert.match(stdout, meant);
  sandbox.ask("delete", "-n", "shop", "service/strange", "server/unused");
});

test("between two meshed pods the bridge carries TLS 1.3 and nothing readable; from outside it does not", async () => {
  // Without the node, whose probes are plain by nature.
  const capture = async (namespace: string): Promise<Buffer> => {
    const [command, ...args] = sandbox.onNode([
      "tcpdump",
      "-Z",
      "root",
      "-i",
      "mesh0",
      "-U",
      "-s",
      "0",
      "-w",
      "-",
      "tcp port 8080 and not host 10.244.0.1",
    ]);
    const tcpdump = spawn(command!, args, { stdio: ["ignore", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    let said = "";
    tcpdump.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    tcpdump.stderr.on("data", (chunk) => (said += chunk));
    await until(() => said.includes("listening on"), 10_000, "tcpdump");
    for (let i = 0; i < 20; i += 1) assert.is(get(namespace).status, 200);
    await until(() => Buffer.concat(chunks).length > 5_000, 10_000, "packets");
    tcpdump.kill();
    await new Promise((resolve) => tcpdump.on("close", resolve));
    return Buffer.concat(chunks);
  };
  const readable = (bytes: Buffer) =>
    ["kangaroo", "GET /emoji", "HTTP/1.1", "otter"].filter((word) => bytes.includes(word));
  const plain = await capture("outside");
  assert.ok(
    readable(plain).includes("kangaroo"),
    "what is not meshed can be read, so the capture sees payloads",
  );
  const meshed = await capture("shop");
  // The kubelet's probes are plain by nature; the marker and the request are the client's own.
  assert.equal(
    readable(meshed).filter((word) => word === "kangaroo" || word === "otter"),
    [],
  );
  // A server hello that chose TLS 1.3: handshake record, supported_versions extension with 0x0304.
  assert.ok(meshed.includes(Buffer.from("002b00020304", "hex")), "TLS 1.3 was negotiated");
});

test("each side sees the other's ServiceAccount", () => {
  const metrics = (pod: string) =>
    execMetrics(
      sandbox.ask("get", "pod", "-n", "shop", "-l", pod, "-o", "jsonpath={.items[0].metadata.name}") ||
        "client",
    );
  const client = execMetrics("client");
  assert.match(
    client,
    /response_total\{direction="outbound"[^}]*tls="true",server_id="api\.shop\.serviceaccount\.identity\.mesh-system\.cluster\.local"/,
  );
  assert.match(
    metrics("app=api"),
    /request_total\{direction="inbound"[^}]*client_id="client\.shop\.serviceaccount\.identity\.mesh-system\.cluster\.local"/,
  );
});

function execMetrics(pod: string): string {
  const script = 'fetch("http://127.0.0.1:4191/metrics").then(r=>r.text()).then(t=>console.log(t))';
  const container = pod === "client" ? "client" : "api";
  return sandbox.ask("exec", "-n", "shop", pod, "-c", container, "--", "node", "-e", script);
}

test("kubectl mesh identity shows the certificate that the pod serves", () => {
  const { code, stdout, stderr } = sandbox.mesh("identity", "-n", "shop", "client");
  assert.is(code, 0, stderr);
  assert.match(stdout, /client\.shop\.serviceaccount\.identity\.mesh-system\.cluster\.local/);
});

test("a rolling restart under 200 requests a second fails none", async () => {
  const result = await underLoad(200, 15, () => {
    sandbox.ask("rollout", "restart", "-n", "shop", "deploy/api");
    rollout();
  });
  assert.equal(result.statuses, { 200: result.total }, JSON.stringify(result.failures));
});

test("a back end that is killed costs at most one request", async () => {
  // Not one that the rollout before has told to leave.
  const pod = sandbox
    .json<{ items: { metadata: { uid: string; deletionTimestamp?: string } }[] }>(
      "get",
      "pods",
      "-n",
      "shop",
      "-l",
      "app=api",
    )
    .items.find(({ metadata }) => metadata.deletionTimestamp === undefined);
  const uid = pod!.metadata.uid;
  const result = await underLoad(200, 6, () => {
    const containers = sandbox.processes(`/pods/${uid}/`);
    assert.ok(containers.length >= 2, "the application and its proxy");
    execFileSync("kill", ["-9", ...containers.map(String)]);
  });
  assert.ok(result.total - (result.statuses["200"] ?? 0) <= 1, JSON.stringify(result));
  rollout();
});

test("stat shows the traffic, and its gate fails a pipeline", async () => {
  const rows = await until(() => {
    const { stdout } = sandbox.mesh("stat", "deploy/api", "-n", "shop", "-o", "json");
    const [row] = JSON.parse(stdout || "[]") as { meshed: string; success: number; rps: number }[];
    return row && row.rps > 0 ? row : undefined;
  }, 30_000);
  assert.is(rows.meshed, "3/3");
  assert.is(sandbox.mesh("stat", "deploy/api", "-n", "shop", "--fail-under", "success=1").code, 0);
  assert.is(sandbox.mesh("stat", "deploy/api", "-n", "shop", "--fail-under", "rps=100000").code, 1);
});

const image = `kubectl-mesh:${version}`;
const NOT_NATIVE = { "config.linkerd.io/proxy-enable-native-sidecar": "disabled" };

test("a Job ends beside a proxy that is no native sidecar, and nothing starts before the proxy is ready", async () => {
  // The first question meets a proxy that is ready; without the last one the Job would not end.
  const work = `const ask = (url, method = "GET") => fetch(url, { method }).then((r) => r.status, (e) => e.cause?.code);
    const admin = "http://127.0.0.1:4191";
    console.log("ready", await ask(admin + "/ready"), "service", await ask("http://api.shop/emoji"), "shutdown", await ask(admin + "/shutdown", "POST"));`;
  sandbox.apply(
    JSON.stringify(
      object("batch/v1", "Job", "work", {
        spec: {
          backoffLimit: 0,
          template: {
            metadata: { annotations: NOT_NATIVE },
            spec: {
              restartPolicy: "Never",
              containers: [
                {
                  name: "work",
                  image,
                  command: ["node", "--input-type=module", "-e", work],
                },
              ],
            },
          },
        },
      }),
    ),
  );
  sandbox.ask("wait", "-n", "shop", "--for=condition=Complete", "job/work", "--timeout=90s");
  const pod = () =>
    sandbox.json<{
      items: {
        spec: { containers: { name: string }[] };
        status: {
          phase: string;
          containerStatuses: {
            name: string;
            state: { terminated?: { startedAt: string; exitCode: number } };
          }[];
        };
      }[];
    }>("get", "pods", "-n", "shop", "-l", "job-name=work").items[0]!;
  assert.equal(
    pod().spec.containers.map(({ name }) => name),
    ["linkerd-proxy", "work"],
  );
  assert.match(sandbox.ask("logs", "-n", "shop", "job/work"), "ready 200 service 200 shutdown 200");
  await until(
    () => pod().status.phase === "Succeeded",
    30_000,
    () => JSON.stringify(pod().status),
  );
});

test("a pod whose rules nobody laid does not start where a validator stands for the CNI plugin; and it is said why", async () => {
  sandbox.apply(
    JSON.stringify({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "lonely", namespace: "outside" },
      spec: {
        restartPolicy: "Never",
        initContainers: [
          {
            name: "linkerd-network-validator",
            image,
            command: ["node", "/app/dist/entry/network-validator.js"],
            args: ["--timeout=1s"],
            securityContext: { runAsUser: 65_534, runAsNonRoot: true },
          },
        ],
        containers: [{ name: "app", image: "node", command: ["sleep", "infinity"] }],
      },
    }),
  );
  const status = () =>
    sandbox.json<{
      status: {
        phase: string;
        initContainerStatuses?: { state: { terminated?: { exitCode: number; message?: string } } }[];
      };
    }>("get", "pod", "-n", "outside", "lonely").status;
  await until(
    () => status().phase === "Failed",
    60_000,
    () => JSON.stringify(status()),
  );
  assert.is(status().initContainerStatuses![0]!.state.terminated!.exitCode, 95);
  assert.match(
    sandbox.ask("logs", "-n", "outside", "lonely", "-c", "linkerd-network-validator"),
    "CNI plugin",
  );
  sandbox.ask("delete", "pod", "-n", "outside", "lonely");
});

test("a namespace's opaque ports reach its Services, a debug container its pods, and events tell of both kinds of pods", async () => {
  sandbox.apply(
    JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [
        {
          apiVersion: "v1",
          kind: "Namespace",
          metadata: {
            name: "odd",
            annotations: {
              "linkerd.io/inject": "enabled",
              "config.linkerd.io/opaque-ports": "9000",
              "config.linkerd.io/enable-debug-sidecar": "true",
              "config.linkerd.io/proxy-log-levle": "debug",
            },
          },
        },
      ],
    }),
  );
  const deployment = (name: string, annotations: object) => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "odd" },
    spec: {
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name }, annotations },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [{ name: "app", image: "node", command: ["sleep", "infinity"] }],
        },
      },
    },
  });
  sandbox.apply(
    JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [
        {
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: "odd", namespace: "odd" },
          spec: { ports: [{ port: 80 }] },
        },
        deployment("meshed", {}),
        deployment("left", { "linkerd.io/inject": "disabled" }),
      ],
    }),
  );
  const service = sandbox.json<{ metadata: { annotations: Record<string, string> } }>(
    "get",
    "service",
    "-n",
    "odd",
    "odd",
  );
  assert.is(service.metadata.annotations["config.linkerd.io/opaque-ports"], "9000");
  const told = () =>
    sandbox.ask(
      "get",
      "events",
      "-n",
      "odd",
      "-o",
      "jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name} {.reason} {.message}{'\\n'}{end}",
    );
  for (const event of [
    "Deployment/meshed Injected ",
    "Deployment/left InjectionSkipped ",
    "Deployment/meshed InvalidSetting annotation config.linkerd.io/proxy-log-levle on the namespace",
  ])
    await until(
      () => told().includes(event),
      30_000,
      () => `${event} in ${told()}`,
    );
  const containers = sandbox.ask(
    "get",
    "pods",
    "-n",
    "odd",
    "-l",
    "app=meshed",
    "-o",
    "jsonpath={.items[0].spec.containers[*].name}",
  );
  assert.is(containers, "app linkerd-debug");
  sandbox.ask("delete", "namespace", "odd", "--wait=false");
});

test("check --proxy is content", () => {
  const { code, stdout } = sandbox.mesh("check", "--proxy", "-n", "shop", "--wait", "60s");
  assert.is(code, 0, stdout);
});

test("under all-authenticated an unmeshed client is refused with a passport, a meshed one and the probes are not", () => {
  assert.is(get("outside").status, 200, "the default policy lets it in");
  const annotations = { "config.linkerd.io/default-inbound-policy": "all-authenticated" };
  sandbox.ask(
    "patch",
    "-n",
    "shop",
    "deploy",
    "api",
    "-p",
    JSON.stringify({ spec: { template: { metadata: { annotations } } } }),
  );
  rollout();
  const refused = get("outside");
  assert.is(refused.status, 403);
  assert.match(refused.error ?? "", /unauthorized/i);
  assert.is(get("shop").status, 200);
});

test("installing twice is refused and changes nothing", () => {
  const { code, stderr, stdout } = sandbox.mesh("install");
  assert.is(code, 1);
  assert.is(stdout, "");
  assert.match(stderr, /already/);
});

test.run();
