// HTTP/1 through one proxy (plain) and through a meshed pair (mTLS), side by side with HAProxy and with no proxy, in
// one run. Prints PERFORMANCE.md's columns as a markdown table.
//
//   npm run --silent build; node --import tsx bench/http1.ts [--seconds 5] [--rounds 3] [--connections 50] [--only plain|mtls]
//
// The proxies under test run on core 0, load (wrk) and back end (HAProxy answering by itself) on core 1. CPU is
// utime + stime of the proxy's process divided by the requests it carried; memory is Anonymous of smaps_rollup.
// Needs haproxy, wrk and taskset.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { build } from "esbuild";
import { createIssuer, createRoot, generateKey, issueLeaf, privateKeyPem, spkiOf } from "../src/pki/index.ts";

const run = promisify(execFile);
const { values: flags } = parseArgs({
  options: {
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "3" },
    connections: { type: "string", default: "50" },
    only: { type: "string", default: "" },
    profile: { type: "string", default: "" },
  },
});
const SECONDS = Number(flags.seconds);
const TICK_US = 10_000;
const BACKEND = 18_080;
const directory = mkdtempSync(join(tmpdir(), "mesh-bench-"));
const children: ChildProcess[] = [];

interface Running {
  readonly port: number;
  readonly processes: readonly ChildProcess[];
}

interface Result {
  requests: number;
  perSecond: number;
  latencies: string[];
  userUs: number;
  systemUs: number;
  anonymousKb: number;
  rssKb: number;
}

function start(command: string, args: string[], core: number, env: NodeJS.ProcessEnv = {}): ChildProcess {
  const child = spawn("taskset", ["-c", String(core), command, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  children.push(child);
  return child;
}

async function listening(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}

async function haproxy(name: string, core: number, body: string): Promise<ChildProcess> {
  const file = join(directory, `${name}.cfg`);
  writeFileSync(
    file,
    `global\n  nbthread 1\n  maxconn 4000\n  log /dev/null local0\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n  http-reuse always\n${body}`,
  );
  return start("haproxy", ["-db", "-q", "-f", file], core);
}

/** What is given to Node: one bundle, as in the image. */
async function bundle(): Promise<string> {
  const outfile = join(directory, "proxy.mjs");
  await build({
    entryPoints: [new URL("./http1-proxy.ts", import.meta.url).pathname],
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: ["koffi"],
    outfile,
    logLevel: "error",
  });
  return outfile;
}

let script = "";

async function mesh(settings: object, port: number): Promise<ChildProcess> {
  const profile = flags.profile ? ["--cpu-prof", `--cpu-prof-dir=${flags.profile}`] : [];
  const args = ["--max-semi-space-size=1", "--single-threaded", ...profile, script];
  const child = start(process.execPath, args, 0, {
    PROXY_BENCH: JSON.stringify({ ...settings, listen: port }),
  });
  await listening(port);
  return child;
}

function certificates(): { pem: string; key: string; chain: string; anchors: string } {
  const now = Date.now();
  const lifetimeMs = 3_600_000;
  const root = createRoot({ commonName: "root.bench", lifetimeMs, now });
  const rootAuthority = { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey };
  const issuer = createIssuer({ commonName: "issuer.bench", root: rootAuthority, lifetimeMs, now });
  const authority = { certificate: new X509Certificate(issuer.der), privateKey: issuer.key.privateKey };
  const key = generateKey();
  const leaf = issueLeaf({
    issuer: authority,
    spki: spkiOf(key.publicKey),
    dnsName: "bench.test",
    lifetimeMs,
    skewMs: 20_000,
    now,
  });
  const write = (name: string, text: string) => {
    const file = join(directory, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  const keyPem = privateKeyPem(key.privateKey);
  const chain = leaf.pem + issuer.pem;
  return {
    pem: write("both.pem", chain + keyPem),
    key: write("key.pem", keyPem),
    chain: write("chain.pem", chain),
    anchors: write("anchors.pem", root.pem),
  };
}

async function subjects(): Promise<[string, string, () => Promise<Running>][]> {
  const tls = certificates();
  const material = { name: "bench.test", key: tls.key, chain: tls.chain, anchors: tls.anchors };
  const mutual = `verify required ca-file ${tls.anchors}`;
  return [
    ["direct", "no proxy", async () => ({ port: BACKEND, processes: [] })],
    [
      "plain",
      "HAProxy, plain",
      async () => {
        const child = await haproxy(
          "plain",
          0,
          `listen p\n  bind 127.0.0.1:18101\n  server s 127.0.0.1:${BACKEND}\n`,
        );
        await listening(18_101);
        return { port: 18_101, processes: [child] };
      },
    ],
    [
      "plain",
      "kubectl-mesh outbound, plain",
      async () => ({
        port: 18_102,
        processes: [await mesh({ side: "outbound", destination: BACKEND }, 18_102)],
      }),
    ],
    [
      "plain",
      "kubectl-mesh inbound, plain",
      async () => ({
        port: 18_103,
        processes: [await mesh({ side: "inbound", destination: BACKEND }, 18_103)],
      }),
    ],
    [
      "mtls",
      "HAProxy pair, mTLS",
      async () => {
        const server = await haproxy(
          "server",
          0,
          `listen p\n  bind 127.0.0.1:18112 ssl crt ${tls.pem} ssl-min-ver TLSv1.3 ${mutual}\n  server s 127.0.0.1:${BACKEND}\n`,
        );
        const client = await haproxy(
          "client",
          0,
          `listen p\n  bind 127.0.0.1:18111\n  server s 127.0.0.1:18112 ssl crt ${tls.pem} ssl-min-ver TLSv1.3 sni str(bench.test) verifyhost bench.test ${mutual}\n`,
        );
        await listening(18_111);
        await listening(18_112);
        return { port: 18_111, processes: [client, server] };
      },
    ],
    [
      "mtls",
      "kubectl-mesh pair, mTLS",
      async () => {
        const server = await mesh({ side: "inbound", destination: BACKEND, identity: material }, 18_114);
        const client = await mesh(
          {
            side: "outbound",
            destination: BACKEND,
            endpoint: 18_114,
            endpointIdentity: "bench.test",
            identity: material,
          },
          18_113,
        );
        return { port: 18_113, processes: [client, server] };
      },
    ],
  ];
}

/** User and system time of a process so far, µs. */
function cpu(child: ChildProcess): [number, number] {
  const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return [Number(fields[11]) * TICK_US, Number(fields[12]) * TICK_US];
}

function memory(child: ChildProcess): [number, number] {
  const text = readFileSync(`/proc/${child.pid}/smaps_rollup`, "latin1");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
  return [field("Anonymous"), field("Rss")];
}

async function load(
  port: number,
  seconds: number,
): Promise<{ requests: number; perSecond: number; latencies: string[] }> {
  const file = join(directory, "report.lua");
  writeFileSync(
    file,
    `done = function(s, l, r) io.write(string.format("RESULT %d %.0f %d %.2f %.2f %.2f %.2f\\n", s.requests, s.requests / s.duration * 1e6, s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout, l:percentile(50)/1000, l:percentile(90)/1000, l:percentile(99)/1000, l:percentile(99.9)/1000)) end\n`,
  );
  const args = ["-c", "1", "wrk", "-t", "1", "-c", flags.connections, "-d", `${seconds}s`, "-s", file];
  const { stdout } = await run("taskset", [...args, `http://127.0.0.1:${port}/`]);
  const match = /^RESULT (\d+) (\d+) (\d+) (.*)$/m.exec(stdout);
  if (!match) throw new Error(`no result from wrk:\n${stdout}`);
  if (match[3] !== "0") throw new Error(`${match[3]} requests failed:\n${stdout}`);
  return { requests: Number(match[1]), perSecond: Number(match[2]), latencies: match[4]!.split(" ") };
}

async function measure({ port, processes }: Running): Promise<Result> {
  await load(port, 1);
  const before = processes.map(cpu);
  const result = await load(port, SECONDS);
  const after = processes.map(cpu);
  const sum = (index: 0 | 1) =>
    after.reduce((total, times, i) => total + times[index] - before[i]![index], 0) /
    result.requests /
    (processes.length || 1);
  const memories = processes.map(memory);
  const mean = (index: 0 | 1) => memories.reduce((total, m) => total + m[index], 0) / (processes.length || 1);
  return { ...result, userUs: sum(0), systemUs: sum(1), anonymousKb: mean(0), rssKb: mean(1) };
}

async function stop(processes: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    processes.map(
      (child) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) return resolve();
          child.once("exit", () => resolve());
          child.kill(flags.profile ? "SIGINT" : "SIGKILL");
        }),
    ),
  );
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

async function main(): Promise<void> {
  script = await bundle();
  await haproxy(
    "backend",
    1,
    `frontend b\n  bind 127.0.0.1:${BACKEND}\n  http-request return status 200 content-type text/plain string "hello from the back end\\n"\n`,
  );
  await listening(BACKEND);
  const results = new Map<string, Result[]>();
  const kinds = new Map<string, string>();
  const all = (await subjects()).filter(([kind]) => !flags.only || kind === flags.only);
  for (let round = 0; round < Number(flags.rounds); round += 1) {
    for (const [kind, name, begin] of all) {
      const running = await begin();
      kinds.set(name, kind);
      results.set(name, [...(results.get(name) ?? []), await measure(running)]);
      await stop(running.processes);
    }
  }
  print(results, kinds);
}

function print(results: Map<string, Result[]>, kinds: Map<string, string>): void {
  const lines = [
    `${flags.rounds} rounds of ${SECONDS} s, ${flags.connections} connections, medians; CPU and memory per proxy.\n`,
    "| | req/s | CPU µs/request | user | system | vs HAProxy | p50 ms | p90 | p99 | p99.9 | anonymous MB | RSS MB |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
  ];
  const peers = new Map<string, number>();
  for (const [name, runs] of results) {
    const of = (pick: (r: Result) => number) => median(runs.map(pick));
    const total = of((r) => r.userUs + r.systemUs);
    const kind = kinds.get(name)!;
    if (name.startsWith("HAProxy")) peers.set(kind, total);
    const ratio = total > 0 && peers.has(kind) ? `${(total / peers.get(kind)!).toFixed(2)}×` : "";
    const latency = [0, 1, 2, 3].map((i) => of((r) => Number(r.latencies[i])).toFixed(2)).join(" | ");
    const mb = (pick: (r: Result) => number) => (of(pick) / 1024).toFixed(1);
    lines.push(
      `| ${name} | ${of((r) => r.perSecond)} | ${total.toFixed(1)} | ${of((r) => r.userUs).toFixed(1)} | ${of((r) => r.systemUs).toFixed(1)} | ${ratio} | ${latency} | ${mb((r) => r.anonymousKb)} | ${mb((r) => r.rssKb)} |`,
    );
  }
  process.stdout.write(`${lines.join("\n")}\n`);
}

try {
  await main();
} finally {
  await stop(children);
  rmSync(directory, { recursive: true, force: true });
}
