// SO_ORIGINAL_DST against the kernel: a network namespace of its own with a real redirect rule.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const test = suite("original destination");
const PROBE = fileURLToPath(new URL("../support/original-destination-probe.ts", import.meta.url));

/** Runs the probe where a connection to 10.9.8.7:8080 is redirected to port 4140; it prints what it was told. */
function probe(rules: string, listen: string, dial: string): string {
  const script = `
    ip link set lo up && ip addr add 10.9.8.7/32 dev lo && ip -6 addr add fd00::7/128 dev lo nodad 2>/dev/null
    ${rules}
    exec ${process.execPath} --import tsx ${PROBE} ${listen} ${dial}`;
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const { stdout, stderr, status } = spawnSync("unshare", [...user, "--net", "--", "sh", "-c", script], {
    encoding: "utf8",
    timeout: 30_000,
  });
  assert.is(status, 0, stderr);
  return stdout.trim();
}

const REDIRECT = "iptables -t nat -A OUTPUT -p tcp --dport 8080 -j REDIRECT --to-ports 4140";

test("a redirected connection tells where it was meant to go", () => {
  assert.is(probe(REDIRECT, "0.0.0.0", "10.9.8.7:8080"), '{"ip":"10.9.8.7","port":8080}');
});

test("also on a dual-stack listener, whose IPv4 peers are mapped", () => {
  assert.is(probe(REDIRECT, "::", "10.9.8.7:8080"), '{"ip":"10.9.8.7","port":8080}');
});

test("a connection that no rule touched has no original destination, or its own", () => {
  assert.ok(
    ["undefined", '{"ip":"127.0.0.1","port":4140}'].includes(probe("true", "0.0.0.0", "127.0.0.1:4140")),
  );
});

test.run();
