// The node's side of the pod network: one bridge in the sandbox's network namespace, one veth pair a pod.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { errorMessage, MeshError } from "../../util/error.ts";
import { BRIDGE, DNS_SERVICE_IP, GATEWAY_IP, nodeIp, POD_CIDR, SERVICE_CIDR } from "./addresses.ts";
import { type RunCommand, runCommand } from "./command.ts";

/** Kernel switches of the node; each is per network namespace. */
const SYSCTLS: readonly (readonly [string, string])[] = [
  ["net/ipv4/ip_forward", "1"],
  // Pods reach each other through the node, never around it.
  ["net/ipv4/conf/all/send_redirects", "0"],
  ["net/ipv4/conf/default/send_redirects", "0"],
  ["net/ipv4/conf/all/rp_filter", "0"],
  ["net/ipv4/conf/default/rp_filter", "0"],
  // "No such pod" must reach every caller, not the first six.
  ["net/ipv4/icmp_ratelimit", "0"],
  // 127.0.0.1:nodePort on the node.
  ["net/ipv4/conf/all/route_localnet", "1"],
];

/** May be missing (module not loaded) or already so. */
const OPTIONAL_SYSCTLS: readonly (readonly [string, string])[] = [
  ["net/ipv6/conf/default/disable_ipv6", "1"],
  // Bridged frames are routed anyway; running the rules on them a second time only costs.
  ["net/bridge/bridge-nf-call-iptables", "0"],
  ["net/bridge/bridge-nf-call-ip6tables", "0"],
  ["net/ipv4/neigh/default/gc_thresh3", "4096"],
];

export interface NodeNetworkOptions {
  /** How many nodes share this namespace; each has an address. Default 1. */
  readonly nodes?: number;
  readonly run?: RunCommand;
}

/**
 * Prepares the network namespace that this process runs in: loopback, bridge, addresses of the nodes and of DNS,
 * routes and sysctls. Call once, in a fresh namespace.
 * @throws MeshError when a tool is missing or refuses.
 */
export async function setupNodeNetwork(options: NodeNetworkOptions = {}): Promise<void> {
  const run = options.run ?? runCommand;
  const lines = [
    "link set lo up",
    `link add ${BRIDGE} address ${macOf(GATEWAY_IP)} type bridge forward_delay 0 stp_state 0`,
    `addr add ${GATEWAY_IP}/32 dev ${BRIDGE}`,
    `addr add ${DNS_SERVICE_IP}/32 dev lo`,
  ];
  for (let node = 1; node < (options.nodes ?? 1); node++)
    lines.push(`addr add ${nodeIp(node)}/32 dev ${BRIDGE}`);
  lines.push(
    `link set ${BRIDGE} up`,
    // Each pod brings a route of its own. What has none fails at once, instead of after minutes of silence.
    `route add unreachable ${POD_CIDR}`,
    // The node's own calls to a service need a route before the rules can rewrite them.
    `route add ${SERVICE_CIDR} dev ${BRIDGE} src ${GATEWAY_IP}`,
  );
  // Before the bridge exists: it takes its switches from "default".
  for (const [key, value] of SYSCTLS) writeSysctl(key, value, false);
  for (const [key, value] of OPTIONAL_SYSCTLS) writeSysctl(key, value, true);
  await run("ip", ["-batch", "-"], `${lines.join("\n")}\n`);
}

function writeSysctl(key: string, value: string, optional: boolean): void {
  const path = `/proc/sys/${key}`;
  try {
    if (readFileSync(path, "utf8").trim() !== value) writeFileSync(path, value);
  } catch (error) {
    if (optional) return;
    throw new MeshError(`cannot set ${key.replaceAll("/", ".")}: ${errorMessage(error)}`, {
      hints: ["The sandbox's namespace needs a /proc of its own (unshare --pid --fork --mount-proc)."],
    });
  }
}

export interface PodAttachment {
  /** Process in the pod's network namespace; or give `netns`. */
  readonly pid?: number;
  /** Path of the namespace (`/proc/PID/ns/net`, `/run/netns/NAME`). */
  readonly netns?: string;
  readonly ip: string;
  /** Name of the node's end of the veth pair, see {@link vethName}. */
  readonly hostName: string;
}

/** The interface name (15 bytes at most) of a pod's end on the node. */
export function vethName(podUid: string): string {
  return `veth${createHash("sha256").update(podUid).digest("hex").slice(0, 10)}`;
}

/** Containers that are not root may listen on port 80, as containerd lets them. */
const POD_SETUP = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start; exec ip -batch -";

/**
 * Gives a pod its `lo` and `eth0`: address /32, so that everything it sends is routed by the node.
 * Nothing is left on the node when it fails.
 */
export async function attachPod(pod: PodAttachment, run: RunCommand = runCommand): Promise<void> {
  const netns = pod.netns ?? `/proc/${pod.pid}/ns/net`;
  await run(
    "ip",
    ["-batch", "-"],
    `link add ${pod.hostName} type veth peer name eth0 address ${macOf(pod.ip)} netns ${netns}\n` +
      `link set ${pod.hostName} master ${BRIDGE} up\n` +
      `route replace ${pod.ip}/32 dev ${BRIDGE} src ${GATEWAY_IP}\n`,
  );
  try {
    await run(
      "nsenter",
      [`--net=${netns}`, "sh", "-c", POD_SETUP],
      [
        "link set lo up",
        `addr add ${pod.ip}/32 dev eth0`,
        // No IPv6 on the pod network: router solicitations are only noise in captures.
        "link set eth0 addrgenmode none",
        "link set eth0 up",
        `route add ${GATEWAY_IP} dev eth0 scope link src ${pod.ip}`,
        `route add default via ${GATEWAY_IP} dev eth0 src ${pod.ip}`,
        "",
      ].join("\n"),
    );
  } catch (error) {
    await detachPod(pod, run);
    throw error;
  }
}

/**
 * Removes a pod's route and link; what is already gone (the link ends with the pod's namespace) is fine. From then on
 * its address answers "no route to host".
 */
export async function detachPod(
  pod: Pick<PodAttachment, "ip" | "hostName">,
  run: RunCommand = runCommand,
): Promise<void> {
  for (const args of [
    ["route", "del", `${pod.ip}/32`, "dev", BRIDGE],
    ["link", "del", pod.hostName],
  ]) {
    try {
      await run("ip", args);
    } catch (error) {
      if (!/Cannot find device|does not exist|No such process/i.test(errorMessage(error))) throw error;
    }
  }
}

/**
 * The interface's hardware address follows from its IP, so that neighbour entries stay right when an address
 * goes to another pod.
 */
function macOf(ip: string): string {
  return `02:42:${ip
    .split(".")
    .map((part) => Number(part).toString(16).padStart(2, "0"))
    .join(":")}`;
}
