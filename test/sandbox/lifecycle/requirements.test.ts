// What a machine must offer, and what to do where it does not.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { installCommand, missingTools, namespaceError } from "../../../src/sandbox/lifecycle/requirements.ts";

const test = suite("sandbox requirements");

test("missing tools are named with the packages that have them", () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-tools-"));
  try {
    for (const name of ["unshare", "nsenter", "setpriv", "mount", "pivot_root", "mkfifo", "newuidmap"]) {
      writeFileSync(join(directory, name), "");
      chmodSync(join(directory, name), 0o755);
    }
    const root = missingTools(directory, true);
    assert.equal(root.tools, ["ip", "iptables", "iptables-restore"]);
    assert.is(installCommand(root.packages, true), "apt-get install -y iproute2 iptables");
    const user = missingTools(directory, false);
    assert.ok(user.tools.includes("newgidmap") && user.packages.includes("uidmap"));
    assert.match(installCommand(user.packages, false), /^sudo apt-get install -y /);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("refused namespaces lead to the switch that refuses them", () => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ "kernel/unprivileged_userns_clone": "0" }, /kernel\.unprivileged_userns_clone=1/],
    [
      { "kernel/apparmor_restrict_unprivileged_userns": "1" },
      /kernel\.apparmor_restrict_unprivileged_userns=0/,
    ],
    [{ "user/max_user_namespaces": "0" }, /user\.max_user_namespaces=/],
    [{}, /docker run --privileged/],
  ];
  for (const [switches, hint] of cases) {
    const error = namespaceError(
      "unshare: unshare failed: Operation not permitted",
      false,
      (n) => switches[n],
    );
    assert.match(error.message, /does not let this user make namespaces: unshare failed: Operation not/);
    assert.match(error.hints[0]!, hint);
    assert.match(error.hints.at(-1)!, /as root/);
  }
  assert.match(namespaceError("", true, () => undefined).hints[0]!, /--privileged/);
});

test.run();
