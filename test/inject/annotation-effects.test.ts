// Every annotation that injection reads: what it changes in the pod, on the pod and inherited from the namespace, and
// that the documentation names it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { applyPatch, injectPod, type PodTemplate, SETTING_KEYS } from "../../src/inject/index.ts";
import { DEFAULT_VALUES, mergeTrees, type Values } from "../../src/manifests/values.ts";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("annotation effects");

// biome-ignore lint/suspicious/noExplicitAny: any part of a pod.
type Any = any;

const app: PodTemplate = {
  metadata: { name: "web" },
  spec: { containers: [{ name: "web", ports: [{ containerPort: 8080, name: "http" }] }] },
};

const values = mergeTrees(DEFAULT_VALUES, { proxy: { tap: { serviceName: "tap.viz" } } }) as Values;

function injected(namespace: Record<string, string>, pod: Record<string, string>): Any {
  const template = { ...app, metadata: { ...app.metadata, annotations: pod } };
  const { operations, problems } = injectPod({
    template,
    path: "",
    namespace: { name: "shop", annotations: { "linkerd.io/inject": "enabled", ...namespace } },
    owner: { kind: "Deployment", name: "web" },
    values,
    origin: "webhook",
    createdBy: "test",
  });
  assert.equal(problems, []);
  return applyPatch(template, operations);
}

const all = (pod: Any): Any[] => [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
const container = (pod: Any, name: string) => all(pod).find((each) => each.name === name);
const proxy = (pod: Any) => container(pod, "linkerd-proxy");
const env =
  (name: string) =>
  (pod: Any): string | undefined =>
    proxy(pod).env.find((item: Any) => item.name === `LINKERD2_PROXY_${name}`)?.value;
const arg = (flag: string) => (pod: Any) => {
  const { args } = container(pod, "linkerd-init");
  const at = args.indexOf(flag);
  return at < 0 ? undefined : args[at + 1];
};
const debug = (pod: Any) => container(pod, "linkerd-debug");
const resource = (side: string, name: string) => (pod: Any) => proxy(pod).resources?.[side]?.[name];

/** What is looked at and how it is without the annotation, the annotation's value, and how it is with it. */
type Row = readonly [
  key: string,
  value: string,
  look: (pod: Any) => unknown,
  before: unknown,
  after: unknown,
  /** Other annotations, without which it has no meaning. */
  beside?: Record<string, string>,
];

const C = "config.linkerd.io/";
const VERSION_TAG = values.image.version;
const NOT_NATIVE = { [`${C}proxy-enable-native-sidecar`]: "disabled" };
const DEBUG = { [`${C}enable-debug-sidecar`]: "true" };
const isNative = (pod: Any) => pod.spec.initContainers.some((each: Any) => each.name === "linkerd-proxy");
const REDACTED = ",[{headers}]=off,[{request}]=off";
const OPAQUE = DEFAULT_VALUES.proxy.opaquePorts;

const ROWS: readonly Row[] = [
  [
    `${C}proxy-image`,
    "r.io/p",
    (pod) => proxy(pod).image,
    `kubectl-mesh:${VERSION_TAG}`,
    `r.io/p:${VERSION_TAG}`,
  ],
  [
    `${C}proxy-version`,
    "9",
    (pod) => container(pod, "linkerd-init").image,
    `kubectl-mesh:${VERSION_TAG}`,
    "kubectl-mesh:9",
  ],
  [`${C}image-pull-policy`, "Always", (pod) => proxy(pod).imagePullPolicy, "IfNotPresent", "Always"],
  [`${C}inbound-port`, "5143", arg("--incoming-proxy-port"), "4143", "5143"],
  [`${C}outbound-port`, "5140", arg("--outgoing-proxy-port"), "4140", "5140"],
  [`${C}control-port`, "5190", env("CONTROL_LISTEN_ADDR"), "0.0.0.0:4190", "0.0.0.0:5190"],
  [`${C}admin-port`, "5191", (pod) => proxy(pod).readinessProbe.httpGet.port, 4191, 5191],
  [`${C}skip-inbound-ports`, "25", arg("--inbound-ports-to-ignore"), "4190-4191,4567-4568", "25,4190-4191"],
  [`${C}skip-outbound-ports`, "25,30-40", arg("--outbound-ports-to-ignore"), "4567-4568", "25,30-40"],
  [`${C}skip-subnets`, "10.1.0.0/16", arg("--subnets-to-ignore"), undefined, "10.1.0.0/16"],
  [`${C}opaque-ports`, "http,9", env("INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"), OPAQUE, "9,8080"],
  [
    `${C}proxy-cpu-request`,
    "1500m",
    (pod) => [resource("requests", "cpu")(pod), env("CORES_MIN")(pod)],
    [undefined, undefined],
    ["1500m", "2"],
  ],
  [
    `${C}proxy-cpu-limit`,
    "2",
    (pod) => [resource("limits", "cpu")(pod), env("CORES")(pod)],
    [undefined, undefined],
    ["2", "2"],
  ],
  [`${C}proxy-cpu-ratio-limit`, "0.5", env("CORES_MAX_RATIO"), undefined, "0.5"],
  [`${C}proxy-memory-request`, "20Mi", resource("requests", "memory"), undefined, "20Mi"],
  [`${C}proxy-memory-limit`, "99Mi", resource("limits", "memory"), undefined, "99Mi"],
  [`${C}proxy-ephemeral-storage-request`, "1Gi", resource("requests", "ephemeral-storage"), undefined, "1Gi"],
  [`${C}proxy-ephemeral-storage-limit`, "2Gi", resource("limits", "ephemeral-storage"), undefined, "2Gi"],
  [
    `${C}proxy-uid`,
    "3000",
    (pod) => [proxy(pod).securityContext.runAsUser, arg("--proxy-uid")(pod)],
    [2102, "2102"],
    [3000, "3000"],
  ],
  [
    `${C}proxy-gid`,
    "3001",
    (pod) => [proxy(pod).securityContext.runAsGroup, arg("--proxy-gid")(pod)],
    [undefined, undefined],
    [3001, "3001"],
  ],
  [
    `${C}proxy-log-level`,
    "debug",
    env("LOG"),
    `${DEFAULT_VALUES.proxy.logLevel}${REDACTED}`,
    `debug${REDACTED}`,
  ],
  [`${C}proxy-log-format`, "json", env("LOG_FORMAT"), "plain", "json"],
  [
    `${C}proxy-log-http-headers`,
    "insecure",
    env("LOG"),
    `${DEFAULT_VALUES.proxy.logLevel}${REDACTED}`,
    DEFAULT_VALUES.proxy.logLevel,
  ],
  [`${C}access-log`, "apache", env("ACCESS_LOG"), undefined, "apache"],
  [`${C}proxy-admin-shutdown`, "enabled", env("SHUTDOWN_ENDPOINT_ENABLED"), "false", "true"],
  [`${C}enable-external-profiles`, "true", env("DESTINATION_PROFILE_SUFFIXES"), "svc.cluster.local.", "."],
  [
    `${C}proxy-require-identity-inbound-ports`,
    "8080",
    env("INBOUND_PORTS_REQUIRE_IDENTITY"),
    undefined,
    "8080",
  ],
  [`${C}proxy-metrics-hostname-labels`, "true", env("OUTBOUND_METRICS_HOSTNAME_LABELS"), undefined, "true"],
  [`${C}proxy-outbound-connect-timeout`, "2s", env("OUTBOUND_CONNECT_TIMEOUT"), "1000ms", "2s"],
  [`${C}proxy-inbound-connect-timeout`, "3s", env("INBOUND_CONNECT_TIMEOUT"), "100ms", "3s"],
  [
    `${C}proxy-outbound-discovery-cache-unused-timeout`,
    "6s",
    env("OUTBOUND_DISCOVERY_IDLE_TIMEOUT"),
    "5s",
    "6s",
  ],
  [
    `${C}proxy-inbound-discovery-cache-unused-timeout`,
    "7s",
    env("INBOUND_DISCOVERY_IDLE_TIMEOUT"),
    "90s",
    "7s",
  ],
  [
    `${C}proxy-disable-outbound-protocol-detect-timeout`,
    "true",
    env("OUTBOUND_DETECT_TIMEOUT"),
    undefined,
    "365d",
  ],
  [
    `${C}proxy-disable-inbound-protocol-detect-timeout`,
    "true",
    env("INBOUND_DETECT_TIMEOUT"),
    undefined,
    "365d",
  ],
  [`${C}enable-gateway`, "true", env("INBOUND_GATEWAY_SUFFIXES"), undefined, "svc.cluster.local."],
  [
    `${C}close-wait-timeout`,
    "90s",
    (pod) => [
      arg("--timeout-close-wait-secs")(pod),
      container(pod, "linkerd-init").securityContext.privileged,
    ],
    [undefined, false],
    ["90", true],
  ],
  [`${C}proxy-await`, "disabled", (pod) => pod.spec.containers[0].name, "linkerd-proxy", "web", NOT_NATIVE],
  [`${C}default-inbound-policy`, "deny", env("INBOUND_DEFAULT_POLICY"), "all-unauthenticated", "deny"],
  [`${C}shutdown-grace-period`, "9s", env("SHUTDOWN_GRACE_PERIOD"), undefined, "9s"],
  [`${C}pod-inbound-ports`, "9000,80,http", env("INBOUND_PORTS"), "8080", "80,8080,9000"],
  [`${C}proxy-enable-native-sidecar`, "disabled", isNative, true, false],
  ["config.beta.linkerd.io/proxy-enable-native-sidecar", "disabled", isNative, true, false],
  ["config.alpha.linkerd.io/proxy-enable-native-sidecar", "disabled", isNative, true, false],
  [
    "config.alpha.linkerd.io/proxy-wait-before-exit-seconds",
    "5",
    (pod) => proxy(pod).lifecycle?.preStop.exec.command,
    undefined,
    ["/bin/sleep", "5"],
  ],
  [`${C}enable-debug-sidecar`, "true", (pod) => all(pod).at(-1).name, "web", "linkerd-debug"],
  [
    `${C}debug-image`,
    "r.io/d",
    (pod) => debug(pod).image,
    `kubectl-mesh:${VERSION_TAG}`,
    `r.io/d:${VERSION_TAG}`,
    DEBUG,
  ],
  [
    `${C}debug-image-version`,
    "7",
    (pod) => debug(pod).image,
    `kubectl-mesh:${VERSION_TAG}`,
    "kubectl-mesh:7",
    DEBUG,
  ],
  [
    `${C}debug-image-pull-policy`,
    "Never",
    (pod) => debug(pod).imagePullPolicy,
    "IfNotPresent",
    "Never",
    DEBUG,
  ],
  [
    `${C}proxy-additional-env`,
    '[{"name":"A","value":"1"}]',
    (pod) => proxy(pod).env.find((item: Any) => item.name === "A")?.value,
    undefined,
    "1",
  ],
  ["viz.linkerd.io/disable-tap", "true", env("TAP_SVC_NAME"), "tap.viz", undefined],
  ["linkerd.io/inject", "ingress", env("INGRESS_MODE"), undefined, "true"],
];

test("the table has every annotation, once", () => {
  assert.equal(ROWS.map(([key]) => key).sort(), [...SETTING_KEYS, "linkerd.io/inject"].sort());
});

for (const [key, value, look, before, after, beside = {}] of ROWS) {
  test(`${key} on the pod and on its namespace`, () => {
    assert.equal(look(injected({}, beside)), before, "without it");
    assert.equal(look(injected({}, { ...beside, [key]: value })), after, "on the pod");
    const inherited = injected({ [key]: value }, beside);
    assert.equal(look(inherited), after, "on the namespace");
    assert.is(inherited.metadata.annotations[key], value, "sticks to the pod");
  });
}

test("variables of values, namespace and pod are merged by name, the nearer winning", () => {
  const more = mergeTrees(values, {
    proxy: {
      additionalEnv: [
        { name: "A", value: "values" },
        { name: "B", value: "values" },
      ],
    },
  }) as Values;
  const variables = (list: [string, string][]) => ({
    [`${C}proxy-additional-env`]: JSON.stringify(list.map(([name, text]) => ({ name, value: text }))),
  });
  const template = {
    ...app,
    metadata: {
      annotations: variables([
        ["C", "pod"],
        ["D", "pod"],
      ]),
    },
  };
  const { operations } = injectPod({
    template,
    path: "",
    namespace: {
      annotations: {
        "linkerd.io/inject": "enabled",
        ...variables([
          ["B", "ns"],
          ["C", "ns"],
        ]),
      },
    },
    values: more,
    origin: "webhook",
    createdBy: "test",
  });
  const own = proxy(applyPatch(template, operations)).env.filter(({ name }: Any) => /^[A-D]$/.test(name));
  assert.equal(Object.fromEntries(own.map((item: Any) => [item.name, item.value])), {
    A: "values",
    B: "ns",
    C: "pod",
    D: "pod",
  });
});

test("the documentation names every one of them", () => {
  const text = readFileSync(join(packageRoot(), "docs/injection.md"), "utf8");
  const missing = ROWS.map(([key]) => key).filter(
    (key) => ![key, key.replace(C, "")].some((name) => new RegExp(`\`${name}[\`:]`).test(text)),
  );
  assert.equal(missing, []);
});

test.run();
