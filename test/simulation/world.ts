// A whole simulated mesh: cluster and API server, replicas of the controllers, proxies of the meshed pods, and the network
// between them. Everything that happens leaves a line in the trace.
import { createHash } from "node:crypto";
import type { Pod, Service } from "../../src/kube/types.ts";
import { Chance } from "../support/chance.ts";
import { API, SimulatedApiServer, type Write } from "./api-server.ts";
import { MeshAuthority } from "./authority.ts";
import { Cluster, COLLECTION, isLive, isMeshed } from "./cluster.ts";
import { type Machine, Network } from "./network.ts";
import { PolicyAuthor } from "./policy-author.ts";
import { type Heard, VirtualProxy } from "./proxy.ts";
import { type Mutation, Replica, ROLES, type Role } from "./replica.ts";
import type { Rule } from "./rules.ts";
import { type Theme, themeOf } from "./themes.ts";
import { Scheduler } from "./time.ts";

export interface WorldOptions {
  readonly seed: number;
  readonly verbose: boolean;
  readonly mutation: Mutation | undefined;
}

export interface Broken {
  readonly rule: Rule;
  /** With the time. */
  readonly text: string;
}

/** What a proxy was answered. */
export interface Answer {
  readonly proxy: VirtualProxy;
  /** Path of the method. */
  readonly method: string;
  readonly message: unknown;
  readonly heard: Heard | undefined;
}

/** Replicas of each controller. */
const REPLICAS = 2;

export class World {
  readonly verbose: boolean;
  readonly mutation: Mutation | undefined;
  readonly scheduler = new Scheduler();
  /** Streams of chance that do not disturb each other: what happens, and how long it takes. */
  readonly chance: { readonly faults: Chance; readonly cluster: Chance; readonly machines: Chance };
  readonly network: Network;
  readonly api: SimulatedApiServer;
  readonly cluster: Cluster;
  readonly policy: PolicyAuthor;
  readonly authority = new MeshAuthority();
  readonly replicas = new Map<string, Replica>();
  readonly proxies = new Map<string, VirtualProxy>();
  readonly theme: Theme;
  /** Rules that were broken. */
  readonly broken: Broken[] = [];
  readonly #hash = createHash("sha256");
  readonly #machines = new Map<string, Machine>();
  #made = 0;
  /** Whether the proxies of new pods start by themselves. */
  open = true;
  onAnswer: (answer: Answer) => void = () => {};
  onWrite: (write: Write) => void = () => {};

  constructor({ seed, verbose, mutation }: WorldOptions) {
    this.verbose = verbose;
    this.theme = themeOf(seed);
    this.mutation = mutation;
    const stream = (name: number) => new Chance(Math.imul(seed, 0x9e3779b1) + Math.imul(name, 0x85ebca6b));
    this.chance = { faults: stream(1), cluster: stream(2), machines: stream(3) };
    this.network = new Network(this.scheduler, stream(4));
    this.api = new SimulatedApiServer(this.scheduler, stream(5), this.network);
    this.network.onDelivery = ({ machine, peer }, madeAt) => {
      const proxy = this.proxies.get(machine.name);
      // A replica that is lost meanwhile is heard still: what it had sent is on its way.
      const from = peer.machine;
      if (proxy && from instanceof Replica) proxy.heard[from.role] = { replica: from.name, madeAt };
    };
    this.api.review = (token) => {
      const [namespace, account] = token.split(":");
      return { username: `system:serviceaccount:${namespace}:${account}` };
    };
    this.api.onWrite = (write) => {
      this.trace(`${write.machine} writes a ${write.what}`);
      this.onWrite(write);
    };
    this.cluster = new Cluster(this.api, this.scheduler, this.chance.cluster);
    this.policy = new PolicyAuthor(this.api, this.scheduler, this.chance.cluster, this.cluster.apps);
    if (this.theme === "authorization" || this.theme === "leaders") this.policy.begin("inbound");
    if (this.theme === "traffic" || this.theme === "leaders") this.policy.begin("outbound");
    for (const role of ROLES) for (let at = 0; at < REPLICAS; at += 1) this.addReplica(role);
    this.attendPods();
  }

  /** A line of the trace: what happened, and when. */
  trace(line: string): void {
    this.#hash.update(`${this.scheduler.now} ${line}\n`);
    if (this.verbose) this.say(line);
  }

  say(line: string): void {
    process.stdout.write(`${(this.scheduler.now / 1_000).toFixed(3).padStart(9)} ${line.trimEnd()}\n`);
  }

  /** Of all that was traced so far. */
  get hash(): string {
    return this.#hash.copy().digest("hex");
  }

  /** @param what is not as the rule would have it */
  break(rule: Rule, what: string): void {
    this.trace(`BROKEN ${rule}: ${what}`);
    this.broken.push({ rule, text: `at ${(this.scheduler.now / 1_000).toFixed(3)} s, ${rule}: ${what}` });
  }

  machine(name: string): Machine {
    return this.#machines.get(name)!;
  }

  // ---- replicas ----

  addReplica(role: Role): Replica {
    const replica = new Replica(this, role, `${role}-${++this.#made}`);
    this.replicas.set(replica.name, replica);
    this.#machines.set(replica.name, replica);
    return replica;
  }

  /** As DNS has them. */
  replicasOf(role: Role): string[] {
    return [...this.replicas.values()]
      .filter((each) => each.role === role && each.ready)
      .map(({ name }) => name);
  }

  loseReplica(replica: Replica, silently: boolean): void {
    this.trace(`${replica.name} is lost`);
    this.network.lose(replica, silently);
    this.replicas.delete(replica.name);
  }

  // ---- proxies ----

  /** Proxies begin with their pods and end with them. */
  attendPods(): void {
    const pods = new Map(
      this.cluster
        .pods()
        .filter((pod) => isMeshed(pod) && isLive(pod))
        .map((pod) => [pod.metadata.uid!, pod] as const),
    );
    for (const proxy of [...this.proxies.values()])
      if (!pods.has(proxy.pod.metadata.uid!)) this.loseProxy(proxy, false);
    if (!this.open) return;
    const served = new Set([...this.proxies.values()].map(({ pod }) => pod.metadata.uid!));
    for (const [uid, pod] of pods) if (!served.has(uid)) this.addProxy(pod);
  }

  addProxy(pod: Pod): void {
    const { namespace, name } = pod.metadata;
    const proxy = new VirtualProxy(this, pod, `proxy-${namespace}-${name}-${++this.#made}`);
    this.proxies.set(proxy.name, proxy);
    this.#machines.set(proxy.name, proxy);
  }

  loseProxy(proxy: VirtualProxy, silently: boolean): void {
    this.trace(`${proxy.name} ends`);
    if (!silently) proxy.close();
    this.network.lose(proxy, silently);
    this.proxies.delete(proxy.name);
  }

  /** A proxy uses a Service, wherever that is now. */
  use(proxy: VirtualProxy, namespace: string, name: string): void {
    const service = this.api.get<Service>(COLLECTION.services, namespace, name);
    proxy.use(`${name}.${namespace}.svc.cluster.local:80`, service?.spec.clusterIP);
  }

  /** Links that may be cut: proxies and replicas, replicas and the API server. */
  links(): (readonly [string, string])[] {
    const replicas = [...this.replicas.keys()];
    return [
      ...replicas.map((name) => [name, API] as const),
      ...[...this.proxies.keys()].flatMap((proxy) => replicas.map((name) => [proxy, name] as const)),
    ];
  }
}
