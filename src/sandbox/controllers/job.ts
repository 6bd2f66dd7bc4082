// Jobs: pods that run to an end, so many of them, with a bounded number of failures.

import { errorMessage } from "../../util/error.ts";
import type { Json, KubeObject } from "../cluster.ts";
import {
  type Condition,
  Controller,
  type ControllerContext,
  keyOf,
  splitKey,
  timestamp,
  withCondition,
} from "./controller.ts";
import { claim, concerned, controllerReference, podMetadata } from "./ownership.ts";
import { byVictim, isActive, isReady, restarts } from "./pods.ts";

const TYPE = { apiVersion: "batch/v1", kind: "Job" };
const OWNER = { group: "batch", resource: "jobs", kind: "Job" };
const PODS = { group: "", resource: "pods" };
const INDEX = "batch.kubernetes.io/job-completion-index";
const BACKOFF_MS = 10_000;
const MAX_BACKOFF_MS = 600_000;

export class JobController extends Controller {
  constructor(context: ControllerContext) {
    super("job-controller", context);
  }

  start(): void {
    this.watch("batch", "jobs", (type, job) => {
      if (type !== "DELETED") this.queue.add(keyOf(job));
    });
    this.watch("", "pods", (_, pod) => {
      for (const key of concerned(this.cluster, pod, OWNER)) this.queue.add(key);
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "batch", resource: "jobs", ...splitKey(key) };
    const job = this.cluster.get(ref);
    if (!job || job.metadata.deletionTimestamp) return;
    if (finishedAt(job) !== undefined) return this.#expire(key, job);
    const pods = await claim(this.cluster, job, TYPE, PODS);
    const end = this.#verdict(key, job, pods);
    if (end) return this.#finish(key, job, pods, end);
    let failure: unknown;
    if (!job["spec"].suspend) {
      try {
        await this.#fill(key, job, pods);
      } catch (error) {
        failure = error;
      }
    } else {
      for (const pod of pods.filter(isActive)) await this.#remove(job, pod);
    }
    await this.#status(key, job, []);
    if (failure) throw failure;
  }

  /** How the job has ended, if it has. */
  #verdict(key: string, job: KubeObject, pods: readonly KubeObject[]): Condition | undefined {
    const spec = job["spec"];
    const failed = pods.filter((pod) => pod["status"]?.phase === "Failed").length;
    const again = pods.filter(isActive).reduce((sum, pod) => sum + restarts(pod), 0);
    const limit: number = spec.backoffLimit ?? 6;
    if (failed > limit || (spec.template.spec.restartPolicy === "OnFailure" && again > limit)) {
      const message = "Job has reached the specified backoff limit";
      return { type: "Failed", status: "True", reason: "BackoffLimitExceeded", message };
    }
    const started = Date.parse(job["status"]?.startTime ?? "");
    if (spec.activeDeadlineSeconds !== undefined && !Number.isNaN(started)) {
      const left = started + spec.activeDeadlineSeconds * 1000 - this.clock.now();
      if (left <= 0) {
        const message = "Job was active longer than specified deadline";
        return { type: "Failed", status: "True", reason: "DeadlineExceeded", message };
      }
      this.queue.addAfter(key, left);
    }
    const done = succeeded(job, pods);
    const active = pods.some(isActive);
    const complete = spec.completions === undefined ? done > 0 && !active : done >= spec.completions;
    if (!complete || spec.suspend) return undefined;
    const message = "Reached expected number of succeeded pods";
    return { type: "Complete", status: "True", reason: "CompletionsReached", message };
  }

  async #fill(key: string, job: KubeObject, pods: readonly KubeObject[]): Promise<void> {
    const spec = job["spec"];
    const active = pods.filter(isActive);
    const done = succeeded(job, pods);
    // Without completions: once one has succeeded, no new pods.
    const wanted =
      spec.completions === undefined
        ? done > 0
          ? active.length
          : spec.parallelism
        : Math.min(spec.parallelism, spec.completions - done);
    if (active.length > wanted) {
      for (const pod of byVictim(active).slice(0, active.length - wanted)) await this.#remove(job, pod);
      return;
    }
    // Terminating pods count until they are gone, so that two never do the same work.
    const ending = pods.filter(
      (pod) => pod.metadata.deletionTimestamp && !pod["status"]?.phase?.match(/ed$/),
    );
    const missing = wanted - active.length - ending.length;
    if (missing <= 0) return;
    const wait = this.#backoff(pods);
    if (wait > 0) {
      this.queue.addAfter(key, wait);
      return;
    }
    const indexes = spec.completionMode === "Indexed" ? freeIndexes(spec.completions, pods) : undefined;
    for (let i = 0; i < missing; i++) await this.#create(job, indexes?.[i]);
  }

  /** Milliseconds until a failed pod may be followed by another: 10 s, 20 s, 40 s … after the last failure. */
  #backoff(pods: readonly KubeObject[]): number {
    const failures = pods.filter((pod) => pod["status"]?.phase === "Failed");
    if (failures.length === 0) return 0;
    const last = Math.max(...failures.map((pod) => endedAt(pod)));
    const delay = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures.length - 1));
    return Math.max(0, last + delay - this.clock.now());
  }

  async #create(job: KubeObject, index: number | undefined): Promise<void> {
    const template = job["spec"].template;
    const spec = structuredClone(template.spec);
    const reference = controllerReference(job, TYPE.apiVersion, TYPE.kind);
    const extra =
      index === undefined
        ? {}
        : { labels: { [INDEX]: String(index) }, annotations: { [INDEX]: String(index) } };
    if (index !== undefined) {
      spec.hostname ??= `${job.metadata.name}-${index}`;
      for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
        container.env = [...(container.env ?? []), { name: "JOB_COMPLETION_INDEX", value: String(index) }];
      }
    }
    try {
      const pod = await this.cluster.create("", "pods", job.metadata.namespace, {
        apiVersion: "v1",
        kind: "Pod",
        metadata: podMetadata(job, reference, template, extra),
        spec,
      });
      this.event(job, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    } catch (error) {
      this.event(job, "Warning", "FailedCreate", `Error creating: ${errorMessage(error)}`);
      throw error;
    }
  }

  async #remove(job: KubeObject, pod: KubeObject): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    await this.cluster.delete({ ...PODS, namespace, name }, { uid });
    this.event(job, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
  }

  async #finish(key: string, job: KubeObject, pods: readonly KubeObject[], end: Condition): Promise<void> {
    if (end.type === "Failed") for (const pod of pods.filter(isActive)) await this.#remove(job, pod);
    const precursor = end.type === "Complete" ? "SuccessCriteriaMet" : "FailureTarget";
    await this.#status(key, job, [{ ...end, type: precursor }, end]);
    if (end.type === "Complete") this.event(job, "Normal", "Completed", "Job completed");
    else this.event(job, "Warning", end.reason!, end.message!);
  }

  async #status(key: string, job: KubeObject, added: readonly Condition[]): Promise<void> {
    const now = this.clock.now();
    const pods = await claim(this.cluster, job, TYPE, PODS);
    const spec = job["spec"];
    const before = job["status"] ?? {};
    let conditions: Condition[] = before.conditions ?? [];
    for (const condition of added) conditions = withCondition(conditions, condition, now);
    const suspended = conditions.some(
      (condition) => condition.type === "Suspended" && condition.status === "True",
    );
    if (spec.suspend !== suspended && (spec.suspend || suspended)) {
      const verb = spec.suspend ? "suspended" : "resumed";
      conditions = withCondition(
        conditions,
        {
          type: "Suspended",
          status: spec.suspend ? "True" : "False",
          reason: spec.suspend ? "JobSuspended" : "JobResumed",
          message: `Job ${verb}`,
        },
        now,
      );
      this.event(job, "Normal", spec.suspend ? "Suspended" : "Resumed", `Job ${verb}`);
    }
    const active = pods.filter(isActive);
    const done = succeeded(job, pods);
    const failed = pods.filter((pod) => pod["status"]?.phase === "Failed").length;
    const complete = added.some((condition) => condition.type === "Complete");
    const status: Json = {
      ...(spec.suspend ? {} : { startTime: before.startTime ?? timestamp(now) }),
      ...(complete ? { completionTime: timestamp(now) } : {}),
      ...(active.length > 0 && added.length === 0 ? { active: active.length } : {}),
      ready: added.length === 0 ? active.filter(isReady).length : 0,
      terminating: pods.filter((pod) => pod.metadata.deletionTimestamp && !isActive(pod)).length,
      ...(done > 0 ? { succeeded: done } : {}),
      ...(failed > 0 ? { failed } : {}),
      ...(spec.completionMode === "Indexed" && done > 0
        ? { completedIndexes: ranges(doneIndexes(pods)) }
        : {}),
      uncountedTerminatedPods: {},
      ...(conditions.length > 0 ? { conditions } : {}),
    };
    await this.writeStatus({ group: "batch", resource: "jobs", ...splitKey(key) }, status);
  }

  async #expire(key: string, job: KubeObject): Promise<void> {
    const ttl: number | undefined = job["spec"].ttlSecondsAfterFinished;
    if (ttl === undefined) return;
    const left = finishedAt(job)! + ttl * 1000 - this.clock.now();
    if (left > 0) this.queue.addAfter(key, left);
    else {
      const ref = { group: "batch", resource: "jobs", ...splitKey(key) };
      await this.cluster.delete(ref, { uid: job.metadata.uid, propagationPolicy: "Foreground" });
    }
  }
}

/** When a job got its final condition, ms; undefined while it has none. */
export function finishedAt(job: KubeObject): number | undefined {
  const end = (job["status"]?.conditions ?? []).find(
    (condition: Condition) =>
      (condition.type === "Complete" || condition.type === "Failed") && condition.status === "True",
  );
  return end ? Date.parse(end.lastTransitionTime) : undefined;
}

function succeeded(job: KubeObject, pods: readonly KubeObject[]): number {
  if (job["spec"].completionMode === "Indexed") return doneIndexes(pods).length;
  return pods.filter((pod) => pod["status"]?.phase === "Succeeded").length;
}

function indexOf(pod: KubeObject): number {
  return Number(pod.metadata.annotations?.[INDEX] ?? Number.NaN);
}

function doneIndexes(pods: readonly KubeObject[]): number[] {
  const done = pods.filter((pod) => pod["status"]?.phase === "Succeeded").map(indexOf);
  return [...new Set(done)].filter((index) => !Number.isNaN(index)).sort((a, b) => a - b);
}

function freeIndexes(completions: number, pods: readonly KubeObject[]): number[] {
  const taken = new Set(pods.filter((pod) => pod["status"]?.phase !== "Failed").map(indexOf));
  return Array.from({ length: completions }, (_, index) => index).filter((index) => !taken.has(index));
}

/** `0-2,5`: how completedIndexes is written. */
function ranges(sorted: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (sorted[j + 1] === sorted[j]! + 1) j += 1;
    parts.push(i === j ? `${sorted[i]}` : `${sorted[i]}-${sorted[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}

/** When a pod ended, ms: its last container's word, or else its last condition change. */
function endedAt(pod: KubeObject): number {
  const times = (pod["status"]?.containerStatuses ?? []).map((status: Json) =>
    Date.parse(status.state?.terminated?.finishedAt ?? ""),
  );
  const known = times.filter((time: number) => !Number.isNaN(time));
  return known.length > 0 ? Math.max(...known) : Date.parse(pod.metadata.creationTimestamp ?? "") || 0;
}
