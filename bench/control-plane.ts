// A control plane for proxies under test: identities, services with endpoints that can change, server policies. It
// answers what the real one would, from what it is told instead of from a cluster.
import { addressOf } from "../src/api/address.ts";
import type { MessageOf, Partially } from "../src/api/codec.ts";
import * as destination from "../src/api/destination.ts";
import { GrpcError, STATUS } from "../src/api/grpc-status.ts";
import { Certify } from "../src/api/identity.ts";
import * as inbound from "../src/api/inbound.ts";
import * as outbound from "../src/api/outbound.ts";
import { durationOf, timestampOf } from "../src/api/time.ts";
import { GrpcServer, type Sender } from "../src/controller/grpc-server.ts";
import { createLogger } from "../src/log/logger.ts";
import { CLUSTER_DOMAIN } from "../src/manifests/names.ts";
import { Registry } from "../src/metrics/registry.ts";
import { parseCsr } from "../src/pki/index.ts";
import { type DefaultPolicy, defaultServer } from "../src/rules/default-policy.ts";
import { outboundPolicy } from "../src/rules/outbound-policy.ts";
import { NO_TRAFFIC_SETTINGS } from "../src/rules/traffic-annotations.ts";
import { Authority } from "../test/support/identity-service.ts";
import { sleep } from "./harness.ts";

const NAMESPACE = "bench";
/** What the real control plane gives every endpoint. */
const WEIGHT = 10_000;
const RETRY_BUDGET = { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: durationOf(10_000) };

export interface EndpointSpec {
  readonly port: number;
  /** Meshed: who it must prove to be. */
  readonly identity?: string | undefined;
  /** Meshed: where its proxy takes opaque connections. */
  readonly inboundPort?: number | undefined;
  readonly pod?: string;
}

export interface ServiceSpec {
  /** Bytes of it are not to be interpreted. */
  readonly opaque?: boolean;
  readonly endpoints: readonly EndpointSpec[];
}

/** A service as the bench knows it: an address that clients call, and endpoints behind it. */
export class Service {
  readonly name: string;
  readonly ip: string;
  readonly port = 80;
  readonly opaque: boolean;
  readonly #watchers = new Set<Sender<MessageOf<typeof destination.Update>>>();
  #endpoints: readonly EndpointSpec[];

  constructor(index: number, { opaque, endpoints }: ServiceSpec) {
    this.name = `service-${index}`;
    this.ip = `10.99.${index >> 8}.${index & 255}`;
    this.opaque = opaque ?? false;
    this.#endpoints = endpoints;
  }

  get authority(): string {
    return `${this.name}.${NAMESPACE}.svc.${CLUSTER_DOMAIN}:${this.port}`;
  }

  /** Tells all who watch what is new and what is gone. */
  setEndpoints(endpoints: readonly EndpointSpec[]): void {
    const gone = this.#endpoints.filter((old) => !endpoints.some(({ port }) => port === old.port));
    this.#endpoints = endpoints;
    for (const watcher of this.#watchers) {
      watcher.send(this.#added());
      if (gone.length > 0)
        watcher.send({ remove: { addrs: gone.map(({ port }) => addressOf("127.0.0.1", port)) } });
    }
  }

  watch(sender: Sender<MessageOf<typeof destination.Update>>): void {
    this.#watchers.add(sender);
    sender.whenClosed(() => this.#watchers.delete(sender));
    sender.send(this.#added());
  }

  #added(): Partially<MessageOf<typeof destination.Update>> {
    const addrs = this.#endpoints.map((endpoint) => this.#addressOf(endpoint));
    return { add: { addrs, metricLabels: { service: this.name, namespace: NAMESPACE } } };
  }

  #addressOf({ port, identity, inboundPort, pod }: EndpointSpec) {
    const addr = addressOf("127.0.0.1", port);
    const metricLabels = { namespace: NAMESPACE, pod: pod ?? `${this.name}-0`, deployment: this.name };
    if (identity === undefined) return { addr, weight: WEIGHT, metricLabels };
    return {
      addr,
      weight: WEIGHT,
      metricLabels,
      tlsIdentity: { dnsLikeIdentity: { name: identity }, serverName: { name: identity } },
      protocolHint: {
        ...(this.opaque ? { opaque: {} } : { h2: {} }),
        ...(inboundPort === undefined ? {} : { opaqueTransport: { inboundPort } }),
      },
    };
  }
}

/** How a port of a workload takes connections. */
export interface ServerSpec {
  readonly opaque?: boolean;
  readonly policy?: DefaultPolicy;
}

export interface ControlPlaneOptions {
  /** How long leaf certificates live, ms. */
  readonly leafLifetime?: number;
}

const newServer = () => new GrpcServer({ log: createLogger({ level: "off" }), registry: new Registry() });

export class ControlPlane {
  readonly authority = new Authority("root.bench");
  port = 0;
  /** Certificates given out. */
  certified = 0;
  #server = newServer();
  readonly #services: Service[] = [];
  readonly #servers = new Map<string, ServerSpec>();
  readonly #leafLifetime: number;

  private constructor({ leafLifetime = 24 * 3_600_000 }: ControlPlaneOptions) {
    this.#leafLifetime = leafLifetime;
    this.#serve();
  }

  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const plane = new ControlPlane(options);
    plane.port = await plane.#server.listen(0, "127.0.0.1");
    return plane;
  }

  addService(spec: ServiceSpec): Service {
    const service = new Service(this.#services.length + 1, spec);
    this.#services.push(service);
    return service;
  }

  /** @param workload the proxy's token, LINKERD2_PROXY_POLICY_WORKLOAD */
  setServer(workload: string, spec: ServerSpec): void {
    this.#servers.set(workload, spec);
  }

  /** Goes away for `ms` at least, and comes back at the same port with what it knew. */
  async restart(ms: number): Promise<void> {
    const gone = sleep(ms);
    await this.#server.close();
    await gone;
    this.#server = newServer();
    this.#serve();
    await this.#server.listen(this.port, "127.0.0.1");
  }

  close(): Promise<void> {
    return this.#server.close();
  }

  #serviceAt(address: string): Service {
    const service = this.#services.find(
      ({ ip, port, authority }) => address === `${ip}:${port}` || address === authority,
    );
    if (!service) throw new GrpcError(STATUS.NOT_FOUND, `no service at ${address}`);
    return service;
  }

  #serve(): void {
    const server = this.#server;
    server.unary(Certify, ({ identity, certificateSigningRequest }) => {
      this.certified += 1;
      const { spki } = parseCsr(certificateSigningRequest);
      const leaf = this.authority.leaf(spki, identity, this.#leafLifetime);
      return {
        leafCertificate: leaf.der,
        intermediateCertificates: [this.authority.issuerDer],
        validUntil: timestampOf(leaf.notAfter),
      };
    });
    server.stream(destination.GetProfile, ({ path }, sender) => {
      const { name, port, opaque } = this.#serviceAt(path);
      sender.send({
        fullyQualifiedName: `${name}.${NAMESPACE}.svc.${CLUSTER_DOMAIN}`,
        opaqueProtocol: opaque,
        retryBudget: RETRY_BUDGET,
        parentRef: { resource: { group: "", kind: "Service", name, namespace: NAMESPACE, port } },
      });
    });
    server.stream(destination.Get, ({ path }, sender) => this.#serviceAt(path).watch(sender));
    server.stream(outbound.Watch, ({ addr }, sender) => {
      const { ipv4 = 0 } = addr?.ip ?? {};
      const service = this.#serviceAt(`10.99.${(ipv4 >> 8) & 255}.${ipv4 & 255}:${addr?.port}`);
      const { name, port, opaque } = service;
      sender.send(
        outboundPolicy({
          parent: { kind: "Service", namespace: NAMESPACE, name, port, appProtocol: undefined, opaque },
          traffic: NO_TRAFFIC_SETTINGS,
          routes: [],
          split: [],
          backendProblem: () => undefined,
          clusterDomain: CLUSTER_DOMAIN,
          allowHeaders: false,
        }),
      );
    });
    server.stream(inbound.WatchPort, ({ workload }, sender) => {
      const { opaque = false, policy = "all-unauthenticated" } = this.#servers.get(workload) ?? {};
      sender.send(defaultServer({ policy, clusterNetworks: [], opaque, probes: [] }));
    });
  }
}
