// `kubectl mesh install` as a process, without a cluster.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import type { KubeObject } from "../../src/kube/index.ts";
import { createIdentityCredentials } from "../../src/manifests/index.ts";
import { type Cluster, startCluster, startInstalledCluster } from "../checks/fake-cluster.ts";
import { runCommand } from "../support/run-command.ts";

const directory = mkdtempSync(join(tmpdir(), "mesh-install-"));
const file = (name: string, text: string) => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

test.after(() => rmSync(directory, { recursive: true }));

async function against(start: () => Promise<Cluster>, ...argv: string[]) {
  const cluster = await start();
  try {
    const kubeconfig = file(
      "kubeconfig",
      JSON.stringify({
        "current-context": "fake",
        contexts: [{ name: "fake", context: { cluster: "fake", user: "fake" } }],
        clusters: [
          {
            name: "fake",
            cluster: { server: cluster.client.config.server, "insecure-skip-tls-verify": true },
          },
        ],
        users: [{ name: "fake", user: {} }],
      }),
    );
    return await runCommand(...argv, "--kubeconfig", kubeconfig);
  } finally {
    await cluster.close();
  }
}

test("--ha sets what a cluster of several nodes wants, and what the user sets wins over it", async () => {
  const { stdout, code } = await runCommand(
    "install",
    "--ignore-cluster",
    "--ha",
    "--set",
    "controllerReplicas=5",
  );
  assert.is(code, 0);
  const objects = parseAllDocuments(stdout).map((document) => document.toJS());
  const deployments = objects.filter(({ kind }) => kind === "Deployment");
  assert.ok(deployments.every(({ spec }) => spec.replicas === 5));
  assert.is(objects.filter(({ kind }) => kind === "PodDisruptionBudget").length, deployments.length);
});

test("without a cluster, install prints manifests with the values that were set", async () => {
  const values = file("values.yaml", "proxy:\n  logLevel: debug\n  uid: 3000\n");
  const { stdout, code } = await runCommand(
    "install",
    "--ignore-cluster",
    "-f",
    values,
    "--set",
    "proxy.uid=4000",
    "--proxy-cpu-request",
    "50m",
    "--cluster-domain",
    "example.org",
  );
  assert.is(code, 0);
  const objects = parseAllDocuments(stdout).map((document) => document.toJS());
  assert.is(objects.length, 44);
  const stored = JSON.parse(objects.find(({ metadata }) => metadata.name === "mesh-config").data.values);
  assert.is(stored.proxy.logLevel, "debug");
  assert.is(stored.proxy.uid, 4000);
  assert.is(stored.proxy.resources.cpu.request, "50m");
  assert.is(stored.clusterDomain, "example.org");
  const crds = await runCommand("install", "--crds", "--ignore-cluster", "-o", "json");
  assert.is(JSON.parse(crds.stdout).items.length, 10);
});

test("definitions of other products are printed for who asks, and never over those that are there", async () => {
  const names = ({ stdout }: { stdout: string }) =>
    JSON.parse(stdout)
      .items.map(({ metadata }: KubeObject) => metadata.name)
      .slice(10);
  const argv = ["install", "--crds", "--with-api", "smi", "--with-api", "multicluster", "-o", "json"];
  const all = ["links.multicluster.linkerd.io", "trafficsplits.split.smi-spec.io"];
  assert.equal(names(await against(startCluster, ...argv)), all);
  const definition = (name: string, labels: Record<string, string>) =>
    ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name, labels },
    }) as KubeObject;
  const beside = await against(
    async () => {
      const cluster = await startCluster();
      cluster.put(definition(all[0]!, { "linkerd.io/control-plane-ns": "mesh-system" }));
      cluster.put(definition(all[1]!, { "linkerd.io/extension": "smi" }));
      return cluster;
    },
    ...argv,
  );
  assert.equal(names(beside), all.slice(0, 1), "the mesh's own is brought up to date");
  assert.match(beside.stderr, "trafficsplits.split.smi-spec.io is there already, from somebody else");
});

test("the user's own certificates are used, and all three are asked for", async () => {
  const identity = createIdentityCredentials({ namespace: "m", trustDomain: "d" }, Date.now());
  const flags = [
    "--identity-trust-anchors-file",
    file("ca.crt", identity.trustAnchors),
    "--identity-issuer-certificate-file",
    file("issuer.crt", identity.issuerCertificate),
    "--identity-issuer-key-file",
    file("issuer.key", identity.issuerKey),
  ];
  const { stdout } = await runCommand("install", "--ignore-cluster", ...flags);
  const secret = parseAllDocuments(stdout)
    .map((d) => d.toJS())
    .find(({ metadata }) => metadata.name === "mesh-identity-issuer");
  assert.is(Buffer.from(secret.data["crt.pem"], "base64").toString(), identity.issuerCertificate);
  const partial = await runCommand("install", "--ignore-cluster", ...flags.slice(0, 2));
  assert.is(partial.code, 2);
  assert.match(partial.stderr, "missing: --identity-issuer-certificate-file, --identity-issuer-key-file");
});

test("wrong values are told by path and nothing is printed", async () => {
  for (const [argv, message] of [
    [["--set", "proxy.uidd=1"], "--set: proxy.uidd: unknown name; did you mean uid?"],
    [["--set", "proxy.uid=x"], "proxy.uid: expected an integer"],
    [["-f", file("bad.yaml", "a: [\n")], "bad.yaml: "],
    [["-f", file("list.yaml", "- a\n")], "expected a map of values"],
    [["-f", "/nonexistent.yaml"], "/nonexistent.yaml: no such file or directory"],
  ] as const) {
    const { code, stdout, stderr } = await runCommand("install", "--ignore-cluster", ...argv);
    assert.is.not(code, 0);
    assert.is(stdout, "");
    assert.match(stderr, message);
  }
});

test("install refuses where it is installed, and where its definitions are missing", async () => {
  const twice = await against(startInstalledCluster, "install");
  assert.is(twice.code, 1);
  assert.is(twice.stdout, "");
  assert.match(twice.stderr, "the mesh is installed already in namespace mesh-system; nothing was changed");
  const early = await against(startCluster, "install", "--apply");
  assert.is(early.code, 1);
  assert.match(early.stderr, "kubectl mesh install --crds | kubectl apply -f -");
});

test("uninstall refuses while pods run with a proxy, unless forced, and names everything cluster-wide", async () => {
  const refused = await against(startInstalledCluster, "uninstall");
  assert.is(refused.code, 1);
  assert.is(refused.stdout, "");
  assert.match(refused.stderr, "1 pod still runs with a proxy: shop/web; nothing was changed");
  const forced = await against(startInstalledCluster, "uninstall", "--force");
  const kinds = parseAllDocuments(forced.stdout).map((document) => document.toJS().kind);
  assert.equal(kinds.slice(0, 2), ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]);
  assert.is(kinds.at(-1), "Namespace");
  assert.is(kinds.length, 23);
  const absent = await against(startCluster, "uninstall");
  assert.match(absent.stderr, "the mesh is not installed in namespace mesh-system");
});

test("check exits with 1 when something fails and 0 when it only warns", async () => {
  const fine = await against(startInstalledCluster, "check", "--wait", "0", "-o", "json");
  assert.is(fine.code, 0);
  assert.is(JSON.parse(fine.stdout).success, true);
  const bad = await against(startCluster, "check", "--wait", "0", "-o", "short");
  assert.is(bad.code, 1);
  assert.match(
    bad.stdout,
    "× 'mesh-config' config map exists\n    ConfigMap mesh-system/mesh-config does not exist\n",
  );
  assert.match(bad.stdout, /Status check results are ×\n$/);
  const junit = await against(startInstalledCluster, "check", "--wait", "0", "-o", "junit", "--proxy");
  assert.match(junit.stdout, /^<\?xml .*\n<testsuites name="kubectl mesh check" tests="\d+" failures="0">/);
  const usage = await runCommand("check", "--wait", "soon");
  assert.is(usage.code, 2);
  const none = await runCommand("check", "--kubeconfig", "/nonexistent");
  assert.is(none.code, 1);
  assert.match(none.stdout, "× can initialize the client\n    cannot read the kubeconfig");
});

test.run();
