// Tests that show more of a kind than that its fields make a difference, and tests of annotations that are nobody's setting.

/** A file, and a test's name; `*` is what a table of cases fills in. */
export type TestRef = readonly [file: string, name: string];

const INBOUND = "test/controller/policy/inbound.test.ts";
const OUTBOUND = "test/controller/policy/outbound.test.ts";
const STATUS = "test/controller/policy/status.test.ts";
const DESTINATION = "test/controller/destination/service.test.ts";
const E2E = "test/e2e/policy.test.ts";
const E2E_ROUTES = "test/e2e/routes.test.ts";
const ROUTES = "test/proxy/outbound/routes.test.ts";
const FILTERS = "test/proxy/outbound/mesh-filters.test.ts";
const PROXY_RATE: TestRef = [
  "test/proxy/inbound/routes.test.ts",
  "requests beyond the rate limit are answered 429 until the second is over",
];

/** By kind, as `test/crds/effects` names it. */
export const ALSO: Readonly<Record<string, readonly TestRef[]>> = {
  "policy.linkerd.io/Server": [
    [INBOUND, "Server.proxyProtocol *"],
    [INBOUND, "Server.accessPolicy *"],
    [
      "test/rules/server-choice.test.ts",
      "of two that select one port the older one speaks, whatever the order of looking; then the first by name",
    ],
    [STATUS, "of two Servers on one port the younger one's owner is told, once"],
    [E2E, "of two Servers on one port the older one holds, and the younger one's owner is told"],
  ],
  "policy.linkerd.io/ServerAuthorization": [
    ["test/rules/server-authorizations.test.ts", "ServerAuthorization: *"],
    [INBOUND, "every kind of authorization that targets the Server or its namespace counts, and no other"],
  ],
  "policy.linkerd.io/AuthorizationPolicy": [
    ["test/rules/server-authorizations.test.ts", "AuthorizationPolicy: *"],
    [INBOUND, "what the routes of a Server do to requests, judged as the proxy does"],
    [E2E, "a Server lets in whom an AuthorizationPolicy names, and the kubelet's probes"],
    [E2E, "a route on the Server may be opened to others; what no route takes is not found"],
  ],
  "policy.linkerd.io/MeshTLSAuthentication": [
    [INBOUND, "an authentication that comes, changes and goes takes its policy with it"],
    [E2E, "a Server lets in whom an AuthorizationPolicy names, and the kubelet's probes"],
  ],
  "policy.linkerd.io/NetworkAuthentication": [
    [INBOUND, "an authentication that comes, changes and goes takes its policy with it"],
  ],
  "policy.linkerd.io/HTTPLocalRateLimitPolicy": [
    [INBOUND, "the oldest HTTPLocalRateLimitPolicy of a Server, with its limits, identities and overrides"],
    PROXY_RATE,
    [
      E2E,
      "a local rate limit answers 429 beyond it; a second one on the same Server is told that it is one too many",
    ],
  ],
  "policy.linkerd.io/HTTPRoute": [
    [OUTBOUND, "parentRefs: *"],
    [OUTBOUND, "timeouts: *"],
    [INBOUND, "what the routes of a Server do to requests, judged as the proxy does"],
    [STATUS, "a route on *"],
    [E2E, "outbound routes redirect, change headers, split, and end what takes too long"],
  ],
  "gateway.networking.k8s.io/HTTPRoute": [
    [OUTBOUND, "what an HTTPRoute takes and does, judged as the proxy does"],
    [OUTBOUND, "backendRefs: *"],
    [OUTBOUND, "retries: *"],
    [ROUTES, "a split shares requests by weight"],
    [FILTERS, "a URL is rewritten on its way, by the route and by the backend"],
    [FILTERS, "a mirror gets the request as the route sends it, and its answer goes nowhere"],
    [
      E2E,
      "definitions of the Gateway API that come later are followed; kinds of routes that conflict are told",
    ],
  ],
  "gateway.networking.k8s.io/GRPCRoute": [
    [OUTBOUND, "what a GRPCRoute takes and does"],
    [INBOUND, "GRPCRoutes go before HTTPRoutes, on gRPC Servers and as paths on others"],
    [E2E_ROUTES, "a GRPCRoute sends calls by method and header, by weight, and counts them"],
  ],
  "gateway.networking.k8s.io/TLSRoute": [
    [OUTBOUND, "what a TLSRoute takes"],
    [
      "test/proxy/outbound/outbound.test.ts",
      "TLS of the application's own goes by the server name that it asks for",
    ],
    [E2E_ROUTES, "a TLSRoute sends connections by the name that they ask for"],
  ],
  "gateway.networking.k8s.io/TCPRoute": [
    [OUTBOUND, "missing backends of gRPC, TLS and TCP routes fail in their own way"],
    [E2E_ROUTES, "a TCPRoute shares connections by weight"],
  ],
  "policy.linkerd.io/EgressNetwork": [
    [
      OUTBOUND,
      "the EgressNetwork of an address: the client's namespace, else the global one; the narrowest, then the oldest",
    ],
    [OUTBOUND, "trafficPolicy *: routes go before, and what they leave is the network's"],
    [STATUS, "an EgressNetwork of *"],
    [E2E, "an EgressNetwork that denies answers 403 for what lies outside, but for what a route allows"],
    [E2E_ROUTES, "an EgressNetwork forbids what lies outside; a route on it sends some of that to a Service"],
  ],
  "v1/Service": [
    ["test/rules/traffic-annotations.test.ts", "retries: *"],
    ["test/rules/traffic-annotations.test.ts", "told: *"],
    [
      "test/rules/failure-accrual.test.ts",
      "so many failures in a row shut it, a success between starts anew",
    ],
    [ROUTES, "a failing response is tried again with the same body"],
    [E2E, "annotations of a Service retry and time out; a misspelt one is told by an event"],
  ],
  "split.smi-spec.io/TrafficSplit": [
    [
      OUTBOUND,
      "a TrafficSplit shares the Service's traffic; the oldest one holds; what is missing fails for its share",
    ],
    [OUTBOUND, "weights as quantities, and Services by their hosts"],
    [E2E_ROUTES, "a TrafficSplit shares a Service's traffic, and routes hold beside it"],
    [
      DESTINATION,
      "a TrafficSplit is the policy's, and a profile's only beside its routes, unless the profile says where",
    ],
  ],
  "linkerd.io/ServiceProfile": [
    [DESTINATION, "a ServiceProfile: routes, budget, overrides; the client's own before the Service's"],
  ],
  "workload.linkerd.io/ExternalWorkload": [
    [DESTINATION, "ExternalWorkloads are endpoints with the identity that they say"],
    [INBOUND, "ExternalWorkloads have Servers and defaults of their own"],
    [
      "test/controller/destination/external-slices.test.ts",
      "a slice: name, labels, owner, ports by name, conditions",
    ],
  ],
  "v1/Namespace": [
    [DESTINATION, "a namespace's opaque ports hold for Services that say nothing"],
    [
      "test/controller/policy/service.test.ts",
      "the pod's word goes before its namespace's, that before the cluster's; nonsense counts for nothing",
    ],
  ],
  "discovery.k8s.io/EndpointSlice": [
    [
      DESTINATION,
      "the gateway of another cluster has its identity, and is asked for what it calls the Service",
    ],
  ],
};

const POD = "test/inject/pod.test.ts";
const IN_SLICES = "on slices: see `discovery.k8s.io/EndpointSlice` above";
const MIRROR = "the service mirror's own note; it changes nothing here";

/** Of keys that are no settings: the test of what they do, or why they do nothing. */
export const OPEN: Readonly<Record<string, TestRef | string>> = {
  "linkerd.io/created-by": [POD, "labels and annotations name the mesh, the namespace and the owner"],
  "linkerd.io/proxy-version": [POD, "labels and annotations name the mesh, the namespace and the owner"],
  "linkerd.io/trust-root-sha256": [POD, "labels and annotations name the mesh, the namespace and the owner"],
  "linkerd.io/helm-release-version": "Helm's own note; it changes nothing here",
  "linkerd.io/identity-issuer-expiry": "Linkerd's installer's own note; it changes nothing here",
  "linkerd.io/added-annotations": [
    "test/inject/stream.test.ts",
    "*: uninject takes back exactly what inject added, and injecting twice is injecting once",
  ],
  "viz.linkerd.io/tap-enabled": [
    POD,
    "requests can be watched where the installation says by whom, unless namespace or pod forbid it",
  ],
  "viz.linkerd.io/external-prometheus": "Linkerd viz's own note; it changes nothing here",
  "mirror.linkerd.io/remote-svc-fq-name": IN_SLICES,
  "mirror.linkerd.io/remote-gateway-identity": IN_SLICES,
  "mirror.linkerd.io/remote-resource-version": MIRROR,
  "mirror.linkerd.io/remote-gateway-resource-version": MIRROR,
  "mirror.linkerd.io/remote-mirror-service-name": MIRROR,
  "mirror.linkerd.io/gateway-identity": MIRROR,
  "mirror.linkerd.io/multicluster-gateway": MIRROR,
  "mirror.linkerd.io/probe-path": MIRROR,
  "mirror.linkerd.io/probe-period": MIRROR,
  "mirror.linkerd.io/probe-timeout": MIRROR,
  "multicluster.linkerd.io/remote-discovery": "federated Services have no endpoints yet: multicluster's",
  "multicluster.linkerd.io/local-discovery": "federated Services have no endpoints yet: multicluster's",
};
