// The cluster's DNS over real sockets.
import dgram from "node:dgram";
import net from "node:net";
import dnsPacket, { type Packet } from "dns-packet";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import type { KubeObject } from "../../../src/sandbox/cluster.ts";
import { type DnsServer, RCODE, respond, startDnsServer } from "../../../src/sandbox/network/dns-server.ts";
import { DnsZone, resolvConf, type ZoneAnswer } from "../../../src/sandbox/network/dns-zone.ts";

const test = suite("dns");

function zone(): DnsZone {
  const made = new DnsZone();
  const service = (name: string, spec: object) =>
    made.service(true, { metadata: { name, namespace: "shop" }, spec });
  made.namespace(true, { metadata: { name: "shop" } });
  made.namespace(true, { metadata: { name: "quiet" } });
  service("web", {
    clusterIP: "10.96.0.20",
    ports: [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" },
    ],
  });
  service("db", { clusterIP: "None", ports: [{ name: "sql", port: 5432 }] });
  service("idle", { clusterIP: "None", ports: [{ port: 1 }] });
  service("away", { type: "ExternalName", externalName: "example.com" });
  service("near", { type: "ExternalName", externalName: "web.shop.svc.cluster.local" });
  service("loop", { type: "ExternalName", externalName: "loop.shop.svc.cluster.local" });
  made.endpointSlice(true, {
    metadata: { name: "db-1", namespace: "shop", labels: { "kubernetes.io/service-name": "db" } },
    addressType: "IPv4",
    ports: [{ name: "sql", port: 15432 }],
    endpoints: [
      { addresses: ["10.244.0.5"], hostname: "db-0", conditions: { ready: true } },
      { addresses: ["10.244.0.6"], conditions: { ready: true } },
      { addresses: ["10.244.0.7"], conditions: { ready: false } },
    ],
  } satisfies KubeObject);
  return made;
}

const brief = (found: ZoneAnswer): unknown =>
  found.kind === "answer"
    ? found.answers.map((record) =>
        record.type === "SRV"
          ? `${record.data.weight} ${record.data.port} ${record.data.target}`
          : `${record.type} ${record.data}`,
      )
    : found.kind === "forward"
      ? { forward: found.name, prefix: found.prefix.length }
      : found.kind;

const CASES: [name: string, type: string, expected: unknown][] = [
  ["web.shop.svc.cluster.local", "A", ["A 10.96.0.20"]],
  ["WEB.Shop.svc.cluster.local.", "A", ["A 10.96.0.20"]],
  ["web.shop.svc.cluster.local", "AAAA", []],
  ["db.shop.svc.cluster.local", "A", ["A 10.244.0.5", "A 10.244.0.6"]],
  ["idle.shop.svc.cluster.local", "A", []],
  ["db-0.db.shop.svc.cluster.local", "A", ["A 10.244.0.5"]],
  ["10-244-0-6.db.shop.svc.cluster.local", "A", ["A 10.244.0.6"]],
  ["10-244-0-7.db.shop.svc.cluster.local", "A", "nxdomain"],
  [
    "_sql._tcp.db.shop.svc.cluster.local",
    "SRV",
    ["50 15432 db-0.db.shop.svc.cluster.local", "50 15432 10-244-0-6.db.shop.svc.cluster.local"],
  ],
  [
    "db.shop.svc.cluster.local",
    "SRV",
    ["50 15432 db-0.db.shop.svc.cluster.local", "50 15432 10-244-0-6.db.shop.svc.cluster.local"],
  ],
  ["_http._tcp.web.shop.svc.cluster.local", "SRV", ["100 80 web.shop.svc.cluster.local"]],
  ["_dns._udp.web.shop.svc.cluster.local", "SRV", ["100 53 web.shop.svc.cluster.local"]],
  ["_http._udp.web.shop.svc.cluster.local", "SRV", "nxdomain"],
  ["_http._tcp.web.shop.svc.cluster.local", "A", []],
  ["missing.shop.svc.cluster.local", "A", "nxdomain"],
  ["web.quiet.svc.cluster.local", "A", "nxdomain"],
  ["web.nowhere.svc.cluster.local", "A", "nxdomain"],
  ["web.shop.svc.cluster.local.shop.svc.cluster.local", "A", "nxdomain"],
  ["example.com.svc.cluster.local", "A", "nxdomain"],
  ["shop.svc.cluster.local", "A", []],
  ["svc.cluster.local", "A", []],
  ["cluster.local", "A", []],
  ["web.shop.cluster.local", "A", "nxdomain"],
  ["10-244-0-9.shop.pod.cluster.local", "A", ["A 10.244.0.9"]],
  ["10-244-0-999.shop.pod.cluster.local", "A", "nxdomain"],
  ["10-244-0-9.nowhere.pod.cluster.local", "A", "nxdomain"],
  ["20.0.96.10.in-addr.arpa", "PTR", ["PTR web.shop.svc.cluster.local"]],
  ["5.0.244.10.in-addr.arpa", "PTR", ["PTR db-0.db.shop.svc.cluster.local"]],
  ["99.0.96.10.in-addr.arpa", "PTR", "nxdomain"],
  ["1.1.1.1.in-addr.arpa", "PTR", { forward: "1.1.1.1.in-addr.arpa", prefix: 0 }],
  ["away.shop.svc.cluster.local", "A", { forward: "example.com", prefix: 1 }],
  ["near.shop.svc.cluster.local", "A", ["CNAME web.shop.svc.cluster.local", "A 10.96.0.20"]],
  ["loop.shop.svc.cluster.local", "A", ["CNAME loop.shop.svc.cluster.local"]],
  ["example.com", "A", { forward: "example.com", prefix: 0 }],
  ["local", "A", { forward: "local", prefix: 0 }],
];

for (const [name, type, expected] of CASES) {
  test(`${type} ${name}`, () => {
    assert.equal(brief(zone().resolve(name, type)), expected);
  });
}

test("what is removed no longer resolves", () => {
  const names = zone();
  names.service(false, { metadata: { name: "web", namespace: "shop" } });
  assert.equal(brief(names.resolve("web.shop.svc.cluster.local", "A")), "nxdomain");
  names.namespace(false, { metadata: { name: "shop" } });
  assert.equal(brief(names.resolve("db.shop.svc.cluster.local", "A")), "nxdomain");
});

test("resolv.conf searches the pod's own namespace first", () => {
  assert.is(
    resolvConf("shop"),
    "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
  );
});

const nobody = { ask: async () => undefined };

test("an unreachable upstream is SERVFAIL, a known alias is still told", async () => {
  const ask = async (name: string) => {
    const query = dnsPacket.encode({ type: "query", id: 7, flags: 0x0100, questions: [{ type: "A", name }] });
    return dnsPacket.decode((await respond(query, zone(), nobody, "udp"))!);
  };
  const outside = await ask("example.com");
  assert.is((outside.flags ?? 0) & 15, RCODE.SERVFAIL);
  const alias = await ask("away.shop.svc.cluster.local");
  assert.equal(
    alias.answers?.map((record) => record.type),
    ["CNAME"],
  );
});

test("whatever bytes arrive, the server answers or stays silent", async () => {
  const names = zone();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 80 }), async (bytes) => {
      const reply = await respond(Buffer.from(bytes), names, nobody, "udp");
      if (reply) assert.ok(reply.length >= 12 && (reply[2]! & 0x80) !== 0);
    }),
  );
});

async function serving(fn: (server: DnsServer) => Promise<void>): Promise<void> {
  const names = zone();
  const many = Array.from({ length: 100 }, (_, i) => ({
    addresses: [`10.244.9.${i + 1}`],
    conditions: { ready: true },
  }));
  names.service(true, {
    metadata: { name: "many", namespace: "shop" },
    spec: { clusterIP: "None", ports: [{ port: 1 }] },
  });
  names.endpointSlice(true, {
    metadata: { name: "many-1", namespace: "shop", labels: { "kubernetes.io/service-name": "many" } },
    addressType: "IPv4",
    ports: [{ port: 1 }],
    endpoints: many,
  });
  const log = createLogger({ level: "off" });
  const server = await startDnsServer({ zone: names, addresses: ["127.0.0.1"], port: 0, resolvers: [], log });
  try {
    await fn(server);
  } finally {
    await server.close();
  }
}

function overUdp(port: number, name: string): Promise<Packet> {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket("udp4");
    socket.on("error", reject);
    socket.on("message", (message) => {
      socket.close();
      resolve(dnsPacket.decode(message));
    });
    socket.send(
      dnsPacket.encode({ type: "query", id: 9, questions: [{ type: "A", name }] }),
      port,
      "127.0.0.1",
    );
  });
}

test("UDP answers and truncates what does not fit; TCP gives it whole", async () => {
  await serving(async ({ port }) => {
    const small = await overUdp(port, "web.shop.svc.cluster.local");
    assert.is(small.id, 9);
    assert.is((small.answers![0] as { data?: string }).data, "10.96.0.20");
    const missing = await overUdp(port, "no.shop.svc.cluster.local");
    assert.is((missing.flags ?? 0) & 15, RCODE.NXDOMAIN);
    assert.is(missing.authorities?.[0]?.type, "SOA");
    const cut = await overUdp(port, "many.shop.svc.cluster.local");
    assert.ok(((cut.flags ?? 0) & 0x0200) !== 0);
    const whole = await new Promise<Packet>((resolve, reject) => {
      const socket = net.connect(port, "127.0.0.1");
      let seen = Buffer.alloc(0);
      socket.on("error", reject);
      socket.on("data", (chunk) => {
        seen = Buffer.concat([seen, chunk]);
        if (seen.length < 2 || seen.length < 2 + seen.readUInt16BE(0)) return;
        socket.destroy();
        resolve(dnsPacket.streamDecode(seen) as Packet);
      });
      socket.write(
        dnsPacket.streamEncode({
          type: "query",
          id: 3,
          questions: [{ type: "A", name: "many.shop.svc.cluster.local" }],
        }),
      );
    });
    assert.is(whole.answers?.length, 100);
  });
});

test.run();
