// A node for pod workers whose containers are only pretended: tests end them, and see what was started and signalled.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "../../src/log/logger.ts";
import { createCluster, type LocalCluster } from "../../src/sandbox/apiserver/index.ts";
import type { Json, KubeObject } from "../../src/sandbox/cluster.ts";
import { type PodNode, PodWorker } from "../../src/sandbox/kubelet/pod-worker.ts";
import type { Exit } from "../../src/sandbox/kubelet/process.ts";
import { type Clock, systemClock, type Timer } from "../../src/util/clock.ts";
import { until } from "./until.ts";

export interface FakeInstance {
  readonly container: string;
  readonly signals: string[];
  end(exitCode: number): void;
}

/** The system's clock, but timers and monotonic time run `speed` times as fast. */
export function fastClock(speed: number): Clock {
  return {
    ...systemClock,
    monotonic: () => systemClock.monotonic() * speed,
    after: (ms, fn): Timer => systemClock.after(ms / speed, fn),
  };
}

export class FakeNode implements PodNode {
  readonly cluster: LocalCluster;
  readonly clock: Clock;
  readonly log = createLogger({ level: "off" });
  readonly ip = "10.244.0.1";
  readonly directory = mkdtempSync(join(tmpdir(), "mesh-kubelet-"));
  readonly allocatable = { cpu: "2", memory: "1Gi" };
  /** What happened, in order: `start web`, `TERM web`, `sandbox`, `sandbox removed`. */
  readonly journal: string[] = [];
  readonly instances: FakeInstance[] = [];
  readonly workers = new Map<string, PodWorker>();
  /** Exit code with which a container answers SIGTERM; undefined: it does not. */
  onTerm: (container: string) => number | undefined = () => 0;
  failSandbox = 0;
  #unwatch: () => void = () => {};

  constructor(cluster: LocalCluster, clock: Clock) {
    this.cluster = cluster;
    this.clock = clock;
  }

  static async start(clock: Clock = systemClock): Promise<FakeNode> {
    const node = new FakeNode(await createCluster({ log: createLogger({ level: "off" }) }), clock);
    await node.cluster.create("", "serviceaccounts", "default", { metadata: { name: "default" } });
    node.takeUp();
    return node;
  }

  /** Takes up all pods, as a kubelet that has just started. */
  takeUp(): void {
    this.#unwatch = this.cluster.watch("", "pods", (type, pod) => {
      const worker = this.workers.get(pod.metadata.uid!);
      if (type === "DELETED") worker?.removed();
      else if (worker) worker.update(pod);
      else this.workers.set(pod.metadata.uid!, new PodWorker(this, pod));
    });
  }

  /** As if the machine had lost power. */
  crash(): void {
    this.#unwatch();
    this.workers.clear();
    this.instances.length = 0;
  }

  async createSandbox() {
    if (this.failSandbox-- > 0) throw new Error("no network today");
    this.journal.push("sandbox");
    return {
      pid: 1,
      ip: "10.244.0.7",
      network: true,
      ended: new Promise(() => {}),
      remove: async () => void this.journal.push("sandbox removed"),
    };
  }

  async launch(options: { container: Json }) {
    const name: string = options.container.name;
    let end: (exit: Exit) => void = () => {};
    const exited = new Promise<Exit>((resolve) => {
      end = resolve;
    });
    const signals: string[] = [];
    this.journal.push(`start ${name}`);
    this.instances.push({ container: name, signals, end: (exitCode) => end({ exitCode }) });
    return {
      pid: 2,
      exited,
      kill: (signal: string) => {
        signals.push(signal);
        this.journal.push(`${signal.slice(3)} ${name}`);
        const code = signal === "SIGKILL" ? 137 : this.onTerm(name);
        if (code !== undefined) end({ exitCode: code });
      },
      terminationMessage: () => "",
      exec: async () => ({ exitCode: 0, output: "" }),
      remove: () => {},
    };
  }

  forget(worker: PodWorker): void {
    this.workers.delete(worker.uid);
  }

  create(name: string, spec: Json): Promise<KubeObject> {
    return this.cluster.create("", "pods", "default", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name },
      spec: { nodeName: "mesh-0", automountServiceAccountToken: false, ...spec },
    });
  }

  pod(name: string): KubeObject | undefined {
    return this.cluster.get({ group: "", resource: "pods", namespace: "default", name });
  }

  /** Waits until the container's `count`-th instance has started. */
  async running(container: string, count = 1): Promise<FakeInstance> {
    const own = () => this.instances.filter((each) => each.container === container);
    await until(() => own().length >= count, 5_000, `start ${count} of ${container}`);
    return own()[count - 1]!;
  }

  async phase(name: string, phase: string): Promise<KubeObject> {
    return until(
      () => {
        const pod = this.pod(name);
        return pod?.["status"]?.phase === phase ? pod : undefined;
      },
      5_000,
      `phase ${phase}`,
    );
  }

  async close(): Promise<void> {
    this.#unwatch();
    await this.cluster.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A container of a test pod. */
export const container = (name: string, more: Json = {}): Json => ({
  name,
  image: "busybox",
  command: ["true"],
  ...more,
});
