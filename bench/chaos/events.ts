// What happens to the mesh in a chaos run: each event by its name, made by what an operator, a kernel or a network
// would do.
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { isGone, type KubeClient } from "../../src/kube/index.ts";
import { COMPONENTS, ISSUER_SECRET, MESH_NAMESPACE } from "../../src/manifests/names.ts";
import { createIssuer, createRoot, type IssuedWithKey } from "../../src/pki/index.ts";
import type { MeshSandbox } from "../../test/support/mesh-sandbox.ts";
import { NAMESPACE, TIERS, type Tier } from "./application.ts";

/** How often each happens, of all. */
export const SHARES = {
  /** SIGKILL of a controller's process. */
  kill: 0.28,
  /** SIGKILL of the proxy of a controller. */
  "kill-proxy": 0.12,
  /** Graceful deletion of a pod of the control plane. */
  delete: 0.08,
  /** Rolling restart of a controller. */
  "restart-controller": 0.02,
  /** Rolling restart of all controllers at once. */
  "restart-controllers": 0.01,
  /** Rolling restart of a tier of the application. */
  rollout: 0.16,
  scale: 0.1,
  /** Graceful deletion of a pod of the application. */
  "delete-application": 0.05,
  /** All connections to the API server are reset. */
  "cut-api": 0.06,
  /** The API server is away from the pods, and has forgotten the past when it is back: watches are answered by 410. */
  "restart-api": 0.04,
  policy: 0.04,
  issuer: 0.02,
  /** A pod of the control plane can neither send nor receive. */
  partition: 0.02,
} as const;
export type EventName = keyof typeof SHARES;
export const EVENTS = Object.keys(SHARES) as EventName[];

/** The API server is away for at least as long, ms. */
const API_AWAY = 4_000;
const PARTITION = 6_000;
const MAX_REPLICAS = 4;
const DAY = 86_400_000;
const SLICES = `/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`;
const API_PORT = "6443";

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly deletionTimestamp?: string;
  };
  readonly status: { readonly podIP?: string };
}

const components = Object.values(COMPONENTS);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The root of the mesh under test, kept so that issuers can be replaced. */
export class Issuers {
  readonly root = createRoot({ commonName: "root.cluster.local", lifetimeMs: 30 * DAY, now: Date.now() });

  next(): IssuedWithKey {
    const { der, key } = this.root;
    return createIssuer({
      root: { certificate: new X509Certificate(der), privateKey: key.privateKey },
      commonName: `identity.${MESH_NAMESPACE}.cluster.local`,
      lifetimeMs: 10 * DAY,
      now: Date.now(),
    });
  }
}

export class Chaos {
  readonly #sandbox: MeshSandbox;
  readonly #api: KubeClient;
  readonly #issuers: Issuers;
  readonly #random: () => number;
  readonly #replicas: number;
  /** Components that were not hurt since all were. */
  readonly #spared: (typeof components)[number][] = [];
  #policies = 0;

  /** @param replicas of each tier at rest */
  constructor(
    sandbox: MeshSandbox,
    api: KubeClient,
    issuers: Issuers,
    random: () => number,
    replicas: number,
  ) {
    this.#sandbox = sandbox;
    this.#api = api;
    this.#issuers = issuers;
    this.#random = random;
    this.#replicas = replicas;
  }

  /** @returns what it was done to */
  async make(event: EventName): Promise<string> {
    switch (event) {
      case "kill":
        return this.#kill(false);
      case "kill-proxy":
        return this.#kill(true);
      case "delete":
        return this.#delete(MESH_NAMESPACE, this.#component().workload);
      case "restart-controller":
        return this.#restart(MESH_NAMESPACE, this.#component().workload);
      case "restart-controllers":
        return components.map(({ workload }) => this.#restart(MESH_NAMESPACE, workload)).join();
      case "rollout":
        return this.#restart(NAMESPACE, this.#one(TIERS));
      case "scale":
        return this.#scale(this.#one(TIERS));
      case "delete-application":
        return this.#deleteOfTier(this.#one(TIERS));
      case "cut-api":
        return this.#cutApi();
      case "restart-api":
        return this.#restartApi();
      case "policy":
        return this.#policy();
      case "issuer":
        return this.#issuer();
      case "partition":
        return this.#partition();
    }
  }

  /** Everything as it was at the beginning. */
  async rest(): Promise<void> {
    for (const tier of TIERS)
      this.#kubectl("scale", "-n", NAMESPACE, `deploy/${tier}`, `--replicas=${this.#replicas}`);
  }

  #one<T>(of: readonly T[]): T {
    return of[Math.floor(this.#random() * of.length)]!;
  }

  /** By chance, but each as often as the others. */
  #component(): (typeof components)[number] {
    if (this.#spared.length === 0) this.#spared.push(...components);
    return this.#spared.splice(Math.floor(this.#random() * this.#spared.length), 1)[0]!;
  }

  #kubectl(...args: string[]): string {
    return this.#sandbox.ask(...args);
  }

  /** Those of a Deployment that are not leaving. */
  #pods(namespace: string, workload: string): Pod[] {
    const { items } = this.#sandbox.json<{ items: Pod[] }>("get", "pods", "-n", namespace);
    return items.filter(
      ({ metadata }) => metadata.name.startsWith(`${workload}-`) && metadata.deletionTimestamp === undefined,
    );
  }

  #kill(proxy: boolean): string {
    const { name, workload } = this.#component();
    const pod = this.#one(this.#pods(MESH_NAMESPACE, workload));
    const program = `dist/entry/${proxy ? "proxy" : name}.js`;
    const found = pod ? this.#processes(pod, program) : [];
    if (found.length === 0) return `${pod?.metadata.name ?? workload} (not running)`;
    execFileSync("kill", ["-9", ...found.map(String)]);
    return pod!.metadata.name;
  }

  /** Ids of the pod's processes of a program. */
  #processes(pod: Pod, program: string): number[] {
    const tree = this.#sandbox.tree();
    const above = new Map(tree.map((process) => [process.id, process]));
    return tree
      .filter(
        ({ parent, args }) =>
          args.startsWith("node ") &&
          args.includes(program) &&
          above.get(parent)?.args.includes(`/pods/${pod.metadata.uid}/`),
      )
      .map(({ id }) => id);
  }

  #delete(namespace: string, workload: string): string {
    const pod = this.#one(this.#pods(namespace, workload));
    if (!pod) return `${workload} (no pod)`;
    this.#kubectl("delete", "pod", "-n", namespace, pod.metadata.name, "--wait=false");
    return pod.metadata.name;
  }

  /** Not the last one that serves: an application without a pod fails by itself. */
  #deleteOfTier(tier: Tier): string {
    if (this.#serving(tier) < 2) return `${tier} (has one only)`;
    return this.#delete(NAMESPACE, tier);
  }

  #serving(tier: Tier): number {
    return Number(
      this.#kubectl("get", "deploy", "-n", NAMESPACE, tier, "-o", "jsonpath={.status.readyReplicas}") || 0,
    );
  }

  #restart(namespace: string, workload: string): string {
    this.#kubectl("rollout", "restart", "-n", namespace, `deploy/${workload}`);
    return workload;
  }

  #scale(tier: Tier): string {
    const replicas = this.#replicas + Math.floor(this.#random() * (MAX_REPLICAS - this.#replicas + 1));
    this.#kubectl("scale", "-n", NAMESPACE, `deploy/${tier}`, `--replicas=${replicas}`);
    return `${tier} to ${replicas}`;
  }

  #cutApi(): string {
    return `${this.#reset("sport", API_PORT)} connections`;
  }

  /** Resets the node's connections of a port. @returns how many there were */
  #reset(side: "sport" | "dport", port: string): number {
    const filter = ["state", "established", side, "=", `:${port}`];
    const count = this.#sandbox.node("ss", "-Htn", ...filter).split("\n").length - 1;
    if (count > 0) this.#sandbox.node("ss", "-K", ...filter);
    return count;
  }

  async #restartApi(): Promise<string> {
    const version = (await this.#api.request(SLICES)) as { metadata: { resourceVersion: string } };
    const refuse = ["INPUT", "-i", "mesh0", "-p", "tcp", "--dport", API_PORT];
    const how = ["-j", "REJECT", "--reject-with", "tcp-reset"];
    this.#sandbox.node("iptables", "-I", ...refuse, ...how);
    const began = performance.now();
    try {
      this.#reset("sport", API_PORT);
      // Changes that nobody hears of, and nobody will be told of later.
      this.#kubectl("annotate", "endpointslices", "-n", NAMESPACE, "--all", "--overwrite", `chaos=${began}`);
      this.#sandbox.compact();
      await sleep(API_AWAY);
    } finally {
      this.#sandbox.node("iptables", "-D", ...refuse, ...how);
    }
    const away = ((performance.now() - began) / 1_000).toFixed(1);
    const gone = await this.#isGone(version.metadata.resourceVersion);
    if (!gone) throw new Error("the API server remembers what it should have forgotten: no 410");
    return `away for ${away} s, then 410`;
  }

  async #isGone(resourceVersion: string): Promise<boolean> {
    try {
      const watch = this.#api.watch(SLICES, { query: { resourceVersion, timeoutSeconds: 1 } });
      for await (const _ of watch) return false;
      return false;
    } catch (error) {
      return isGone(error);
    }
  }

  /** A Server of `api` whose default lets the meshed in, then none, then a route with a timeout that nobody reaches. */
  #policy(): string {
    this.#policies += 1;
    const metadata = (name: string) => ({ name, namespace: NAMESPACE });
    const server = {
      apiVersion: "policy.linkerd.io/v1beta3",
      kind: "Server",
      metadata: metadata("api"),
      spec: {
        podSelector: { matchLabels: { app: "api" } },
        port: 8080,
        proxyProtocol: "HTTP/1",
        accessPolicy: this.#policies % 4 === 1 ? "all-authenticated" : "cluster-unauthenticated",
      },
    };
    const route = {
      apiVersion: "policy.linkerd.io/v1beta3",
      kind: "HTTPRoute",
      metadata: metadata("api"),
      spec: {
        parentRefs: [{ group: "core", kind: "Service", name: "api", port: 80 }],
        rules: [
          { backendRefs: [{ name: "api", port: 80 }], timeouts: { request: `${20 + this.#policies}s` } },
        ],
      },
    };
    if (this.#policies % 4 === 0) {
      this.#kubectl(
        "delete",
        "-n",
        NAMESPACE,
        "servers.policy.linkerd.io/api",
        "httproutes.policy.linkerd.io/api",
      );
      return "none";
    }
    this.#sandbox.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items: [server, route] }));
    return `${server.spec.accessPolicy}, ${route.spec.rules[0]!.timeouts.request}`;
  }

  #issuer(): string {
    const { pem, keyPem } = this.#issuers.next();
    this.#kubectl(
      "patch",
      "secret",
      "-n",
      MESH_NAMESPACE,
      ISSUER_SECRET,
      "-p",
      JSON.stringify({ stringData: { "crt.pem": pem, "key.pem": keyPem } }),
    );
    return "a new one of the same root";
  }

  async #partition(): Promise<string> {
    const { workload } = this.#component();
    const pod = this.#one(this.#pods(MESH_NAMESPACE, workload));
    const inside = pod && this.#processes(pod, "dist/entry/")[0];
    if (inside === undefined) return `${workload} (not running)`;
    const rules = [
      ["INPUT", "!", "-i", "lo", "-j", "DROP"],
      ["OUTPUT", "!", "-o", "lo", "-j", "DROP"],
    ];
    for (const rule of rules) this.#sandbox.pod(inside, "iptables", "-I", ...rule);
    await sleep(PARTITION);
    const still = this.#processes(pod, "dist/entry/")[0];
    // A pod that has ended meanwhile took its rules along.
    if (still !== undefined) for (const rule of rules) this.#sandbox.pod(still, "iptables", "-D", ...rule);
    return pod.metadata.name;
  }
}
