// The mesh's custom resource definitions: Linkerd's groups, versions and names, with structural schemas.
import type { KubeObject } from "../kube/types.ts";
import { DEFAULT_POLICIES } from "../rules/default-policy.ts";
import { KEYS } from "./names.ts";

/** An OpenAPI v3 schema, as a CustomResourceDefinition holds it. */
type OpenApi = Readonly<Record<string, unknown>>;

const string = (more: OpenApi = {}): OpenApi => ({ type: "string", ...more });
const oneOf = (...values: string[]): OpenApi => string({ enum: values });
const integer = (more: OpenApi = {}): OpenApi => ({ type: "integer", ...more });
const bool: OpenApi = { type: "boolean" };
const number: OpenApi = { type: "number" };
const array = (items: OpenApi, more: OpenApi = {}): OpenApi => ({ type: "array", items, ...more });
const object = (
  properties: Readonly<Record<string, OpenApi>>,
  required: readonly string[] = [],
): OpenApi => ({
  type: "object",
  ...(required.length > 0 ? { required } : {}),
  properties,
});
const stringMap: OpenApi = { type: "object", additionalProperties: { type: "string" } };
const port = integer({ minimum: 1, maximum: 65_535 });
const portOrName: OpenApi = { "x-kubernetes-int-or-string": true };
const anyObject: OpenApi = { type: "object", "x-kubernetes-preserve-unknown-fields": true };

const labelSelector = object({
  matchLabels: stringMap,
  matchExpressions: array(
    object(
      { key: string(), operator: oneOf("In", "NotIn", "Exists", "DoesNotExist"), values: array(string()) },
      ["key", "operator"],
    ),
  ),
});

const networks = array(object({ cidr: string(), except: array(string()) }, ["cidr"]), { minItems: 1 });

/** A reference to another object, as the Gateway API's policy attachment writes it. */
const reference = (...kinds: string[]): OpenApi =>
  object(
    {
      group: string({ maxLength: 253 }),
      kind: kinds.length > 0 ? oneOf(...kinds) : string({ minLength: 1, maxLength: 63 }),
      name: string({ minLength: 1, maxLength: 253 }),
      namespace: string({ maxLength: 63 }),
    },
    ["kind", "name"],
  );

const conditions = array(
  object(
    {
      type: string(),
      status: oneOf("True", "False", "Unknown"),
      reason: string(),
      message: string(),
      lastTransitionTime: string({ format: "date-time" }),
      observedGeneration: integer({ format: "int64" }),
    },
    ["type", "status"],
  ),
  { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] },
);
const statusOfConditions = object({ conditions });

const routeStatus = object({
  parents: array(
    object({
      parentRef: anyObject,
      controllerName: string(),
      conditions,
    }),
  ),
});

const server = object(
  {
    podSelector: labelSelector,
    externalWorkloadSelector: labelSelector,
    port: portOrName,
    proxyProtocol: string({
      enum: ["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"],
      default: "unknown",
    }),
    accessPolicy: string({ enum: DEFAULT_POLICIES, default: "deny" }),
  },
  ["port"],
);

const serverAuthorization = object(
  {
    server: object({ name: string(), selector: labelSelector }),
    client: object({
      networks,
      unauthenticated: bool,
      meshTLS: object({
        unauthenticatedTLS: bool,
        identities: array(string()),
        serviceAccounts: array(object({ name: string(), namespace: string() }, ["name"])),
      }),
    }),
  },
  ["server", "client"],
);

const authorizationPolicy = object(
  {
    targetRef: reference(),
    requiredAuthenticationRefs: array(reference()),
  },
  ["targetRef", "requiredAuthenticationRefs"],
);

const meshTlsAuthentication: OpenApi = {
  ...object({
    identities: array(string(), { minItems: 1 }),
    identityRefs: array(reference("ServiceAccount", "Namespace"), { minItems: 1 }),
  }),
  oneOf: [{ required: ["identities"] }, { required: ["identityRefs"] }],
};

const rate = (minimum: number): OpenApi =>
  object({ requestsPerSecond: integer({ format: "int64", minimum }) }, ["requestsPerSecond"]);

const rateLimit = object(
  {
    targetRef: reference("Server"),
    total: rate(1),
    identity: rate(1),
    overrides: array(
      object(
        {
          requestsPerSecond: integer({ format: "int64", minimum: 0 }),
          clientRefs: array(reference("ServiceAccount"), { minItems: 1 }),
        },
        ["requestsPerSecond", "clientRefs"],
      ),
    ),
  },
  ["targetRef"],
);

const egressNetwork = object(
  {
    trafficPolicy: oneOf("Allow", "Deny"),
    networks,
  },
  ["trafficPolicy"],
);

const headerValues = array(object({ name: string({ minLength: 1 }), value: string() }, ["name", "value"]));
const headerModifier = object({ set: headerValues, add: headerValues, remove: array(string()) });
const nameValueMatch = array(
  object({ name: string({ minLength: 1 }), type: oneOf("Exact", "RegularExpression"), value: string() }, [
    "name",
    "value",
  ]),
);
const filters = array(
  object(
    {
      type: oneOf("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"),
      requestHeaderModifier: headerModifier,
      responseHeaderModifier: headerModifier,
      requestRedirect: object({
        scheme: oneOf("http", "https"),
        hostname: string(),
        port,
        statusCode: integer({ enum: [301, 302] }),
        path: object({
          type: oneOf("ReplaceFullPath", "ReplacePrefixMatch"),
          replaceFullPath: string(),
          replacePrefixMatch: string(),
        }),
      }),
    },
    ["type"],
  ),
);

const httpRoute = object({
  parentRefs: array(
    object(
      { group: string(), kind: string(), name: string(), namespace: string(), port, sectionName: string() },
      ["name"],
    ),
  ),
  hostnames: array(string()),
  rules: array(
    object({
      matches: array(
        object({
          path: object({ type: oneOf("Exact", "PathPrefix", "RegularExpression"), value: string() }),
          method: string(),
          headers: nameValueMatch,
          queryParams: nameValueMatch,
        }),
      ),
      filters,
      backendRefs: array(
        object(
          {
            group: string(),
            kind: string(),
            name: string(),
            namespace: string(),
            port,
            weight: integer({ minimum: 0, maximum: 1_000_000 }),
            filters,
          },
          ["name"],
        ),
      ),
      timeouts: object({ request: string(), backendRequest: string() }),
    }),
  ),
});

/** Conditions nest (`all`, `any`, `not`) without bound, which a structural schema cannot say. */
const requestMatch: OpenApi = {
  ...object({ pathRegex: string(), method: string() }),
  "x-kubernetes-preserve-unknown-fields": true,
};
const responseMatch: OpenApi = {
  ...object({ status: object({ min: integer(), max: integer() }) }),
  "x-kubernetes-preserve-unknown-fields": true,
};

const serviceProfile = object({
  routes: array(
    object(
      {
        name: string(),
        condition: requestMatch,
        responseClasses: array(object({ condition: responseMatch, isFailure: bool }, ["condition"])),
        isRetryable: bool,
        timeout: string(),
      },
      ["name", "condition"],
    ),
  ),
  retryBudget: object({ retryRatio: number, minRetriesPerSecond: integer({ minimum: 0 }), ttl: string() }, [
    "retryRatio",
    "minRetriesPerSecond",
    "ttl",
  ]),
  dstOverrides: array(
    object({ authority: string(), weight: { "x-kubernetes-int-or-string": true } }, ["authority"]),
  ),
  opaquePorts: array(string()),
});

const externalWorkload = object(
  {
    meshTLS: object({ identity: string({ minLength: 1 }), serverName: string({ minLength: 1 }) }, [
      "identity",
      "serverName",
    ]),
    ports: array(
      object({ name: string(), port, protocol: string({ enum: ["TCP", "UDP", "SCTP"], default: "TCP" }) }, [
        "port",
      ]),
    ),
    workloadIPs: array(object({ ip: string() }, ["ip"]), { maxItems: 2 }),
  },
  ["meshTLS"],
);

interface Definition {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  /** Served versions, oldest first; the last one is stored. */
  readonly versions: readonly string[];
  readonly spec: OpenApi;
  readonly status?: OpenApi;
  /** Header and JSON path of extra columns in `kubectl get`. */
  readonly columns?: Readonly<Record<string, string>>;
}

const POLICY = "policy.linkerd.io";

const DEFINITIONS: readonly Definition[] = [
  {
    group: POLICY,
    kind: "Server",
    plural: "servers",
    shortNames: ["srv"],
    versions: ["v1beta1", "v1beta2", "v1beta3"],
    spec: server,
    columns: { Port: ".spec.port", Protocol: ".spec.proxyProtocol", "Access Policy": ".spec.accessPolicy" },
  },
  {
    group: POLICY,
    kind: "ServerAuthorization",
    plural: "serverauthorizations",
    shortNames: ["saz", "serverauthz", "srvauthz"],
    versions: ["v1alpha1", "v1beta1"],
    spec: serverAuthorization,
    columns: { Server: ".spec.server.name" },
  },
  {
    group: POLICY,
    kind: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    shortNames: ["authzpolicy"],
    versions: ["v1alpha1"],
    spec: authorizationPolicy,
  },
  {
    group: POLICY,
    kind: "MeshTLSAuthentication",
    plural: "meshtlsauthentications",
    shortNames: ["meshtlsauthn"],
    versions: ["v1alpha1"],
    spec: meshTlsAuthentication,
  },
  {
    group: POLICY,
    kind: "NetworkAuthentication",
    plural: "networkauthentications",
    shortNames: ["netauthn", "networkauthn"],
    versions: ["v1alpha1"],
    spec: object({ networks }, ["networks"]),
  },
  {
    group: POLICY,
    kind: "HTTPRoute",
    plural: "httproutes",
    versions: ["v1alpha1", "v1beta1", "v1beta2", "v1beta3"],
    spec: httpRoute,
    status: routeStatus,
    columns: { Hostnames: ".spec.hostnames" },
  },
  {
    group: POLICY,
    kind: "HTTPLocalRateLimitPolicy",
    plural: "httplocalratelimitpolicies",
    versions: ["v1alpha1"],
    spec: rateLimit,
    status: object({ conditions, targetRef: reference() }),
    columns: {
      "Target Kind": ".spec.targetRef.kind",
      "Target Name": ".spec.targetRef.name",
      "Total RPS": ".spec.total.requestsPerSecond",
      "Identity RPS": ".spec.identity.requestsPerSecond",
    },
  },
  {
    group: POLICY,
    kind: "EgressNetwork",
    plural: "egressnetworks",
    versions: ["v1alpha1"],
    spec: egressNetwork,
    status: statusOfConditions,
    columns: { "Traffic Policy": ".spec.trafficPolicy" },
  },
  {
    group: "linkerd.io",
    kind: "ServiceProfile",
    plural: "serviceprofiles",
    shortNames: ["sp"],
    versions: ["v1alpha1", "v1alpha2"],
    spec: serviceProfile,
  },
  {
    group: "workload.linkerd.io",
    kind: "ExternalWorkload",
    plural: "externalworkloads",
    versions: ["v1alpha1", "v1beta1"],
    spec: externalWorkload,
    status: statusOfConditions,
    columns: { Identity: ".spec.meshTLS.identity" },
  },
];

export interface CustomResourceDefinition extends KubeObject {
  readonly spec: {
    readonly group: string;
    readonly scope: "Namespaced";
    readonly names: { readonly kind: string; readonly plural: string; readonly singular: string };
    readonly versions: readonly {
      readonly name: string;
      readonly served: boolean;
      readonly storage: boolean;
    }[];
  };
}

/** All definitions, in the order of installation. */
export function customResourceDefinitions(namespace: string): CustomResourceDefinition[] {
  return DEFINITIONS.map((definition) => {
    const { group, kind, plural, versions } = definition;
    const schema = {
      type: "object",
      required: ["spec"],
      properties: {
        apiVersion: string(),
        kind: string(),
        metadata: { type: "object" },
        spec: definition.spec,
        ...(definition.status ? { status: definition.status } : {}),
      },
    };
    return {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `${plural}.${group}`, labels: { [KEYS.controlPlaneNs]: namespace } },
      spec: {
        group,
        scope: "Namespaced",
        names: {
          kind,
          listKind: `${kind}List`,
          plural,
          singular: kind.toLowerCase(),
          ...(definition.shortNames ? { shortNames: definition.shortNames } : {}),
        },
        versions: versions.map((name, index) => ({
          name,
          served: true,
          storage: index === versions.length - 1,
          schema: { openAPIV3Schema: schema },
          ...(definition.status ? { subresources: { status: {} } } : {}),
          additionalPrinterColumns: [
            ...Object.entries(definition.columns ?? {}).map(([column, jsonPath]) => ({
              name: column,
              type: "string",
              jsonPath,
            })),
            { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
          ],
        })),
      },
    };
  });
}
