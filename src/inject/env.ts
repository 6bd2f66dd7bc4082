// The proxy's environment, LINKERD2_PROXY_*: names and order as Linkerd's own sidecar has them.
import { COMPONENTS, identityName, serviceAddress } from "../manifests/names.ts";
import type { Values } from "../manifests/values.ts";
import { formatDuration } from "../util/duration.ts";
import { isTraced, traceEnv } from "./tracing.ts";

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

/** The component whose own pod this is: its proxy reaches it on the loopback interface, not through its Service. */
export type LocalComponent = "identity" | "destination" | "policy";

export const END_ENTITY_DIR = "/var/run/linkerd/identity/end-entity";
export const TOKEN_DIR = "/var/run/secrets/tokens";
export const TOKEN_FILE = "linkerd-identity-token";

/** Protocol detection that never gives up is written as this long. */
const FOREVER_MS = 365 * 86_400_000;

/** What of a pod its proxy's environment is made of. */
export interface EnvFacts {
  /** Comma list for LINKERD2_PROXY_INBOUND_PORTS. */
  readonly inboundPorts: string;
  readonly local?: LocalComponent | undefined;
  /** What its spans say of it; `service.name` names the service. */
  readonly resourceAttributes?: Readonly<Record<string, string>>;
}

/** Linkerd's proxy writes headers at its lower levels unless its filter says no. */
const NO_HEADERS = ",[{headers}]=off,[{request}]=off";

/** Whole cores that a quantity of CPU touches; undefined for none. */
function cores(quantity: string): string | undefined {
  if (quantity === "") return undefined;
  const amount = quantity.endsWith("m") ? Number(quantity.slice(0, -1)) / 1000 : Number(quantity);
  return amount > 0 ? String(Math.ceil(amount)) : undefined;
}

export function proxyEnv(values: Values, pod: EnvFacts): EnvVar[] {
  const { proxy, namespace, clusterDomain } = values;
  const mesh = { namespace, trustDomain: values.identityTrustDomain };
  const { admin, control, inbound, outbound } = proxy.ports;
  const any = values.disableIPv6 ? "0.0.0.0" : "[::]";
  const address = (
    { service, port }: { service: string; port: number },
    name: LocalComponent,
    headless = "",
  ) =>
    pod.local === name
      ? `localhost.:${port}`
      : serviceAddress(`${service}${headless}`, namespace, clusterDomain, port);
  const nameOf = ({ workload }: { workload: string }) => identityName(workload, namespace, mesh);
  const settings: Record<string, string | undefined> = {
    SHUTDOWN_ENDPOINT_ENABLED: String(proxy.enableShutdownEndpoint),
    SHUTDOWN_GRACE_PERIOD: proxy.shutdownGracePeriod || undefined,
    LOG: `${proxy.logLevel}${proxy.logHTTPHeaders === "off" ? NO_HEADERS : ""}`,
    LOG_FORMAT: proxy.logFormat,
    ACCESS_LOG: proxy.accessLog || undefined,
    DESTINATION_SVC_ADDR: address(COMPONENTS.destination, "destination", "-headless"),
    DESTINATION_SVC_NAME: nameOf(COMPONENTS.destination),
    DESTINATION_PROFILE_NETWORKS: values.clusterNetworks,
    DESTINATION_PROFILE_SUFFIXES: proxy.enableExternalProfiles ? "." : `svc.${clusterDomain}.`,
    DESTINATION_CONTEXT: '{"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}',
    POLICY_SVC_ADDR: address(COMPONENTS.policy, "policy"),
    POLICY_SVC_NAME: nameOf(COMPONENTS.policy),
    POLICY_WORKLOAD: '{"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}',
    POLICY_CLUSTER_NETWORKS: values.clusterNetworks,
    CONTROL_STREAM_INITIAL_TIMEOUT: "3s",
    CONTROL_STREAM_IDLE_TIMEOUT: "5m",
    CONTROL_STREAM_LIFETIME: "1h",
    CONTROL_LISTEN_ADDR: `${any}:${control}`,
    ADMIN_LISTEN_ADDR: `${any}:${admin}`,
    OUTBOUND_LISTEN_ADDR: `127.0.0.1:${outbound}`,
    OUTBOUND_LISTEN_ADDRS: values.disableIPv6
      ? `127.0.0.1:${outbound}`
      : `127.0.0.1:${outbound},[::1]:${outbound}`,
    INBOUND_LISTEN_ADDR: `${any}:${inbound}`,
    INBOUND_IPS: "$(_pod_ips)",
    INBOUND_PORTS: pod.inboundPorts,
    INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: proxy.opaquePorts || undefined,
    INBOUND_PORTS_REQUIRE_IDENTITY: proxy.requireIdentityOnInboundPorts || undefined,
    INBOUND_DEFAULT_POLICY: proxy.defaultInboundPolicy,
    INBOUND_CONNECT_TIMEOUT: proxy.inboundConnectTimeout,
    OUTBOUND_CONNECT_TIMEOUT: proxy.outboundConnectTimeout,
    OUTBOUND_DISCOVERY_IDLE_TIMEOUT: proxy.outboundDiscoveryCacheUnusedTimeout,
    INBOUND_DISCOVERY_IDLE_TIMEOUT: proxy.inboundDiscoveryCacheUnusedTimeout,
    INBOUND_DETECT_TIMEOUT: proxy.disableInboundProtocolDetectTimeout
      ? formatDuration(FOREVER_MS)
      : undefined,
    OUTBOUND_DETECT_TIMEOUT: proxy.disableOutboundProtocolDetectTimeout
      ? formatDuration(FOREVER_MS)
      : undefined,
    INBOUND_ACCEPT_KEEPALIVE: "10s",
    OUTBOUND_CONNECT_KEEPALIVE: "10s",
    INBOUND_ACCEPT_USER_TIMEOUT: "30s",
    OUTBOUND_CONNECT_USER_TIMEOUT: "30s",
    OUTBOUND_METRICS_HOSTNAME_LABELS: proxy.metricsHostnameLabels ? "true" : undefined,
    INGRESS_MODE: proxy.isIngress ? "true" : undefined,
    INBOUND_GATEWAY_SUFFIXES: proxy.isGateway ? `svc.${clusterDomain}.` : undefined,
    CORES: proxy.cores > 0 ? String(proxy.cores) : cores(proxy.resources.cpu.limit),
    CORES_MIN: cores(proxy.resources.cpu.request),
    CORES_MAX_RATIO: proxy.coresRatio > 0 ? String(proxy.coresRatio) : undefined,
    IDENTITY_DIR: END_ENTITY_DIR,
    IDENTITY_TRUST_ANCHORS: values.identityTrustAnchorsPEM,
    IDENTITY_TOKEN_FILE: `${TOKEN_DIR}/${TOKEN_FILE}`,
    IDENTITY_SVC_ADDR: address(COMPONENTS.identity, "identity", "-headless"),
    IDENTITY_SVC_NAME: nameOf(COMPONENTS.identity),
    IDENTITY_LOCAL_NAME: identityName("$(_pod_sa)", "$(_pod_ns)", mesh),
    TAP_SVC_NAME: (!proxy.tap.disabled && proxy.tap.serviceName) || undefined,
    ...traceEnv(values, pod.resourceAttributes),
  };
  return [
    // First, because $(…) in a value sees only what stands before it.
    ...Object.entries(isTraced(values) ? { ...POD_FIELDS, ...TRACE_FIELDS } : POD_FIELDS).map(
      ([name, fieldPath]) => ({
        name,
        valueFrom: { fieldRef: { fieldPath } },
      }),
    ),
    ...Object.entries(settings).flatMap(([name, value]) =>
      value === undefined ? [] : [{ name: `LINKERD2_PROXY_${name}`, value }],
    ),
    ...(proxy.additionalEnv as unknown as readonly EnvVar[]),
  ];
}

const POD_FIELDS = {
  _pod_name: "metadata.name",
  _pod_ns: "metadata.namespace",
  _pod_nodeName: "spec.nodeName",
  _pod_sa: "spec.serviceAccountName",
  _pod_ips: "status.podIPs",
} as const;

/** Besides those, where spans tell of the pod. */
const TRACE_FIELDS = { _pod_ip: "status.podIP", _pod_uid: "metadata.uid" } as const;
