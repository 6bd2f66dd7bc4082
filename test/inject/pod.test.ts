// What injection makes of a pod.
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  applyPatch,
  injectPod,
  ownerOf,
  type PodInjection,
  type PodTemplate,
} from "../../src/inject/index.ts";
import { DEFAULT_VALUES, mergeTrees, type Values } from "../../src/manifests/values.ts";

interface MeshedContainer {
  name: string;
  image: string;
  imagePullPolicy: string;
  restartPolicy?: string;
  args: string[];
  env: { name: string; value?: string }[];
  resources: unknown;
  startupProbe: unknown;
  readinessProbe: { httpGet: { port: number } };
  lifecycle: unknown;
  securityContext: { runAsUser: number; capabilities: unknown };
}

interface Meshed {
  metadata: { labels: Record<string, string>; annotations: Record<string, string> };
  spec: {
    initContainers: MeshedContainer[];
    containers: MeshedContainer[];
    volumes: { name: string; projected: { sources: { serviceAccountToken: unknown }[] } }[];
  };
}

const app: PodTemplate = {
  metadata: { name: "web", labels: { app: "web" } },
  spec: {
    containers: [
      {
        name: "web",
        ports: [
          { containerPort: 9000, name: "http" },
          { containerPort: 80 },
          { containerPort: 3306, name: "db" },
          { containerPort: 53, protocol: "UDP" },
        ],
        readinessProbe: { httpGet: { path: "/", port: 8081 } },
        livenessProbe: { httpGet: { path: "/", port: "http" } },
      },
    ],
    initContainers: [{ name: "migrate" }],
  },
};

function inject(template: PodTemplate, options: Partial<PodInjection> = {}) {
  const result = injectPod({
    template,
    path: "",
    namespace: { name: "shop", annotations: { "linkerd.io/inject": "enabled" } },
    owner: { kind: "Deployment", name: "web" },
    values: DEFAULT_VALUES,
    origin: "webhook",
    createdBy: "kubectl-mesh/proxy-injector test",
    ...options,
  });
  return { ...result, pod: applyPatch(template, result.operations) as unknown as Meshed };
}

const annotated = (annotations: Record<string, string>): PodTemplate => ({
  ...app,
  metadata: { ...app.metadata, annotations },
});
const names = (items: readonly { name: string }[]) => items.map(({ name }) => name);
const env = (pod: Meshed, name: string): string | undefined =>
  pod.spec.initContainers
    .find((container) => container.name === "linkerd-proxy")
    ?.env.find((item) => item.name === `LINKERD2_PROXY_${name}`)?.value;

test("the proxy is a native sidecar right behind the redirect rules, before the pod's own init containers", () => {
  const { pod } = inject(app);
  assert.equal(
    pod.spec.initContainers.map((container) => container.name),
    ["linkerd-init", "linkerd-proxy", "migrate"],
  );
  const [init, proxy] = pod.spec.initContainers as [MeshedContainer, MeshedContainer];
  assert.is(proxy.restartPolicy, "Always");
  assert.equal(proxy.startupProbe, {
    httpGet: { path: "/ready", port: 4191 },
    periodSeconds: 1,
    failureThreshold: 120,
  });
  assert.equal(proxy.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    runAsUser: 2102,
    seccompProfile: { type: "RuntimeDefault" },
  });
  assert.equal(init.args.slice(0, 9), [
    "--ipv6=false",
    "--incoming-proxy-port",
    "4143",
    "--outgoing-proxy-port",
    "4140",
    "--proxy-uid",
    "2102",
    "--inbound-ports-to-ignore",
    "4190-4191,4567-4568",
  ]);
  assert.equal(
    pod.spec.volumes.map((volume) => volume.name),
    ["linkerd-proxy-init-xtables-lock", "linkerd-identity-end-entity", "linkerd-identity-token"],
  );
  assert.equal(pod.spec.volumes[2]!.projected.sources[0]!.serviceAccountToken, {
    path: "linkerd-identity-token",
    audience: "identity.l5d.io",
    expirationSeconds: 86_400,
  });
});

test("labels and annotations name the mesh, the namespace and the owner", () => {
  const { pod } = inject(app);
  assert.equal(pod.metadata.labels, {
    app: "web",
    "linkerd.io/control-plane-ns": "mesh-system",
    "linkerd.io/workload-ns": "shop",
    "linkerd.io/proxy-deployment": "web",
  });
  assert.is(pod.metadata.annotations["linkerd.io/created-by"], "kubectl-mesh/proxy-injector test");
  assert.is(pod.metadata.annotations["config.linkerd.io/opaque-ports"], "3306");
  assert.match(pod.metadata.annotations["linkerd.io/trust-root-sha256"]!, /^[0-9a-f]{64}$/);
});

test("a pod's workload is what made its maker, told by the maker's name", () => {
  const of = (kind: string, name: string, labels = {}) => {
    const owner = ownerOf({ labels, ownerReferences: [{ kind, name, controller: true }] });
    return `${owner!.kind} ${owner!.name}`;
  };
  assert.is(of("ReplicaSet", "web-abc", { "pod-template-hash": "abc" }), "Deployment web");
  assert.is(of("ReplicaSet", "web-abc"), "ReplicaSet web-abc");
  assert.is(of("Job", "nightly-29912345"), "CronJob nightly", "by the minute that it was due");
  assert.is(of("Job", "report-20261126"), "Job report-20261126", "by a date");
  assert.is(of("Job", "migrate"), "Job migrate");
});

test("inbound ports are TCP ports and numeric probe ports, in numeric order", () => {
  assert.is(env(inject(app).pod, "INBOUND_PORTS"), "80,3306,8081,9000");
});

test("the pod's fields stand before the variables that expand them", () => {
  const { pod } = inject(app);
  const names = pod.spec.initContainers[1]!.env.map((item) => item.name);
  assert.ok(names.indexOf("_pod_sa") < names.indexOf("LINKERD2_PROXY_IDENTITY_LOCAL_NAME"));
  assert.is(
    env(pod, "IDENTITY_LOCAL_NAME"),
    "$(_pod_sa).$(_pod_ns).serviceaccount.identity.mesh-system.cluster.local",
  );
  assert.is(env(pod, "DESTINATION_SVC_ADDR"), "mesh-dst-headless.mesh-system.svc.cluster.local.:8086");
  assert.is(
    env(pod, "IDENTITY_SVC_NAME"),
    "mesh-identity.mesh-system.serviceaccount.identity.mesh-system.cluster.local",
  );
});

test("a control-plane component's own proxy reaches it on the loopback interface", () => {
  for (const [local, variable, address] of [
    ["identity", "IDENTITY_SVC_ADDR", "localhost.:8080"],
    ["destination", "DESTINATION_SVC_ADDR", "localhost.:8086"],
    ["policy", "POLICY_SVC_ADDR", "localhost.:8090"],
  ] as const) {
    assert.is(env(inject(app, { local }).pod, variable), address);
  }
  // It is certified by the very container that a startup probe would hold back.
  assert.is(inject(app, { local: "identity" }).pod.spec.initContainers[1]!.startupProbe, undefined);
});

test("the pod's annotations win over the namespace's, which win over the values", () => {
  const values = mergeTrees(DEFAULT_VALUES, { proxy: { logLevel: "error", accessLog: "json" } }) as Values;
  const { pod, problems } = inject(annotated({ "config.linkerd.io/proxy-log-level": "debug" }), {
    values,
    namespace: {
      annotations: {
        "linkerd.io/inject": "enabled",
        "config.linkerd.io/proxy-log-level": "info",
        "config.linkerd.io/skip-outbound-ports": "6000-6010,25",
      },
    },
  });
  assert.equal(problems, []);
  assert.is(env(pod, "LOG"), "debug,[{headers}]=off,[{request}]=off");
  assert.is(env(pod, "ACCESS_LOG"), "json");
  const args = pod.spec.initContainers[0]!.args;
  assert.is(args[args.indexOf("--outbound-ports-to-ignore") + 1], "25,6000-6010");
  // The namespace's settings stick to the pod.
  assert.is(pod.metadata.annotations["config.linkerd.io/skip-outbound-ports"], "6000-6010,25");
});

test("an annotation that is wrong changes nothing and is reported", () => {
  const { pod, problems } = inject(
    annotated({
      "config.linkerd.io/proxy-uid": "root",
      "config.linkerd.io/opaque-ports": "db,nosuch",
      "config.linkerd.io/skip-inbound-ports": "70000",
      "config.linkerd.io/default-inbound-policy": "open",
      "config.linkerd.io/proxy-cpu-request": "many",
      "config.linkerd.io/proxy-inbound-connect-timeout": "soon",
      "config.linkerd.io/enable-debug-sidecar": "perhaps",
      "config.linkerd.io/skip-outbond-ports": "1",
    }),
  );
  assert.equal(
    problems.map((problem) =>
      problem.replace("annotation config.linkerd.io/", "").replace(" on the pod", ""),
    ),
    [
      'proxy-uid: expected an integer from -1 to 2147483647, got "root"',
      'opaque-ports: no port is named "nosuch"',
      'skip-inbound-ports: expected a port 1-65535 or a range a-b, got "70000"',
      'default-inbound-policy: expected one of all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny, audit, got "open"',
      'proxy-cpu-request: expected a quantity such as 100m or 64Mi, got "many"',
      'proxy-inbound-connect-timeout: expected a duration such as 10s, 250ms, 5m, 1h or 1d, got "soon"',
      'enable-debug-sidecar: expected enabled or disabled, got "perhaps"',
      "skip-outbond-ports: unknown annotation; did you mean config.linkerd.io/skip-outbound-ports?",
    ],
  );
  assert.is(pod.spec.initContainers[1]!.securityContext.runAsUser, 2102);
});

test("annotations reach the containers", () => {
  const { pod, problems } = inject(
    annotated({
      "config.linkerd.io/opaque-ports": "db,9999",
      "config.linkerd.io/proxy-cpu-request": "100m",
      "config.linkerd.io/proxy-memory-limit": "64Mi",
      "config.linkerd.io/proxy-image": "registry.example.com/kubectl-mesh",
      "config.linkerd.io/proxy-version": "9.9.9",
      "config.linkerd.io/image-pull-policy": "Always",
      "config.linkerd.io/admin-port": "5191",
      "config.linkerd.io/proxy-additional-env": '[{"name":"A","value":"1"}]',
      "config.linkerd.io/default-inbound-policy": "deny",
      "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "5",
      "linkerd.io/inject": "ingress",
    }),
  );
  assert.equal(problems, []);
  const proxy = pod.spec.initContainers[1]!;
  assert.is(proxy.image, "registry.example.com/kubectl-mesh:9.9.9");
  assert.is(proxy.imagePullPolicy, "Always");
  assert.equal(proxy.resources, { requests: { cpu: "100m" }, limits: { memory: "64Mi" } });
  assert.is(proxy.readinessProbe.httpGet.port, 5191);
  assert.equal(proxy.lifecycle, { preStop: { exec: { command: ["/bin/sleep", "5"] } } });
  assert.equal(proxy.env.at(-1), { name: "A", value: "1" });
  assert.is(env(pod, "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"), "3306,9999");
  assert.is(env(pod, "INBOUND_DEFAULT_POLICY"), "deny");
  assert.is(env(pod, "INGRESS_MODE"), "true");
});

test("a proxy that is no native sidecar is the first container, and holds the others back until it is ready", () => {
  const { pod } = inject(annotated({ "config.linkerd.io/proxy-enable-native-sidecar": "false" }));
  assert.equal(names(pod.spec.initContainers), ["linkerd-init", "migrate"]);
  assert.equal(names(pod.spec.containers), ["linkerd-proxy", "web"]);
  const [proxy] = pod.spec.containers as [MeshedContainer];
  assert.is(proxy.restartPolicy, undefined);
  assert.is(proxy.startupProbe, undefined);
  assert.equal(proxy.lifecycle, {
    postStart: {
      exec: { command: ["node", "/app/dist/entry/proxy-await.js", "--timeout=2m", "--port=4191"] },
    },
  });
  // `kubectl logs` takes the first container, unless it is told.
  assert.is(pod.metadata.annotations["kubectl.kubernetes.io/default-container"], "web");
});

test("where it is not awaited it is the last, and a native one is never awaited", () => {
  const off = { "config.linkerd.io/proxy-await": "disabled" };
  const { pod } = inject(annotated({ ...off, "config.linkerd.io/proxy-enable-native-sidecar": "false" }));
  assert.equal(names(pod.spec.containers), ["web", "linkerd-proxy"]);
  assert.is(pod.spec.containers[1]!.lifecycle, undefined);
  assert.is(pod.metadata.annotations["kubectl.kubernetes.io/default-container"], undefined);
  assert.is(inject(app).pod.spec.initContainers[1]!.lifecycle, undefined);
  // The identity controller certifies the proxy that it would wait for.
  const identity = inject(annotated({ "config.linkerd.io/proxy-enable-native-sidecar": "false" }), {
    local: "identity",
  });
  assert.equal(names(identity.pod.spec.containers), ["web", "linkerd-proxy"]);
});

test("waiting for the proxy at the start and before the end go together", () => {
  const { pod } = inject(
    annotated({
      "config.linkerd.io/proxy-enable-native-sidecar": "false",
      "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "3",
    }),
  );
  assert.equal(Object.keys(pod.spec.containers[0]!.lifecycle as object), ["postStart", "preStop"]);
});

test("a Job whose proxy is no native sidecar can tell it to end, unless that is forbidden", () => {
  const notNative = { "config.linkerd.io/proxy-enable-native-sidecar": "false" };
  const endpoint = (kind: string, annotations: Record<string, string>) => {
    const { pod } = inject(annotated(annotations), { owner: { kind, name: "work" } });
    const all = [...pod.spec.initContainers, ...pod.spec.containers];
    return all
      .find(({ name }) => name === "linkerd-proxy")!
      .env.find(({ name }) => name === "LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED")?.value;
  };
  assert.is(endpoint("Job", notNative), "true");
  assert.is(endpoint("CronJob", notNative), "true");
  assert.is(endpoint("Job", {}), "false");
  assert.is(endpoint("Deployment", notNative), "false");
  const forbidden = { ...notNative, "config.linkerd.io/proxy-admin-shutdown": "disabled" };
  assert.is(endpoint("Job", forbidden), "false");
});

test("where a CNI plugin lays the rules there is a validator without rights instead of the init container", () => {
  const values = mergeTrees(DEFAULT_VALUES, { cniEnabled: true, disableIPv6: false }) as Values;
  const { pod } = inject(annotated({ "config.linkerd.io/outbound-port": "5140" }), { values });
  assert.equal(names(pod.spec.initContainers), ["linkerd-network-validator", "linkerd-proxy", "migrate"]);
  const [validator] = pod.spec.initContainers as [MeshedContainer];
  assert.equal(validator.args, [
    "--listen-addr=[::]:5140",
    "--timeout=10s",
    "--log-level=info",
    "--log-format=plain",
  ]);
  assert.equal(validator.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    // Not the proxy's user, whose connections the rules leave alone.
    runAsUser: 65_534,
    runAsGroup: 65_534,
    seccompProfile: { type: "RuntimeDefault" },
  });
  assert.not(names(pod.spec.volumes).includes("linkerd-proxy-init-xtables-lock"));
});

test("the proxy has the capabilities that the application's first container adds, and no others", () => {
  const withCapabilities = (capabilities: object): PodTemplate => ({
    spec: {
      containers: [{ name: "a", securityContext: { capabilities } }, { name: "b" }],
    },
  });
  const of = (template: PodTemplate) => inject(template).pod.spec.initContainers[1]!.securityContext;
  assert.equal(of(withCapabilities({ add: ["NET_BIND_SERVICE"], drop: ["KILL"] })).capabilities, {
    add: ["NET_BIND_SERVICE"],
    drop: ["ALL"],
  });
  assert.equal(of(withCapabilities({ drop: ["KILL"] })).capabilities, { drop: ["ALL"] });
});

const TRACED = mergeTrees(DEFAULT_VALUES, {
  proxy: {
    tracing: {
      enabled: true,
      samplingRatio: 0.25,
      labels: { "deployment.environment": "test" },
      collector: {
        name: "collector.tracing:4317",
        meshIdentity: { serviceAccountName: "collector", namespace: "tracing" },
      },
    },
  },
}) as Values;

test("spans say which pod they are of, by labels and OpenTelemetry's annotations", () => {
  const template = annotated({ "resource.opentelemetry.io/team": "a,b" });
  const labelled = {
    ...template,
    metadata: { ...template.metadata, labels: { "app.kubernetes.io/name": "shop" } },
  };
  const { pod, problems } = inject(labelled, {
    values: TRACED,
    namespace: {
      annotations: {
        "linkerd.io/inject": "enabled",
        "resource.opentelemetry.io/team": "z",
        "resource.opentelemetry.io/region": "eu",
      },
    },
  });
  assert.equal(problems, []);
  assert.is(env(pod, "TRACE_COLLECTOR_SVC_ADDR"), "collector.tracing:4317");
  assert.is(
    env(pod, "TRACE_COLLECTOR_SVC_NAME"),
    "collector.tracing.serviceaccount.identity.mesh-system.cluster.local",
  );
  assert.is(env(pod, "TRACE_SERVICE_NAME"), "shop");
  assert.is(env(pod, "TRACE_SAMPLING_RATIO"), "0.25");
  assert.equal(env(pod, "TRACE_EXTRA_ATTRIBUTES")!.split("\n"), [
    "k8s.pod.ip=$(_pod_ip)",
    "k8s.pod.uid=$(_pod_uid)",
    "k8s.container.name=linkerd-proxy",
    "deployment.environment=test",
    "team=a,b",
    "region=eu",
  ]);
  const order = pod.spec.initContainers[1]!.env.map(({ name }) => name);
  assert.ok(order.indexOf("_pod_uid") < order.indexOf("LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES"));
  assert.ok(names(pod.spec.volumes).includes("linkerd-podinfo"));
  const named = annotated({ "resource.opentelemetry.io/service.name": "checkout" });
  assert.is(env(inject(named, { values: TRACED }).pod, "TRACE_SERVICE_NAME"), "checkout");
  assert.is(env(inject(app, { values: TRACED }).pod, "TRACE_SERVICE_NAME"), "linkerd-proxy");
});

test("spans that would go to nobody known are not made, and it is said", () => {
  const values = mergeTrees(TRACED, {
    proxy: { tracing: { collector: { meshIdentity: { namespace: "" } } } },
  }) as Values;
  const { pod, problems } = inject(app, { values });
  assert.match(problems.join(), "proxy.tracing.collector.meshIdentity");
  assert.is(env(pod, "TRACE_COLLECTOR_SVC_ADDR"), undefined);
});

test("requests can be watched where the installation says by whom, unless namespace or pod forbid it", () => {
  const values = mergeTrees(DEFAULT_VALUES, { proxy: { tap: { serviceName: "tap.viz" } } }) as Values;
  const { pod } = inject(app, { values });
  assert.is(env(pod, "TAP_SVC_NAME"), "tap.viz");
  assert.is(pod.metadata.annotations["viz.linkerd.io/tap-enabled"], "true");
  const namespace = { annotations: { "linkerd.io/inject": "enabled", "viz.linkerd.io/disable-tap": "true" } };
  const forbidden = inject(app, { values, namespace }).pod;
  assert.is(env(forbidden, "TAP_SVC_NAME"), undefined);
  assert.is(forbidden.metadata.annotations["viz.linkerd.io/tap-enabled"], undefined);
  const allowed = inject(annotated({ "viz.linkerd.io/disable-tap": "false" }), { values, namespace }).pod;
  assert.is(env(allowed, "TAP_SVC_NAME"), "tap.viz");
});

test("a pod that must not be injected gets no operations", () => {
  const { verdict, operations } = inject({ ...app, spec: { ...app.spec, hostNetwork: true } });
  assert.equal([...verdict.reasons], ["host_network_enabled"]);
  assert.equal(operations, []);
});

test.run();
