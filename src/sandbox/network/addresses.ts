// The sandbox's address plan, and the pool each node takes pod addresses from.
import { MeshError } from "../../util/error.ts";

export const CLUSTER_DOMAIN = "cluster.local";
export const POD_CIDR = "10.244.0.0/16";
export const SERVICE_CIDR = "10.96.0.0/16";
/** The bridge's address: gateway of every pod, first node's own address. */
export const GATEWAY_IP = "10.244.0.1";
export const KUBERNETES_SERVICE_IP = "10.96.0.1";
export const DNS_SERVICE_IP = "10.96.0.10";
export const BRIDGE = "mesh0";
/** Each node owns one /24 of the pod network. */
export const MAX_NODES = 250;

/** Address of node `index` (0 is the first): the .1 of its pod network. */
export function nodeIp(index: number): string {
  return `10.244.${index}.1`;
}

export function nodePodCidr(index: number): string {
  return `10.244.${index}.0/24`;
}

export interface PodIpPoolOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** How long a released address rests before it is given out again, ms. Default 30 000. */
  readonly restMs?: number;
}

/**
 * Pod addresses of one node: .2 to .254 of its /24, handed out in a circle, so that an address comes back as
 * late as possible: caches (connections, DNS answers, balancers) that still hold it must not meet another pod.
 */
export class PodIpPool {
  readonly #node: number;
  readonly #now: () => number;
  readonly #restMs: number;
  readonly #used = new Set<number>();
  readonly #released = new Map<number, number>();
  #next = 2;

  constructor(node: number, options: PodIpPoolOptions) {
    this.#node = node;
    this.#now = options.now;
    this.#restMs = options.restMs ?? 30_000;
  }

  /** @throws MeshError when every address is in use or resting. */
  allocate(): string {
    for (let tried = 0; tried < 253; tried++) {
      const host = this.#next;
      this.#next = host === 254 ? 2 : host + 1;
      if (this.#used.has(host) || this.#rests(host)) continue;
      this.#used.add(host);
      return `10.244.${this.#node}.${host}`;
    }
    throw new MeshError(`node ${this.#node} has no free pod address in ${nodePodCidr(this.#node)}`, {
      hints: ["Delete some pods, or start the sandbox with more nodes (--nodes)."],
    });
  }

  /** Gives an address back; unknown addresses are ignored. */
  release(ip: string): void {
    const host = this.#host(ip);
    if (host !== undefined && this.#used.delete(host)) this.#released.set(host, this.#now());
  }

  get size(): number {
    return this.#used.size;
  }

  #rests(host: number): boolean {
    const since = this.#released.get(host);
    if (since === undefined) return false;
    if (this.#now() - since < this.#restMs) return true;
    this.#released.delete(host);
    return false;
  }

  #host(ip: string): number | undefined {
    const prefix = `10.244.${this.#node}.`;
    return ip.startsWith(prefix) ? Number(ip.slice(prefix.length)) : undefined;
  }
}
