// The built command line as a person meets it: exit codes, pipes, start-up, completion, kubectl's plugin call.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("built command line");
const root = packageRoot();
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
const env = { ...process.env, KUBECONFIG: "/nonexistent", NODE_EXTRA_CA_CERTS: "" };

function mesh(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "bin/run.js"), ...args], {
    encoding: "utf8",
    env,
  });
  return { code: status, stdout, stderr };
}

test("version --client says the same on the fast path and on the long one", () => {
  assert.equal(mesh("version", "--client"), { code: 0, stdout: `Client version: ${version}\n`, stderr: "" });
  assert.is(mesh("version", "--client", "-o", "table").stdout, `Client version: ${version}\n`);
  assert.is(mesh("version", "--client", "--short").stdout, `${version}\n`);
  assert.equal(JSON.parse(mesh("version", "--client", "-o", "json").stdout), { client: version });
});

test("version --client starts within twice the time of bare node", () => {
  const best = (...args: string[]) => {
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 7; i += 1) {
      const started = performance.now();
      spawnSync(process.execPath, args, { env });
      least = Math.min(least, performance.now() - started);
    }
    return least;
  };
  const bare = best("-e", "0");
  const ours = best(join(root, "bin/run.js"), "version", "--client");
  assert.ok(ours <= 2 * bare, `${ours.toFixed(0)} ms against ${bare.toFixed(0)} ms`);
});

test("a wrong command line exits 2, a failure 1, each on stderr with a hint", () => {
  for (const [args, code] of [
    [["nonsense"], 2],
    [["stat", "--nonsense"], 2],
    [["stat"], 2],
    [["stat", "deploy"], 1],
  ] as const) {
    const result = mesh(...args);
    assert.is(result.code, code, args.join(" "));
    assert.is(result.stdout, "");
    assert.match(result.stderr, /^Error: .*\n {2}→ /);
  }
});

test("a reader that leaves early is no failure", () => {
  const command = `"${process.execPath}" "${join(root, "bin/run.js")}" explain | head -1; echo "\${PIPESTATUS[0]}"`;
  const out = execFileSync("bash", ["-c", command], { encoding: "utf8", env });
  assert.match(out, /^CODE .*\n0\n$/);
});

test("completion answers as kubectl asks, and never with an error", () => {
  const complete = (...words: string[]) =>
    spawnSync(process.execPath, [join(root, "bin/complete.js"), ...words], { encoding: "utf8", env });
  assert.match(complete("sta").stdout, /^stat\t.*\n:4\n$/);
  const names = complete("stat", "deploy", "");
  assert.is(names.stdout, ":4\n");
  assert.is(names.stderr, "");
});

test("kubectl runs it as a plugin and asks it for completions", () => {
  if (spawnSync("kubectl", ["version", "--client"]).status !== 0) {
    process.stdout.write("skipped: kubectl is not installed\n");
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), "mesh-cli-"));
  try {
    symlinkSync(join(root, "bin/run.js"), join(directory, "kubectl-mesh"));
    symlinkSync(join(root, "bin/complete.js"), join(directory, "kubectl_complete-mesh"));
    const kubectl = (...args: string[]) =>
      spawnSync("kubectl", args, {
        encoding: "utf8",
        env: { ...env, PATH: `${directory}:${process.env["PATH"]}` },
      });
    assert.is(kubectl("mesh", "version", "--client").stdout, `Client version: ${version}\n`);
    assert.is(kubectl("mesh", "nonsense").status, 2);
    // kubectl before 1.26 does not ask plugins.
    const asked = kubectl("__complete", "mesh", "sta").stdout;
    if (asked.includes("stat")) assert.match(asked, /^stat\t.*\n:4/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test.run();
