// Annotations that do nothing are told, with where they are and what was probably meant; those that do something are not.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { reviewAnnotations, SETTING_KEYS } from "../../src/inject/index.ts";
import { problemText } from "../../src/schema/index.ts";

const test = suite("annotation review");

type Annotations = Readonly<Record<string, string>>;

const OBJECTS: Readonly<Record<string, (annotations: Annotations) => object>> = {
  Service: (annotations) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", annotations },
    spec: { ports: [{ name: "mysql", port: 3306 }] },
  }),
  Namespace: (annotations) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "ns", annotations },
  }),
  Pod: (annotations) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", annotations },
    spec: { containers: [{ name: "a", ports: [{ name: "mysql", containerPort: 3306 }] }] },
  }),
  Deployment: (annotations) => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "d", annotations },
    spec: { template: { spec: { containers: [] } } },
  }),
  template: (annotations) => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "d" },
    spec: { template: { metadata: { annotations }, spec: { containers: [] } } },
  }),
  CronJob: (annotations) => ({
    apiVersion: "batch/v1",
    kind: "CronJob",
    metadata: { name: "c" },
    spec: { jobTemplate: { spec: { template: { metadata: { annotations }, spec: { containers: [] } } } } },
  }),
  EgressNetwork: (annotations) => ({
    apiVersion: "policy.linkerd.io/v1alpha1",
    kind: "EgressNetwork",
    metadata: { name: "e", annotations },
  }),
  HTTPRoute: (annotations) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: "r", annotations },
  }),
  ConfigMap: (annotations) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", annotations } }),
};

const told = (on: string, annotations: Annotations) =>
  reviewAnnotations(OBJECTS[on]!(annotations)).map(problemText);

const BELONGS_ON_SERVICE = "it has no effect here: it belongs on a Service, EgressNetwork or route";

/** Object, key, value, and what is said of it. */
const MISTAKES: readonly (readonly [string, string, string, string | RegExp])[] = [
  [
    "Namespace",
    "config.linkerd.io/opaque-port",
    "25",
    /unknown annotation; did you mean config.linkerd.io\/opaque-ports\?/,
  ],
  ["Pod", "config.linkerd.io/proxy-cpu-requests", "1", /did you mean config.linkerd.io\/proxy-cpu-request\?/],
  [
    "Pod",
    "config.linkerd.io/proxy-wait-before-exit-seconds",
    "1",
    /did you mean config.alpha.linkerd.io\/proxy-wait-before-exit-seconds\?/,
  ],
  ["Pod", "config.beta.linkerd.io/proxy-enable-native-sidecars", "true", /unknown annotation; did you mean/],
  ["Pod", "config.linkerd.io/zzz", "1", /unknown annotation/],
  [
    "Pod",
    "config.linkerd.io/proxy-uid",
    "root",
    'metadata.annotations["config.linkerd.io/proxy-uid"]: expected an integer from -1 to 2147483647, got "root"',
  ],
  ["Pod", "config.linkerd.io/opaque-ports", "postgres", /no port is named "postgres"/],
  ["Pod", "config.linkerd.io/default-inbound-policy", "allow-all", /expected one of all-unauthenticated/],
  ["Pod", "config.linkerd.io/enable-debug-sidecar", "perhaps", /expected enabled or disabled, got "perhaps"/],
  ["Pod", "viz.linkerd.io/disable-tap", "perhaps", /expected enabled or disabled, got "perhaps"/],
  ["Pod", "linkerd.io/inject", "true", /expected one of enabled, disabled, ingress, got "true"/],
  ["Pod", "linkerd.io/injected", "enabled", /did you mean linkerd.io\/inject\?/],
  ["Pod", "linkerd.io/opaque-ports", "25", /did you mean config.linkerd.io\/opaque-ports\?/],
  ["Pod", "config.linkred.io/opaque-ports", "25", /did you mean config.linkerd.io\/opaque-ports\?/],
  ["Pod", "viz.linkerd.io/disable-taps", "true", /did you mean viz.linkerd.io\/disable-tap\?/],
  ["Pod", "retry.linkerd.io/http", "5xx", new RegExp(BELONGS_ON_SERVICE)],
  ["Namespace", "balancer.linkerd.io/failure-accrual", "consecutive", new RegExp(BELONGS_ON_SERVICE)],
  [
    "template",
    "config.linkerd.io/proxy-log-levels",
    "debug",
    /spec.template.metadata.annotations.*did you mean config.linkerd.io\/proxy-log-level\?/,
  ],
  [
    "CronJob",
    "config.linkerd.io/inbound-port",
    "0",
    /^spec.jobTemplate.spec.template.metadata.annotations.*expected an integer from 1/,
  ],
  ["Deployment", "config.linkerd.io/proxy-log-level", "debug", /it belongs on the pod template/],
  ["Deployment", "linkerd.io/inject", "enabled", /it belongs on the pod template/],
  ["Service", "linkerd.io/inject", "enabled", /it belongs on pods/],
  ["Service", "config.linkerd.io/proxy-uid", "1", /no effect on a Service/],
  ["Service", "config.linkerd.io/opaque-ports", "redis", /no port is named|expected/],
  ["Service", "mirror.linkerd.io/exported", "true", /it is a label/],
  ["Service", "retry.linkerd.io/htpp", "5xx", /did you mean retry.linkerd.io\/http\?/],
  ["Service", "retry.linkerd.io/http", "often", /expected status codes.*got "often"/],
  ["Service", "timeout.linkerd.io/requests", "1s", /did you mean timeout.linkerd.io\/request\?/],
  ["Service", "timeout.linkerd.io/idle", "soon", /expected a duration/],
  ["Service", "balancer.linkerd.io/failure-accrual", "sometimes", /expected consecutive or unified/],
  [
    "Service",
    "balancer.linkerd.io/failure-acrual",
    "consecutive",
    /did you mean balancer.linkerd.io\/failure-accrual\?/,
  ],
  [
    "Service",
    "balancer.linkerd.io/failure-accrual-consecutive-max-failures",
    "3",
    /no effect without balancer.linkerd.io\/failure-accrual/,
  ],
  ["EgressNetwork", "timeout.linkerd.io/response", "x", /expected a duration/],
  ["HTTPRoute", "balancer.linkerd.io/failure-accrual", "consecutive", /belongs on the Service/],
  ["HTTPRoute", "config.linkerd.io/opaque-ports", "25", /it belongs on pods/],
];

for (const [on, key, value, says] of MISTAKES) {
  test(`${on}: ${key}=${value} is told`, () => {
    const all = told(on, { [key]: value });
    assert.is(all.length, 1, all.join("\n") || "nothing was told");
    if (typeof says === "string") assert.is(all[0], says);
    else assert.match(all[0]!, says);
    assert.match(all[0]!, JSON.stringify(key));
  });
}

test("success-rate keys do nothing in mode consecutive", () => {
  const key = "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold";
  const all = told("Service", { "balancer.linkerd.io/failure-accrual": "consecutive", [key]: "0.9" });
  assert.is(all.length, 1);
  assert.match(all[0]!, `metadata.annotations["${key}"]: it has no effect in mode consecutive`);
});

/** Annotations that have an effect, by object. */
const RIGHT: readonly (readonly [string, Annotations])[] = [
  [
    "Pod",
    {
      "linkerd.io/inject": "enabled",
      "config.linkerd.io/opaque-ports": "mysql,25",
      "linkerd.io/created-by": "x",
    },
  ],
  ["Pod", { "config.linkerd.io/pod-inbound-ports": "80", "viz.linkerd.io/disable-tap": "true" }],
  [
    "Namespace",
    {
      "linkerd.io/inject": "ingress",
      "config.linkerd.io/opaque-ports": "any-name",
      "config.linkerd.io/proxy-log-level": "debug",
    },
  ],
  [
    "Service",
    {
      "config.linkerd.io/opaque-ports": "mysql,4000-4010",
      "retry.linkerd.io/http": "5xx",
      "retry.linkerd.io/grpc": "unavailable",
      "timeout.linkerd.io/request": "1s",
      "balancer.linkerd.io/failure-accrual": "consecutive",
      "mirror.linkerd.io/remote-svc-fq-name": "a.b",
    },
  ],
  ["EgressNetwork", { "balancer.linkerd.io/failure-accrual": "consecutive" }],
  ["HTTPRoute", { "retry.linkerd.io/limit": "2", "timeout.linkerd.io/response": "500ms" }],
  // Somebody else's.
  [
    "Pod",
    {
      "example.com/config": "x",
      "app.kubernetes.io/name": "y",
      "linkerd.example.com/z": "1",
      "prometheus.io/scrape": "true",
      "kubectl.kubernetes.io/restartedAt": "now",
    },
  ],
  ["Service", { "linkerd.io/some-other-tool-of-the-ecosystem": "1" }],
  // Objects that take no annotations of the mesh are not looked at.
  ["ConfigMap", { "config.linkerd.io/opaque-port": "25" }],
];

for (const [on, annotations] of RIGHT) {
  test(`${on}: nothing is told of ${Object.keys(annotations).join(", ")}`, () => {
    assert.equal(told(on, annotations), []);
  });
}

test("every setting is known on pods and namespaces, whatever its value", () => {
  for (const key of SETTING_KEYS) {
    for (const on of ["Pod", "Namespace"])
      for (const text of told(on, { [key]: "?" })) assert.not.match(text, "unknown");
  }
});

test.run();
