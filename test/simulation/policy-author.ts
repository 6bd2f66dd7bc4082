// What users of a simulated cluster write of policy: who may call whom, and where traffic goes. Objects come, refer to
// others that are there or not, change their mind and go; so do their definitions.
import type { KubeObject, Service } from "../../src/kube/types.ts";
import type { Chance } from "../support/chance.ts";
import type { SimulatedApiServer } from "./api-server.ts";
import { type App, COLLECTION, identityOf, NAMESPACES, PORT } from "./cluster.ts";
import type { Scheduler } from "./time.ts";

/** Whom a port lets in. */
const INBOUND = [
  "servers",
  "serverAuthorizations",
  "policies",
  "meshTls",
  "networks",
  "routes",
  "rateLimits",
] as const;
/** Where traffic goes. */
const OUTBOUND = ["routes", "grpcRoutes", "splits", "profiles", "egressNetworks"] as const;
type Kind = (typeof INBOUND)[number] | (typeof OUTBOUND)[number];
type Direction = "inbound" | "outbound";

/** Which are written how often: without Servers the others say little. */
const CHOICE: Readonly<Record<Direction, readonly Kind[]>> = {
  inbound: [...INBOUND, "servers", "servers", "policies", "policies", "policies", "meshTls", "routes"],
  outbound: [...OUTBOUND, "routes", "routes", "routes", "splits", "profiles"],
};
/** Names that objects of a kind have, where there are more than two. */
const NAMES: Partial<Record<Kind, number>> = { policies: 6, routes: 3 };

const DEFAULTS = ["deny", "all-unauthenticated", "all-authenticated", "cluster-unauthenticated"];
const ANNOTATIONS: readonly Readonly<Record<string, string>>[] = [
  {},
  { "retry.linkerd.io/http": "5xx" },
  { "timeout.linkerd.io/request": "2s" },
  { "balancer.linkerd.io/failure-accrual": "consecutive" },
  // Two that are not understood, and must be told of.
  { "retry.linkerd.io/htpp": "5xx" },
  { "timeout.linkerd.io/request": "soon" },
];

/** An address outside the cluster. */
export const OUTSIDE = "172.30.0.1";

export class PolicyAuthor {
  readonly #api: SimulatedApiServer;
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  readonly #apps: readonly App[];
  /** Which way the routes lead that are written now. */
  #direction: Direction = "inbound";

  constructor(api: SimulatedApiServer, scheduler: Scheduler, chance: Chance, apps: readonly App[]) {
    this.#api = api;
    this.#scheduler = scheduler;
    this.#chance = chance;
    this.#apps = apps;
    for (const name of NAMESPACES) this.#namespace(name, undefined);
    // Most definitions are there from the beginning; others come later.
    for (const kind of new Set([...INBOUND, ...OUTBOUND]))
      if (chance.happens(0.75)) api.serve(COLLECTION[kind]);
  }

  /** What can be said of a matter is said from the beginning. */
  begin(direction: Direction): void {
    this.#direction = direction;
    for (const kind of new Set(CHOICE[direction])) {
      this.#api.serve(COLLECTION[kind]);
      for (const namespace of NAMESPACES)
        for (const name of this.#namesOf(kind)) this.#put(kind, namespace, name);
    }
  }

  /** One object is written, changed or deleted; a definition that is missing comes first. */
  write(direction: Direction): void {
    this.#direction = direction;
    const chance = this.#chance;
    const namespace = chance.of(NAMESPACES);
    if (chance.happens(0.15)) {
      if (direction === "inbound") this.#namespace(namespace, chance.of([undefined, ...DEFAULTS]));
      else this.#annotate(namespace);
      return;
    }
    const kind = chance.of(CHOICE[direction]);
    const collection = COLLECTION[kind];
    if (!this.#api.served.has(collection)) this.#api.serve(collection);
    else if (chance.happens(0.02)) this.#api.withdraw(collection);
    else {
      const name = chance.of(this.#namesOf(kind));
      if (this.#api.get(collection, namespace, name) && chance.happens(0.35)) {
        this.#api.delete(collection, namespace, name);
        // At times another one is there under the same name at once.
        if (chance.happens(0.75)) return;
      }
      this.#put(kind, namespace, name);
    }
  }

  /** A namespace's default policy is changed again and again. */
  flap(times: number, every: number): void {
    const name = this.#chance.of(NAMESPACES);
    for (let at = 0; at < times; at += 1)
      this.#scheduler.after(at * every, () =>
        this.#namespace(name, at % 2 === 0 ? "deny" : "all-authenticated"),
      );
  }

  #namespace(name: string, policy: string | undefined): void {
    this.#api.put(COLLECTION.namespaces, {
      metadata: {
        name,
        annotations: policy === undefined ? {} : { "config.linkerd.io/default-inbound-policy": policy },
      },
    } as KubeObject);
  }

  /** Retries, timeouts and circuit breaking of a Service's clients. */
  #annotate(namespace: string): void {
    const services = this.#api
      .list<Service>(COLLECTION.services)
      .filter(({ metadata }) => metadata.namespace === namespace);
    if (services.length === 0) return;
    const service = this.#chance.of(services);
    const annotations = { ...this.#chance.of(ANNOTATIONS) };
    this.#api.put(COLLECTION.services, { ...service, metadata: { ...service.metadata, annotations } });
  }

  #namesOf(kind: Kind): string[] {
    if (kind === "profiles")
      return this.#apps.map(({ name, namespace }) => `${name}.${namespace}.svc.cluster.local`);
    return Array.from({ length: NAMES[kind] ?? 2 }, (_, at) => `${kind}-${at + 1}`);
  }

  #put(kind: Kind, namespace: string, name: string): void {
    const collection = COLLECTION[kind];
    const old = this.#api.get<KubeObject & { status?: object }>(collection, namespace, name);
    const annotated = kind === "routes" || kind === "egressNetworks";
    this.#api.put(collection, {
      apiVersion: collection.split("/").slice(2, 4).join("/"),
      metadata: {
        ...old?.metadata,
        name,
        namespace,
        generation: (Number(old?.metadata.generation) || 0) + 1,
        annotations: annotated && this.#chance.happens(0.3) ? this.#chance.of(ANNOTATIONS) : {},
      },
      spec: this.#spec(kind, namespace, name),
      ...(old?.status ? { status: old.status } : {}),
    } as unknown as KubeObject);
  }

  #spec(kind: Kind, namespace: string, name: string): object {
    const chance = this.#chance;
    const number = chance.between(1, 2);
    const server = { group: "policy.linkerd.io", kind: "Server", name: `servers-${number}` };
    const accounts = this.#apps.map((app) => identityOf(app.namespace, app.name));
    switch (kind) {
      case "servers":
        return {
          // At times both select the same: the older one speaks then.
          podSelector: { matchLabels: { app: chance.happens(0.2) !== name.endsWith("1") ? "web" : "db" } },
          port: chance.of([PORT, "http"]),
          proxyProtocol: chance.of(["HTTP/1", "HTTP/1", "unknown", "unknown", "opaque"]),
          ...(chance.happens(0.2) ? { accessPolicy: chance.of(DEFAULTS) } : {}),
        };
      case "serverAuthorizations":
        return {
          server: { name: server.name },
          client: chance.happens(0.5)
            ? { meshTLS: { identities: chance.some(accounts, 0.5) } }
            : { unauthenticated: true, networks: [{ cidr: chance.of(["10.1.0.0/16", "192.168.0.0/16"]) }] },
        };
      case "policies":
        return {
          targetRef: chance.happens(0.6)
            ? {
                group: "gateway.networking.k8s.io",
                kind: "HTTPRoute",
                name: `routes-${chance.between(1, 3)}`,
              }
            : chance.happens(0.8)
              ? server
              : { group: "core", kind: "Namespace", name: namespace },
          requiredAuthenticationRefs: [
            chance.happens(0.6)
              ? { group: "policy.linkerd.io", kind: "MeshTLSAuthentication", name: `meshTls-${number}` }
              : { group: "policy.linkerd.io", kind: "NetworkAuthentication", name: `networks-${number}` },
          ],
        };
      case "meshTls":
        return { identities: chance.happens(0.2) ? ["*"] : [chance.of(accounts), chance.of(accounts)] };
      case "networks":
        return { networks: [{ cidr: chance.of(["10.1.0.0/16", "192.168.0.0/16", "0.0.0.0/0"]) }] };
      case "rateLimits":
        return { targetRef: server, total: { requestsPerSecond: chance.between(1, 100) } };
      case "routes":
        return this.#direction === "inbound" && chance.happens(0.85)
          ? { parentRefs: [server], rules: [{ matches: [this.#path()] }] }
          : { parentRefs: [this.#parent(namespace)], rules: this.#rules() };
      case "grpcRoutes":
        return chance.happens(0.4)
          ? { parentRefs: [server], rules: [{}] }
          : { parentRefs: [this.#parent(namespace)], rules: [{}] };
      case "splits":
        return {
          service: chance.of(["web", "db"]),
          backends: [
            { service: chance.of(["web", "db", "gone"]), weight: chance.between(0, 3) },
            { service: chance.of(["plain", "web"]), weight: 1 },
          ],
        };
      case "profiles":
        return {
          routes: chance.happens(0.5)
            ? [{ name: `r${number}`, condition: { pathRegex: "/x" }, isRetryable: chance.happens(0.5) }]
            : [],
          ...(chance.happens(0.3)
            ? { dstOverrides: [{ authority: "db.a.svc.cluster.local:80", weight: number }] }
            : {}),
          ...(chance.happens(0.3) ? { opaquePorts: ["80"] } : {}),
        };
      case "egressNetworks":
        return {
          trafficPolicy: chance.of(["Allow", "Deny"]),
          ...(chance.happens(0.7)
            ? { networks: [{ cidr: chance.of(["172.30.0.0/16", "172.30.0.0/24", "10.1.0.0/16"]) }] }
            : {}),
        };
    }
  }

  #path(): object {
    return { path: { type: "PathPrefix", value: this.#chance.of(["/", "/x"]) } };
  }

  /** Of a route of its own namespace, which is its producer's, or of another's, of which it is a consumer's. */
  #parent(namespace: string): object {
    const chance = this.#chance;
    if (chance.happens(0.15))
      return {
        group: "policy.linkerd.io",
        kind: "EgressNetwork",
        name: `egressNetworks-${chance.between(1, 2)}`,
      };
    return {
      group: "core",
      kind: "Service",
      name: chance.of(["web", "web", "db"]),
      namespace: chance.happens(0.4) ? chance.of(NAMESPACES) : namespace,
      ...(chance.happens(0.7) ? { port: 80 } : {}),
    };
  }

  #rules(): object[] {
    const chance = this.#chance;
    return Array.from({ length: chance.between(1, 2) }, () => ({
      matches: [this.#path()],
      ...(chance.happens(0.5)
        ? {
            backendRefs: chance.some(["web", "db", "plain", "gone"], 0.5).map((name) => ({
              name,
              namespace: chance.of(NAMESPACES),
              port: 80,
              weight: chance.between(0, 2),
            })),
          }
        : {}),
      ...(chance.happens(0.2) ? { timeouts: { request: chance.of(["1s", "2s"]) } } : {}),
    }));
  }
}
