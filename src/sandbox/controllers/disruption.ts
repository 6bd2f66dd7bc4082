// PodDisruptionBudgets: how many of a workload's pods an eviction may take now.
import { selectorMatches } from "../../rules/label-selector.ts";
import type { KubeObject, Ref } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey } from "./controller.ts";
import { resolveIntOrPercent } from "./deployment-math.ts";
import { isActive, isReady } from "./pods.ts";

const BUDGETS = { group: "policy", resource: "poddisruptionbudgets" };
/** Kinds that say how many pods there should be, by their owner's kind. */
const SCALED: Readonly<Record<string, { readonly group: string; readonly resource: string }>> = {
  Deployment: { group: "apps", resource: "deployments" },
  ReplicaSet: { group: "apps", resource: "replicasets" },
  StatefulSet: { group: "apps", resource: "statefulsets" },
  ReplicationController: { group: "", resource: "replicationcontrollers" },
};

export class DisruptionController extends Controller {
  constructor(context: ControllerContext) {
    super("disruption-controller", context);
  }

  start(): void {
    this.watch(BUDGETS.group, BUDGETS.resource, (type, budget) => {
      if (type !== "DELETED") this.queue.add(keyOf(budget));
    });
    this.watch("", "pods", (_, pod) => {
      for (const budget of this.cluster.list(BUDGETS.group, BUDGETS.resource, pod.metadata.namespace)) {
        if (selectorMatches(budget["spec"]?.selector, pod.metadata.labels)) this.queue.add(keyOf(budget));
      }
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { ...BUDGETS, ...splitKey(key) };
    const budget = this.cluster.get(ref);
    if (!budget || budget.metadata.deletionTimestamp) return;
    const { selector, maxUnavailable, minAvailable } = budget["spec"];
    const pods = this.cluster
      .list("", "pods", budget.metadata.namespace)
      .filter((pod) => isActive(pod) && selectorMatches(selector, pod.metadata.labels));
    const healthy = pods.filter(isReady).length;
    // A number of pods that must stay needs to know nothing of their owners; everything else is a part of what should be.
    const expected = typeof minAvailable === "number" ? pods.length : this.#expected(pods);
    const desired =
      minAvailable === undefined
        ? Math.max(0, expected - resolveIntOrPercent(maxUnavailable, expected, true))
        : resolveIntOrPercent(minAvailable, expected, true);
    await this.writeStatus(ref, {
      observedGeneration: budget.metadata.generation,
      expectedPods: expected,
      currentHealthy: healthy,
      desiredHealthy: desired,
      disruptionsAllowed: Math.max(0, healthy - desired),
    });
  }

  /** Sum of the replicas that the pods' owners want; a pod without a scaled owner counts as one. */
  #expected(pods: readonly KubeObject[]): number {
    const wanted = new Map<string, number>();
    for (const pod of pods) {
      const owner = this.#scaled(pod);
      wanted.set(owner?.metadata.uid ?? pod.metadata.uid!, owner?.["spec"].replicas ?? 1);
    }
    return [...wanted.values()].reduce((sum, replicas) => sum + replicas, 0);
  }

  /** The topmost of the owners that has replicas. */
  #scaled(object: KubeObject): KubeObject | undefined {
    const reference = object.metadata.ownerReferences?.find((each) => each.controller);
    const kind = SCALED[reference?.kind ?? ""];
    if (!reference || !kind) return undefined;
    const ref: Ref = { ...kind, namespace: object.metadata.namespace, name: reference.name };
    const owner = this.cluster.get(ref);
    return owner && (this.#scaled(owner) ?? owner);
  }
}
