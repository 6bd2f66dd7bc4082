// SO_ORIGINAL_DST against the kernel: a network namespace of its own with a real redirect rule.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { canonicalIp } from "../../src/util/ip.ts";

const test = suite("original destination");
const PROBE = fileURLToPath(new URL("../support/original-destination-probe.ts", import.meta.url));

/**
 * Runs the probe in a network of its own, with addresses of both families on loopback, and a way to others that nobody
 * has; it prints what it was told.
 */
function probe(rules: string, listen: string, dial: string): string {
  const script = `
    set -e
    mount -t tmpfs run /run
    ip link set lo up && ip addr add 10.9.8.7/32 dev lo && ip -6 addr add fd00::7/128 dev lo nodad
    ip link add way type veth peer name far && ip addr add 10.9.9.1/24 dev way && ip -6 addr add fd01::1/64 dev way nodad
    ip link set way up && ip link set far up
    ${rules}
    exec ${process.execPath} --import tsx ${PROBE} ${listen} ${dial}`;
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const { stdout, stderr, status } = spawnSync(
    "unshare",
    [...user, "--net", "--mount", "--", "sh", "-c", script],
    {
      encoding: "utf8",
      timeout: 30_000,
    },
  );
  assert.is(status, 0, stderr);
  return stdout.trim();
}

const REDIRECT = "iptables -t nat -A OUTPUT -p tcp --dport 8080 -j REDIRECT --to-ports 4140";
const REDIRECT6 = REDIRECT.replace("iptables", "ip6tables");
/** The pod's own rules, of both families. */
const PROXY_INIT = `${process.execPath} --import tsx ${fileURLToPath(new URL("../../src/entry/proxy-init.ts", import.meta.url))} \
  --ipv6=true --incoming-proxy-port=4143 --outgoing-proxy-port=4140 >&2`;

test("a redirected connection tells where it was meant to go", () => {
  assert.is(probe(REDIRECT, "0.0.0.0", "10.9.8.7:8080"), '{"ip":"10.9.8.7","port":8080}');
});

test("also on a dual-stack listener, whose IPv4 peers are mapped", () => {
  assert.is(probe(REDIRECT, "::", "10.9.8.7:8080"), '{"ip":"10.9.8.7","port":8080}');
});

for (const listen of ["::", "::1"]) {
  test(`an IPv6 connection tells as well, on ${listen}`, () => {
    const to = listen === "::1" ? "fd01::2" : "fd00::7";
    assert.is(probe(REDIRECT6, listen, `[${to}]:8080`), `{"ip":"${canonicalIp(to)}","port":8080}`);
  });
}

test("a dual-stack listener is told of both families under the pod's own rules", () => {
  assert.is(probe(PROXY_INIT, "::", "[fd01::2]:443"), `{"ip":"${canonicalIp("fd01::2")}","port":443}`);
  assert.is(probe(PROXY_INIT, "::", "10.9.9.2:443"), '{"ip":"10.9.9.2","port":443}');
});

test("an IPv6 connection that no rule touched has no original destination, or its own", () => {
  assert.ok(
    ["undefined", `{"ip":"${canonicalIp("::1")}","port":4140}`].includes(probe("true", "::", "[::1]:4140")),
  );
});

test("a connection that no rule touched has no original destination, or its own", () => {
  assert.ok(
    ["undefined", '{"ip":"127.0.0.1","port":4140}'].includes(probe("true", "0.0.0.0", "127.0.0.1:4140")),
  );
});

test.run();
