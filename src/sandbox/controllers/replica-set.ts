// ReplicaSets: so many pods of one template, no more, no fewer.

import { errorMessage } from "../../util/error.ts";
import type { KubeObject } from "../cluster.ts";
import {
  type Condition,
  Controller,
  type ControllerContext,
  keyOf,
  splitKey,
  withCondition,
} from "./controller.ts";
import { claim, concerned, controllerReference, podMetadata } from "./ownership.ts";
import { availableIn, byVictim, isActive, isReady } from "./pods.ts";

const TYPE = { apiVersion: "apps/v1", kind: "ReplicaSet" };
const OWNER = { group: "apps", resource: "replicasets", kind: "ReplicaSet" };
const PODS = { group: "", resource: "pods" };
/** Pods made or removed in one pass. */
const BURST = 100;

export class ReplicaSetController extends Controller {
  constructor(context: ControllerContext) {
    super("replicaset-controller", context, { workers: 8 });
  }

  start(): void {
    this.watch("apps", "replicasets", (type, object) => {
      if (type !== "DELETED") this.queue.add(keyOf(object));
    });
    this.watch("", "pods", (_, pod, previous) => {
      for (const key of concerned(this.cluster, pod, OWNER)) this.queue.add(key);
      if (previous) for (const key of concerned(this.cluster, previous, OWNER)) this.queue.add(key);
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "apps", resource: "replicasets", ...splitKey(key) };
    const set = this.cluster.get(ref);
    if (!set) return;
    const pods = (await claim(this.cluster, set, TYPE, PODS)).filter(isActive);
    let failure: unknown;
    if (!set.metadata.deletionTimestamp) {
      try {
        await this.#scale(set, pods);
      } catch (error) {
        failure = error;
      }
    }
    await this.#status(key, set, failure);
    if (failure) throw failure;
  }

  async #scale(set: KubeObject, pods: readonly KubeObject[]): Promise<void> {
    const missing = (set["spec"].replicas ?? 1) - pods.length;
    if (missing > 0) await this.#create(set, Math.min(missing, BURST));
    else if (missing < 0) {
      const victims = byVictim(pods).slice(0, Math.min(-missing, BURST));
      for (const pod of victims) {
        const { namespace, name, uid } = pod.metadata;
        await this.cluster.delete({ ...PODS, namespace, name }, { uid });
        this.event(set, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
      }
    }
  }

  /** In growing batches, so that a template that is always refused costs one request, not hundreds. */
  async #create(set: KubeObject, count: number): Promise<void> {
    const reference = controllerReference(set, TYPE.apiVersion, TYPE.kind);
    const template = set["spec"].template;
    for (let batch = 1, left = count; left > 0; left -= batch, batch = Math.min(batch * 2, left)) {
      const results = await Promise.allSettled(
        Array.from({ length: batch }, async () => {
          const pod = await this.cluster.create("", "pods", set.metadata.namespace, {
            apiVersion: "v1",
            kind: "Pod",
            metadata: podMetadata(set, reference, template),
            spec: structuredClone(template.spec),
          });
          this.event(set, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
        }),
      );
      const failed = results.find((result) => result.status === "rejected");
      if (failed) {
        this.event(set, "Warning", "FailedCreate", `Error creating: ${errorMessage(failed.reason)}`);
        throw failed.reason;
      }
    }
  }

  async #status(key: string, set: KubeObject, failure: unknown): Promise<void> {
    const ref = { group: "apps", resource: "replicasets", ...splitKey(key) };
    const pods = (await claim(this.cluster, set, TYPE, PODS)).filter(isActive);
    const now = this.clock.now();
    const labels = Object.entries(set["spec"].template.metadata?.labels ?? {});
    let available = 0;
    for (const pod of pods) {
      const wait = availableIn(pod, set["spec"].minReadySeconds ?? 0, now);
      if (wait === 0) available += 1;
      else if (wait !== undefined) this.queue.addAfter(key, wait);
    }
    const before: Condition[] = set["status"]?.conditions ?? [];
    const conditions = failure
      ? withCondition(
          before,
          { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: errorMessage(failure) },
          now,
        )
      : before.filter((condition) => condition.type !== "ReplicaFailure");
    await this.writeStatus(ref, {
      replicas: pods.length,
      ...nonZero({
        fullyLabeledReplicas: pods.filter((pod) =>
          labels.every(([label, value]) => pod.metadata.labels?.[label] === value),
        ).length,
        readyReplicas: pods.filter(isReady).length,
        availableReplicas: available,
      }),
      observedGeneration: set.metadata.generation,
      ...(conditions.length > 0 ? { conditions } : {}),
    });
  }
}

/** Kubernetes leaves counts of zero out of these statuses. */
export function nonZero(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0));
}
