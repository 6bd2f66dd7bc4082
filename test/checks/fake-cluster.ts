// An API server of canned objects: gets, lists by label, dry-run applies and access reviews.
import { createServer, type Server } from "node:http";
import { text } from "node:stream/consumers";
import { KubeClient, type KubeObject, objectPath } from "../../src/kube/index.ts";
import {
  controlPlane,
  createAllWebhookCredentials,
  createIdentityCredentials,
  customResourceDefinitions,
  DEFAULT_VALUES,
  KEYS,
} from "../../src/manifests/index.ts";
import { VERSION } from "../../src/util/version.ts";

export interface Cluster {
  readonly client: KubeClient;
  readonly objects: Map<string, KubeObject>;
  /** Asked for every request; what it returns is the answer. */
  intercept: ((method: string, path: string) => { status: number; body: unknown } | undefined) | undefined;
  gitVersion: string;
  put(...objects: KubeObject[]): void;
  edit<T extends KubeObject>(kind: string, name: string, change: (object: T) => void): void;
  remove(kind: string, name: string): void;
  close(): Promise<void>;
}

export async function startCluster(): Promise<Cluster> {
  const objects = new Map<string, KubeObject>();
  const server: Server = createServer(async (request, response) => {
    const url = new URL(request.url!, "http://x");
    const body = await text(request);
    const { status, body: answer } =
      cluster.intercept?.(request.method!, url.pathname) ?? route(request.method!, url, body);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  });
  const route = (method: string, url: URL, body: string): { status: number; body: unknown } => {
    const path = url.pathname;
    if (path === "/version") return { status: 200, body: { gitVersion: cluster.gitVersion } };
    if (method === "POST") return { status: 201, body: { ...JSON.parse(body), status: { allowed: true } } };
    if (method === "PATCH") return { status: 200, body: JSON.parse(body) };
    const served = servedDocument(path, [...objects.values()]);
    if (served) return { status: 200, body: served };
    const found = objects.get(path);
    if (found) return { status: 200, body: found };
    if (/\/(namespaces\/[^/]+\/)?[a-z]+$/.test(path) && !/\/namespaces\/[^/]+$/.test(path)) {
      const selector = url.searchParams.get("labelSelector") ?? "";
      return {
        status: 200,
        body: {
          metadata: {},
          items: [...objects]
            .filter(([at, object]) => inList(path, at) && matches(object, selector))
            .map(([, object]) => object),
        },
      };
    }
    return { status: 404, body: { kind: "Status", reason: "NotFound", message: `${path} not found` } };
  };
  const cluster: Cluster = {
    objects,
    intercept: undefined,
    gitVersion: "v1.33.1",
    client: undefined as never,
    put: (...items) => {
      for (const item of items) objects.set(objectPath(item), item);
    },
    edit: (kind, name, change) => {
      change(
        [...objects.values()].find(
          (object) => object.kind === kind && object.metadata.name === name,
        ) as never,
      );
    },
    remove: (kind, name) => {
      for (const [path, object] of objects)
        if (object.kind === kind && object.metadata.name === name) objects.delete(path);
    },
    close: async () => {
      cluster.client.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  Object.assign(cluster, {
    client: new KubeClient({
      server: `http://127.0.0.1:${port}`,
      basePath: "",
      tls: {},
      context: "fake",
      namespace: "default",
      headers: async () => ({}),
    }),
  });
  return cluster;
}

/** What is said of a group or of a version of one: that it has the kinds of the objects that are there. */
function servedDocument(path: string, objects: readonly KubeObject[]): object | undefined {
  const asked = /^\/apis\/([^/]+(?:\/v[^/]+)?)$/.exec(path)?.[1];
  if (asked === undefined) return undefined;
  const of = objects.filter(({ apiVersion }) => `${apiVersion}/`.startsWith(`${asked}/`));
  if (asked.includes("/")) return { resources: of.map(({ kind }) => ({ kind })) };
  return {
    versions: [...new Set(of.map(({ apiVersion }) => apiVersion))].map((groupVersion) => ({ groupVersion })),
  };
}

/** Whether an object's path is one of a list's, which may span namespaces. */
function inList(list: string, path: string): boolean {
  const withoutNamespace = list.includes("/namespaces/")
    ? path
    : path.replace(/\/namespaces\/[^/]+(?=\/)/, "");
  return withoutNamespace.startsWith(`${list}/`) && !withoutNamespace.slice(list.length + 1).includes("/");
}

function matches(object: KubeObject, selector: string): boolean {
  if (selector === "") return true;
  const [key, value] = selector.split("=");
  const found = object.metadata.labels?.[key!];
  return value === undefined ? found !== undefined : found === value;
}

const DAY_MS = 86_400_000;

/** A cluster with a healthy installation and one meshed pod, `shop/web`. `age` is how long ago it was installed, ms. */
export async function startInstalledCluster(age = 0): Promise<Cluster> {
  const cluster = await startCluster();
  const now = Date.now() - age;
  const identity = createIdentityCredentials({ namespace: "mesh-system", trustDomain: "cluster.local" }, now);
  const webhooks = createAllWebhookCredentials("mesh-system", now);
  const values = { ...DEFAULT_VALUES, identityTrustAnchorsPEM: identity.trustAnchors };
  cluster.put(...customResourceDefinitions("mesh-system"), ...controlPlane({ values, identity, webhooks }));
  for (const object of [...cluster.objects.values()]) {
    if (object.kind !== "Deployment") continue;
    const deployment = object as KubeObject & {
      status?: object;
      spec: { template: { metadata: object; spec: object } };
    };
    deployment.status = { readyReplicas: 1 };
    cluster.put(
      runningPod(
        `${object.metadata.name}-0`,
        "mesh-system",
        deployment.spec.template,
        object.metadata.labels![KEYS.controlPlaneComponent]!,
      ),
    );
    if (object.metadata.name === "mesh-destination") {
      const template = structuredClone(deployment.spec.template) as {
        metadata: { labels: Record<string, string> };
      };
      template.metadata.labels = { app: "web", [KEYS.controlPlaneNs]: "mesh-system" };
      cluster.put(runningPod("web", "shop", template as never, "web"));
    }
  }
  cluster.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } }, {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "node-0" },
    spec: { podCIDR: "10.244.0.0/24" },
    status: { conditions: [{ type: "Ready", status: "True", lastHeartbeatTime: new Date().toISOString() }] },
  } as KubeObject);
  return cluster;
}

function runningPod(
  name: string,
  namespace: string,
  template: { metadata: object; spec: object },
  container: string,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    ...structuredClone(template),
    metadata: { ...structuredClone(template.metadata), name, namespace },
    status: {
      phase: "Running",
      podIP: "10.244.0.9",
      conditions: [{ type: "Ready", status: "True" }],
      initContainerStatuses: [
        { name: "linkerd-init", ready: true, state: { terminated: { exitCode: 0 } } },
        { name: "linkerd-proxy", ready: true, state: { running: {} } },
      ],
      containerStatuses: [{ name: container, ready: true, state: { running: {} } }],
    },
  } as KubeObject;
}

export { DAY_MS, VERSION };
