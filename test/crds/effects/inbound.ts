// Who may come: fields of Servers, authorizations, authentications and rate limits, by the clients that get through.

import type { ServerMessage, WorkloadRef } from "../../../src/controller/policy/inbound.ts";
import type { KubeObject } from "../../../src/kube/types.ts";
import { type Client, compileAuthorization } from "../../../src/rules/authorization.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";
import { fields, type KindEffects, type Row } from "./effect.ts";

const POLICY = "policy.linkerd.io";
const IDENTITY = "serviceaccount.identity.mesh-system.cluster.local";

const pod = policyObject("v1", "Pod", "web-1", {
  labels: { app: "web" },
  spec: {
    containers: [
      {
        name: "c",
        ports: [
          { name: "http", containerPort: 8080 },
          { name: "admin", containerPort: 9090 },
        ],
      },
    ],
  },
});
const machine = policyObject("workload.linkerd.io/v1beta1", "ExternalWorkload", "vm", {
  labels: { app: "web" },
  spec: { ports: [{ name: "http", port: 8080 }], workloadIPs: [{ ip: "192.0.2.9" }] },
});
const server = (name: string, spec: object = {}, labels: object = {}) =>
  policyObject(`${POLICY}/v1beta3`, "Server", name, {
    labels,
    spec: { podSelector: { matchLabels: { app: "web" } }, port: "http", ...spec },
  });
const WEB: WorkloadRef = { kind: "Pod", namespace: "emoji", name: "web-1" };
const VM: WorkloadRef = { kind: "ExternalWorkload", namespace: "emoji", name: "vm" };

function ask(objects: readonly KubeObject[], workload = WEB, port = 8080): ServerMessage {
  let found: ServerMessage | undefined;
  new PolicyCluster().apply(pod, machine, ...objects).watchServer(workload, port, (value) => {
    found = value;
  })();
  return found!;
}

/** The ports that a Server speaks for. */
const spokenFor = (object: KubeObject): string[] =>
  [
    { text: "http", workload: WEB, port: 8080 },
    { text: "admin", workload: WEB, port: 9090 },
    { text: "vm", workload: VM, port: 8080 },
  ]
    .filter(({ workload, port }) => ask([object], workload, port).labels["kind"] === "server")
    .map(({ text }) => text);

const expressions = (at: string, spec: Record<string, unknown>, hit: unknown, miss: unknown): Row[] => {
  const set = { ...spec, [at]: { matchExpressions: [{ key: "app", operator: "In", values: ["web"] }] } };
  return [
    [`${at}.matchLabels`, { app: "web" }, hit, { app: "api" }, miss, { ...spec, [at]: {} }],
    [`${at}.matchExpressions.0.key`, "app", hit, "role", miss, set],
    [`${at}.matchExpressions.0.operator`, "In", hit, "NotIn", miss, set],
    [`${at}.matchExpressions.0.values.0`, "web", hit, "api", miss, set],
  ];
};

const CLIENTS: Readonly<Record<string, Client>> = {
  web: { ip: "10.1.1.1", tls: true, identity: `web.emoji.${IDENTITY}` },
  api: { ip: "10.1.1.2", tls: true, identity: `api.emoji.${IDENTITY}` },
  far: { ip: "10.1.2.1", tls: true, identity: `web.voting.${IDENTITY}` },
  nameless: { ip: "10.1.2.2", tls: true },
  plain: { ip: "10.1.2.3", tls: false },
  outside: { ip: "192.0.2.1", tls: false },
};
/** Clients that the Server `web` admits beside an object. */
const admits = (object: KubeObject, around: readonly KubeObject[] = []): string => {
  const { authorizations } = ask([server("web", {}, { tier: "front" }), ...around, object]);
  const { check } = compileAuthorization(authorizations);
  return Object.keys(CLIENTS)
    .filter((name) => check(CLIENTS[name]!).allowed)
    .join(" ");
};

const authorization = policyObject(`${POLICY}/v1alpha1`, "AuthorizationPolicy", "one", {
  spec: {
    targetRef: { group: POLICY, kind: "Server", name: "web" },
    requiredAuthenticationRefs: [{ group: POLICY, kind: "MeshTLSAuthentication", name: "friends" }],
  },
});
const meshTls = (namespace: string, spec: object) =>
  policyObject(`${POLICY}/v1alpha1`, "MeshTLSAuthentication", "friends", { namespace, spec });
const networks = (spec: object) =>
  policyObject(`${POLICY}/v1alpha1`, "NetworkAuthentication", "friends", { spec });
const AUTHENTICATIONS = [
  meshTls("emoji", { identities: [`api.emoji.${IDENTITY}`] }),
  meshTls("voting", { identities: ["*"] }),
  networks({ networks: [{ cidr: "192.0.2.0/24" }] }),
];

const limits = (object: KubeObject): unknown => {
  const { protocol } = ask([server("web"), object]);
  const limit = protocol!.detect!.httpLocalRateLimit;
  return (
    limit && [
      limit.total?.requestsPerSecond,
      limit.identity?.requestsPerSecond,
      ...limit.overrides.map(
        (each) =>
          `${each.limit?.requestsPerSecond} ${each.clients?.identities.map(({ name }) => name.replace(`.${IDENTITY}`, ""))}`,
      ),
    ]
  );
};
const limit = policyObject(`${POLICY}/v1alpha1`, "HTTPLocalRateLimitPolicy", "one", {
  spec: { targetRef: { group: POLICY, kind: "Server", name: "web" }, total: {}, identity: {} },
});
const OVERRIDE = {
  overrides: [{ requestsPerSecond: 5, clientRefs: [{ kind: "ServiceAccount", name: "web" }] }],
};
const [NONE, OF_WEB] = [
  [undefined, undefined, "5 "],
  [undefined, undefined, "5 web.emoji"],
];

export const INBOUND: readonly KindEffects[] = [
  {
    kind: `${POLICY}/Server`,
    effects: fields(server("web"), spokenFor, [
      ...expressions("podSelector", {}, ["http"], []),
      ...expressions("externalWorkloadSelector", { podSelector: undefined }, ["vm"], []),
      ["port", "http", ["http"], 9090, ["admin"]],
      [
        "proxyProtocol",
        undefined,
        ["detect"],
        "gRPC",
        ["grpc"],
        {},
        (object) =>
          Object.entries(ask([object]).protocol!).flatMap(([name, value]) =>
            value === undefined ? [] : [name],
          ),
      ],
      [
        "accessPolicy",
        undefined,
        [],
        "cluster-authenticated",
        ["cluster-authenticated"],
        {},
        (object) => ask([object]).authorizations.map(({ labels }) => labels["name"]),
      ],
    ]),
  },
  {
    kind: `${POLICY}/ServerAuthorization`,
    effects: fields(
      policyObject(`${POLICY}/v1beta1`, "ServerAuthorization", "one", {
        spec: { server: { name: "web" }, client: { unauthenticated: true } },
      }),
      admits,
      [
        ["server.name", "web", "web api far nameless plain", "api", ""],
        ...expressions("server.selector", { server: {} }, "web api far nameless plain", "").map(
          ([path, a, seenA, b, seenB, set]): Row => {
            // The Server has a label of its own.
            const text = JSON.stringify([path, a, seenA, b, seenB, set]);
            return JSON.parse(text.replaceAll('"app"', '"tier"').replaceAll('"web"', '"front"')) as Row;
          },
        ),
        [
          "client.networks.0.cidr",
          "192.0.2.0/24",
          "outside",
          "10.1.1.0/24",
          "web api",
          { "client.networks": [{}] },
        ],
        [
          "client.networks.0.except.0",
          "10.1.2.0/24",
          "web api",
          "10.1.1.0/24",
          "far nameless plain",
          { "client.networks": [{ cidr: "10.1.0.0/16", except: [] }] },
        ],
        ["client.unauthenticated", undefined, "", true, "web api far nameless plain"],
        [
          "client.meshTLS.unauthenticatedTLS",
          undefined,
          "",
          true,
          "web api far nameless",
          { client: { meshTLS: {} } },
        ],
        [
          "client.meshTLS.identities.0",
          `api.emoji.${IDENTITY}`,
          "api",
          `*.voting.${IDENTITY}`,
          "far",
          { client: { meshTLS: { identities: [] } } },
        ],
        [
          "client.meshTLS.serviceAccounts.0.name",
          "web",
          "web",
          "api",
          "api",
          { client: { meshTLS: { serviceAccounts: [{}] } } },
        ],
        [
          "client.meshTLS.serviceAccounts.0.namespace",
          undefined,
          "web",
          "voting",
          "far",
          { client: { meshTLS: { serviceAccounts: [{ name: "web" }] } } },
        ],
      ],
    ),
  },
  {
    kind: `${POLICY}/AuthorizationPolicy`,
    effects: fields(authorization, (object) => admits(object, AUTHENTICATIONS), [
      ["targetRef.group", POLICY, "api", "example.com", ""],
      ["targetRef.kind", "Server", "api", "HTTPRoute", ""],
      ["targetRef.name", "web", "api", "other", ""],
      ["requiredAuthenticationRefs.0.group", POLICY, "api", "example.com", ""],
      [
        "requiredAuthenticationRefs.0.kind",
        "MeshTLSAuthentication",
        "api",
        "NetworkAuthentication",
        "outside",
      ],
      ["requiredAuthenticationRefs.0.name", "friends", "api", "nobody", ""],
      ["requiredAuthenticationRefs.0.namespace", undefined, "api", "voting", "web api far"],
    ]),
  },
  {
    kind: `${POLICY}/MeshTLSAuthentication`,
    effects: fields(meshTls("emoji", {}), (object) => admits(object, [authorization]), [
      ["identities.0", `api.emoji.${IDENTITY}`, "api", `*.emoji.${IDENTITY}`, "web api", { identities: [] }],
      [
        "identityRefs.0.group",
        "core",
        "web",
        "example.com",
        "",
        { identityRefs: [{ kind: "ServiceAccount", name: "web" }] },
      ],
      [
        "identityRefs.0.kind",
        "ServiceAccount",
        "",
        "Namespace",
        "web api",
        { identityRefs: [{ name: "emoji" }] },
      ],
      ["identityRefs.0.name", "web", "web", "api", "api", { identityRefs: [{ kind: "ServiceAccount" }] }],
      [
        "identityRefs.0.namespace",
        undefined,
        "web",
        "voting",
        "far",
        { identityRefs: [{ kind: "ServiceAccount", name: "web" }] },
      ],
    ]),
  },
  {
    kind: `${POLICY}/NetworkAuthentication`,
    effects: fields(
      networks({ networks: [{ cidr: "10.1.0.0/16", except: [] }] }),
      (object) =>
        admits(object, [
          policyObject(`${POLICY}/v1alpha1`, "AuthorizationPolicy", "one", {
            spec: {
              targetRef: { group: POLICY, kind: "Server", name: "web" },
              requiredAuthenticationRefs: [{ group: POLICY, kind: "NetworkAuthentication", name: "friends" }],
            },
          }),
        ]),
      [
        ["networks.0.cidr", "10.1.0.0/16", "web api far nameless plain", "192.0.2.0/24", "outside"],
        ["networks.0.except.0", undefined, "web api far nameless plain", "10.1.2.0/24", "web api"],
      ],
    ),
  },
  {
    kind: `${POLICY}/HTTPLocalRateLimitPolicy`,
    effects: fields(limit, limits, [
      ["targetRef.group", POLICY, [undefined, undefined], "example.com", undefined],
      ["targetRef.kind", "Server", [undefined, undefined], "HTTPRoute", undefined],
      ["targetRef.name", "web", [undefined, undefined], "api", undefined],
      ["total.requestsPerSecond", undefined, [undefined, undefined], 9, [9, undefined]],
      ["identity.requestsPerSecond", undefined, [undefined, undefined], 8, [undefined, 8]],
      ["overrides.0.requestsPerSecond", 5, OF_WEB, 7, [undefined, undefined, "7 web.emoji"], OVERRIDE],
      ["overrides.0.clientRefs.0.group", "core", OF_WEB, "example.com", NONE, OVERRIDE],
      ["overrides.0.clientRefs.0.kind", "ServiceAccount", OF_WEB, "Pod", NONE, OVERRIDE],
      [
        "overrides.0.clientRefs.0.name",
        "web",
        OF_WEB,
        "api",
        [undefined, undefined, "5 api.emoji"],
        OVERRIDE,
      ],
      [
        "overrides.0.clientRefs.0.namespace",
        undefined,
        OF_WEB,
        "voting",
        [undefined, undefined, "5 web.voting"],
        OVERRIDE,
      ],
    ]),
  },
];
