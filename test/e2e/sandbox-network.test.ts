// The pod network, service rules and DNS for real, in throw-away namespaces: rootless, and as root where we are.
import { execFile, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const SCENARIO = fileURLToPath(new URL("../support/sandbox-network-node.ts", import.meta.url));
const NAMESPACE = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const ROOTLESS = ["--user", "--map-root-user", "--map-auto"];

const isRoot = process.getuid?.() === 0;

interface Results {
  ips: string[];
  pod: unknown[];
  node: unknown[];
  held: string[];
  drained: boolean;
  gone: unknown[];
}

/** Whether `unshare` with these flags works here at all. */
function possible(prefix: readonly string[]): boolean {
  const [file, ...args] = [...prefix, "true"];
  return spawnSync(file!, args).status === 0;
}

function run(prefix: readonly string[]): Promise<Results> {
  const script = `mount -t tmpfs tmpfs /run && exec "${process.execPath}" --import tsx "${SCENARIO}"`;
  const [file, ...args] = [...prefix, "sh", "-c", script];
  return new Promise((resolve, reject) => {
    execFile(file!, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stderr}`));
      else resolve(JSON.parse(stdout));
    });
  });
}

function check(results: Results): void {
  const [, , c] = results.ips;
  const names = (lines: unknown) => [...new Set((lines as string[]).map((line) => line[0]))].sort();

  const [direct, balanced, hairpin, empty, unknown, nodePort, dnsA, dnsSrv, missing, outside] = results.pod;
  assert.equal(direct, [`a from ${c} hi`], "pods see each other's own address");
  assert.equal(names(balanced), ["a", "b"], "both endpoints take connections");
  assert.ok((balanced as string[]).every((line) => line.includes(` from ${c} `)));
  assert.equal(hairpin, ["c from 10.244.0.1 hi"], "a pod reaches itself through its own service");
  assert.equal(empty, ["ECONNREFUSED"], "a service without endpoints refuses");
  assert.equal(unknown, ["ECONNREFUSED"], "an address that no service has refuses");
  assert.equal(names(nodePort).length, 1);
  assert.equal(dnsA, ["10.96.1.1"]);
  assert.equal(dnsSrv, [{ name: "pair.shop.svc.cluster.local", port: 80, priority: 0, weight: 100 }]);
  assert.equal(missing, "ENOTFOUND");
  assert.equal(outside, "ESERVFAIL", "no way out: fails fast instead of hanging");

  const [nodeDirect, nodeBalanced, nodeEmpty, loopback, secondNode, nodeDns] = results.node;
  assert.equal(nodeDirect, ["a from 10.244.0.1 hi"]);
  assert.equal(names(nodeBalanced), ["a", "b"]);
  assert.equal(nodeEmpty, ["ECONNREFUSED"]);
  assert.match((loopback as string[])[0]!, /^[ab] from 10\.244\.0\.1 hi$/);
  assert.match((secondNode as string[])[0]!, /^[ab] from /);
  assert.equal(nodeDns, ["10.96.1.1"]);

  assert.equal(results.held[0], results.held[1], "an open connection stays with its endpoint");
  assert.ok(results.drained, "a service that lost its endpoints refuses");
  assert.equal(results.gone, [["EHOSTUNREACH"]], "a pod that is gone fails at once");
}

const test = suite("sandbox network");

const modes: { name: string; prefix: string[] }[] = isRoot
  ? [
      { name: "as root", prefix: ["unshare", ...NAMESPACE] },
      {
        name: "in a user namespace",
        prefix: [
          ...[
            "setpriv",
            "--reuid",
            process.env["MESH_TEST_USER"] ?? "tester",
            "--regid",
            process.env["MESH_TEST_USER"] ?? "tester",
            "--init-groups",
            "unshare",
          ],
          ...ROOTLESS,
          ...NAMESPACE,
        ],
      },
    ]
  : [{ name: "in a user namespace", prefix: ["unshare", ...ROOTLESS, ...NAMESPACE] }];

for (const { name, prefix } of modes) {
  if (!possible(prefix)) {
    console.log(`skipped: sandbox network ${name} (${prefix.join(" ")} is not permitted here)`);
    continue;
  }
  test(`pods, services and DNS reach each other ${name}`, async () => check(await run(prefix)));
}

test.run();
