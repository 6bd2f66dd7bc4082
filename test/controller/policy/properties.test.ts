// Whatever happens to a cluster, what watchers were told last is what a new index would say of it.
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { WorkloadRef } from "../../../src/controller/policy/inbound.ts";
import type { OutboundTarget } from "../../../src/controller/policy/index.ts";
import { type StatusSubject, statusOf } from "../../../src/controller/policy/status.ts";
import { StatusWriter } from "../../../src/controller/policy/status-writer.ts";
import { Reading } from "../../../src/controller/policy/tables.ts";
import { pluralOf } from "../../../src/kube/path.ts";
import type { KubeObject } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { ManualClock } from "../../support/clock.ts";
import { POLICY_FACTS, PolicyCluster } from "../../support/policy-cluster.ts";

const test = suite("policy index, by properties");

const NAMESPACES = ["a", "b", "linkerd-egress"];
const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io/v1";

const pick = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const namespace = pick(...NAMESPACES);
const name = pick("x", "y");
const labels = pick<Record<string, string>>({}, { app: "x" }, { app: "y", tier: "web" });
const selector = pick<object>(
  {},
  { matchLabels: { app: "x" } },
  { matchExpressions: [{ key: "tier", operator: "Exists" }] },
);

/** Ages contend: two objects are often of the same. */
const age = pick("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");

const object = (
  apiVersion: string,
  kind: string,
  parts: Record<string, fc.Arbitrary<unknown>>,
  extra: { annotations?: fc.Arbitrary<Record<string, string>> } = {},
): fc.Arbitrary<KubeObject> =>
  fc
    .record({
      namespace,
      name,
      labels,
      age,
      annotations: extra.annotations ?? fc.constant({}),
      spec: fc.record(parts),
    })
    .map(({ namespace, name, labels, age, annotations, spec }) => ({
      apiVersion,
      kind,
      metadata: { namespace, name, labels, annotations, creationTimestamp: age, uid: `${namespace}-${name}` },
      spec,
    }));

const ref = (group: string, kind: string, more: Record<string, fc.Arbitrary<unknown>> = {}) =>
  fc.record({ group: fc.constant(group), kind: fc.constant(kind), name, ...more });

const parentRefs = fc.array(
  fc.oneof(
    ref(POLICY, "Server"),
    ref("core", "Service", { namespace, port: pick(undefined, 80, 8080) }),
    ref("", "Service", { sectionName: pick(undefined, "http") }),
    ref(POLICY, "EgressNetwork", { namespace, port: pick(443, 80) }),
  ),
  { minLength: 1, maxLength: 2 },
);
const backendRefs = fc.array(
  fc.oneof(
    ref("", "Service", {
      namespace: pick(undefined, ...NAMESPACES),
      port: pick(undefined, 80),
      weight: pick(undefined, 0, 3),
    }),
    ref(POLICY, "EgressNetwork", { namespace }),
    ref("example.com", "Bucket"),
  ),
  { maxLength: 2 },
);
const trafficAnnotations = pick<Record<string, string>>(
  {},
  { "timeout.linkerd.io/request": "1s" },
  { "retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": "2" },
  { "balancer.linkerd.io/failure-accrual": "consecutive" },
);
const route = (apiVersion: string, kind: string, matches: fc.Arbitrary<unknown>) =>
  object(
    apiVersion,
    kind,
    {
      parentRefs,
      rules: fc.array(fc.record({ matches, backendRefs }), { maxLength: 2 }),
    },
    { annotations: trafficAnnotations },
  );

const OBJECTS = fc.oneof(
  fc
    .record({
      namespace,
      policy: pick<Record<string, string>>(
        {},
        { "config.linkerd.io/default-inbound-policy": "deny" },
        { "config.linkerd.io/opaque-ports": "80" },
      ),
    })
    .map(({ namespace, policy }) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: namespace, annotations: policy },
    })),
  fc
    .record({ namespace, name, labels, ip: pick("10.1.0.1", "192.0.2.1") })
    .map(({ namespace, name, labels, ip }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { namespace, name, labels },
      spec: {
        containers: [
          {
            name: "c",
            ports: [{ name: "http", containerPort: 8080 }],
            readinessProbe: { httpGet: { path: "/ready", port: "http" } },
          },
        ],
      },
      status: { podIP: ip },
    })),
  object(
    "v1",
    "Service",
    {
      clusterIP: pick("10.2.0.1", "10.2.0.2", "None"),
      ports: fc.constant([
        { name: "http", port: 80 },
        { port: 8080, appProtocol: "kubernetes.io/h2c" },
      ]),
    },
    { annotations: trafficAnnotations },
  ),
  object(`${POLICY}/v1beta3`, "Server", {
    podSelector: selector,
    port: pick<number | string>(8080, "http", 80),
    proxyProtocol: pick("unknown", "HTTP/1", "gRPC", "opaque"),
    accessPolicy: pick("deny", "all-authenticated"),
  }),
  object(`${POLICY}/v1beta3`, "Server", {
    externalWorkloadSelector: selector,
    port: pick<number | string>(80, "http"),
  }),
  object(`${POLICY}/v1beta1`, "ServerAuthorization", {
    server: fc.oneof(fc.record({ name }), fc.record({ selector })),
    client: pick({ unauthenticated: true }, { meshTLS: { serviceAccounts: [{ name: "x" }] } }),
  }),
  object(`${POLICY}/v1alpha1`, "AuthorizationPolicy", {
    targetRef: fc.oneof(ref(POLICY, "Server"), ref(POLICY, "HTTPRoute"), ref("", "Namespace")),
    requiredAuthenticationRefs: fc.array(
      fc.oneof(
        ref(POLICY, "MeshTLSAuthentication", { namespace: pick(undefined, "a") }),
        ref(POLICY, "NetworkAuthentication"),
        ref("", "ServiceAccount"),
      ),
      { maxLength: 2 },
    ),
  }),
  object(`${POLICY}/v1alpha1`, "MeshTLSAuthentication", { identities: pick(["*"], ["one"]) }),
  object(`${POLICY}/v1alpha1`, "NetworkAuthentication", {
    networks: pick([{ cidr: "10.0.0.0/8" }], [{ cidr: "1.0.0.0/8", except: ["1.1.1.1"] }]),
  }),
  object(`${POLICY}/v1alpha1`, "HTTPLocalRateLimitPolicy", {
    targetRef: ref(POLICY, "Server"),
    total: pick({ requestsPerSecond: 10 }, { requestsPerSecond: 20 }),
  }),
  object(
    `${POLICY}/v1alpha1`,
    "EgressNetwork",
    {
      trafficPolicy: pick("Allow", "Deny"),
      networks: pick(undefined, [{ cidr: "1.0.0.0/8" }], [{ cidr: "1.1.0.0/16" }]),
    },
    { annotations: trafficAnnotations },
  ),
  route(`${POLICY}/v1beta3`, "HTTPRoute", pick([], [{ path: { value: "/a" } }])),
  route(
    GATEWAY,
    "HTTPRoute",
    pick([], [{ method: "GET" }], [{ path: { type: "RegularExpression", value: "(" } }]),
  ),
  route(GATEWAY, "GRPCRoute", pick([], [{ method: { service: "s" } }])),
  route("gateway.networking.k8s.io/v1alpha2", "TLSRoute", fc.constant(undefined)),
  route("gateway.networking.k8s.io/v1alpha2", "TCPRoute", fc.constant(undefined)),
  object("split.smi-spec.io/v1alpha2", "TrafficSplit", {
    service: name,
    backends: fc.array(fc.record({ service: name, weight: pick(0, 10, 90) }), { maxLength: 2 }),
  }),
  object("workload.linkerd.io/v1beta1", "ExternalWorkload", {
    ports: fc.constant([{ name: "http", port: 8080 }]),
    workloadIPs: pick([{ ip: "192.0.2.9" }], []),
  }),
);

interface Question {
  readonly text: string;
  ask(cluster: PolicyCluster, listener: (answer: unknown) => void): () => void;
}

const QUESTIONS: Question[] = [];
for (const kind of ["Pod", "ExternalWorkload"] as const)
  for (const ns of ["a", "b"])
    for (const workload of ["x", "y"])
      for (const port of [80, 8080]) {
        const asked: WorkloadRef = { kind, namespace: ns, name: workload };
        QUESTIONS.push({
          text: `${kind} ${ns}/${workload}:${port}`,
          ask: (cluster, listener) => cluster.watchServer(asked, port, listener),
        });
      }
for (const client of NAMESPACES) {
  const targets: OutboundTarget[] = [
    ...["10.2.0.1", "10.2.0.2", "10.1.0.1", "192.0.2.1", "192.0.2.9", "1.1.1.1", "2.2.2.2"].flatMap((ip) =>
      [80, 8080].map((port) => ({ kind: "address" as const, ip, port })),
    ),
    { kind: "service", namespace: "a", name: "x", port: 80 },
    { kind: "service", namespace: "b", name: "y", port: 8080 },
  ];
  for (const target of targets)
    QUESTIONS.push({
      text: `${JSON.stringify(target)} for ${client}`,
      ask: (cluster, listener) => cluster.watchOutbound(target, client, listener),
    });
}

test("after any changes, every watcher knows what a new index would say", () => {
  const step = fc.record({ object: OBJECTS, remove: fc.boolean(), late: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 40, size: "max" }), (steps) => {
      let due = () => {};
      const cluster = new PolicyCluster({}, undefined, (settle) => {
        due = settle;
      });
      const told = QUESTIONS.map(() => undefined as unknown);
      const stops = QUESTIONS.map((question, index) =>
        question.ask(cluster, (answer) => {
          told[index] = answer;
        }),
      );
      for (const { object, remove, late } of steps) {
        if (remove) cluster.delete(object);
        else cluster.apply(object);
        if (!late) due();
      }
      due();
      const fresh = new PolicyCluster().apply(...cluster.objects);
      QUESTIONS.forEach((question, index) => {
        question.ask(fresh, (answer) => assert.equal(told[index], answer, question.text))();
      });
      for (const stop of stops) stop();
      assert.equal(cluster.index.watched, { ports: 0, servers: 0, policies: 0 });
    }),
    { numRuns: 300 },
  );
});

test("after any changes, every status comes to say what a new index would have it say", async () => {
  // In one namespace, so that what refers to each other often meets; what is there stays more often than it goes.
  const near = OBJECTS.map((object) => ({ ...object, metadata: { ...object.metadata, namespace: "a" } }));
  const step = fc.record({ object: near, remove: fc.nat(3).map((n) => n === 0) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), async (steps) => {
      const clock = new ManualClock();
      let version = 1;
      const versioned = (object: KubeObject): KubeObject => ({
        ...object,
        metadata: { ...object.metadata, generation: 1, resourceVersion: String(version++) },
      });
      const cluster: PolicyCluster = new PolicyCluster(
        {},
        {
          put: (subject) => writer.put(subject),
          remove: (subject) => writer.remove(subject),
        },
      );
      const writer = new StatusWriter({
        store: cluster.index.store,
        clusterNetworks: ["10.0.0.0/8"],
        defaultOpaquePorts: POLICY_FACTS.defaultOpaquePorts,
        leadership: { isLeader: true, onChange: () => () => {} },
        // The API server answers, and tells it by the watch.
        patch: async (path, body) => {
          const [, group, , , ns, resource, objectName] = path.split("/").slice(1);
          const object = cluster.objects.find(
            ({ apiVersion, kind, metadata }) =>
              apiVersion!.split("/")[0] === group &&
              pluralOf(kind!) === resource &&
              metadata.namespace === ns &&
              metadata.name === objectName,
          );
          if (object)
            cluster.apply({
              ...versioned(object),
              status: JSON.parse(JSON.stringify((body as { status: object }).status)),
            } as KubeObject);
        },
        tell: async () => true,
        clock,
        log: createLogger({ level: "off" }),
        registry: new Registry(),
      });
      for (const { object, remove } of steps) {
        if (remove) cluster.delete(object);
        else cluster.apply(versioned(object));
        await clock.advance(30);
      }
      for (let i = 0; i < 20 && !clock.idle; i += 1) await clock.advance(1_000);
      writer.stop();
      const subjects: StatusSubject[] = [];
      const fresh = new PolicyCluster({}, { put: (subject) => subjects.push(subject), remove: () => {} });
      fresh.apply(...cluster.objects);
      for (const subject of subjects) {
        const reading = new Reading({ changed() {} });
        const wanted = statusOf(
          fresh.index.store,
          { clusterNetworks: ["10.0.0.0/8"], defaultOpaquePorts: POLICY_FACTS.defaultOpaquePorts },
          subject,
          reading,
          "now",
        );
        assert.is(wanted, undefined, `${subject.objectKind} ${subject.key}: ${JSON.stringify(wanted)}`);
      }
    }),
    { numRuns: 200 },
  );
});

test.run();
