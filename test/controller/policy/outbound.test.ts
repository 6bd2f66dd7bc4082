// Outbound policies as made from whole objects: every kind and field that says where requests go.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressText } from "../../../src/api/address.ts";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { OutboundPolicy } from "../../../src/api/outbound.ts";
import { durationMs } from "../../../src/api/time.ts";
import type { OutboundTarget } from "../../../src/controller/policy/index.ts";
import { policyRoutes } from "../../../src/rules/outbound-routes.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";

const test = suite("outbound policy");

type Policy = MessageOf<typeof OutboundPolicy>;

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io/v1";
const ALPHA = "gateway.networking.k8s.io/v1alpha2";
const WEB: OutboundTarget = { kind: "address", ip: "10.96.1.1", port: 80 };

const service = (name = "web", more: { annotations?: object; spec?: object; namespace?: string } = {}) =>
  policyObject("v1", "Service", name, {
    ...more,
    spec: {
      clusterIP: name === "web" ? "10.96.1.1" : `10.96.2.${name.length}`,
      ports: [
        { name: "http", port: 80 },
        { name: "admin", port: 9090 },
      ],
      ...more.spec,
    },
  });
const TO_WEB = { group: "core", kind: "Service", name: "web" };
const route = (
  apiVersion: string,
  kind: string,
  name: string,
  spec: object = {},
  more: { namespace?: string; annotations?: object } = {},
) => policyObject(apiVersion, kind, name, { spec: { parentRefs: [TO_WEB], ...spec }, ...more });
const httpRoute = (
  name: string,
  spec: object = {},
  more: { namespace?: string; annotations?: object } = {},
) => route(GATEWAY, "HTTPRoute", name, spec, more);

/** As it comes over the wire. */
function ask(cluster: PolicyCluster, target: OutboundTarget = WEB, client = "emoji"): Policy | undefined {
  let found: Policy | undefined;
  cluster.watchOutbound(target, client, (policy) => {
    found = policy;
  })();
  return found;
}

const kindOf = ({ protocol }: Policy) =>
  Object.entries(protocol!).find(([, value]) => value !== undefined)![0];
const httpOf = ({ protocol }: Policy) =>
  (protocol!.detect?.http1 ?? protocol!.http1 ?? protocol!.http2)!.routes;
const routesOf = (policy: Policy) => {
  const { detect, http1, http2, grpc, tls, opaque } = policy.protocol!;
  return (detect?.http1 ?? http1 ?? http2 ?? grpc ?? tls ?? opaque)!.routes as {
    metadata?: { default?: string; resource?: { kind: string; name: string; namespace: string } };
  }[];
};
const names = (policy: Policy | undefined) =>
  routesOf(policy!).map(({ metadata }) => metadata?.default ?? metadata!.resource!.name);

/** Backends of a rule in one line each: who, share, and what fails there. */
function backends(policy: Policy, index = 0): string[] {
  type Backend = {
    backend?: { metadata?: { resource?: object }; balancer?: object; forward?: object };
    filters: object[];
  };
  const [{ rules }] = [
    routesOf(policy)[index] as unknown as { rules: { backends: Record<string, { backends: unknown[] }> }[] },
  ];
  const [[kind, { backends: list }]] = [
    Object.entries(rules[0]!.backends).find(([, value]) => value !== undefined)!,
  ];
  return list.map((entry) => {
    const weighted = entry as { backend: Backend; weight: number };
    const one = kind === "randomAvailable" ? weighted.backend : (entry as Backend);
    const share = kind === "randomAvailable" ? ` ${weighted.weight}` : "";
    const { kind: what, namespace, name, port } = one.backend!.metadata!.resource as Record<string, unknown>;
    const [filter] = one.filters as {
      failureInjector?: { status?: number; code?: number; message: string };
      invalid?: { message: string };
    }[];
    const failure = filter?.failureInjector
      ? ` fails ${filter.failureInjector.status ?? filter.failureInjector.code}: ${filter.failureInjector.message}`
      : filter?.invalid
        ? ` fails: ${filter.invalid.message}`
        : "";
    const way = one.backend!.balancer ? "" : one.backend!.forward ? " as it is" : " nowhere";
    return `${what} ${namespace}/${name}:${port}${share}${way}${failure}`;
  });
}

// ---- which routes hold ----

const ATTACHMENTS: [string, object, number, boolean][] = [
  ["group core", TO_WEB, 80, true],
  ["an empty group", { ...TO_WEB, group: "" }, 80, true],
  ["no group", { kind: "Service", name: "web" }, 80, true],
  ["a group that has no Services", { ...TO_WEB, group: "example.com" }, 80, false],
  ["no kind: a Gateway", { name: "web" }, 80, false],
  ["this port", { ...TO_WEB, port: 80 }, 80, true],
  ["another port", { ...TO_WEB, port: 9090 }, 80, false],
  ["no port: all of them", TO_WEB, 9090, true],
  ["this port by its name", { ...TO_WEB, sectionName: "http" }, 80, true],
  ["another port by its name", { ...TO_WEB, sectionName: "admin" }, 80, false],
  ["number and name of two ports", { ...TO_WEB, port: 80, sectionName: "admin" }, 80, false],
  ["a Service of another namespace", { ...TO_WEB, namespace: "voting" }, 80, false],
  ["the own namespace, written out", { ...TO_WEB, namespace: "emoji" }, 80, true],
];
for (const [text, parentRef, port, attached] of ATTACHMENTS)
  test(`parentRefs: ${text}`, () => {
    const cluster = new PolicyCluster().apply(service(), httpRoute("one", { parentRefs: [parentRef] }));
    assert.equal(names(ask(cluster, { ...WEB, port })), attached ? ["one"] : ["http"]);
  });

test("producers' routes hold for everybody, consumers' for their namespace alone, where they take the others' place", () => {
  const parentRefs = [{ ...TO_WEB, namespace: "emoji" }];
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("producer"),
    httpRoute("consumer", { parentRefs }, { namespace: "voting" }),
  );
  const of = (client: string) => names(ask(cluster, WEB, client));
  assert.equal([of("emoji"), of("voting"), of("elsewhere")], [["producer"], ["consumer"], ["producer"]]);
  const call = { kind: "service", namespace: "emoji", name: "web", port: 80 } as const;
  assert.equal(names(ask(cluster, call, "voting")), ["consumer"]);
});

test("of one kind all hold, the older ones first; of several kinds the most specific one", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("z-old"),
    route(`${POLICY}/v1beta3`, "HTTPRoute", "a-young"),
    route(ALPHA, "TLSRoute", "tls"),
    route(ALPHA, "TCPRoute", "tcp"),
  );
  assert.equal(names(ask(cluster)), ["z-old", "a-young"]);
  cluster.apply(route(GATEWAY, "GRPCRoute", "grpc"));
  assert.is(kindOf(ask(cluster)!), "grpc");
  assert.equal(names(ask(cluster)), ["grpc"]);
});

test("a kind that wins on one port leaves the others", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("http"),
    route(GATEWAY, "GRPCRoute", "grpc", { parentRefs: [{ ...TO_WEB, port: 80 }] }),
  );
  assert.equal(names(ask(cluster)), ["grpc"]);
  assert.equal(names(ask(cluster, { ...WEB, port: 9090 })), ["http"]);
});

test("a consumer's route of another kind does not disturb the producer's", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("producer"),
    route(
      GATEWAY,
      "GRPCRoute",
      "consumer",
      { parentRefs: [{ ...TO_WEB, namespace: "emoji" }] },
      { namespace: "voting" },
    ),
  );
  assert.equal(names(ask(cluster)), ["producer"]);
  assert.is(kindOf(ask(cluster, WEB, "voting")!), "grpc");
});

const KINDS: [string | undefined, string[], string][] = [
  [undefined, [], "detect"],
  [undefined, ["HTTPRoute"], "detect"],
  [undefined, ["GRPCRoute"], "grpc"],
  [undefined, ["TLSRoute"], "tls"],
  [undefined, ["TCPRoute"], "opaque"],
  ["http", ["HTTPRoute"], "http1"],
  ["kubernetes.io/h2c", ["HTTPRoute"], "http2"],
  ["kubernetes.io/h2c", ["GRPCRoute"], "grpc"],
  ["linkerd.io/opaque", ["TCPRoute"], "opaque"],
  ["linkerd.io/opaque", ["HTTPRoute"], "opaque"],
];
for (const [appProtocol, kinds, expected] of KINDS)
  test(`protocol of appProtocol ${appProtocol} with ${kinds.join() || "no route"}`, () => {
    const version = { HTTPRoute: GATEWAY, GRPCRoute: GATEWAY } as Record<string, string>;
    const cluster = new PolicyCluster().apply(
      service("web", { spec: { ports: [{ port: 80, ...(appProtocol ? { appProtocol } : {}) }] } }),
      ...kinds.map((kind) => route(version[kind] ?? ALPHA, kind, "one", { rules: [{}] })),
    );
    assert.is(kindOf(ask(cluster)!), expected);
  });

// ---- backends ----

const BACKENDS: [string, object[] | undefined, string[]][] = [
  ["none: the Service itself", undefined, ["Service emoji/web:80"]],
  ["one", [{ name: "api", port: 80 }], ["Service emoji/api:80 1"]],
  [
    "weights",
    [
      { name: "api", port: 80, weight: 90 },
      { name: "web", port: 80, weight: 10 },
      { name: "api", port: 9090, weight: 0 },
    ],
    ["Service emoji/api:80 90", "Service emoji/web:80 10", "Service emoji/api:9090 0"],
  ],
  ["another namespace", [{ name: "far", namespace: "voting", port: 80 }], ["Service voting/far:80 1"]],
  [
    "missing",
    [{ name: "gone", port: 80, weight: 5 }],
    ["Service emoji/gone:80 5 nowhere fails 500: Service not found gone"],
  ],
  [
    "a port that the Service has not",
    [{ name: "api", port: 81 }],
    ["Service emoji/api:81 1 nowhere fails 500: Service api has no port 81"],
  ],
  ["a headless Service, at whatever port", [{ name: "pods", port: 81 }], ["Service emoji/pods:81 1"]],
  [
    "an ExternalName",
    [{ name: "elsewhere", port: 80 }],
    [
      "Service emoji/elsewhere:80 1 nowhere fails 500: Service elsewhere is an ExternalName: it has no endpoints here",
    ],
  ],
  [
    "without a port",
    [{ name: "api" }],
    ["Service emoji/api:0 1 nowhere fails 500: missing port for backend Service api"],
  ],
  [
    "an unknown kind",
    [{ group: "example.com", kind: "Bucket", name: "b" }],
    ["Bucket emoji/b:0 1 nowhere fails 500: unsupported backend type example.com Bucket"],
  ],
  [
    "an EgressNetwork of a Service",
    [{ group: POLICY, kind: "EgressNetwork", name: "out" }],
    [
      "EgressNetwork emoji/out:0 1 nowhere fails 500: an EgressNetwork is a backend of routes only that have it as parent",
    ],
  ],
];
for (const [text, backendRefs, expected] of BACKENDS)
  test(`backendRefs: ${text}`, () => {
    const cluster = new PolicyCluster().apply(
      service(),
      service("api"),
      service("far", { namespace: "voting" }),
      service("pods", { spec: { clusterIP: "None" } }),
      service("elsewhere", { spec: { type: "ExternalName", clusterIP: "" } }),
      policyObject(`${POLICY}/v1alpha1`, "EgressNetwork", "out", { spec: { trafficPolicy: "Allow" } }),
      httpRoute("one", { rules: [{ backendRefs }] }),
    );
    assert.equal(backends(ask(cluster)!), expected);
  });

test("a backend that comes and goes is told to whoever watches", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("one", { rules: [{ backendRefs: [{ name: "api", port: 80 }] }] }),
  );
  const seen: boolean[] = [];
  cluster.watchOutbound(WEB, "emoji", (policy) =>
    seen.push(JSON.stringify(policy?.protocol).includes("not found")),
  );
  cluster.apply(service("api"), service("unrelated")).delete(service("api"));
  assert.equal(seen, [true, false, true]);
});

test("missing backends of gRPC, TLS and TCP routes fail in their own way", () => {
  const rules = [{ backendRefs: [{ name: "gone", port: 80 }] }];
  const of = (apiVersion: string, kind: string) =>
    backends(ask(new PolicyCluster().apply(service(), route(apiVersion, kind, "one", { rules })))!);
  assert.equal(of(GATEWAY, "GRPCRoute"), [
    "Service emoji/gone:80 1 nowhere fails 14: Service not found gone",
  ]);
  for (const kind of ["TLSRoute", "TCPRoute"])
    assert.equal(of(ALPHA, kind), ["Service emoji/gone:80 1 nowhere fails: Service not found gone"]);
});

test("backends balance by the parent's estimate, and are found by name", () => {
  const cluster = new PolicyCluster().apply(
    service("web", { annotations: { "balancer.alpha.linkerd.io/penalize-failures": "true" } }),
    service("api"),
    httpRoute("one", { rules: [{ backendRefs: [{ name: "api", port: 9090 }] }] }),
  );
  const { balancer, queue } = httpOf(ask(cluster)!)[0]!.rules[0]!.backends!.randomAvailable!.backends[0]!
    .backend!.backend!;
  assert.is(balancer!.discovery!.dst!.path, "api.emoji.svc.cluster.local:9090");
  assert.is(durationMs(balancer!.penaltyPeakEwma!.penalty!), 5_000);
  assert.equal([queue!.capacity, durationMs(queue!.failfastTimeout!)], [10_000, 3_000]);
});

// ---- rules ----

test("what an HTTPRoute takes and does, judged as the proxy does", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("one", {
      hostnames: ["web", "*.example.com"],
      rules: [
        {
          matches: [
            { path: { type: "Exact", value: "/exact" } },
            { path: { type: "PathPrefix", value: "/api" }, method: "POST" },
          ],
          filters: [
            {
              type: "RequestHeaderModifier",
              requestHeaderModifier: {
                set: [{ name: "A", value: "1" }],
                add: [{ name: "B", value: "2" }],
                remove: ["C"],
              },
            },
            { type: "ResponseHeaderModifier", responseHeaderModifier: { set: [{ name: "D", value: "3" }] } },
          ],
        },
        {
          matches: [
            {
              path: { type: "RegularExpression", value: "/v[0-9]+/.*" },
              headers: [{ name: "x-kind", type: "RegularExpression", value: "a|b" }],
              queryParams: [{ name: "q", value: "1" }],
            },
            { method: "PURGE" },
          ],
          filters: [
            {
              type: "RequestRedirect",
              requestRedirect: {
                scheme: "https",
                hostname: "example.com",
                port: 8443,
                statusCode: 301,
                path: { type: "ReplaceFullPath", replaceFullPath: "/new" },
              },
            },
          ],
        },
      ],
    }),
  );
  const routes = policyRoutes(httpOf(ask(cluster)!), undefined);
  const take = (method: string, path: string, authority = "web", fields: Record<string, string> = {}) =>
    routes.find({ method, path, authority, get: (name) => fields[name] })?.rule;
  const exact = take("GET", "/exact")!;
  assert.equal(
    [...exact.filters.request].sort((a, b) => (a.name < b.name ? -1 : 1)),
    [
      { op: "set", name: "a", value: "1" },
      { op: "add", name: "b", value: "2" },
      { op: "remove", name: "c", value: "" },
    ],
  );
  assert.equal(exact.filters.response, [{ op: "set", name: "d", value: "3" }]);
  assert.is(exact.route.name, "one");
  assert.is(take("GET", "/api/x"), undefined);
  assert.ok(take("POST", "/api/x", "a.example.com:80"));
  assert.is(take("GET", "/exact", "example.com"), undefined);
  assert.is(take("GET", "/v1/x?q=1", "web", { "x-kind": "c" }), undefined);
  const { filters } = take("GET", "/v1/x?q=1", "web", { "x-kind": "b" })!;
  const { scheme, host, port, status } = filters.redirect!;
  assert.equal([scheme, host, port, status], ["https", "example.com", 8443, 301]);
  assert.ok(take("PURGE", "/any"));
});

test("filters of one backend are its own", () => {
  const filters = [
    { type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "x-to", value: "api" }] } },
  ];
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("one", { rules: [{ backendRefs: [{ name: "web", port: 80, filters }] }] }),
  );
  const [rule] = httpOf(ask(cluster)!)[0]!.rules;
  assert.is(rule!.filters.length, 0);
  const set = rule!.backends!.randomAvailable!.backends[0]!.backend!.filters[0]!.requestHeaderModifier!.set!;
  assert.is(set.headers[0]!.value.toString(), "api");
});

test("URLRewrite and RequestMirror are asked of the mesh's own proxy; a mirror that leads nowhere is left out", () => {
  const filters = [
    {
      type: "URLRewrite",
      urlRewrite: {
        hostname: "inner.example.com",
        path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/v2" },
      },
    },
    { type: "RequestMirror", requestMirror: { backendRef: { name: "shadow", port: 80 }, percent: 10 } },
    {
      type: "RequestMirror",
      requestMirror: { backendRef: { name: "web", port: 80 }, fraction: { numerator: 1, denominator: 3 } },
    },
    { type: "RequestMirror", requestMirror: { backendRef: { name: "gone", port: 80 } } },
  ];
  const cluster = new PolicyCluster().apply(
    service(),
    service("shadow"),
    httpRoute("one", {
      rules: [{ filters, backendRefs: [{ name: "web", port: 80, filters: [filters[1]] }] }],
    }),
  );
  const [rule] = httpOf(ask(cluster)!)[0]!.rules;
  const told = rule!.meshFilters!.filters.map(({ urlRewrite, requestMirror }) =>
    urlRewrite
      ? [urlRewrite.hostname, urlRewrite.path!.prefix]
      : [requestMirror!.backend!.metadata!.resource!.name, requestMirror!.ratio],
  );
  assert.equal(told, [
    ["inner.example.com", "/v2"],
    ["shadow", { numerator: 10, denominator: 100 }],
    ["web", { numerator: 1, denominator: 3 }],
  ]);
  const { meshFilters } = rule!.backends!.randomAvailable!.backends[0]!.backend!;
  assert.is(meshFilters!.filters[0]!.requestMirror!.backend!.metadata!.resource!.name, "shadow");
  const compiled = policyRoutes(httpOf(ask(cluster)!), undefined);
  assert.is(compiled.backends.length, 4, "the proxy takes them");
});

test("what a GRPCRoute takes and does", () => {
  const cluster = new PolicyCluster().apply(
    service("web", {
      annotations: { "retry.linkerd.io/grpc": "unavailable", "retry.linkerd.io/limit": "2" },
    }),
    route(GATEWAY, "GRPCRoute", "one", {
      hostnames: ["web"],
      rules: [
        {
          matches: [
            { method: { service: "pkg.Emoji", method: "Find" }, headers: [{ name: "x-a", value: "1" }] },
          ],
          filters: [{ type: "RequestHeaderModifier", requestHeaderModifier: { remove: ["x-b"] } }],
          backendRefs: [{ name: "web", port: 80 }],
        },
      ],
    }),
  );
  const policy = ask(cluster)!;
  const routes = policyRoutes(undefined, policy.protocol!.grpc!.routes);
  const take = (path: string, fields: Record<string, string> = {}) =>
    routes.find({ method: "POST", path, authority: "web", get: (name) => fields[name] })?.rule;
  assert.is(take("/pkg.Emoji/Find"), undefined);
  const rule = take("/pkg.Emoji/Find", { "x-a": "1" })!;
  assert.equal(rule.filters.request, [{ op: "remove", name: "x-b", value: "" }]);
  assert.is(rule.retry!.maxRetries, 2);
  assert.equal([...rule.retry!.grpc], [14]);
});

test("what a TLSRoute takes", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    route(ALPHA, "TLSRoute", "one", {
      hostnames: ["db.example.com", "*.example.org"],
      rules: [{ backendRefs: [{ name: "web", port: 80 }] }],
    }),
  );
  const [found] = ask(cluster)!.protocol!.tls!.routes;
  assert.equal(found!.snis, [{ exact: "db.example.com" }, { suffix: { reverseLabels: ["org", "example"] } }]);
  assert.equal(backends(ask(cluster)!), ["Service emoji/web:80 1"]);
});

// ---- retries, timeouts, circuit breaking ----

const TIMEOUTS: [string, object, object, object, (number | undefined)[]][] = [
  ["none", {}, {}, {}, [undefined, undefined, undefined]],
  ["the Service's", { "timeout.linkerd.io/response": "2s" }, {}, {}, [undefined, 2_000, undefined]],
  [
    "the route's instead of all the Service's",
    { "timeout.linkerd.io/response": "2s" },
    { "timeout.linkerd.io/request": "1s", "timeout.linkerd.io/idle": "3s" },
    {},
    [1_000, undefined, 3_000],
  ],
  ["the rule's", {}, {}, { timeouts: { request: "1m30s" } }, [90_000, undefined, undefined]],
  // Whatever admission takes (Go's durations), as long as it is.
  ["without a nought", {}, {}, { timeouts: { request: ".5s" } }, [500, undefined, undefined]],
  ["with a sign", {}, {}, { timeouts: { request: "+3s" } }, [3_000, undefined, undefined]],
  ["of many parts", {}, {}, { timeouts: { request: "1h1m1s1ms500us" } }, [3_661_001.5, undefined, undefined]],
  ["at least a millisecond", {}, {}, { timeouts: { request: "100ns" } }, [1, undefined, undefined]],
  [
    "the annotation before the rule's",
    {},
    { "timeout.linkerd.io/request": "1s" },
    { timeouts: { request: "9s" } },
    [1_000, undefined, undefined],
  ],
  [
    "nought is none",
    { "timeout.linkerd.io/request": "5s" },
    {},
    { timeouts: { request: "0s" } },
    [5_000, undefined, undefined],
  ],
];
for (const [text, ofService, ofRoute, ofRule, expected] of TIMEOUTS)
  test(`timeouts: ${text}`, () => {
    const cluster = new PolicyCluster().apply(
      service("web", { annotations: ofService }),
      httpRoute("one", { rules: [ofRule] }, { annotations: ofRoute }),
    );
    const { timeouts, requestTimeout } = httpOf(ask(cluster)!)[0]!.rules[0]!;
    const ms = [timeouts?.request, timeouts?.response, timeouts?.idle].map((one) => one && durationMs(one));
    assert.equal(ms, expected);
    assert.is(requestTimeout && durationMs(requestTimeout), expected[0], "for older proxies");
  });

test("a rule's backendRequest is a timeout of each backend", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    httpRoute("one", { rules: [{ timeouts: { backendRequest: "2s" } }] }),
  );
  const [backend] = httpOf(ask(cluster)!)[0]!.rules[0]!.backends!.firstAvailable!.backends;
  assert.is(durationMs(backend!.requestTimeout!), 2_000);
});

const LIMIT = "retry.linkerd.io/limit";
const HTTP = "retry.linkerd.io/http";
const RETRIES: [string, object, object, object, [number, number[][]] | undefined][] = [
  ["none", {}, {}, {}, undefined],
  ["the Service's", { [HTTP]: "5xx", [LIMIT]: "3" }, {}, {}, [3, [[500, 599]]]],
  ["the route's instead", { [HTTP]: "5xx" }, { [HTTP]: "gateway-error" }, {}, [1, [[502, 504]]]],
  ["the route forbids them", { [HTTP]: "5xx" }, { [LIMIT]: "0" }, {}, undefined],
  [
    "the rule's own",
    { [HTTP]: "5xx" },
    {},
    { retry: { codes: [502], attempts: 4, backoff: "100ms" } },
    [4, [[502, 502]]],
  ],
  ["the annotation before the rule's", {}, { [HTTP]: "500" }, { retry: { codes: [502] } }, [1, [[500, 500]]]],
  ["gRPC conditions are not HTTP's", { "retry.linkerd.io/grpc": "unavailable" }, {}, {}, undefined],
];
for (const [text, ofService, ofRoute, ofRule, expected] of RETRIES)
  test(`retries: ${text}`, () => {
    const cluster = new PolicyCluster().apply(
      service("web", { annotations: ofService }),
      httpRoute("one", { rules: [ofRule] }, { annotations: ofRoute }),
    );
    const { retry } = httpOf(ask(cluster)!)[0]!.rules[0]!;
    assert.equal(
      retry && [retry.maxRetries, retry.conditions!.statusRanges.map(({ start, end }) => [start, end])],
      expected,
    );
    if (retry) assert.is(retry.maxRequestBytes, 65_536);
  });

test("a Service's annotations hold without any route", () => {
  const cluster = new PolicyCluster().apply(
    service("web", {
      annotations: {
        [HTTP]: "5xx",
        "timeout.linkerd.io/request": "1s",
        "balancer.linkerd.io/failure-accrual": "consecutive",
      },
    }),
  );
  const { http1, http2 } = ask(cluster)!.protocol!.detect!;
  for (const http of [http1!, http2!]) {
    assert.is(http.failureAccrual!.consecutiveFailures!.maxFailures, 7);
    assert.is(durationMs(http.routes[0]!.rules[0]!.timeouts!.request!), 1_000);
    assert.is(http.routes[0]!.rules[0]!.retry!.maxRetries, 1);
  }
});

test("callers may change retries and timeouts by header where the cluster lets them", () => {
  const of = (allowHeaders: boolean) =>
    httpOf(ask(new PolicyCluster({ allowHeaders }).apply(service(), httpRoute("one")))!)[0]!.rules[0]!
      .allowL5dRequestHeaders;
  assert.equal([of(false), of(true)], [false, true]);
});

// ---- splits ----

const split = (name: string, spec: object) =>
  policyObject("split.smi-spec.io/v1alpha2", "TrafficSplit", name, { spec });

test("a TrafficSplit shares the Service's traffic; the oldest one holds; what is missing fails for its share", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    service("canary"),
    split("z-old", {
      service: "web",
      backends: [
        { service: "web", weight: 90 },
        { service: "canary", weight: 10 },
        { service: "gone", weight: 1 },
      ],
    }),
    split("a-young", { service: "web", backends: [{ service: "canary", weight: 1 }] }),
    split("of-another", { service: "canary", backends: [{ service: "web", weight: 1 }] }),
  );
  const shares = [
    "Service emoji/web:80 90",
    "Service emoji/canary:80 10",
    "Service emoji/gone:80 1 nowhere fails 500: Service not found gone",
  ];
  assert.equal(backends(ask(cluster)!), shares);
  cluster.apply(httpRoute("one", { rules: [{}] }));
  assert.equal(backends(ask(cluster)!), shares, "rules without backends are shared too");
  cluster.apply(httpRoute("one", { rules: [{ backendRefs: [{ name: "canary", port: 80 }] }] }));
  assert.equal(backends(ask(cluster)!), ["Service emoji/canary:80 1"]);
});

test("weights as quantities, and Services by their hosts", () => {
  const cluster = new PolicyCluster().apply(
    service(),
    service("canary"),
    split("one", {
      service: "web.emoji.svc.cluster.local",
      backends: [
        { service: "web", weight: "900m" },
        { service: "canary", weight: "1" },
      ],
    }),
  );
  assert.equal(backends(ask(cluster)!), ["Service emoji/web:80 900", "Service emoji/canary:80 1000"]);
});

// ---- egress ----

const egress = (name: string, spec: object = {}, more: object = {}) =>
  policyObject(`${POLICY}/v1alpha1`, "EgressNetwork", name, {
    spec: { trafficPolicy: "Allow", ...spec },
    ...more,
  });
const OUTSIDE: OutboundTarget = { kind: "address", ip: "192.0.2.1", port: 443 };
const nameOf = (policy: Policy | undefined) => policy?.metadata?.default ?? policy?.metadata?.resource?.name;

test("the EgressNetwork of an address: the client's namespace, else the global one; the narrowest, then the oldest", () => {
  const of = (client: string, ip = "192.0.2.1") =>
    nameOf(ask(cluster, { kind: "address", ip, port: 443 }, client));
  const cluster = new PolicyCluster();
  assert.is(of("emoji"), "egress-fallback");
  cluster.apply(egress("global", {}, { namespace: "linkerd-egress" }));
  assert.is(of("emoji"), "global");
  cluster.apply(egress("wide"), egress("young"));
  assert.equal([of("emoji"), of("voting")], ["wide", "global"]);
  cluster.apply(egress("narrow", { networks: [{ cidr: "192.0.2.0/24", except: ["192.0.2.9"] }] }));
  assert.equal(
    [of("emoji"), of("emoji", "192.0.2.9"), of("emoji", "198.51.100.1")],
    ["narrow", "wide", "wide"],
  );
  cluster.delete(egress("wide"), egress("young"));
  assert.is(
    of("emoji", "198.51.100.1"),
    "egress-fallback",
    "a namespace with EgressNetworks has only its own",
  );
  assert.is(
    ask(cluster, { kind: "address", ip: "10.9.9.9", port: 443 }),
    undefined,
    "the cluster is not outside",
  );
  assert.is(of("emoji", "2001:db8::1"), "egress-fallback");
});

for (const trafficPolicy of ["Allow", "Deny"])
  test(`trafficPolicy ${trafficPolicy}: routes go before, and what they leave is the network's`, () => {
    const allow = trafficPolicy === "Allow";
    const cluster = new PolicyCluster().apply(egress("out", { trafficPolicy }));
    const { detect } = ask(cluster, OUTSIDE)!.protocol!;
    const suffix = `egress-${allow ? "allow" : "deny"}`;
    const [http] = detect!.http1!.routes;
    assert.is(http!.metadata!.default, `http-${suffix}`);
    assert.is(http!.rules[0]!.filters[0]?.failureInjector?.status, allow ? undefined : 403);
    const { forward } = http!.rules[0]!.backends!.firstAvailable!.backends[0]!.backend!;
    assert.equal(addressText(forward!.addr), { ip: "192.0.2.1", port: 443 });
    const [opaque] = detect!.opaque!.routes;
    assert.is(opaque!.metadata!.default, `tcp-${suffix}`);
    assert.is(opaque!.rules[0]!.filters[0]?.forbidden !== undefined, !allow);
    const parentRefs = [{ group: POLICY, kind: "EgressNetwork", name: "out", port: 443 }];
    const of = (apiVersion: string, kind: string) =>
      ask(
        new PolicyCluster().apply(
          egress("out", { trafficPolicy }),
          route(apiVersion, kind, "one", { parentRefs, rules: [{}] }),
        ),
        OUTSIDE,
      )!;
    assert.equal(names(of(GATEWAY, "HTTPRoute")), ["one", `http-${suffix}`]);
    const grpc = of(GATEWAY, "GRPCRoute");
    assert.equal(names(grpc), ["one", `grpc-${suffix}`]);
    assert.is(
      grpc.protocol!.grpc!.routes[1]!.rules[0]!.filters[0]?.failureInjector?.code,
      allow ? undefined : 7,
    );
    const tls = of(ALPHA, "TLSRoute");
    assert.equal(names(tls), ["one", `tls-${suffix}`]);
    assert.is(tls.protocol!.tls!.routes[1]!.rules[0]!.filters[0]?.forbidden !== undefined, !allow);
    assert.equal(names(of(ALPHA, "TCPRoute")), ["one"]);
  });

test("routes of an EgressNetwork send on as it was meant, or to a Service; its port is the address's", () => {
  const parentRefs = [{ group: POLICY, kind: "EgressNetwork", name: "out", port: 443 }];
  const backendRefs = [
    { group: POLICY, kind: "EgressNetwork", name: "out" },
    { group: POLICY, kind: "EgressNetwork", name: "other" },
    { group: POLICY, kind: "EgressNetwork", name: "gone" },
    { name: "web", port: 80 },
  ];
  const cluster = new PolicyCluster().apply(
    service(),
    egress("out", {}, { annotations: { "timeout.linkerd.io/request": "4s" } }),
    egress("other", { networks: [{ cidr: "198.51.100.0/24" }] }),
    httpRoute("one", { parentRefs, rules: [{ backendRefs }] }),
  );
  const policy = ask(cluster, OUTSIDE)!;
  assert.equal(backends(policy), [
    "EgressNetwork emoji/out:443 1 as it is",
    "EgressNetwork emoji/other:0 1 nowhere fails 500: an EgressNetwork is a backend of routes only that have it as parent",
    "EgressNetwork emoji/gone:0 1 nowhere fails 500: EgressNetwork not found gone",
    "Service emoji/web:80 1",
  ]);
  assert.is(durationMs(httpOf(policy)[0]!.rules[0]!.timeouts!.request!), 4_000);
  assert.equal(names(ask(cluster, { ...OUTSIDE, port: 80 })), ["http-egress-allow"]);
});

test("what the status refuses has no effect: routes of headless Services, and of EgressNetworks within the cluster", () => {
  const byName = { kind: "service", namespace: "emoji", name: "web", port: 80 } as const;
  const headless = new PolicyCluster().apply(
    service("web", { spec: { clusterIP: "None" } }),
    httpRoute("one"),
  );
  assert.equal(names(ask(headless, byName)), ["http"]);
  const parentRefs = [{ group: POLICY, kind: "EgressNetwork", name: "out", port: 443 }];
  const overlapping = new PolicyCluster().apply(
    egress("out", { trafficPolicy: "Deny", networks: [{ cidr: "0.0.0.0/0" }] }),
    httpRoute("one", { parentRefs }),
  );
  assert.equal(names(ask(overlapping, OUTSIDE)), ["http-egress-deny"]);
});

// ---- what cannot be ----

const BROKEN: [string, object][] = [
  [
    "an expression that is none",
    { rules: [{ matches: [{ path: { type: "RegularExpression", value: "(" } }] }] },
  ],
  [
    "a header's expression",
    { rules: [{ matches: [{ headers: [{ name: "a", type: "RegularExpression", value: "[" }] }] }] },
  ],
  ["an unknown type of path", { rules: [{ matches: [{ path: { type: "Suffix", value: "/" } }] }] }],
  ["a filter that is not supported", { rules: [{ filters: [{ type: "ExtensionRef" }] }] }],
  [
    "a backend's filter",
    { rules: [{ backendRefs: [{ name: "web", port: 80, filters: [{ type: "CORS" }] }] }] },
  ],
  ["a timeout that is none", { rules: [{ timeouts: { request: "soon" } }] }],
];
for (const [text, spec] of BROKEN)
  test(`a route that cannot be applied is applied nowhere: ${text}`, () => {
    assert.equal(names(ask(new PolicyCluster().apply(service(), httpRoute("one", spec)))), ["http"]);
  });

test.run();
