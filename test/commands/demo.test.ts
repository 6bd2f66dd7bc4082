// The demo's manifest and the telling of its journey.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import { findProgram, Journey, run } from "../../src/cli/journey.ts";
import { isRolledOut } from "../../src/cli/rollout.ts";
import { createStyle, plain } from "../../src/cli/style.ts";
import type { Deployment } from "../../src/kube/types.ts";
import { MeshError } from "../../src/util/error.ts";
import { runCommand } from "../support/run-command.ts";

const test = suite("demo");

test("demo --manifest prints the application as YAML that can be applied", async () => {
  const { stdout, code } = await runCommand("demo", "--manifest", "--image", "example/app:1");
  assert.is(code, 0);
  const objects = parseAllDocuments(stdout).map((document) => document.toJS());
  assert.is(objects[0].kind, "Namespace");
  const deployments = objects.filter((object) => object.kind === "Deployment");
  assert.is(deployments.length, 5);
  for (const { spec } of deployments) assert.is(spec.template.spec.containers[0].image, "example/app:1");
});

test("a step shows its command, what came of it and how long it took", async () => {
  let text = "";
  let now = 0;
  const journey = new Journey({
    style: createStyle({ isTTY: false }, {}),
    write: (part) => (text += part),
    total: 2,
    now: () => now,
  });
  await journey.step("First", "kubectl get pods", async () => {
    now = 1_234;
    return "3 pods";
  });
  assert.is(plain(text), "\n1/2  First\n     $ kubectl get pods\n     √ 3 pods (1.2 s)\n");
  const failed = await journey
    .step("Second", "false", async () => Promise.reject(new Error("no")))
    .catch((e) => e);
  assert.is(failed.message, "no");
  assert.not.match(text.split("2/2")[1]!, "√");
});

test("a program's output comes back; its failure is an error with the end of what it said", async () => {
  assert.is(await run("cat", [], "cat", { stdin: "hello" }), "hello");
  assert.is((await run("sh", ["-c", 'echo "$X"'], "sh", { env: { X: "y" } })).trim(), "y");
  const failed = await run("sh", ["-c", "echo one; echo two >&2; exit 3"], "the shell").catch(
    (error) => error,
  );
  assert.instance(failed, MeshError);
  assert.is(failed.message, "the shell ended with exit code 3");
  assert.equal([...failed.hints].sort(), ["one", "two"]);
  const ours = await run(
    "sh",
    ["-c", "echo data; printf 'Error: no\\n  → do this\\n' >&2; exit 1"],
    "it",
  ).catch((e) => e);
  assert.is(ours.message, "no");
  assert.equal(ours.hints, ["do this", "(it ended with exit code 1)"]);
  const absent = await run("/no/such/program", [], "it").catch((error) => error);
  assert.match(absent.message, "cannot run it");
  assert.is(await run("true", [], "true", { stdin: "x".repeat(1 << 20) }), "");
});

test("programs are found on PATH and in sbin", () => {
  assert.ok(findProgram("sh"));
  assert.is(findProgram("no-such-program", "/bin:/usr/bin"), undefined);
});

test("a Deployment is rolled out when every replica is current and available", () => {
  const deployment = (status: Deployment["status"]): Deployment =>
    ({
      metadata: { name: "x", generation: 2 },
      spec: { replicas: 2 },
      ...(status ? { status } : {}),
    }) as Deployment;
  const done = { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };
  assert.is(isRolledOut(deployment(done)), true);
  for (const change of [
    { observedGeneration: 1 },
    { replicas: 3 },
    { updatedReplicas: 1 },
    { availableReplicas: 1 },
  ]) {
    assert.is(isRolledOut(deployment({ ...done, ...change })), false, JSON.stringify(change));
  }
  assert.is(isRolledOut(deployment(undefined)), false);
});

test.run();
