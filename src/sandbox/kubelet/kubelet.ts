// The kubelet of every node of the sandbox: one worker a pod, and the node's side of log, exec and port-forward.
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import { badRequest, notFound } from "../apiserver/status.ts";
import type { Cluster, KubeObject } from "../cluster.ts";
import { attachPod, detachPod, nodeIp, PodIpPool, vethName } from "../network/index.ts";
import type { AttachOptions, ExecOptions, ExecSession, LogOptions, NodeApi } from "../node-api.ts";
import type { Container } from "./container.ts";
import { PodDialer } from "./dial.ts";
import { attach, startExec } from "./exec-session.ts";
import { readLog } from "./log-file.ts";
import { type PodNode, type PodSandbox, PodWorker } from "./pod-worker.ts";
import { startPause } from "./process.ts";
import { type LaunchedInstance, launch, type NodeRuntime } from "./runtime.ts";

export interface KubeletOptions {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
  /** Names of the nodes, by index. */
  readonly nodes: readonly string[];
  /** State of pods: logs, volumes. Kept across restarts. */
  readonly directory: string;
  readonly runtime: NodeRuntime;
  readonly allocatable: { readonly cpu: string; readonly memory: string };
}

/** Pod sandboxes that are made at the same time. */
const MAX_SETUPS = 4;

export class Kubelet implements NodeApi {
  readonly #options: KubeletOptions;
  readonly #log: Logger;
  readonly #workers = new Map<string, PodWorker>();
  readonly #dialers = new Map<string, PodDialer>();
  readonly #nodes = new Map<string, PodNode>();
  #setups = 0;
  readonly #waiting: (() => void)[] = [];
  #unwatch: (() => void)[] = [];

  constructor(options: KubeletOptions) {
    this.#options = options;
    this.#log = options.log.child({ component: "kubelet" });
    for (const [index, name] of options.nodes.entries()) {
      const pool = new PodIpPool(index, { now: () => options.clock.monotonic() });
      this.#nodes.set(name, this.#node(nodeIp(index), pool));
    }
  }

  /** Takes up the pods that are bound to its nodes, now and from now on. */
  start(): void {
    const { cluster, directory } = this.#options;
    mkdirSync(directory, { recursive: true });
    const known = new Set(cluster.list("", "pods").map((pod) => pod.metadata.uid!));
    for (const uid of readdirSync(directory)) {
      if (!known.has(uid)) rmSync(join(directory, uid), { recursive: true, force: true });
    }
    this.#unwatch = [
      cluster.watch("", "pods", (type, pod) => this.#podChanged(type, pod)),
      ...(["configmaps", "secrets"] as const).map((resource) =>
        cluster.watch("", resource, (_, object) => {
          for (const worker of this.#workers.values()) {
            if (worker.pod.metadata.namespace === object.metadata.namespace) {
              worker.sourceChanged(resource, object.metadata.name);
            }
          }
        }),
      ),
    ];
  }

  /** Ends all pods on this machine within `graceMs`; to the cluster they stay as they are. */
  async stop(graceMs: number): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    for (const dialer of this.#dialers.values()) dialer.close();
    await Promise.allSettled([...this.#workers.values()].map((worker) => worker.shutDown(graceMs)));
  }

  #podChanged(type: string, pod: KubeObject): void {
    const uid = pod.metadata.uid!;
    const worker = this.#workers.get(uid);
    if (type === "DELETED") worker?.removed();
    else if (worker) worker.update(pod);
    else {
      const node = this.#nodes.get(pod["spec"].nodeName ?? "");
      if (!node) return;
      try {
        this.#workers.set(uid, new PodWorker(node, pod));
      } catch (error) {
        this.#log.error("cannot take up a pod", { pod: pod.metadata.name, error: errorMessage(error) });
      }
    }
  }

  #node(ip: string, pool: PodIpPool): PodNode {
    const { cluster, clock, directory, allocatable, runtime } = this.#options;
    return {
      cluster,
      clock,
      log: this.#log,
      ip,
      directory,
      allocatable,
      createSandbox: (pod, hostname) => this.#limited(() => createSandbox(pod, hostname, ip, pool)),
      launch: (options) => launch({ ...options, runtime }),
      forget: (worker) => {
        if (this.#workers.get(worker.uid) === worker) this.#workers.delete(worker.uid);
        this.#dialers.get(worker.uid)?.close();
        this.#dialers.delete(worker.uid);
      },
    };
  }

  async #limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.#setups >= MAX_SETUPS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#setups += 1;
    try {
      return await work();
    } finally {
      this.#setups -= 1;
      this.#waiting.shift()?.();
    }
  }

  // NodeApi

  async *logs(namespace: string, pod: string, options: LogOptions): AsyncGenerator<Buffer> {
    const { container, follow, previous, timestamps, tailLines, limitBytes } = options;
    const { worker } = this.#find(namespace, pod, container);
    const log = worker.logFile(container, previous);
    if (!log) throw badRequest(this.#noLog(worker, container, previous));
    const { clock } = this.#options;
    const since = options.sinceTime
      ? Date.parse(options.sinceTime)
      : options.sinceSeconds === undefined
        ? undefined
        : clock.now() - options.sinceSeconds * 1000;
    yield* readLog(log.path, { follow: follow && !previous, timestamps, tailLines, limitBytes, since }, log);
  }

  #noLog(worker: PodWorker, container: string, previous: boolean): string {
    const { name } = worker.pod.metadata;
    if (previous) return `previous terminated container "${container}" in pod "${name}" not found`;
    const state = worker.containers.find((each) => each.name === container)?.state;
    if (state?.kind === "waiting") {
      return `container "${container}" in pod "${name}" is waiting to start: ${state.reason}`;
    }
    return `no log of container "${container}" in pod "${name}" is left`;
  }

  async exec(namespace: string, pod: string, options: ExecOptions): Promise<ExecSession> {
    const { worker, container } = this.#find(namespace, pod, options.container);
    const instance = runningInstance(container);
    return startExec(instance.pid, instance.command, options, worker.directory);
  }

  async attach(namespace: string, pod: string, options: AttachOptions): Promise<ExecSession> {
    const { worker, container } = this.#find(namespace, pod, options.container);
    const instance = runningInstance(container);
    return attach(instance, worker.logFile(container.name, false)!);
  }

  async dial(namespace: string, pod: string, port: number): Promise<Duplex> {
    const { worker } = this.#find(namespace, pod);
    const { sandbox } = worker;
    if (!sandbox) throw badRequest(`pod ${pod} is not running`);
    let dialer = this.#dialers.get(worker.uid);
    if (!dialer) {
      dialer = new PodDialer(sandbox.network ? sandbox.pid : undefined, this.#options.clock);
      this.#dialers.set(worker.uid, dialer);
    }
    return dialer.dial(port);
  }

  #find(namespace: string, name: string): { worker: PodWorker };
  #find(namespace: string, name: string, container: string): { worker: PodWorker; container: Container };
  #find(namespace: string, name: string, container?: string) {
    const pod = this.#options.cluster.get({ group: "", resource: "pods", namespace, name });
    if (!pod) throw notFound("", "pods", name);
    const worker = this.#workers.get(pod.metadata.uid!);
    if (!worker) throw badRequest(`pod ${name} does not have a host assigned`);
    const found = worker.containers.find((each) => each.name === container);
    if (container !== undefined && !found)
      throw badRequest(`container ${container} is not valid for pod ${name}`);
    return { worker, container: found };
  }
}

function runningInstance(container: Container): LaunchedInstance {
  const instance = container.instance as LaunchedInstance | undefined;
  if (!instance) throw badRequest(`container not found ("${container.name}" is not running)`);
  return instance;
}

async function createSandbox(
  pod: KubeObject,
  hostname: string,
  nodeAddress: string,
  pool: PodIpPool,
): Promise<PodSandbox> {
  const network = pod["spec"].hostNetwork !== true;
  const pause = await startPause({ hostname, network });
  if (!network) {
    const remove = async () => {
      pause.kill("SIGKILL");
      await pause.exited;
    };
    return { pid: pause.pid, ip: nodeAddress, network, ended: pause.exited, remove };
  }
  const hostName = vethName(pod.metadata.uid!);
  const ip = pool.allocate();
  const remove = async () => {
    await detachPod({ ip, hostName }).catch(() => {});
    pause.kill("SIGKILL");
    await pause.exited;
    pool.release(ip);
  };
  try {
    await attachPod({ pid: pause.pid, ip, hostName });
  } catch (error) {
    await remove();
    throw error;
  }
  return { pid: pause.pid, ip, network, ended: pause.exited, remove };
}
