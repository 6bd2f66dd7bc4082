// Keeps the node's service rules in step with Services and EndpointSlices: the sandbox's kube-proxy.

import type { Logger } from "../../log/logger.ts";
import { type Backoff, Backoff as ExponentialBackoff } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Cluster, KubeObject } from "../cluster.ts";
import { type RunCommand, runCommand } from "./command.ts";
import { renderRules, servicePorts } from "./service-rules.ts";

/** Changes within this time share one transaction. */
const MIN_INTERVAL_MS = 100;

/** Tried in this order; the first that takes a transaction is used. */
const RESTORE_TOOLS = ["iptables-nft-restore", "iptables-legacy-restore", "iptables-restore"] as const;

export interface ServiceProxyOptions {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
  readonly run?: RunCommand;
}

export class ServiceProxy {
  readonly #cluster: Cluster;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #run: RunCommand;
  readonly #backoff: Backoff;
  readonly #services = new Map<string, KubeObject>();
  readonly #slices = new Map<string, KubeObject>();
  #unwatch: (() => void)[] = [];
  #tool: string | undefined;
  #affinity = false;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #dirty = false;
  #lastRun = Number.NEGATIVE_INFINITY;
  #applied: string | undefined;
  #chains: ReadonlySet<string> | undefined;
  #stopped = false;

  constructor(options: ServiceProxyOptions) {
    this.#cluster = options.cluster;
    this.#clock = options.clock;
    this.#log = options.log.child({ component: "service-proxy" });
    this.#run = options.run ?? runCommand;
    this.#backoff = new ExponentialBackoff({ min: 200, max: 10_000, jitter: 0.2 }, options.clock.random);
  }

  /** Resolves when the rules of everything that exists now are in place. @throws MeshError without iptables. */
  async start(): Promise<void> {
    await this.#detect();
    const track = (map: Map<string, KubeObject>) => (type: string, object: KubeObject) => {
      const key = `${object.metadata.namespace}/${object.metadata.name}`;
      if (type === "DELETED") map.delete(key);
      else map.set(key, object);
      this.#changed();
    };
    this.#unwatch = [
      this.#cluster.watch("", "services", track(this.#services)),
      this.#cluster.watch("discovery.k8s.io", "endpointslices", track(this.#slices)),
    ];
    this.#dirty = true;
    await this.#sync();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const unwatch of this.#unwatch) unwatch();
    this.#clock.clear(this.#timer);
    await this.#running;
  }

  /** Both iptables back ends exist and the kernel may refuse either: use what works, once and for all. */
  async #detect(): Promise<void> {
    let failure: unknown;
    for (const tool of RESTORE_TOOLS) {
      try {
        await this.#run(tool, ["--noflush"], "*nat\n:KUBE-PROBE - [0:0]\n-X KUBE-PROBE\nCOMMIT\n");
        this.#tool = tool;
        break;
      } catch (error) {
        failure ??= error;
      }
    }
    if (!this.#tool) throw failure;
    try {
      const recent =
        "-A KUBE-PROBE -m recent --name KUBE-PROBE --rcheck --seconds 1 --reap --rsource -j RETURN";
      const rules = `*nat\n:KUBE-PROBE - [0:0]\n${recent}\n-F KUBE-PROBE\n-X KUBE-PROBE\nCOMMIT\n`;
      await this.#run(this.#tool, ["--noflush"], rules);
      this.#affinity = true;
    } catch (error) {
      this.#log.debug("no session affinity: the kernel has no xt_recent", { error: errorMessage(error) });
    }
    this.#log.debug("service rules", { tool: this.#tool, affinity: this.#affinity });
  }

  #changed(): void {
    this.#dirty = true;
    if (this.#running || this.#timer || this.#stopped) return;
    this.#schedule(Math.max(0, this.#lastRun + MIN_INTERVAL_MS - this.#clock.monotonic()));
  }

  #schedule(delayMs: number): void {
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = undefined;
      void this.#sync();
    });
  }

  #sync(): Promise<void> {
    this.#running ??= this.#apply().finally(() => {
      this.#running = undefined;
      this.#lastRun = this.#clock.monotonic();
      if (this.#dirty && !this.#timer && !this.#stopped) this.#schedule(MIN_INTERVAL_MS);
    });
    return this.#running;
  }

  async #apply(): Promise<void> {
    this.#dirty = false;
    const ports = servicePorts([...this.#services.values()], [...this.#slices.values()]);
    const rendered = renderRules(ports, {
      hook: this.#chains === undefined,
      affinity: this.#affinity,
      ...(this.#chains ? { previousChains: this.#chains } : {}),
    });
    if (rendered.text === this.#applied) return;
    try {
      await this.#run(this.#tool!, ["--noflush"], rendered.text);
      this.#chains = rendered.chains;
      this.#applied = rendered.text;
      this.#backoff.reset();
    } catch (error) {
      this.#log.error("cannot apply the service rules", { error: errorMessage(error) });
      this.#dirty = true;
      if (!this.#stopped) this.#schedule(this.#backoff.next());
    }
  }
}
