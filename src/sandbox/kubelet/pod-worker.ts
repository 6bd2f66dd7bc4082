// The life of one pod on its node: sandbox and volumes, init containers and sidecars in order, main containers,
// restarts, its end. Level-triggered: every change leads to another look at what should run now.
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "../../log/logger.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Cluster, Json, KubeObject, Ref } from "../cluster.ts";
import { Container, type ContainerHost, type Instance } from "./container.ts";
import { terminatedFrom } from "./container-state.ts";
import type { EnvironmentSources } from "./environment.ts";
import { buildEnvironment } from "./environment.ts";
import { LogWriter, removeLog } from "./log-file.ts";
import { isInitialized, podPhase, podStatus } from "./pod-status.ts";
import type { LaunchOptions } from "./runtime.ts";
import { dataOf, VolumeError, Volumes } from "./volumes.ts";

/** How long after a failed sandbox or volume the pod is tried again, ms. */
const RETRY_MS = 2_000;
const RETRY_MAX_MS = 30_000;
/** Time that sidecars get after the main containers have used up the grace period, ms. */
const SIDECAR_MIN_GRACE_MS = 2_000;

/** The pod's namespaces and address. */
export interface PodSandbox {
  /** Process that holds the namespaces. */
  readonly pid: number;
  readonly ip: string;
  readonly network: boolean;
  /** Resolves when the sandbox is lost. */
  readonly ended: Promise<unknown>;
  remove(): Promise<void>;
}

/** What workers of one node share; tests bring their own processes. */
export interface PodNode {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
  readonly ip: string;
  /** State of pods: one directory each, by uid. */
  readonly directory: string;
  readonly allocatable: { readonly cpu: string; readonly memory: string };
  createSandbox(pod: KubeObject, hostname: string): Promise<PodSandbox>;
  launch(options: Omit<LaunchOptions, "runtime">): Promise<Instance>;
  /** The worker has nothing more to do: its pod is gone. */
  forget(worker: PodWorker): void;
}

export class PodWorker implements ContainerHost {
  readonly clock: Clock;
  readonly uid: string;
  readonly directory: string;
  readonly containers: readonly Container[];
  readonly podText: string;

  readonly #node: PodNode;
  readonly #ref: Ref;
  readonly #log: Logger;
  readonly #volumes: Volumes;
  readonly #startTime: number;
  readonly #logs = new Map<string, { current: LogWriter; previous: LogWriter | undefined }>();
  #pod: KubeObject;
  #sandbox: PodSandbox | undefined;
  #initialized = false;
  #ready = false;
  #finished = false;
  /** No more work: the pod is gone or the node stops. */
  #stopped = false;
  #retryMs = RETRY_MS;
  #retryAt = 0;
  #dirty = false;
  #looping = false;
  #timer: Timer | undefined;
  #ending: Promise<void> | undefined;
  #endBy = Number.POSITIVE_INFINITY;
  #endTimer: Timer | undefined;
  #endingSidecars: Promise<void> | undefined;
  #written = "";
  #instances = 0;

  constructor(node: PodNode, pod: KubeObject) {
    this.#node = node;
    this.#pod = pod;
    this.clock = node.clock;
    this.uid = pod.metadata.uid!;
    this.directory = join(node.directory, this.uid);
    const { name, namespace } = pod.metadata;
    this.#ref = { group: "", resource: "pods", namespace, name };
    this.podText = `${name}_${namespace}(${this.uid})`;
    this.#log = node.log.child({ pod: `${namespace}/${name}` });
    this.#startTime = Date.parse(pod["status"]?.startTime ?? "") || this.clock.now();
    const init: Json[] = pod["spec"].initContainers ?? [];
    const waiting = init.length > 0 ? "PodInitializing" : "ContainerCreating";
    this.containers = [
      ...init.map((spec) => {
        const kind = spec.restartPolicy === "Always" ? "sidecar" : "init";
        return new Container(spec, kind, this, "PodInitializing");
      }),
      ...(pod["spec"].containers as Json[]).map((spec) => new Container(spec, "main", this, waiting)),
    ];
    for (const container of this.containers) container.graceMs = this.#grace(pod) * 1000;
    this.#volumes = new Volumes({
      cluster: node.cluster,
      clock: node.clock,
      directory: this.directory,
      sources: () => this.#sources(),
    });
    // What containers of an earlier start had open is of no use any more.
    rmSync(join(this.directory, "instances"), { recursive: true, force: true });
    this.#findLogs();
    this.#finished = ["Succeeded", "Failed"].includes(pod["status"]?.phase);
    if (pod["status"]?.startTime) this.#restore(pod["status"]);
    this.changed();
  }

  get pod(): KubeObject {
    return this.#pod;
  }

  get sandbox(): PodSandbox | undefined {
    return this.#sandbox;
  }

  /** The pod's object has changed. */
  update(pod: KubeObject): void {
    const before = this.#pod;
    this.#pod = pod;
    const shown = ({ metadata }: KubeObject) => JSON.stringify([metadata.labels, metadata.annotations]);
    if (shown(before) !== shown(pod)) void this.#volumes.refresh();
    this.changed();
  }

  /** The pod's object has gone: whatever still runs is killed. */
  removed(): void {
    this.#pod = { ...this.#pod, metadata: { ...this.#pod.metadata, deletionTimestamp: "now" } };
    this.#end(0);
  }

  /** Ends all containers within `graceMs` without telling the cluster: the node stops. Volumes stay. */
  async shutDown(graceMs: number): Promise<void> {
    this.#stopWork();
    await this.#stopContainers(graceMs);
    await this.#volumes.release();
    await this.#sandbox?.remove();
  }

  /** A ConfigMap or Secret has changed. */
  sourceChanged(resource: "configmaps" | "secrets", name: string): void {
    if (this.#volumes.refersTo(resource, name)) void this.#volumes.refresh();
    const waits = (c: Container) =>
      c.state.kind === "waiting" && c.state.reason === "CreateContainerConfigError";
    const stuck = this.containers.filter(waits);
    for (const container of stuck) container.retryNow();
    if (stuck.length > 0 || !this.#ready) {
      this.#retryAt = 0;
      this.changed();
    }
  }

  /** The log of a container's present or previous instance. */
  logFile(container: string, previous: boolean): LogWriter | undefined {
    const logs = this.#logs.get(container);
    return previous ? logs?.previous : logs?.current;
  }

  // What containers ask of their pod.

  podIP = (): string => this.#sandbox?.ip ?? "";

  changed(): void {
    this.#dirty = true;
    if (this.#looping) return;
    this.#looping = true;
    void this.#loop();
  }

  event(type: "Normal" | "Warning", reason: string, message: string): void {
    this.#node.cluster.recordEvent(this.#pod, { type, reason, message, component: "kubelet" });
  }

  async launch(container: Container): Promise<Instance> {
    const pod = this.#pod;
    const sandbox = this.#sandbox!;
    const environment = buildEnvironment({
      ...this.#sources(),
      container: container.spec,
      services: () => this.#services(),
    });
    const mounts = this.#volumes.mounts(container.spec, environment);
    this.event("Normal", "Pulled", `Container image "${container.image}" already present on machine`);
    const instance = await this.#node.launch({
      pod,
      container: container.spec,
      podIP: sandbox.ip,
      hostname: hostnameOf(pod),
      namespaces: { pid: sandbox.pid, network: sandbox.network },
      podDirectory: this.directory,
      environment,
      mounts,
      log: this.#nextLog(container.name),
      instance: `${container.name}-${this.#instances++}`,
    });
    this.event("Normal", "Created", `Created container: ${container.name}`);
    return instance;
  }

  /** Logs of an earlier start: each container's last instance is the previous one now. */
  #findLogs(): void {
    const directory = join(this.directory, "logs");
    mkdirSync(directory, { recursive: true });
    const newest = new Map<string, number>();
    for (const file of readdirSync(directory)) {
      const [, container, number] = /^(.+)-(\d+)\.log$/.exec(file) ?? [];
      if (container === undefined) continue;
      newest.set(container, Math.max(newest.get(container) ?? 0, Number(number)));
      this.#instances = Math.max(this.#instances, Number(number) + 1);
    }
    for (const [container, number] of newest) {
      this.#logs.set(container, {
        current: LogWriter.ended(join(directory, `${container}-${number}.log`), this.clock),
        previous: undefined,
      });
    }
  }

  #nextLog(container: string): LogWriter {
    const before = this.#logs.get(container);
    if (before?.previous) removeLog(before.previous.path);
    const path = join(this.directory, "logs", `${container}-${this.#instances}.log`);
    const current = new LogWriter(path, this.clock);
    // An attempt that never ran has nothing to show.
    this.#logs.set(container, { current, previous: before?.current });
    return current;
  }

  #sources(): Omit<EnvironmentSources, "container" | "services"> {
    const { cluster, allocatable, ip } = this.#node;
    const namespace = this.#pod.metadata.namespace;
    const texts = (resource: string, name: string) => {
      const object = cluster.get({ group: "", resource, namespace, name });
      if (!object) return undefined;
      return Object.fromEntries([...dataOf(object)].map(([key, value]) => [key, value.toString("utf8")]));
    };
    return {
      pod: this.#pod,
      podIP: this.#sandbox?.ip ?? "",
      hostIP: ip,
      allocatable,
      configMap: (name) => texts("configmaps", name),
      secret: (name) => texts("secrets", name),
    };
  }

  #services(): KubeObject[] {
    const { cluster } = this.#node;
    const namespace = this.#pod.metadata.namespace;
    const own = cluster.list("", "services", namespace);
    const master = cluster.get({ group: "", resource: "services", namespace: "default", name: "kubernetes" });
    return [...own.filter((service) => service !== master), ...(master ? [master] : [])];
  }

  // The worker's own work.

  async #loop(): Promise<void> {
    // Several changes of one turn are looked at together.
    await Promise.resolve();
    while (this.#dirty) {
      this.#dirty = false;
      try {
        await this.#sync();
      } catch (error) {
        this.#log.warn("pod", { error: errorMessage(error) });
        this.#wake(RETRY_MS);
      }
    }
    this.#looping = false;
  }

  async #sync(): Promise<void> {
    if (this.#stopped) return;
    if (this.#pod.metadata.deletionTimestamp) {
      this.#end((this.#pod.metadata.deletionGracePeriodSeconds ?? this.#grace(this.#pod)) * 1000);
      await this.#writeStatus();
      return;
    }
    if (this.#finished) return;
    if (await this.#prepare()) this.#step();
    await this.#writeStatus();
    const phase = podPhase(this.#pod["spec"], this.containers);
    if (phase === "Succeeded" || phase === "Failed") {
      this.#finished = true;
      await this.#stopContainers(0);
      await this.#tearDown();
      // The last container may have ended while the status was being written.
      await this.#writeStatus();
    }
  }

  /** Sandbox and volumes; false when they are not there yet. */
  async #prepare(): Promise<boolean> {
    if (this.#ready && this.#sandbox) return true;
    const wait = this.#retryAt - this.clock.monotonic();
    if (wait > 0) {
      this.#wake(wait);
      return false;
    }
    try {
      if (!this.#sandbox) {
        const sandbox = await this.#node.createSandbox(this.#pod, hostnameOf(this.#pod));
        this.#sandbox = sandbox;
        void sandbox.ended.then(() => this.#sandboxLost(sandbox));
        // Controllers and discovery may know the address before the first container has started.
        await this.#writeStatus();
      }
      await this.#volumes.prepare();
      this.#ready = true;
      return true;
    } catch (error) {
      const reason = error instanceof VolumeError ? "FailedMount" : "FailedCreatePodSandBox";
      this.event("Warning", reason, errorMessage(error));
      this.#retryAt = this.clock.monotonic() + this.#retryMs;
      this.#wake(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
      return false;
    }
  }

  #sandboxLost(sandbox: PodSandbox): void {
    if (this.#sandbox !== sandbox || this.#stopped || this.#ending || this.#finished) return;
    this.event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    void this.#stopContainers(0)
      .then(() => sandbox.remove())
      .then(() => {
        this.#sandbox = undefined;
        this.#initialized = false;
        for (const container of this.containers) {
          if (this.#mayRun(container)) container.reset("ContainerCreating");
        }
        this.changed();
      });
  }

  /** Starts what should run now. */
  #step(): void {
    if (this.#endingSidecars) return;
    for (const container of this.containers) {
      if (container.kind === "main") continue;
      const done = container.kind === "init" && isSuccess(container);
      if (!this.#initialized) {
        if (done) continue;
        if (!container.running) {
          if (!this.#mayRun(container)) return;
          this.#startOrWait(container);
        }
        if (container.kind === "init" || !container.started) return;
      } else if (container.kind === "sidecar" && !container.running) this.#startOrWait(container);
    }
    this.#initialized ||= isInitialized(this.containers);
    const main = this.containers.filter((container) => container.kind === "main");
    for (const container of main) {
      if (!container.running && this.#mayRun(container)) this.#startOrWait(container);
      if (container.holdsOthers) break;
    }
    const over = main.every((container) => container.state.kind === "terminated" && !this.#mayRun(container));
    const sidecars = this.containers.filter((container) => container.kind === "sidecar" && container.running);
    if (over && sidecars.length > 0) {
      this.#endingSidecars = this.#stopInReverse(
        sidecars,
        this.clock.monotonic() + this.#grace(this.#pod) * 1000,
      ).then(() => this.changed());
    }
  }

  /** Whether the pod's restart policy wants another run of a container that is not running. */
  #mayRun(container: Container): boolean {
    if (container.state.kind !== "terminated") return true;
    if (container.kind === "sidecar") return true;
    const policy = this.#pod["spec"].restartPolicy ?? "Always";
    if (container.kind === "init") return policy !== "Never" && !isSuccess(container);
    if (policy === "Always") return true;
    return policy === "OnFailure" && !isSuccess(container);
  }

  #startOrWait(container: Container): void {
    const delay = container.startDelay;
    if (delay <= 0) container.start();
    else {
      container.backOff();
      this.#wake(delay);
    }
  }

  #wake(ms: number): void {
    this.clock.clear(this.#timer);
    // The earliest reason wins by looking again at everything then.
    const next = Math.min(ms, ...this.containers.map((c) => c.startDelay).filter((delay) => delay > 0));
    this.#timer = this.clock.after(next, () => this.changed());
  }

  // The end.

  #stopWork(): void {
    this.#stopped = true;
    this.clock.clear(this.#timer);
    this.clock.clear(this.#endTimer);
  }

  /** Begins to end the pod, or ends it sooner than was said before. */
  #end(graceMs: number): void {
    const endBy = this.clock.monotonic() + graceMs;
    if (!this.#ending) {
      this.#endBy = endBy;
      this.#ending = this.#endAll(graceMs);
    } else if (endBy < this.#endBy) {
      this.#endBy = endBy;
      this.clock.clear(this.#endTimer);
      this.#endTimer = this.clock.after(graceMs, () => {
        for (const container of this.containers) void container.stop(0);
      });
    }
  }

  async #endAll(graceMs: number): Promise<void> {
    for (const container of this.containers) {
      if (container.running) this.event("Normal", "Killing", `Stopping container ${container.name}`);
    }
    await this.#stopContainers(graceMs);
    // The last look at how the containers ended, before the pod goes.
    await this.#writeStatus().catch(() => {});
    this.#stopWork();
    await this.#tearDown();
    this.#node.cluster.finalizeDelete(this.#ref);
    this.#node.forget(this);
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #stopContainers(graceMs: number): Promise<void> {
    const deadline = this.clock.monotonic() + graceMs;
    const sidecars = this.containers.filter((container) => container.kind === "sidecar");
    const others = this.containers.filter((container) => container.kind !== "sidecar");
    await Promise.all(others.map((container) => container.stop(graceMs)));
    if (graceMs <= 0) await Promise.all(sidecars.map((container) => container.stop(0)));
    else await this.#stopInReverse(sidecars, deadline);
  }

  async #stopInReverse(sidecars: readonly Container[], deadline: number): Promise<void> {
    for (const container of [...sidecars].reverse()) {
      const rest = Math.min(deadline, this.#endBy) - this.clock.monotonic();
      await container.stop(Math.max(rest, SIDECAR_MIN_GRACE_MS));
    }
  }

  async #tearDown(): Promise<void> {
    const sandbox = this.#sandbox;
    this.#sandbox = undefined;
    this.#ready = false;
    await this.#volumes.remove();
    await sandbox?.remove();
  }

  // Status.

  async #writeStatus(): Promise<void> {
    const snapshot = {
      containers: this.containers,
      podIP: this.#sandbox?.ip ?? this.#pod["status"]?.podIP,
      hostIP: this.#node.ip,
      startTime: this.#startTime,
      sandboxReady: this.#ready || this.#finished,
    };
    const now = this.clock.now();
    const next = JSON.stringify(podStatus({ ...snapshot, pod: this.#pod }, now));
    if (next === this.#written) return;
    await this.#node.cluster.modify(
      this.#ref,
      (object) => {
        if (object.metadata.uid !== this.uid) return undefined;
        const status = podStatus({ ...snapshot, pod: object }, now);
        return JSON.stringify(status) === JSON.stringify(object["status"])
          ? undefined
          : { ...object, status };
      },
      { subresource: "status" },
    );
    this.#written = next;
  }

  /**
   * The node was stopped, or crashed, since this status was written: no process of it is left. Containers start
   * again in place where the restart policy has them.
   */
  #restore(status: Json): void {
    const statuses: Json[] = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
    const policy = this.#pod["spec"].restartPolicy ?? "Always";
    for (const container of this.containers) {
      const stored = statuses.find((each) => each.name === container.name);
      if (!stored) continue;
      const ended = terminatedFrom(stored.state);
      const startedAt = Date.parse(stored.state?.running?.startedAt ?? "");
      const lost = startedAt
        ? {
            kind: "terminated" as const,
            exitCode: policy === "Never" ? 137 : 255,
            reason: policy === "Never" ? "ContainerStatusUnknown" : "Unknown",
            ...(policy === "Never"
              ? { message: "The container could not be located when the node was started again" }
              : {}),
            startedAt,
            finishedAt: this.clock.now(),
            containerID: stored.containerID ?? "",
          }
        : undefined;
      const final = ended ?? lost;
      const stays =
        this.#finished ||
        (container.kind === "main" &&
          final !== undefined &&
          policy !== "Always" &&
          (policy === "Never" || final.exitCode === 0));
      container.restore(stored, stays ? undefined : (lost ?? ended));
      if (stays && final) container.state = final;
    }
  }

  #grace(pod: KubeObject): number {
    return pod["spec"].terminationGracePeriodSeconds ?? 30;
  }
}

function isSuccess(container: Container): boolean {
  return container.state.kind === "terminated" && container.state.exitCode === 0;
}

/** `spec.hostname`, else the name, cut to what the kernel takes. */
function hostnameOf(pod: KubeObject): string {
  return String(pod["spec"].hostname || pod.metadata.name)
    .slice(0, 63)
    .replace(/[-.]+$/, "");
}
