// Our proxy as a subject: the real one, started as in a pod, with the bench's control plane to ask. All its features
// are on. Only where a connection was meant to go is told to it (fixed-destination.ts), since nothing is redirected.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BuildOptions } from "esbuild";
import { PROXY_NODE_FLAGS } from "../src/inject/containers.ts";
import { proxyEnv } from "../src/inject/env.ts";
import { identityName } from "../src/manifests/names.ts";
import { DEFAULT_VALUES } from "../src/manifests/values.ts";
import { packageRoot } from "../src/util/package-root.ts";
import { ControlPlane, type ControlPlaneOptions, type EndpointSpec, type Service } from "./control-plane.ts";
import type { FixedDestinations } from "./fixed-destination.ts";
import { type Bench, type Child, PROXY_CORE, type Running } from "./harness.ts";

/** The proxy's own entry, with the bench's original destinations. */
export const PROXY_BUNDLE: BuildOptions = {
  entryPoints: { proxy: join(packageRoot(), "src/entry/proxy.ts") },
  // As scripts/build.ts has it.
  banner: {
    js: 'import { createRequire as __meshRequire } from "node:module"; const require = __meshRequire(import.meta.url);',
  },
  plugins: [
    {
      name: "fixed-destination",
      setup: ({ onResolve }) =>
        onResolve({ filter: /transport\/original-dst\.ts$/ }, ({ importer }) =>
          importer.endsWith("/proxy/main.ts")
            ? { path: join(packageRoot(), "bench/fixed-destination.ts") }
            : undefined,
        ),
    },
  ],
};

/** One of our proxies, with what it goes by. */
export interface MeshProxy {
  readonly child: Child;
  readonly outbound: number;
  readonly inbound: number;
  readonly admin: number;
  readonly identity: string;
}

export interface ProxySpec {
  readonly name: string;
  /** Where connections to its outbound port were meant to go. */
  readonly calls?: Service;
  /** The application behind its inbound port. */
  readonly app?: number;
  /** Peers come by the transport header: its inbound port is the original destination. */
  readonly direct?: boolean;
  readonly core?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** The bundle that runs; PROXY_BUNDLE's by default. */
  readonly program?: string;
}

/** PEM files for peers, from the root that our proxies' certificates come from. */
export interface PeerCertificates {
  /** Name in the certificate. */
  readonly name: string;
  readonly key: string;
  readonly chain: string;
  readonly anchors: string;
  /** Chain and key in one, as HAProxy wants it. */
  readonly both: string;
}

export class Mesh {
  readonly plane: ControlPlane;
  readonly #bench: Bench;
  #proxies = 0;

  private constructor(bench: Bench, plane: ControlPlane) {
    this.#bench = bench;
    this.plane = plane;
  }

  static async open(bench: Bench, options: ControlPlaneOptions = {}): Promise<Mesh> {
    const plane = await ControlPlane.start(options);
    bench.onClose(() => plane.close());
    bench.write("token", "token");
    return new Mesh(bench, plane);
  }

  certificates(): PeerCertificates {
    const bench = this.#bench;
    const name = "peer.bench";
    const { key, cert } = this.plane.authority.keyPair(name);
    return {
      name,
      key: bench.write("peer/key.pem", key),
      chain: bench.write("peer/chain.pem", cert),
      anchors: bench.write("peer/anchors.pem", this.plane.authority.root.pem),
      both: bench.write("peer/both.pem", cert + key),
    };
  }

  /** Starts a proxy; resolves when it is ready. */
  async proxy(spec: ProxySpec): Promise<MeshProxy> {
    const bench = this.#bench;
    this.#proxies += 1;
    const workload = `${spec.name}-${this.#proxies}`;
    const [outbound, inbound, admin] = [await bench.port(), await bench.port(), await bench.port()];
    const destinations: Record<number, FixedDestinations[number]> = {};
    if (spec.calls) destinations[outbound] = { ip: spec.calls.ip, port: spec.calls.port };
    if (spec.direct) destinations[inbound] = { ip: "127.0.0.1", port: inbound };
    else if (spec.app) destinations[inbound] = { ip: "127.0.0.1", port: spec.app };
    const identity = identityOf(spec.name);
    const { profile } = bench.options;
    const child = bench.start(
      `kubectl-mesh ${spec.name}`,
      spec.core ?? PROXY_CORE,
      process.execPath,
      [
        ...PROXY_NODE_FLAGS,
        ...(profile
          ? ["--cpu-prof", `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${workload}.cpuprofile`]
          : []),
        bench.program(spec.program ?? "proxy.ts"),
      ],
      {
        ...injectedEnv(spec.app),
        LINKERD2_PROXY_LOG: "warn",
        LINKERD2_PROXY_IDENTITY_LOCAL_NAME: identity,
        LINKERD2_PROXY_IDENTITY_TOKEN_FILE: join(bench.directory, "token"),
        LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS: this.plane.authority.root.pem,
        // On the loopback interface the control plane is spoken to without TLS.
        LINKERD2_PROXY_IDENTITY_SVC_ADDR: `localhost.:${this.plane.port}`,
        LINKERD2_PROXY_DESTINATION_SVC_ADDR: `localhost.:${this.plane.port}`,
        LINKERD2_PROXY_POLICY_SVC_ADDR: `localhost.:${this.plane.port}`,
        LINKERD2_PROXY_POLICY_WORKLOAD: workload,
        LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: `127.0.0.1:${outbound}`,
        LINKERD2_PROXY_INBOUND_LISTEN_ADDR: `127.0.0.1:${inbound}`,
        LINKERD2_PROXY_INBOUND_IPS: "",
        LINKERD2_PROXY_ADMIN_LISTEN_ADDR: `127.0.0.1:${admin}`,
        LINKERD2_PROXY_CONTROL_LISTEN_ADDR: `127.0.0.1:${await bench.port()}`,
        BENCH_DESTINATIONS: JSON.stringify(destinations),
        ...spec.env,
      },
    );
    await bench.listening(child, outbound);
    await bench.listening(child, inbound);
    return { child, outbound, inbound, admin, identity };
  }

  /** The outbound side alone, to an application without a mesh. */
  async outbound(app: number, spec: { opaque?: boolean } = {}): Promise<Running> {
    const service = this.plane.addService({ ...spec, endpoints: [{ port: app }] });
    const proxy = await this.proxy({ name: "client", calls: service });
    return { port: proxy.outbound, processes: [proxy.child] };
  }

  /** The inbound side alone, called without a mesh. */
  async inbound(app: number): Promise<Running> {
    const proxy = await this.proxy({ name: "server", app });
    return { port: proxy.inbound, processes: [proxy.child] };
  }

  /** A client's proxy and a server's, mTLS between them, and a policy that asks for it. */
  async pair(app: number, { opaque = false }: { opaque?: boolean } = {}): Promise<Running> {
    this.plane.setServer(`server-${this.#proxies + 1}`, { opaque, policy: "all-authenticated" });
    const server = await this.proxy({ name: "server", app, direct: opaque });
    const service = this.plane.addService({ opaque, endpoints: [meshedEndpoint(server, app, opaque)] });
    const client = await this.proxy({ name: "client", calls: service });
    return {
      port: client.outbound,
      processes: [client.child, server.child],
      admin: [client.admin, server.admin],
    };
  }
}

/** What discovery says of an application behind one of our proxies. */
export function meshedEndpoint(server: MeshProxy, app: number, opaque = false): EndpointSpec {
  const { identity, inbound: inboundPort } = server;
  // Redirection would lead to the proxy what is sent to the application: here HTTP is sent to the proxy itself.
  return { port: opaque ? app : inboundPort, identity, inboundPort };
}

const identityOf = (serviceAccount: string): string =>
  identityName(serviceAccount, "bench", {
    namespace: DEFAULT_VALUES.namespace,
    trustDomain: DEFAULT_VALUES.identityTrustDomain,
  });

/** What injection writes with the default values. */
function injectedEnv(app: number | undefined): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const { name, value } of proxyEnv(DEFAULT_VALUES, {
    inboundPorts: app === undefined ? "" : String(app),
  }))
    if (value !== undefined) env[name] = value;
  for (const name of ["OUTBOUND_LISTEN_ADDR", "IDENTITY_SVC_NAME", "DESTINATION_SVC_NAME", "POLICY_SVC_NAME"])
    delete env[`LINKERD2_PROXY_${name}`];
  return env;
}

/** The certificates' PEM, for programs of ours that play a client. */
export const readPem = (file: string): string => readFileSync(file, "utf8");
