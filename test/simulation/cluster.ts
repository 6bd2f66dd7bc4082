// What users and Kubernetes' own controllers do in a simulated cluster: pods come, get addresses that others had before,
// and go; slices follow some time later; Services are written, changed and deleted. What users write of policy has a file of
// its own (policy-author.ts).
import type { EndpointSlice, KubeObject, Pod, Service } from "../../src/kube/types.ts";
import type { Chance } from "../support/chance.ts";
import type { SimulatedApiServer } from "./api-server.ts";
import { EPOCH, type Scheduler } from "./time.ts";

export const COLLECTION = {
  namespaces: "/api/v1/namespaces",
  services: "/api/v1/services",
  pods: "/api/v1/pods",
  nodes: "/api/v1/nodes",
  slices: "/apis/discovery.k8s.io/v1/endpointslices",
  servers: "/apis/policy.linkerd.io/v1beta3/servers",
  serverAuthorizations: "/apis/policy.linkerd.io/v1beta1/serverauthorizations",
  policies: "/apis/policy.linkerd.io/v1alpha1/authorizationpolicies",
  meshTls: "/apis/policy.linkerd.io/v1alpha1/meshtlsauthentications",
  networks: "/apis/policy.linkerd.io/v1alpha1/networkauthentications",
  rateLimits: "/apis/policy.linkerd.io/v1alpha1/httplocalratelimitpolicies",
  egressNetworks: "/apis/policy.linkerd.io/v1alpha1/egressnetworks",
  routes: "/apis/gateway.networking.k8s.io/v1/httproutes",
  grpcRoutes: "/apis/gateway.networking.k8s.io/v1/grpcroutes",
  splits: "/apis/split.smi-spec.io/v1alpha2/trafficsplits",
  workloads: "/apis/workload.linkerd.io/v1beta1/externalworkloads",
  profiles: "/apis/linkerd.io/v1alpha2/serviceprofiles",
} as const;

export const MESH = "mesh-system";
export const PORT = 8080;
export const NAMESPACES = ["a", "b"];
const NODES = ["n1", "n2", "n3"];

export interface App {
  readonly namespace: string;
  readonly name: string;
  readonly meshed: boolean;
  /** Its pods keep their names. */
  readonly stateful: boolean;
  replicas: number;
  version: number;
}

/** The name that pods of a ServiceAccount have in the mesh. */
export const identityOf = (namespace: string, account: string): string =>
  `${account}.${namespace}.serviceaccount.identity.${MESH}.cluster.local`;

export const isLive = ({ status }: Pod): boolean =>
  status?.phase !== "Succeeded" && status?.phase !== "Failed";
const isMeshed = (pod: Pod): boolean => pod.metadata.labels?.["linkerd.io/control-plane-ns"] === MESH;

export { isMeshed };

const addressesFrom = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, at) => `${prefix}${at + 1}`);

export class Cluster {
  readonly api: SimulatedApiServer;
  readonly apps: readonly App[];
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  /** Few addresses, so that they come back soon; the one that was freed last first. */
  readonly #free = addressesFrom("10.1.0.", 14);
  readonly #clusterIps = addressesFrom("10.96.0.", 6);
  readonly #pendingSlices = new Set<string>();
  #count = 0;

  constructor(api: SimulatedApiServer, scheduler: Scheduler, chance: Chance) {
    this.api = api;
    this.#scheduler = scheduler;
    this.#chance = chance;
    this.apps = [
      { namespace: "a", name: "web", meshed: true, stateful: false, replicas: 2, version: 1 },
      { namespace: "a", name: "db", meshed: true, stateful: true, replicas: 2, version: 1 },
      { namespace: "b", name: "web", meshed: true, stateful: true, replicas: 1, version: 1 },
      { namespace: "b", name: "plain", meshed: false, stateful: false, replicas: 2, version: 1 },
    ];
    for (const name of NODES)
      api.put(COLLECTION.nodes, {
        metadata: { name, labels: { "topology.kubernetes.io/zone": name === "n1" ? "east" : "west" } },
      } as KubeObject);
    api.serve(COLLECTION.workloads);
    for (const app of this.apps) {
      this.#service(app);
      this.settle(app);
    }
  }

  pods(app?: App): Pod[] {
    return this.api
      .list<Pod>(COLLECTION.pods)
      .filter(
        ({ metadata }) =>
          !app || (metadata.namespace === app.namespace && metadata.labels?.["app"] === app.name),
      );
  }

  // ---- pods ----

  /** Does one thing that brings an app's pods nearer to what it wants. @returns whether there was something to do */
  step(app: App): boolean {
    const live = this.pods(app).filter(isLive);
    const old = live.filter(({ metadata }) => metadata.labels?.["version"] !== String(app.version));
    const ending = live.filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
    if (ending.length > 0) this.#remove(ending[0]!);
    else if (live.length > app.replicas) this.#end(this.#chance.of(live));
    // One that keeps its name goes before its successor comes; others are replaced first.
    else if (old.length > 0 && (app.stateful || live.length > app.replicas - 1 + old.length - 1))
      this.#end(old[0]!);
    else if (live.length < app.replicas) return this.#create(app);
    else return false;
    return true;
  }

  settle(app: App): void {
    while (this.step(app)) {
      // Until it is as it should be.
    }
    this.#writeSlices(app.namespace, app.name);
  }

  /** @returns whether there was an address for one more */
  #create(app: App): boolean {
    const { namespace, name, meshed, stateful, version } = app;
    const taken = new Set(this.pods(app).map(({ metadata }) => metadata.name));
    let ordinal = 0;
    while (taken.has(`${name}-${ordinal}`)) ordinal += 1;
    const ip = this.#free.pop();
    if (ip === undefined) return false;
    const nodeName = this.#chance.of(NODES);
    this.api.put(COLLECTION.pods, {
      metadata: {
        name: stateful ? `${name}-${ordinal}` : `${name}-${version}-${++this.#count}`,
        namespace,
        labels: {
          app: name,
          version: String(version),
          ...(meshed ? { "linkerd.io/control-plane-ns": MESH } : {}),
        },
      },
      spec: {
        nodeName,
        serviceAccountName: name,
        containers: [{ name: "app", ports: [{ name: "http", containerPort: PORT }] }],
      },
      status: { phase: "Running", podIP: ip, podIPs: [{ ip }], hostIP: "192.168.0.1" },
    } as KubeObject);
    this.touch(namespace, name);
    return true;
  }

  /** It begins to end. */
  #end(pod: Pod): void {
    const deletionTimestamp = new Date(EPOCH + this.#scheduler.now).toISOString();
    this.api.put(COLLECTION.pods, { ...pod, metadata: { ...pod.metadata, deletionTimestamp } });
    this.touch(pod.metadata.namespace!, pod.metadata.labels!["app"]!);
  }

  #remove(pod: Pod): void {
    const { namespace, name } = pod.metadata;
    this.api.delete(COLLECTION.pods, namespace!, name);
    // One that had finished gave its address back then.
    if (isLive(pod)) this.#free.push(pod.status!.podIP!);
    this.touch(namespace!, pod.metadata.labels!["app"]!);
  }

  /** A pod is gone at once, and another has its address at once. */
  snatch(): void {
    const victims = this.pods().filter(isLive);
    if (victims.length === 0) return;
    const victim = this.#chance.of(victims);
    const heir = this.#chance.of(this.apps);
    if (this.#chance.happens(0.3)) {
      // It stays to be seen, finished, and its status still names the address.
      this.api.put(COLLECTION.pods, {
        ...victim,
        status: { ...victim.status, phase: "Succeeded" },
      } as KubeObject);
      this.#free.push(victim.status!.podIP!);
      this.touch(victim.metadata.namespace!, victim.metadata.labels!["app"]!);
    } else this.#remove(victim);
    heir.replicas += heir.replicas < 4 ? 1 : 0;
    this.#create(heir);
  }

  /** Pods that had finished are cleared away. */
  sweep(): void {
    for (const pod of this.pods()) if (!isLive(pod)) this.#remove(pod);
  }

  scale(): void {
    const app = this.#chance.of(this.apps);
    app.replicas = this.#chance.between(0, 3);
  }

  roll(): void {
    for (const app of this.#chance.some(this.apps, 0.4)) app.version += 1;
  }

  // ---- Services and slices ----

  #service(app: App): void {
    const { namespace, name } = app;
    if (this.api.get(COLLECTION.services, namespace, name)) return;
    const clusterIP = this.#clusterIps.pop();
    if (clusterIP === undefined) return;
    this.api.put(COLLECTION.services, {
      metadata: { name, namespace },
      spec: {
        clusterIP,
        clusterIPs: [clusterIP],
        ipFamilies: ["IPv4"],
        selector: { app: name },
        ports: [{ name: "http", port: 80, targetPort: PORT }],
      },
    } as KubeObject);
    this.touch(namespace, name);
  }

  service(): void {
    const app = this.#chance.of(this.apps);
    const { namespace, name } = app;
    const service = this.api.get<Service>(COLLECTION.services, namespace, name);
    if (!service) this.#service(app);
    else if (this.#chance.happens(0.4)) {
      this.api.delete(COLLECTION.services, namespace, name);
      this.#clusterIps.unshift(service.spec.clusterIP!);
      this.touch(namespace, name);
    } else {
      const port = this.#chance.of([80, 81]);
      const { "config.linkerd.io/opaque-ports": _, ...others } = service.metadata.annotations ?? {};
      const annotations = this.#chance.happens(0.5)
        ? { ...others, "config.linkerd.io/opaque-ports": String(port) }
        : others;
      const spec = { ...service.spec, ports: [{ name: "http", port, targetPort: PORT }] };
      this.api.put(COLLECTION.services, {
        ...service,
        metadata: { ...service.metadata, annotations },
        spec,
      } as Service);
    }
  }

  /** Services that are gone come back, most of them. */
  restore(): void {
    for (const app of this.apps) if (this.#chance.happens(0.8)) this.#service(app);
  }

  /** Kubernetes looks at the slices of a Service some time after its pods have changed. */
  touch(namespace: string, name: string): void {
    const key = `${namespace}/${name}`;
    if (this.#pendingSlices.has(key)) return;
    this.#pendingSlices.add(key);
    this.#scheduler.after(this.#chance.between(1, 1_500), () => {
      this.#pendingSlices.delete(key);
      this.#writeSlices(namespace, name);
    });
  }

  #writeSlices(namespace: string, name: string): void {
    const exists = this.api.get(COLLECTION.services, namespace, name) !== undefined;
    const pods = this.pods().filter(
      (pod) => pod.metadata.namespace === namespace && pod.metadata.labels?.["app"] === name && isLive(pod),
    );
    const halves = pods.length > 2 ? [pods.slice(0, 2), pods.slice(2)] : [pods, []];
    halves.forEach((half, at) => {
      const sliceName = `${name}-${at}`;
      const old = this.api.get<EndpointSlice>(COLLECTION.slices, namespace, sliceName);
      if (!exists || (at > 0 && half.length === 0)) {
        this.api.delete(COLLECTION.slices, namespace, sliceName);
        return;
      }
      const endpoints = half.map(({ metadata, spec, status }) => ({
        addresses: [status!.podIP!],
        conditions: {
          ready: metadata.deletionTimestamp === undefined,
          serving: true,
          terminating: metadata.deletionTimestamp !== undefined,
        },
        nodeName: spec.nodeName!,
        zone: spec.nodeName === "n1" ? "east" : "west",
        targetRef: { kind: "Pod", name: metadata.name, namespace, uid: metadata.uid! },
      }));
      if (old && JSON.stringify(old.endpoints) === JSON.stringify(endpoints)) return;
      this.api.put(COLLECTION.slices, {
        metadata: { name: sliceName, namespace, labels: { "kubernetes.io/service-name": name } },
        addressType: "IPv4",
        endpoints,
        ports: [{ name: "http", port: PORT, protocol: "TCP" }],
      } as unknown as KubeObject);
    });
  }

  // ---- ExternalWorkloads ----

  workload(): void {
    const name = this.#chance.of(["vm-1", "vm-2"]);
    const namespace = this.#chance.of(NAMESPACES);
    const old = this.api.get(COLLECTION.workloads, namespace, name);
    if (old && this.#chance.happens(0.4)) {
      this.api.delete(COLLECTION.workloads, namespace, name);
      return;
    }
    const identity = `spiffe://external/${namespace}/${name}`;
    this.api.put(COLLECTION.workloads, {
      ...old,
      metadata: { ...old?.metadata, name, namespace, labels: { app: this.#chance.of(["web", "db"]) } },
      spec: {
        meshTLS: { identity, serverName: `${name}.${namespace}.external` },
        workloadIPs: [{ ip: `172.16.${NAMESPACES.indexOf(namespace)}.${name === "vm-1" ? 1 : 2}` }],
        ports: [{ name: "http", port: PORT }],
      },
      status: { conditions: [{ type: "Ready", status: this.#chance.happens(0.7) ? "True" : "False" }] },
    } as unknown as KubeObject);
  }
}
