// `kubectl mesh inject` and `uninject` as processes over files and directories.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import { createIdentityCredentials } from "../../src/manifests/index.ts";
import { runCommand } from "../support/run-command.ts";

const directory = mkdtempSync(join(tmpdir(), "mesh-inject-"));
const file = (name: string, text: string) => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};
const WEB = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers: [{name: web, image: web:1, ports: [{containerPort: 53, protocol: UDP}]}]
`;

test("inject annotates, tells what it did on stderr, and uninject takes it back", async () => {
  const path = file("web.yaml", WEB);
  const injected = await runCommand(
    "inject",
    path,
    "--skip-outbound-ports",
    "25",
    "--opaque-ports",
    "",
    "--enable-debug-sidecar",
  );
  assert.is(injected.code, 0);
  assert.is(
    injected.stderr,
    "\n‼ UDP ports bypass the mesh in deployment/web\n\ndeployment/web annotated\n\n",
  );
  const [{ spec }] = parseAllDocuments(injected.stdout).map((document) => document.toJS());
  assert.equal(spec.template.metadata.annotations, {
    "linkerd.io/inject": "enabled",
    "config.linkerd.io/skip-outbound-ports": "25",
    "config.linkerd.io/opaque-ports": "",
    "config.linkerd.io/enable-debug-sidecar": "true",
  });
  const plain = await runCommand("inject", path);
  const back = await runCommand("uninject", file("injected.yaml", plain.stdout));
  assert.is(back.stderr, "\ndeployment/web uninjected\n\n");
  assert.is(back.stdout, WEB);
});

test("a directory is read whole, and -o json is one document", async () => {
  rmSync(directory, { recursive: true });
  const nested = mkdtempSync(directory);
  writeFileSync(join(nested, "a.yaml"), WEB);
  writeFileSync(join(nested, "b.json"), '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}');
  writeFileSync(join(nested, "notes.txt"), "not a manifest");
  const { stdout, code } = await runCommand("inject", nested, "-o", "json");
  assert.is(code, 0);
  assert.equal(
    JSON.parse(stdout).items.map((item: { kind: string }) => item.kind),
    ["Deployment", "ConfigMap"],
  );
  const yaml = await runCommand("inject", nested);
  assert.is(parseAllDocuments(yaml.stdout).length, 2);
  rmSync(nested, { recursive: true });
});

test("manual injection without a cluster needs trust anchors, and writes them into the proxy", async () => {
  const nested = mkdtempSync(directory);
  const path = join(nested, "web.yaml");
  writeFileSync(path, WEB);
  const without = await runCommand("inject", "--manual", "--ignore-cluster", path);
  assert.is(without.code, 2);
  assert.match(without.stderr, "--identity-trust-anchors-file FILE");
  const { trustAnchors } = createIdentityCredentials({ namespace: "m", trustDomain: "d" }, Date.now());
  const roots = join(nested, "roots.crt");
  writeFileSync(roots, trustAnchors);
  const injected = await runCommand(
    "inject",
    "--manual",
    "--ignore-cluster",
    "--identity-trust-anchors-file",
    roots,
    path,
  );
  assert.is(injected.code, 0);
  const [{ spec }] = parseAllDocuments(injected.stdout).map((document) => document.toJS());
  const { env } = spec.template.spec.initContainers[1];
  assert.is(
    env.find(({ name }: { name: string }) => name === "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS").value,
    trustAnchors,
  );
  rmSync(nested, { recursive: true });
});

test("bad input is a clear error, and nothing goes to stdout", async () => {
  const nested = mkdtempSync(directory);
  const write = (text: string) => {
    const path = join(nested, "input.yaml");
    writeFileSync(path, text);
    return path;
  };
  for (const [text, message] of [
    [`${WEB}---\na: [\n`, /input\.yaml: document 2, line \d+: /],
    [
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
      /failed to inject configmap\/a: this resource cannot be injected/,
    ],
    ["", /failed to inject: the input holds no object/],
    [
      WEB.replace("      containers", "      hostNetwork: true\n      containers"),
      /failed to inject deployment\/web: hostNetwork is enabled/,
    ],
  ] as const) {
    const { code, stdout, stderr } = await runCommand("inject", write(text));
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, message);
  }
  const missing = await runCommand("inject", join(nested, "missing.yaml"));
  assert.match(missing.stderr, "missing.yaml: no such file or directory");
  const insecure = await runCommand("inject", "http://example.com/app.yaml");
  assert.match(insecure.stderr, "not fetched over plain http");
  rmSync(nested, { recursive: true });
});

test.run();
