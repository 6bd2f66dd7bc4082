// The sandbox's directory and the record of its process.
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { down } from "../../../src/sandbox/lifecycle/down.ts";
import {
  isAlive,
  openStateDirectory,
  type ProcessRecord,
  processStat,
  readRecord,
  stateDirectory,
  writeRecord,
} from "../../../src/sandbox/lifecycle/state-directory.ts";
import { status } from "../../../src/sandbox/lifecycle/status.ts";
import type { MeshError } from "../../../src/util/error.ts";

const test = suite<{ directory: string }>("sandbox state directory");
test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), "mesh-state-"));
});
test.after.each((context) => rmSync(context.directory, { recursive: true, force: true }));

const record = (pid: number, startTicks: string): ProcessRecord => ({
  pid,
  startTicks,
  port: 1,
  nodes: 1,
  version: "0",
  startedAt: "2026-01-01T00:00:00Z",
});

test("the default follows XDG, a flag wins", () => {
  const before = process.env["XDG_STATE_HOME"];
  process.env["XDG_STATE_HOME"] = "/x/state";
  try {
    assert.is(stateDirectory(), "/x/state/kubectl-mesh/sandbox");
    assert.is(stateDirectory("/a/../b"), "/b");
  } finally {
    if (before === undefined) delete process.env["XDG_STATE_HOME"];
    else process.env["XDG_STATE_HOME"] = before;
  }
});

test("it is made private, level by level", ({ directory }) => {
  const deep = join(directory, "a/b");
  openStateDirectory(deep);
  assert.is(statSync(deep).mode & 0o777, 0o700);
  assert.equal(readdirSync(deep), []);
});

test("a place where it cannot be says why and what to do", ({ directory }) => {
  writeFileSync(join(directory, "file"), "");
  const cases: [string, RegExp][] = [
    [join(directory, "file/x"), /a part of the path is not a directory/],
    ["/proc/x", /cannot keep the sandbox's state in \/proc\/x: /],
  ];
  for (const [path, message] of cases) {
    try {
      openStateDirectory(path);
      assert.unreachable(path);
    } catch (error) {
      assert.match((error as MeshError).message, message);
    }
  }
});

test("a record tells its process from a later one with the same number", async ({ directory }) => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  try {
    const { startTicks } = processStat(child.pid!)!;
    assert.ok(isAlive(record(child.pid!, startTicks)));
    assert.not(isAlive(record(child.pid!, "1")));
    writeRecord(directory, record(child.pid!, "1"));
    assert.is(readRecord(directory)?.pid, child.pid);
    assert.throws(() => writeRecord(directory, record(1, "1")), /EEXIST/);

    // A stale record is no sandbox: nothing is killed, and it is cleared away.
    assert.is((await status(directory)).state, "stopped");
    assert.equal(await down({ directory }), { stopped: false, killed: false, deleted: false });
    assert.is(readRecord(directory), undefined);
    assert.ok(processStat(child.pid!), "the other process lives");
  } finally {
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  }
  assert.not(isAlive(record(child.pid!, "1")));
});

test("a damaged record counts as none", ({ directory }) => {
  writeFileSync(join(directory, "process.json"), '{"pid": "x"');
  assert.is(readRecord(directory), undefined);
});

test.run();
