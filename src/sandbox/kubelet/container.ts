// One container of a pod through its instances: started, probed, hooked, stopped, started again after a back-off.
import { randomBytes } from "node:crypto";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Json } from "../cluster.ts";
import type {
  ContainerKind,
  ContainerState,
  ContainerView,
  Running,
  Terminated,
  Waiting,
} from "./container-state.ts";
import { ConfigError } from "./environment.ts";
import { type ProbeResult, type ProbeTarget, runProbe } from "./probe.ts";
import { Prober } from "./prober.ts";
import { type Exit, StartError } from "./process.ts";

/** Back-off of crashing containers, a real kubelet's. */
const BACKOFF_FIRST_MS = 10_000;
const BACKOFF_MAX_MS = 300_000;
/** A run of this length clears the back-off. */
const BACKOFF_RESET_MS = 600_000;
/** How long after a failure to start the next attempt is made. */
const START_RETRY_MS = 5_000;
/** SIGTERM may come late because of preStop, but not later than this before the kill, ms. */
const MIN_GRACE_MS = 2_000;

/** A running instance, as the pod's worker starts it. */
export interface Instance {
  /** The container's first process. */
  readonly pid: number;
  readonly exited: Promise<Exit>;
  kill(signal: NodeJS.Signals): void;
  /** What the container said about its end (terminationMessagePath), bounded. */
  terminationMessage(exit: Exit): string;
  exec(command: readonly string[], timeoutMs: number): Promise<{ exitCode: number; output: string }>;
  /** Frees what it had on disk; it has ended. */
  remove(): void;
}

/** What a container needs from its pod. */
export interface ContainerHost {
  readonly clock: Clock;
  /** "name_namespace(uid)" for messages. */
  readonly podText: string;
  readonly podIP: () => string;
  /** @throws ConfigError, StartError */
  launch(container: Container): Promise<Instance>;
  event(type: "Normal" | "Warning", reason: string, message: string, container: Container): void;
  /** Something that the pod's status or next step depends on has changed. */
  changed(): void;
}

export class Container implements ContainerView {
  readonly spec: Json;
  readonly kind: ContainerKind;
  state: ContainerState;
  last: Terminated | undefined;
  restartCount = 0;
  ready = false;
  started = false;
  containerID = "";
  instance: Instance | undefined;
  /** Default time to end, set by the pod. */
  graceMs = 30_000;

  readonly #host: ContainerHost;
  #probers: Prober[] = [];
  #backoffMs = 0;
  #startableAt = 0;
  /** The back-off after the last end, ms. */
  #delay = 0;
  /** Whether an instance was started before: its next start counts as a restart. */
  #ran = false;
  #starting: Promise<void> | undefined;
  /** It starts, or its postStart hook runs: until that is over the pod's further containers are not started. */
  holdsOthers = false;
  #stopping: Promise<void> | undefined;
  #killReason: string | undefined;

  constructor(spec: Json, kind: ContainerKind, host: ContainerHost, waiting: string) {
    this.spec = spec;
    this.kind = kind;
    this.#host = host;
    this.state = { kind: "waiting", reason: waiting };
  }

  get name(): string {
    return this.spec.name;
  }

  get image(): string {
    return this.spec.image ?? "";
  }

  get running(): boolean {
    return this.instance !== undefined || this.#starting !== undefined;
  }

  /** What a stored status says about it, after the node has lost its processes. */
  restore(status: Json, lost: Terminated | undefined): void {
    this.restartCount = status.restartCount ?? 0;
    this.containerID = status.containerID ?? "";
    if (lost) {
      this.last = lost;
      this.restartCount += 1;
    }
  }

  /** Ms until it may be started (again); 0 now. */
  get startDelay(): number {
    return Math.max(0, this.#startableAt - this.#host.clock.monotonic());
  }

  /** Starts the next instance unless one runs. What goes wrong shows in the state. */
  start(): void {
    if (this.running || this.startDelay > 0) return;
    this.holdsOthers = this.kind !== "init" && this.spec.lifecycle?.postStart !== undefined;
    this.#starting = this.#start().finally(() => {
      this.#starting = undefined;
      this.#host.changed();
    });
  }

  async #start(): Promise<void> {
    const host = this.#host;
    const again = this.state.kind === "terminated" || this.last !== undefined;
    try {
      const instance = await host.launch(this);
      if (again && this.state.kind === "terminated") this.last = this.state;
      if (this.#ran) this.restartCount += 1;
      this.#ran = true;
      this.containerID = `sandbox://${randomBytes(32).toString("hex")}`;
      this.instance = instance;
      this.state = { kind: "running", startedAt: host.clock.now() };
      host.event("Normal", "Started", `Started container ${this.name}`, this);
      void instance.exited.then((exit) => this.#ended(instance, exit));
      host.changed();
      void this.#afterStart(instance);
    } catch (error) {
      this.holdsOthers = false;
      this.#startableAt = host.clock.monotonic() + START_RETRY_MS;
      if (this.state.kind === "terminated") this.last = this.state;
      const reason =
        error instanceof ConfigError
          ? "CreateContainerConfigError"
          : error instanceof StartError
            ? "RunContainerError"
            : "CreateContainerError";
      const message = errorMessage(error);
      this.state = { kind: "waiting", reason, message };
      host.event("Warning", "Failed", `Error: ${message}`, this);
    }
  }

  async #afterStart(instance: Instance): Promise<void> {
    // Init containers have neither probes nor hooks.
    if (this.kind === "init") return;
    const hook = this.spec.lifecycle?.postStart;
    if (hook) {
      const { ok, message } = await this.#hook(hook, instance);
      if (this.instance !== instance) return;
      this.holdsOthers = false;
      this.#host.changed();
      if (!ok) {
        this.#host.event("Warning", "FailedPostStartHook", `PostStartHook failed: ${message}`, this);
        void this.stop(MIN_GRACE_MS, "FailedPostStartHook");
        return;
      }
    }
    const { startupProbe } = this.spec;
    if (startupProbe) {
      this.#probers.push(
        this.#prober("Startup", startupProbe, instance, (ok) => {
          if (ok) this.#becomeStarted(instance);
          else this.#unhealthy("startup");
        }),
      );
    } else this.#becomeStarted(instance);
  }

  #becomeStarted(instance: Instance): void {
    if (this.instance !== instance) return;
    for (const prober of this.#probers) prober.stop();
    this.#probers = [];
    this.started = true;
    const { livenessProbe, readinessProbe } = this.spec;
    this.ready = readinessProbe === undefined;
    if (readinessProbe) {
      this.#probers.push(
        this.#prober("Readiness", readinessProbe, instance, (ok) => {
          this.ready = ok;
          this.#host.changed();
        }),
      );
    }
    if (livenessProbe) {
      this.#probers.push(
        this.#prober("Liveness", livenessProbe, instance, (ok) => {
          if (!ok) this.#unhealthy("liveness");
        }),
      );
    }
    this.#host.changed();
  }

  #prober(name: string, probe: Json, instance: Instance, onVerdict: (ok: boolean) => void): Prober {
    return new Prober({
      probe,
      clock: this.#host.clock,
      run: () => runProbe(probe, this.#target(instance)),
      onVerdict,
      onFailure: (message) => {
        if (this.#stopping) return;
        this.#host.event("Warning", "Unhealthy", `${name} probe failed: ${message}`, this);
      },
      eager: name !== "Liveness",
    });
  }

  #target(instance: Instance): ProbeTarget {
    return {
      podIP: this.#host.podIP(),
      container: this.spec,
      exec: (command, timeoutMs) => instance.exec(command, timeoutMs),
    };
  }

  #hook(hook: Json, instance: Instance): Promise<ProbeResult> {
    if (hook.sleep) {
      const ms = (hook.sleep.seconds ?? 0) * 1000;
      return new Promise((resolve) => {
        this.#host.clock.after(ms, () => resolve({ ok: true, message: "" }));
      });
    }
    // Hooks have no time limit of their own; the grace period bounds those that stop.
    return runProbe({ ...hook, timeoutSeconds: 3600 }, this.#target(instance));
  }

  #unhealthy(probe: "liveness" | "startup"): void {
    const message = `Container ${this.name} failed ${probe} probe, will be restarted`;
    this.#host.event("Normal", "Killing", message, this);
    const seconds = this.spec[`${probe}Probe`]?.terminationGracePeriodSeconds;
    void this.stop(seconds === undefined ? undefined : seconds * 1000, undefined);
  }

  /**
   * preStop, SIGTERM, and SIGKILL when `graceMs` are over; resolves when the instance has ended. A shorter grace
   * given later shortens the wait.
   */
  stop(graceMs = this.graceMs, reason?: string): Promise<void> {
    if (this.#stopping && graceMs > 0) return this.#stopping;
    this.#killReason = reason;
    const stopping = this.#stop(graceMs).finally(() => {
      if (this.#stopping === stopping) this.#stopping = undefined;
    });
    this.#stopping = stopping;
    return stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    await this.#starting?.catch(() => {});
    const instance = this.instance;
    if (!instance) return;
    const { clock } = this.#host;
    for (const prober of this.#probers) prober.stop();
    if (graceMs <= 0) {
      instance.kill("SIGKILL");
      await instance.exited;
      return;
    }
    const deadline = clock.monotonic() + graceMs;
    const hook = this.spec.lifecycle?.preStop;
    if (hook) {
      const { ok, message } = await this.#before(deadline, this.#hook(hook, instance));
      if (!ok) this.#host.event("Warning", "FailedPreStopHook", `PreStopHook failed: ${message}`, this);
    }
    instance.kill("SIGTERM");
    const rest = Math.max(deadline - clock.monotonic(), hook ? MIN_GRACE_MS : 0);
    const timer = clock.after(rest, () => instance.kill("SIGKILL"));
    await instance.exited;
    clock.clear(timer);
  }

  async #before(deadline: number, hook: Promise<ProbeResult>): Promise<ProbeResult> {
    const { clock } = this.#host;
    return new Promise((resolve) => {
      const late = { ok: false, message: "the grace period is over" };
      const timer = clock.after(deadline - clock.monotonic(), () => resolve(late));
      void hook.then((result) => {
        clock.clear(timer);
        resolve(result);
      });
    });
  }

  #ended(instance: Instance, exit: Exit): void {
    if (this.instance !== instance) return;
    const { clock } = this.#host;
    for (const prober of this.#probers) prober.stop();
    this.#probers = [];
    this.instance = undefined;
    this.holdsOthers = false;
    this.ready = false;
    this.started = false;
    const { startedAt } = this.state as Running;
    const message = instance.terminationMessage(exit);
    this.state = {
      kind: "terminated",
      exitCode: exit.exitCode,
      ...(exit.signal ? { signal: exit.signal } : {}),
      reason: this.#killReason ?? (exit.exitCode === 0 ? "Completed" : "Error"),
      ...(message === "" ? {} : { message }),
      startedAt,
      finishedAt: clock.now(),
      containerID: this.containerID,
    };
    this.#killReason = undefined;
    instance.remove();
    if (clock.now() - startedAt >= BACKOFF_RESET_MS) this.#backoffMs = 0;
    this.#startableAt = clock.monotonic() + this.#backoffMs;
    this.#delay = this.#backoffMs;
    this.#backoffMs = Math.min(
      this.#backoffMs === 0 ? BACKOFF_FIRST_MS : this.#backoffMs * 2,
      BACKOFF_MAX_MS,
    );
    this.#host.changed();
  }

  /** It has ended and will be started again, but not yet: says so. */
  backOff(): void {
    if (this.state.kind !== "terminated" || this.#delay === 0) return;
    this.last = this.state;
    const seconds = this.#delay / 1000;
    const wait = seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
    const state: Waiting = {
      kind: "waiting",
      reason: "CrashLoopBackOff",
      message: `back-off ${wait} restarting failed container=${this.name} pod=${this.#host.podText}`,
    };
    this.state = state;
    const message = `Back-off restarting failed container ${this.name} in pod ${this.#host.podText}`;
    this.#host.event("Warning", "BackOff", message, this);
  }

  /** What it lacked may be there now: no need to wait any longer. */
  retryNow(): void {
    if (this.state.kind === "waiting") this.#startableAt = 0;
  }

  /** Begins anew (the pod's sandbox was lost): whatever it was, it has to run again. */
  reset(waiting: string): void {
    if (this.state.kind === "terminated") this.last = this.state;
    this.state = { kind: "waiting", reason: waiting };
    this.#startableAt = 0;
  }
}
