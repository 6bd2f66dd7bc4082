// The API server as a process that is killed and started again, that is away while its objects change, and that has
// forgotten the past when it is back: what the destination controller streams is what the cluster has then.
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../src/api/codec.ts";
import { Get, type Update } from "../../src/api/destination.ts";
import { main as destination } from "../../src/controller/destination/main.ts";
import { type Controller, createController } from "../../src/controller/process.ts";
import { KubeClient, loadKubeConfig } from "../../src/kube/index.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { freePort } from "../support/free-port.ts";
import { type TestCall, TestGrpcClient } from "../support/grpc-client.ts";
import { MeshSandbox } from "../support/mesh-sandbox.ts";
import { toldEndpoints } from "../support/told-endpoints.ts";
import { until } from "../support/until.ts";

const test = suite("API server restarts");
const SERVICES = ["web", "api"];
/** Another name for `api`, which goes; and one that comes. */
const [OLD, NEW] = ["old", "new"];

/** A way to the API server that can be cut. */
class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #to: number;
  port = 0;

  constructor(to: number) {
    this.#to = to;
    this.#server = createServer((client) => {
      const server = createConnection(this.#to, "127.0.0.1");
      for (const [socket, other] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.port, "127.0.0.1", resolve));
    this.port = (this.#server.address() as { port: number }).port;
  }

  /** Connections are reset, and none are taken. */
  async cut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }
}

const named = (name: string, app: string) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { selector: { app }, ports: [{ port: 80, targetPort: 8080 }] },
});
const workload = (name: string) => [
  named(name, name),
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [{ name: "sleeper", image: "any", command: ["sleep", "infinity"] }],
        },
      },
    },
  },
];

interface Slice {
  readonly endpoints?: readonly {
    readonly addresses: readonly string[];
    readonly conditions: { readonly ready?: boolean };
    readonly targetRef?: { readonly name: string };
  }[];
}

let sandbox: MeshSandbox;
let relay: Relay;
let client: KubeClient;
let controller: Controller;
let proxy: TestGrpcClient;
/** Subscriptions since the beginning. */
let calls: Map<string, TestCall<MessageOf<typeof Update>>>;

test.before(async () => {
  sandbox = await MeshSandbox.up();
  const items = [...SERVICES.flatMap(workload), named(OLD, "api")];
  sandbox.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const config = await loadKubeConfig({ kubeconfig: sandbox.kubeconfig });
  relay = new Relay(Number(new URL(config.server).port));
  await relay.open();
  client = new KubeClient({ ...config, server: `https://127.0.0.1:${relay.port}` });
  controller = createController({
    env: { MESH_NAMESPACE: "default" },
    log: createLogger({ level: "off" }),
    client,
    registry: new Registry(),
    port: await freePort(),
  });
  await destination(async (_name, _ports, setUp) => setUp(controller));
  controller.started();
  proxy = new TestGrpcClient(controller.port);
  calls = new Map([...SERVICES, OLD, NEW].map((service) => [service, subscribe(service)]));
  await agrees();
});

test.after(async () => {
  proxy?.close();
  await controller?.stop();
  client?.close();
  await relay?.cut();
  sandbox.down();
});

const subscribe = (service: string) => proxy.call(Get, { path: `${service}.default.svc.cluster.local:80` });

/** Ready endpoints by the cluster's EndpointSlices: address → pod, sorted. */
function endpointsOf(service: string): Record<string, string> {
  const { items } = sandbox.json<{ items: Slice[] }>(
    ...["get", "endpointslices", "-l", `kubernetes.io/service-name=${service}`],
  );
  const ready = items
    .flatMap(({ endpoints }) => endpoints ?? [])
    .filter(({ conditions }) => conditions.ready)
    .map(({ addresses, targetRef }) => [addresses[0]!, targetRef!.name] as const);
  return Object.fromEntries(ready.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** All pods that are wanted are ready, and subscribers of before and of now know them and none else. */
async function agrees(): Promise<void> {
  for (const service of SERVICES) sandbox.ask("rollout", "status", `deploy/${service}`, "--timeout=60s");
  for (const [service, call] of calls) {
    let [wanted, told, late] = ["", "", ""];
    await until(
      async () => {
        wanted = JSON.stringify(endpointsOf(service));
        told = JSON.stringify(toldEndpoints(call.messages, "pod"));
        const fresh = subscribe(service);
        late = JSON.stringify(toldEndpoints([await fresh.message(0)], "pod"));
        fresh.cancel();
        return told === wanted && late === wanted;
      },
      30_000,
      () => `endpoints ${wanted} of ${service}, not ${told}, nor ${late} for a new subscriber,`,
    );
    assert.is(call.status, undefined, "the subscription goes on");
  }
}

/** How often all EndpointSlices were listed. */
const lists = () =>
  Number(
    /kube_reflector_lists_total\{path="\/apis\/discovery.k8s.io\/v1\/endpointslices"\} (\d+)/.exec(
      controller.registry.expose(),
    )?.[1],
  );
const scale = (service: string, replicas: number) =>
  sandbox.ask("scale", `deploy/${service}`, `--replicas=${replicas}`);

test("killed and started again, with every pod started anew: no endpoint is lost and none is stale", async () => {
  await sandbox.restart();
  scale("web", 5);
  scale("api", 1);
  await agrees();
});

test("away while everything is replaced, and compacted before it is back: what went is gone and what came is there", async () => {
  const before = lists();
  await relay.cut();
  scale("web", 2);
  for (const service of SERVICES) sandbox.ask("rollout", "restart", `deploy/${service}`);
  for (const service of SERVICES) sandbox.ask("rollout", "status", `deploy/${service}`, "--timeout=60s");
  sandbox.ask("delete", "service", OLD);
  sandbox.apply(JSON.stringify(named(NEW, "api")));
  await until(() => Object.keys(endpointsOf(NEW)).length > 0, 30_000, "endpoints of the new Service");
  sandbox.compact();
  assert.equal(controller.unready(), [], "what is known is served on");
  await relay.open();
  await agrees();
  assert.ok(lists() > before, "the watch was answered by 410, and all was listed anew");
});

test("compacted under watches that go on: changes arrive as before", async () => {
  const before = lists();
  sandbox.compact();
  scale("web", 4);
  await agrees();
  assert.is(lists(), before);
});

test.run();
