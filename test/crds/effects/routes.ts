// Where traffic goes: fields of routes, EgressNetworks and TrafficSplits, and annotations of what they are attached to, by
// what the proxy decides with the policy that it is told.
import type { MessageOf } from "../../../src/api/codec.ts";
import type { OutboundPolicy } from "../../../src/api/outbound.ts";
import { durationMs } from "../../../src/api/time.ts";
import type { OutboundTarget } from "../../../src/controller/policy/index.ts";
import type { KubeObject } from "../../../src/kube/types.ts";
import { applyFilters, type FilterSet, rewritten } from "../../../src/rules/filters.ts";
import { policyRoutes, type RouteMirror, type RouteRule } from "../../../src/rules/outbound-routes.ts";
import type { RouteMatch } from "../../../src/rules/route-match.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";
import { type AnnotationRow, annotations, fields, type KindEffects, type Row } from "./effect.ts";

type Policy = MessageOf<typeof OutboundPolicy>;

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io";
const WEB: OutboundTarget = { kind: "address", ip: "10.96.1.1", port: 80 };
const OUTSIDE: OutboundTarget = { kind: "address", ip: "192.0.2.1", port: 443 };

const service = (name: string, ip: string, namespace = "emoji") =>
  policyObject("v1", "Service", name, {
    namespace,
    spec: {
      clusterIP: ip,
      ports: [
        { name: "http", port: 80 },
        { name: "admin", port: 9090 },
      ],
    },
  });
const web = service("web", "10.96.1.1");
const egress = policyObject(`${POLICY}/v1alpha1`, "EgressNetwork", "out", {
  spec: { trafficPolicy: "Allow" },
});
const AROUND = [web, service("api", "10.96.1.2"), service("api", "10.96.2.2", "voting")];

/** What a client's proxy is told, as it comes over the wire. */
function told(objects: readonly KubeObject[], target = WEB): Policy {
  let found: Policy | undefined;
  new PolicyCluster().apply(...AROUND, ...objects).watchOutbound(target, "emoji", (policy) => {
    found = policy;
  })();
  return found!;
}

const rawOf = ({ protocol }: Policy) => (protocol!.tls ?? protocol!.opaque)!.routes;
function compiled({ protocol }: Policy) {
  const { detect, http1, http2, grpc } = protocol!;
  return policyRoutes((detect?.http1 ?? http1 ?? http2)?.routes, grpc?.routes);
}

const REQUEST = {
  method: "POST",
  path: "/a/b?q=1",
  authority: "web",
  get: (name: string) => ({ "x-a": "1" })[name],
};
type Request = Partial<Omit<typeof REQUEST, "get">>;
const take = (policy: Policy, request: Request = {}): RouteMatch<RouteRule> | undefined =>
  compiled(policy).find({ ...REQUEST, ...request });

/** Names of the routes that are told of. */
const names = (policy: Policy): string[] => {
  const { detect, http1, http2, grpc } = policy.protocol!;
  const routes = (detect?.http1 ?? http1 ?? http2 ?? grpc)?.routes ?? rawOf(policy);
  return routes.map(({ metadata }) => metadata!.default ?? metadata!.resource!.name);
};
/** Whether the route takes a request. */
const takes =
  (request: Request = {}) =>
  (object: KubeObject): boolean =>
    take(told([object]), request)?.rule.route.name === "one";

/** What filters do to the request, in words. */
function filtered(filters: FilterSet, mirrors: readonly RouteMirror[], request: Request, prefix?: string) {
  const facts = { ...REQUEST, ...request };
  const verdict = applyFilters(filters, facts, prefix, () => 0);
  const renamed = rewritten(filters, facts, prefix);
  return [
    ...filters.request.map(({ op, name, value }) => `${op} ${name}=${value}`),
    ...filters.response.map(({ op, name, value }) => `answer: ${op} ${name}=${value}`),
    ...(verdict.kind === "redirect" ? [`${verdict.status} ${verdict.location}`] : []),
    ...(renamed ? [`as ${renamed.authority ?? facts.authority}${renamed.path ?? facts.path}`] : []),
    ...mirrors.map(({ backend, share }) => `copy to ${backend.ref.name}, ${share}`),
  ];
}
const filtersOf =
  (of: "rule" | "backend", request: Request = {}) =>
  (object: KubeObject) => {
    const match = take(told([object]), request);
    if (match?.rule.route.name !== "one") return "not applied";
    const { filters, mirrors } = of === "rule" ? match.rule : match.rule.backends.backends[0]!;
    return filtered(filters, mirrors, request, match.prefix);
  };

/** Backends of the route: who, how much of the traffic, and whether it is one. */
function backends(object: KubeObject): string[] {
  const policy = told([object]);
  const { tls, opaque } = policy.protocol!;
  if (tls ?? opaque)
    return rawOf(policy)[0]!.rules[0]!.backends!.randomAvailable!.backends.map(({ backend, weight }) => {
      const { kind, namespace, name, port } = backend!.backend!.metadata!.resource!;
      return `${weight} ${kind} ${namespace}/${name}:${port}${backend!.filters.length > 0 ? " fails" : ""}`;
    });
  return take(policy)!.rule.backends.backends.map(({ ref, weight, target, filters }) => {
    const fails = target.kind === "nowhere" || filters.faults.length > 0 ? " fails" : "";
    return `${weight} ${ref.kind} ${ref.namespace}/${ref.name}:${ref.port}${fails}`;
  });
}

const PARENT = { group: "core", kind: "Service", name: "web" };
const BACKEND = { name: "api", port: 80 };

/** Rows that every kind of route has. @param parent the route's parent @param given what is named when it holds */
const parentRows = (
  look = (object: KubeObject): unknown => names(told([object])),
  without: unknown,
): Row[] => [
  ["parentRefs.0.group", "core", ["one"], "example.com", without, {}, look],
  ["parentRefs.0.kind", "Service", ["one"], "Gateway", without, {}, look],
  ["parentRefs.0.namespace", undefined, ["one"], "voting", without, {}, look],
  ["parentRefs.0.name", "web", ["one"], "api", without, {}, look],
  ["parentRefs.0.sectionName", "http", ["one"], "admin", without, {}, look],
  ["parentRefs.0.port", 80, ["one"], 9090, without, {}, look],
];
const BACKENDS = { "rules.0.backendRefs": [BACKEND] };
const backendRows: Row[] = [
  [
    "rules.0.backendRefs.0.group",
    "",
    ["1 Service emoji/api:80"],
    "example.com",
    ["1 Service emoji/api:80 fails"],
    BACKENDS,
    backends,
  ],
  [
    "rules.0.backendRefs.0.kind",
    "Service",
    ["1 Service emoji/api:80"],
    "Bucket",
    ["1 Bucket emoji/api:80 fails"],
    BACKENDS,
    backends,
  ],
  [
    "rules.0.backendRefs.0.namespace",
    undefined,
    ["1 Service emoji/api:80"],
    "voting",
    ["1 Service voting/api:80"],
    BACKENDS,
    backends,
  ],
  [
    "rules.0.backendRefs.0.name",
    "api",
    ["1 Service emoji/api:80"],
    "gone",
    ["1 Service emoji/gone:80 fails"],
    BACKENDS,
    backends,
  ],
  [
    "rules.0.backendRefs.0.port",
    80,
    ["1 Service emoji/api:80"],
    undefined,
    ["1 Service emoji/api:0 fails"],
    BACKENDS,
    backends,
  ],
  [
    "rules.0.backendRefs.0.weight",
    undefined,
    ["1 Service emoji/api:80"],
    7,
    ["7 Service emoji/api:80"],
    BACKENDS,
    backends,
  ],
];

const valueRows = (at: string, name: string, request: Request = {}): Row[] => {
  const set = { [at.replace(/\.0$/, "")]: [{ name, value: "1" }] };
  const look = takes(request);
  return [
    [`${at}.name`, name, true, "other", false, set, look],
    [`${at}.value`, "1", true, "2", false, set, look],
    [
      `${at}.type`,
      "RegularExpression",
      true,
      undefined,
      false,
      { [at.replace(/\.0$/, "")]: [{ name, value: "[0-9]" }] },
      look,
    ],
  ];
};

/** Rows of filters, of a rule or of one of its backends. */
function filterRows(of: "rule" | "backend", request: Request = {}): Row[] {
  const at = of === "rule" ? "rules.0.filters" : "rules.0.backendRefs.0.filters";
  const around: Record<string, unknown> = of === "rule" ? {} : BACKENDS;
  const look = filtersOf(of, request);
  const modifier = (name: string, text: string): Row[] =>
    (["set", "add"] as const).flatMap((op): Row[] => {
      const type = `${name[0]!.toUpperCase()}${name.slice(1)}`;
      const set = { ...around, [at]: [{ type, [name]: { [op]: [{ name: "a", value: "1" }] } }] };
      const path = `${at}.0.${name}.${op}.0`;
      return [
        [`${path}.name`, "a", [`${text}${op} a=1`], "b", [`${text}${op} b=1`], set, look],
        [`${path}.value`, "1", [`${text}${op} a=1`], "2", [`${text}${op} a=2`], set, look],
        ...(op === "add"
          ? [
              [
                `${at}.0.${name}.remove.0`,
                "c",
                [`${text}remove c=`],
                "d",
                [`${text}remove d=`],
                { ...around, [at]: [{ type, [name]: { remove: [] } }] },
                look,
              ] as const,
            ]
          : []),
      ];
    });
  const both = { requestHeaderModifier: { remove: ["c"] }, responseHeaderModifier: { remove: ["d"] } };
  return [
    [
      `${at}.0.type`,
      "RequestHeaderModifier",
      ["remove c="],
      "ResponseHeaderModifier",
      ["answer: remove d="],
      { ...around, [at]: [both] },
      look,
    ],
    ...modifier("requestHeaderModifier", ""),
    ...modifier("responseHeaderModifier", "answer: "),
  ];
}

function redirectRows(of: "rule" | "backend"): Row[] {
  const at = of === "rule" ? "rules.0.filters" : "rules.0.backendRefs.0.filters";
  const redirect = (requestRedirect: object) => ({
    "rules.0.matches": [{ path: { value: "/a" } }],
    ...(of === "rule" ? {} : BACKENDS),
    [at]: [{ type: "RequestRedirect", requestRedirect: { hostname: "x", ...requestRedirect } }],
  });
  const path = (type: string) =>
    redirect({ path: { type, replaceFullPath: "/f", replacePrefixMatch: "/p" } });
  const full = "302 http://x/f";
  const prefix = "302 http://x/p/b?q=1";
  const row = (
    field: string,
    a: unknown,
    seenA: string,
    b: unknown,
    seenB: string,
    set: Record<string, unknown> = redirect({}),
  ): Row => [`${at}.0.requestRedirect.${field}`, a, [seenA], b, [seenB], set, filtersOf(of)];
  return [
    row("scheme", undefined, "302 http://x/a/b?q=1", "https", "302 https://x/a/b?q=1"),
    row("hostname", "x", "302 http://x/a/b?q=1", "y", "302 http://y/a/b?q=1"),
    row("port", undefined, "302 http://x/a/b?q=1", 81, "302 http://x:81/a/b?q=1"),
    row("statusCode", undefined, "302 http://x/a/b?q=1", 301, "301 http://x/a/b?q=1"),
    row("path.type", "ReplaceFullPath", full, "ReplacePrefixMatch", prefix, path("ReplaceFullPath")),
    row("path.replaceFullPath", "/f", full, "/g", "302 http://x/g", path("ReplaceFullPath")),
    row("path.replacePrefixMatch", "/p", prefix, "/", "302 http://x/b?q=1", path("ReplacePrefixMatch")),
  ];
}

const mirrorRow = (of: "rule" | "backend", request: Request = {}): Row => {
  const at = of === "rule" ? "rules.0.filters" : "rules.0.backendRefs.0.filters";
  const set = { ...(of === "rule" ? {} : BACKENDS), [at]: [{ type: "RequestMirror" }] };
  return [
    `${at}.0.requestMirror`,
    { backendRef: BACKEND },
    ["copy to api, 1"],
    { backendRef: { name: "web", port: 80 }, percent: 25 },
    ["copy to web, 0.25"],
    set,
    filtersOf(of, request),
  ];
};
const gatewayFilterRows = (of: "rule" | "backend"): Row[] => {
  const at = of === "rule" ? "rules.0.filters" : "rules.0.backendRefs.0.filters";
  const set = { ...(of === "rule" ? {} : BACKENDS), [at]: [{ type: "URLRewrite" }] };
  return [
    mirrorRow(of),
    [
      `${at}.0.urlRewrite`,
      { hostname: "x" },
      ["as x/a/b?q=1"],
      { path: { type: "ReplaceFullPath", replaceFullPath: "/f" } },
      ["as web/f?q=1"],
      set,
      filtersOf(of),
    ],
  ];
};

const httpRow = (
  field: string,
  a: unknown,
  b: unknown,
  set: Record<string, unknown>,
  request: Request = {},
): Row => [field, a, true, b, false, set, takes(request)];
const ruleOf = (object: KubeObject) => take(told([object]))!.rule;
const HTTP_ROWS: Row[] = [
  ...parentRows(undefined, ["http"]),
  httpRow(
    "hostnames.0",
    "*.example.com",
    "other.example",
    { hostnames: [] },
    { authority: "web.example.com" },
  ),
  httpRow("rules.0.matches.0.path.type", undefined, "Exact", {
    "rules.0.matches": [{ path: { value: "/a" } }],
  }),
  httpRow("rules.0.matches.0.path.value", "/a", "/b", { "rules.0.matches": [{ path: {} }] }),
  ...valueRows("rules.0.matches.0.headers.0", "x-a").map(withMatch),
  ...valueRows("rules.0.matches.0.queryParams.0", "q").map(withMatch),
  httpRow("rules.0.matches.0.method", "POST", "GET", { "rules.0.matches": [{}] }),
  ...filterRows("rule"),
  ...redirectRows("rule"),
  ...backendRows,
  ...filterRows("backend"),
  ...redirectRows("backend"),
  [
    "rules.0.timeouts.request",
    undefined,
    undefined,
    "2s",
    2_000,
    { "rules.0.timeouts": {} },
    (object) => ruleOf(object).timeouts.request,
  ],
  [
    "rules.0.timeouts.backendRequest",
    undefined,
    undefined,
    "1s",
    1_000,
    { "rules.0.timeouts": {} },
    (object) => ruleOf(object).backends.backends[0]!.timeout,
  ],
];

/** The fields of a match are set in a match that is there. */
function withMatch([path, a, seenA, b, seenB, set = {}, look]: Row): Row {
  return [path, a, seenA, b, seenB, { "rules.0.matches": [{}], ...set }, look!];
}

const route = (group: string, version: string, kind: string) =>
  policyObject(`${group}/${version}`, kind, "one", { spec: { parentRefs: [PARENT], rules: [{}] } });
const UNUSED = "no mesh applies such a filter: a route with one is not accepted";
const NAME = "it names a rule for status and tools";
const OF_CALLS = "it is about calls, which a GRPCRoute takes";
const OF_REQUESTS = "it is about HTTP, and a GRPCRoute takes calls";

const CALL: Request = { path: "/pkg.Emoji/Find", method: "POST" };
const RPC = { "rules.0.matches": [{ method: { service: "pkg.Emoji", method: "Find" } }] };
const GRPC_ROWS: Row[] = [
  ...parentRows(undefined, ["http"]),
  httpRow("hostnames.0", "web", "other.example", { hostnames: [] }, CALL),
  httpRow("rules.0.matches.0.method.type", "Exact", "RegularExpression", RPC, CALL),
  httpRow("rules.0.matches.0.method.service", "pkg.Emoji", "pkg.Other", RPC, CALL),
  httpRow("rules.0.matches.0.method.method", "Find", "List", RPC, CALL),
  ...valueRows("rules.0.matches.0.headers.0", "x-a", CALL).map(withMatch),
  ...filterRows("rule", CALL),
  mirrorRow("rule", CALL),
  ...backendRows,
  ...filterRows("backend", CALL),
  mirrorRow("backend", CALL),
];

const rawLook = (object: KubeObject) => {
  const policy = told([object]);
  return policy.protocol!.detect ? ["opaq"] : names(policy);
};

/** Retries of the rule that takes a request: how many, of what, for how long. */
const retried = (request: Request) => (objects: readonly KubeObject[], target?: OutboundTarget) => {
  const { retry } = take(told(objects, target), request)!.rule;
  return retry && [retry.maxRetries, retry.timeout, JSON.stringify(retry.statuses), [...retry.grpc].join()];
};
const timeouts = (objects: readonly KubeObject[], request: Request = {}) => {
  const { request: whole, response, idle } = take(told(objects), request)!.rule.timeouts;
  return [whole, response, idle];
};
type Around = (object: KubeObject) => readonly KubeObject[];
const trafficRows = (around: Around, request: Request, grpc: boolean): AnnotationRow[] => {
  const retries = (object: KubeObject) => retried(request)(around(object));
  const times = (object: KubeObject) => timeouts(around(object), request);
  const NO_TIMEOUTS = [undefined, undefined, undefined];
  const condition: Record<string, string> = grpc
    ? { "retry.linkerd.io/grpc": "internal" }
    : { "retry.linkerd.io/http": "500" };
  const statuses = grpc ? ["[]", "13"] : ["[[500,500]]", ""];
  return [
    grpc
      ? ["retry.linkerd.io/grpc", "unavailable", undefined, [1, undefined, "[]", "14"], {}, retries]
      : ["retry.linkerd.io/http", "gateway-error", undefined, [1, undefined, "[[502,504]]", ""], {}, retries],
    [
      "retry.linkerd.io/limit",
      "3",
      [1, undefined, ...statuses],
      [3, undefined, ...statuses],
      condition,
      retries,
    ],
    [
      "retry.linkerd.io/timeout",
      "2s",
      [1, undefined, ...statuses],
      [1, 2_000, ...statuses],
      condition,
      retries,
    ],
    ["timeout.linkerd.io/request", "2s", NO_TIMEOUTS, [2_000, undefined, undefined], {}, times],
    ["timeout.linkerd.io/response", "3s", NO_TIMEOUTS, [undefined, 3_000, undefined], {}, times],
    ["timeout.linkerd.io/idle", "4s", NO_TIMEOUTS, [undefined, undefined, 4_000], {}, times],
  ];
};

const BALANCER = "balancer.linkerd.io/";
const ALPHA = "balancer.alpha.linkerd.io/";
const CONSECUTIVE = { [`${BALANCER}failure-accrual`]: "consecutive" };
const UNIFIED = { [`${BALANCER}failure-accrual`]: "unified" };
const PENALIZED = { [`${ALPHA}penalize-failures`]: "true" };

/** How endpoints are judged. */
const balancerRows = (target: OutboundTarget, around: Around): AnnotationRow[] => {
  const policy = (object: KubeObject) => told(around(object), target).protocol!.detect!.http1!;
  const consecutive = (object: KubeObject) => {
    const { maxFailures, backoff } = policy(object).failureAccrual!.consecutiveFailures!;
    const { minBackoff, maxBackoff, jitterRatio, respectRetryAfterHint } = backoff!;
    return [
      maxFailures,
      durationMs(minBackoff!),
      durationMs(maxBackoff!),
      jitterRatio,
      respectRetryAfterHint,
    ];
  };
  const unified = (object: KubeObject) => {
    const { successRateThreshold, decay, minRequests } = policy(object).failureAccrual!.unified!;
    return [successRateThreshold, durationMs(decay!), minRequests];
  };
  const load = (object: KubeObject) => {
    const { backends: all } = policy(object).routes[0]!.rules[0]!;
    const backend = (all!.firstAvailable?.backends[0] ?? all!.randomAvailable!.backends[0]!.backend!)
      .backend!;
    const penalized = backend.balancer!.penaltyPeakEwma;
    return penalized && [durationMs(penalized.penalty!), durationMs(penalized.maxRetryAfter!)];
  };
  const plain = [7, 1_000, 60_000, 0.5, false];
  return [
    [
      `${BALANCER}failure-accrual`,
      "consecutive",
      false,
      true,
      {},
      (object) => policy(object).failureAccrual !== undefined,
    ],
    [
      `${BALANCER}failure-accrual-consecutive-max-failures`,
      "3",
      plain,
      [3, ...plain.slice(1)],
      CONSECUTIVE,
      consecutive,
    ],
    [
      `${BALANCER}failure-accrual-consecutive-min-penalty`,
      "2s",
      plain,
      [7, 2_000, 60_000, 0.5, false],
      CONSECUTIVE,
      consecutive,
    ],
    [
      `${BALANCER}failure-accrual-consecutive-max-penalty`,
      "9s",
      plain,
      [7, 1_000, 9_000, 0.5, false],
      CONSECUTIVE,
      consecutive,
    ],
    [
      `${BALANCER}failure-accrual-consecutive-jitter-ratio`,
      "0.25",
      plain,
      [7, 1_000, 60_000, 0.25, false],
      CONSECUTIVE,
      consecutive,
    ],
    [
      `${ALPHA}failure-accrual-honor-retry-after`,
      "true",
      plain,
      [7, 1_000, 60_000, 0.5, true],
      CONSECUTIVE,
      consecutive,
    ],
    [
      `${ALPHA}failure-accrual-success-rate-threshold`,
      "0.5",
      [0.8, 10_000, 5],
      [0.5, 10_000, 5],
      UNIFIED,
      unified,
    ],
    [
      `${ALPHA}failure-accrual-success-rate-window`,
      "30s",
      [0.8, 10_000, 5],
      [0.8, 30_000, 5],
      UNIFIED,
      unified,
    ],
    [
      `${ALPHA}failure-accrual-success-rate-min-requests`,
      "20",
      [0.8, 10_000, 5],
      [0.8, 10_000, 20],
      UNIFIED,
      unified,
    ],
    [`${ALPHA}penalize-failures`, "true", undefined, [5_000, 300_000], {}, load],
    [`${ALPHA}load-biaser-penalty`, "2s", [5_000, 300_000], [2_000, 300_000], PENALIZED, load],
    [`${ALPHA}load-biaser-max-retry-after`, "60s", [5_000, 300_000], [5_000, 60_000], PENALIZED, load],
  ];
};

const look = (object: KubeObject): unknown => object;
const grpcRoute = route(GATEWAY, "v1", "GRPCRoute");
const toNetwork = policyObject(`${GATEWAY}/v1`, "HTTPRoute", "one", {
  spec: {
    parentRefs: [{ group: POLICY, kind: "EgressNetwork", name: "out", port: 443 }],
    rules: [{ backendRefs: [BACKEND] }],
  },
});
const callOut = policyObject(`${GATEWAY}/v1`, "GRPCRoute", "one", {
  spec: { parentRefs: [{ group: POLICY, kind: "EgressNetwork", name: "out", port: 443 }], rules: [{}] },
});
const overNetwork: Around = (object) => [object, toNetwork];
const networkRetries = (object: KubeObject) => {
  const { rule } = take(told([object], OUTSIDE))!;
  return rule.retry && [rule.retry.maxRetries, rule.retry.timeout, JSON.stringify(rule.retry.statuses)];
};
const networkTimeouts = (object: KubeObject) => {
  const { request, response, idle } = take(told([object], OUTSIDE))!.rule.timeouts;
  return [request, response, idle];
};

const RETRY = { "rules.0.retry": { codes: [502], attempts: 2, backoff: "100ms" } };
const retry = (object: KubeObject) => {
  const { maxRetries, statuses, backoff } = ruleOf(object).retry!;
  return [maxRetries, JSON.stringify(statuses), backoff.min];
};

const split = policyObject("split.smi-spec.io/v1alpha2", "TrafficSplit", "one", {
  spec: { service: "web", backends: [{ service: "api", weight: 1 }] },
});

export const ROUTES: readonly KindEffects[] = [
  {
    kind: `${POLICY}/HTTPRoute`,
    effects: [
      ...fields(route(POLICY, "v1beta3", "HTTPRoute"), look, HTTP_ROWS),
      ...annotations(
        route(POLICY, "v1beta3", "HTTPRoute"),
        look,
        trafficRows((object) => [object], {}, false),
      ),
    ],
    without: { "rules[].name": NAME, "retry.linkerd.io/grpc": OF_CALLS },
  },
  {
    kind: `${GATEWAY}/HTTPRoute`,
    effects: [
      ...fields(route(GATEWAY, "v1", "HTTPRoute"), look, [
        ...HTTP_ROWS,
        ...gatewayFilterRows("rule"),
        ...gatewayFilterRows("backend"),
        ["rules.0.retry.codes.0", 502, [2, "[[502,502]]", 100], 503, [2, "[[503,503]]", 100], RETRY, retry],
        ["rules.0.retry.attempts", 2, [2, "[[502,502]]", 100], 3, [3, "[[502,502]]", 100], RETRY, retry],
        [
          "rules.0.retry.backoff",
          "100ms",
          [2, "[[502,502]]", 100],
          "1s",
          [2, "[[502,502]]", 1_000],
          RETRY,
          retry,
        ],
      ]),
      ...annotations(
        route(GATEWAY, "v1", "HTTPRoute"),
        look,
        trafficRows((object) => [object], {}, false),
      ),
    ],
    without: {
      "rules[].name": NAME,
      "retry.linkerd.io/grpc": OF_CALLS,
      "rules[].filters[].extensionRef": UNUSED,
      "rules[].filters[].cors": UNUSED,
      "rules[].filters[].externalAuth": UNUSED,
      "rules[].backendRefs[].filters[].extensionRef": UNUSED,
      "rules[].backendRefs[].filters[].cors": UNUSED,
      "rules[].backendRefs[].filters[].externalAuth": UNUSED,
    },
  },
  {
    kind: `${GATEWAY}/GRPCRoute`,
    effects: [
      ...fields(grpcRoute, look, GRPC_ROWS),
      ...annotations(
        grpcRoute,
        look,
        trafficRows((object) => [object], CALL, true),
      ),
    ],
    without: {
      "rules[].name": NAME,
      "retry.linkerd.io/http": OF_REQUESTS,
      "rules[].filters[].extensionRef": UNUSED,
      "rules[].backendRefs[].filters[].extensionRef": UNUSED,
    },
  },
  {
    kind: `${GATEWAY}/TLSRoute`,
    effects: fields(route(GATEWAY, "v1alpha2", "TLSRoute"), look, [
      ...parentRows(rawLook, ["opaq"]),
      [
        "hostnames.0",
        "db.example.com",
        [{ exact: "db.example.com" }],
        "*.example.com",
        [{ suffix: { reverseLabels: ["com", "example"] } }],
        { hostnames: [] },
        (object) => told([object]).protocol!.tls!.routes[0]!.snis,
      ],
      ...backendRows,
    ]),
    without: { "rules[].name": NAME },
  },
  {
    kind: `${GATEWAY}/TCPRoute`,
    effects: fields(route(GATEWAY, "v1alpha2", "TCPRoute"), look, [
      ...parentRows(rawLook, ["opaq"]),
      ...backendRows,
    ]),
    without: { "rules[].name": NAME },
  },
  {
    kind: `${POLICY}/EgressNetwork`,
    effects: [
      ...fields(egress, look, [
        [
          "trafficPolicy",
          "Allow",
          { kind: "go" },
          "Deny",
          { kind: "fail", status: 403, grpcStatus: undefined, message: "denied by EgressNetwork emoji/out" },
          {},
          (object) => applyFilters(take(told([object], OUTSIDE))!.rule.filters, REQUEST, undefined, () => 0),
        ],
        [
          "networks.0.cidr",
          "192.0.2.0/24",
          ["http-egress-allow"],
          "198.51.100.0/24",
          ["egress-fallback"],
          { networks: [{}] },
          (object) => names(told([object], OUTSIDE)),
        ],
        [
          "networks.0.except.0",
          undefined,
          ["http-egress-allow"],
          "192.0.2.1",
          ["egress-fallback"],
          { networks: [{ cidr: "192.0.2.0/24", except: [] }] },
          (object) => names(told([object], OUTSIDE)),
        ],
      ]),
      ...annotations(egress, look, [
        ["retry.linkerd.io/http", "5xx", undefined, [1, undefined, "[[500,599]]"], {}, networkRetries],
        [
          "retry.linkerd.io/grpc",
          "internal",
          undefined,
          [1, undefined, "[]", "13"],
          {},
          (object) => retried(CALL)([object, callOut], OUTSIDE),
        ],
        [
          "retry.linkerd.io/limit",
          "3",
          [1, undefined, "[[500,599]]"],
          [3, undefined, "[[500,599]]"],
          { "retry.linkerd.io/http": "5xx" },
          networkRetries,
        ],
        [
          "retry.linkerd.io/timeout",
          "2s",
          [1, undefined, "[[500,599]]"],
          [1, 2_000, "[[500,599]]"],
          { "retry.linkerd.io/http": "5xx" },
          networkRetries,
        ],
        [
          "timeout.linkerd.io/request",
          "2s",
          [undefined, undefined, undefined],
          [2_000, undefined, undefined],
          {},
          networkTimeouts,
        ],
        [
          "timeout.linkerd.io/response",
          "3s",
          [undefined, undefined, undefined],
          [undefined, 3_000, undefined],
          {},
          networkTimeouts,
        ],
        [
          "timeout.linkerd.io/idle",
          "4s",
          [undefined, undefined, undefined],
          [undefined, undefined, 4_000],
          {},
          networkTimeouts,
        ],
        ...balancerRows(OUTSIDE, overNetwork),
      ]),
    ],
  },
  {
    kind: "v1/Service",
    effects: annotations(web, look, [
      ...trafficRows((object) => [object], {}, false),
      ...trafficRows((object) => [object, grpcRoute], CALL, true).slice(0, 1),
      ...balancerRows(WEB, (object) => [object]),
      [
        "config.linkerd.io/opaque-ports",
        "http",
        "detect",
        "opaque",
        {},
        (object) => Object.entries(told([object]).protocol!).find(([, value]) => value !== undefined)![0],
      ],
    ]),
  },
  {
    kind: "split.smi-spec.io/TrafficSplit",
    effects: fields(split, backends, [
      ["service", "web", ["1 Service emoji/api:80"], "api", ["1 Service emoji/web:80"]],
      ["backends.0.service", "api", ["1 Service emoji/api:80"], "gone", ["1 Service emoji/gone:80 fails"]],
      ["backends.0.weight", 1, ["1 Service emoji/api:80"], "500m", ["500 Service emoji/api:80"]],
    ]),
  },
];
