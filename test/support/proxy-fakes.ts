// Stand-ins for the proxy's control side, so that its data path runs on loopback without a cluster: discovery that
// is told its answers, certificates made on the spot, and original destinations by table.
import { X509Certificate } from "node:crypto";
import type * as net from "node:net";
import { addressKey, addressOf, networkOf } from "../../src/api/address.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { createIssuer, createRoot, generateKey, issueLeaf } from "../../src/pki/index.ts";
import { createInbound, type InboundOptions } from "../../src/proxy/inbound/index.ts";
import { createOutbound, type OutboundOptions } from "../../src/proxy/outbound/index.ts";
import type {
  Credentials,
  DataPathConfig,
  DestinationProfile,
  Discovery,
  EndpointSet,
  IdentitySource,
  OriginalDestination,
  OutboundPolicy,
  Server,
  Watch,
  WeightedAddr,
} from "../../src/proxy/ports.ts";
import { createCredentials } from "../../src/proxy/transport/credentials.ts";
import { systemClock } from "../../src/util/clock.ts";

/** A watch whose value tests set. */
export class FakeWatch<T> implements Watch<T> {
  current: T | undefined;
  readonly ready: Promise<void>;
  closed = false;
  #resolve!: () => void;
  readonly #subscribers = new Set<(value: T) => void>();

  constructor(value?: T) {
    this.ready = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (value !== undefined) this.set(value);
  }

  set(value: T): void {
    this.current = value;
    this.#resolve();
    for (const fn of [...this.#subscribers]) fn(value);
  }

  subscribe(fn: (value: T) => void): () => void {
    this.#subscribers.add(fn);
    return () => void this.#subscribers.delete(fn);
  }

  close(): void {
    this.closed = true;
  }
}

const emptyProfile: DestinationProfile = {
  fullyQualifiedName: "",
  opaqueProtocol: false,
  routes: [],
  dstOverrides: [],
};

export interface FakeEndpoint {
  readonly ip?: string;
  readonly port: number;
  /** Identity and server name of the peer's proxy. */
  readonly identity?: string;
  readonly serverName?: string;
  /** The peer's inbound port, for opaque traffic with a transport header. */
  readonly inboundPort?: number;
  /** The peer's proxy takes HTTP/2, also for HTTP/1 requests. */
  readonly h2?: boolean;
  readonly labels?: Record<string, string>;
  readonly weight?: number;
}

function weightedAddr(endpoint: FakeEndpoint): WeightedAddr {
  const {
    ip = "127.0.0.1",
    port,
    identity,
    serverName,
    inboundPort,
    h2,
    labels = {},
    weight = 10_000,
  } = endpoint;
  return {
    addr: addressOf(ip, port),
    weight,
    metricLabels: labels,
    ...(identity
      ? {
          tlsIdentity: {
            dnsLikeIdentity: { name: identity },
            serverName: { name: serverName ?? identity },
          },
        }
      : {}),
    ...(inboundPort || h2
      ? {
          protocolHint: {
            ...(inboundPort ? { opaqueTransport: { inboundPort } } : {}),
            ...(h2 ? { h2: {} } : {}),
          },
        }
      : {}),
  };
}

export function endpointSet(endpoints: readonly FakeEndpoint[], exists = true): EndpointSet {
  return {
    exists,
    endpoints: new Map(endpoints.map((e) => [addressKey(e.ip ?? "127.0.0.1", e.port), weightedAddr(e)])),
    metricLabels: {},
  };
}

export type Clients = "all" | "authenticated" | "none" | readonly string[];

/** A server policy that admits `clients` on any network. */
export function serverPolicy(
  clients: Clients = "all",
  kind: "detect" | "opaque" | "http1" | "http2" | "tls" = "detect",
): Server {
  const networks = [networkOf("0.0.0.0/0"), networkOf("::/0")].map((net) => ({ net, except: [] }));
  const authentication =
    clients === "all"
      ? { unauthenticated: {} }
      : {
          meshTLS: {
            identities: {
              identities: Array.isArray(clients) ? clients.map((name) => ({ name })) : [],
              suffixes: clients === "authenticated" ? [{ parts: [] }] : [],
            },
          },
        };
  const name = typeof clients === "string" ? clients : "named";
  return {
    protocol:
      kind === "opaque"
        ? { opaque: {} }
        : kind === "tls"
          ? { tls: {} }
          : kind === "http1" || kind === "http2"
            ? { [kind]: { routes: [] } }
            : { detect: { httpRoutes: [] } },
    serverIps: [],
    authorizations:
      clients === "none"
        ? []
        : [
            {
              networks,
              authentication,
              labels: { group: "", kind: "default", name },
              metadata: { default: name },
            },
          ],
    labels: { group: "", kind: "default", name },
  };
}

export class FakeDiscovery implements Discovery {
  readonly profiles = new Map<string, FakeWatch<DestinationProfile | null>>();
  readonly policies = new Map<string, FakeWatch<OutboundPolicy | null>>();
  readonly sets = new Map<string, FakeWatch<EndpointSet>>();
  readonly servers = new Map<number, FakeWatch<Server>>();

  profile(ip: string, port: number): Watch<DestinationProfile | null> {
    return this.profileOf(`${ip}:${port}`);
  }
  outboundPolicy(ip: string, port: number): Watch<OutboundPolicy | null> {
    return entry(this.policies, `${ip}:${port}`, () => new FakeWatch<OutboundPolicy | null>(null));
  }
  endpoints(path: string): Watch<EndpointSet> {
    return this.endpointsOf(path);
  }
  serverPolicy(port: number): Watch<Server> {
    return this.serverOf(port);
  }

  profileOf(address: string): FakeWatch<DestinationProfile | null> {
    return entry(this.profiles, address, () => new FakeWatch<DestinationProfile | null>(null));
  }
  endpointsOf(path: string): FakeWatch<EndpointSet> {
    return entry(this.sets, path, () => new FakeWatch<EndpointSet>());
  }
  serverOf(port: number): FakeWatch<Server> {
    return entry(this.servers, port, () => new FakeWatch(serverPolicy()));
  }

  /** Makes `address` a service with these endpoints. */
  service(
    address: string,
    name: string,
    endpoints: readonly FakeEndpoint[],
    opaque = false,
  ): FakeWatch<EndpointSet> {
    const port = address.slice(address.lastIndexOf(":") + 1);
    this.profileOf(address).set({ ...emptyProfile, fullyQualifiedName: name, opaqueProtocol: opaque });
    const watch = this.endpointsOf(`${name}:${port}`);
    watch.set(endpointSet(endpoints));
    return watch;
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

/** A certificate authority of its own. */
export function createAuthority() {
  const now = Date.now();
  const root = createRoot({ commonName: "root.test", lifetimeMs: 3_600_000, now });
  const rootAuthority = { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey };
  const issued = createIssuer({
    commonName: "identity.test",
    root: rootAuthority,
    lifetimeMs: 3_600_000,
    now,
  });
  const issuer = { certificate: new X509Certificate(issued.der), privateKey: issued.key.privateKey };
  return {
    /** PEM */
    anchors: root.pem,
    /** @param anchors whom it trusts */
    credentials(name: string, anchors = root.pem): Credentials {
      const key = generateKey();
      const spki = key.publicKey.export({ type: "spki", format: "der" });
      const leaf = issueLeaf({
        issuer,
        spki,
        dnsName: name,
        lifetimeMs: 3_600_000,
        skewMs: 20_000,
        now: Date.now(),
      });
      return createCredentials({
        key: key.privateKey.export({ type: "pkcs8", format: "pem" }) as string,
        chain: `${leaf.pem}${issued.pem}`,
        anchors,
        expiresAt: leaf.notAfter,
      });
    },
    identity(name: string): FakeIdentity {
      return new FakeIdentity(name, this.credentials(name));
    },
  };
}

export class FakeIdentity implements IdentitySource {
  readonly localName: string;
  current: Credentials | undefined;
  ready: Promise<void> = Promise.resolve();
  constructor(localName: string, credentials?: Credentials) {
    this.localName = localName;
    this.current = credentials;
  }
  subscribe(): () => void {
    return () => {};
  }
}

/** Every connection was meant for `to`. */
function redirectedTo(to: { ip: string; port: number } | undefined): OriginalDestination & {
  to: { ip: string; port: number } | undefined;
} {
  return {
    to,
    of(_socket: net.Socket) {
      return this.to;
    },
  };
}

const baseConfig: DataPathConfig = {
  listen: [{ ip: "127.0.0.1", port: 0 }],
  connectTimeout: 1_000,
  detectTimeout: 10_000,
  poolIdleTimeout: 3_000,
  poolMaxIdle: 10_000,
  failfastTimeout: 3_000,
  queueCapacity: 10_000,
  maxInFlight: 100_000,
  idleTimeout: 3_600_000,
  backlog: 4_096,
  maxConnections: 10_000,
  keepAlive: 0,
  acceptKeepAlive: 0,
  userTimeout: 0,
  acceptUserTimeout: 0,
  discoveryIdleTimeout: 5_000,
  connectBackoff: { min: 100, max: 60_000, jitter: 0.1 },
  drainGrace: 50,
  http2: {
    keepAlive: { interval: 10_000, timeout: 3_000, whileIdle: false },
    streamWindow: 262_144,
    connectionWindow: 1_048_576,
    maxStreams: 1_000,
  },
};

type Overrides<T extends { config: unknown }> = Partial<Omit<T, "config">> & {
  config?: Partial<T["config"]>;
};

/** An inbound side on a free loopback port. */
export async function startInbound(
  to: { ip: string; port: number } | undefined,
  options: Overrides<InboundOptions> = {},
) {
  const registry = new Registry();
  const discovery = new FakeDiscovery();
  const originalDestination = redirectedTo(to);
  const path = createInbound({
    discovery,
    identity: new FakeIdentity("unused.test"),
    originalDestination,
    registry,
    clock: systemClock,
    log: createLogger({ level: "off" }),
    ...options,
    config: { ...baseConfig, ips: [], identityPorts: [], ...options.config },
  });
  await path.listen();
  return { path, registry, discovery, originalDestination, port: path.addresses[0]!.port };
}

/** An outbound side on a free loopback port. */
export async function startOutbound(
  to: { ip: string; port: number } | undefined,
  options: Overrides<OutboundOptions> = {},
) {
  const registry = new Registry();
  const discovery = new FakeDiscovery();
  const originalDestination = redirectedTo(to);
  const path = createOutbound({
    discovery,
    identity: new FakeIdentity("unused.test"),
    originalDestination,
    registry,
    clock: systemClock,
    log: createLogger({ level: "off" }),
    ...options,
    config: {
      ...baseConfig,
      profileTimeout: 500,
      policyTimeout: 3_000,
      inboundPort: 4143,
      localIps: [],
      refuseLoopback: false,
      connectionQueue: {
        capacity: 10_000,
        failfastTimeout: options.config?.failfastTimeout ?? baseConfig.failfastTimeout,
      },
      ...options.config,
    },
  });
  await path.listen();
  return { path, registry, discovery, originalDestination, port: path.addresses[0]!.port };
}
