// A generated cluster behind an API server that lists and watches: Services of so many pods each, on nodes of three
// zones, and whatever custom resources are put into it. A pod is replaced as in a rolling deployment: a new one, in its
// Service's slice instead of an old one, which then goes.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ClusterSize {
  readonly services: number;
  readonly endpoints: number;
  /** That Services are spread over. */
  readonly namespaces: number;
}

/** A custom resource: where it is kept, and its JSON without a version. */
export interface BenchObject {
  /** Of its collection: `/apis/GROUP/VERSION/RESOURCE`. */
  readonly path: string;
  readonly namespace: string;
  readonly name: string;
  /** RFC 3339 */
  readonly created?: string;
  readonly generation?: number;
  readonly spec: object;
  readonly status?: object;
}

interface BenchPod {
  readonly name: string;
  readonly ip: number;
  readonly node: number;
  /** It in its slice, JSON. */
  readonly endpoint: string;
}

const NODES = 100;
export const ZONES = ["zone-a", "zone-b", "zone-c"] as const;
const PAGE = 500;
const FIRST_IP = 0x0a01_0000;
const SLICES = "/apis/discovery.k8s.io/v1/endpointslices";
const LEASES = /^\/apis\/coordination\.k8s\.io\/v1\/namespaces\/[^/]+\/leases(\/|$)/;
/** A status: group and version, namespace, resource, name. */
const STATUS = /^(\/apis\/[^/]+\/[^/]+)\/namespaces\/([^/]+)\/([^/]+)\/([^/]+)\/status$/;
const DAY = "2026-01-01T00:00:00Z";

const text = (ip: number) => [24, 16, 8, 0].map((shift) => (ip >>> shift) & 255).join(".");
const zoneOf = (node: number) => ZONES[node % ZONES.length]!;
export const nodeName = (node: number) => `node-${node % NODES}`;
/** Its cluster IP. */
export const addressOfService = (service: number) =>
  `10.${96 + (service >> 16)}.${(service >> 8) & 255}.${service & 255}`;

const uidOf = (name: string) => `00000000-0000-4000-8000-${name.padStart(12, "0")}`;
const inner = (object: object) => JSON.stringify(object).slice(1, -1);
const POD_SPEC = inner({
  initContainers: [
    {
      name: "linkerd-proxy",
      restartPolicy: "Always",
      image: "kubectl-mesh",
      ports: [
        { name: "linkerd-proxy", containerPort: 4143 },
        { name: "linkerd-admin", containerPort: 4191 },
      ],
      env: Array.from({ length: 30 }, (_, i) => ({
        name: `LINKERD2_PROXY_SETTING_${i}`,
        value: "some value of a setting",
      })),
    },
  ],
  containers: [{ name: "app", image: "app:1", ports: [{ name: "http", containerPort: 8080 }] }],
});
const POD_STATUS = inner({
  conditions: ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map((type) => ({
    type,
    status: "True",
    lastTransitionTime: DAY,
  })),
  containerStatuses: [{ name: "app", ready: true, restartCount: 0, state: { running: { startedAt: DAY } } }],
});

export class BenchCluster {
  readonly #services: BenchPod[][];
  readonly #namespaces: number;
  /** Custom resources, as they are listed, by name, by collection. */
  readonly #custom = new Map<string, Map<string, string>>();
  readonly #server: Server;
  readonly #watches = new Map<string, Set<ServerResponse>>();
  readonly #lines = new Map<string, string>();
  #version = 1;
  #nextIp = FIRST_IP;
  #nextPod = 0;
  #lease: string | undefined;
  /** Whether there are Leases to be had: then the controller leads, and writes statuses. */
  leads = false;

  constructor({ services, endpoints, namespaces }: ClusterSize) {
    this.#namespaces = namespaces;
    this.#services = Array.from({ length: services }, () =>
      Array.from({ length: endpoints }, () => this.#newPod()),
    );
    this.#server = createServer((request, response) => this.#handle(request, response));
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  get services(): number {
    return this.#services.length;
  }

  namespaceOf(service: number): string {
    return `bench-${service % this.#namespaces}`;
  }

  authorityOf(service: number): string {
    return `service-${service}.${this.namespaceOf(service)}.svc.cluster.local:80`;
  }

  /** The names of its pods. */
  podsOf(service: number): string[] {
    return this.#services[service]!.map(({ name }) => name);
  }

  /** Creates a custom resource, or writes it anew. */
  put(object: BenchObject): void {
    const { path, namespace, name, created = DAY, generation = 1, spec, status } = object;
    const collection = this.#custom.get(path) ?? new Map<string, string>();
    this.#custom.set(path, collection);
    const metadata = {
      ...this.#meta(name, namespace),
      creationTimestamp: created,
      generation,
    };
    const key = `${namespace}/${name}`;
    const type = collection.has(key) ? "MODIFIED" : "ADDED";
    const json = JSON.stringify({ metadata, spec, status });
    collection.set(key, json);
    this.#tell(path, `{"type":"${type}","object":${json}}\n`);
  }

  remove({ path, namespace, name }: Pick<BenchObject, "path" | "namespace" | "name">): void {
    const collection = this.#custom.get(path);
    const json = collection?.get(`${namespace}/${name}`);
    if (!collection?.delete(`${namespace}/${name}`)) return;
    this.#tell(path, `{"type":"DELETED","object":${json}}\n`);
  }

  /** Replaces one pod of a Service. @returns the addresses of the new one and of the old */
  replacePod(service: number): { readonly fresh: number; readonly old: number } {
    const pods = this.#services[service]!;
    const at = this.#nextPod % pods.length;
    const old = pods[at]!;
    const fresh = this.#newPod();
    pods[at] = fresh;
    this.#tell("/api/v1/pods", `{"type":"ADDED","object":${this.#pod(service, fresh)}}\n`);
    this.#tell(SLICES, `{"type":"MODIFIED","object":${this.#slice(service)}}\n`);
    this.#tell("/api/v1/pods", `{"type":"DELETED","object":${this.#pod(service, old)}}\n`);
    return { fresh: fresh.ip, old: old.ip };
  }

  /** Sends what was told since the last time. */
  flush(): void {
    for (const [path, lines] of this.#lines)
      for (const response of this.#watches.get(path) ?? []) response.write(lines);
    this.#lines.clear();
  }

  #newPod(): BenchPod {
    const number = this.#nextPod++;
    const name = `pod-${number.toString(36)}`;
    const node = number % NODES;
    const endpoint = JSON.stringify({
      addresses: [text(this.#nextIp)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: nodeName(node),
      zone: zoneOf(node),
      targetRef: { kind: "Pod", name, uid: uidOf(name) },
    });
    const pod = { name, ip: this.#nextIp, node, endpoint };
    // Not an hour of churn comes round.
    this.#nextIp = this.#nextIp === 0x0aff_ffff ? FIRST_IP : this.#nextIp + 1;
    return pod;
  }

  #tell(path: string, line: string): void {
    if (!this.#watches.has(path)) return;
    this.#lines.set(path, (this.#lines.get(path) ?? "") + line);
  }

  #meta(name: string, namespace?: string) {
    this.#version += 1;
    return {
      name,
      ...(namespace ? { namespace } : {}),
      uid: uidOf(name),
      resourceVersion: String(this.#version),
      creationTimestamp: DAY,
    };
  }

  /** JSON, as large as pods are, with what nobody here reads. */
  #pod(service: number, { name, ip, node }: BenchPod): string {
    const app = `service-${service}`;
    const namespace = this.namespaceOf(service);
    this.#version += 1;
    return `{"metadata":{"name":"${name}","namespace":"${namespace}","uid":"${uidOf(name)}","resourceVersion":"${this.#version}","creationTimestamp":"${DAY}","labels":{"app":"${app}","pod-template-hash":"7d9c6b5f4","linkerd.io/control-plane-ns":"mesh-system","linkerd.io/workload-ns":"${namespace}"},"annotations":{"linkerd.io/created-by":"linkerd/proxy-injector","linkerd.io/proxy-version":"0.1.0"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"${app}-7d9c6b5f4","uid":"u","controller":true}]},"spec":{"nodeName":"${nodeName(node)}","serviceAccountName":"${app}",${POD_SPEC}},"status":{"phase":"Running","podIP":"${text(ip)}","podIPs":[{"ip":"${text(ip)}"}],"hostIP":"192.168.0.${node}",${POD_STATUS}}}`;
  }

  /** JSON. More than a hundred endpoints would be several slices; a change writes one of them all the same. */
  #slice(service: number): string {
    const name = `service-${service}`;
    this.#version += 1;
    const endpoints = this.#services[service]!.map((pod) => pod.endpoint).join();
    return `{"metadata":{"name":"${name}-abcde","namespace":"${this.namespaceOf(service)}","uid":"${uidOf(name)}","resourceVersion":"${this.#version}","creationTimestamp":"${DAY}","labels":{"kubernetes.io/service-name":"${name}"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[${endpoints}]}`;
  }

  #items(path: string): (() => object | string)[] {
    const services = this.#services;
    switch (path) {
      case "/api/v1/namespaces":
        return Array.from({ length: this.#namespaces }, (_, at) => () => ({
          metadata: this.#meta(this.namespaceOf(at)),
        }));
      case "/api/v1/nodes":
        return Array.from({ length: NODES }, (_, node) => () => ({
          metadata: {
            ...this.#meta(nodeName(node)),
            labels: { "topology.kubernetes.io/zone": zoneOf(node) },
          },
        }));
      case "/api/v1/services":
        return services.map((_, service) => () => {
          const ip = addressOfService(service);
          return {
            metadata: this.#meta(`service-${service}`, this.namespaceOf(service)),
            spec: {
              clusterIP: ip,
              clusterIPs: [ip],
              ports: [{ name: "http", port: 80, targetPort: 8080 }],
              selector: { app: `service-${service}` },
            },
          };
        });
      case "/api/v1/pods":
        return services.flatMap((pods, service) => pods.map((pod) => () => this.#pod(service, pod)));
      case SLICES:
        return services.map((_, service) => () => this.#slice(service));
      default:
        return [...(this.#custom.get(path)?.values() ?? [])].map((json) => () => json);
    }
  }

  /** What the API server says of a group, or of a version of one; undefined: it has none of the kind. */
  #describe(path: string): object | undefined {
    const [, , group, version] = path.split("/");
    const kept = [...this.#custom.keys()]
      .map((collection) => collection.split("/").slice(2))
      .filter(([of, at]) => of === group && (version === undefined || at === version));
    if (kept.length === 0) return undefined;
    return version === undefined
      ? { versions: [...new Set(kept.map(([, at]) => at))].map((at) => ({ version: at })) }
      : { resources: kept.map(([, , name]) => ({ name })) };
  }

  /** The Lease, which whoever asks gets, and statuses, which are told to those who watch. */
  async #write(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader("content-type", "application/json");
    let body = "";
    for await (const chunk of request) body += chunk;
    const refuse = (code: number) =>
      response.writeHead(code).end(JSON.stringify({ kind: "Status", code, reason: "Refused" }));
    if (LEASES.test(path)) {
      if (request.method !== "GET") this.#lease = body;
      if (this.#lease) response.end(this.#lease);
      else refuse(404);
      return;
    }
    const [, group, namespace, resource, name] = STATUS.exec(path) ?? [];
    const collection = this.#custom.get(`${group}/${resource}`);
    const json = collection?.get(`${namespace}/${name}`);
    if (json === undefined) {
      refuse(404);
      return;
    }
    const object = JSON.parse(json) as { metadata: { resourceVersion: string } };
    const patch = JSON.parse(body) as { metadata?: { resourceVersion?: string }; status: object };
    if (patch.metadata?.resourceVersion !== object.metadata.resourceVersion) {
      refuse(409);
      return;
    }
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    const now = JSON.stringify({ ...object, metadata, status: patch.status });
    collection!.set(`${namespace}/${name}`, now);
    this.#tell(`${group}/${resource}`, `{"type":"MODIFIED","object":${now}}\n`);
    response.end(now);
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://x");
    response.setHeader("content-type", "application/json");
    const known =
      /^\/api\/v1\/(namespaces|nodes|services|pods)$|\/endpointslices$/.test(url.pathname) ||
      this.#custom.has(url.pathname);
    const described = this.#describe(url.pathname);
    if (!known && described) {
      response.end(JSON.stringify(described));
      return;
    }
    if (this.leads && (request.method !== "GET" || LEASES.test(url.pathname))) {
      void this.#write(url.pathname, request, response);
      return;
    }
    if (!known || request.method !== "GET") {
      request.resume();
      response.writeHead(404).end(JSON.stringify({ kind: "Status", code: 404, reason: "NotFound" }));
      return;
    }
    const none = url.searchParams.has("labelSelector");
    if (url.searchParams.get("watch")) {
      response.flushHeaders();
      if (none) return;
      const watches = this.#watches.get(url.pathname) ?? new Set<ServerResponse>();
      this.#watches.set(url.pathname, watches.add(response));
      response.on("close", () => watches.delete(response));
      return;
    }
    const all = none ? [] : this.#items(url.pathname);
    const from = Number(url.searchParams.get("continue") ?? 0);
    const next = from + PAGE < all.length ? { continue: String(from + PAGE) } : {};
    const items = all
      .slice(from, from + PAGE)
      .map((make) => make())
      .map((item) => (typeof item === "string" ? item : JSON.stringify(item)));
    const metadata = JSON.stringify({ resourceVersion: String(this.#version), ...next });
    response.end(`{"metadata":${metadata},"items":[${items.join()}]}`);
  }
}
