// A virtual proxy: the real clients of the control plane and the real identity, in a simulated pod. What it would do with
// traffic is what it holds.
import type { Pod } from "../../src/kube/types.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { chooseReplica } from "../../src/proxy/control/connector.ts";
import { GrpcClient } from "../../src/proxy/control/grpc-client.ts";
import { ControlDiscovery } from "../../src/proxy/control/index.ts";
import { Identity } from "../../src/proxy/identity/index.ts";
import { TrustAnchors } from "../../src/proxy/identity/trust-anchors.ts";
import type {
  DestinationProfile,
  EndpointSet,
  OutboundPolicy,
  Server,
  Watch,
} from "../../src/proxy/ports.ts";
import { identityOf, PORT } from "./cluster.ts";
import type { Machine } from "./network.ts";
import type { Role } from "./replica.ts";
import { MachineClock } from "./time.ts";
import type { World } from "./world.ts";

/** From whom a proxy heard last, and when that was sent. */
export interface Heard {
  readonly replica: string;
  readonly sentAt: number;
}

export class VirtualProxy implements Machine {
  readonly name: string;
  readonly pod: Pod;
  readonly clock: MachineClock;
  readonly accept = undefined;
  lag = 0;
  deaf = false;
  readonly heard: Partial<Record<Role, Heard>> = {};
  readonly endpoints = new Map<string, Watch<EndpointSet>>();
  readonly profiles = new Map<string, Watch<DestinationProfile | null>>();
  readonly outbound = new Map<string, Watch<OutboundPolicy | null>>();
  /** The policy of its port, and what the last word on it was. */
  server: Watch<Server> | undefined;
  serverWord: (Heard & { readonly server: Server }) | undefined;
  identity: Identity | undefined;
  discovery: ControlDiscovery | undefined;
  readonly #world: World;
  readonly #clients: GrpcClient[] = [];
  #anchors: TrustAnchors | undefined;
  #closed = false;

  constructor(world: World, pod: Pod, name: string) {
    this.#world = world;
    this.pod = pod;
    this.name = name;
    this.clock = new MachineClock(world.scheduler, world.chance.machines);
    void this.#start();
  }

  get localName(): string {
    return identityOf(this.pod.metadata.namespace!, this.pod.spec.serviceAccountName!);
  }

  async #start(): Promise<void> {
    const { clock, pod } = this;
    const world = this.#world;
    const { namespace, name, uid } = pod.metadata;
    const log = createLogger({
      level: world.verbose ? "info" : "off",
      write: (line) => world.say(`${this.name}: ${line}`),
      now: clock.now,
    });
    const registry = new Registry();
    const anchors = await TrustAnchors.start({
      fallback: "",
      file: "anchors",
      readFile: async () => world.authority.file("anchors"),
      clock,
      log,
      onChange: () => this.identity?.rebuild(),
    });
    this.#anchors = anchors;
    if (this.#closed) return;
    const client = (role: Role, admitted: () => Promise<void>) => {
      const last = {};
      const made = new GrpcClient({
        authority: `mesh-${role}:1`,
        clock,
        log,
        registry,
        connect: async () => {
          await admitted();
          const addresses = world.replicasOf(role);
          if (addresses.length === 0) throw new Error(`mesh-${role} has no address`);
          const replica = world.machine(chooseReplica(addresses, last, clock.random));
          return world.network.connect(this, replica);
        },
      });
      this.#clients.push(made);
      return made;
    };
    const identity = new Identity({
      localName: this.localName,
      tokenFile: "token",
      readFile: async () => Buffer.from(`${namespace}:${pod.spec.serviceAccountName}:${uid}`),
      client: client("identity", async () => {}),
      anchors,
      clock,
      log,
      registry,
      minRefresh: 1_000,
      maxRefresh: 24 * 3_600_000,
    });
    this.identity = identity;
    identity.subscribe(({ expiresAt }) => world.certified(this, expiresAt));
    const certified = async () => {
      await identity.ready;
      if (identity.current!.expiresAt <= clock.now()) throw new Error("the certificate has expired");
    };
    this.discovery = new ControlDiscovery({
      destination: client("destination", certified),
      policy: client("policy", certified),
      clock,
      context: JSON.stringify({ ns: namespace, nodeName: pod.spec.nodeName, pod: name }),
      workload: JSON.stringify({ ns: namespace, pod: name }),
      profiled: () => true,
      profileTimeout: 500,
      streamTimeout: 3_000,
      defaultPolicy: "all-unauthenticated",
      clusterNetworks: ["10.0.0.0/8"],
      opaquePorts: [],
    });
    identity.start();
    this.server = this.discovery.serverPolicy(PORT);
    this.server.subscribe((server) => {
      const heard = this.heard.policy;
      this.serverWord = heard && { ...heard, server };
      world.trace(`${this.name} policy ${JSON.stringify(server.labels)} ${server.authorizations.length}`);
    });
  }

  /** Begins to use a Service, by its name and by an address. */
  use(path: string, ip: string | undefined): void {
    const { discovery } = this;
    if (!discovery || this.endpoints.has(path)) return;
    const endpoints = discovery.endpoints(path);
    this.endpoints.set(path, endpoints);
    endpoints.subscribe((set) =>
      this.#world.trace(`${this.name} ${path} ${set.exists} ${[...set.endpoints.keys()].join(",")}`),
    );
    if (ip === undefined) return;
    if (!this.profiles.has(ip)) this.profiles.set(ip, discovery.profile(ip, 80));
    if (!this.outbound.has(ip)) this.outbound.set(ip, discovery.outboundPolicy(ip, 80));
  }

  /** Uses a Service no more. */
  forget(path: string): void {
    this.endpoints.get(path)?.close();
    this.endpoints.delete(path);
  }

  close(): void {
    this.#closed = true;
    this.discovery?.close();
    this.identity?.stop();
    this.#anchors?.stop();
    for (const client of this.#clients) client.close();
  }
}
