// The containers and the volumes that injection adds to a pod.
import {
  COMPONENTS,
  DEBUG_CONTAINER,
  INIT_CONTAINER,
  NETWORK_VALIDATOR_CONTAINER,
  PROXY_CONTAINER,
  TOKEN_AUDIENCE,
  TRUST_ROOTS_CONFIG_MAP,
  TRUST_ROOTS_KEY,
} from "../manifests/names.ts";
import type { ProxyValues, Values } from "../manifests/values.ts";
import { formatPortSet, mergePorts, parsePortSet } from "../util/port-set.ts";
import { END_ENTITY_DIR, type EnvFacts, proxyEnv, TOKEN_DIR, TOKEN_FILE } from "./env.ts";
import { isTraced, PODINFO_DIR, PODINFO_LABELS } from "./tracing.ts";
import type { Container } from "./workload.ts";

export const VOLUMES = {
  endEntity: "linkerd-identity-end-entity",
  token: "linkerd-identity-token",
  xtablesLock: "linkerd-proxy-init-xtables-lock",
  trustRoots: "linkerd-identity-trust-roots",
  podinfo: "linkerd-podinfo",
} as const;

const TOKEN_LIFETIME_S = 86_400;
/** The file that the proxy watches for trust anchors when it is there; else it has them from its environment. */
const TRUST_ROOTS_DIR = "/var/run/linkerd/identity/trust-roots";

/**
 * The security context of a container that needs no right at all: what the level `restricted` asks for, and more.
 * @param gid below 0: the image's
 * @param capabilities those that it has all the same
 */
export function restricted(uid: number, gid: number, capabilities: readonly string[] = []) {
  return {
    allowPrivilegeEscalation: false,
    capabilities: { ...(capabilities.length > 0 ? { add: capabilities } : {}), drop: ["ALL"] },
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    runAsUser: uid,
    ...(gid >= 0 ? { runAsGroup: gid } : {}),
    seccompProfile: { type: "RuntimeDefault" },
  };
}

export interface PodFacts extends EnvFacts {
  /** Capabilities that the application's first container adds, which the proxy then has too. */
  readonly addedCapabilities?: readonly string[] | undefined;
  /** The pod lives beside the mesh's trust roots and can mount them. */
  readonly mountTrustRoots?: boolean | undefined;
}

type Image = ProxyValues["image"];

/** @param own what is given of it wins over the mesh's image */
function image(values: Values, own: Image = values.proxy.image): { image: string; imagePullPolicy: string } {
  return {
    image: `${own.name || values.image.name}:${own.version || values.image.version}`,
    imagePullPolicy: own.pullPolicy || values.image.pullPolicy,
  };
}

/** Kubernetes' `resources` of non-empty quantities; undefined when there are none. */
export function resourcesOf(
  resources: ProxyValues["resources"],
): { requests?: Record<string, string>; limits?: Record<string, string> } | undefined {
  const pick = (side: "request" | "limit") =>
    Object.fromEntries(
      Object.entries(resources).flatMap(([name, amounts]) => (amounts[side] ? [[name, amounts[side]]] : [])),
    );
  const requests = pick("request");
  const limits = pick("limit");
  if (Object.keys(requests).length + Object.keys(limits).length === 0) return undefined;
  return {
    ...(Object.keys(requests).length > 0 ? { requests } : {}),
    ...(Object.keys(limits).length > 0 ? { limits } : {}),
  };
}

/** The proxy's memory is paid by every pod; it collects its garbage by itself when a load has ended (proxy/memory.ts). */
export const PROXY_NODE_FLAGS: readonly string[] = [
  "--max-semi-space-size=1",
  "--single-threaded",
  "--expose-gc",
];

/** The proxy waits this long for its certificate before the kubelet gives its start up; Linkerd's number. */
const AWAIT_TIMEOUT = "2m";

function lifecycleOf({ proxy }: Values, awaited: boolean) {
  const { admin } = proxy.ports;
  const run = (...command: string[]) => ({ exec: { command } });
  const lifecycle = {
    ...(awaited
      ? {
          postStart: run(
            "node",
            "/app/dist/entry/proxy-await.js",
            `--timeout=${AWAIT_TIMEOUT}`,
            `--port=${admin}`,
          ),
        }
      : {}),
    ...(proxy.waitBeforeExitSeconds > 0
      ? { preStop: run("/bin/sleep", String(proxy.waitBeforeExitSeconds)) }
      : {}),
  };
  return Object.keys(lifecycle).length > 0 ? { lifecycle } : {};
}

/**
 * Whether the kubelet holds back further containers until the proxy, which is no native sidecar, is ready.
 * Not beside the identity controller: it certifies the proxy that it would wait for.
 */
export const isAwaited = ({ proxy }: Values, pod: PodFacts): boolean =>
  proxy.await && !proxy.nativeSidecar && pod.local !== COMPONENTS.identity.name;

/** The sidecar. Native: an init container that keeps running, ready before the application's containers start. */
export function proxyContainer(values: Values, pod: PodFacts): Container {
  const { proxy } = values;
  const get = (path: string) => ({ httpGet: { path, port: proxy.ports.admin } });
  const resources = resourcesOf(proxy.resources);
  const env = proxyEnv(values, pod);
  if (pod.mountTrustRoots) {
    env.push({
      name: "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS_FILE",
      value: `${TRUST_ROOTS_DIR}/${TRUST_ROOTS_KEY}`,
    });
  }
  return {
    name: PROXY_CONTAINER,
    ...image(values),
    command: ["node", ...PROXY_NODE_FLAGS, "/app/dist/entry/proxy.js"],
    env,
    ports: [
      { name: "linkerd-proxy", containerPort: proxy.ports.inbound },
      { name: "linkerd-admin", containerPort: proxy.ports.admin },
    ],
    ...(proxy.nativeSidecar ? { restartPolicy: "Always" } : {}),
    // The identity controller's own proxy is certified by the container that this probe would hold back.
    ...(proxy.nativeSidecar && pod.local !== COMPONENTS.identity.name
      ? { startupProbe: { ...get("/ready"), periodSeconds: 1, failureThreshold: 120 } }
      : {}),
    livenessProbe: { ...get("/live"), initialDelaySeconds: 10, timeoutSeconds: 1 },
    readinessProbe: { ...get("/ready"), initialDelaySeconds: 2, timeoutSeconds: 1 },
    ...lifecycleOf(values, isAwaited(values, pod)),
    ...(resources ? { resources } : {}),
    securityContext: restricted(proxy.uid, proxy.gid, pod.addedCapabilities),
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: [
      { name: VOLUMES.endEntity, mountPath: END_ENTITY_DIR },
      { name: VOLUMES.token, mountPath: TOKEN_DIR, readOnly: true },
      ...(pod.mountTrustRoots
        ? [{ name: VOLUMES.trustRoots, mountPath: TRUST_ROOTS_DIR, readOnly: true }]
        : []),
      ...(isTraced(values) ? [{ name: VOLUMES.podinfo, mountPath: PODINFO_DIR, readOnly: true }] : []),
    ],
  };
}

/** What runs before everything else: the rules are laid, or, where a CNI plugin lays them, proved. */
export const networkContainer = (values: Values): Container =>
  values.cniEnabled ? networkValidator(values) : initContainer(values);

/** Whose traffic the rules redirect: neither root nor the proxy. */
const NOBODY = 65_534;
const INIT_RESOURCES = {
  requests: { cpu: "10m", memory: "40Mi" },
  limits: { memory: "128Mi" },
};

/** Lays the redirect rules before anything else in the pod runs. */
function initContainer(values: Values): Container {
  const { proxy, proxyInit } = values;
  const { admin, control, inbound, outbound } = proxy.ports;
  const ignored = (ports: string, own: readonly number[] = []) =>
    formatPortSet(mergePorts([...own.map((port) => ({ from: port, to: port })), ...parsePortSet(ports)]));
  const root = proxyInit.runAsRoot || proxyInit.closeWaitTimeoutSecs > 0;
  const privileged = proxyInit.privileged || proxyInit.closeWaitTimeoutSecs > 0;
  const args: (string | number)[] = [
    ["--incoming-proxy-port", inbound],
    ["--outgoing-proxy-port", outbound],
    ["--proxy-uid", proxy.uid],
    proxy.gid >= 0 ? ["--proxy-gid", proxy.gid] : [],
    ["--inbound-ports-to-ignore", ignored(proxyInit.ignoreInboundPorts, [control, admin])],
    proxyInit.ignoreOutboundPorts
      ? ["--outbound-ports-to-ignore", ignored(proxyInit.ignoreOutboundPorts)]
      : [],
    proxyInit.skipSubnets ? ["--subnets-to-ignore", proxyInit.skipSubnets] : [],
    proxyInit.closeWaitTimeoutSecs > 0 ? ["--timeout-close-wait-secs", proxyInit.closeWaitTimeoutSecs] : [],
    proxyInit.iptablesMode === "auto" ? [] : ["--iptables-mode", proxyInit.iptablesMode],
    ["--log-level", proxyInit.logLevel],
    ["--log-format", proxyInit.logFormat],
  ].flat();
  return {
    name: INIT_CONTAINER,
    ...image(values),
    command: ["node", "/app/dist/entry/proxy-init.js"],
    args: [`--ipv6=${!values.disableIPv6}`, ...args.map(String)],
    resources: INIT_RESOURCES,
    securityContext: {
      allowPrivilegeEscalation: privileged,
      capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW"] },
      privileged,
      readOnlyRootFilesystem: true,
      runAsNonRoot: !root,
      runAsUser: root ? 0 : NOBODY,
      runAsGroup: root ? 0 : NOBODY,
      seccompProfile: { type: "RuntimeDefault" },
    },
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: [{ name: VOLUMES.xtablesLock, mountPath: "/run" }],
  };
}

/**
 * Fails the pod's start when its connections do not reach the proxy's port. It has no rights, and is not the proxy's
 * user, whose connections are left alone.
 */
function networkValidator(values: Values): Container {
  const { connectAddr, listenAddr, timeout, logLevel, logFormat } = values.networkValidator;
  const flags = {
    "connect-addr": connectAddr,
    "listen-addr": listenAddr || `${values.disableIPv6 ? "0.0.0.0" : "[::]"}:${values.proxy.ports.outbound}`,
    timeout,
    "log-level": logLevel,
    "log-format": logFormat,
  };
  return {
    name: NETWORK_VALIDATOR_CONTAINER,
    ...image(values),
    command: ["node", "/app/dist/entry/network-validator.js"],
    args: Object.entries(flags).flatMap(([flag, value]) => (value === "" ? [] : [`--${flag}=${value}`])),
    resources: INIT_RESOURCES,
    securityContext: restricted(NOBODY, NOBODY),
    terminationMessagePolicy: "FallbackToLogsOnError",
  };
}

/** For a person who looks into the pod's network: it shows packets, and has the tools for more. */
export function debugContainer(values: Values): Container {
  return {
    name: DEBUG_CONTAINER,
    ...image(values, values.debugContainer.image),
    // As root to the end: tcpdump would change to a user of its own, for which it has no right.
    command: ["tcpdump", "-Z", "root", "-i", "any", "-n", "-l"],
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { add: ["NET_ADMIN", "NET_RAW"], drop: ["ALL"] },
      runAsUser: 0,
      runAsGroup: 0,
      seccompProfile: { type: "RuntimeDefault" },
    },
    terminationMessagePolicy: "FallbackToLogsOnError",
  };
}

/** The volumes of the containers. */
export function proxyVolumes(
  values: Values,
  pod: PodFacts,
): { readonly name: string; readonly [source: string]: unknown }[] {
  return [
    ...(values.cniEnabled ? [] : [{ name: VOLUMES.xtablesLock, emptyDir: {} }]),
    { name: VOLUMES.endEntity, emptyDir: { medium: "Memory" } },
    {
      name: VOLUMES.token,
      projected: {
        sources: [
          {
            serviceAccountToken: {
              path: TOKEN_FILE,
              audience: TOKEN_AUDIENCE,
              expirationSeconds: TOKEN_LIFETIME_S,
            },
          },
        ],
      },
    },
    ...(pod.mountTrustRoots
      ? [{ name: VOLUMES.trustRoots, configMap: { name: TRUST_ROOTS_CONFIG_MAP } }]
      : []),
    ...(isTraced(values)
      ? [
          {
            name: VOLUMES.podinfo,
            downwardAPI: {
              items: [{ path: PODINFO_LABELS, fieldRef: { fieldPath: "metadata.labels" } }],
            },
          },
        ]
      : []),
  ];
}
