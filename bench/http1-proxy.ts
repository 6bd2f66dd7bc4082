// One side of the proxy as a process of its own, for bench/http1.ts. Settings come as JSON in PROXY_BENCH: which side,
// where to listen, where it leads, and the certificates, if any.
import { readFileSync } from "node:fs";
import { addressOf, networkOf } from "../src/api/address.ts";
import { createLogger } from "../src/log/logger.ts";
import { Registry } from "../src/metrics/registry.ts";
import { createInbound } from "../src/proxy/inbound/index.ts";
import { createOutbound } from "../src/proxy/outbound/index.ts";
import type { Discovery, IdentitySource, Watch } from "../src/proxy/ports.ts";
import { createCredentials } from "../src/proxy/transport/credentials.ts";
import { systemClock } from "../src/util/clock.ts";

interface Settings {
  readonly side: "inbound" | "outbound";
  readonly listen: number;
  /** The original destination that every connection is said to have. */
  readonly destination: number;
  /** Outbound: where the destination's only endpoint is, and who it must be. */
  readonly endpoint?: number;
  readonly endpointIdentity?: string;
  readonly identity?: { name: string; key: string; chain: string; anchors: string };
}

const settings: Settings = JSON.parse(process.env["PROXY_BENCH"] ?? "{}");

const fixed = <T>(value: T): Watch<T> => ({
  current: value,
  ready: Promise.resolve(),
  subscribe: () => () => {},
  close: () => {},
});

const anywhere = [{ net: networkOf("0.0.0.0/0"), except: [] }];
const discovery: Discovery = {
  profile: () =>
    fixed({ fullyQualifiedName: "bench.test", opaqueProtocol: false, routes: [], dstOverrides: [] }),
  outboundPolicy: () => fixed(null),
  endpoints: () =>
    fixed({
      exists: true,
      metricLabels: { service: "bench", namespace: "bench" },
      endpoints: new Map([
        [
          "endpoint",
          {
            addr: addressOf("127.0.0.1", settings.endpoint ?? settings.destination),
            weight: 1,
            metricLabels: { deployment: "bench", pod: "bench-0" },
            ...(settings.endpointIdentity
              ? {
                  tlsIdentity: {
                    dnsLikeIdentity: { name: settings.endpointIdentity },
                    serverName: { name: settings.endpointIdentity },
                  },
                }
              : {}),
          },
        ],
      ]),
    }),
  serverPolicy: () =>
    fixed({
      protocol: { detect: { httpRoutes: [] } },
      serverIps: [],
      authorizations: [
        {
          networks: anywhere,
          authentication: { unauthenticated: {} },
          labels: {},
          metadata: { default: "all" },
        },
      ],
      labels: { group: "", kind: "default", name: "all-unauthenticated" },
    }),
};

const { identity: material } = settings;
const identity: IdentitySource = {
  localName: material?.name ?? "bench.test",
  current: material
    ? createCredentials({
        key: readFileSync(material.key, "utf8"),
        chain: readFileSync(material.chain, "utf8"),
        anchors: readFileSync(material.anchors, "utf8"),
        expiresAt: Date.now() + 3_600_000,
      })
    : undefined,
  ready: Promise.resolve(),
  subscribe: () => () => {},
};

const common = {
  discovery,
  identity,
  originalDestination: { of: () => ({ ip: "127.0.0.1", port: settings.destination }) },
  registry: new Registry(),
  clock: systemClock,
  log: createLogger({ level: "warn" }),
};
const config = {
  listen: [{ ip: "127.0.0.1", port: settings.listen }],
  connectTimeout: 1_000,
  detectTimeout: 10_000,
  poolIdleTimeout: 3_000,
  poolMaxIdle: 10_000,
  failfastTimeout: 3_000,
  maxInFlight: 100_000,
  keepAlive: 10_000,
  discoveryIdleTimeout: 5_000,
  connectBackoff: { min: 100, max: 60_000, jitter: 0.1 },
  drainGrace: 0,
  http2: {
    keepAlive: { interval: 10_000, timeout: 3_000, whileIdle: false },
    streamWindow: 262_144,
    connectionWindow: 1_048_576,
    maxStreams: 1_000,
  },
};
const path =
  settings.side === "inbound"
    ? createInbound({ ...common, config: { ...config, ips: [] } })
    : createOutbound({
        ...common,
        config: {
          ...config,
          profileTimeout: 500,
          policyTimeout: 3_000,
          inboundPort: 4143,
          localIps: [],
          refuseLoopback: false,
        },
      });
await path.listen();
process.stdout.write("listening\n");
// So that `--cpu-prof` writes its file.
process.on("SIGINT", () => process.exit(0));
