// The Server of a port as made from whole objects: every kind that says something of whom a port admits.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { networkText } from "../../../src/api/address.ts";
import type { ServerMessage, WorkloadRef } from "../../../src/controller/policy/inbound.ts";
import { compileServerRoutes } from "../../../src/rules/server-routes.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";

const test = suite("inbound policy");

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io/v1";
const pod = policyObject("v1", "Pod", "web-1", {
  labels: { app: "web" },
  spec: {
    containers: [
      {
        name: "c",
        ports: [{ name: "http", containerPort: 8080 }],
        readinessProbe: { httpGet: { path: "/ready", port: "http" } },
      },
    ],
  },
});
const server = (spec: object = {}, name = "web", more: object = {}) =>
  policyObject(`${POLICY}/v1beta3`, "Server", name, {
    spec: { podSelector: { matchLabels: { app: "web" } }, port: "http", ...spec },
    ...more,
  });
const WEB: WorkloadRef = { kind: "Pod", namespace: "emoji", name: "web-1" };

function ask(cluster: PolicyCluster, workload = WEB, port = 8080): ServerMessage | undefined {
  let found: ServerMessage | undefined;
  cluster.watchServer(workload, port, (value) => {
    found = value;
  })();
  return found;
}

/** Who is admitted, by the names of what admits them. */
const admits = (message: ServerMessage | undefined) =>
  message!.authorizations.map(({ labels }) => `${labels["kind"]} ${labels["name"]}`);
const kindOf = ({ protocol }: ServerMessage) =>
  Object.entries(protocol!).find(([, value]) => value !== undefined)![0];
const routesOf = ({ protocol }: ServerMessage) =>
  protocol!.detect?.httpRoutes ??
  protocol!.http1?.routes ??
  protocol!.http2?.routes ??
  protocol!.grpc?.routes ??
  [];
const nameOf = ({ metadata }: ReturnType<typeof routesOf>[number]) =>
  metadata?.default ?? `${metadata?.resource?.kind} ${metadata?.resource?.name}`;

const PROTOCOLS: [string | undefined, string][] = [
  [undefined, "detect"],
  ["unknown", "detect"],
  ["HTTP/1", "http1"],
  ["HTTP/2", "http2"],
  ["gRPC", "grpc"],
  ["opaque", "opaque"],
  ["TLS", "tls"],
];
for (const [proxyProtocol, expected] of PROTOCOLS)
  test(`Server.proxyProtocol ${proxyProtocol}`, () => {
    const message = ask(new PolicyCluster().apply(pod, server({ proxyProtocol })))!;
    assert.is(kindOf(message), expected);
    assert.equal({ ...message.labels }, { group: POLICY, kind: "server", name: "web" });
  });

const ACCESS: [string | undefined, string[]][] = [
  [undefined, []],
  ["deny", []],
  ["audit", ["default audit"]],
  ["all-unauthenticated", ["default all-unauthenticated"]],
  ["all-authenticated", ["default all-authenticated"]],
  ["cluster-unauthenticated", ["default cluster-unauthenticated"]],
  ["cluster-authenticated", ["default cluster-authenticated"]],
  ["nonsense", []],
];
for (const [accessPolicy, expected] of ACCESS)
  test(`Server.accessPolicy ${accessPolicy}`, () => {
    assert.equal(admits(ask(new PolicyCluster().apply(pod, server({ accessPolicy })))), expected);
  });

test("a port that no Server selects keeps the defaults", () => {
  const cluster = new PolicyCluster().apply(pod, server({ port: 9090 }));
  assert.equal({ ...ask(cluster)!.labels }, { group: "", kind: "default", name: "all-unauthenticated" });
  cluster.apply(server({ podSelector: { matchLabels: { app: "api" } } }));
  assert.is(ask(cluster)!.labels["kind"], "default");
});

test("every kind of authorization that targets the Server or its namespace counts, and no other", () => {
  const authorization = (name: string, targetRef: object, more: object = {}) =>
    policyObject(`${POLICY}/v1alpha1`, "AuthorizationPolicy", name, {
      spec: { targetRef, requiredAuthenticationRefs: [] },
      ...more,
    });
  const legacy = (name: string, selected: object, more: object = {}) =>
    policyObject(`${POLICY}/v1beta1`, "ServerAuthorization", name, {
      spec: { server: selected, client: { unauthenticated: true } },
      ...more,
    });
  const cluster = new PolicyCluster().apply(
    pod,
    server({}, "web", { labels: { tier: "front" } }),
    legacy("by-name", { name: "web" }),
    legacy("by-labels", { selector: { matchLabels: { tier: "front" } } }),
    legacy("of-another", { name: "api" }),
    legacy("of-other-labels", { selector: { matchLabels: { tier: "back" } } }),
    legacy("elsewhere", { name: "web" }, { namespace: "voting" }),
    authorization("on-server", { group: POLICY, kind: "Server", name: "web" }),
    authorization("on-namespace", { group: "core", kind: "Namespace", name: "emoji" }),
    authorization("on-another", { group: POLICY, kind: "Server", name: "api" }),
    authorization("on-no-group", { kind: "Server", name: "web" }),
    authorization("elsewhere", { group: POLICY, kind: "Server", name: "web" }, { namespace: "voting" }),
    authorization("on-another-namespace", { kind: "Namespace", name: "voting" }),
  );
  assert.equal(admits(ask(cluster)), [
    "serverauthorization by-name",
    "serverauthorization by-labels",
    "authorizationpolicy on-server",
    "authorizationpolicy on-namespace",
  ]);
});

test("an authentication that comes, changes and goes takes its policy with it", () => {
  const cluster = new PolicyCluster().apply(
    pod,
    server(),
    policyObject(`${POLICY}/v1alpha1`, "AuthorizationPolicy", "one", {
      spec: {
        targetRef: { group: POLICY, kind: "Server", name: "web" },
        requiredAuthenticationRefs: [
          { group: POLICY, kind: "MeshTLSAuthentication", name: "friends", namespace: "shared" },
          { group: POLICY, kind: "NetworkAuthentication", name: "near" },
        ],
      },
    }),
  );
  const seen: (string | undefined)[] = [];
  cluster.watchServer(WEB, 8080, (message) => {
    const authz = message!.authorizations[0];
    const { identities, suffixes } = authz?.authentication?.meshTLS?.identities ?? {};
    seen.push(
      authz &&
        `${identities!.map(({ name }) => name)}|${suffixes!.map(({ parts }) => parts.join("."))} from ${authz.networks.map(({ net, except }) => `${networkText(net!)}-${except.map(networkText)}`)}`,
    );
  });
  const friends = (spec: object) =>
    policyObject(`${POLICY}/v1alpha1`, "MeshTLSAuthentication", "friends", { namespace: "shared", spec });
  const near = policyObject(`${POLICY}/v1alpha1`, "NetworkAuthentication", "near", {
    spec: { networks: [{ cidr: "10.1.0.0/16", except: ["10.1.2.0/24"] }] },
  });
  const unreadable = policyObject(`${POLICY}/v1alpha1`, "NetworkAuthentication", "near", {
    spec: { networks: [{ cidr: "10.1.0.0/16", except: ["everything"] }] },
  });
  cluster
    .apply(friends({ identities: ["spiffe://root/web", "*.voting.example"] }))
    .apply(near)
    .apply(
      friends({
        identityRefs: [
          { kind: "ServiceAccount", name: "web" },
          { kind: "ServiceAccount", name: "api", namespace: "emoji" },
          { kind: "Namespace", name: "voting" },
        ],
      }),
    )
    .apply(unreadable)
    .delete(near);
  const suffix = "serviceaccount.identity.mesh-system.cluster.local";
  assert.equal(seen, [
    undefined,
    "spiffe://root/web|voting.example from 10.1.0.0/16-10.1.2.0/24",
    `web.shared.${suffix},api.emoji.${suffix}|voting.${suffix} from 10.1.0.0/16-10.1.2.0/24`,
    `web.shared.${suffix},api.emoji.${suffix}|voting.${suffix} from `,
    undefined,
  ]);
});

const httpRoute = (apiVersion: string, name: string, spec: object = {}, more: object = {}) =>
  policyObject(apiVersion, "HTTPRoute", name, {
    spec: { parentRefs: [{ group: POLICY, kind: "Server", name: "web" }], ...spec },
    ...more,
  });

test("without routes probes are let through; with routes only what they say", () => {
  const cluster = new PolicyCluster().apply(pod, server());
  assert.equal(routesOf(ask(cluster)!).map(nameOf), ["default", "probe"]);
  const younger = httpRoute(`${POLICY}/v1beta3`, "a-young");
  cluster.apply(younger, httpRoute(GATEWAY, "b-old", {}, {}));
  assert.equal(routesOf(ask(cluster)!).map(nameOf), ["HTTPRoute a-young", "HTTPRoute b-old"]);
  cluster.apply(
    httpRoute(GATEWAY, "broken", {
      rules: [{ matches: [{ path: { type: "RegularExpression", value: "(" } }] }],
    }),
    httpRoute(GATEWAY, "rewrites", { rules: [{ filters: [{ type: "URLRewrite", urlRewrite: {} }] }] }),
    httpRoute(GATEWAY, "elsewhere", {}, { namespace: "voting" }),
    httpRoute(GATEWAY, "of-another", { parentRefs: [{ group: POLICY, kind: "Server", name: "api" }] }),
    httpRoute(GATEWAY, "of-a-gateway", { parentRefs: [{ name: "web" }] }),
  );
  assert.equal(routesOf(ask(cluster)!).map(nameOf), ["HTTPRoute a-young", "HTTPRoute b-old"]);
});

test("the probe of a gRPC Server reaches the health check, whomever the Server admits", () => {
  const cluster = new PolicyCluster().apply(
    policyObject("v1", "Pod", "web-1", {
      labels: { app: "web" },
      spec: { containers: [{ name: "c", livenessProbe: { grpc: { port: 8080 } } }] },
    }),
    server({ proxyProtocol: "gRPC", port: 8080 }),
  );
  const routes = compileServerRoutes(ask(cluster)!);
  const admits = (path: string) => {
    const facts = { method: "POST", path, authority: "", get: () => undefined };
    return routes.admits(routes.find(facts)!, { ip: "192.0.2.1", tls: false }, facts).allowed;
  };
  assert.equal([admits("/grpc.health.v1.Health/Check"), admits("/emoji.Vote/Check")], [true, false]);
});

test("what the routes of a Server do to requests, judged as the proxy does", () => {
  const cluster = new PolicyCluster().apply(
    pod,
    server({ proxyProtocol: "HTTP/1" }),
    httpRoute(`${POLICY}/v1beta3`, "web", {
      hostnames: ["web.example.com", "*.internal"],
      rules: [
        { matches: [{ path: { type: "Exact", value: "/exact" }, method: "GET" }] },
        {
          matches: [
            { path: { type: "PathPrefix", value: "/api" }, headers: [{ name: "x-version", value: "2" }] },
            { path: { type: "RegularExpression", value: "/v[0-9]+" } },
          ],
          filters: [
            {
              type: "RequestHeaderModifier",
              requestHeaderModifier: { set: [{ name: "x-seen", value: "1" }] },
            },
            { type: "ResponseHeaderModifier", responseHeaderModifier: { remove: ["server"] } },
          ],
        },
        { matches: [{ queryParams: [{ name: "debug", value: "1" }] }] },
      ],
    }),
    policyObject(`${POLICY}/v1alpha1`, "AuthorizationPolicy", "on-route", {
      spec: { targetRef: { group: POLICY, kind: "HTTPRoute", name: "web" }, requiredAuthenticationRefs: [] },
    }),
  );
  const routes = compileServerRoutes(ask(cluster)!);
  const take = (
    method: string,
    path: string,
    host = "web.example.com",
    fields: Record<string, string> = {},
  ) => routes.find({ method, path, authority: host, get: (name) => fields[name] });
  assert.ok(take("GET", "/exact"));
  assert.not.ok(take("POST", "/exact"));
  assert.not.ok(take("GET", "/exact", "other.example.com"));
  assert.ok(take("GET", "/exact", "a.internal:8080"));
  assert.not.ok(take("GET", "/api/1"));
  const api = take("GET", "/api/1", "web.example.com", { "x-version": "2" })!;
  assert.equal(api.rule.filters.request, [{ op: "set", name: "x-seen", value: "1" }]);
  assert.equal(api.rule.filters.response, []);
  assert.ok(take("GET", "/v12"));
  assert.ok(take("GET", "/anything?debug=1"));
  const facts = { method: "GET", path: "/exact", authority: "web.example.com", get: () => undefined };
  assert.is(routes.admits(take("GET", "/exact")!, { ip: "10.0.0.9", tls: false }, facts).allowed, true);
});

const grpcRoute = (name: string, spec: object) =>
  policyObject(GATEWAY, "GRPCRoute", name, {
    spec: { parentRefs: [{ group: POLICY, kind: "Server", name: "web" }], ...spec },
  });
const CALLS = {
  rules: [
    { matches: [{ method: { service: "pkg.Emoji", method: "Find" } }] },
    { matches: [{ method: { service: "pkg.Votes" } }] },
    { matches: [{ method: { method: "Ping" } }] },
  ],
};

test("GRPCRoutes go before HTTPRoutes, on gRPC Servers and as paths on others", () => {
  for (const [proxyProtocol, kind] of [
    ["gRPC", "grpc"],
    ["HTTP/2", "http2"],
    ["unknown", "detect"],
  ] as const) {
    const cluster = new PolicyCluster().apply(
      pod,
      server({ proxyProtocol }),
      httpRoute(GATEWAY, "loses"),
      grpcRoute("wins", CALLS),
    );
    const message = ask(cluster)!;
    assert.is(kindOf(message), kind);
    assert.equal(routesOf(message).map(nameOf), ["GRPCRoute wins"]);
    const routes = compileServerRoutes(message);
    const takes = (path: string) =>
      routes.find({ method: "POST", path, authority: "web", get: () => undefined }) !== undefined;
    assert.equal(
      [
        "/pkg.Emoji/Find",
        "/pkg.Emoji/List",
        "/pkg.Votes/Any",
        "/other.Service/Ping",
        "/other.Service/Pong",
      ].map(takes),
      [true, false, true, true, false],
      proxyProtocol,
    );
  }
});

test("a gRPC Server without routes takes every call; HTTPRoutes on it count for nothing", () => {
  const cluster = new PolicyCluster().apply(
    pod,
    server({ proxyProtocol: "gRPC" }),
    httpRoute(GATEWAY, "web"),
  );
  assert.equal(routesOf(ask(cluster)!).map(nameOf), ["default"]);
});

test("the oldest HTTPLocalRateLimitPolicy of a Server, with its limits, identities and overrides", () => {
  const limit = (
    name: string,
    spec: object,
    targetRef: object = { group: POLICY, kind: "Server", name: "web" },
  ) => policyObject(`${POLICY}/v1alpha1`, "HTTPLocalRateLimitPolicy", name, { spec: { targetRef, ...spec } });
  const cluster = new PolicyCluster().apply(
    pod,
    server(),
    limit("of-another", { total: { requestsPerSecond: 1 } }, { group: POLICY, kind: "Server", name: "api" }),
    limit("z-oldest", {
      total: { requestsPerSecond: 100 },
      identity: { requestsPerSecond: 20 },
      overrides: [
        {
          requestsPerSecond: 50,
          clientRefs: [
            { kind: "ServiceAccount", name: "friend" },
            { kind: "ServiceAccount", name: "batch", namespace: "jobs" },
          ],
        },
      ],
    }),
    limit("a-younger", { total: { requestsPerSecond: 1 } }),
  );
  const { metadata, total, identity, overrides } = ask(cluster)!.protocol!.detect!.httpLocalRateLimit!;
  assert.is(metadata?.resource?.name, "z-oldest");
  assert.is(total?.requestsPerSecond, 100);
  assert.is(identity?.requestsPerSecond, 20);
  const suffix = "serviceaccount.identity.mesh-system.cluster.local";
  assert.equal(overrides, [
    {
      limit: { requestsPerSecond: 50 },
      clients: { identities: [{ name: `friend.emoji.${suffix}` }, { name: `batch.jobs.${suffix}` }] },
    },
  ]);
  for (const [proxyProtocol, has] of [
    ["HTTP/1", true],
    ["HTTP/2", true],
    ["opaque", false],
  ] as const) {
    const { protocol } = ask(cluster.apply({ ...server({ proxyProtocol }) }))!;
    const found = protocol!.http1?.localRateLimit ?? protocol!.http2?.localRateLimit;
    assert.is(found !== undefined, has, proxyProtocol);
  }
});

test("ExternalWorkloads have Servers and defaults of their own", () => {
  const machine = (annotations: object = {}) =>
    policyObject("workload.linkerd.io/v1beta1", "ExternalWorkload", "vm", {
      labels: { app: "web" },
      annotations,
      spec: { ports: [{ name: "http", port: 8080 }], workloadIPs: [{ ip: "192.0.2.9" }] },
    });
  const ref: WorkloadRef = { kind: "ExternalWorkload", namespace: "emoji", name: "vm" };
  const cluster = new PolicyCluster().apply(server());
  assert.is(ask(cluster, ref), undefined);
  cluster.apply(machine({ "config.linkerd.io/default-inbound-policy": "deny" }));
  assert.is(ask(cluster, ref)!.labels["name"], "deny", "a Server of pods is none of its");
  cluster.apply(machine({ "config.linkerd.io/opaque-ports": "http" }));
  assert.is(kindOf(ask(cluster, ref)!), "opaque");
  cluster.apply(
    server({ podSelector: undefined, externalWorkloadSelector: { matchLabels: { app: "web" } } }, "vms"),
  );
  assert.is(ask(cluster, ref)!.labels["name"], "vms");
});

const hearing = (cluster: PolicyCluster) => {
  const seen: string[] = [];
  cluster.watchServer(WEB, 8080, (message) =>
    seen.push(message ? `${message.labels["name"]} ${admits(message)}` : "nothing"),
  );
  return seen;
};

test("a port whose Server goes is told what rules it then, never that there is nothing", () => {
  const cluster = new PolicyCluster().apply(pod, server({}, "web"));
  const seen = hearing(cluster);
  cluster.delete(server({}, "web")).delete(pod);
  assert.equal(seen, ["web ", "all-unauthenticated default all-unauthenticated", "nothing"]);
});

test("a port that another Server takes over is not told what its old one says meanwhile", () => {
  let settle = () => {};
  const cluster = new PolicyCluster({}, undefined, (fn) => {
    settle = fn;
  });
  const older = server({}, "older");
  cluster.apply(pod, server({}, "younger"));
  settle();
  const seen = hearing(cluster);
  cluster.apply(server({ accessPolicy: "all-unauthenticated" }, "younger"), older);
  settle();
  assert.equal(seen, ["younger ", "older "]);
});

test("pods with one Server are told one message, encoded once", () => {
  const cluster = new PolicyCluster().apply(server());
  const told: unknown[] = [];
  for (const name of ["one", "two"]) {
    cluster.apply({ ...pod, metadata: { ...pod.metadata, name } });
    const listener = { update: (frame: Buffer | undefined) => told.push(frame) };
    cluster.index.watchServer({ kind: "Pod", namespace: "emoji", name }, 8080, listener);
  }
  cluster.apply(server({ accessPolicy: "audit" }));
  assert.equal(cluster.index.watched, { ports: 2, servers: 1, policies: 0 });
  assert.ok(told[2] !== undefined && told[2] === told[3]);
});

test.run();
