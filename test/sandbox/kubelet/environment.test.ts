// What a container's environment is made of.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json, KubeObject } from "../../../src/sandbox/cluster.ts";
import { buildEnvironment, expand } from "../../../src/sandbox/kubelet/environment.ts";
import { divideQuantity, parseQuantity } from "../../../src/sandbox/kubelet/quantity.ts";

const test = suite("container environment");

const pod: KubeObject = {
  metadata: {
    name: "web",
    namespace: "shop",
    uid: "u-1",
    labels: { app: "web", tier: "a" },
    annotations: { note: 'say "hi"' },
  },
  spec: { nodeName: "mesh-0", serviceAccountName: "cart" },
};
const services: KubeObject[] = [
  {
    metadata: { name: "my-db", namespace: "shop" },
    spec: { clusterIP: "10.96.1.2", ports: [{ name: "pg-main", port: 5432, protocol: "TCP" }] },
  },
  { metadata: { name: "headless", namespace: "shop" }, spec: { clusterIP: "None", ports: [{ port: 1 }] } },
  {
    metadata: { name: "kubernetes", namespace: "default" },
    spec: { clusterIP: "10.96.0.1", ports: [{ name: "https", port: 443 }] },
  },
];
const build = (container: Json, spec: Json = {}) =>
  buildEnvironment({
    pod: { ...pod, spec: { ...pod["spec"], ...spec } },
    container,
    podIP: "10.244.0.9",
    hostIP: "10.244.0.1",
    allocatable: { cpu: "2", memory: "4096Ki" },
    configMap: (name) => (name === "cfg" ? { a: "1", "b.c": "2" } : undefined),
    secret: (name) => (name === "sec" ? { token: "t" } : undefined),
    services: () => services,
  });
const fields = (...paths: string[]) => ({
  env: paths.map((fieldPath, i) => ({ name: `V${i}`, valueFrom: { fieldRef: { fieldPath } } })),
});

test("references between variables are resolved in order, unknown ones stay", () => {
  const { A, B, C, D } = build({
    env: [
      { name: "A", value: "1" },
      { name: "B", value: "$(A)$(LATER)" },
      { name: "C", value: "$$(A) $(MY_DB_SERVICE_HOST)" },
      { name: "LATER", value: "x" },
      { name: "D", value: "$(LATER)" },
    ],
  });
  assert.equal([A, B, C, D], ["1", "1$(LATER)", "$(A) 10.96.1.2", "x"]);
});

test("expand leaves what is no reference", () => {
  const cases: [string, string][] = [
    ["$", "$"],
    ["a$b", "a$b"],
    ["$$$(X)", "$v"],
    ["$(X", "$(X"],
    ["$()", "$()"],
  ];
  for (const [text, expected] of cases) {
    assert.is(
      expand(text, (name) => (name === "X" ? "v" : undefined)),
      expected,
    );
  }
});

test("the downward API gives the usual fields", () => {
  const values = build(
    fields(
      "metadata.name",
      "metadata.namespace",
      "metadata.uid",
      "metadata.labels['app']",
      "metadata.annotations['missing']",
      "metadata.annotations",
      "spec.nodeName",
      "spec.serviceAccountName",
      "status.podIP",
      "status.hostIP",
    ),
  );
  assert.equal(
    Array.from({ length: 10 }, (_, i) => values[`V${i}`]),
    ["web", "shop", "u-1", "web", "", 'note="say \\"hi\\""', "mesh-0", "cart", "10.244.0.9", "10.244.0.1"],
  );
  assert.throws(() => build(fields("spec.nonsense")), /unsupported fieldPath: spec.nonsense/);
});

test("resources come in units of their divisor, limits default to the node's", () => {
  const env = (resource: string, divisor?: string) => ({
    resources: { requests: { cpu: "250m" } },
    env: [{ name: "V", valueFrom: { resourceFieldRef: { resource, divisor } } }],
  });
  assert.is(build(env("requests.cpu", "1m"))["V"], "250");
  assert.is(build(env("requests.cpu"))["V"], "1");
  assert.is(build(env("limits.memory", "1Ki"))["V"], "4096");
});

test("a missing ConfigMap, Secret or key is an error unless optional", () => {
  const from = (ref: Json) => ({ env: [{ name: "V", valueFrom: ref }] });
  assert.is(build(from({ secretKeyRef: { name: "sec", key: "token" } }))["V"], "t");
  assert.throws(() => build(from({ configMapKeyRef: { name: "no", key: "a" } })), /configmap "no" not found/);
  assert.throws(
    () => build(from({ configMapKeyRef: { name: "cfg", key: "z" } })),
    /couldn't find key z in ConfigMap shop\/cfg/,
  );
  assert.is(build(from({ configMapKeyRef: { name: "no", key: "a", optional: true } }))["V"], undefined);
  assert.throws(() => build({ envFrom: [{ secretRef: { name: "no" } }] }), /secret "no" not found/);
});

test("envFrom takes all keys with a prefix, and env overrides it", () => {
  const result = build({
    envFrom: [{ configMapRef: { name: "cfg" }, prefix: "P_" }],
    env: [{ name: "P_a", value: "own" }],
  });
  assert.is(result["P_a"], "own");
  assert.is(result["P_b.c"], "2");
});

test("services are told, except headless ones, and only the API server without links", () => {
  const all = build({});
  assert.is(all["MY_DB_SERVICE_PORT_PG_MAIN"], "5432");
  assert.is(all["MY_DB_PORT_5432_TCP_ADDR"], "10.96.1.2");
  assert.is(all["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
  assert.not(Object.keys(all).some((name) => name.startsWith("HEADLESS")));
  const few = build({}, { enableServiceLinks: false });
  assert.is(few["KUBERNETES_SERVICE_PORT"], "443");
  assert.is(few["MY_DB_SERVICE_HOST"], undefined);
});

test("quantities are read as Kubernetes writes them", () => {
  const cases: [string | number, number][] = [
    ["500m", 0.5],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["1e3", 1000],
    [".5", 0.5],
    ["12E", 12e18],
    [2, 2],
  ];
  for (const [text, expected] of cases) assert.is(parseQuantity(text), expected, String(text));
  for (const bad of ["", "1KiB", "abc", "1 Gi"])
    assert.throws(() => parseQuantity(bad), /expected a quantity/);
  assert.is(divideQuantity("1001m", "1"), 2);
});

test.run();
