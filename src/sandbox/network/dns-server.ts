// The cluster's DNS server: UDP and TCP in front of the zone; other names go to the host's resolvers, if they can
// be reached from the sandbox's network at all.
import { randomInt } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer, isIPv4, type Server, type Socket } from "node:net";
import dnsPacket, { type Answer, type Packet, type Question } from "dns-packet";
import type { Logger } from "../../log/logger.ts";
import { errorMessage } from "../../util/error.ts";
import { CLUSTER_DOMAIN } from "./addresses.ts";
import { type DnsRecord, type DnsZone, TTL } from "./dns-zone.ts";

const FORWARD_TIMEOUT_MS = 1_000;
const MAX_FORWARDS = 256;
const MAX_TCP_CONNECTIONS = 128;
const TCP_IDLE_MS = 10_000;
/** The largest UDP answer that is never fragmented (DNS flag day 2020). */
const MAX_UDP_ANSWER = 1_232;

export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4 } as const;
const QUERY_FLAGS = {
  RECURSION_DESIRED: 0x0100,
  RECURSION_AVAILABLE: 0x0080,
  AUTHORITATIVE: 0x0400,
  TRUNCATED: 0x0200,
};

export interface DnsServerOptions {
  readonly zone: DnsZone;
  /** Where to listen, each on UDP and TCP. */
  readonly addresses: readonly string[];
  /** Default 53; 0 takes a free one (with a single address). */
  readonly port?: number;
  /** Upstream servers for names outside the cluster. Default: the host's /etc/resolv.conf. */
  readonly resolvers?: readonly string[];
  readonly log: Logger;
}

export interface DnsServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Resolves when every address answers. */
export async function startDnsServer(options: DnsServerOptions): Promise<DnsServer> {
  const log = options.log.child({ component: "dns" });
  const resolvers = (options.resolvers ?? hostResolvers()).filter((ip) => !options.addresses.includes(ip));
  const forwarder = new Forwarder(resolvers);
  const udp: UdpSocket[] = [];
  const tcp: Server[] = [];
  const connections = new Set<Socket>();
  const close = async () => {
    forwarder.close();
    for (const socket of connections) socket.destroy();
    await Promise.all([
      ...udp.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))),
      ...tcp.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
    ]);
  };
  let port = options.port ?? 53;
  try {
    for (const address of options.addresses) {
      const server = createServer((socket) => serveTcp(socket, options.zone, forwarder, connections));
      await listen(server, port, address);
      tcp.push(server);
      port = (server.address() as { port: number }).port;
      const socket = createSocket("udp4");
      await bind(socket, port, address);
      udp.push(socket);
      socket.on("message", (message, peer) => {
        void respond(message, options.zone, forwarder, "udp").then((reply) => {
          if (reply) socket.send(reply, peer.port, peer.address, () => {});
        });
      });
      socket.on("error", (error) => log.warn("dns socket", { error: errorMessage(error) }));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { port, close };
}

function listen(server: Server, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function bind(socket: UdpSocket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, () => {
      socket.off("error", reject);
      resolve();
    });
  });
}

function serveTcp(socket: Socket, zone: DnsZone, forwarder: Forwarder, all: Set<Socket>): void {
  if (all.size >= MAX_TCP_CONNECTIONS) {
    socket.destroy();
    return;
  }
  all.add(socket);
  let buffered: Buffer = Buffer.alloc(0);
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("close", () => all.delete(socket));
  socket.on("data", (chunk) => {
    buffered = Buffer.concat([buffered, chunk]);
    while (buffered.length >= 2) {
      const length = buffered.readUInt16BE(0);
      if (buffered.length < 2 + length) return;
      const message = buffered.subarray(2, 2 + length);
      buffered = buffered.subarray(2 + length);
      void respond(message, zone, forwarder, "tcp").then((reply) => {
        if (!reply || socket.destroyed) return;
        const frame = Buffer.alloc(2 + reply.length);
        frame.writeUInt16BE(reply.length, 0);
        reply.copy(frame, 2);
        socket.write(frame);
      });
    }
  });
}

/** The reply to one message; undefined for what deserves none (not a query, too short). Never throws. */
export async function respond(
  message: Buffer,
  zone: DnsZone,
  forwarder: { ask(question: Question): Promise<Packet | undefined> },
  transport: "udp" | "tcp",
): Promise<Buffer | undefined> {
  if (message.length < 12 || (message[2]! & 0x80) !== 0) return undefined;
  let query: Packet;
  try {
    query = dnsPacket.decode(message);
  } catch {
    return encode({ type: "response", id: message.readUInt16BE(0), flags: RCODE.FORMERR });
  }
  const question = query.questions?.[0];
  const flags = ((query.flags ?? 0) & QUERY_FLAGS.RECURSION_DESIRED) | QUERY_FLAGS.RECURSION_AVAILABLE;
  const base = { type: "response" as const, id: query.id ?? 0, questions: query.questions ?? [] };
  const opt = query.additionals?.find((record) => record.type === "OPT");
  const finish = (rcode: number, more: Partial<Packet> = {}, authoritative = true) => {
    const reply: Packet = {
      ...base,
      ...more,
      flags: flags | rcode | (authoritative ? QUERY_FLAGS.AUTHORITATIVE : 0),
      additionals: [...(more.additionals ?? []), ...(opt ? [EDNS] : [])],
    };
    const limit = transport === "tcp" ? 65_535 : opt ? MAX_UDP_ANSWER : 512;
    return encodeWithin(reply, limit);
  };
  if ((message[2]! & 0x78) !== 0) return finish(RCODE.NOTIMP, {}, false); // opcode
  if (!question || query.questions?.length !== 1) return finish(RCODE.FORMERR, {}, false);

  const found = zone.resolve(question.name, question.type);
  if (found.kind === "nxdomain") return finish(RCODE.NXDOMAIN, { authorities: [SOA] });
  if (found.kind === "answer") {
    if (found.answers.length === 0) return finish(RCODE.NOERROR, { authorities: [SOA] });
    return finish(RCODE.NOERROR, {
      answers: toPacket(found.answers),
      additionals: toPacket(found.additionals),
    });
  }
  const upstream = await forwarder.ask({ type: question.type, name: found.name, class: "IN" });
  if (!upstream) {
    // A known alias is still worth telling.
    return found.prefix.length > 0
      ? finish(RCODE.NOERROR, { answers: toPacket(found.prefix) })
      : finish(RCODE.SERVFAIL, {}, false);
  }
  const rcode = (upstream.flags ?? 0) & 0x0f;
  return finish(
    rcode,
    {
      answers: [...toPacket(found.prefix), ...(upstream.answers ?? [])],
      authorities: upstream.authorities ?? [],
    },
    false,
  );
}

const SOA: Answer = {
  type: "SOA",
  name: CLUSTER_DOMAIN,
  ttl: TTL,
  data: {
    mname: `ns.dns.${CLUSTER_DOMAIN}`,
    rname: `hostmaster.${CLUSTER_DOMAIN}`,
    serial: 1,
    refresh: 7_200,
    retry: 1_800,
    expire: 86_400,
    minimum: TTL,
  },
};

const EDNS = {
  type: "OPT",
  name: ".",
  udpPayloadSize: MAX_UDP_ANSWER,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
} as Answer;

function toPacket(records: readonly DnsRecord[]): Answer[] {
  return records.map((record) => ({ ...record, class: "IN" }) as Answer);
}

function encode(packet: Packet): Buffer {
  return dnsPacket.encode(packet);
}

/** Drops the extras, then the answers (with the truncated flag: the client comes back over TCP). */
function encodeWithin(packet: Packet, limit: number): Buffer {
  let bytes = encode(packet);
  if (bytes.length <= limit) return bytes;
  const opt = (packet.additionals ?? []).filter((record) => record.type === "OPT");
  bytes = encode({ ...packet, additionals: opt });
  if (bytes.length <= limit) return bytes;
  return encode({
    ...packet,
    flags: (packet.flags ?? 0) | QUERY_FLAGS.TRUNCATED,
    answers: [],
    authorities: [],
    additionals: opt,
  });
}

function hostResolvers(): string[] {
  try {
    return [...readFileSync("/etc/resolv.conf", "utf8").matchAll(/^nameserver\s+(\S+)/gm)]
      .map((match) => match[1]!)
      .filter((ip) => isIPv4(ip))
      .slice(0, 3);
  } catch {
    return [];
  }
}

/** Asks the upstream servers in turn, each question on a socket of its own; gives up fast. */
class Forwarder {
  readonly #resolvers: readonly string[];
  readonly #open = new Set<UdpSocket>();

  constructor(resolvers: readonly string[]) {
    this.#resolvers = resolvers;
  }

  /** Undefined: nobody answered. */
  async ask(question: Question): Promise<Packet | undefined> {
    if (this.#open.size >= MAX_FORWARDS) return undefined;
    for (const resolver of this.#resolvers) {
      const reply = await this.#askOne(resolver, question);
      if (reply) return reply;
    }
    return undefined;
  }

  close(): void {
    for (const socket of this.#open) socket.emit("error", new Error("closed"));
  }

  #askOne(resolver: string, question: Question): Promise<Packet | undefined> {
    return new Promise((resolve) => {
      const socket = createSocket("udp4");
      this.#open.add(socket);
      const id = randomInt(65_536);
      const finish = (reply: Packet | undefined) => {
        if (!this.#open.delete(socket)) return;
        clearTimeout(timer);
        socket.close();
        resolve(reply);
      };
      const timer = setTimeout(() => finish(undefined), FORWARD_TIMEOUT_MS);
      socket.on("error", () => finish(undefined));
      socket.on("message", (message) => {
        try {
          const reply = dnsPacket.decode(message);
          if (reply.id === id) finish(reply);
        } catch {
          finish(undefined);
        }
      });
      try {
        // Connected: an unreachable network or a closed port fails at once instead of timing out.
        socket.connect(53, resolver, (error?: Error) => {
          if (error) return finish(undefined);
          if (!this.#open.has(socket)) return;
          const query = {
            type: "query" as const,
            id,
            flags: QUERY_FLAGS.RECURSION_DESIRED,
            questions: [question],
          };
          socket.send(encode(query), (sendError) => {
            if (sendError) finish(undefined);
          });
        });
      } catch {
        finish(undefined);
      }
    });
  }
}
