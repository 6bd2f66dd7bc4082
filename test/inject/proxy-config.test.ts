// What injection writes is what the proxy reads: both sides of the environment in one test.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { applyPatch, injectPod, type LocalComponent, type PodTemplate } from "../../src/inject/index.ts";
import { createIdentityCredentials, DEFAULT_VALUES } from "../../src/manifests/index.ts";
import { readConfig } from "../../src/proxy/config.ts";

const FIELDS: Record<string, string> = {
  "metadata.name": "web-0",
  "metadata.namespace": "shop",
  "spec.nodeName": "node-0",
  "spec.serviceAccountName": "web",
  "status.podIPs": "10.244.0.9",
};

/** The environment as the kubelet hands it to the container. */
function environment(
  local: LocalComponent | undefined,
  annotations: Record<string, string>,
): NodeJS.ProcessEnv {
  const { trustAnchors } = createIdentityCredentials(
    { namespace: "mesh-system", trustDomain: "cluster.local" },
    Date.now(),
  );
  const template: PodTemplate = {
    metadata: { annotations },
    spec: { containers: [{ name: "web", ports: [{ containerPort: 8080 }, { containerPort: 3306 }] }] },
  };
  const { operations, problems } = injectPod({
    template,
    path: "",
    namespace: { name: "shop" },
    values: { ...DEFAULT_VALUES, identityTrustAnchorsPEM: trustAnchors },
    origin: "cli",
    createdBy: "test",
    local,
    mountTrustRoots: local !== undefined,
  });
  assert.equal(problems, []);
  const proxy = applyPatch(template, operations).spec!.initContainers![1]!;
  const env: Record<string, string> = {};
  for (const { name, value, valueFrom } of proxy["env"] as {
    name: string;
    value?: string;
    valueFrom?: { fieldRef: { fieldPath: string } };
  }[]) {
    env[name] = valueFrom
      ? FIELDS[valueFrom.fieldRef.fieldPath]!
      : value!.replace(/\$\((\w+)\)/g, (whole, variable: string) => env[variable] ?? whole);
  }
  return env;
}

test("the proxy reads every variable that injection writes, and misses none", () => {
  const all = {
    "config.linkerd.io/access-log": "json",
    "config.linkerd.io/shutdown-grace-period": "30s",
    "config.linkerd.io/proxy-admin-shutdown": "enabled",
    "config.linkerd.io/proxy-disable-inbound-protocol-detect-timeout": "true",
    "config.linkerd.io/proxy-disable-outbound-protocol-detect-timeout": "true",
    "config.linkerd.io/proxy-require-identity-inbound-ports": "8080",
    "config.linkerd.io/proxy-metrics-hostname-labels": "true",
    "config.linkerd.io/proxy-cpu-ratio-limit": "0.5",
    "config.linkerd.io/default-inbound-policy": "cluster-authenticated",
    "linkerd.io/inject": "ingress",
  };
  for (const [local, annotations] of [
    [undefined, {}],
    [undefined, all],
    ["identity", {}],
    ["destination", {}],
    ["policy", {}],
  ] as const) {
    const warnings: string[] = [];
    const config = readConfig(environment(local, annotations), (message) => warnings.push(message));
    assert.equal(warnings, []);
    assert.is(config.identity.localName, "web.shop.serviceaccount.identity.mesh-system.cluster.local");
    assert.equal(config.inbound.ports, [3306, 8080]);
    assert.equal(config.inbound.ips, ["10.244.0.9"]);
  }
});

test("a pod reaches the control plane by identity, a component itself without", () => {
  const app = readConfig(environment(undefined, {}), () => {});
  assert.equal(app.identity.service, {
    host: "mesh-identity-headless.mesh-system.svc.cluster.local.",
    port: 8080,
    name: "mesh-identity.mesh-system.serviceaccount.identity.mesh-system.cluster.local",
  });
  const own = readConfig(environment("identity", {}), () => {});
  assert.is(own.identity.service.name, undefined);
  assert.is(own.identity.service.port, 8080);
});

test.run();
