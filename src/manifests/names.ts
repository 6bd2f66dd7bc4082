// Every name, port and key that the mesh's objects have in a cluster.

export const MESH_NAMESPACE = "mesh-system";
export const CLUSTER_DOMAIN = "cluster.local";
/** Audience of the projected token that a proxy shows to the identity controller. */
export const TOKEN_AUDIENCE = "identity.l5d.io";

export const PROXY_CONTAINER = "linkerd-proxy";
export const INIT_CONTAINER = "linkerd-init";
/** Takes the place of the init container where a CNI plugin lays the rules: proves that it did. */
export const NETWORK_VALIDATOR_CONTAINER = "linkerd-network-validator";
export const DEBUG_CONTAINER = "linkerd-debug";
export const PROXY_UID = 2102;
export const CONTROLLER_UID = 2103;
export const PORTS = { outbound: 4140, inbound: 4143, control: 4190, admin: 4191 } as const;

export const CONFIG_MAP = "mesh-config";
export const CONFIG_KEY = "values";
export const TRUST_ROOTS_CONFIG_MAP = "mesh-identity-trust-roots";
export const TRUST_ROOTS_KEY = "ca-bundle.crt";
export const ISSUER_SECRET = "mesh-identity-issuer";
export const INJECTOR_TLS_SECRET = "mesh-proxy-injector-k8s-tls";
export const INJECTOR_WEBHOOK_CONFIG = "mesh-proxy-injector-webhook-config";
/** Linkerd's name of the Lease whose holder writes the statuses of policy. */
export const POLICY_LEASE = "policy-controller-write";
/** Whoever holds it writes the slices of ExternalWorkloads. */
export const DESTINATION_LEASE = "linkerd-destination-endpoint-write";
/** The webhook's own name inside its configuration; Linkerd's, as tools look for it. */
export const INJECTOR_WEBHOOK = "linkerd-proxy-injector.linkerd.io";

export interface ComponentNames {
  /** Name of the component, its container and its entry point `dist/entry/<name>.js`. */
  readonly name: string;
  /** Name of its Deployment and ServiceAccount. */
  readonly workload: string;
  readonly service: string;
  /** Port of the Service. */
  readonly servicePort: number;
  /** Port that the container listens on. */
  readonly port: number;
  readonly portName: string;
  /** Plain HTTP: /live, /ready, /metrics. */
  readonly adminPort: number;
}

const component = (
  name: string,
  service: string,
  servicePort: number,
  port: number,
  portName: string,
  adminPort: number,
): ComponentNames => ({ name, workload: `mesh-${name}`, service, servicePort, port, portName, adminPort });

/** The control plane's components, in the order in which they are installed and checked. */
export const COMPONENTS = {
  identity: component("identity", "mesh-identity", 8080, 8080, "grpc", 9990),
  destination: component("destination", "mesh-dst", 8086, 8086, "grpc", 9996),
  policy: component("policy", "mesh-policy", 8090, 8090, "grpc", 9991),
  proxyInjector: component("proxy-injector", "mesh-proxy-injector", 443, 8443, "webhook", 9995),
  metricsApi: component("metrics-api", "mesh-metrics-api", 8085, 8085, "http", 9992),
} as const satisfies Record<string, ComponentNames>;

/** What an admission webhook consists of. */
export interface WebhookNames {
  /** Whose process serves it. */
  readonly component: keyof typeof COMPONENTS;
  /** The value (of src/manifests/values.ts) with its settings. */
  readonly value: "proxyInjector" | "policyValidator";
  readonly service: string;
  /** Of type kubernetes.io/tls. */
  readonly secret: string;
  /** The Lease of the replica that renews its certificate. */
  readonly lease: string;
  readonly verifier: {
    readonly kind: "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration";
    readonly name: string;
  };
}

export const INJECTOR_WEBHOOK_NAMES: WebhookNames = {
  component: "proxyInjector",
  value: "proxyInjector",
  service: COMPONENTS.proxyInjector.service,
  secret: INJECTOR_TLS_SECRET,
  lease: "mesh-proxy-injector-credentials",
  verifier: { kind: "MutatingWebhookConfiguration", name: INJECTOR_WEBHOOK_CONFIG },
};
export const VALIDATOR_WEBHOOK_NAMES: WebhookNames = {
  component: "policy",
  value: "policyValidator",
  service: "mesh-policy-validator",
  secret: "mesh-policy-validator-k8s-tls",
  lease: "mesh-policy-validator-credentials",
  verifier: { kind: "ValidatingWebhookConfiguration", name: "mesh-policy-validator-webhook-config" },
};
/** In the order in which they are installed. */
export const WEBHOOKS = [INJECTOR_WEBHOOK_NAMES, VALIDATOR_WEBHOOK_NAMES] as const;
/** Port of the policy controller's pods on which it validates. */
export const VALIDATOR_PORT = 9443;

/** Labels and annotations, exactly Linkerd's. */
export const KEYS = {
  inject: "linkerd.io/inject",
  createdBy: "linkerd.io/created-by",
  proxyVersion: "linkerd.io/proxy-version",
  trustRootSha256: "linkerd.io/trust-root-sha256",
  /** Annotations outside `linkerd.io/` that injection put on the pod, so that uninjection knows them from the user's. */
  addedAnnotations: "linkerd.io/added-annotations",
  controlPlaneNs: "linkerd.io/control-plane-ns",
  controlPlaneComponent: "linkerd.io/control-plane-component",
  workloadNs: "linkerd.io/workload-ns",
  isControlPlane: "linkerd.io/is-control-plane",
  cniResource: "linkerd.io/cni-resource",
  extension: "linkerd.io/extension",
  admissionWebhooks: "config.linkerd.io/admission-webhooks",
  opaquePorts: "config.linkerd.io/opaque-ports",
  skipInboundPorts: "config.linkerd.io/skip-inbound-ports",
  inboundPort: "config.linkerd.io/inbound-port",
  defaultInboundPolicy: "config.linkerd.io/default-inbound-policy",
  adminShutdown: "config.linkerd.io/proxy-admin-shutdown",
  disableTap: "viz.linkerd.io/disable-tap",
  tapEnabled: "viz.linkerd.io/tap-enabled",
  /** Of Services and slices that stand for those of another cluster. */
  remoteCluster: "multicluster.linkerd.io/remote-discovery",
  remoteService: "multicluster.linkerd.io/remote-service",
  remoteGatewayIdentity: "mirror.linkerd.io/remote-gateway-identity",
  remoteServiceName: "mirror.linkerd.io/remote-svc-fq-name",
  defaultContainer: "kubectl.kubernetes.io/default-container",
  /** What spans say of the pod: OpenTelemetry's own prefix for Kubernetes. */
  otelResource: "resource.opentelemetry.io/",
  /** Domain of what injection itself adds; settings of the user live under `config.linkerd.io/`. */
  domain: "linkerd.io/",
  proxyLabelPrefix: "linkerd.io/proxy-",
  config: "config.linkerd.io/",
  configAlpha: "config.alpha.linkerd.io/",
  configBeta: "config.beta.linkerd.io/",
} as const;

/** Identity of a ServiceAccount's pods: `<sa>.<ns>.serviceaccount.identity.<mesh ns>.<trust domain>`. */
export function identityName(
  serviceAccount: string,
  namespace: string,
  mesh: { readonly namespace: string; readonly trustDomain: string },
): string {
  return `${serviceAccount}.${namespace}.serviceaccount.identity.${mesh.namespace}.${mesh.trustDomain}`;
}

/** Absolute DNS name of a Service with its port, as the proxy resolves it: a trailing dot skips search domains. */
export function serviceAddress(service: string, namespace: string, domain: string, port: number): string {
  return `${service}.${namespace}.svc.${domain}.:${port}`;
}
