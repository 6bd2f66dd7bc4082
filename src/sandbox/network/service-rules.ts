// Services and EndpointSlices → the node's iptables rules, as text for one `iptables-restore --noflush`.
// Pure. Chains are named and shaped as kube-proxy's, so that what people know of those holds here.
import { createHash } from "node:crypto";
import type { KubeObject } from "../cluster.ts";
import { SERVICE_CIDR } from "./addresses.ts";

export interface ServiceEndpoint {
  readonly ip: string;
  readonly port: number;
}

/** One port of one service, with the endpoints that take traffic now. */
export interface ServicePort {
  /** `namespace/name:port`, as kube-proxy's comments have it. */
  readonly id: string;
  readonly clusterIp: string;
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  readonly nodePort?: number;
  /** Stay with one endpoint per client for this long, seconds. */
  readonly affinitySeconds?: number;
  readonly endpoints: readonly ServiceEndpoint[];
}

const MASQUERADE_MARK = "0x4000/0x4000";

/**
 * The ports of all services with a cluster IP, sorted by id. Endpoints are the ready ones, or, while there are
 * none, those that still serve while they terminate (as kube-proxy does).
 */
export function servicePorts(services: readonly KubeObject[], slices: readonly KubeObject[]): ServicePort[] {
  const byService = new Map<string, KubeObject[]>();
  for (const slice of slices) {
    const service = slice.metadata.labels?.["kubernetes.io/service-name"];
    if (!service || slice["addressType"] !== "IPv4") continue;
    const key = `${slice.metadata.namespace}/${service}`;
    const list = byService.get(key);
    if (list) list.push(slice);
    else byService.set(key, [slice]);
  }
  const ports: ServicePort[] = [];
  for (const service of services) {
    const clusterIp: unknown = service["spec"]?.clusterIP;
    if (typeof clusterIp !== "string" || !/^\d+\.\d+\.\d+\.\d+$/.test(clusterIp)) continue;
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    for (const port of service["spec"].ports ?? []) {
      const protocol = String(port.protocol ?? "TCP").toLowerCase();
      if (protocol !== "tcp" && protocol !== "udp") continue;
      const affinity =
        service["spec"].sessionAffinity === "ClientIP"
          ? (service["spec"].sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800)
          : undefined;
      ports.push({
        id: port.name ? `${key}:${port.name}` : key,
        clusterIp,
        protocol,
        port: port.port,
        ...(port.nodePort ? { nodePort: port.nodePort } : {}),
        ...(affinity === undefined ? {} : { affinitySeconds: affinity }),
        endpoints: endpointsOf(byService.get(key) ?? [], port.name ?? ""),
      });
    }
  }
  return ports.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

function endpointsOf(slices: readonly KubeObject[], portName: string): ServiceEndpoint[] {
  const ready = new Map<string, ServiceEndpoint>();
  const leaving = new Map<string, ServiceEndpoint>();
  for (const slice of slices) {
    const port = (slice["ports"] ?? []).find((p: { name?: string }) => (p.name ?? "") === portName)?.port;
    if (!port) continue;
    for (const endpoint of slice["endpoints"] ?? []) {
      const conditions = endpoint.conditions ?? {};
      const ip = endpoint.addresses?.[0];
      if (!ip) continue;
      // An unset "ready" means ready (EndpointConditions).
      if (conditions.ready ?? true) ready.set(`${ip}:${port}`, { ip, port });
      else if (conditions.serving && conditions.terminating) leaving.set(`${ip}:${port}`, { ip, port });
    }
  }
  const chosen = ready.size > 0 ? ready : leaving;
  return [...chosen.keys()].sort().map((key) => chosen.get(key)!);
}

export interface RenderOptions {
  /** Chains of the transaction before, to remove those that are no longer used. */
  readonly previousChains?: ReadonlySet<string>;
  /** Also hook our chains into the built-in ones: for the first transaction only. */
  readonly hook: boolean;
  /** The kernel can keep a client at its endpoint (xt_recent). */
  readonly affinity: boolean;
}

export interface RenderedRules {
  readonly text: string;
  /** Per-service chains of this transaction. */
  readonly chains: ReadonlySet<string>;
}

/** Renders the nat and filter tables. The same input gives the same text. */
export function renderRules(ports: readonly ServicePort[], options: RenderOptions): RenderedRules {
  const chains = new Set<string>();
  const services: string[] = [];
  const nodePorts: string[] = [];
  const balance: string[] = [];
  const reject: string[] = [];

  for (const port of ports) {
    const comment = `-m comment --comment "${port.id}"`;
    const to = `-d ${port.clusterIp}/32 -p ${port.protocol} -m ${port.protocol} --dport ${port.port}`;
    const toNode = `-p ${port.protocol} -m ${port.protocol} --dport ${port.nodePort}`;
    if (port.endpoints.length === 0) {
      const why = `-m comment --comment "${port.id} has no endpoints" -j REJECT --reject-with ${refusal(port.protocol)}`;
      reject.push(`-A KUBE-SERVICES ${to} ${why}`);
      if (port.nodePort) reject.push(`-A KUBE-SERVICES -m addrtype --dst-type LOCAL ${toNode} ${why}`);
      continue;
    }
    const chain = chainName("KUBE-SVC", `${port.id}${port.protocol}`);
    chains.add(chain);
    services.push(`-A KUBE-SERVICES ${to} ${comment} -j ${chain}`);
    if (port.nodePort) {
      nodePorts.push(`-A KUBE-NODEPORTS ${toNode} ${comment} -j KUBE-MARK-MASQ`);
      nodePorts.push(`-A KUBE-NODEPORTS ${toNode} ${comment} -j ${chain}`);
    }
    const sticky = options.affinity ? port.affinitySeconds : undefined;
    const targets = port.endpoints.map((endpoint) => ({
      endpoint,
      chain: chainName("KUBE-SEP", `${port.id}${port.protocol}${endpoint.ip}:${endpoint.port}`),
    }));
    if (sticky !== undefined) {
      for (const target of targets) {
        const seen = `-m recent --name ${target.chain} --rcheck --seconds ${sticky} --reap --rsource`;
        balance.push(`-A ${chain} ${comment} ${seen} -j ${target.chain}`);
      }
    }
    targets.forEach((target, index) => {
      const left = targets.length - index;
      // The last rule takes what is left, each before it an equal share of what reaches it.
      const share = left > 1 ? ` -m statistic --mode random --probability ${(1 / left).toFixed(10)}` : "";
      const address = `${target.endpoint.ip}:${target.endpoint.port}`;
      balance.push(`-A ${chain} -m comment --comment "${port.id} -> ${address}"${share} -j ${target.chain}`);
    });
    for (const target of targets) {
      chains.add(target.chain);
      // A pod that meets itself behind its own service must see another source, or it answers itself directly.
      balance.push(`-A ${target.chain} -s ${target.endpoint.ip}/32 ${comment} -j KUBE-MARK-MASQ`);
      const remember = sticky === undefined ? "" : ` -m recent --name ${target.chain} --set --rsource`;
      const address = `${target.endpoint.ip}:${target.endpoint.port}`;
      balance.push(
        `-A ${target.chain} -p ${port.protocol} ${comment}${remember} -m ${port.protocol} -j DNAT --to-destination ${address}`,
      );
    }
  }

  const stale = [...(options.previousChains ?? [])].filter((chain) => !chains.has(chain)).sort();
  const own = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];
  const nat = [
    "*nat",
    ...[...own, ...[...chains].sort(), ...stale].map((chain) => `:${chain} - [0:0]`),
    ...(options.hook
      ? ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j KUBE-POSTROUTING"]
      : []),
    `-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000`,
    `-A KUBE-POSTROUTING -m mark ! --mark ${MASQUERADE_MARK} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000`,
    `-A KUBE-POSTROUTING -j MASQUERADE`,
    ...services,
    ...(nodePorts.length > 0 ? ["-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"] : []),
    ...nodePorts,
    ...balance,
    ...stale.map((chain) => `-X ${chain}`),
    "COMMIT",
  ];
  const filter = [
    "*filter",
    ":KUBE-SERVICES - [0:0]",
    ...(options.hook
      ? ["INPUT", "FORWARD", "OUTPUT"].map(
          (chain) => `-A ${chain} -m conntrack --ctstate NEW -j KUBE-SERVICES`,
        )
      : []),
    ...reject,
    // DNS has its own address on the node and needs no rewriting.
    `-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j RETURN`,
    ...["-p tcp ", ""].map((protocol) => {
      const why = `-m comment --comment "no such service" -j REJECT`;
      return `-A KUBE-SERVICES -d ${SERVICE_CIDR} ${protocol}${why} --reject-with ${refusal(protocol ? "tcp" : "udp")}`;
    }),
    "COMMIT",
  ];
  return { text: `${[...nat, ...filter].join("\n")}\n`, chains };
}

/** ICMP errors are rate limited by the kernel (a burst of 6 a host, then 1/s); resets are not. */
function refusal(protocol: "tcp" | "udp"): string {
  return protocol === "tcp" ? "tcp-reset" : "icmp-port-unreachable";
}

/** A chain's name within iptables' 28 characters: kind and 80 bits of a hash. */
function chainName(kind: string, id: string): string {
  const digest = createHash("sha256").update(id).digest();
  let bits = 0n;
  for (const byte of digest.subarray(0, 10)) bits = (bits << 8n) | BigInt(byte);
  let text = "";
  for (let i = 0; i < 16; i++) {
    text = BASE32[Number(bits & 31n)] + text;
    bits >>= 5n;
  }
  return `${kind}-${text}`;
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
