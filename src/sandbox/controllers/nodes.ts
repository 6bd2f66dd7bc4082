// The Node objects: what each node is and has, that it is ready, and the Lease that says it still lives.

import { readFileSync } from "node:fs";
import { availableParallelism, hostname, release, totalmem } from "node:os";
import type { Logger } from "../../log/logger.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import { VERSION } from "../../util/version.ts";
import type { Cluster, Json } from "../cluster.ts";
import { nodeIp, nodePodCidr } from "../network/addresses.ts";
import { timestamp } from "./controller.ts";

const LEASE_SECONDS = 40;
const RENEW_MS = 10_000;
/** The status is written again at least this often, as the kubelet does. */
const STATUS_MS = 300_000;
/** Pods a node takes: what its addresses allow, but no more than Kubernetes' default. */
const MAX_PODS = 110;
/** The Kubernetes release whose behaviour the sandbox follows, as the API server states it. */
const KUBELET_VERSION = `v1.32.0+mesh.${VERSION}`;
const ZONES = ["zone-a", "zone-b", "zone-c"];

/** `mesh-0`, `mesh-1`, …; the address and pod network follow from the index. */
export function nodeName(index: number): string {
  return `mesh-${index}`;
}

export class NodeHeartbeat {
  readonly #cluster: Cluster;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #count: number;
  #timer: Timer | undefined;
  #statusAt = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(context: { cluster: Cluster; clock: Clock; log: Logger }, count: number) {
    this.#cluster = context.cluster;
    this.#clock = context.clock;
    this.#log = context.log.child({ controller: "node" });
    this.#count = count;
  }

  /** Resolves when all nodes are registered and ready; nodes of an earlier, larger sandbox are removed. */
  async start(): Promise<void> {
    for (const node of this.#cluster.list("", "nodes")) {
      const index = Number(/^mesh-(\d+)$/.exec(node.metadata.name)?.[1] ?? Number.NaN);
      if (index >= this.#count)
        await this.#cluster.delete({ group: "", resource: "nodes", name: node.metadata.name });
    }
    await this.#beat();
    this.#plan();
  }

  stop(): void {
    this.#stopped = true;
    this.#clock.clear(this.#timer);
  }

  #plan(): void {
    this.#timer = this.#clock.after(RENEW_MS, () => {
      this.#beat()
        .catch((error) => this.#log.warn("node heartbeat", { error: errorMessage(error) }))
        .finally(() => {
          if (!this.#stopped) this.#plan();
        });
    });
  }

  async #beat(): Promise<void> {
    const now = this.#clock.monotonic();
    const full = now - this.#statusAt >= STATUS_MS;
    for (let index = 0; index < this.#count; index++) {
      const present = this.#cluster.get({ group: "", resource: "nodes", name: nodeName(index) });
      if (full || !present) await this.#register(index);
      await this.#renew(nodeName(index));
    }
    if (full) this.#statusAt = now;
  }

  async #register(index: number): Promise<void> {
    const name = nodeName(index);
    const ref = { group: "", resource: "nodes", name };
    const labels = {
      "beta.kubernetes.io/arch": architecture(),
      "beta.kubernetes.io/os": "linux",
      "kubernetes.io/arch": architecture(),
      "kubernetes.io/hostname": name,
      "kubernetes.io/os": "linux",
      "topology.kubernetes.io/region": "local",
      "topology.kubernetes.io/zone": ZONES[index % ZONES.length]!,
      ...(index === 0 ? { "node-role.kubernetes.io/control-plane": "" } : {}),
    };
    if (!this.#cluster.get(ref)) {
      await this.#cluster.create("", "nodes", undefined, {
        apiVersion: "v1",
        kind: "Node",
        metadata: {
          name,
          labels,
          annotations: { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
        },
        spec: { podCIDR: nodePodCidr(index), podCIDRs: [nodePodCidr(index)] },
      });
    }
    const status = nodeStatus(index, this.#clock.now());
    await this.#cluster.modify(
      ref,
      (node) => {
        for (const condition of status.conditions) {
          const before = node["status"]?.conditions?.find((other: Json) => other.type === condition.type);
          if (before?.status === condition.status) condition.lastTransitionTime = before.lastTransitionTime;
        }
        return { ...node, status };
      },
      { subresource: "status" },
    );
  }

  async #renew(name: string): Promise<void> {
    const now = new Date(this.#clock.now()).toISOString().replace("Z", "000Z");
    const ref = { group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease", name };
    const renewed = await this.#cluster.modify(ref, (lease) => ({
      ...lease,
      spec: { ...lease["spec"], holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime: now },
    }));
    if (renewed) return;
    const node = this.#cluster.get({ group: "", resource: "nodes", name });
    await this.#cluster.create(ref.group, ref.resource, ref.namespace, {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: {
        name,
        namespace: ref.namespace,
        ...(node
          ? { ownerReferences: [{ apiVersion: "v1", kind: "Node", name, uid: node.metadata.uid! }] }
          : {}),
      },
      spec: { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime: now },
    });
  }
}

function nodeStatus(index: number, now: number): Json {
  const time = timestamp(now);
  const resources = {
    cpu: String(availableParallelism()),
    "ephemeral-storage": "20Gi",
    memory: `${Math.floor(totalmem() / 1024)}Ki`,
    pods: String(MAX_PODS),
  };
  const condition = (type: string, status: string, reason: string, message: string) => ({
    type,
    status,
    reason,
    message,
    lastHeartbeatTime: time,
    lastTransitionTime: time,
  });
  return {
    addresses: [
      { type: "InternalIP", address: nodeIp(index) },
      { type: "Hostname", address: nodeName(index) },
    ],
    capacity: resources,
    allocatable: resources,
    conditions: [
      condition(
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
      ),
      condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
      condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
      condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
    nodeInfo: {
      architecture: architecture(),
      bootID: readText("/proc/sys/kernel/random/boot_id"),
      containerRuntimeVersion: `kubectl-mesh://${VERSION}`,
      kernelVersion: release(),
      kubeProxyVersion: KUBELET_VERSION,
      kubeletVersion: KUBELET_VERSION,
      machineID: readText("/etc/machine-id") || hostname(),
      operatingSystem: "linux",
      osImage: /^PRETTY_NAME="?([^"\n]*)/m.exec(readText("/etc/os-release"))?.[1] ?? "Linux",
      systemUUID: "",
    },
  };
}

function architecture(): string {
  return process.arch === "x64" ? "amd64" : process.arch;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}
