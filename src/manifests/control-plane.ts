// The control plane as Kubernetes objects: one typed function a part, no templates.

import { KINDS } from "../crds/index.ts";
import { resourcesOf, restricted } from "../inject/containers.ts";
import { applyPatch, injectPod, type LocalComponent, type PodTemplate } from "../inject/index.ts";
import type { KubeObject } from "../kube/types.ts";
import { formatPortSet, parsePortSet } from "../util/port-set.ts";
import { VERSION } from "../util/version.ts";
import { type IdentityCredentials, type WebhookCredentials, webhookSecretData } from "./credentials.ts";
import {
  COMPONENTS,
  CONFIG_KEY,
  CONFIG_MAP,
  type ComponentNames,
  INJECTOR_TLS_SECRET,
  INJECTOR_WEBHOOK,
  INJECTOR_WEBHOOK_NAMES,
  ISSUER_SECRET,
  KEYS,
  TRUST_ROOTS_CONFIG_MAP,
  TRUST_ROOTS_KEY,
  VALIDATOR_PORT,
  VALIDATOR_WEBHOOK_NAMES,
  WEBHOOKS,
  type WebhookNames,
} from "./names.ts";
import { rbacOf } from "./rbac.ts";
import type { Values } from "./values.ts";

export type Manifest = KubeObject & Readonly<Record<string, unknown>>;

export interface ControlPlaneOptions {
  /** With `identityTrustAnchorsPEM` set. */
  readonly values: Values;
  readonly identity: Pick<IdentityCredentials, "issuerCertificate" | "issuerKey">;
  /** By the value that has the webhook's settings. */
  readonly webhooks: Readonly<Record<WebhookNames["value"], WebhookCredentials>>;
}

/** Everything `install` creates besides the custom resource definitions, in the order of creation. */
export function controlPlane({ values, identity, webhooks }: ControlPlaneOptions): Manifest[] {
  const keys = Object.keys(COMPONENTS) as ComponentKey[];
  return [
    namespaceOf(values),
    ...keys.flatMap((key) => rbacOf(key, values) as Manifest[]),
    configOf(values),
    trustRootsOf(values),
    secret(values, ISSUER_SECRET, "identity", "linkerd.io/tls", {
      "crt.pem": base64(identity.issuerCertificate),
      "key.pem": base64(identity.issuerKey),
    }),
    ...WEBHOOKS.filter(({ value }) => !values[value].externalSecret).map(
      ({ value, secret: name, component }) =>
        secret(
          values,
          name,
          COMPONENTS[component].name,
          "kubernetes.io/tls",
          webhookSecretData(webhooks[value]),
        ),
    ),
    ...keys.flatMap((key) => servicesOf(values, COMPONENTS[key])),
    validatorService(values),
    ...keys.map((key) => deploymentOf(values, key)),
    ...(values.enablePodDisruptionBudget ? keys.map((key) => disruptionBudgetOf(values, key)) : []),
    ...WEBHOOKS.map((names) => {
      const { externalSecret, caBundle } = values[names.value];
      return webhookConfiguration(values, names, externalSecret ? caBundle : webhooks[names.value].caBundle);
    }),
  ];
}

type ComponentKey = keyof typeof COMPONENTS;

function labelsOf(values: Values, component: string): Record<string, string> {
  return {
    "app.kubernetes.io/name": component,
    "app.kubernetes.io/part-of": "kubectl-mesh",
    "app.kubernetes.io/version": VERSION,
    [KEYS.controlPlaneComponent]: component,
    [KEYS.controlPlaneNs]: values.namespace,
  };
}

function namespaceOf(values: Values): Manifest {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name: values.namespace,
      labels: {
        [KEYS.isControlPlane]: "true",
        [KEYS.admissionWebhooks]: "disabled",
        [KEYS.controlPlaneNs]: values.namespace,
        // Laying the redirect needs NET_ADMIN, which the baseline level forbids.
        "pod-security.kubernetes.io/enforce": values.cniEnabled ? "restricted" : "privileged",
      },
      annotations: { [KEYS.inject]: "disabled" },
    },
  };
}

function configOf(values: Values): Manifest {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: CONFIG_MAP,
      namespace: values.namespace,
      labels: { [KEYS.controlPlaneComponent]: "config", [KEYS.controlPlaneNs]: values.namespace },
      annotations: { [KEYS.createdBy]: `linkerd/cli ${VERSION}` },
    },
    // JSON is YAML too, and every controller can read it without a YAML library.
    data: { [CONFIG_KEY]: `${JSON.stringify(values, undefined, 2)}\n` },
  };
}

function trustRootsOf(values: Values): Manifest {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: TRUST_ROOTS_CONFIG_MAP,
      namespace: values.namespace,
      labels: { [KEYS.controlPlaneComponent]: "identity", [KEYS.controlPlaneNs]: values.namespace },
    },
    data: { [TRUST_ROOTS_KEY]: values.identityTrustAnchorsPEM },
  };
}

function secret(
  values: Values,
  name: string,
  component: string,
  type: string,
  data: Readonly<Record<string, string>>,
): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    type,
    metadata: {
      name,
      namespace: values.namespace,
      labels: { [KEYS.controlPlaneComponent]: component, [KEYS.controlPlaneNs]: values.namespace },
    },
    data,
  };
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");

function servicesOf(values: Values, component: ComponentNames): Manifest[] {
  const labels = { [KEYS.controlPlaneComponent]: component.name, [KEYS.controlPlaneNs]: values.namespace };
  const service = (name: string, headless: boolean): Manifest => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: values.namespace, labels },
    spec: {
      ...(headless ? { clusterIP: "None" } : { type: "ClusterIP" }),
      selector: labels,
      ports: [{ name: component.portName, port: component.servicePort, targetPort: component.port }],
    },
  });
  // Proxies dial the headless one, so that they balance over its pods themselves.
  if (component.name === "policy") return [service(component.service, true)];
  const both = component.name === "identity" || component.name === "destination";
  return [
    service(component.service, false),
    ...(both ? [service(`${component.service}-headless`, true)] : []),
  ];
}

/** Where a controller finds its files. */
const PATHS = {
  issuer: "/var/run/linkerd/identity/issuer",
  trustRoots: "/var/run/linkerd/identity/trust-roots",
  config: "/var/run/linkerd/config",
  tls: "/var/run/linkerd/tls",
} as const;

/**
 * Of the controllers that every proxy watches with hundreds of streams. Young memory of 8 MB: what a storm of changes leaves
 * behind is garbage by the time it is looked at, and does not grow old. Old memory grows by 40 % between its collections,
 * where V8 would let it grow further: much of it is what became garbage late. It is marked in threads: on the main one, whatever
 * changes meanwhile is told half a second later. Collected once the cluster is known
 * (controller/cluster-feed.ts). `npm run bench:discovery` measures them.
 */
export const DISCOVERY_NODE_FLAGS: readonly string[] = [
  "--max-semi-space-size=8",
  "--heap-growing-percent=40",
  "--expose-gc",
];

interface Part {
  /** Node's own. */
  readonly nodeFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Volumes by name, with where they are mounted. */
  readonly mounts?: Readonly<Record<string, { readonly path: string; readonly source: object }>>;
  /** Outbound ports that must not go through the pod's own proxy, besides the API server's. */
  readonly skipOutbound?: string;
  readonly opaquePorts?: string;
}

const configMap = (name: string) => ({ configMap: { name } });
const secretSource = (secretName: string) => ({ secret: { secretName } });

function partOf(values: Values, key: ComponentKey): Part {
  const trustRoots = { path: PATHS.trustRoots, source: configMap(TRUST_ROOTS_CONFIG_MAP) };
  const { issuer } = values.identity;
  switch (key) {
    case "identity":
      return {
        env: {
          MESH_ISSUER_DIR: PATHS.issuer,
          MESH_ISSUER_SCHEME: issuer.scheme,
          MESH_TRUST_ROOTS_FILE: `${PATHS.trustRoots}/${TRUST_ROOTS_KEY}`,
          MESH_ISSUANCE_LIFETIME: issuer.issuanceLifetime,
          MESH_CLOCK_SKEW_ALLOWANCE: issuer.clockSkewAllowance,
        },
        mounts: {
          "identity-issuer": { path: PATHS.issuer, source: secretSource(ISSUER_SECRET) },
          "trust-roots": trustRoots,
        },
      };
    case "destination":
      return {
        nodeFlags: DISCOVERY_NODE_FLAGS,
        env: { MESH_DEFAULT_OPAQUE_PORTS: values.proxy.opaquePorts },
      };
    case "policy":
      return {
        nodeFlags: DISCOVERY_NODE_FLAGS,
        env: {
          MESH_DEFAULT_POLICY: values.proxy.defaultInboundPolicy,
          MESH_DEFAULT_OPAQUE_PORTS: values.proxy.opaquePorts,
          MESH_GLOBAL_EGRESS_NAMESPACE: values.egress.globalEgressNetworkNamespace,
          MESH_ALLOW_L5D_REQUEST_HEADERS: String(values.policyController.allowL5dRequestHeaders),
          MESH_WEBHOOK_PORT: String(VALIDATOR_PORT),
          ...webhookEnv(values, VALIDATOR_WEBHOOK_NAMES),
        },
        mounts: { tls: { path: PATHS.tls, source: secretSource(VALIDATOR_WEBHOOK_NAMES.secret) } },
        opaquePorts: String(VALIDATOR_PORT),
      };
    case "proxyInjector":
      return {
        env: {
          MESH_CONFIG_FILE: `${PATHS.config}/${CONFIG_KEY}`,
          MESH_TRUST_ROOTS_FILE: `${PATHS.trustRoots}/${TRUST_ROOTS_KEY}`,
          ...webhookEnv(values, INJECTOR_WEBHOOK_NAMES),
        },
        mounts: {
          config: { path: PATHS.config, source: configMap(CONFIG_MAP) },
          "trust-roots": trustRoots,
          tls: { path: PATHS.tls, source: secretSource(INJECTOR_TLS_SECRET) },
        },
        // The API server speaks its own TLS to it.
        opaquePorts: String(COMPONENTS.proxyInjector.port),
      };
    case "metricsApi":
      // Proxies' admin ports are outside the mesh, in their pods and so here.
      return { skipOutbound: String(values.proxy.ports.admin) };
  }
}

const webhookEnv = (values: Values, { value }: WebhookNames): Record<string, string> => ({
  MESH_TLS_DIR: PATHS.tls,
  ...(values[value].externalSecret
    ? {}
    : { MESH_WEBHOOK_CERTIFICATE_LIFETIME: values.webhookCertificateLifetime }),
});

function deploymentOf(values: Values, key: ComponentKey): Manifest {
  const component: ComponentNames = COMPONENTS[key];
  const labels = labelsOf(values, component.name);
  const selector = selectorOf(values, component);
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: component.workload, namespace: values.namespace, labels },
    spec: {
      replicas: values.controllerReplicas,
      revisionHistoryLimit: 10,
      strategy: values.deploymentStrategy,
      selector: { matchLabels: selector },
      template: meshed(values, component, podTemplate(values, component, partOf(values, key), labels)),
    },
  };
}

const selectorOf = (values: Values, component: ComponentNames): Record<string, string> => ({
  [KEYS.controlPlaneComponent]: component.name,
  [KEYS.controlPlaneNs]: values.namespace,
});

/** Drains of nodes and other evictions leave enough replicas at work. */
function disruptionBudgetOf(values: Values, key: ComponentKey): Manifest {
  const component: ComponentNames = COMPONENTS[key];
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: {
      name: component.workload,
      namespace: values.namespace,
      labels: labelsOf(values, component.name),
    },
    spec: {
      maxUnavailable: values.controller.podDisruptionBudget.maxUnavailable,
      selector: { matchLabels: selectorOf(values, component) },
    },
  };
}

/** Never two on a node; over zones as far as there are several. */
function antiAffinityOf(values: Values, component: ComponentNames): object {
  const labelSelector = { matchLabels: selectorOf(values, component) };
  return {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { labelSelector, topologyKey: "kubernetes.io/hostname" },
      ],
      preferredDuringSchedulingIgnoredDuringExecution: [
        {
          weight: 100,
          podAffinityTerm: { labelSelector, topologyKey: "topology.kubernetes.io/zone" },
        },
      ],
    },
  };
}

function podTemplate(
  values: Values,
  component: ComponentNames,
  part: Part,
  labels: Readonly<Record<string, string>>,
): PodTemplate {
  const { ignoreOutboundPorts, kubeAPIServerPorts } = values.proxyInit;
  const skipped = [ignoreOutboundPorts, kubeAPIServerPorts, part.skipOutbound ?? ""].join(",");
  const mounts = Object.entries(part.mounts ?? {});
  return {
    metadata: {
      labels,
      annotations: {
        ...(values.podAnnotations as Record<string, string>),
        [KEYS.createdBy]: `linkerd/cli ${VERSION}`,
        [`${KEYS.config}skip-outbound-ports`]: formatPortSet(parsePortSet(skipped)),
        // Every proxy of the cluster must reach the control plane before policy says anything.
        [`${KEYS.config}default-inbound-policy`]: "all-unauthenticated",
        ...(part.opaquePorts ? { [KEYS.opaquePorts]: part.opaquePorts } : {}),
      },
    },
    spec: {
      serviceAccountName: component.workload,
      automountServiceAccountToken: false,
      ...(values.imagePullSecrets.length > 0 ? { imagePullSecrets: values.imagePullSecrets } : {}),
      nodeSelector: values.nodeSelector,
      ...(values.enablePodAntiAffinity ? { affinity: antiAffinityOf(values, component) } : {}),
      ...(values.tolerations.length > 0 ? { tolerations: values.tolerations } : {}),
      securityContext: { seccompProfile: { type: "RuntimeDefault" } },
      containers: [controllerContainer(values, component, part)],
      volumes: [
        ...mounts.map(([name, { source }]) => ({ name, ...source })),
        { name: API_ACCESS, projected: { sources: API_ACCESS_SOURCES } },
      ],
    } as NonNullable<PodTemplate["spec"]>,
  };
}

const API_ACCESS = "kube-api-access";

/** What Kubernetes would mount by itself, but into the controller only: the proxy does not get the token. */
const API_ACCESS_SOURCES = [
  { serviceAccountToken: { path: "token", expirationSeconds: 3607 } },
  { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
  { downwardAPI: { items: [{ path: "namespace", fieldRef: { fieldPath: "metadata.namespace" } }] } },
];

function controllerContainer(values: Values, component: ComponentNames, part: Part) {
  const env: Record<string, string> = {
    MESH_NAMESPACE: values.namespace,
    MESH_CLUSTER_DOMAIN: values.clusterDomain,
    MESH_TRUST_DOMAIN: values.identityTrustDomain,
    MESH_CLUSTER_NETWORKS: values.clusterNetworks,
    MESH_LOG_LEVEL: values.controllerLogLevel,
    MESH_LOG_FORMAT: values.controllerLogFormat,
    MESH_PORT: String(component.port),
    MESH_ADMIN_PORT: String(component.adminPort),
    ...part.env,
  };
  const probe = (path: string) => ({ httpGet: { path, port: component.adminPort } });
  const resources = resourcesOf(values.controllerResources);
  return {
    name: component.name,
    image: `${values.image.name}:${values.image.version}`,
    imagePullPolicy: values.image.pullPolicy,
    command: ["node", ...(part.nodeFlags ?? []), `/app/dist/entry/${component.name}.js`],
    env: Object.entries(env).map(([name, value]) => ({ name, value })),
    ports: [
      { name: component.portName, containerPort: component.port },
      { name: "admin", containerPort: component.adminPort },
    ],
    livenessProbe: { ...probe("/live"), initialDelaySeconds: 10 },
    readinessProbe: { ...probe("/ready"), periodSeconds: 2, failureThreshold: 7 },
    ...(resources ? { resources } : {}),
    securityContext: restricted(values.controllerUID, values.controllerGID),
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: [
      ...Object.entries(part.mounts ?? {}).map(([name, { path }]) => ({
        name,
        mountPath: path,
        readOnly: true,
      })),
      { name: API_ACCESS, mountPath: "/var/run/secrets/kubernetes.io/serviceaccount", readOnly: true },
    ],
  };
}

/** The template with its proxy, by the same mutation as every other pod's. */
function meshed(values: Values, component: ComponentNames, template: PodTemplate): PodTemplate {
  const own: readonly string[] = ["identity", "destination", "policy"];
  const { operations } = injectPod({
    template,
    path: "",
    namespace: { name: values.namespace },
    owner: { kind: "Deployment", name: component.workload },
    values,
    origin: "cli",
    createdBy: `linkerd/cli ${VERSION}`,
    local: own.includes(component.name) ? (component.name as LocalComponent) : undefined,
    mountTrustRoots: true,
  });
  return applyPatch(template, operations);
}

/** How API servers reach the validating webhook: as a Service of its own, which has an address. */
function validatorService(values: Values): Manifest {
  const { name } = COMPONENTS.policy;
  const labels = { [KEYS.controlPlaneComponent]: name, [KEYS.controlPlaneNs]: values.namespace };
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: VALIDATOR_WEBHOOK_NAMES.service, namespace: values.namespace, labels },
    spec: {
      type: "ClusterIP",
      selector: labels,
      ports: [{ name: "webhook", port: 443, targetPort: VALIDATOR_PORT }],
    },
  };
}

function webhookConfiguration(values: Values, names: WebhookNames, caBundle: string): Manifest {
  const { verifier, service, component, value } = names;
  return {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: verifier.kind,
    metadata: {
      name: verifier.name,
      labels: {
        [KEYS.controlPlaneComponent]: COMPONENTS[component].name,
        [KEYS.controlPlaneNs]: values.namespace,
      },
    },
    webhooks: (value === "proxyInjector" ? injectorHooks(values) : validatorHooks()).map((hook) => ({
      failurePolicy: values.webhookFailurePolicy,
      ...hook,
      namespaceSelector: values[value].namespaceSelector,
      clientConfig: {
        service: { name: service, namespace: values.namespace, path: "/", port: 443 },
        caBundle: base64(caBundle),
      },
      admissionReviewVersions: ["v1"],
      sideEffects: "None",
      timeoutSeconds: values[value].timeoutSeconds,
    })),
  };
}

const hookRule = (
  operations: readonly string[],
  apiGroups: readonly string[],
  apiVersions: readonly string[],
  resources: readonly string[],
  scope = "Namespaced",
) => ({ operations, apiGroups, apiVersions, resources, scope });

const injectorHooks = (values: Values) => [
  {
    name: INJECTOR_WEBHOOK,
    objectSelector: values.proxyInjector.objectSelector,
    rules: [hookRule(["CREATE"], [""], ["v1"], ["pods", "services"])],
  },
];

const WRITES = ["CREATE", "UPDATE"];

/** What the validating webhook is asked about. Names are Linkerd's where Linkerd has the webhook. */
function validatorHooks() {
  const kindsOf = (group: string) =>
    hookRule(
      WRITES,
      [group],
      ["*"],
      KINDS.filter((kind) => kind.group === group).map(({ plural }) => plural),
    );
  return [
    {
      name: "linkerd-policy-validator.linkerd.io",
      rules: [
        kindsOf("policy.linkerd.io"),
        kindsOf("gateway.networking.k8s.io"),
        kindsOf("split.smi-spec.io"),
      ],
    },
    {
      name: "linkerd-sp-validator.linkerd.io",
      rules: [kindsOf("linkerd.io"), kindsOf("workload.linkerd.io"), kindsOf("multicluster.linkerd.io")],
    },
    {
      // These are only warned about: nothing of Kubernetes' own waits for the mesh.
      name: "linkerd-annotation-validator.linkerd.io",
      failurePolicy: "Ignore",
      rules: [
        hookRule(WRITES, [""], ["v1"], ["services"]),
        hookRule(WRITES, [""], ["v1"], ["namespaces"], "Cluster"),
        hookRule(WRITES, ["apps"], ["v1"], ["deployments", "statefulsets", "daemonsets"]),
        hookRule(WRITES, ["batch"], ["v1"], ["jobs", "cronjobs"]),
      ],
    },
  ];
}
