// The proxy's configuration: LINKERD2_PROXY_* from the environment, checked as a whole before anything starts.

import { parseCertificates } from "../pki/pem.ts";
import { DEFAULT_POLICIES, type DefaultPolicy, isDefaultPolicy } from "../rules/default-policy.ts";
import { parseDuration } from "../util/duration.ts";
import { errorMessage } from "../util/error.ts";
import { type Cidr, canonicalIp, cidrHas, parseCidr, parseIp } from "../util/ip.ts";
import { type PortRange, parsePortSet } from "../util/port-set.ts";
import type { DataPathConfig, InboundConfig, OutboundConfig } from "./ports.ts";

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** A service of the control plane: where it is and who it must prove to be. */
export interface ControlService {
  readonly host: string;
  readonly port: number;
  /** undefined: on the loopback interface, without TLS. */
  readonly name: string | undefined;
}

export interface ProxyConfig {
  readonly log: string;
  readonly logFormat: "plain" | "json";
  readonly inbound: InboundConfig & {
    readonly ports: readonly number[];
    readonly opaquePorts: readonly PortRange[];
    readonly defaultPolicy: DefaultPolicy;
  };
  readonly outbound: OutboundConfig;
  readonly admin: ListenAddress;
  readonly shutdown: { readonly endpointEnabled: boolean; readonly gracePeriod: number };
  readonly identity: {
    readonly localName: string;
    readonly tokenFile: string;
    /** PEM from the environment. */
    readonly trustAnchors: string;
    /** Followed while it exists; wins over the environment. */
    readonly trustAnchorsFile: string | undefined;
    readonly service: ControlService;
    readonly minRefresh: number;
    readonly maxRefresh: number;
  };
  readonly destination: {
    readonly service: ControlService;
    readonly context: string;
    readonly profileNetworks: readonly Cidr[];
  };
  readonly policy: {
    readonly service: ControlService;
    readonly workload: string;
    readonly clusterNetworks: readonly string[];
  };
  readonly metricsRetainIdle: number;
  /** Bytes in buffers beyond which nothing new is taken on; undefined: by the memory that the process may have. */
  readonly maxBufferBytes: number | undefined;
  /** Where taps are served, and to which identity; undefined: nowhere. */
  readonly tap: (ListenAddress & { readonly client: string }) | undefined;
  readonly accessLog: "apache" | "json" | undefined;
  /** undefined: no spans are made. */
  readonly trace:
    | {
        readonly collector: ControlService;
        readonly serviceName: string;
        /** A file of `key="value"` lines, as the downward API writes labels. */
        readonly attributesPath: string | undefined;
        readonly extraAttributes: string | undefined;
        /** Of requests without a context, so many begin a trace, 0 to 1. This proxy's own setting. */
        readonly samplingRatio: number;
      }
    | undefined;
}

/** Names without the prefix that this proxy takes note of but that change nothing in it. */
const WITHOUT_EFFECT = new Set([
  "CONTROL_STREAM_IDLE_TIMEOUT",
  "CONTROL_STREAM_LIFETIME",
  "CORES",
  "CORES_MIN",
  "CORES_MAX",
  "CORES_MAX_RATIO",
  "IDENTITY_DIR",
  "OUTBOUND_METRICS_HOSTNAME_LABELS",
  "OUTBOUND_LISTEN_ADDR",
  "TRACE_PROTOCOL",
]);

/** A configuration that cannot be used; the process ends with 64. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

const PREFIX = "LINKERD2_PROXY_";

/** What a client may send before it is used, bytes, and how many requests it may have open on a connection. */
const DEFAULT_STREAM_WINDOW = 256 * 1024;
const DEFAULT_CONNECTION_WINDOW = 1024 * 1024;
const DEFAULT_MAX_STREAMS = 1_000;

/** What may wait for an endpoint, of a balancer (reference/data-planes.md §1.8). */
const QUEUE_CAPACITY = 10_000;

/** Longer than any pool of clients keeps connections: those that are closed here are forgotten, ms. */
const HTTP_IDLE_TIMEOUT = 3_600_000;

/** Accepted connections of a side, with about 20 KB each. */
const DEFAULT_MAX_CONNECTIONS = 10_000;

/** Peers hear of a pod's end over the API server; until then they may still connect to it, ms. */
const DRAIN_GRACE = 2_000;

/**
 * Reads the whole configuration.
 * @param warn told of names that are not known, which have no effect
 * @throws ConfigError with every problem, each naming its variable
 */
export function readConfig(env: NodeJS.ProcessEnv, warn: (message: string) => void): ProxyConfig {
  const problems: string[] = [];
  const used = new Set<string>();
  const raw = (name: string): string | undefined => {
    used.add(name);
    const value = env[PREFIX + name]?.trim();
    return value === "" ? undefined : value;
  };
  const read = <T>(name: string, fallback: T, parse: (text: string) => T): T => {
    const text = raw(name);
    if (text === undefined) return fallback;
    try {
      return parse(text);
    } catch (error) {
      problems.push(`${PREFIX}${name}: ${errorMessage(error)}`);
      return fallback;
    }
  };
  const required = (name: string): string => {
    const text = raw(name);
    if (text === undefined) problems.push(`${PREFIX}${name}: expected a value, it is not set`);
    return text ?? "";
  };
  const certificates = (name: string): string => {
    required(name);
    return read(name, "", (text) => {
      parseCertificates(text);
      return text;
    });
  };
  const duration = (name: string, fallback: number) => read(name, fallback, parseDuration);
  const list = (text: string) =>
    text
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "");
  const addresses = (text: string) => list(text).map(canonicalIp);
  const service = (name: string): ControlService => {
    const address = required(`${name}_SVC_ADDR`);
    const serverName = raw(`${name}_SVC_NAME`);
    const parsed = read(`${name}_SVC_ADDR`, { host: "", port: 0 }, parseAddress);
    const local = isLoopback(parsed.host);
    if (address !== "" && !local && serverName === undefined) {
      problems.push(
        `${PREFIX}${name}_SVC_NAME: expected the service's identity, since ${address} is not on the loopback interface`,
      );
    }
    return { ...parsed, name: local ? undefined : serverName };
  };

  const inboundListen = read("INBOUND_LISTEN_ADDR", { ip: "0.0.0.0", port: 4143 }, listenAddress);
  /** What both directions have; defaults are Linkerd's (reference/data-planes.md §1.8, §1.12). */
  const dataPath = (
    direction: "INBOUND" | "OUTBOUND",
    defaults: Pick<
      DataPathConfig,
      "connectTimeout" | "failfastTimeout" | "discoveryIdleTimeout" | "keepAlive"
    > & { backoffMax: number },
  ) => ({
    connectTimeout: duration(`${direction}_CONNECT_TIMEOUT`, defaults.connectTimeout),
    detectTimeout: duration(`${direction}_DETECT_TIMEOUT`, 10_000),
    poolIdleTimeout: duration(`${direction}_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT`, 3_000),
    poolMaxIdle: read(
      `${direction === "INBOUND" ? "" : "OUTBOUND_"}MAX_IDLE_CONNS_PER_ENDPOINT`,
      10_000,
      positive,
    ),
    failfastTimeout: duration(`${direction}_HTTP_FAILFAST_TIMEOUT`, defaults.failfastTimeout),
    queueCapacity: read(`${direction}_HTTP_QUEUE_CAPACITY`, QUEUE_CAPACITY, positive),
    maxInFlight: read(`${direction}_MAX_IN_FLIGHT`, 100_000, positive),
    maxConnections: read(`${direction}_MAX_CONNECTIONS`, DEFAULT_MAX_CONNECTIONS, positive),
    idleTimeout: duration(`${direction}_HTTP_IDLE_TIMEOUT`, HTTP_IDLE_TIMEOUT),
    backlog: read(`${direction}_TCP_LISTEN_BACKLOG`, 4_096, positive),
    keepAlive: duration(`${direction}_CONNECT_KEEPALIVE`, defaults.keepAlive),
    acceptKeepAlive: duration(`${direction}_ACCEPT_KEEPALIVE`, 0),
    userTimeout: duration(`${direction}_CONNECT_USER_TIMEOUT`, 0),
    acceptUserTimeout: duration(`${direction}_ACCEPT_USER_TIMEOUT`, 0),
    discoveryIdleTimeout: duration(`${direction}_DISCOVERY_IDLE_TIMEOUT`, defaults.discoveryIdleTimeout),
    connectBackoff: {
      min: duration(`${direction}_CONNECT_EXP_BACKOFF_MIN`, 100),
      max: duration(`${direction}_CONNECT_EXP_BACKOFF_MAX`, defaults.backoffMax),
      jitter: read(`${direction}_CONNECT_EXP_BACKOFF_JITTER`, 0.1, share),
    },
    drainGrace: DRAIN_GRACE,
    http2: {
      keepAlive: {
        interval: duration(`${direction}_SERVER_HTTP2_KEEP_ALIVE_INTERVAL`, 10_000),
        timeout: duration(`${direction}_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT`, 3_000),
        whileIdle: false,
      },
      streamWindow: read(
        `${direction}_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE`,
        read("HTTP2_INITIAL_STREAM_WINDOW_SIZE", DEFAULT_STREAM_WINDOW, windowSize),
        windowSize,
      ),
      connectionWindow: read(
        `${direction}_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE`,
        read("HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", DEFAULT_CONNECTION_WINDOW, windowSize),
        windowSize,
      ),
      maxStreams: read(`${direction}_SERVER_HTTP2_MAX_CONCURRENT_STREAMS`, DEFAULT_MAX_STREAMS, positive),
    },
  });

  const suffixes = read("DESTINATION_PROFILE_SUFFIXES", ["svc.cluster.local."], list);
  const tapClient = raw("TAP_SVC_NAME");
  const tapAddress = read("CONTROL_LISTEN_ADDR", { host: "0.0.0.0", port: 4190 }, parseAddress);
  const config: ProxyConfig = {
    log: raw("LOG") ?? "warn,linkerd=info",
    logFormat: read("LOG_FORMAT", "plain", (text) => oneOf(text, ["plain", "json"])),
    inbound: {
      listen: [inboundListen],
      ips: read("INBOUND_IPS", [], addresses),
      identityPorts: read("INBOUND_PORTS_REQUIRE_IDENTITY", [], parsePortSet),
      ports: read("INBOUND_PORTS", [], (text) => [
        ...new Set(parsePortSet(text).flatMap((range) => [...portsOf(range)])),
      ]),
      opaquePorts: read("INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", [], parsePortSet),
      defaultPolicy: read("INBOUND_DEFAULT_POLICY", "all-unauthenticated", (text) => {
        if (!isDefaultPolicy(text))
          throw new RangeError(`expected one of ${DEFAULT_POLICIES.join(", ")}, got ${JSON.stringify(text)}`);
        return text;
      }),
      ...dataPath("INBOUND", {
        connectTimeout: 300,
        failfastTimeout: 1_000,
        discoveryIdleTimeout: 90_000,
        keepAlive: 0,
        backoffMax: 10_000,
      }),
    },
    outbound: {
      listen: read("OUTBOUND_LISTEN_ADDRS", [{ ip: "127.0.0.1", port: 4140 }], (text) =>
        list(text).map(listenAddress),
      ),
      profileTimeout: duration("DESTINATION_PROFILE_INITIAL_TIMEOUT", 500),
      policyTimeout: duration("CONTROL_STREAM_INITIAL_TIMEOUT", 3_000),
      inboundPort: inboundListen.port,
      localIps: read("INBOUND_IPS", [], addresses),
      refuseLoopback: true,
      ingress: read("INGRESS_MODE", false, boolean) ? { suffixes } : undefined,
      connectionQueue: {
        capacity: read("OUTBOUND_TCP_QUEUE_CAPACITY", QUEUE_CAPACITY, positive),
        failfastTimeout: duration("OUTBOUND_TCP_FAILFAST_TIMEOUT", 3_000),
      },
      ...dataPath("OUTBOUND", {
        connectTimeout: 1_000,
        failfastTimeout: 3_000,
        discoveryIdleTimeout: 5_000,
        keepAlive: 10_000,
        backoffMax: 60_000,
      }),
    },
    admin: read("ADMIN_LISTEN_ADDR", { host: "127.0.0.1", port: 4191 }, parseAddress),
    shutdown: {
      endpointEnabled: read("SHUTDOWN_ENDPOINT_ENABLED", false, boolean),
      gracePeriod: duration("SHUTDOWN_GRACE_PERIOD", 120_000),
    },
    identity: {
      localName: required("IDENTITY_LOCAL_NAME"),
      tokenFile: required("IDENTITY_TOKEN_FILE"),
      trustAnchors: certificates("IDENTITY_TRUST_ANCHORS"),
      trustAnchorsFile: raw("IDENTITY_TRUST_ANCHORS_FILE"),
      service: service("IDENTITY"),
      minRefresh: duration("IDENTITY_MIN_REFRESH", 10_000),
      maxRefresh: duration("IDENTITY_MAX_REFRESH", 86_400_000),
    },
    destination: {
      service: service("DESTINATION"),
      context: raw("DESTINATION_CONTEXT") ?? "",
      profileNetworks: read(
        "DESTINATION_PROFILE_NETWORKS",
        [parseCidr("0.0.0.0/0"), parseCidr("::/0")],
        (text) => list(text).map(parseCidr),
      ),
    },
    policy: {
      service: service("POLICY"),
      workload: required("POLICY_WORKLOAD"),
      clusterNetworks: read("POLICY_CLUSTER_NETWORKS", [], (text) => {
        const networks = list(text);
        for (const network of networks) parseCidr(network);
        return networks;
      }),
    },
    metricsRetainIdle: duration("METRICS_RETAIN_IDLE", 600_000),
    maxBufferBytes: read<number | undefined>("MAX_BUFFER_BYTES", undefined, positive),
    tap: tapClient === undefined ? undefined : { ...tapAddress, client: tapClient },
    accessLog: read("ACCESS_LOG", undefined, (text) =>
      text === "none" ? undefined : oneOf(text, ["apache", "json"]),
    ),
    trace:
      raw("TRACE_COLLECTOR_SVC_ADDR") === undefined
        ? undefined
        : {
            collector: service("TRACE_COLLECTOR"),
            serviceName: raw("TRACE_SERVICE_NAME") ?? "linkerd-proxy",
            attributesPath: raw("TRACE_ATTRIBUTES_PATH"),
            extraAttributes: raw("TRACE_EXTRA_ATTRIBUTES"),
            samplingRatio: read("TRACE_SAMPLING_RATIO", 0, share),
          },
  };
  if (raw("IDENTITY_DISABLED") !== undefined)
    problems.push(`${PREFIX}IDENTITY_DISABLED: a proxy without an identity is not supported`);
  for (const name of Object.keys(env)) {
    if (!name.startsWith(PREFIX)) continue;
    const bare = name.slice(PREFIX.length);
    if (!used.has(bare) && !WITHOUT_EFFECT.has(bare))
      warn(`${name} is not known to this proxy and has no effect`);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** Whether profiles are looked up for an address. */
export const isProfiled = (config: ProxyConfig, ip: string): boolean =>
  config.destination.profileNetworks.some((network) => cidrHas(network, ip));

/** `host:port`, IPv6 in brackets; a trailing dot of the host is kept for DNS. @throws RangeError */
export function parseAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new RangeError(`expected host:port, got ${JSON.stringify(text)}`);
  return { host: (match[1] ?? match[2])!, port };
}

/** @throws RangeError when the host is no IP address */
function listenAddress(text: string): { ip: string; port: number } {
  const { host, port } = parseAddress(text);
  parseIp(host);
  return { ip: host, port };
}

const isLoopback = (host: string): boolean => /^(localhost\.?|127\.\d+\.\d+\.\d+|::1)$/.test(host);

function* portsOf({ from, to }: PortRange): Generator<number> {
  for (let port = from; port <= to; port += 1) yield port;
}

function oneOf<const T extends string>(text: string, options: readonly T[]): T {
  if (!options.includes(text as T))
    throw new RangeError(`expected one of ${options.join(", ")}, got ${JSON.stringify(text)}`);
  return text as T;
}

function boolean(text: string): boolean {
  return oneOf(text.toLowerCase(), ["true", "false"]) === "true";
}

/** RFC 9113 §6.9.2: at least what every connection begins with, at most 2^31-1. */
function windowSize(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 65_535 || value > 0x7fff_ffff)
    throw new RangeError(`expected a number of bytes from 65535 to 2147483647, got ${JSON.stringify(text)}`);
  return value;
}

function share(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 1))
    throw new RangeError(`expected a number from 0 to 1, got ${JSON.stringify(text)}`);
  return value;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`expected a whole number above 0, got ${JSON.stringify(text)}`);
  return value;
}
