// The objects that an installation consists of.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  checkIdentityCredentials,
  controlPlane,
  createAllWebhookCredentials,
  createIdentityCredentials,
  customResourceDefinitions,
  DEFAULT_VALUES,
  HA_VALUES,
  type Manifest,
  mergeTrees,
  readValues,
} from "../../src/manifests/index.ts";
import { createRoot, verifyChain } from "../../src/pki/index.ts";

const now = Date.now();
const mesh = { namespace: "mesh-system", trustDomain: "cluster.local" };
const identity = createIdentityCredentials(mesh, now);
const webhooks = createAllWebhookCredentials("mesh-system", now);
const values = { ...DEFAULT_VALUES, identityTrustAnchorsPEM: identity.trustAnchors };
const objects = controlPlane({ values, identity, webhooks });

interface PodSpec {
  serviceAccountName: string;
  automountServiceAccountToken: boolean;
  containers: Container[];
  initContainers: Container[];
  volumes: { name: string }[];
}
interface Container {
  name: string;
  command: string[];
  env: { name: string; value?: string }[];
  ports: { name: string; containerPort: number }[];
  securityContext: {
    runAsNonRoot: boolean;
    readOnlyRootFilesystem: boolean;
    capabilities: { drop: string[] };
  };
  startupProbe?: unknown;
  volumeMounts: { name: string }[];
}
function find(kind: string, name: string): Manifest {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (!found) throw new Error(`there is no ${kind} ${name}`);
  return found;
}
const podOf = (name: string): PodSpec =>
  (find("Deployment", name)["spec"] as { template: { spec: PodSpec } }).template.spec;
const envOf = (container: Container) =>
  Object.fromEntries(container.env.map(({ name, value }) => [name, value]));

test("where a CNI plugin lays the rules the control plane needs no rights at all", () => {
  const all = controlPlane({ values: { ...values, cniEnabled: true }, identity, webhooks });
  const [namespace] = all;
  assert.is(namespace!.metadata.labels?.["pod-security.kubernetes.io/enforce"], "restricted");
  const pods = all.flatMap(({ kind, ...rest }) =>
    kind === "Deployment" ? [(rest["spec"] as { template: { spec: PodSpec } }).template.spec] : [],
  );
  assert.is(pods.length, 5);
  for (const { initContainers, containers } of pods) {
    assert.equal(
      initContainers.map(({ name }) => name),
      ["linkerd-network-validator", "linkerd-proxy"],
    );
    for (const { securityContext } of [...initContainers, ...containers]) {
      assert.is(securityContext.runAsNonRoot, true);
      assert.equal(securityContext.capabilities, { drop: ["ALL"] });
    }
  }
});

test("every object of an installation", () => {
  assert.equal(
    objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`),
    [
      "Namespace mesh-system",
      "ServiceAccount mesh-identity",
      "ClusterRole mesh-system-identity",
      "ClusterRoleBinding mesh-system-identity",
      "Role mesh-identity",
      "RoleBinding mesh-identity",
      "ServiceAccount mesh-destination",
      "ClusterRole mesh-system-destination",
      "ClusterRoleBinding mesh-system-destination",
      "Role mesh-destination",
      "RoleBinding mesh-destination",
      "ServiceAccount mesh-policy",
      "ClusterRole mesh-system-policy",
      "ClusterRoleBinding mesh-system-policy",
      "Role mesh-policy",
      "RoleBinding mesh-policy",
      "ServiceAccount mesh-proxy-injector",
      "ClusterRole mesh-system-proxy-injector",
      "ClusterRoleBinding mesh-system-proxy-injector",
      "Role mesh-proxy-injector",
      "RoleBinding mesh-proxy-injector",
      "ServiceAccount mesh-metrics-api",
      "ClusterRole mesh-system-metrics-api",
      "ClusterRoleBinding mesh-system-metrics-api",
      "ConfigMap mesh-config",
      "ConfigMap mesh-identity-trust-roots",
      "Secret mesh-identity-issuer",
      "Secret mesh-proxy-injector-k8s-tls",
      "Secret mesh-policy-validator-k8s-tls",
      "Service mesh-identity",
      "Service mesh-identity-headless",
      "Service mesh-dst",
      "Service mesh-dst-headless",
      "Service mesh-policy",
      "Service mesh-proxy-injector",
      "Service mesh-metrics-api",
      "Service mesh-policy-validator",
      "Deployment mesh-identity",
      "Deployment mesh-destination",
      "Deployment mesh-policy",
      "Deployment mesh-proxy-injector",
      "Deployment mesh-metrics-api",
      "MutatingWebhookConfiguration mesh-proxy-injector-webhook-config",
      "ValidatingWebhookConfiguration mesh-policy-validator-webhook-config",
    ],
  );
});

test("each controller runs its own entry point beside its proxy, with no rights it does not need", () => {
  for (const component of ["identity", "destination", "policy", "proxy-injector", "metrics-api"]) {
    const spec = podOf(`mesh-${component}`);
    assert.equal(
      [...spec.initContainers, ...spec.containers].map(({ name }) => name),
      ["linkerd-init", "linkerd-proxy", component],
    );
    const controller = spec.containers[0]!;
    assert.is(controller.command[0], "node");
    assert.is(controller.command.at(-1), `/app/dist/entry/${component}.js`);
    assert.is(controller.securityContext.runAsNonRoot, true);
    assert.is(controller.securityContext.readOnlyRootFilesystem, true);
    assert.equal(controller.securityContext.capabilities, { drop: ["ALL"] });
    assert.is(spec.serviceAccountName, `mesh-${component}`);
    // The API token is the controller's alone.
    assert.is(spec.automountServiceAccountToken, false);
    assert.not.ok(spec.initContainers[1]!.volumeMounts.some(({ name }) => name === "kube-api-access"));
    assert.ok(controller.volumeMounts.some(({ name }) => name === "kube-api-access"));
    // All volumes that are mounted exist.
    const volumes = spec.volumes.map(({ name }) => name);
    for (const { volumeMounts } of [...spec.initContainers, ...spec.containers]) {
      for (const { name } of volumeMounts) assert.ok(volumes.includes(name), `${component}: ${name}`);
    }
  }
});

test("a component's own proxy dials it on the loopback interface", () => {
  const proxy = (name: string) => envOf(podOf(name).initContainers[1]!);
  assert.is(proxy("mesh-identity")["LINKERD2_PROXY_IDENTITY_SVC_ADDR"], "localhost.:8080");
  assert.is(proxy("mesh-destination")["LINKERD2_PROXY_DESTINATION_SVC_ADDR"], "localhost.:8086");
  assert.is(proxy("mesh-policy")["LINKERD2_PROXY_POLICY_SVC_ADDR"], "localhost.:8090");
  assert.is(
    proxy("mesh-proxy-injector")["LINKERD2_PROXY_POLICY_SVC_ADDR"],
    "mesh-policy.mesh-system.svc.cluster.local.:8090",
  );
  assert.is(podOf("mesh-identity").initContainers[1]!.startupProbe, undefined);
});

test("new credentials are a chain that the identity controller will accept", () => {
  const issuer = new X509Certificate(identity.issuerCertificate);
  const result = verifyChain(issuer, [], [new X509Certificate(identity.trustAnchors)], now);
  assert.ok(result.ok);
  assert.ok(issuer.checkPrivateKey(createPrivateKey(identity.issuerKey)));
  assert.equal(checkIdentityCredentials(identity, now), identity);
});

test("the user's own credentials are refused when they do not fit, with the reason", () => {
  const other = createIdentityCredentials(mesh, now);
  for (const [given, message] of [
    [{ ...identity, trustAnchors: "x" }, /the trust anchors cannot be used: expected at least one PEM/],
    [{ ...identity, issuerKey: "x" }, /the issuer key cannot be used: expected a PEM private key/],
    [{ ...identity, issuerKey: other.issuerKey }, /does not belong to the issuer certificate/],
    [{ ...identity, trustAnchors: other.trustAnchors }, /does not chain to the trust anchors/],
  ] as const) {
    assert.throws(() => checkIdentityCredentials(given, now), message);
  }
  const old = createRoot({ commonName: "old", lifetimeMs: 1000, now: now - 86_400_000 });
  const expired = { trustAnchors: old.pem, issuerCertificate: old.pem, issuerKey: old.keyPem };
  assert.throws(() => checkIdentityCredentials(expired, now), /expired/);
});

test("no private key leaves its Secret", () => {
  const text = JSON.stringify(objects.filter(({ kind }) => kind !== "Secret"));
  assert.not.match(text, "PRIVATE KEY");
  assert.not.ok(text.includes(Buffer.from("-----BEGIN PRIVATE KEY").toString("base64").slice(0, 20)));
});

interface Hook {
  name: string;
  clientConfig: { caBundle: string; service: { name: string } };
  namespaceSelector: { matchExpressions: { key: string; values?: string[] }[] };
  failurePolicy: string;
  rules: { operations: string[]; apiGroups: string[]; resources: string[] }[];
}

const hooksOf = (kind: string, name: string) => find(kind, name)["webhooks"] as Hook[];
const INJECTOR = ["MutatingWebhookConfiguration", "mesh-proxy-injector-webhook-config"] as const;
const VALIDATOR = ["ValidatingWebhookConfiguration", "mesh-policy-validator-webhook-config"] as const;

test("each webhook trusts its server's certificate and leaves the mesh alone", () => {
  for (const [[kind, name], service, { certificate }] of [
    [INJECTOR, "mesh-proxy-injector", webhooks.proxyInjector],
    [VALIDATOR, "mesh-policy-validator", webhooks.policyValidator],
  ] as const) {
    for (const hook of hooksOf(kind, name)) {
      const ca = new X509Certificate(Buffer.from(hook.clientConfig.caBundle, "base64"));
      const server = new X509Certificate(certificate);
      assert.ok(verifyChain(server, [], [ca], now).ok);
      assert.is(hook.clientConfig.service.name, service);
      assert.is(server.checkHost(`${service}.mesh-system.svc`), `${service}.mesh-system.svc`);
      const excluded = hook.namespaceSelector.matchExpressions.find(
        ({ key }) => key === "config.linkerd.io/admission-webhooks",
      );
      assert.equal(excluded?.values, ["disabled"]);
    }
  }
  const labels = find("Namespace", "mesh-system").metadata.labels!;
  assert.is(labels["config.linkerd.io/admission-webhooks"], "disabled");
  const [injector] = hooksOf(...INJECTOR);
  assert.ok(injector!.namespaceSelector.matchExpressions.some(({ values: v }) => v?.includes("kube-system")));
});

test("the validating webhook is asked about every kind, and only kinds of the mesh can wait for it", () => {
  const hooks = hooksOf(...VALIDATOR);
  const asked = hooks.flatMap(({ rules }) =>
    rules.flatMap(({ apiGroups, resources }) => resources.map((resource) => `${resource}.${apiGroups[0]}`)),
  );
  for (const kind of [
    "servers.policy.linkerd.io",
    "serverauthorizations.policy.linkerd.io",
    "authorizationpolicies.policy.linkerd.io",
    "meshtlsauthentications.policy.linkerd.io",
    "networkauthentications.policy.linkerd.io",
    "httproutes.policy.linkerd.io",
    "httplocalratelimitpolicies.policy.linkerd.io",
    "egressnetworks.policy.linkerd.io",
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "tlsroutes.gateway.networking.k8s.io",
    "tcproutes.gateway.networking.k8s.io",
    "serviceprofiles.linkerd.io",
    "externalworkloads.workload.linkerd.io",
    "trafficsplits.split.smi-spec.io",
    "links.multicluster.linkerd.io",
    "services.",
    "namespaces.",
    "deployments.apps",
    "cronjobs.batch",
  ])
    assert.ok(asked.includes(kind), kind);
  for (const { rules } of hooks)
    for (const { operations } of rules) assert.equal(operations, ["CREATE", "UPDATE"]);
  // Nothing of Kubernetes' own is held up when the mesh does not answer, whatever the policy.
  const strict = controlPlane({
    values: readValues(mergeTrees(values, { webhookFailurePolicy: "Fail" })),
    identity,
    webhooks,
  }).find(({ kind }) => kind === "ValidatingWebhookConfiguration")!["webhooks"] as Hook[];
  assert.equal(
    strict.map(({ failurePolicy }) => failurePolicy),
    ["Fail", "Fail", "Ignore"],
  );
});

test("custom resource definitions have Linkerd's groups, kinds and stored versions", () => {
  const definitions = customResourceDefinitions("mesh-system");
  assert.equal(
    definitions.map(({ metadata, spec }) => `${metadata.name} ${spec.versions.find((v) => v.storage)?.name}`),
    [
      "servers.policy.linkerd.io v1beta3",
      "serverauthorizations.policy.linkerd.io v1beta1",
      "authorizationpolicies.policy.linkerd.io v1alpha1",
      "meshtlsauthentications.policy.linkerd.io v1alpha1",
      "networkauthentications.policy.linkerd.io v1alpha1",
      "httproutes.policy.linkerd.io v1beta3",
      "httplocalratelimitpolicies.policy.linkerd.io v1alpha1",
      "egressnetworks.policy.linkerd.io v1alpha1",
      "serviceprofiles.linkerd.io v1alpha2",
      "externalworkloads.workload.linkerd.io v1beta1",
    ],
  );
  const also = customResourceDefinitions("mesh-system", ["multicluster", "smi"]).slice(definitions.length);
  assert.equal(
    also.map(({ metadata }) => metadata.name),
    ["links.multicluster.linkerd.io", "trafficsplits.split.smi-spec.io"],
  );
  for (const definition of [...definitions, ...also])
    assertStructural(definition.spec, definition.metadata.name);
});

/** Every schema node has a type, or says that it is an int-or-string (apiextensions' structural rule). */
function assertStructural(node: unknown, at: string): void {
  if (typeof node !== "object" || node === null) return;
  for (const [key, value] of Object.entries(node)) {
    const schemas =
      key === "properties"
        ? Object.entries(value as object)
        : key === "items" || key === "additionalProperties" || key === "openAPIV3Schema"
          ? [[key, value]]
          : [];
    for (const [name, schema] of schemas as [string, Record<string, unknown>][]) {
      assert.ok(schema["type"] !== undefined || schema["x-kubernetes-int-or-string"], `${at}.${name}`);
    }
    assertStructural(value, `${at}.${key}`);
  }
}

test("with high availability, every controller has three replicas apart, a budget, and strict webhooks", () => {
  const ha = readValues(mergeTrees(HA_VALUES, { identityTrustAnchorsPEM: identity.trustAnchors }));
  const rendered = controlPlane({ values: ha, identity, webhooks });
  const of = (kind: string) => rendered.filter((object) => object.kind === kind);
  const deployments = of("Deployment");
  assert.ok(deployments.length >= 5);
  assert.equal(
    of("PodDisruptionBudget").map(({ metadata }) => metadata.name),
    deployments.map(({ metadata }) => metadata.name),
  );
  for (const deployment of deployments) {
    const { spec, metadata } = deployment as unknown as {
      metadata: { name: string };
      spec: {
        replicas: number;
        strategy: object;
        selector: { matchLabels: Record<string, string> };
        template: {
          metadata: { labels: Record<string, string> };
          spec: {
            affinity: {
              podAntiAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: {
                  topologyKey: string;
                  labelSelector: object;
                }[];
              };
            };
            containers: { resources: object }[];
            initContainers: { name: string; resources: { requests: object } }[];
          };
        };
      };
    };
    assert.is(spec.replicas, 3);
    assert.equal(spec.strategy, {
      type: "RollingUpdate",
      rollingUpdate: { maxUnavailable: 1, maxSurge: "25%" },
    });
    const [apart] =
      spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    assert.is(apart!.topologyKey, "kubernetes.io/hostname");
    assert.equal(apart!.labelSelector, spec.selector);
    const budget = of("PodDisruptionBudget").find((each) => each.metadata.name === metadata.name)!;
    assert.equal(budget["spec"], { maxUnavailable: 1, selector: spec.selector });
    assert.equal(spec.template.spec.containers[0]!.resources, {
      requests: { cpu: "100m", memory: "100Mi" },
      limits: { memory: "512Mi" },
    });
    const proxy = spec.template.spec.initContainers.find(({ name }) => name === "linkerd-proxy");
    assert.equal(proxy!.resources.requests, { cpu: "100m", memory: "40Mi" });
    for (const [key, value] of Object.entries(spec.selector.matchLabels))
      assert.is(spec.template.metadata.labels[key], value);
  }
  for (const configuration of [
    ...of("MutatingWebhookConfiguration"),
    ...of("ValidatingWebhookConfiguration"),
  ])
    for (const { failurePolicy } of (configuration["webhooks"] as Hook[]).filter(
      ({ name }) => name !== "linkerd-annotation-validator.linkerd.io",
    ))
      assert.is(failurePolicy, "Fail");
  assert.is(
    controlPlane({ values, identity, webhooks }).filter(({ kind }) => kind === "PodDisruptionBudget").length,
    0,
    "one replica could never be moved under a budget",
  );
});

test("a webhook Secret of somebody else is neither installed nor renewed, and its CA is trusted", () => {
  const settings = { externalSecret: true, caBundle: webhooks.proxyInjector.caBundle };
  const external = readValues(mergeTrees(values, { proxyInjector: settings, policyValidator: settings }));
  const rendered = controlPlane({ values: external, identity, webhooks });
  const names = rendered.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  for (const name of ["proxy-injector", "policy-validator"])
    assert.not.ok(names.includes(`Secret mesh-${name}-k8s-tls`));
  assert.not.ok(names.includes("Role mesh-proxy-injector"), "no right to write what is not ours");
  const text = JSON.stringify(rendered);
  assert.not.match(text, /MESH_WEBHOOK_CERTIFICATE_LIFETIME/);
  assert.not.match(text, /webhookconfigurations"/);
  assert.ok(text.includes(Buffer.from(settings.caBundle).toString("base64")));
  assert.match(JSON.stringify(objects), /MESH_WEBHOOK_CERTIFICATE_LIFETIME","value":"8760h"/);
});

test.run();
