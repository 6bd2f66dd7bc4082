// Runs inside a throw-away namespace for sandbox-network.test.ts: builds the node's network with a few pods and
// prints what the pods and the node can reach, as one line of JSON.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createLogger } from "../../src/log/logger.ts";
import type { Cluster, EventType, KubeObject } from "../../src/sandbox/cluster.ts";
import {
  attachPod,
  detachPod,
  PodIpPool,
  setupNodeNetwork,
  startServiceNetwork,
  vethName,
} from "../../src/sandbox/network/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { until } from "./until.ts";

type Handler = (type: EventType, object: KubeObject, previous?: KubeObject) => void;
const handlers = new Map<string, Set<Handler>>();
const objects = new Map<string, Map<string, KubeObject>>();

/** The two verbs of Cluster that the network uses. */
const cluster = {
  watch(group: string, resource: string, handler: Handler) {
    const kind = `${group}/${resource}`;
    for (const object of objects.get(kind)?.values() ?? []) handler("ADDED", object);
    handlers.set(kind, (handlers.get(kind) ?? new Set()).add(handler));
    return () => void handlers.get(kind)?.delete(handler);
  },
} as unknown as Cluster;

function put(kind: string, object: KubeObject): void {
  const map = objects.get(kind) ?? new Map();
  objects.set(kind, map);
  const key = `${object.metadata.namespace}/${object.metadata.name}`;
  const type = map.has(key) ? "MODIFIED" : "ADDED";
  map.set(key, object);
  for (const handler of handlers.get(kind) ?? []) handler(type, object);
}

const service = (name: string, clusterIP: string, nodePort?: number): KubeObject => ({
  metadata: { name, namespace: "shop" },
  spec: {
    clusterIP,
    ports: [{ name: "http", port: 80, protocol: "TCP", ...(nodePort ? { nodePort } : {}) }],
  },
});
const slice = (name: string, ips: string[]): KubeObject => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
});

const SERVER = `
const net = require("node:net");
net.createServer((s) => { s.on("error", () => {}); s.on("data", (d) => s.write(process.argv[1] + " from " + s.remoteAddress.replace("::ffff:", "") + " " + d)); })
  .listen(8080, "0.0.0.0", () => console.log("up"));`;
const CLIENT = `
const net = require("node:net"), dns = require("node:dns");
const one = (host, port) => new Promise((resolve) => {
  const s = net.connect({ host, port, timeout: 3000 }, () => s.write("hi"));
  s.on("data", (d) => { s.destroy(); resolve(String(d)); });
  s.on("timeout", () => { s.destroy(); resolve("TIMEOUT"); });
  s.on("error", (e) => resolve(e.code));
});
(async () => {
  const out = [];
  for (const target of JSON.parse(process.argv[1])) {
    if (target.query) {
      const r = new dns.promises.Resolver({ timeout: 2000, tries: 1 });
      r.setServers([target.server]);
      out.push(await r.resolve(target.query, target.type).catch((e) => e.code));
    } else {
      const seen = [];
      for (let i = 0; i < (target.times || 1); i++) seen.push(await one(target.host, target.port));
      out.push(seen);
    }
  }
  console.log(JSON.stringify(out));
})();`;

const pods: { name: string; ip: string; process: ChildProcess }[] = [];
const pool = new PodIpPool(0, { now: () => systemClock.monotonic() });

async function pod(name: string): Promise<{ name: string; ip: string; process: ChildProcess }> {
  const process_ = spawn("unshare", ["--net", process.execPath, "-e", SERVER, name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => process_.stdout?.once("data", resolve));
  const ip = pool.allocate();
  await attachPod({ pid: process_.pid!, ip, hostName: vethName(name) });
  const made = { name, ip, process: process_ };
  pods.push(made);
  return made;
}

function client(from: ChildProcess | undefined, targets: object[]): Promise<unknown[]> {
  const command = [process.execPath, "-e", CLIENT, JSON.stringify(targets)];
  const [file, ...args] = from ? ["nsenter", `--net=/proc/${from.pid}/ns/net`, ...command] : command;
  return new Promise((resolve, reject) => {
    execFile(file!, args, (error, stdout) => (error ? reject(error) : resolve(JSON.parse(stdout))));
  });
}

await setupNodeNetwork({ nodes: 2 });
put("/namespaces", { metadata: { name: "shop" } });
const a = await pod("a");
const b = await pod("b");
const c = await pod("c");
put("/services", service("pair", "10.96.1.1", 30080));
put("discovery.k8s.io/endpointslices", slice("pair", [a.ip, b.ip]));
put("/services", service("self", "10.96.1.2"));
put("discovery.k8s.io/endpointslices", slice("self", [c.ip]));
put("/services", service("empty", "10.96.1.3"));
const network = await startServiceNetwork({
  cluster,
  clock: systemClock,
  log: createLogger({ level: "warn" }),
});

const dnsName = "pair.shop.svc.cluster.local";
const results: Record<string, unknown> = { ips: pods.map((p) => p.ip) };
results["pod"] = await client(c.process, [
  { host: a.ip, port: 8080 },
  { host: "10.96.1.1", port: 80, times: 30 },
  { host: "10.96.1.2", port: 80 },
  { host: "10.96.1.3", port: 80 },
  { host: "10.96.1.99", port: 80 },
  { host: "10.244.0.1", port: 30080 },
  { query: dnsName, type: "A", server: "10.96.0.10" },
  { query: `_http._tcp.${dnsName}`, type: "SRV", server: "10.244.0.1" },
  { query: "missing.shop.svc.cluster.local", type: "A", server: "10.96.0.10" },
  { query: "example.com", type: "A", server: "10.96.0.10" },
]);
results["node"] = await client(undefined, [
  { host: a.ip, port: 8080 },
  { host: "10.96.1.1", port: 80, times: 30 },
  { host: "10.96.1.3", port: 80 },
  { host: "127.0.0.1", port: 30080 },
  { host: "10.244.1.1", port: 30080 },
  { query: dnsName, type: "A", server: "10.96.0.10" },
]);

// A connection to an endpoint outlives the endpoint's removal from the service.
const { connect } = await import("node:net");
const held = connect({ host: "10.96.1.1", port: 80 });
const answer = () => new Promise<string>((resolve) => held.once("data", (data) => resolve(String(data))));
held.write("one");
const first = (await answer()).slice(0, 1);
const other = first === "a" ? b : a;
put("discovery.k8s.io/endpointslices", slice("pair", [other.ip]));
await until(async () => {
  const [seen] = (await client(undefined, [{ host: "10.96.1.1", port: 80, times: 12 }])) as string[][];
  return seen!.every((line) => line.startsWith(other.name));
});
held.write("two");
results["held"] = [first, (await answer()).slice(0, 1)];
held.destroy();
put("discovery.k8s.io/endpointslices", slice("pair", []));
await until(async () => {
  const [seen] = (await client(c.process, [{ host: "10.96.1.1", port: 80 }])) as string[][];
  return seen![0] === "ECONNREFUSED";
});
results["drained"] = true;

for (const each of pods) {
  await detachPod({ ip: each.ip, hostName: vethName(each.name) });
  each.process.kill("SIGKILL");
}
await detachPod({ ip: a.ip, hostName: vethName("a") });
results["gone"] = await client(undefined, [{ host: a.ip, port: 8080 }]);
await network.stop();
console.log(JSON.stringify(results));
