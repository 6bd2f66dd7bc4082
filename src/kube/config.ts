// Where the cluster is and who we are there: from a kubeconfig (through client-node, which knows every
// authentication plugin) or from inside a pod (without it).
import { readFileSync } from "node:fs";
import type { SecureContextOptions } from "node:tls";
import { errorMessage, MeshError } from "../util/error.ts";

/** Everything a client needs to reach one cluster. */
export interface ClusterConfig {
  /** `https://host:port`, without a path. */
  readonly server: string;
  /** Path prefix of the server, usually empty. */
  readonly basePath: string;
  readonly tls: SecureContextOptions & {
    readonly rejectUnauthorized?: boolean;
    readonly servername?: string;
  };
  /** Name of the kubeconfig context, or `in-cluster`. */
  readonly context: string;
  /** Namespace of the context. */
  readonly namespace: string;
  /** Headers for a request: a bearer token that may change, impersonation. */
  headers(): Promise<Record<string, string>>;
}

export interface KubeConfigOptions {
  /** A file; default `$KUBECONFIG`, then `~/.kube/config`, then the pod's service account. */
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly as?: string | undefined;
  readonly asGroups?: readonly string[] | undefined;
}

/**
 * Reads the kubeconfig.
 * @throws MeshError when there is none, it cannot be read, or the context is unknown (naming those it has).
 */
export async function loadKubeConfig(options: KubeConfigOptions = {}): Promise<ClusterConfig> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig);
    else config.loadFromDefault();
  } catch (cause) {
    throw new MeshError(`cannot read the kubeconfig: ${errorMessage(cause)}`, {
      hints: ["Give a readable file with --kubeconfig or $KUBECONFIG."],
      cause,
    });
  }
  const names = config.getContexts().map((context) => context.name);
  if (options.context !== undefined) {
    if (!names.includes(options.context)) {
      throw new MeshError(`the kubeconfig has no context ${JSON.stringify(options.context)}`, {
        hints: [names.length > 0 ? `It has: ${names.join(", ")}` : "It has no contexts at all."],
      });
    }
    config.setCurrentContext(options.context);
  }
  const cluster = config.getCurrentCluster();
  // client-node invents localhost:8080 when it finds no configuration.
  if (!cluster?.server || (cluster.name === "cluster" && cluster.server === "http://localhost:8080")) {
    throw new MeshError("no cluster is configured", {
      hints: [
        "Point KUBECONFIG at your cluster's kubeconfig, or choose a context: kubectl config get-contexts",
        "Or start a cluster on this machine: kubectl mesh sandbox up",
      ],
    });
  }
  const url = parseServer(cluster.server);
  /** Adds what the kubeconfig says of TLS and of the user, asking its credential plugin if it has one. */
  const authenticate = async (target: object): Promise<void> => {
    try {
      await config.applyToHTTPSOptions(target as never);
    } catch (cause) {
      const context = config.getCurrentContext();
      throw new MeshError(`the kubeconfig's context ${context} cannot be used: ${errorMessage(cause)}`, {
        hints: [
          url.protocol === "http:"
            ? "Its server is plain HTTP: set insecure-skip-tls-verify: true for that cluster, or use https."
            : "Check the user's credentials: kubectl config view --minify",
        ],
        cause,
      });
    }
  };
  const settings: Record<string, unknown> = { headers: {} };
  await authenticate(settings);
  const tls: Record<string, unknown> = {};
  for (const key of ["ca", "cert", "key", "pfx", "passphrase", "rejectUnauthorized", "servername"]) {
    if (settings[key] !== undefined && settings[key] !== null) tls[key] = settings[key];
  }
  return {
    server: url.origin,
    basePath: url.pathname.replace(/\/$/, ""),
    tls,
    context: config.getCurrentContext(),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? "default",
    async headers() {
      const fresh: { headers: Record<string, string>; auth?: string } = { headers: {} };
      await authenticate(fresh);
      const headers: Record<string, string> = { ...fresh.headers, ...impersonation(options) };
      if (fresh.auth) headers["Authorization"] = `Basic ${Buffer.from(fresh.auth).toString("base64")}`;
      return headers;
    },
  };
}

/** Names of the contexts in the kubeconfig. @throws Error when it cannot be read. */
export async function contextNames(options: Pick<KubeConfigOptions, "kubeconfig"> = {}): Promise<string[]> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig);
  else config.loadFromDefault();
  return config.getContexts().map((context) => context.name);
}

function impersonation(options: KubeConfigOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  if (options.as) headers["Impersonate-User"] = options.as;
  // node:http sends an array as repeated headers; the type here is narrower than what it takes.
  if (options.asGroups?.length) headers["Impersonate-Group"] = options.asGroups as unknown as string;
  return headers;
}

function parseServer(server: string): URL {
  try {
    return new URL(server);
  } catch {
    throw new MeshError(`the kubeconfig's server ${JSON.stringify(server)} is not a URL`);
  }
}

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The cluster this pod runs in. The token file is read for every request, since it is renewed on disk. @throws MeshError */
export function loadInCluster(): ClusterConfig {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
  if (!host || !port) throw new MeshError("not running in a pod: KUBERNETES_SERVICE_HOST is not set");
  const read = (name: string) => readFileSync(`${SERVICE_ACCOUNT}/${name}`, "utf8");
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    basePath: "",
    tls: { ca: read("ca.crt") },
    context: "in-cluster",
    namespace: read("namespace").trim(),
    headers: async () => ({ Authorization: `Bearer ${read("token").trim()}` }),
  };
}
