// CronJobs: a Job at each scheduled time.

import { errorMessage } from "../../util/error.ts";
import type { KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey, timestamp } from "./controller.ts";
import { type CronSchedule, parseCron } from "./cron-schedule.ts";
import { finishedAt } from "./job.ts";
import { concerned, controllerReference, isControlledBy } from "./ownership.ts";

const TYPE = { apiVersion: "batch/v1", kind: "CronJob" };
const OWNER = { group: "batch", resource: "cronjobs", kind: "CronJob" };
const JOBS = { group: "batch", resource: "jobs" };
/** Missed times that are stepped through: two weeks of a job that runs every minute. */
const MAX_MISSED = 20_000;
/** Where to look for the last one when more were missed. */
const RECENT_MS = 86_400_000;

export class CronJobController extends Controller {
  constructor(context: ControllerContext) {
    super("cronjob-controller", context);
  }

  start(): void {
    this.watch("batch", "cronjobs", (type, cron) => {
      if (type !== "DELETED") this.queue.add(keyOf(cron));
    });
    this.watch("batch", "jobs", (_, job) => {
      for (const key of concerned(this.cluster, job, OWNER)) this.queue.add(key);
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "batch", resource: "cronjobs", ...splitKey(key) };
    const cron = this.cluster.get(ref);
    if (!cron || cron.metadata.deletionTimestamp) return;
    const jobs = this.#jobs(cron);
    await this.#prune(cron, jobs);
    const due = cron["spec"].suspend ? undefined : this.#due(key, cron);
    let scheduled: string | undefined;
    if (due !== undefined && (await this.#launch(cron, jobs, due))) scheduled = timestamp(due);
    await this.#status(key, cron, scheduled);
  }

  /** The latest scheduled time that has come and has had no job; plans the next look. */
  #due(key: string, cron: KubeObject): number | undefined {
    const spec = cron["spec"];
    let schedule: CronSchedule;
    try {
      schedule = parseCron(spec.schedule);
    } catch (error) {
      this.event(cron, "Warning", "UnparseableSchedule", `unparseable schedule: ${errorMessage(error)}`);
      return undefined;
    }
    const now = this.clock.now();
    const next = schedule.next(now);
    if (next !== undefined) this.queue.addAfter(key, next - now + 50);
    let since = Date.parse(cron["status"]?.lastScheduleTime ?? cron.metadata.creationTimestamp ?? "") || now;
    const deadline: number | undefined = spec.startingDeadlineSeconds;
    if (deadline !== undefined) since = Math.max(since, now - deadline * 1000);
    return latest(schedule, since, now) ?? latest(schedule, now - RECENT_MS, now);
  }

  async #launch(cron: KubeObject, jobs: readonly KubeObject[], due: number): Promise<boolean> {
    const spec = cron["spec"];
    const running = jobs.filter((job) => finishedAt(job) === undefined);
    if (spec.concurrencyPolicy === "Forbid" && running.length > 0) {
      this.event(
        cron,
        "Normal",
        "JobAlreadyActive",
        "Not starting job because prior execution is running and concurrency policy is Forbid",
      );
      return false;
    }
    if (spec.concurrencyPolicy === "Replace") {
      for (const job of running) {
        await this.#delete(job);
        this.event(cron, "Normal", "SuccessfulDelete", `Deleted job ${job.metadata.name}`);
      }
    }
    const { namespace } = cron.metadata;
    // The name follows from the time, so that one time never gets two jobs.
    const name = `${cron.metadata.name}-${Math.floor(due / 60_000)}`;
    if (this.cluster.get({ ...JOBS, namespace, name })) return true;
    const template = spec.jobTemplate;
    await this.cluster.create("batch", "jobs", namespace, {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: {
        name,
        namespace: namespace!,
        ...(template.metadata?.labels ? { labels: template.metadata.labels } : {}),
        annotations: {
          ...template.metadata?.annotations,
          "batch.kubernetes.io/cronjob-scheduled-timestamp": timestamp(due),
        },
        ownerReferences: [controllerReference(cron, TYPE.apiVersion, TYPE.kind)],
      },
      spec: structuredClone(template.spec),
    });
    this.event(cron, "Normal", "SuccessfulCreate", `Created job ${name}`);
    return true;
  }

  async #prune(cron: KubeObject, jobs: readonly KubeObject[]): Promise<void> {
    const outcome = (job: KubeObject) =>
      (job["status"]?.conditions ?? []).some(
        (c: { type: string; status: string }) => c.type === "Failed" && c.status === "True",
      );
    const ended = jobs
      .filter((job) => finishedAt(job) !== undefined && !job.metadata.deletionTimestamp)
      .sort((a, b) => finishedAt(a)! - finishedAt(b)!);
    for (const [failed, limit] of [
      [false, cron["spec"].successfulJobsHistoryLimit ?? 3],
      [true, cron["spec"].failedJobsHistoryLimit ?? 1],
    ] as const) {
      const kind = ended.filter((job) => outcome(job) === failed);
      for (const job of kind.slice(0, Math.max(0, kind.length - limit))) await this.#delete(job);
    }
  }

  async #delete(job: KubeObject): Promise<void> {
    const { namespace, name, uid } = job.metadata;
    await this.cluster.delete({ ...JOBS, namespace, name }, { uid, propagationPolicy: "Background" });
  }

  async #status(key: string, cron: KubeObject, scheduled: string | undefined): Promise<void> {
    const jobs = this.#jobs(cron);
    const active = jobs
      .filter((job) => finishedAt(job) === undefined)
      .map((job) => ({
        apiVersion: "batch/v1",
        kind: "Job",
        namespace: job.metadata.namespace,
        name: job.metadata.name,
        uid: job.metadata.uid,
        resourceVersion: job.metadata.resourceVersion,
      }));
    const before = cron["status"] ?? {};
    const successes = jobs
      .map((job) => job["status"]?.completionTime as string | undefined)
      .filter((t) => t !== undefined);
    const lastSuccess = [before.lastSuccessfulTime ?? "", ...successes].sort().at(-1);
    const lastSchedule = scheduled ?? before.lastScheduleTime;
    await this.writeStatus(
      { group: "batch", resource: "cronjobs", ...splitKey(key) },
      {
        ...(active.length > 0 ? { active } : {}),
        ...(lastSchedule ? { lastScheduleTime: lastSchedule } : {}),
        ...(lastSuccess ? { lastSuccessfulTime: lastSuccess } : {}),
      },
    );
  }

  #jobs(cron: KubeObject): KubeObject[] {
    return this.cluster
      .list("batch", "jobs", cron.metadata.namespace)
      .filter((job) => isControlledBy(job, cron));
  }
}

/** The last scheduled time after `since` and not after `now`; undefined for none, or too many to step through. */
function latest(schedule: CronSchedule, since: number, now: number): number | undefined {
  let due: number | undefined;
  for (let i = 0; i < MAX_MISSED; i++) {
    const time = schedule.next(due ?? since);
    if (time === undefined || time > now) return due;
    due = time;
  }
  return undefined;
}
