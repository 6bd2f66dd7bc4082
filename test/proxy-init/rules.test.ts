// The redirect rules of a pod and how they are applied, without a kernel.
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../src/log/logger.ts";
import { applyRules, type Run } from "../../src/proxy-init/apply.ts";
import { main } from "../../src/proxy-init/main.ts";
import { parseOptions } from "../../src/proxy-init/options.ts";
import { multiports, redirectRules, restoreScript } from "../../src/proxy-init/rules.ts";
import type { MeshError } from "../../src/util/error.ts";
import { mergePorts, parsePortSet } from "../../src/util/port-set.ts";

const ARGS = [
  "--ipv6=false",
  "--incoming-proxy-port=4143",
  "--outgoing-proxy-port=4140",
  "--proxy-uid=2102",
  "--inbound-ports-to-ignore=4190,4191,4567,4568",
  "--outbound-ports-to-ignore=4567,4568",
];
const script = (args: readonly string[], current = "", family: 4 | 6 = 4) =>
  restoreScript(redirectRules(parseOptions(args).redirect, family), current);

test("the rules of an ordinary pod", () => {
  assert.is(
    script(ARGS),
    `*nat
:PROXY_INIT_REDIRECT - [0:0]
:PROXY_INIT_OUTPUT - [0:0]
-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190:4191,4567:4568 -j RETURN -m comment --comment "proxy-init/ignore-port-4190:4191,4567:4568"
-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143 -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port"
-A PREROUTING -j PROXY_INIT_REDIRECT -m comment --comment "proxy-init/install-proxy-init-prerouting"
-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN -m comment --comment "proxy-init/ignore-proxy-user-id"
-A PROXY_INIT_OUTPUT -o lo -j RETURN -m comment --comment "proxy-init/ignore-loopback"
-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 4567:4568 -j RETURN -m comment --comment "proxy-init/ignore-port-4567:4568"
-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140 -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port"
-A OUTPUT -j PROXY_INIT_OUTPUT -m comment --comment "proxy-init/install-proxy-init-output"
COMMIT
`,
  );
});

test("group, subnets of the same family and a list of redirected ports", () => {
  const args = [
    "--proxy-uid=2102",
    "--proxy-gid=2103",
    "--subnets-to-ignore=10.1.2.3/8, fd00::1/8",
    "--ports-to-redirect=80,8000-8100",
  ];
  const four = script(args);
  assert.match(four, "-m owner --gid-owner 2103 -j RETURN");
  assert.match(four, "-A PROXY_INIT_REDIRECT -s 10.0.0.0/8 -j RETURN");
  assert.match(four, "--dports 80,8000:8100 -j REDIRECT --to-port 4143");
  assert.not.match(four, "redirect-all-incoming");
  assert.not.match(four, "fd00");
  assert.match(script(args, "", 6), "-s fd00:0:0:0:0:0:0:0/8 -j RETURN");
});

test("jumps of an earlier run are replaced, the node's own rules are not", () => {
  const current = [
    "*nat",
    "-A PREROUTING -m comment --comment proxy-init/install-proxy-init-prerouting -j PROXY_INIT_REDIRECT",
    "-A PREROUTING -j KUBE-SERVICES",
    '-A OUTPUT -m comment --comment "x" -j PROXY_INIT_OUTPUT',
    "COMMIT",
  ].join("\n");
  const lines = script(ARGS, current).split("\n");
  assert.equal(
    lines.filter((line) => line.startsWith("-D")),
    [
      "-D PREROUTING -m comment --comment proxy-init/install-proxy-init-prerouting -j PROXY_INIT_REDIRECT",
      '-D OUTPUT -m comment --comment "x" -j PROXY_INIT_OUTPUT',
    ],
  );
});

test("no multiport rule holds more than 15 slots, and together they hold every port", () => {
  const range = fc
    .tuple(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 0, max: 50 }))
    .map(([from, size]) => ({ from, to: Math.min(65_535, from + size) }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 80 }), (ranges) => {
      const groups = multiports(ranges);
      for (const group of groups) assert.ok(group.split(/[,:]/).length <= 15);
      assert.equal(parsePortSet(groups.join(",").replaceAll(":", "-")), mergePorts(ranges));
    }),
  );
});

test("wrong flags name the flag and what was expected", () => {
  for (const [args, message] of [
    [["--incoming-proxy-port=0"], /--incoming-proxy-port: expected an integer from 1 to 65535, got "0"/],
    [["--inbound-ports-to-ignore=1,x"], /--inbound-ports-to-ignore: expected a port/],
    [["--subnets-to-ignore=10.0.0.0/99"], /--subnets-to-ignore: expected a network/],
    [["--iptables-mode=ebpf"], /--iptables-mode: expected one of auto, nft, plain, legacy/],
    [["--proxy-id=1"], /--proxy-id/],
  ] as const) {
    assert.throws(() => parseOptions(args), message);
  }
});

const silent = createLogger({ level: "off" });
const answer = (code: number, stderr = "", missing = false) => ({ code, stdout: "", stderr, missing });

/** A machine on which only `working` programs succeed. */
function machine(working: string, refusal = answer(1, "", true)): { run: Run; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    run: async (command) => {
      calls.push(command);
      return new RegExp(`^${working}(-save|-restore)$`).test(command) ? answer(0) : refusal;
    },
  };
}

test("nft is tried first, then plain iptables, then legacy", async () => {
  for (const [working, tried] of [
    ["iptables-nft", ["iptables-nft-save", "iptables-nft-restore"]],
    ["iptables", ["iptables-nft-save", "iptables-save", "iptables-restore"]],
    [
      "iptables-legacy",
      ["iptables-nft-save", "iptables-save", "iptables-legacy-save", "iptables-legacy-restore"],
    ],
  ] as const) {
    const { run, calls } = machine(working);
    assert.is(await applyRules(parseOptions(ARGS), 4, run, silent), working);
    assert.equal(calls, tried);
  }
  const { run, calls } = machine("ip6tables-legacy");
  await applyRules(parseOptions([...ARGS, "--iptables-mode=legacy"]), 6, run, silent);
  assert.equal(calls, ["ip6tables-legacy-save", "ip6tables-legacy-restore"]);
});

test("a missing iptables and a missing capability are told apart", async () => {
  const failing = async (run: Run): Promise<MeshError> =>
    applyRules(parseOptions(ARGS), 4, run, silent).then(
      () => assert.unreachable() as never,
      (error: MeshError) => error,
    );
  const missing = await failing(machine("none").run);
  assert.match(
    missing.message,
    "none of iptables-nft-save, iptables-save, iptables-legacy-save is installed",
  );
  assert.match(missing.hints[0]!, "apt-get install iptables");
  const denied = await failing(
    machine(
      "none",
      answer(
        4,
        "iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
      ),
    ).run,
  );
  assert.match(denied.message, "the redirect rules were refused: iptables-nft-save: ");
  assert.match(denied.hints[0]!, "NET_ADMIN");
});

test("wrong flags end with 64, a refusal with 1", async () => {
  const quiet = process.stderr.write;
  process.stderr.write = () => true;
  try {
    assert.is(await main(["--nonsense"]), 64);
    assert.is(await main(ARGS, machine("none").run), 1);
    assert.is(await main([...ARGS, "--log-level=off"], machine("iptables").run), 0);
  } finally {
    process.stderr.write = quiet;
  }
});

test.run();
