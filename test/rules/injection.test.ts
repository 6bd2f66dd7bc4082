// Whether a pod is injected, and what forbids it.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decideInjection, type InjectionFacts } from "../../src/rules/injection.ts";
import { Trace } from "../../src/rules/trace.ts";

const facts: InjectionFacts = {
  origin: "webhook",
  supported: true,
  namespaceAnnotation: "enabled",
  hostNetwork: false,
  containers: [{ name: "web", image: "web:1" }],
  initContainers: [],
  udpPorts: false,
  tokenProjected: true,
  automountToken: true,
};

const verdict = (changes: Partial<InjectionFacts>) => {
  const { inject, reasons, annotationAt } = decideInjection({ ...facts, ...changes });
  return inject ? "inject" : `${reasons.join("+")}@${annotationAt}`;
};

test("the webhook's truth table of namespace and workload annotations", () => {
  const off = "injection_disable_annotation_present@workload";
  const absent = "injection_enable_annotation_absent@";
  const badNs = "invalid_inject_annotation_at_ns@namespace";
  const badPod = "invalid_inject_annotation_at_workload@workload";
  const columns = [undefined, "enabled", "ingress", "disabled", "maybe"];
  const rows: [string | undefined, string[]][] = [
    ["enabled", ["inject", "inject", "inject", off, badPod]],
    ["ingress", ["inject", "inject", "inject", off, badPod]],
    ["disabled", [absent, "inject", "inject", absent, badPod]],
    [undefined, [absent, "inject", "inject", absent, badPod]],
    ["yes", [badNs, badNs, badNs, badNs, badNs]],
  ];
  for (const [namespaceAnnotation, expected] of rows) {
    assert.equal(
      columns.map((workloadAnnotation) => verdict({ namespaceAnnotation, workloadAnnotation })),
      expected,
      `namespace ${namespaceAnnotation}`,
    );
  }
});

test("the command line injects unless the workload says no", () => {
  const cli = { origin: "cli", namespaceAnnotation: undefined } as const;
  assert.is(verdict(cli), "inject");
  assert.is(
    verdict({ ...cli, workloadAnnotation: "disabled" }),
    "injection_disable_annotation_present@workload",
  );
});

test("what forbids injection whatever the annotations say", () => {
  const cases: [Partial<InjectionFacts>, string][] = [
    [{ hostNetwork: true }, "host_network_enabled"],
    [{ supported: false }, "unsupported_resource"],
    [{ containers: [{ name: "linkerd-proxy" }] }, "sidecar_already_exists"],
    [{ initContainers: [{ name: "linkerd-proxy" }] }, "sidecar_already_exists"],
    [{ initContainers: [{ name: "istio-init" }] }, "sidecar_already_exists"],
    [{ containers: [{ name: "x", image: "docker.io/istio/proxyv2:1.2" }] }, "sidecar_already_exists"],
    [{ tokenProjected: false, automountToken: false }, "disabled_automount_service_account_token_account"],
    [
      { hostNetwork: true, containers: [{ name: "istio-proxy" }] },
      "host_network_enabled+sidecar_already_exists",
    ],
  ];
  for (const [changes, expected] of cases) assert.is(verdict(changes), `${expected}@namespace`);
});

test("UDP ports only warn", () => {
  assert.equal(decideInjection({ ...facts, udpPorts: true }).warnings, ["udp_ports_enabled"]);
  assert.is(verdict({ udpPorts: true }), "inject");
});

test("ingress mode is the workload's wish, else the namespace's", () => {
  const ingress = (namespaceAnnotation: string, workloadAnnotation?: string) =>
    decideInjection({ ...facts, namespaceAnnotation, workloadAnnotation }).ingress;
  assert.is(ingress("ingress"), true);
  assert.is(ingress("ingress", "enabled"), false);
  assert.is(ingress("enabled", "ingress"), true);
});

test("the trace tells every step", () => {
  const trace = new Trace();
  decideInjection({ ...facts, hostNetwork: true }, trace);
  assert.equal(
    trace.steps.map((step) => `${step.rule}: ${step.matched}`),
    [
      "kind: false",
      "host network: true",
      "existing sidecar: false",
      "service account token: false",
      "annotation linkerd.io/inject: true",
    ],
  );
});

test.run();
