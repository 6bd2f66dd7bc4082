// Statuses: what they say, and how they are written by one leader against a server that has other writers.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type StatusSubject, statusOf } from "../../../src/controller/policy/status.ts";
import { type Leadership, StatusWriter } from "../../../src/controller/policy/status-writer.ts";
import { Reading } from "../../../src/controller/policy/tables.ts";
import type { RouteStatus } from "../../../src/crds/index.ts";
import { KubeApiError } from "../../../src/kube/error.ts";
import type { KubeObject } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { ManualClock } from "../../support/clock.ts";
import { POLICY_FACTS, PolicyCluster, policyObject } from "../../support/policy-cluster.ts";

const test = suite("policy status");

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io/v1";
const ALPHA = "gateway.networking.k8s.io/v1alpha2";

class FakeLeadership implements Leadership {
  isLeader = false;
  #fn: (leading: boolean) => void = () => {};

  onChange(fn: (leading: boolean) => void): () => void {
    this.#fn = fn;
    return () => {};
  }

  set(leading: boolean): void {
    this.isLeader = leading;
    this.#fn(leading);
  }
}

interface Patch {
  readonly path: string;
  readonly body: { metadata: { resourceVersion?: string }; status: Record<string, unknown> };
}

/** A cluster whose statuses are written, and come back as the API server sends them. */
class Rig {
  readonly clock = new ManualClock();
  readonly leadership = new FakeLeadership();
  readonly patches: Patch[] = [];
  readonly events: string[] = [];
  readonly cluster: PolicyCluster;
  readonly writer: StatusWriter;
  readonly registry = new Registry();
  /** Answers the next patches. */
  readonly failures: number[] = [];
  /** Events are not written. */
  silenced = false;
  /** Patches wait for it. */
  held: Promise<void> | undefined;
  readonly #objects = new Map<string, KubeObject>();
  #version = 1_000;

  constructor(leading = true) {
    const sink: {
      put(subject: StatusSubject): void;
      remove(subject: Pick<StatusSubject, "kind" | "key">): void;
    } = {
      put: (subject) => this.writer.put(subject),
      remove: (subject) => this.writer.remove(subject),
    };
    this.cluster = new PolicyCluster({}, sink);
    this.writer = new StatusWriter({
      store: this.cluster.index.store,
      clusterNetworks: ["10.0.0.0/8"],
      defaultOpaquePorts: POLICY_FACTS.defaultOpaquePorts,
      leadership: this.leadership,
      patch: async (path, body) => this.#patch(path, body as Patch["body"]),
      tell: async (involved, _type, reason, message) => {
        this.events.push(`${involved.kind} ${involved.name} ${reason}: ${message}`);
        return !this.silenced;
      },
      clock: this.clock,
      log: createLogger({ level: "off" }),
      registry: this.registry,
    });
    if (leading) this.leadership.set(true);
  }

  apply(...objects: KubeObject[]): this {
    for (const object of objects) {
      this.#objects.set(`${object.kind} ${object.metadata.name}`, object);
      this.cluster.apply(object);
    }
    return this;
  }

  async #patch(path: string, body: Patch["body"]): Promise<void> {
    this.patches.push({ path, body });
    await this.held;
    const failure = this.failures.shift();
    if (failure !== undefined) throw new KubeApiError(failure, {}, "PATCH");
    const name = path.split("/").at(-2)!;
    const [key, object] = [...this.#objects].find(
      ([, candidate]) =>
        candidate.metadata.name === name && path.includes(`/${candidate.kind!.toLowerCase()}s/`),
    )!;
    this.#version += 1;
    const changed = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.#version) },
      status: body.status,
    } as KubeObject;
    this.#objects.set(key, changed);
    this.cluster.apply(changed);
  }

  /** Lets it write until there is nothing to be written. */
  async settle(): Promise<void> {
    for (let i = 0; i < 200; i += 1) {
      await this.clock.advance(100);
    }
  }

  status<T = RouteStatus>(name: string): T {
    return this.patches.findLast(({ path }) => path.includes(`/${name}/status`))?.body.status as T;
  }

  /** The conditions of our parents in one line each. */
  conditions(name: string): string[] {
    return (this.status(name)?.parents ?? []).flatMap(({ parentRef, conditions }) =>
      (conditions ?? []).map(
        ({ type, status, reason }) => `${parentRef.kind} ${parentRef.name} ${type}=${status} ${reason}`,
      ),
    );
  }
}

const service = (name = "web", spec: object = {}) =>
  policyObject("v1", "Service", name, {
    spec: { clusterIP: "10.96.1.1", ports: [{ name: "http", port: 80 }], ...spec },
  });
const server = (name = "web", spec: object = {}) =>
  policyObject(`${POLICY}/v1beta3`, "Server", name, {
    spec: { podSelector: {}, port: 8080, ...spec },
  });
const toService = { group: "core", kind: "Service", name: "web" };
const toServer = { group: POLICY, kind: "Server", name: "web" };
const toEgress = { group: POLICY, kind: "EgressNetwork", name: "out", port: 443 };
const egress = (networks?: object[]) =>
  policyObject(`${POLICY}/v1alpha1`, "EgressNetwork", "out", { spec: { trafficPolicy: "Allow", networks } });
const route = (
  parentRef: object,
  spec: object = {},
  kind = "HTTPRoute",
  name = "one",
  apiVersion = GATEWAY,
) => policyObject(apiVersion, kind, name, { spec: { parentRefs: [parentRef], ...spec } });

const ACCEPTED = "Accepted=True Accepted";
const RESOLVED = "ResolvedRefs=True ResolvedRefs";
const NO_PARENT = "Accepted=False NoMatchingParent";

const ROUTES: [string, KubeObject[], string[]][] = [
  ["a Service", [service(), route(toService)], [`Service web ${ACCEPTED}`, `Service web ${RESOLVED}`]],
  [
    "a Service that is not there",
    [route(toService)],
    [`Service web ${NO_PARENT}`, `Service web ${RESOLVED}`],
  ],
  [
    "a headless Service",
    [service("web", { clusterIP: "None" }), route(toService)],
    [`Service web ${NO_PARENT}`, `Service web ${RESOLVED}`],
  ],
  [
    "a section that the Service has not",
    [service(), route({ ...toService, sectionName: "admin" })],
    [`Service web ${NO_PARENT}`, `Service web ${RESOLVED}`],
  ],
  [
    "a port that the Service has not",
    [service(), route({ ...toService, port: 81 })],
    [`Service web ${NO_PARENT}`, `Service web ${RESOLVED}`],
  ],
  ["a Server", [server(), route(toServer)], [`Server web ${ACCEPTED}`]],
  ["a Server that is not there", [route(toServer)], [`Server web ${NO_PARENT}`]],
  [
    "a Server of bytes",
    [server("web", { proxyProtocol: "opaque" }), route(toServer)],
    [`Server web ${NO_PARENT}`],
  ],
  [
    "a TLSRoute on a Server",
    [server(), route(toServer, { rules: [{}] }, "TLSRoute", "one", ALPHA)],
    [`Server web ${NO_PARENT}`],
  ],
  ["a Gateway", [route({ name: "web" })], []],
  [
    "an EgressNetwork",
    [egress(), route(toEgress)],
    [`EgressNetwork out ${ACCEPTED}`, `EgressNetwork out ${RESOLVED}`],
  ],
  [
    "an EgressNetwork within the cluster",
    [egress([{ cidr: "10.1.0.0/16" }]), route(toEgress)],
    [`EgressNetwork out ${NO_PARENT}`, `EgressNetwork out ${RESOLVED}`],
  ],
  [
    "a backend that is not there",
    [service(), route(toService, { rules: [{ backendRefs: [{ name: "gone", port: 80 }] }] })],
    [`Service web ${ACCEPTED}`, "Service web ResolvedRefs=False BackendNotFound"],
  ],
  [
    "a backend at a port that its Service has not",
    [service(), route(toService, { rules: [{ backendRefs: [{ name: "web", port: 81 }] }] })],
    [`Service web ${ACCEPTED}`, "Service web ResolvedRefs=False BackendNotFound"],
  ],
  [
    "a backend of a kind that nobody knows",
    [
      service(),
      route(toService, {
        rules: [
          {
            backendRefs: [
              { name: "gone", port: 80 },
              { group: "x.io", kind: "Bucket", name: "b" },
            ],
          },
        ],
      }),
    ],
    [`Service web ${ACCEPTED}`, "Service web ResolvedRefs=False InvalidKind"],
  ],
  [
    "a mirror that is not there",
    [
      service(),
      route(toService, {
        rules: [
          { filters: [{ type: "RequestMirror", requestMirror: { backendRef: { name: "gone", port: 80 } } }] },
        ],
      }),
    ],
    [`Service web ${ACCEPTED}`, "Service web ResolvedRefs=False BackendNotFound"],
  ],
  [
    "what cannot be had",
    [
      service(),
      route(toService, { rules: [{ matches: [{ path: { type: "RegularExpression", value: "(" } }] }] }),
    ],
    ["Service web Accepted=False UnsupportedValue", `Service web ${RESOLVED}`],
  ],
  [
    "a prefix to be replaced where a match is of a whole path",
    [
      service(),
      route(toService, {
        rules: [
          {
            matches: [{ path: { type: "Exact", value: "/a" } }],
            filters: [
              {
                type: "URLRewrite",
                urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/" } },
              },
            ],
          },
        ],
      }),
    ],
    ["Service web Accepted=False UnsupportedValue", `Service web ${RESOLVED}`],
  ],
  [
    "a rewrite on a Server",
    [server(), route(toServer, { rules: [{ filters: [{ type: "URLRewrite", urlRewrite: {} }] }] })],
    ["Server web Accepted=False UnsupportedValue"],
  ],
];
for (const [text, objects, expected] of ROUTES)
  test(`a route on ${text}`, async () => {
    const rig = new Rig().apply(...objects);
    await rig.settle();
    assert.equal(rig.conditions("one"), expected);
    const written = rig.patches.length;
    await rig.settle();
    assert.is(rig.patches.length, written, "what says it already is left alone");
  });

test("kinds that conflict: the one that loses says so, and takes it back when the other goes", async () => {
  const grpc = route(toService, { rules: [{}] }, "GRPCRoute", "calls");
  const others = [
    route(toService, { rules: [{}] }, "TLSRoute", "tls", ALPHA),
    route(toService, { rules: [{}] }, "TCPRoute", "tcp", ALPHA),
  ];
  const rig = new Rig().apply(service(), route(toService), grpc, ...others);
  await rig.settle();
  const acceptance = () => ["calls", "one", "tls", "tcp"].map((name) => rig.conditions(name)[0]);
  const lost = "Service web Accepted=False RouteReasonConflicted";
  assert.equal(acceptance(), [`Service web ${ACCEPTED}`, lost, lost, lost]);
  rig.cluster.delete(grpc);
  await rig.settle();
  assert.equal(acceptance().slice(1), [`Service web ${ACCEPTED}`, lost, lost]);
});

test("routes on different ports, and of different namespaces, do not conflict", async () => {
  const far = policyObject(GATEWAY, "GRPCRoute", "far", {
    namespace: "voting",
    spec: { parentRefs: [{ ...toService, namespace: "emoji" }], rules: [{}] },
  });
  const ports = [80, 81].map((port) => ({ name: `p${port}`, port }));
  const rig = new Rig().apply(
    service("web", { ports }),
    route({ ...toService, port: 80 }),
    route({ ...toService, port: 81 }, { rules: [{}] }, "GRPCRoute", "calls"),
    far,
  );
  await rig.settle();
  for (const name of ["one", "calls", "far"])
    assert.is(rig.conditions(name)[0], `Service web ${ACCEPTED}`, name);
});

test("a route that is accepted where ports are read as something else says that it has no effect, and no more when they are not", async () => {
  const ports = [
    { name: "db", port: 3306 },
    { name: "web", port: 80 },
    { name: "old", port: 81, appProtocol: "http" },
  ];
  const rig = new Rig().apply(
    service("web", { ports }),
    route({ ...toService, port: 3306 }),
    route({ ...toService, port: 81 }, { rules: [{}] }, "GRPCRoute", "calls"),
    route(toService, {}, "HTTPRoute", "everywhere"),
    route({ ...toService, port: 3306 }, { rules: [{}] }, "TCPRoute", "bytes", ALPHA),
  );
  await rig.settle();
  const said = (name: string) => rig.status(name).parents[0]!.conditions![0]!.message;
  assert.is(said("one"), "it has no effect: port 3306 is read as opaque");
  assert.is(said("calls"), "it has no effect: port 81 is read as http1");
  assert.is(said("everywhere"), "");
  rig.cluster.apply(
    policyObject("v1", "Namespace", "emoji", { annotations: { "config.linkerd.io/opaque-ports": "25" } }),
  );
  await rig.settle();
  assert.is(said("one"), "");
});

test("a condition names the generation it is about, and keeps the time of its last change", async () => {
  const rig = new Rig().apply(service(), route(toService));
  await rig.settle();
  const [first] = rig.status("one").parents[0]!.conditions!;
  assert.is(first!.observedGeneration, 1);
  await rig.clock.advance(60_000);
  const changed = route(toService, { rules: [{ backendRefs: [{ name: "gone", port: 80 }] }] });
  const { parents } = rig.status("one");
  rig.apply({
    ...changed,
    metadata: { ...changed.metadata, generation: 2 },
    status: { parents },
  } as KubeObject);
  await rig.settle();
  const [accepted, resolved] = rig.status("one").parents[0]!.conditions!;
  assert.equal([accepted!.observedGeneration, accepted!.lastTransitionTime], [2, first!.lastTransitionTime]);
  assert.is(resolved!.status, "False");
  assert.ok(Date.parse(resolved!.lastTransitionTime!) > Date.parse(first!.lastTransitionTime!));
});

test("what other controllers say is left alone; our parents that are no longer there go", async () => {
  const theirs = {
    parentRef: { group: "gateway.networking.k8s.io", kind: "Gateway", name: "edge" },
    controllerName: "example.com/gateway",
    conditions: [{ type: "Accepted", status: "True" as const, reason: "Accepted" }],
  };
  const stale = {
    parentRef: { kind: "Service", name: "old" },
    controllerName: "linkerd.io/policy-controller",
  };
  const object = { ...route(toService), status: { parents: [stale, theirs] } } as unknown as KubeObject;
  const rig = new Rig().apply(service(), object);
  await rig.settle();
  const { parents } = rig.status("one");
  assert.equal(parents[0], theirs);
  assert.equal(
    parents.map(({ controllerName, parentRef }) => `${controllerName} ${parentRef.name}`),
    ["example.com/gateway edge", "linkerd.io/policy-controller web"],
  );
  assert.is(rig.patches[0]!.body.metadata.resourceVersion, object.metadata.resourceVersion);
});

test("a parent is named as its author wrote it, with the namespace that it means", async () => {
  const rig = new Rig().apply(
    service(),
    route({ kind: "Service", name: "web", port: 80, sectionName: "http" }),
  );
  await rig.settle();
  assert.equal(rig.status("one").parents[0]!.parentRef, {
    group: "core",
    kind: "Service",
    namespace: "emoji",
    name: "web",
    sectionName: "http",
    port: 80,
  });
});

test("rate limits: the oldest on its Server is accepted", async () => {
  const policy = (name: string, targetRef: object = toServer) =>
    policyObject(`${POLICY}/v1alpha1`, "HTTPLocalRateLimitPolicy", name, {
      spec: { targetRef, total: { requestsPerSecond: 1 } },
    });
  const said: Record<string, string> = {};
  const rig = new Rig();
  const first = policy("z-first");
  rig.failures.push(...Array<number>(50).fill(404));
  rig.cluster.apply(
    server(),
    first,
    policy("a-second"),
    policy("astray", { ...toServer, name: "gone" }),
    policy("of-a-pod", { kind: "Pod", name: "web" }),
    ...["opaque", "gRPC"].map((proxyProtocol) =>
      policyObject(`${POLICY}/v1beta3`, "Server", proxyProtocol, {
        spec: { podSelector: {}, port: 90, proxyProtocol },
      }),
    ),
    policy("of-bytes", { ...toServer, name: "opaque" }),
    policy("of-calls", { ...toServer, name: "gRPC" }),
  );
  await rig.settle();
  for (const { path, body } of rig.patches) {
    const [condition] = body.status["conditions"] as { status: string; reason: string }[];
    said[path.split("/").at(-2)!] = `${condition!.status} ${condition!.reason}`;
  }
  assert.equal(said, {
    "z-first": "True Accepted",
    "a-second": "False RateLimitReasonAlreadyExists",
    astray: "False NoMatchingTarget",
    "of-a-pod": "False NoMatchingTarget",
    "of-bytes": "False NoMatchingTarget",
    "of-calls": "False NoMatchingTarget",
  });
  rig.cluster.delete(first);
  await rig.settle();
  const last = rig.patches.at(-1)!;
  assert.match(last.path, /a-second/);
  assert.is((last.body.status["conditions"] as { status: string }[])[0]!.status, "True");
});

const NETWORKS: [string, object[] | undefined, string][] = [
  ["everything outside", undefined, "True Accepted"],
  ["a network outside", [{ cidr: "192.0.2.0/24" }], "True Accepted"],
  [
    "a network of the cluster",
    [{ cidr: "192.0.2.0/24" }, { cidr: "10.1.0.0/16" }],
    "False EgressReasonNetworkOverlap",
  ],
  ["the whole world", [{ cidr: "0.0.0.0/0" }], "False EgressReasonNetworkOverlap"],
  ["the world but the cluster", [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/8"] }], "True Accepted"],
  [
    "an exception that is too small",
    [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/9"] }],
    "False EgressReasonNetworkOverlap",
  ],
  ["another family", [{ cidr: "::/0" }], "True Accepted"],
];
for (const [text, networks, expected] of NETWORKS)
  test(`an EgressNetwork of ${text}`, async () => {
    const rig = new Rig().apply(egress(networks));
    await rig.settle();
    const [condition] = rig.status<{ conditions: { status: string; reason: string }[] }>("out").conditions;
    assert.is(`${condition!.status} ${condition!.reason}`, expected);
  });

test("nobody writes but the leader, who looks at everything when it begins", async () => {
  const rig = new Rig(false).apply(service(), route(toService));
  await rig.settle();
  assert.is(rig.patches.length, 0);
  rig.leadership.set(true);
  await rig.settle();
  assert.is(rig.patches.length, 1);
  rig.leadership.set(false);
  rig.cluster.delete(service());
  await rig.settle();
  assert.is(rig.patches.length, 1);
  rig.leadership.set(true);
  await rig.settle();
  assert.is(rig.conditions("one")[0], `Service web ${NO_PARENT}`);
});

test("conflicts and failures are tried again, at a pace; what is gone is let go", async () => {
  const rig = new Rig();
  rig.failures.push(409, 500, 500);
  rig.apply(service(), route(toService));
  await rig.settle();
  assert.is(rig.patches.length, 4);
  assert.match(rig.registry.expose(), /policy_status_patches_total\{result="conflict"\} 1/);
  assert.match(rig.registry.expose(), /policy_status_patches_total\{result="failed"\} 2/);
  assert.match(rig.registry.expose(), /policy_status_patches_total\{result="written"\} 1/);
});

test("an object that is replaced while its status is written: the old one is let go", async () => {
  const rig = new Rig();
  const old = route(toService);
  let answer = () => {};
  rig.held = new Promise((resolve) => {
    answer = resolve;
  });
  rig.failures.push(409);
  rig.apply(service(), old);
  await rig.clock.advance(100);
  rig.cluster.delete(old);
  rig.apply({ ...old, metadata: { ...old.metadata, uid: "another", resourceVersion: "another" } });
  answer();
  await rig.settle();
  const versions = rig.patches.map(({ body }) => body.metadata.resourceVersion);
  assert.equal(versions, [old.metadata.resourceVersion, "another"]);
});

test("many objects are written one after another, not at once", async () => {
  const rig = new Rig();
  rig.apply(service());
  for (let i = 0; i < 100; i += 1) rig.apply(route(toService, {}, "HTTPRoute", `r${i}`));
  await rig.clock.advance(100);
  assert.ok(rig.patches.length <= 5, `${rig.patches.length} in a tenth of a second`);
  await rig.settle();
  assert.is(rig.patches.length, 100);
});

test("of two Servers on one port the younger one's owner is told, once", async () => {
  const pod = policyObject("v1", "Pod", "web-1", {
    labels: { app: "web" },
    spec: { containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }] },
  });
  const rig = new Rig().apply(
    pod,
    server("z-old"),
    server("a-young", { port: "http" }),
    server("other", { port: 9090 }),
  );
  await rig.settle();
  rig.apply({ ...pod, metadata: { ...pod.metadata, labels: { app: "web", more: "1" } } });
  await rig.settle();
  assert.is(rig.events.length, 1);
  assert.match(rig.events[0]!, /^Server a-young ServerOverlap: .*port 8080 .*z-old/);
  interface Written {
    conditions: { type: string; status: string; reason: string; message: string }[];
  }
  const written = () => rig.patches.map(({ path }) => path.split("/").at(-2));
  assert.equal(written(), ["a-young"], "Servers that overlap with nothing have no status");
  const [condition] = rig.status<Written>("a-young").conditions;
  assert.equal(
    [condition!.type, condition!.status, condition!.reason],
    ["Overlapped", "True", "OlderServer"],
  );
  assert.match(condition!.message, /port 8080 where Server z-old selects it too/);
  rig.cluster.delete(server("z-old"));
  await rig.settle();
  assert.is(rig.status<Written>("a-young").conditions[0]!.status, "False");
});

test("Servers of different pods are not looked at again because of pods, nor of each other", () => {
  const of = (app: string, more: object = {}) =>
    server(app, { podSelector: { matchLabels: { app } }, ...more });
  const cluster = new PolicyCluster().apply(of("old"), of("young"));
  let told = 0;
  const reading = new Reading({
    changed() {
      told += 1;
    },
  });
  const { store } = cluster.index;
  const subject = {
    kind: "server",
    key: "emoji/young",
    conditions: [],
    problems: [],
  } as unknown as StatusSubject;
  const facts = { clusterNetworks: [], defaultOpaquePorts: [] };
  assert.is(statusOf(store, facts, subject, reading, "2026-01-01T00:00:00Z"), undefined);
  cluster.apply(
    of("old", { accessPolicy: "audit" }),
    policyObject("v1", "Pod", "young-1", { labels: { app: "young" }, spec: { containers: [] } }),
  );
  assert.is(told, 0);
  cluster.apply(of("young", { port: "http" }));
  assert.ok(told > 0);
});

test("annotations that are not understood are told of", async () => {
  const rig = new Rig();
  const object = route(toService);
  rig.apply(service(), {
    ...object,
    metadata: { ...object.metadata, annotations: { "retry.linkerd.io/http": "always" } },
  });
  await rig.settle();
  assert.match(
    rig.events.join(),
    /HTTPRoute one InvalidAnnotation: annotation retry.linkerd.io\/http: expected status codes/,
  );
});

test("what could not be told is told again, until it is", async () => {
  const rig = new Rig();
  rig.silenced = true;
  const misspelt = route(toService, {}, "HTTPRoute", "misspelt");
  rig.apply({
    ...misspelt,
    metadata: { ...misspelt.metadata, annotations: { "retry.linkerd.io/htpp": "5xx" } },
  });
  await rig.clock.advance(3_500);
  const before = rig.events.length;
  assert.ok(before > 1 && before < 6, `told ${before} times in 3.5 s`);
  rig.silenced = false;
  await rig.settle();
  assert.is(rig.events.length, before + 1);
  assert.is(new Set(rig.events).size, 1);
});

test.run();
