// The checks against clusters that are sound, empty or broken in one way each.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CheckContext, type CheckResult, runChecks, STAGES, type Stage } from "../../src/checks/index.ts";
import type { ConfigMap, KubeObject, Pod, Secret, Service } from "../../src/kube/index.ts";
import { createIdentityCredentials } from "../../src/manifests/index.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { type Cluster, DAY_MS, startCluster, startInstalledCluster, VERSION } from "./fake-cluster.ts";

function check(
  cluster: Cluster,
  stage: Stage,
  options: { wait?: number; namespace?: string } = {},
): Promise<CheckResult[]> {
  const context = new CheckContext({
    meshNamespace: "mesh-system",
    namespace: options.namespace,
    version: VERSION,
    now: Date.now,
    connect: async () => cluster.client,
  });
  return runChecks(STAGES[stage], context, { wait: options.wait ?? 0, pause: 5 });
}

const failures = (results: readonly CheckResult[]) =>
  results
    .filter(({ outcome }) => outcome !== "success")
    .map(({ outcome, anchor, error }) => `${outcome} ${anchor}: ${error}`);

const NO_GATEWAY =
  "warning gateway-api-crd: not there, or version v1 is not served: httproutes.gateway.networking.k8s.io, grpcroutes.gateway.networking.k8s.io";

async function withCluster(
  start: () => Promise<Cluster>,
  body: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  const cluster = await start();
  try {
    await body(cluster);
  } finally {
    await cluster.close();
  }
}

test("an empty cluster may be installed on", async () => {
  await withCluster(startCluster, async (cluster) => {
    const results = await check(cluster, "before");
    assert.equal(failures(results), [NO_GATEWAY]);
    assert.equal(
      results.map(({ description }) => description),
      [
        "can initialize the client",
        "can query the Kubernetes API",
        "is running the minimum Kubernetes API version",
        "Gateway API CRDs are installed",
        "control plane namespace does not already exist",
        "can create non-namespaced resources",
        "can create ServiceAccounts",
        "can create Services",
        "can create Deployments",
        "can create ConfigMaps",
        "can create Secrets",
        "can read Secrets",
        "no clock skew detected",
      ],
    );
  });
});

test("a healthy installation passes, with its proxies", async () => {
  await withCluster(startInstalledCluster, async (cluster) => {
    for (const stage of ["crds", "control-plane", "data-plane"] as const) {
      assert.equal(failures(await check(cluster, stage)), [NO_GATEWAY], stage);
    }
    assert.equal(failures(await check(cluster, "data-plane", { namespace: "shop" })), [NO_GATEWAY]);
  });
});

test("where nothing is installed the run ends at the first fatal failure", async () => {
  await withCluster(startCluster, async (cluster) => {
    const results = await check(cluster, "control-plane");
    assert.is(results.at(-1)?.error, "ConfigMap mesh-system/mesh-config does not exist");
    assert.is(results.filter(({ outcome }) => outcome === "error").length, 1);
  });
});

/** What breaks the cluster, the run that shows it, and the failures besides the warning about the Gateway API. */
const BROKEN: readonly [string, Stage, (cluster: Cluster) => void, readonly string[]][] = [
  [
    "an old Kubernetes",
    "crds",
    (cluster) => {
      cluster.gitVersion = "v1.25.3+k3s1";
    },
    ["error k8s-version: Kubernetes is on version v1.25.3+k3s1, but version 1.29 or more recent is required"],
  ],
  [
    "a namespace that exists",
    "before",
    () => {},
    ['error pre-ns: The "mesh-system" namespace already exists'],
  ],
  [
    "a definition that is gone",
    "crds",
    (cluster) => cluster.remove("CustomResourceDefinition", "serviceprofiles.linkerd.io"),
    [
      "error l5d-existence-crd: CustomResourceDefinitions are missing or do not serve a version: serviceprofiles.linkerd.io/v1alpha1, serviceprofiles.linkerd.io/v1alpha2",
    ],
  ],
  [
    "a Deployment without ready replicas",
    "control-plane",
    (cluster) =>
      cluster.edit<KubeObject & { status?: object }>("Deployment", "mesh-policy", (d) => delete d.status),
    ["error l5d-existence-replicasets: replica sets are not ready: mesh-policy has 0 of 1 replicas ready"],
  ],
  [
    "a controller that crashes",
    "control-plane",
    (cluster) =>
      cluster.edit<Pod>("Pod", "mesh-identity-0", (pod) => {
        pod.status!.containerStatuses![0] = {
          name: "identity",
          ready: false,
          state: { waiting: { reason: "CrashLoopBackOff" } },
        };
      }),
    ["error l5d-api-control-ready: pod/mesh-identity-0 container identity is not ready (CrashLoopBackOff)"],
  ],
  [
    "a pod outside the cluster's networks",
    "control-plane",
    (cluster) =>
      cluster.edit<Pod>("Pod", "web", (pod) => {
        pod.status!.podIP = "8.8.8.8";
      }),
    [
      "error l5d-cluster-networks-pods: these pods are outside clusterNetworks (10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8): shop/web (8.8.8.8)",
    ],
  ],
  [
    "a ClusterRole that is gone",
    "control-plane",
    (cluster) => cluster.remove("ClusterRole", "mesh-system-policy"),
    ["error l5d-existence-cr: missing ClusterRoles: mesh-system-policy"],
  ],
  [
    "an issuer that is not the anchors'",
    "control-plane",
    (cluster) => {
      const other = createIdentityCredentials(
        { namespace: "mesh-system", trustDomain: "cluster.local" },
        Date.now(),
      );
      cluster.edit<ConfigMap>("ConfigMap", "mesh-identity-trust-roots", (roots) => {
        roots.data!["ca-bundle.crt"] = other.trustAnchors;
      });
    },
    [
      "error l5d-identity-issuer-cert-issued-by-trust-anchor: issuer CN=identity.mesh-system.cluster.local (serial *): no trust anchor signed it",
    ],
  ],
  [
    "an issuer key that is not a key",
    "control-plane",
    (cluster) =>
      cluster.edit<Secret>("Secret", "mesh-identity-issuer", (secret) => {
        secret.data!["key.pem"] = secret.data!["crt.pem"]!;
      }),
    ["error l5d-identity-cert-config-valid: *"],
  ],
  [
    "a webhook certificate for another name",
    "control-plane",
    (cluster) =>
      cluster.edit<Secret>("Secret", "mesh-proxy-injector-k8s-tls", (secret) => {
        delete secret.data!["tls.crt"];
      }),
    [
      "error l5d-proxy-injector-webhook-cert-valid: Secret mesh-system/mesh-proxy-injector-k8s-tls has no key tls.crt",
    ],
  ],
  [
    "another version of the control plane",
    "control-plane",
    (cluster) =>
      cluster.edit("Deployment", "mesh-destination", ({ metadata }) => {
        metadata.labels!["app.kubernetes.io/version"] = "0.0.1";
      }),
    [`warning l5d-version-control: control plane running 0.0.1 but cli running ${VERSION}`],
  ],
  [
    "a proxy that is not ready",
    "data-plane",
    (cluster) =>
      cluster.edit<Pod>("Pod", "web", (pod) => {
        pod.status!.initContainerStatuses![1]!.ready = false;
      }),
    ["error l5d-data-plane-ready: these proxies are not ready: shop/web"],
  ],
  [
    "a pod with old anchors, an old proxy and a misplaced label",
    "data-plane",
    (cluster) =>
      cluster.edit<Pod>("Pod", "web", (pod) => {
        pod.spec.initContainers![1]!.env = [];
        pod.metadata.annotations!["linkerd.io/proxy-version"] = "0.0.1";
        pod.metadata.labels!["linkerd.io/inject"] = "enabled";
      }),
    [
      "warning l5d-identity-data-plane-proxies-certs-match-ca: these pods were started with other trust anchors and must be restarted: shop/web",
      `warning l5d-data-plane-cli-version: these proxies are not of version ${VERSION}: shop/web (0.0.1)`,
      "warning l5d-data-plane-pod-labels: these labels have no effect; they are annotations: shop/web has linkerd.io/inject",
    ],
  ],
  [
    "a Service that calls a port opaque which its pod does not",
    "data-plane",
    (cluster) =>
      cluster.put({
        apiVersion: "v1",
        kind: "Service",
        metadata: {
          name: "db",
          namespace: "shop",
          annotations: { "config.linkerd.io/opaque-ports": "7777" },
        },
        spec: {
          clusterIP: "10.96.0.50",
          selector: { app: "web" },
          ports: [{ port: 7777, targetPort: 7000 }],
        },
      } as Service),
    [
      "warning linkerd-opaque-ports-definition: these Services and their pods disagree on opaque ports: shop/db port 7777 and web",
    ],
  ],
  [
    "misspelt annotations on a Service and a namespace, but not those of the mesh itself",
    "data-plane",
    (cluster) => {
      const annotations = { "retry.linkerd.io/htpp": "5xx" };
      for (const namespace of ["shop", "mesh-system"])
        cluster.put({
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: "db", namespace, annotations },
          spec: { clusterIP: "10.96.0.50" },
        } as Service);
      cluster.edit<KubeObject>("Namespace", "shop", ({ metadata }) => {
        metadata.annotations = { ...metadata.annotations, "config.linkerd.io/opaque-port": "25" };
      });
    },
    [
      'warning mesh-annotations: these annotations have no effect: Namespace shop: metadata.annotations["config.linkerd.io/opaque-port"]: unknown annotation; did you mean config.linkerd.io/opaque-ports?, Service shop/db: metadata.annotations["retry.linkerd.io/htpp"]: it is not known and has no effect; did you mean retry.linkerd.io/http?',
    ],
  ],
  [
    "a policy that was stored unchecked",
    "data-plane",
    (cluster) =>
      cluster.put({
        apiVersion: "policy.linkerd.io/v1beta3",
        kind: "Server",
        metadata: { name: "web", namespace: "shop" },
        spec: { podSelector: {}, port: 70_000 },
      } as KubeObject),
    [
      "error mesh-policies: these cannot be applied: Server shop/web: spec.port: expected a port by number (1-65535) or by name, got 70000",
    ],
  ],
  [
    "routes in whatever version the cluster serves, and such as have no effect",
    "data-plane",
    (cluster) => {
      const parentRefs = [{ group: "", kind: "Service", name: "web" }];
      for (const version of ["v1", "v1alpha2"])
        cluster.put({
          apiVersion: `gateway.networking.k8s.io/${version}`,
          kind: version === "v1" ? "TLSRoute" : "TCPRoute",
          metadata: { name: "web", namespace: "shop" },
          spec: { parentRefs, rules: [{}, {}] },
        } as KubeObject);
      cluster.put({
        apiVersion: "gateway.networking.k8s.io/v1",
        kind: "GRPCRoute",
        metadata: { name: "web", namespace: "shop" },
        spec: { parentRefs, rules: [{ filters: [{ type: "Compress" }] }] },
      } as KubeObject);
    },
    [
      "error mesh-policies: these cannot be applied: TLSRoute shop/web: spec.rules: expected one rule, got 2, TCPRoute shop/web: spec.rules: expected one rule, got 2",
      "warning mesh-policies-strange: these say something else than is probably meant: GRPCRoute shop/web: spec.rules[0].filters[0].type: the mesh does not accept the route: the mesh has no filter Compress; it has RequestHeaderModifier, ResponseHeaderModifier, RequestMirror",
    ],
  ],
  [
    "misspelt annotations on a pod of its own and on a Job, but not again on what a workload made",
    "data-plane",
    (cluster) => {
      const annotations = { "config.linkerd.io/proxy-cpu-limt": "1" };
      const spec = { containers: [{ name: "app" }] };
      for (const ownerReferences of [[], [{ kind: "Job", name: "tidy", controller: true }]])
        cluster.put({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: `p${ownerReferences.length}`, namespace: "shop", annotations, ownerReferences },
          spec,
        } as unknown as KubeObject);
      cluster.put({
        apiVersion: "batch/v1",
        kind: "Job",
        metadata: { name: "tidy", namespace: "shop" },
        spec: { template: { metadata: { annotations }, spec } },
      } as unknown as KubeObject);
    },
    [
      'warning mesh-annotations: these annotations have no effect: Pod shop/p0: metadata.annotations["config.linkerd.io/proxy-cpu-limt"]: unknown annotation; did you mean config.linkerd.io/proxy-cpu-limit?, Job shop/tidy: spec.template.metadata.annotations["config.linkerd.io/proxy-cpu-limt"]: unknown annotation; did you mean config.linkerd.io/proxy-cpu-limit?',
    ],
  ],
  [
    "a TrafficSplit and a Link that nobody looked at",
    "data-plane",
    (cluster) =>
      cluster.put(
        {
          apiVersion: "split.smi-spec.io/v1alpha2",
          kind: "TrafficSplit",
          metadata: { name: "web", namespace: "shop" },
          spec: { service: "web", backends: [{ service: "v2", weight: -1 }] },
        } as KubeObject,
        {
          apiVersion: "multicluster.linkerd.io/v1alpha3",
          kind: "Link",
          metadata: { name: "east", namespace: "shop" },
          spec: { gatewayPort: "70000" },
        } as KubeObject,
      ),
    [
      'error mesh-policies: these cannot be applied: Link shop/east: spec.gatewayPort: expected a number from 1 to 65535 as text, got "70000", TrafficSplit shop/web: spec.backends[0].weight: expected a weight that is not negative, got -1',
    ],
  ],
];

for (const [what, stage, break_, expected] of BROKEN) {
  test(`tells ${what}`, async () => {
    await withCluster(startInstalledCluster, async (cluster) => {
      break_(cluster);
      const found = failures(await check(cluster, stage)).filter((failure) => failure !== NO_GATEWAY);
      assert.is(found.length, expected.length, found.join("\n"));
      found.forEach((failure, index) => {
        const [head, tail] = expected[index]!.split("*") as [string, string | undefined];
        if (tail === undefined) assert.is(failure, head);
        else assert.ok(failure.startsWith(head) && failure.endsWith(tail), failure);
      });
    });
  });
}

test("certificates that end soon warn, ended ones fail", async () => {
  await withCluster(
    () => startInstalledCluster(330 * DAY_MS),
    async (cluster) => {
      assert.equal(
        failures(await check(cluster, "control-plane")).map((failure) => failure.split(":")[0]),
        [
          "warning gateway-api-crd",
          "warning l5d-identity-issuer-cert-not-expiring-soon",
          "warning l5d-proxy-injector-webhook-cert-not-expiring-soon",
          "warning l5d-policy-validator-webhook-cert-not-expiring-soon",
        ],
      );
    },
  );
  await withCluster(
    () => startInstalledCluster(370 * DAY_MS),
    async (cluster) => {
      const last = (await check(cluster, "control-plane")).at(-1)!;
      assert.is(last.anchor, "l5d-identity-issuer-cert-is-time-valid");
      assert.match(last.error!, /expired at/);
    },
  );
});

test("a missing permission names verb and resource", async () => {
  await withCluster(startCluster, async (cluster) => {
    cluster.intercept = (method, path) => {
      if (method === "POST") return { status: 201, body: { status: { allowed: false } } };
      if (method === "PATCH" && path.endsWith("/servers.policy.linkerd.io")) {
        return { status: 403, body: { message: "forbidden", reason: "Forbidden" } };
      }
      return undefined;
    };
    const found = failures(await check(cluster, "before"));
    assert.ok(found.includes("error pre-k8s: not authorized to create deployments.apps"));
    assert.ok(
      found.some((failure) =>
        failure.startsWith(
          "error pre-k8s-cluster-k8s: the API server would refuse:\nCustomResourceDefinition servers.policy.linkerd.io: forbidden",
        ),
      ),
    );
  });
});

test("what may still come up is tried again until it passes", async () => {
  await withCluster(startInstalledCluster, async (cluster) => {
    const status = { readyReplicas: 1 };
    cluster.edit<KubeObject & { status?: object }>("Deployment", "mesh-policy", (d) => delete d.status);
    let asked = 0;
    cluster.intercept = (_, path) => {
      if (path.endsWith("/deployments") && ++asked === 3) {
        cluster.edit<KubeObject & { status?: object }>("Deployment", "mesh-policy", (d) =>
          Object.assign(d, { status }),
        );
      }
      return undefined;
    };
    assert.equal(failures(await check(cluster, "control-plane", { wait: 20_000 })), [NO_GATEWAY]);
    assert.ok(asked >= 3);
  });
});

test("every check has its remedy in the docs", () => {
  const docs = readFileSync(join(packageRoot(), "docs/checks.md"), "utf8");
  const headings = new Set(docs.match(/<a id="([^"]+)"><\/a>/g)?.map((tag) => tag.slice(7, -6)));
  const anchors = new Set(
    Object.values(STAGES).flatMap((stage) =>
      stage.flatMap(({ checks }) => checks.map(({ anchor }) => anchor)),
    ),
  );
  assert.equal(
    [...anchors].filter((anchor) => !headings.has(anchor)),
    [],
  );
  assert.equal(
    [...headings].filter((heading) => !anchors.has(heading)),
    [],
  );
});

test.run();
