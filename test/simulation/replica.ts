// One replica of a controller: the real process with all that it is made of, on a simulated machine.
import type { Duplex } from "node:stream";
import type { Endpoint } from "../../src/controller/destination/address.ts";
import type {
  Client,
  DestinationIndex,
  EndpointChange,
  Subscription,
} from "../../src/controller/destination/index.ts";
import { type DestinationController, setUpDestination } from "../../src/controller/destination/main.ts";
import { setUpIdentity } from "../../src/controller/identity/main.ts";
import { type PolicyController, setUpPolicy } from "../../src/controller/policy/main.ts";
import { type Controller, type ControllerProcess, createController } from "../../src/controller/process.ts";
import type { ReadFile } from "../../src/controller/watched-file.ts";
import { KubeClient } from "../../src/kube/client.ts";
import type { LeaderElection } from "../../src/kube/lease.ts";
import type { Reflector } from "../../src/kube/reflector.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { COLLECTION, MESH } from "./cluster.ts";
import { MAX_QUEUED, type Machine } from "./network.ts";
import type { Rule } from "./rules.ts";
import type { Theme } from "./themes.ts";
import { MachineClock } from "./time.ts";
import type { World } from "./world.ts";

export const ROLES = ["destination", "policy", "identity"] as const;
export type Role = (typeof ROLES)[number];

/** Of a certificate, and what its clocks may differ, ms. */
export const LIFETIME = 180_000;
export const SKEW = 20_000;

const ENV = {
  MESH_NAMESPACE: MESH,
  MESH_CLUSTER_NETWORKS: "10.0.0.0/8",
  MESH_DEFAULT_OPAQUE_PORTS: "3306",
  MESH_ISSUANCE_LIFETIME: `${LIFETIME}ms`,
  MESH_CLOCK_SKEW_ALLOWANCE: `${SKEW}ms`,
  MESH_ISSUER_DIR: "issuer",
  MESH_TRUST_ROOTS_FILE: "anchors",
};

/** Breaks something in a replica, to see that it is noticed. */
export interface Mutation {
  readonly name: string;
  /** The rules that it breaks, each in some simulations of the theme. */
  readonly breaks: readonly Rule[];
  readonly theme: Theme;
  /** What a subscriber may have waiting, bytes. */
  readonly maxQueued?: number;
  /** What its controllers are made of. */
  process?(process: ControllerProcess): Partial<ControllerProcess>;
  destination?(controller: DestinationController): void;
  policy?(controller: PolicyController): void;
  election?(election: LeaderElection): LeaderElection;
  /** Made for each replica of identity. */
  files?(read: ReadFile): ReadFile;
}

/** Somebody in the replica's own process who watches a Service, and keeps what it is told. */
class Probe {
  readonly told = new Map<string, Endpoint>();
  readonly subscription: Subscription;

  constructor(index: DestinationIndex, namespace: string, service: string, port: number) {
    const client: Client = {};
    this.subscription = index.watchEndpoints({ namespace, service, port }, client, {
      update: ({ added, removed }: EndpointChange) => {
        for (const { ip, port: at } of removed) this.told.delete(`${ip}:${at}`);
        for (const endpoint of added) this.told.set(`${endpoint.ip}:${endpoint.port}`, endpoint);
      },
    });
  }
}

export class Replica implements Machine {
  readonly name: string;
  readonly role: Role;
  readonly clock: MachineClock;
  accept: ((socket: Duplex) => void) | undefined;
  lag = 0;
  deaf = false;
  readonly reflectors = new Map<string, Reflector>();
  readonly elections: { readonly name: string; readonly election: LeaderElection }[] = [];
  readonly probes: Probe[] = [];
  destination: DestinationController | undefined;
  policy: PolicyController | undefined;
  readonly #controller: Controller;
  leaving = false;

  constructor(world: World, role: Role, name: string) {
    this.name = name;
    this.role = role;
    this.clock = new MachineClock(world.scheduler, world.chance.machines);
    const { mutation } = world;
    const log = createLogger({
      level: world.verbose ? "info" : "off",
      write: (line) => world.say(`${name}: ${line}`),
      now: this.clock.now,
    });
    const client = new KubeClient(
      {
        server: "http://api",
        basePath: "",
        tls: {},
        context: "simulated",
        namespace: MESH,
        headers: async () => ({}),
      },
      { transport: world.api.transport(this), clock: this.clock },
    );
    this.#controller = createController({
      env: ENV,
      log,
      client,
      registry: new Registry(),
      port: 0,
      clock: this.clock,
      identity: name,
      limits: { maxQueued: mutation?.maxQueued ?? MAX_QUEUED },
      listen: async (server) => {
        this.accept = (socket) => server.accept(socket);
        world.trace(`${name} serves`);
      },
    });
    this.#start(world);
  }

  get ready(): boolean {
    return this.clock.running && this.accept !== undefined && !this.leaving;
  }

  #start(world: World): void {
    const controller = this.#controller;
    const { mutation } = world;
    const process: ControllerProcess = {
      ...controller,
      ...mutation?.process?.(controller),
      reflect: (options) => {
        const reflector = controller.reflect(options);
        if (!options.labelSelector) this.reflectors.set(options.path, reflector as unknown as Reflector);
        return reflector;
      },
      elect: (name) => {
        const election = controller.elect(name);
        const seen = mutation?.election?.(election) ?? election;
        this.elections.push({ name, election: seen });
        seen.onChange((leading) => world.trace(`${this.name} ${leading ? "leads" : "leads no more"}`));
        return seen;
      },
    };
    if (this.role === "destination") {
      this.destination = setUpDestination(process);
      mutation?.destination?.(this.destination);
      for (const { namespace, name } of world.cluster.apps)
        this.probes.push(new Probe(this.destination.index, namespace, name, 80));
    } else if (this.role === "policy") {
      this.policy = setUpPolicy(process);
      mutation?.policy?.(this.policy);
    } else {
      const read = (file: string) => world.authority.file(file);
      void setUpIdentity(process, mutation?.files?.(read) ?? read);
    }
  }

  /** Its own view of the pods: all that it was told of. */
  pods(): Iterable<unknown> {
    return this.reflectors.get(COLLECTION.pods)?.list() ?? [];
  }

  stop(): Promise<void> {
    this.leaving = true;
    return this.#controller.stop();
  }
}
