// What a change costs: as much as there is that depends on it and is watched, however large the cluster.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../../src/kube/types.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";

const test = suite("policy's cost of changes");

const NAMESPACES = 20;
const APPS = 10;
const PODS = 5;

const inNamespace = (n: number) => `ns-${n}`;
const pod = (n: number, app: number, i: number, more: object = {}) =>
  policyObject("v1", "Pod", `app${app}-${i}`, {
    namespace: inNamespace(n),
    labels: { app: `app${app}`, ...more },
    spec: { containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }] },
  });
const service = (n: number, app: number, annotations: object = {}) =>
  policyObject("v1", "Service", `app${app}`, {
    namespace: inNamespace(n),
    annotations,
    spec: { clusterIP: `10.${n}.${app}.1`, ports: [{ port: 80 }] },
  });
const server = (n: number, app: number, spec: object = {}) =>
  policyObject("policy.linkerd.io/v1beta3", "Server", `app${app}`, {
    namespace: inNamespace(n),
    spec: { podSelector: { matchLabels: { app: `app${app}` } }, port: "http", ...spec },
  });
const policy = (kind: string, name: string, spec: object, namespace = "ns-3") =>
  policyObject("policy.linkerd.io/v1alpha1", kind, name, { namespace, spec });

/** 1,000 pods, each watching its port and the Services of its namespace. */
function watchedCluster(): PolicyCluster {
  const cluster = new PolicyCluster();
  for (let n = 0; n < NAMESPACES; n += 1)
    for (let app = 0; app < APPS; app += 1) {
      cluster.apply(service(n, app), server(n, app));
      for (let i = 0; i < PODS; i += 1) cluster.apply(pod(n, app, i));
    }
  cluster.apply(policy("MeshTLSAuthentication", "friends", { identities: ["one"] }));
  cluster.apply(
    policy("AuthorizationPolicy", "friends", {
      targetRef: { group: "policy.linkerd.io", kind: "Server", name: "app4" },
      requiredAuthenticationRefs: [
        { group: "policy.linkerd.io", kind: "MeshTLSAuthentication", name: "friends" },
      ],
    }),
  );
  for (let n = 0; n < NAMESPACES; n += 1)
    for (let app = 0; app < APPS; app += 1) {
      for (let i = 0; i < PODS; i += 1)
        cluster.watchServer(
          { kind: "Pod", namespace: inNamespace(n), name: `app${app}-${i}` },
          8080,
          () => {},
        );
      const target = { kind: "address", ip: `10.${n}.${app}.1`, port: 80 } as const;
      for (const client of [inNamespace(n), "ns-0"]) cluster.watchOutbound(target, client, () => {});
    }
  return cluster;
}

const cluster = watchedCluster();

const namespace = (name: string, policy: string) => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name, annotations: { "config.linkerd.io/opaque-ports": policy } },
});
const toService = (name: string, port?: number) => [{ group: "core", kind: "Service", name, port }];

const CHANGES: [string, object, number][] = [
  ["a pod that nobody asks about", pod(3, 4, 99), 0],
  ["a pod", pod(3, 4, 1, { version: "2" }), 1],
  [
    "a Server: the pods it selects, and what they have in common",
    server(3, 4, { accessPolicy: "audit" }),
    PODS + 1,
  ],
  ["a Server of another port", server(3, 77, { port: 9090 }), 0],
  [
    "an authentication: the Servers it is required for, once for all their pods",
    policy("MeshTLSAuthentication", "friends", { identities: ["two"] }),
    1,
  ],
  [
    "an authentication that nothing requires",
    policy("MeshTLSAuthentication", "strangers", { identities: ["x"] }),
    0,
  ],
  [
    "a rate limit",
    policy("HTTPLocalRateLimitPolicy", "one", {
      targetRef: { group: "policy.linkerd.io", kind: "Server", name: "app4" },
      total: { requestsPerSecond: 1 },
    }),
    1,
  ],
  ["a Service: all its clients at once", service(3, 4, { "timeout.linkerd.io/request": "1s" }), 1],
  [
    "a Service that is nobody's backend",
    policyObject("v1", "Service", "new", {
      namespace: "ns-3",
      spec: { clusterIP: "10.99.1.1", ports: [{ port: 80 }] },
    }),
    0,
  ],
  [
    "a route of a Service",
    policyObject("gateway.networking.k8s.io/v1", "HTTPRoute", "one", {
      namespace: "ns-3",
      spec: { parentRefs: toService("app4") },
    }),
    1,
  ],
  [
    "a route of a client's namespace: its clients, and what the others are told is no other",
    policyObject("gateway.networking.k8s.io/v1", "HTTPRoute", "mine", {
      namespace: "ns-0",
      spec: { parentRefs: [{ group: "core", kind: "Service", name: "app4", namespace: "ns-3" }] },
    }),
    1,
  ],
  ["a namespace: what of it has no word of its own", namespace("ns-3", "9999"), APPS],
  ["an EgressNetwork: nobody's clients go out", policy("EgressNetwork", "out", { trafficPolicy: "Deny" }), 0],
];
for (const [text, object, expected] of CHANGES)
  test(text, () => {
    const before = cluster.index.recomputed;
    cluster.apply(object as KubeObject);
    assert.is(cluster.index.recomputed - before, expected);
    const after = cluster.index.recomputed;
    cluster.apply(object as KubeObject);
    assert.is(cluster.index.recomputed, after, "the same again is no change");
  });

test("clients of all namespaces are one look-up, whoever has its own routes", () => {
  const before = cluster.index.watched;
  for (let n = 0; n < NAMESPACES; n += 1)
    cluster.watchOutbound({ kind: "address", ip: "10.5.5.1", port: 80 }, inNamespace(n), () => {});
  assert.equal(cluster.index.watched, before);
});

test.run();
