// The newcomer's way, whole: from nothing to live traffic of a meshed application, and away again.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";
import { freePort } from "../support/free-port.ts";

const test = suite("demo");
const program = join(packageRoot(), "bin/run.js");
const directory = join(mkdtempSync(join(tmpdir(), "mesh-demo-")), "sandbox");

function mesh(...args: string[]) {
  return spawnSync(process.execPath, [program, ...args], {
    encoding: "utf8",
    env: { ...process.env, KUBECONFIG: join(directory, "kubeconfig") },
    timeout: 150_000,
  });
}

interface Row {
  name: string;
  meshed: string;
  success: number | null;
  rps: number | null;
  tcp_open_connections?: number;
}

test.after(() => {
  mesh("sandbox", "down", "--delete", "--dir", directory);
  rmSync(join(directory, ".."), { recursive: true, force: true });
});

test("without a terminal it prints the check and stat with live numbers, and exits 0", async () => {
  const { status, stdout, stderr } = mesh("demo", "--dir", directory, "--port", String(await freePort()));
  assert.is(status, 0, stdout + stderr);
  for (const command of [
    "$ kubectl mesh sandbox up",
    "$ kubectl mesh check --pre",
    "$ kubectl mesh install --crds | kubectl apply -f -",
    "$ kubectl mesh install | kubectl apply -f -",
    "$ kubectl mesh check\n",
    "$ kubectl get -n demo deploy -o yaml | kubectl mesh inject - | kubectl apply -f -",
    "$ kubectl mesh stat deploy -n demo",
  ]) {
    assert.ok(stdout.includes(command), `${command} in:\n${stdout}`);
  }
  assert.match(stdout, "Status check results are √");
  assert.match(stdout, /^web +1\/1 +\d+\.\d\d% +\d+\.\drps/m);
  assert.match(stdout, `export KUBECONFIG=${join(directory, "kubeconfig")}`);
  assert.match(stdout, "kubectl mesh sandbox down --delete");
  assert.not.match(stdout, "\x1b[");
});

test("the numbers tell the application's story: doughnut votes fail, emoji do not, tally is TCP", () => {
  const rows = JSON.parse(mesh("stat", "deploy", "-n", "demo", "-t", "15s", "-o", "json").stdout) as Row[];
  const of = (name: string) => rows.find((row) => row.name === name)!;
  assert.equal(
    rows.map((row) => [row.name, row.meshed]),
    ["bot", "emoji", "tally", "voting", "web"].map((name) => [name, "1/1"]),
  );
  for (const name of ["web", "voting"]) {
    assert.ok(of(name).success! > 0.5 && of(name).success! < 1, `${name}: ${of(name).success}`);
    assert.ok(of(name).rps! > 1, `${name}: ${of(name).rps}`);
  }
  assert.is(of("tally").success, null);
  assert.ok(of("tally").tcp_open_connections! >= 1);
});

test("identity shows the certificate of the pod's service account", () => {
  const { stdout, stderr, status } = mesh("identity", "-n", "demo", "-l", "app=web", "-o", "json");
  assert.is(status, 0, stderr);
  assert.equal(JSON.parse(stdout)[0].subjectAltNames, [
    "DNS:web.demo.serviceaccount.identity.mesh-system.cluster.local",
  ]);
});

test("a second demo finds everything there and goes on", () => {
  const { status, stdout, stderr } = mesh("demo", "--dir", directory);
  assert.is(status, 0, stdout + stderr);
  assert.match(stdout, "already installed");
  assert.match(stdout, "it is there already, and meshed");
});

test("down --delete leaves nothing", () => {
  assert.is(mesh("sandbox", "down", "--delete", "--dir", directory).status, 0);
  assert.is(existsSync(directory), false);
});

test.run();
