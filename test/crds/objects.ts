// Objects as users write them: the patterns of Linkerd's and the Gateway API's documentation, and ways to get each kind
// wrong. Every one passes or fails the same way at the CRD's schema, at the described check and at the webhook.

/** Valid ones, by what they show. */
export const VALID: Readonly<Record<string, string>> = {
  "Server by pod labels and port name": `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { namespace: emojivoto, name: voting-grpc, labels: { emojivoto/api: internal } }
spec:
  podSelector: { matchLabels: { app: voting-svc } }
  port: grpc
  proxyProtocol: gRPC`,
  "Server by port number, for everything, auditing": `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { namespace: emojivoto, name: all-admin }
spec:
  podSelector: {}
  port: 4191
  proxyProtocol: HTTP/1
  accessPolicy: audit`,
  "Server by expressions": `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { namespace: emojivoto, name: internal-grpc }
spec:
  podSelector:
    matchExpressions:
    - { key: app, operator: In, values: [emoji-svc, voting-svc] }
    - { key: canary, operator: DoesNotExist }
  port: grpc
  proxyProtocol: gRPC
  accessPolicy: cluster-authenticated`,
  "Server of external workloads": `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { namespace: mixed-env, name: vm }
spec:
  externalWorkloadSelector: { matchLabels: { app: legacy-app } }
  port: 80
  proxyProtocol: TLS`,
  "Server of v1beta2": `
apiVersion: policy.linkerd.io/v1beta2
kind: Server
metadata: { namespace: ns, name: web }
spec:
  podSelector: { matchLabels: { app: web } }
  port: http
  proxyProtocol: HTTP/2`,
  "Server of v1beta1": `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: { namespace: ns, name: web }
spec:
  podSelector: { matchLabels: { app: web } }
  port: 8080
  proxyProtocol: opaque`,
  "Server of v1alpha1": `
apiVersion: policy.linkerd.io/v1alpha1
kind: Server
metadata: { namespace: ns, name: web }
spec:
  podSelector: { matchLabels: { app: web } }
  port: 8080`,
  "ServerAuthorization of ServiceAccounts": `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: { namespace: emojivoto, name: internal-grpc }
spec:
  server: { selector: { matchLabels: { emojivoto/api: internal } } }
  client:
    meshTLS:
      serviceAccounts:
      - { name: web }
      - { name: vote-bot, namespace: other }`,
  "ServerAuthorization of networks": `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: { namespace: emojivoto, name: web-public }
spec:
  server: { name: web-http }
  client:
    unauthenticated: true
    networks:
    - cidr: 0.0.0.0/0
      except: [10.0.0.0/8, 192.168.0.1]
    - cidr: ::/0`,
  "ServerAuthorization of identities": `
apiVersion: policy.linkerd.io/v1alpha1
kind: ServerAuthorization
metadata: { namespace: emojivoto, name: mesh }
spec:
  server: { name: web-http }
  client:
    meshTLS:
      identities: ["*", "*.emojivoto.serviceaccount.identity.linkerd.cluster.local"]`,
  "ServerAuthorization of unauthenticated TLS": `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: { namespace: linkerd, name: identity }
spec:
  server: { name: identity }
  client: { meshTLS: { unauthenticatedTLS: true } }`,
  "AuthorizationPolicy of a Server": `
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { namespace: emojivoto, name: authors-get-authn }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: web-http }
  requiredAuthenticationRefs:
  - { group: policy.linkerd.io, kind: MeshTLSAuthentication, name: clients }
  - { group: policy.linkerd.io, kind: NetworkAuthentication, name: nets, namespace: other }`,
  "AuthorizationPolicy of a route": `
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { namespace: booksapp, name: authors-get-policy }
spec:
  targetRef: { group: policy.linkerd.io, kind: HTTPRoute, name: authors-get-route }
  requiredAuthenticationRefs:
  - { kind: ServiceAccount, name: books }`,
  "AuthorizationPolicy of a Gateway API route": `
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { namespace: ns, name: grpc }
spec:
  targetRef: { group: gateway.networking.k8s.io, kind: GRPCRoute, name: votes }
  requiredAuthenticationRefs:
  - { group: policy.linkerd.io, kind: NetworkAuthentication, name: cluster }`,
  "AuthorizationPolicy of its own namespace": `
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { namespace: emojivoto, name: all }
spec:
  targetRef: { group: core, kind: Namespace, name: emojivoto }
  requiredAuthenticationRefs:
  - { group: policy.linkerd.io, kind: MeshTLSAuthentication, name: any }`,
  "AuthorizationPolicy that asks for nothing": `
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { namespace: emojivoto, name: open }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: web-http }
  requiredAuthenticationRefs: []`,
  "MeshTLSAuthentication of all forms of identity": `
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: { namespace: ns, name: clients }
spec:
  identities:
  - "*"
  - "*.ns.serviceaccount.identity.linkerd.cluster.local"
  - web.ns.serviceaccount.identity.linkerd.cluster.local
  - spiffe://root.linkerd.cluster.local/external/vm-1`,
  "MeshTLSAuthentication of references": `
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: { namespace: ns, name: clients }
spec:
  identityRefs:
  - { kind: ServiceAccount, name: web, namespace: emojivoto }
  - { kind: ServiceAccount }
  - { group: core, kind: Namespace, name: books }`,
  NetworkAuthentication: `
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: { namespace: ns, name: cluster }
spec:
  networks:
  - { cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.3.4] }
  - { cidr: fd00::/8 }
  - { cidr: 192.168.1.7 }`,
  "policy HTTPRoute of a Server": `
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: { namespace: booksapp, name: authors-get-route }
spec:
  parentRefs:
  - { name: authors-server, kind: Server, group: policy.linkerd.io }
  rules:
  - matches:
    - { path: { value: /authors.json }, method: GET }
    - { path: { value: "/authors/[0-9]+", type: RegularExpression }, method: GET }`,
  "policy HTTPRoute of a Service, with everything": `
apiVersion: policy.linkerd.io/v1beta2
kind: HTTPRoute
metadata:
  namespace: emojivoto
  name: web
  annotations: { retry.linkerd.io/http: 5xx, retry.linkerd.io/limit: "2", timeout.linkerd.io/request: 300ms }
spec:
  hostnames: [web.example.com, "*.example.com"]
  parentRefs:
  - { name: web-svc, kind: Service, group: core, port: 80 }
  rules:
  - matches:
    - path: { type: PathPrefix, value: /vote }
      headers:
      - { name: x-user, type: RegularExpression, value: "[a-z]+" }
      queryParams:
      - { name: v, value: "2" }
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: { set: [{ name: x-a, value: b }], remove: [x-c] }
    - type: ResponseHeaderModifier
      responseHeaderModifier: { add: [{ name: x-d, value: e }] }
    backendRefs:
    - { name: web-svc, port: 80, weight: 90 }
    - name: web-v2
      namespace: canary
      port: 80
      weight: 10
      filters:
      - type: RequestRedirect
        requestRedirect: { scheme: https, hostname: example.com, port: 443, statusCode: 301, path: { type: ReplacePrefixMatch, replacePrefixMatch: /x } }
    timeouts: { request: 1m30s, backendRequest: 10.5s }`,
  "policy HTTPRoute without a request timeout": `
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: { namespace: ns, name: no-limit }
spec:
  parentRefs: [{ name: web, kind: Service, group: "" }]
  rules:
  - timeouts: { request: 0s, backendRequest: 10s }`,
  "policy HTTPRoute of v1alpha1 without rules": `
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPRoute
metadata: { namespace: ns, name: probes }
spec:
  parentRefs: [{ name: web, kind: Server }]`,
  "policy HTTPRoute of an EgressNetwork": `
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: { namespace: ns, name: egress }
spec:
  parentRefs: [{ name: all-egress, kind: EgressNetwork, group: policy.linkerd.io, port: 443 }]
  rules:
  - matches: [{ path: { type: PathPrefix, value: /get } }]`,
  "Gateway API HTTPRoute of a Gateway, with filters that are not for a mesh": `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { namespace: gateway-conformance-infra, name: rewrite }
spec:
  parentRefs: [{ name: same-namespace }]
  hostnames: [rewrite.example]
  rules:
  - matches: [{ path: { type: PathPrefix, value: /prefix/one } }]
    filters:
    - type: URLRewrite
      urlRewrite: { hostname: one.example.org, path: { type: ReplacePrefixMatch, replacePrefixMatch: /one } }
    - type: RequestMirror
      requestMirror: { backendRef: { name: infra-backend-v2, port: 8080 } }
    backendRefs: [{ name: infra-backend-v1, port: 8080 }]`,
  "Gateway API HTTPRoute with timeouts and names": `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { namespace: gateway-conformance-mesh, name: mesh-split, annotations: { retry.linkerd.io/http: "500-504,gateway-error" } }
spec:
  parentRefs: [{ group: "", kind: Service, name: echo, port: 80 }]
  rules:
  - name: split
    matches:
    - { path: { type: Exact, value: /v1 }, headers: [{ name: version, value: two }] }
    backendRefs: [{ name: echo-v1, port: 80 }, { name: echo-v2, port: 80, weight: 0 }]
    timeouts: { request: 500ms, backendRequest: 200ms }`,
  "Gateway API HTTPRoute of v1beta1 with a backend of another's kind": `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: { namespace: ns, name: bucket }
spec:
  parentRefs: [{ name: edge, sectionName: https }]
  rules:
  - backendRefs: [{ group: storage.example.com, kind: Bucket, name: assets }]`,
  GRPCRoute: `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { namespace: emojivoto, name: voting, annotations: { retry.linkerd.io/grpc: "internal,unavailable" } }
spec:
  parentRefs: [{ name: voting-svc, kind: Service, group: core, port: 8080 }]
  hostnames: ["*.example.com"]
  rules:
  - matches:
    - method: { service: emojivoto.v1.VotingService, method: VotePoop }
    - method: { service: emojivoto.v1.VotingService }
      headers: [{ name: x-a, value: b }]
    filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { add: [{ name: x-a, value: b }] } }]
    backendRefs: [{ name: voting-svc, port: 8080 }]
  - backendRefs: [{ name: voting-svc, port: 8080, weight: 3 }]`,
  "GRPCRoute of v1alpha2": `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: GRPCRoute
metadata: { namespace: ns, name: method }
spec:
  parentRefs: [{ name: voting, kind: Server, group: policy.linkerd.io }]
  rules: [{ matches: [{ method: { method: VoteDog } }] }]`,
  TLSRoute: `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: { namespace: egress-test, name: tls-egress }
spec:
  hostnames: [google.com]
  parentRefs: [{ name: all-egress, kind: EgressNetwork, group: policy.linkerd.io, namespace: egress-test, port: 443 }]
  rules: [{ backendRefs: [{ kind: EgressNetwork, group: policy.linkerd.io, name: all-egress }] }]`,
  TCPRoute: `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { namespace: egress-test, name: db }
spec:
  parentRefs: [{ name: db, kind: Service, group: core, port: 5432 }]
  rules: [{ backendRefs: [{ name: db-v2, port: 5432, weight: 1 }] }]`,
  HTTPLocalRateLimitPolicy: `
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: { namespace: emojivoto, name: web-rl }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: web-http }
  total: { requestsPerSecond: 100 }
  identity: { requestsPerSecond: 20 }
  overrides:
  - requestsPerSecond: 30
    clientRefs: [{ kind: ServiceAccount, namespace: emojivoto, name: special-client }]`,
  "HTTPLocalRateLimitPolicy of identities alone": `
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: { namespace: emojivoto, name: web-rl }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: web-http }
  identity: { requestsPerSecond: 20 }`,
  EgressNetwork: `
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: { namespace: ns, name: all-egress }
spec: { trafficPolicy: Allow }`,
  "EgressNetwork of some networks, with circuit breaking": `
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata:
  namespace: linkerd-egress
  name: saas
  annotations: { balancer.linkerd.io/failure-accrual: consecutive, timeout.linkerd.io/idle: 1m }
spec:
  trafficPolicy: Deny
  networks: [{ cidr: 34.0.0.0/8, except: [34.1.0.0/16] }]`,
  ServiceProfile: `
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: { namespace: booksapp, name: books.booksapp.svc.cluster.local }
spec:
  routes:
  - name: POST /books
    condition: { method: POST, pathRegex: /books }
    isRetryable: true
    timeout: 300ms
    responseClasses:
    - condition: { status: { min: 500, max: 599 } }
      isFailure: true
  - name: GET /books/{id}
    condition:
      all:
      - { pathRegex: '/books/\\d+(\\.json)?' }
      - any: [{ method: GET }, { not: { method: HEAD } }]
    responseClasses:
    - condition: { any: [{ status: { min: 404, max: 404 } }, { not: { status: { min: 200 } } }] }
  retryBudget: { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s }
  dstOverrides:
  - { authority: "books-v1.booksapp.svc.cluster.local:7000", weight: 900m }
  - { authority: "books-v2.booksapp.svc.cluster.local:7000", weight: 1 }
  opaquePorts: ["3306", "4000-4010"]`,
  "ServiceProfile of v1alpha1 without a spec": `
apiVersion: linkerd.io/v1alpha1
kind: ServiceProfile
metadata: { namespace: ns, name: web.ns.svc.cluster.local }`,
  ExternalWorkload: `
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: { namespace: mixed-env, name: external-workload, labels: { app: legacy-app } }
spec:
  meshTLS: { identity: spiffe://root.linkerd.cluster.local/external-workload, serverName: external-workload.cluster.local }
  workloadIPs: [{ ip: 193.1.4.11 }, { ip: "2001:db8::1" }]
  ports: [{ port: 80, name: http }, { port: 9980, name: admin, protocol: TCP }]`,
  "ExternalWorkload of v1alpha1": `
apiVersion: workload.linkerd.io/v1alpha1
kind: ExternalWorkload
metadata: { namespace: mixed-env, name: external-workload }
spec:
  meshTls: { identity: vm.cluster.local, serverName: vm.cluster.local }`,
  Link: `
apiVersion: multicluster.linkerd.io/v1alpha3
kind: Link
metadata: { namespace: linkerd-multicluster, name: east }
spec:
  clusterCredentialsSecret: cluster-credentials-east
  gatewayAddress: 35.1.2.3
  gatewayIdentity: linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local
  gatewayPort: "4143"
  probeSpec: { path: /ready, port: "4191", period: 3s, timeout: 30s, failureThreshold: "3" }
  selector: { matchLabels: { mirror.linkerd.io/exported: "true" } }
  remoteDiscoverySelector: { matchLabels: { mirror.linkerd.io/exported: remote-discovery } }
  federatedServiceSelector: { matchLabels: { mirror.linkerd.io/federated: member } }
  targetClusterName: east
  targetClusterDomain: cluster.local
  targetClusterLinkerdNamespace: linkerd
  excludedAnnotations: [a.example.com/x]
  excludedLabels: []`,
  TrafficSplit: `
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: { namespace: ns, name: web }
spec:
  service: web
  backends: [{ service: web-v1, weight: 900 }, { service: web-v2, weight: 100 }]`,
  "TrafficSplit of v1alpha1 with quantities": `
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: { namespace: ns, name: web }
spec:
  service: web
  backends: [{ service: web-v1, weight: 900m }, { service: web-v2, weight: 100m }]`,
  "Server of external workloads by expressions": `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { namespace: mixed-env, name: vm }
spec: { externalWorkloadSelector: { matchExpressions: [{ key: app, operator: NotIn, values: [a, b] }] }, port: 80 }`,
  "ServerAuthorization of Servers by expressions": `
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: { namespace: emojivoto, name: all }
spec: { server: { selector: { matchExpressions: [{ key: app, operator: NotIn, values: [a, b] }] } }, client: { unauthenticated: true } }`,
  "HTTPLocalRateLimitPolicy with a group": `
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: { namespace: emojivoto, name: web-rl }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: web-http }
  overrides: [{ requestsPerSecond: 1, clientRefs: [{ group: core, kind: ServiceAccount, name: a }] }]`,
  "policy HTTPRoute with every field": `
apiVersion: policy.linkerd.io/v1beta1
kind: HTTPRoute
metadata: { namespace: ns, name: whole }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web, namespace: other, port: 80, sectionName: http }
  hostnames: [example.com]
  rules:
  - name: all
    matches:
      - path: { type: PathPrefix, value: /a }
        method: PATCH
        headers: [{ name: x-a, type: Exact, value: b }, { name: x-c, type: RegularExpression, value: "d+" }]
        queryParams: [{ name: q, type: RegularExpression, value: "[0-9]+" }]
    filters:
      - &request
        type: RequestHeaderModifier
        requestHeaderModifier: &changes
          set: [{ name: x-a, value: b }]
          add: [{ name: x-c, value: d }]
          remove: [x-e]
      - &response { type: ResponseHeaderModifier, responseHeaderModifier: *changes }
      - &redirect
        type: RequestRedirect
        requestRedirect:
          scheme: https
          hostname: example.com
          port: 8443
          statusCode: 302
          path: { type: ReplaceFullPath, replaceFullPath: /x }
      - &prefix
        type: RequestRedirect
        requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /y } }
    backendRefs:
      - { group: "", kind: Service, name: web, namespace: other, port: 80, weight: 1, filters: [*request, *response, *redirect, *prefix] }
    timeouts: { request: 2s, backendRequest: 1s }`,
  "Gateway API HTTPRoute with every field": `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { namespace: ns, name: whole }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web, namespace: other, port: 80, sectionName: http }
  hostnames: [example.com]
  rules:
  - name: all
    matches:
      - path: { type: PathPrefix, value: /a }
        method: PATCH
        headers: [{ name: x-a, type: Exact, value: b }, { name: x-c, type: RegularExpression, value: "d+" }]
        queryParams: [{ name: q, type: RegularExpression, value: "[0-9]+" }]
    filters:
      - &request
        type: RequestHeaderModifier
        requestHeaderModifier: &changes
          set: [{ name: x-a, value: b }]
          add: [{ name: x-c, value: d }]
          remove: [x-e]
      - &response { type: ResponseHeaderModifier, responseHeaderModifier: *changes }
      - &redirect
        type: RequestRedirect
        requestRedirect:
          scheme: https
          hostname: example.com
          port: 8443
          statusCode: 302
          path: { type: ReplaceFullPath, replaceFullPath: /x }
      - &prefix
        type: RequestRedirect
        requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /y } }
      - &mirror { type: RequestMirror, requestMirror: { backendRef: { name: web-v2, port: 80 } } }
      - &extension { type: ExtensionRef, extensionRef: { group: example.com, kind: Filter, name: f } }
      - &rewrite { type: URLRewrite, urlRewrite: { hostname: example.org } }
      - &cors { type: CORS, cors: { allowOrigins: ["*"] } }
      - &auth { type: ExternalAuth, externalAuth: { protocol: HTTP } }
    backendRefs:
      - { group: "", kind: Service, name: web, namespace: other, port: 80, weight: 1, filters: [*request, *response, *redirect, *prefix, *mirror, *extension, *rewrite, *cors, *auth] }
    timeouts: { request: 2s, backendRequest: 1s }
    retry: { codes: [502, 503], attempts: 2, backoff: 100ms }`,
  "GRPCRoute with every field": `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { namespace: ns, name: whole }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web, namespace: other, port: 80, sectionName: http }
  hostnames: [example.com]
  rules:
  - name: all
    matches:
      - method: { type: Exact, service: a.B, method: C }
        headers: [{ name: x-a, type: RegularExpression, value: "b+" }]
    filters:
      - &request
        type: RequestHeaderModifier
        requestHeaderModifier: &changes
          set: [{ name: x-a, value: b }]
          add: [{ name: x-c, value: d }]
          remove: [x-e]
      - &response { type: ResponseHeaderModifier, responseHeaderModifier: *changes }
      - &mirror { type: RequestMirror, requestMirror: { backendRef: { name: web-v2, port: 80 } } }
      - &extension { type: ExtensionRef, extensionRef: { group: example.com, kind: Filter, name: f } }
    backendRefs:
      - { group: "", kind: Service, name: web, namespace: other, port: 80, weight: 1, filters: [*request, *response, *mirror, *extension] }`,
  "TLSRoute with every field": `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: { namespace: ns, name: whole }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web, namespace: other, port: 80, sectionName: http }
  hostnames: ["*.example.com"]
  rules: [{ name: all, backendRefs: [{ group: "", kind: Service, name: web, namespace: other, port: 443, weight: 5 }] }]`,
  "TCPRoute with every field": `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { namespace: ns, name: whole }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web, namespace: other, port: 80, sectionName: http }
  rules: [{ name: all, backendRefs: [{ group: "", kind: Service, name: web, namespace: other, port: 443, weight: 5 }] }]`,
  "ServiceProfile with every condition": `
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: { namespace: ns, name: web.ns.svc.cluster.local }
spec:
  routes:
  - name: all
    condition: { any: [{ method: GET }], not: { pathRegex: /x } }
    responseClasses:
    - condition: { all: [{ status: { min: 500 } }], not: { status: { max: 501 } } }`,
  "Link by expressions": `
apiVersion: multicluster.linkerd.io/v1alpha3
kind: Link
metadata: { namespace: linkerd-multicluster, name: west }
spec:
  selector: &by { matchExpressions: [{ key: app, operator: NotIn, values: [a, b] }] }
  remoteDiscoverySelector: *by
  federatedServiceSelector: *by`,
  "Link of v1alpha2": `
apiVersion: multicluster.linkerd.io/v1alpha2
kind: Link
metadata: { namespace: linkerd-multicluster, name: west }
spec: { targetClusterName: west, federatedServiceSelector: { matchLabels: { a: b } } }`,
  "Link of v1alpha1": `
apiVersion: multicluster.linkerd.io/v1alpha1
kind: Link
metadata: { namespace: linkerd-multicluster, name: west }
spec: { targetClusterName: west }`,
};

export interface Mistake {
  /** The object it is made in, by its name in VALID. */
  readonly of: string;
  /** Dotted path below the object, and what is put there; undefined removes it. */
  readonly set: Readonly<Record<string, unknown>>;
  readonly path: string;
  readonly says: string | RegExp;
  /** Whether the CRD's schema refuses it too, or the rules alone do. */
  readonly schema: boolean;
}

const SERVER = "Server by pod labels and port name";
const SAZ = "ServerAuthorization of ServiceAccounts";
const SAZ_NETWORKS = "ServerAuthorization of networks";
const AUTHZ = "AuthorizationPolicy of a Server";
const MESH = "MeshTLSAuthentication of all forms of identity";
const MESH_REFS = "MeshTLSAuthentication of references";
const NET = "NetworkAuthentication";
const ROUTE = "policy HTTPRoute of a Service, with everything";
const GATEWAY = "Gateway API HTTPRoute with timeouts and names";
const GRPC = "GRPCRoute";
const RATE = "HTTPLocalRateLimitPolicy";
const EGRESS = "EgressNetwork of some networks, with circuit breaking";
const PROFILE = "ServiceProfile";
const WORKLOAD = "ExternalWorkload";

const mistake = (
  of: string,
  set: Readonly<Record<string, unknown>>,
  path: string,
  says: string | RegExp,
  schema: boolean,
): Mistake => ({ of, set, path, says, schema });

export const MISTAKES: readonly Mistake[] = [
  mistake(
    SERVER,
    { "spec.port": undefined },
    "spec.port",
    "expected a port by number (1-65535) or by name, but it is missing",
    true,
  ),
  mistake(SERVER, { "spec.port": 0 }, "spec.port", "got 0", false),
  mistake(SERVER, { "spec.port": 70000 }, "spec.port", "got 70000", false),
  mistake(SERVER, { "spec.port": "" }, "spec.port", 'got ""', false),
  mistake(SERVER, { "spec.port": true }, "spec.port", "got true", true),
  mistake(
    SERVER,
    { "spec.proxyProtocol": "HTTP" },
    "spec.proxyProtocol",
    'expected one of unknown, HTTP/1, HTTP/2, gRPC, opaque, TLS, got "HTTP"',
    true,
  ),
  mistake(
    SERVER,
    { "spec.accessPolicy": "allow" },
    "spec.accessPolicy",
    /expected one of all-unauthenticated.*got "allow"/,
    true,
  ),
  mistake(
    SERVER,
    { "spec.podSelector": undefined },
    "spec",
    "expected exactly one of podSelector, externalWorkloadSelector, got none",
    true,
  ),
  mistake(
    SERVER,
    { "spec.externalWorkloadSelector": {} },
    "spec",
    "got podSelector and externalWorkloadSelector",
    true,
  ),
  mistake(
    SERVER,
    { "spec.podSelector": { matchExpressions: [{ key: "a", operator: "Near" }] } },
    "spec.podSelector.matchExpressions[0].operator",
    'got "Near"',
    true,
  ),
  mistake(
    SERVER,
    { "spec.podSelector": { matchLabels: { a: 1 } } },
    'spec.podSelector.matchLabels["a"]',
    "expected text, got 1",
    true,
  ),
  mistake(SERVER, { spec: undefined }, "spec", "expected a map, but it is missing", true),
  mistake(
    "Server of v1beta1",
    { "spec.podSelector": undefined },
    "spec.podSelector",
    "but it is missing",
    true,
  ),

  mistake(
    SAZ,
    { "spec.server": {} },
    "spec.server",
    "expected exactly one of name, selector, got none",
    true,
  ),
  mistake(SAZ, { "spec.server.name": "web" }, "spec.server", "got name and selector", true),
  mistake(SAZ, { "spec.server": { name: "Web" } }, "spec.server.name", 'got "Web"', true),
  mistake(
    SAZ,
    { "spec.client.unauthenticated": true },
    "spec.client.unauthenticated",
    "expected false beside meshTLS",
    false,
  ),
  mistake(
    SAZ,
    { "spec.client.meshTLS.unauthenticatedTLS": true },
    "spec.client.meshTLS.unauthenticatedTLS",
    "expected false beside identities",
    false,
  ),
  mistake(
    SAZ,
    { "spec.client.meshTLS.identities": ["*web"] },
    "spec.client.meshTLS.identities[0]",
    'got "*web"',
    true,
  ),
  mistake(
    SAZ,
    { "spec.client.meshTLS.serviceAccounts": [{ namespace: "a" }] },
    "spec.client.meshTLS.serviceAccounts[0].name",
    "missing",
    true,
  ),
  mistake(
    SAZ_NETWORKS,
    { "spec.client.networks": [{ cidr: "10.0.0.0/33" }] },
    "spec.client.networks[0].cidr",
    'expected a network such as 10.0.0.0/8, got "10.0.0.0/33"',
    false,
  ),
  mistake(
    SAZ_NETWORKS,
    { "spec.client.networks": [{ cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] }] },
    "spec.client.networks[0].except[0]",
    "expected a part of 10.0.0.0/8, got 11.0.0.0/16",
    false,
  ),

  mistake(
    AUTHZ,
    { "spec.targetRef.kind": "Deployment" },
    "spec.targetRef",
    /expected policy.linkerd.io\/Server.*got policy.linkerd.io\/Deployment/,
    false,
  ),
  mistake(
    AUTHZ,
    { "spec.targetRef": { kind: "Namespace", name: "other" } },
    "spec.targetRef.name",
    'expected the own namespace (emojivoto), got "other"',
    false,
  ),
  mistake(AUTHZ, { "spec.targetRef.name": undefined }, "spec.targetRef.name", "missing", true),
  mistake(
    AUTHZ,
    { "spec.requiredAuthenticationRefs": undefined },
    "spec.requiredAuthenticationRefs",
    "missing",
    true,
  ),
  mistake(
    AUTHZ,
    { "spec.requiredAuthenticationRefs": [{ kind: "User", name: "a" }] },
    "spec.requiredAuthenticationRefs[0]",
    "got User",
    false,
  ),
  mistake(
    AUTHZ,
    {
      "spec.requiredAuthenticationRefs": ["a", "b"].map((name) => ({
        group: "policy.linkerd.io",
        kind: "MeshTLSAuthentication",
        name,
      })),
    },
    "spec.requiredAuthenticationRefs[1]",
    "at most one MeshTLSAuthentication",
    false,
  ),
  mistake(
    AUTHZ,
    {
      "spec.requiredAuthenticationRefs": ["a", "b"].map((name) => ({
        group: "policy.linkerd.io",
        kind: "NetworkAuthentication",
        name,
      })),
    },
    "spec.requiredAuthenticationRefs[1]",
    "at most one NetworkAuthentication",
    false,
  ),
  mistake(
    AUTHZ,
    { "spec.requiredAuthenticationRefs": ["a", "b"].map((name) => ({ kind: "ServiceAccount", name })) },
    "spec.requiredAuthenticationRefs[1]",
    "at most one ServiceAccount",
    false,
  ),
  mistake(
    AUTHZ,
    {
      "spec.requiredAuthenticationRefs": [
        { group: "policy.linkerd.io", kind: "MeshTLSAuthentication", name: "a" },
        { kind: "ServiceAccount", name: "b" },
      ],
    },
    "spec.requiredAuthenticationRefs[1]",
    "expected either a MeshTLSAuthentication or a ServiceAccount",
    false,
  ),

  mistake(MESH, { "spec.identities": [] }, "spec.identities", "expected at least 1 item, got 0", true),
  mistake(MESH, { "spec.identities": ["Web"] }, "spec.identities[0]", 'got "Web"', false),
  mistake(MESH, { "spec.identities": ["spiffe://"] }, "spec.identities[0]", "got", false),
  mistake(MESH, { "spec.identities": ["spiffe://a/../b"] }, "spec.identities[0]", "got", false),
  mistake(MESH, { "spec.identities": ["a.*"] }, "spec.identities[0]", 'got "a.*"', false),
  mistake(
    MESH,
    { "spec.identities": undefined },
    "spec",
    "expected exactly one of identities, identityRefs, got none",
    true,
  ),
  mistake(
    MESH,
    { "spec.identityRefs": [{ kind: "ServiceAccount" }] },
    "spec",
    "got identities and identityRefs",
    true,
  ),
  mistake(
    MESH_REFS,
    { "spec.identityRefs": [{ kind: "Pod", name: "a" }] },
    "spec.identityRefs[0]",
    "expected ServiceAccount or Namespace, got Pod",
    false,
  ),
  mistake(
    MESH_REFS,
    { "spec.identityRefs": [{ kind: "Namespace", name: "a", namespace: "b" }] },
    "spec.identityRefs[0].namespace",
    "expected none for a Namespace",
    false,
  ),

  mistake(NET, { "spec.networks": [] }, "spec.networks", "expected at least 1 item", true),
  mistake(NET, { "spec.networks": [{ cidr: "cluster" }] }, "spec.networks[0].cidr", 'got "cluster"', false),
  mistake(
    NET,
    { "spec.networks": [{ cidr: "10.0.0.0/8", except: ["0.0.0.0/0"] }] },
    "spec.networks[0].except[0]",
    "leaves nothing",
    false,
  ),
  mistake(
    NET,
    { "spec.networks": [{ cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] }] },
    "spec.networks[0].except[0]",
    "leaves nothing",
    false,
  ),
  mistake(
    NET,
    { "spec.networks": [{ cidr: "10.0.0.0/8", except: ["fd00::/8"] }] },
    "spec.networks[0].except[0]",
    "expected a part of",
    false,
  ),

  mistake(
    ROUTE,
    { "spec.parentRefs.0.port": 0 },
    "spec.parentRefs[0].port",
    "expected an integer from 1 to 65535, got 0",
    true,
  ),
  mistake(ROUTE, { "spec.parentRefs.0.name": "" }, "spec.parentRefs[0].name", 'got ""', true),
  mistake(
    ROUTE,
    { "spec.parentRefs": [{ group: "policy.linkerd.io", kind: "EgressNetwork", name: "all" }] },
    "spec.parentRefs[0].port",
    "expected a port for an EgressNetwork",
    false,
  ),
  mistake(ROUTE, { "spec.hostnames": ["10.0.0.1:80"] }, "spec.hostnames[0]", "expected a host name", true),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.path.value": "vote" },
    "spec.rules[0].matches[0].path.value",
    'expected a path that begins with /, got "vote"',
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.path": { type: "RegularExpression", value: "/(a" } },
    "spec.rules[0].matches[0].path.value",
    /./,
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.path.type": "Glob" },
    "spec.rules[0].matches[0].path.type",
    'got "Glob"',
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.method": "get" },
    "spec.rules[0].matches[0].method",
    'got "get"',
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.headers.0.value": "(?=a)b" },
    "spec.rules[0].matches[0].headers[0].value",
    /./,
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.headers.0.name": "x y" },
    "spec.rules[0].matches[0].headers[0].name",
    "expected a header's name",
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.headers": ["1", "2"].map((value) => ({ name: "x", value })) },
    "spec.rules[0].matches[0].headers[1]",
    "expected name to be unique",
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.matches.0.queryParams.0": { name: "v", type: "RegularExpression", value: "[" } },
    "spec.rules[0].matches[0].queryParams[0].value",
    /./,
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.filters.0.type": "URLRewrite" },
    "spec.rules[0].filters[0].type",
    'got "URLRewrite"',
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.filters.0.requestHeaderModifier": undefined },
    "spec.rules[0].filters[0].requestHeaderModifier",
    "missing",
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.filters.0.requestHeaderModifier.remove": ["a b"] },
    "spec.rules[0].filters[0].requestHeaderModifier.remove[0]",
    "expected a header's name",
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.backendRefs.1.filters.0.requestRedirect.path.replacePrefixMatch": "x" },
    "spec.rules[0].backendRefs[1].filters[0].requestRedirect.path.replacePrefixMatch",
    "begins with /",
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.backendRefs.1.filters.0.requestRedirect.path.type": "ReplaceFullPath" },
    "spec.rules[0].backendRefs[1].filters[0].requestRedirect.path.replaceFullPath",
    "missing",
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.backendRefs.1.filters.0.requestRedirect.statusCode": 200 },
    "spec.rules[0].backendRefs[1].filters[0].requestRedirect.statusCode",
    "got 200",
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.backendRefs.0.weight": -1 },
    "spec.rules[0].backendRefs[0].weight",
    "got -1",
    true,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.timeouts.request": "soon" },
    "spec.rules[0].timeouts.request",
    'expected a duration such as 10s, 250ms or 1h30m, got "soon"',
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.timeouts.request": "-1s" },
    "spec.rules[0].timeouts.request",
    "not negative",
    false,
  ),
  mistake(
    ROUTE,
    { "spec.rules.0.timeouts.request": "5s" },
    "spec.rules[0].timeouts.backendRequest",
    "expected at most the request timeout (5s), got 10.5s",
    false,
  ),
  mistake(
    ROUTE,
    { "metadata.annotations": { "retry.linkerd.io/limit": "many" } },
    'metadata.annotations["retry.linkerd.io/limit"]',
    'got "many"',
    false,
  ),
  mistake(
    ROUTE,
    { "metadata.annotations": { "timeout.linkerd.io/request": "soon" } },
    'metadata.annotations["timeout.linkerd.io/request"]',
    'got "soon"',
    false,
  ),
  mistake(
    ROUTE,
    { "metadata.annotations": { "retry.linkerd.io/http": "6xx" } },
    'metadata.annotations["retry.linkerd.io/http"]',
    'got "6xx"',
    false,
  ),

  mistake(
    GATEWAY,
    { "spec.rules.0.backendRefs.0.port": undefined },
    "spec.rules[0].backendRefs[0].port",
    "expected a port for a Service",
    false,
  ),
  mistake(
    GATEWAY,
    { "spec.rules.0.matches.0.path": { type: "RegularExpression", value: "\\bx" } },
    "spec.rules[0].matches[0].path.value",
    /./,
    false,
  ),
  mistake(
    GATEWAY,
    { "spec.parentRefs": [{ group: "policy.linkerd.io", kind: "EgressNetwork", name: "all" }] },
    "spec.parentRefs[0].port",
    "expected a port for an EgressNetwork",
    false,
  ),

  mistake(
    GRPC,
    { "spec.rules.0.matches.0.method": {} },
    "spec.rules[0].matches[0].method",
    "expected a service, a method or both, got neither",
    false,
  ),
  mistake(
    GRPC,
    { "spec.rules.0.matches.0.method.type": "RegularExpression" },
    "spec.rules[0].matches[0].method.type",
    "expected Exact",
    false,
  ),
  mistake(
    GRPC,
    { "spec.rules.1.backendRefs.0.port": undefined },
    "spec.rules[1].backendRefs[0].port",
    "expected a port for a Service",
    false,
  ),
  mistake(
    GRPC,
    { "spec.rules.0.matches.1.headers.0": { name: "x", type: "RegularExpression", value: "(" } },
    "spec.rules[0].matches[1].headers[0].value",
    /./,
    false,
  ),
  mistake(
    GRPC,
    { "metadata.annotations": { "retry.linkerd.io/grpc": "often" } },
    'metadata.annotations["retry.linkerd.io/grpc"]',
    'got "often"',
    false,
  ),

  mistake("TLSRoute", { "spec.rules": [] }, "spec.rules", "expected at least 1 item, got 0", true),
  mistake("TLSRoute", { "spec.rules": [{}, {}] }, "spec.rules", "expected one rule, got 2", false),
  mistake(
    "TLSRoute",
    { "spec.parentRefs.0.port": undefined },
    "spec.parentRefs[0].port",
    "expected a port for an EgressNetwork",
    false,
  ),
  mistake("TCPRoute", { "spec.rules": [{}, {}] }, "spec.rules", "expected one rule, got 2", false),
  mistake("TCPRoute", { "spec.rules": undefined }, "spec.rules", "missing", true),

  mistake(
    RATE,
    { "spec.targetRef.kind": "HTTPRoute" },
    "spec.targetRef",
    "expected policy.linkerd.io/Server, got policy.linkerd.io/HTTPRoute",
    false,
  ),
  mistake(RATE, { "spec.total.requestsPerSecond": 0 }, "spec.total.requestsPerSecond", "got 0", true),
  mistake(
    RATE,
    { "spec.identity.requestsPerSecond": 101 },
    "spec.identity.requestsPerSecond",
    "expected at most total.requestsPerSecond (100), got 101",
    false,
  ),
  mistake(
    RATE,
    { "spec.overrides.0.requestsPerSecond": 101 },
    "spec.overrides[0].requestsPerSecond",
    "expected at most total.requestsPerSecond (100), got 101",
    false,
  ),
  mistake(
    RATE,
    { "spec.overrides.0.requestsPerSecond": 0 },
    "spec.overrides[0].requestsPerSecond",
    "got 0",
    true,
  ),
  mistake(
    RATE,
    { "spec.overrides.0.clientRefs.0.kind": "Pod" },
    "spec.overrides[0].clientRefs[0]",
    "expected ServiceAccount, got Pod",
    false,
  ),
  mistake(RATE, { "spec.total": {} }, "spec.total.requestsPerSecond", "missing", true),

  mistake(
    EGRESS,
    { "spec.trafficPolicy": "Maybe" },
    "spec.trafficPolicy",
    'expected one of Allow, Deny, got "Maybe"',
    true,
  ),
  mistake(EGRESS, { "spec.trafficPolicy": undefined }, "spec.trafficPolicy", "missing", true),
  mistake(EGRESS, { "spec.networks": [] }, "spec.networks", "expected at least 1 item", true),
  mistake(
    EGRESS,
    { "spec.networks.0.except": ["35.0.0.0/8"] },
    "spec.networks[0].except[0]",
    "expected a part of 34.0.0.0/8",
    false,
  ),

  mistake(PROFILE, { "spec.routes.0.name": "" }, "spec.routes[0].name", "expected a name", false),
  mistake(PROFILE, { "spec.routes.0.condition": undefined }, "spec.routes[0].condition", "missing", true),
  mistake(
    PROFILE,
    { "spec.routes.0.condition": {} },
    "spec.routes[0].condition",
    "expected at least one of pathRegex, method, all, any, not, got none",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.1.condition.all": [{}] },
    "spec.routes[1].condition.all[0]",
    "expected at least one of",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.1.condition.all": [{ pathRegexp: "/a" }] },
    "spec.routes[1].condition.all[0].pathRegexp",
    "did you mean pathRegex?",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.0.condition.pathRegex": "/(a" },
    "spec.routes[0].condition.pathRegex",
    /./,
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.1.condition.all.0.pathRegex": "[" },
    "spec.routes[1].condition.all[0].pathRegex",
    /./,
    false,
  ),
  mistake(PROFILE, { "spec.routes.0.timeout": "fast" }, "spec.routes[0].timeout", 'got "fast"', false),
  mistake(
    PROFILE,
    { "spec.routes.0.responseClasses.0.condition": {} },
    "spec.routes[0].responseClasses[0].condition",
    "expected at least one of status",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.0.responseClasses.0.condition.status": { min: 99 } },
    "spec.routes[0].responseClasses[0].condition.status.min",
    "from 100 to 599, got 99",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.0.responseClasses.0.condition.status": { max: 600 } },
    "spec.routes[0].responseClasses[0].condition.status.max",
    "got 600",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.0.responseClasses.0.condition.status": { min: 500, max: 400 } },
    "spec.routes[0].responseClasses[0].condition.status.max",
    "expected at least min (500), got 400",
    false,
  ),
  mistake(
    PROFILE,
    { "spec.routes.1.responseClasses.0.condition.any.0.status.min": 9 },
    "spec.routes[1].responseClasses[0].condition.any[0].status.min",
    "got 9",
    false,
  ),
  mistake(PROFILE, { "spec.retryBudget.retryRatio": -1 }, "spec.retryBudget.retryRatio", "got -1", true),
  mistake(PROFILE, { "spec.retryBudget.ttl": undefined }, "spec.retryBudget.ttl", "missing", true),
  mistake(PROFILE, { "spec.retryBudget.ttl": "10" }, "spec.retryBudget.ttl", 'got "10"', false),
  mistake(
    PROFILE,
    { "spec.dstOverrides.0.weight": "heavy" },
    "spec.dstOverrides[0].weight",
    'got "heavy"',
    true,
  ),
  mistake(PROFILE, { "spec.opaquePorts": ["http"] }, "spec.opaquePorts[0]", 'got "http"', false),

  mistake(WORKLOAD, { "spec.meshTLS": undefined }, "spec.meshTLS", "missing", true),
  mistake(WORKLOAD, { "spec.meshTLS.identity": "" }, "spec.meshTLS.identity", 'got ""', true),
  mistake(WORKLOAD, { "spec.meshTLS.identity": "*" }, "spec.meshTLS.identity", 'got "*"', false),
  mistake(
    WORKLOAD,
    { "spec.meshTLS.serverName": "a b" },
    "spec.meshTLS.serverName",
    'expected a DNS name, got "a b"',
    false,
  ),
  mistake(
    WORKLOAD,
    { "spec.workloadIPs": [{ ip: "10.0.0.1" }, { ip: "10.0.0.2" }, { ip: "10.0.0.3" }] },
    "spec.workloadIPs",
    "expected at most 2 items, got 3",
    true,
  ),
  mistake(
    WORKLOAD,
    { "spec.workloadIPs": [{ ip: "10.0.0" }] },
    "spec.workloadIPs[0].ip",
    'expected an IP address, got "10.0.0"',
    false,
  ),
  mistake(
    WORKLOAD,
    { "spec.ports.1.name": "http" },
    "spec.ports[1].name",
    "expected a name that no other port has",
    false,
  ),
  mistake(WORKLOAD, { "spec.ports.0.name": "Http" }, "spec.ports[0].name", 'got "Http"', false),
  mistake(WORKLOAD, { "spec.ports.0.port": 65536 }, "spec.ports[0].port", "got 65536", true),
  mistake(WORKLOAD, { "spec.ports.0.protocol": "QUIC" }, "spec.ports[0].protocol", 'got "QUIC"', true),

  mistake("Link", { "spec.gatewayPort": "high" }, "spec.gatewayPort", 'got "high"', false),
  mistake("Link", { "spec.probeSpec.timeout": "soon" }, "spec.probeSpec.timeout", 'got "soon"', true),
  mistake("TrafficSplit", { "spec.service": "" }, "spec.service", 'got ""', true),
  mistake(
    "TrafficSplit",
    { "spec.backends.1.service": "web-v1" },
    "spec.backends[1].service",
    "not there yet",
    false,
  ),
  mistake("TrafficSplit", { "spec.backends.1.weight": -1 }, "spec.backends[1].weight", "got -1", false),
];

/** What is legal but probably not meant: the object, what is set in it, where and what is warned. */
export const STRANGE: readonly (readonly [string, Readonly<Record<string, unknown>>, string, string])[] = [
  [
    SERVER,
    { "spec.podSelector": { matchExpressions: [{ key: "a", operator: "In" }] } },
    "spec.podSelector.matchExpressions[0].values",
    "expected at least one value for operator In, got none",
  ],
  [
    SERVER,
    { "spec.podSelector": { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] } },
    "spec.podSelector.matchExpressions[0].values",
    "operator Exists takes no values",
  ],
  [SERVER, { "spec.prot": 80 }, "spec.prot", "unknown name; did you mean port?"],
  [SAZ, { "spec.client": {} }, "spec.client", "it authorizes nobody"],
  [
    "AuthorizationPolicy that asks for nothing",
    {},
    "spec.requiredAuthenticationRefs",
    "it admits every client",
  ],
  [
    RATE,
    { "spec.total": undefined, "spec.identity": undefined, "spec.overrides": undefined },
    "spec",
    "it limits nothing",
  ],
  [RATE, { "spec.overrides.0.clientRefs": [] }, "spec.overrides[0].clientRefs", "it names no client"],
  [
    RATE,
    { "spec.overrides.0.clientRefs": ["a", "a"].map((name) => ({ kind: "ServiceAccount", name })) },
    "spec.overrides[0].clientRefs[1]",
    "the same client has another rate",
  ],
  [
    ROUTE,
    { "spec.parentRefs": [80, 80].map((port) => ({ group: "", kind: "Service", name: "web", port })) },
    "spec.parentRefs[1]",
    "it is the same as [0]",
  ],
  [
    ROUTE,
    { "spec.rules.0.backendRefs.0.port": undefined },
    "spec.rules[0].backendRefs[0].port",
    "without a port requests to this Service fail",
  ],
  [
    "Gateway API HTTPRoute with every field",
    {},
    "spec.rules[0].filters[5].type",
    "the mesh has no filter ExtensionRef",
  ],
  [
    "Gateway API HTTPRoute with every field",
    {
      "spec.parentRefs.0": { group: "policy.linkerd.io", kind: "Server", name: "web" },
      "spec.rules.0.filters": [{ type: "URLRewrite", urlRewrite: { hostname: "web" } }],
      "spec.rules.0.backendRefs": undefined,
    },
    "spec.rules[0].filters",
    "the route is not accepted on a Server: URLRewrite and RequestMirror are for routes of Services",
  ],
  [
    GATEWAY,
    {
      "spec.rules.0.matches": [{ path: { type: "Exact", value: "/a" } }],
      "spec.rules.0.filters": [
        {
          type: "RequestRedirect",
          requestRedirect: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/b" } },
        },
      ],
    },
    "spec.rules[0].filters",
    "the mesh does not accept the route: a path prefix can only be replaced where routes match by prefix",
  ],
  ["GRPCRoute with every field", {}, "spec.rules[0].filters[3].type", "the mesh has no filter ExtensionRef"],
  [
    "GRPCRoute with every field",
    {
      "spec.rules.0.filters": undefined,
      "spec.rules.0.backendRefs.0.filters": [{ type: "Compress" }],
    },
    "spec.rules[0].backendRefs[0].filters[0].type",
    "the mesh has no filter Compress; it has RequestHeaderModifier, ResponseHeaderModifier, RequestMirror",
  ],
  [
    GATEWAY,
    { "spec.rules.0.matches.0.path.type": "Newest" },
    "spec.rules[0].matches[0].path.type",
    "the mesh cannot read it and ignores the route",
  ],
  [PROFILE, { "spec.routes.1.name": "POST /books" }, "spec.routes[1].name", "routes[0] has the same name"],
  [PROFILE, { "metadata.name": "books" }, "metadata.name", "expected the full name of a service"],
  [
    WORKLOAD,
    { "spec.workloadIPs": [{ ip: "10.0.0.1" }, { ip: "10.0.0.2" }] },
    "spec.workloadIPs[1]",
    "expected addresses of both families",
  ],
];

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind, wrong ones too.
type Json = any;

/** A copy with the values at dotted paths replaced. */
export function changed(object: Json, changes: Readonly<Record<string, unknown>>): Json {
  const copy = structuredClone(object);
  for (const [path, value] of Object.entries(changes)) {
    const names = path.startsWith("metadata.") ? ["metadata", path.slice(9)] : path.split(".");
    const last = names.pop()!;
    const parent = names.reduce((at, name) => at[name], copy);
    if (value === undefined) delete parent[last];
    else parent[last] = value;
  }
  return copy;
}
