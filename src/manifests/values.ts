// The values that the mesh is installed with: one schema gives their type, defaults, checks and `--set` coercion.
// Names are Linkerd's where Linkerd has the value.

import { DEFAULT_POLICIES } from "../rules/default-policy.ts";
import {
  anyMap,
  check,
  choice,
  decimal,
  flag,
  type Infer,
  integer,
  list,
  type Problem,
  parsed,
  problemText,
  schemaAt,
  settings,
  text,
} from "../schema/index.ts";
import { parseDuration } from "../util/duration.ts";
import { MeshError } from "../util/error.ts";
import { parseCidr } from "../util/ip.ts";
import { parsePortSet } from "../util/port-set.ts";
import { VERSION } from "../util/version.ts";
import { CLUSTER_DOMAIN, CONTROLLER_UID, MESH_NAMESPACE, PORTS, PROXY_UID } from "./names.ts";

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** Words, which YAML may have made numbers of. */
const word = (fallback: string) => text({ default: fallback, bare: true });
const matching = (expects: string, pattern: RegExp, fallback: string) =>
  text({ expects, pattern, default: fallback, bare: true });
const meaning = (expects: string, fallback: string, parse: (source: string) => unknown) =>
  parsed({ expects, default: fallback, bare: true }, parse);

const duration = (fallback: string) => meaning("a duration", fallback, parseDuration);
const portSet = (fallback: string) => meaning("ports and ranges", fallback, parsePortSet);
const networks = (fallback: string) =>
  meaning("networks", fallback, (source) => source.split(",").map((item) => parseCidr(item.trim())));
/** A Kubernetes quantity such as 100m, 64Mi or 0.5. */
export const quantity = (fallback: string) =>
  matching("a quantity such as 100m or 64Mi", /^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/, fallback);
const port = (fallback: number) => integer({ default: fallback, min: 1, max: 65_535 });
const id = (fallback: number) => integer({ default: fallback, min: -1, max: 2 ** 31 - 1 });

const pullPolicy = choice(["IfNotPresent", "Always", "Never"], { default: "IfNotPresent" });

const resources = (cpuRequest: string, memoryRequest: string, memoryLimit: string) =>
  settings({
    cpu: settings({ request: quantity(cpuRequest), limit: quantity("") }),
    memory: settings({ request: quantity(memoryRequest), limit: quantity(memoryLimit) }),
    "ephemeral-storage": settings({ request: quantity(""), limit: quantity("") }),
  });

const proxySchema = settings({
  image: settings({
    name: word(""),
    version: word(""),
    pullPolicy: choice(["", ...["IfNotPresent", "Always", "Never"]], { default: "" }),
  }),
  logLevel: word("warn,linkerd=info,hickory=error"),
  logFormat: choice(["plain", "json"], { default: "plain" }),
  /** Whether a proxy that logs headers may: this one never does, Linkerd's does below the level info. */
  logHTTPHeaders: choice(["off", "insecure"], { default: "off" }),
  accessLog: choice(["", "apache", "json"], { default: "" }),
  ports: settings({
    outbound: port(PORTS.outbound),
    inbound: port(PORTS.inbound),
    control: port(PORTS.control),
    admin: port(PORTS.admin),
  }),
  uid: id(PROXY_UID),
  gid: id(-1),
  cores: integer({ default: 0, min: 0, max: 1024 }),
  coresRatio: decimal({ default: 0, min: 0, max: 1 }),
  resources: resources("", "", ""),
  opaquePorts: portSet("25,587,3306,4444,5432,6379,9300,11211"),
  defaultInboundPolicy: choice(DEFAULT_POLICIES, { default: "all-unauthenticated" }),
  requireIdentityOnInboundPorts: portSet(""),
  enableExternalProfiles: flag({ default: false }),
  enableShutdownEndpoint: flag({ default: false }),
  metricsHostnameLabels: flag({ default: false }),
  nativeSidecar: flag({ default: true }),
  /** A proxy that is no native sidecar holds back the application's start until it is ready. */
  await: flag({ default: true }),
  waitBeforeExitSeconds: integer({ default: 0, min: 0, max: 86_400 }),
  shutdownGracePeriod: duration(""),
  outboundConnectTimeout: duration("1000ms"),
  inboundConnectTimeout: duration("100ms"),
  outboundDiscoveryCacheUnusedTimeout: duration("5s"),
  inboundDiscoveryCacheUnusedTimeout: duration("90s"),
  disableOutboundProtocolDetectTimeout: flag({ default: false }),
  disableInboundProtocolDetectTimeout: flag({ default: false }),
  isIngress: flag({ default: false }),
  isGateway: flag({ default: false }),
  /** Replaces the list that is made of the pod's own ports. */
  podInboundPorts: portSet(""),
  tap: settings({
    /** Identity of whoever may watch requests; without, nobody can. */
    serviceName: word(""),
    disabled: flag({ default: false }),
  }),
  tracing: settings({
    enabled: flag({ default: false }),
    collector: settings({
      /** host:port that takes OTLP over gRPC. */
      name: word(""),
      meshIdentity: settings({ serviceAccountName: word(""), namespace: word("") }),
    }),
    /** Attributes that every span of the mesh has. */
    labels: anyMap({ default: {} }),
    traceServiceName: word("linkerd-proxy"),
    /** Of requests that come without a trace, so many begin one. */
    samplingRatio: decimal({ default: 0, min: 0, max: 1 }),
  }),
  additionalEnv: list(anyMap(), { default: [] }),
});

const proxyInitSchema = settings({
  ignoreInboundPorts: portSet("4567,4568"),
  ignoreOutboundPorts: portSet("4567,4568"),
  /** Left alone in control-plane pods, which must reach the API server before there is a mesh. */
  kubeAPIServerPorts: portSet("443,6443"),
  skipSubnets: networks(""),
  iptablesMode: choice(["auto", "nft", "plain", "legacy"], { default: "auto" }),
  logLevel: choice(["trace", "debug", "info", "warn", "error"], { default: "info" }),
  logFormat: choice(["plain", "json"], { default: "plain" }),
  closeWaitTimeoutSecs: integer({ default: 0, min: 0, max: 86_400 }),
  /** File capabilities of iptables are void under no_new_privs, so an ordinary user could not write rules. */
  runAsRoot: flag({ default: true }),
  privileged: flag({ default: false }),
});

/** What proves, where a CNI plugin lays the redirect rules, that it did. */
const networkValidatorSchema = settings({
  /** Where nothing answers but the validator itself; empty: an address of the networks reserved for examples. */
  connectAddr: word(""),
  /** Empty: the proxy's outbound port. */
  listenAddr: word(""),
  timeout: duration("10s"),
  logLevel: choice(["trace", "debug", "info", "warn", "error"], { default: "info" }),
  logFormat: choice(["plain", "json"], { default: "plain" }),
});

const debugContainerSchema = settings({
  enabled: flag({ default: false }),
  /** Any image with tcpdump; empty: the mesh's own, which the node has already. */
  image: settings({
    name: word(""),
    version: word(""),
    pullPolicy: choice(["", ...["IfNotPresent", "Always", "Never"]], { default: "" }),
  }),
});

const webhookSettings = {
  /** The Secret is somebody else's (cert-manager's …): not installed, and not renewed. */
  externalSecret: flag({ default: false }),
  /** PEM of the CA of that Secret's certificate. */
  caBundle: word(""),
  timeoutSeconds: integer({ default: 10, min: 1, max: 30 }),
};

const schema = settings({
  clusterDomain: matching("a DNS domain", DNS_NAME, CLUSTER_DOMAIN),
  clusterNetworks: networks("10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"),
  namespace: matching("a namespace name", DNS_LABEL, MESH_NAMESPACE),
  image: settings({ name: word("kubectl-mesh"), version: word(VERSION), pullPolicy }),
  imagePullSecrets: list(anyMap(), { default: [] }),
  controllerReplicas: integer({ default: 1, min: 1, max: 100 }),
  controllerLogLevel: choice(["trace", "debug", "info", "warn", "error"], { default: "info" }),
  controllerLogFormat: choice(["plain", "json"], { default: "plain" }),
  controllerUID: id(CONTROLLER_UID),
  controllerGID: id(CONTROLLER_UID),
  controllerResources: resources("50m", "64Mi", "512Mi"),
  highAvailability: flag({ default: false }),
  /** Replicas of a controller never share a node, and are spread over zones where there are several. */
  enablePodAntiAffinity: flag({ default: false }),
  enablePodDisruptionBudget: flag({ default: false }),
  controller: settings({
    podDisruptionBudget: settings({ maxUnavailable: integer({ default: 1, min: 0, max: 100 }) }),
  }),
  deploymentStrategy: anyMap({
    default: {
      type: "RollingUpdate",
      rollingUpdate: { maxUnavailable: "25%", maxSurge: "25%" },
    },
  }),
  disableIPv6: flag({ default: true }),
  identityTrustAnchorsPEM: word(""),
  identityTrustDomain: matching("a DNS domain", DNS_NAME, CLUSTER_DOMAIN),
  identity: settings({
    issuer: settings({
      scheme: choice(["linkerd.io/tls", "kubernetes.io/tls"], { default: "linkerd.io/tls" }),
      issuanceLifetime: duration("24h"),
      clockSkewAllowance: duration("20s"),
    }),
  }),
  policyController: settings({
    /** Whether callers may set retries and timeouts by `l5d-retry-*` and `l5d-timeout` headers. */
    allowL5dRequestHeaders: flag({ default: false }),
  }),
  egress: settings({
    /** Its EgressNetworks hold for every namespace without its own. */
    globalEgressNetworkNamespace: matching("a namespace name", DNS_LABEL, "linkerd-egress"),
  }),
  proxy: proxySchema,
  proxyInit: proxyInitSchema,
  /** The redirect rules are laid by a CNI plugin: pods get no init container with rights, but a validator. */
  cniEnabled: flag({ default: false }),
  networkValidator: networkValidatorSchema,
  debugContainer: debugContainerSchema,
  webhookFailurePolicy: choice(["Ignore", "Fail"], { default: "Ignore" }),
  /** Of the certificates that webhooks show to the API server; renewed by themselves when a third of it is left. */
  webhookCertificateLifetime: duration("8760h"),
  proxyInjector: settings({
    ...webhookSettings,
    namespaceSelector: anyMap({
      default: {
        matchExpressions: [
          { key: "config.linkerd.io/admission-webhooks", operator: "NotIn", values: ["disabled"] },
          { key: "kubernetes.io/metadata.name", operator: "NotIn", values: ["kube-system", "cert-manager"] },
        ],
      },
    }),
    objectSelector: anyMap({
      default: {
        matchExpressions: [
          { key: "linkerd.io/control-plane-component", operator: "DoesNotExist" },
          { key: "linkerd.io/cni-resource", operator: "DoesNotExist" },
        ],
      },
    }),
  }),
  policyValidator: settings({
    ...webhookSettings,
    namespaceSelector: anyMap({
      default: {
        matchExpressions: [
          { key: "config.linkerd.io/admission-webhooks", operator: "NotIn", values: ["disabled"] },
        ],
      },
    }),
  }),
  nodeSelector: anyMap({ default: { "kubernetes.io/os": "linux" } }),
  tolerations: list(anyMap(), { default: [] }),
  podAnnotations: anyMap({ default: {} }),
});

/** Everything the mesh is installed with. Holds no secret: the issuer's key lives in its Secret only. */
export type Values = Infer<typeof schema>;
export type ProxyValues = Values["proxy"];
export { schema as valuesSchema };

export const DEFAULT_VALUES: Values = schema.fallback!;

/**
 * What `install --ha` changes, in Linkerd's words and with its numbers, memory apart: for Node's processes there is
 * somewhat more. Everything that the user sets wins over it.
 */
export const HA_VALUES = {
  highAvailability: true,
  controllerReplicas: 3,
  enablePodAntiAffinity: true,
  enablePodDisruptionBudget: true,
  // Required anti-affinity leaves no room for a further replica on a cluster of three nodes.
  deploymentStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1, maxSurge: "25%" } },
  controllerResources: { cpu: { request: "100m" }, memory: { request: "100Mi", limit: "512Mi" } },
  proxy: { resources: { cpu: { request: "100m" }, memory: { request: "40Mi", limit: "250Mi" } } },
  webhookFailurePolicy: "Fail",
} as const;

/**
 * Values from untyped input (a values file, the ConfigMap), with defaults where it says nothing.
 * @throws MeshError that lists every problem by its path.
 */
export function readValues(input: unknown, source = "values"): Values {
  const { value: values, problems } = check(schema, input);
  if (problems.length > 0) throw valuesError(source, problems);
  return values;
}

function valuesError(source: string, problems: readonly Problem[]): MeshError {
  const lines = problems.map(problemText);
  return new MeshError(
    lines.length === 1
      ? `${source}: ${lines[0]}`
      : `${source}: ${lines.length} problems\n${lines.map((line) => `  ${line}`).join("\n")}`,
  );
}

type Tree = { [name: string]: unknown };

/** `later` over `base`, map by map; lists and scalars are replaced. */
export function mergeTrees(base: unknown, later: unknown): unknown {
  if (!isTree(base) || !isTree(later)) return later === undefined ? base : later;
  const out: Tree = { ...base };
  for (const [name, value] of Object.entries(later)) out[name] = mergeTrees(out[name], value);
  return out;
}

const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The tree that `--set a.b=c` flags describe; text becomes what the schema expects at its path.
 * @throws MeshError for a path that does not exist or text without `=`.
 */
export function treeOfSets(sets: readonly string[]): unknown {
  let tree: unknown = {};
  for (const item of sets) {
    const at = item.indexOf("=");
    const path = item.slice(0, Math.max(at, 0)).trim();
    if (at < 1 || path === "") throw new MeshError(`--set: expected name=value, got ${JSON.stringify(item)}`);
    const found = schemaAt(schema, path);
    if ("message" in found) throw valuesError("--set", [found]);
    const value = found.fromText(item.slice(at + 1));
    tree = mergeTrees(
      tree,
      path.split(".").reduceRight<unknown>((inner, name) => ({ [name]: inner }), value),
    );
  }
  return tree;
}
