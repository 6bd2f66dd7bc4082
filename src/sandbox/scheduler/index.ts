// The scheduler: gives each new pod a node, one after another, and says why when it cannot.
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import type { Cluster, KubeObject } from "../cluster.ts";
import {
  Controller,
  type ControllerContext,
  keyOf,
  splitKey,
  withCondition,
} from "../controllers/controller.ts";
import { isFinished } from "../controllers/pods.ts";
import { place } from "./fit.ts";

const NAME = "default-scheduler";

class Scheduler extends Controller {
  /** Pods that found no node; they get another chance whenever a node or a placed pod changes. */
  readonly #unplaced = new Set<string>();

  constructor(context: ControllerContext) {
    // One at a time: each decision must see the one before.
    super(NAME, context, { workers: 1 });
  }

  start(): void {
    this.watch("", "pods", (type, pod) => {
      if (type === "DELETED") {
        this.#unplaced.delete(keyOf(pod));
        this.#retry();
      } else if (waits(pod)) this.queue.add(keyOf(pod));
      else if (isFinished(pod)) this.#retry();
    });
    this.watch("", "nodes", () => this.#retry());
  }

  #retry(): void {
    for (const key of this.#unplaced) this.queue.add(key);
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "", resource: "pods", ...splitKey(key) };
    const pod = this.cluster.get(ref);
    this.#unplaced.delete(key);
    if (!pod || !waits(pod)) return;
    const placed = this.cluster
      .list("", "pods")
      .filter((other) => other["spec"].nodeName && !isFinished(other));
    const { node, message } = place(pod, this.cluster.list("", "nodes"), placed);
    if (node === undefined) {
      this.#unplaced.add(key);
      this.event(pod, "Warning", "FailedScheduling", message!);
      await this.#condition(pod, "False", message);
      return;
    }
    const bound = await this.cluster.modify(ref, (current) =>
      waits(current) ? { ...current, spec: { ...current["spec"], nodeName: node } } : undefined,
    );
    if (bound?.["spec"].nodeName !== node) return;
    this.event(bound, "Normal", "Scheduled", `Successfully assigned ${key} to ${node}`);
    await this.#condition(bound, "True", undefined);
  }

  async #condition(pod: KubeObject, status: "True" | "False", message: string | undefined): Promise<void> {
    const { namespace, name } = pod.metadata;
    const condition = {
      type: "PodScheduled",
      status,
      ...(message === undefined ? {} : { reason: "Unschedulable", message }),
    };
    await this.cluster.modify(
      { group: "", resource: "pods", namespace, name },
      (current) => {
        const before = current["status"]?.conditions ?? [];
        const conditions = withCondition(before, condition, this.clock.now());
        if (JSON.stringify(conditions) === JSON.stringify(before)) return undefined;
        return { ...current, status: { ...current["status"], conditions } };
      },
      { subresource: "status" },
    );
  }
}

function waits(pod: KubeObject): boolean {
  const spec = pod["spec"];
  return (
    !spec.nodeName &&
    !pod.metadata.deletionTimestamp &&
    (spec.schedulerName ?? NAME) === NAME &&
    (spec.schedulingGates ?? []).length === 0
  );
}

/** Starts placing pods. `stop` resolves when the decision at work has been written. */
export function startScheduler(context: {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
}): { stop(): Promise<void> } {
  const scheduler = new Scheduler(context);
  scheduler.start();
  return scheduler;
}
