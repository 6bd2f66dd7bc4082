// A virtual proxy: the real clients of the control plane and the real identity, in a simulated pod. What it would do with
// traffic is what it holds.

import type { Method, Partially } from "../../src/api/codec.ts";
import { Certify } from "../../src/api/identity.ts";
import type { Pod } from "../../src/kube/types.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { createCsr } from "../../src/pki/csr.ts";
import { generateKey } from "../../src/pki/key.ts";
import { chooseReplica } from "../../src/proxy/control/connector.ts";
import { type CallHandler, GrpcClient, type GrpcClientOptions } from "../../src/proxy/control/grpc-client.ts";
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
import { OUTSIDE } from "./policy-author.ts";
import type { Role } from "./replica.ts";
import { MachineClock } from "./time.ts";
import type { World } from "./world.ts";

/** Tells what it is answered, before it takes it. */
class OverheardClient extends GrpcClient {
  readonly #hear: (method: string, message: unknown) => void;

  constructor(options: GrpcClientOptions, hear: (method: string, message: unknown) => void) {
    super(options);
    this.#hear = hear;
  }

  override call<Q, R>(method: Method<Q, R>, request: Partially<Q>, handler: CallHandler<R>): () => void {
    return super.call(method, request, {
      onMessage: (message) => {
        this.#hear(method.path, message);
        handler.onMessage(message);
      },
      onEnd: (error) => handler.onEnd(error),
    });
  }
}

/** From whom a proxy heard last, and when that was made. */
export interface Heard {
  readonly replica: string;
  readonly madeAt: number;
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
  /** By address and port. */
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
  /** A second client of identity, for requests that must not be granted. */
  #certifier: GrpcClient | undefined;
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

  /** Of its ServiceAccount. */
  get #token(): Buffer {
    const { metadata, spec } = this.pod;
    return Buffer.from(`${metadata.namespace}:${spec.serviceAccountName}:${metadata.uid}`);
  }

  async #start(): Promise<void> {
    const { clock, pod } = this;
    const world = this.#world;
    const { namespace, name } = pod.metadata;
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
      const connect = async () => {
        await admitted();
        const addresses = world.replicasOf(role);
        if (addresses.length === 0) throw new Error(`mesh-${role} has no address`);
        const replica = world.machine(chooseReplica(addresses, last, clock.random));
        return world.network.connect(this, replica);
      };
      const made = new OverheardClient(
        { authority: `mesh-${role}:1`, clock, log, registry, connect },
        (method, message) => world.onAnswer({ proxy: this, method, message, heard: this.heard[role] }),
      );
      this.#clients.push(made);
      return made;
    };
    this.#certifier = client("identity", async () => {});
    const identity = new Identity({
      localName: this.localName,
      tokenFile: "token",
      readFile: async () => this.#token,
      client: client("identity", async () => {}),
      anchors,
      clock,
      log,
      registry,
      minRefresh: 1_000,
      maxRefresh: 24 * 3_600_000,
    });
    this.identity = identity;
    identity.subscribe(() => world.trace(`${this.name} is certified`));
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
    this.ask(ip, 80);
    for (const address of [ip, OUTSIDE])
      if (!this.outbound.has(address)) this.outbound.set(address, discovery.outboundPolicy(address, 80));
  }

  /** Asks what an address is. */
  ask(ip: string, port: number): void {
    const { discovery, profiles } = this;
    const key = `${ip}:${port}`;
    if (discovery && !profiles.has(key)) profiles.set(key, discovery.profile(ip, port));
  }

  /** Asks for another's certificate, by its own token. @param granted what must not be */
  pretend(name: string, granted: () => void): void {
    const request = {
      identity: name,
      token: this.#token,
      certificateSigningRequest: createCsr({ key: generateKey(), dnsName: name }),
    };
    this.#certifier?.unary(Certify, request, 5_000).then(granted, () => {});
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
