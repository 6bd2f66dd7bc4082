// proxy-init against a real kernel: two network namespaces joined by a veth pair, one of them a meshed pod.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { execa } from "execa";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";

const root = packageRoot();
const source = (path: string) => ["--import", import.meta.resolve("tsx"), join(root, path)];
const INIT_ARGS = [
  "--ipv6=false",
  "--incoming-proxy-port=4143",
  "--outgoing-proxy-port=4140",
  "--proxy-uid=2102",
  "--inbound-ports-to-ignore=4190,4191,4567",
  "--outbound-ports-to-ignore=4567",
];
const POD = "10.9.0.1";
const PEER = "10.9.0.2";

interface Net {
  readonly pod: number;
  readonly peer: number;
}

async function withNetwork(body: (net: Net) => Promise<void>): Promise<void> {
  const children: ChildProcess[] = [];
  const namespace = async () => {
    const child = spawn(
      "unshare",
      ["--net", "--mount", "sh", "-c", "mount -t tmpfs run /run && echo up && sleep 120"],
      {
        stdio: ["ignore", "pipe", "inherit"],
        detached: true,
      },
    );
    children.push(child);
    await once(child.stdout!, "data");
    return child.pid!;
  };
  try {
    const net = { pod: await namespace(), peer: await namespace() };
    await inside(
      net.pod,
      "ip",
      "link",
      "add",
      "eth0",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      `${net.peer}`,
    );
    for (const [pid, address] of [
      [net.pod, POD],
      [net.peer, PEER],
    ] as const) {
      await inside(pid, "ip", "address", "add", `${address}/24`, "dev", "eth0");
      await inside(pid, "ip", "link", "set", "eth0", "up");
      await inside(pid, "ip", "link", "set", "lo", "up");
    }
    await inside(net.pod, "ip", "route", "add", "default", "via", PEER);
    const listener = spawn(
      "nsenter",
      ["-t", `${net.pod}`, "-n", process.execPath, ...source("test/e2e/redirect-listener.ts")],
      { cwd: root, stdio: ["ignore", "pipe", "inherit"], detached: true },
    );
    children.push(listener);
    let listening = "";
    while (listening.split("\n").length < 4) listening += String((await once(listener.stdout!, "data"))[0]);
    await body(net);
  } finally {
    for (const child of children) process.kill(-child.pid!, "SIGKILL");
  }
}

const enter = (pid: number) => ["-t", `${pid}`, "-n", "-m"];
const inside = (pid: number, command: string, ...args: string[]) =>
  execa("nsenter", [...enter(pid), command, ...args], { cwd: root });
const proxyInit = (pid: number, ...args: string[]) =>
  inside(pid, process.execPath, ...source("src/entry/proxy-init.ts"), ...INIT_ARGS, ...args);

async function fetch(pid: number, url: string, uid = 0): Promise<string> {
  const { stdout, exitCode } = await execa(
    "nsenter",
    [...enter(pid), "setpriv", `--reuid=${uid}`, "--clear-groups", "curl", "-sS", "-m", "5", url],
    { reject: false },
  );
  return exitCode === 0 ? stdout.trim() : `curl exit ${exitCode}`;
}

const CURL_REFUSED = "curl exit 7";

for (const mode of ["nft", "legacy", "auto"]) {
  test(`${mode}: traffic of the pod goes through the proxy and keeps its destination`, async () => {
    await withNetwork(async ({ pod, peer }) => {
      await proxyInit(pod, `--iptables-mode=${mode}`);
      assert.is(await fetch(peer, `http://${POD}:8080/`), `inbound ${POD}:8080`);
      assert.is(await fetch(pod, `http://${PEER}:9090/`), `outbound ${PEER}:9090`);
      assert.is(await fetch(pod, "http://192.0.2.7:80/"), "outbound 192.0.2.7:80");
      // The proxy's own connections, skipped ports and loopback are left alone.
      assert.is(await fetch(pod, `http://${PEER}:9090/`, 2102), CURL_REFUSED);
      assert.is(await fetch(peer, `http://${POD}:4567/`), `app ${POD}:4567`);
      assert.is(await fetch(pod, `http://${PEER}:4567/`), CURL_REFUSED);
      assert.is(await fetch(pod, "http://127.0.0.1:4567/"), "app 127.0.0.1:4567");
    });
  });
}

test("running again leaves the same rules, and rules of others alone", async () => {
  await withNetwork(async ({ pod, peer }) => {
    await inside(
      pod,
      "iptables-nft",
      "-t",
      "nat",
      "-A",
      "OUTPUT",
      "-p",
      "udp",
      "--dport",
      "53",
      "-j",
      "ACCEPT",
    );
    await proxyInit(pod, "--iptables-mode=nft");
    const rules = async () =>
      (await inside(pod, "iptables-nft-save", "-t", "nat")).stdout
        .split("\n")
        .filter((line) => line.startsWith("-A"));
    const first = (await rules()).sort();
    await proxyInit(pod, "--iptables-mode=nft");
    await proxyInit(pod, "--iptables-mode=nft");
    assert.equal((await rules()).sort(), first);
    assert.is(first.filter((line) => line.includes("--dport 53")).length, 1);
    assert.is(await fetch(peer, `http://${POD}:8080/`), `inbound ${POD}:8080`);
  });
});

test("the validator fails where there are no rules, and passes where they are laid", async () => {
  await withNetwork(async ({ pod }) => {
    const validate = () =>
      execa(
        "nsenter",
        [
          ...enter(pod),
          "setpriv",
          "--reuid=65534",
          "--clear-groups",
          process.execPath,
          ...source("src/entry/network-validator.ts"),
          // The other stands for the proxy.
          "--listen-addr=0.0.0.0:4150",
          "--timeout=2s",
        ],
        { cwd: root, reject: false },
      );
    const without = await validate();
    assert.is(without.exitCode, 95, without.stderr);
    assert.match(without.stderr, "not redirected to the proxy");
    assert.match(without.stderr, "CNI plugin");
    await proxyInit(pod, "--outgoing-proxy-port=4150");
    const { exitCode, stderr } = await validate();
    assert.is(exitCode, 0, stderr);
  });
});

test("without NET_ADMIN it says so and exits 1", async () => {
  await withNetwork(async ({ pod }) => {
    const result = await execa(
      "nsenter",
      [
        ...enter(pod),
        "setpriv",
        "--bounding-set=-net_admin,-net_raw",
        "--inh-caps=-net_admin,-net_raw",
        process.execPath,
        ...source("src/entry/proxy-init.ts"),
        ...INIT_ARGS,
      ],
      { cwd: root, reject: false },
    );
    assert.is(result.exitCode, 1);
    assert.match(result.stderr, "NET_ADMIN");
  });
});

if (process.getuid?.() === 0) test.run();
else process.stderr.write("skipped: needs root\n");
