// Every command of the README, as it stands there, in a shell: first the newcomer's, then those for a cluster, which
// here is a fresh sandbox.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("README");
const root = packageRoot();
const home = mkdtempSync(join(tmpdir(), "mesh-readme-"));
const state = join(home, ".local/state");

/** The shell blocks, in order. */
const blocks = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```sh\n([\s\S]*?)```/g)].map((m) =>
  m[1]!.trim(),
);
const [newcomer, around, cluster, work, ...others] = blocks as [string, string, string, string];

function shell(script: string, env: NodeJS.ProcessEnv = {}) {
  const bin = join(home, "bin");
  const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", script], {
    cwd: root,
    encoding: "utf8",
    timeout: 180_000,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, HOME: home, XDG_STATE_HOME: state, PATH: `${bin}:${process.env["PATH"]}`, ...env },
  });
  return { status, output: `${stdout}${stderr}`, stdout };
}

test.before(() => {
  // What `npm install --global .` does.
  mkdirSync(join(home, "bin"));
  symlinkSync(join(root, "bin/run.js"), join(home, "bin/kubectl-mesh"));
});

test.after(() => {
  shell("node bin/run.js sandbox down --delete");
  rmSync(home, { recursive: true, force: true });
});

test("the newcomer's commands show a mesh, a look around, and a clean end", () => {
  assert.is(newcomer, "npm ci && npm run demo");
  // The packages are there, or this would not run; and the build is what is being tested.
  const demo = shell("node bin/run.js demo");
  assert.is(demo.status, 0, demo.output);
  const look = shell(around);
  assert.is(look.status, 0, look.output);
  assert.match(look.stdout, /linkerd-proxy|Running/);
  assert.match(look.stdout, /^web +1\/1 +\d/m);
  const left = JSON.parse(shell("node bin/run.js sandbox status -o json").stdout);
  assert.equal([left.state, left.hasState], ["stopped", false]);
});

test("the commands for a cluster work in their order", () => {
  assert.is(shell("node bin/run.js sandbox up").status, 0);
  const env = { KUBECONFIG: join(state, "kubectl-mesh/sandbox/kubeconfig") };
  const app = shell("kubectl create deployment app --image=any -- sleep infinity", env);
  assert.is(app.status, 0, app.output);
  const run = shell(cluster, env);
  assert.is(run.status, 0, run.output);
  assert.match(run.output, /Status check results are √/);
  assert.match(run.output, /deployment\.apps\/app configured/);
});

test("nothing else is promised that this does not run", () => {
  // That one is what runs this very file.
  assert.is(work, "npm ci && npm test");
  assert.equal(others, []);
});

test.run();
