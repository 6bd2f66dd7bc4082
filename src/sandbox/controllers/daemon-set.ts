// DaemonSets: one pod on every node that can take it.

import { requirementMatches } from "../../rules/label-selector.ts";
import { errorMessage } from "../../util/error.ts";
import type { Json, KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey } from "./controller.ts";
import { resolveIntOrPercent } from "./deployment-math.ts";
import { claim, concerned, controllerReference, podMetadata } from "./ownership.ts";
import { availableIn, isFinished, isReady } from "./pods.ts";
import { currentRevision, REVISION_LABEL } from "./revisions.ts";

const TYPE = { apiVersion: "apps/v1", kind: "DaemonSet" };
const OWNER = { group: "apps", resource: "daemonsets", kind: "DaemonSet" };
const PODS = { group: "", resource: "pods" };

/** Troubles of a node that its daemons live through. */
const TOLERATIONS: Json[] = [
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
];

export class DaemonSetController extends Controller {
  constructor(context: ControllerContext) {
    super("daemonset-controller", context);
  }

  start(): void {
    this.watch("apps", "daemonsets", (type, set) => {
      if (type !== "DELETED") this.queue.add(keyOf(set));
    });
    this.watch("", "pods", (_, pod) => {
      for (const key of concerned(this.cluster, pod, OWNER)) this.queue.add(key);
    });
    this.watch("", "nodes", () => {
      for (const set of this.cluster.list("apps", "daemonsets")) this.queue.add(keyOf(set));
    });
  }

  protected async sync(key: string): Promise<void> {
    const set = this.cluster.get({ group: "apps", resource: "daemonsets", ...splitKey(key) });
    if (!set || set.metadata.deletionTimestamp) return;
    const pods = await claim(this.cluster, set, TYPE, PODS);
    const inUse = new Set(pods.map((pod) => `${set.metadata.name}-${pod.metadata.labels?.[REVISION_LABEL]}`));
    const { hash } = await currentRevision(this.cluster, set, TYPE, inUse);
    const wanted = this.cluster.list("", "nodes").filter((node) => shouldRun(set, node));
    await this.#place(set, pods, wanted, hash);
    await this.#update(set, wanted.length, hash);
    await this.#status(key, set, wanted, hash);
  }

  async #place(
    set: KubeObject,
    pods: readonly KubeObject[],
    wanted: readonly KubeObject[],
    hash: string,
  ): Promise<void> {
    const perNode = new Map<string, KubeObject[]>();
    for (const pod of pods) {
      const node = nodeOf(pod);
      perNode.set(node, [...(perNode.get(node) ?? []), pod]);
    }
    for (const node of wanted) {
      const here = perNode.get(node.metadata.name) ?? [];
      perNode.delete(node.metadata.name);
      const [keep, ...surplus] = here.filter((pod) => !isFinished(pod) && !pod.metadata.deletionTimestamp);
      for (const pod of here.filter(isFinished))
        if (!pod.metadata.deletionTimestamp) await this.#remove(set, pod);
      for (const pod of surplus) await this.#remove(set, pod);
      if (!keep && here.every(isFinished)) await this.#create(set, node, hash);
    }
    for (const pod of [...perNode.values()].flat()) {
      if (!pod.metadata.deletionTimestamp) await this.#remove(set, pod);
    }
  }

  /** Replaces pods of an older template, as many at a time as may be unavailable. */
  async #update(set: KubeObject, wanted: number, hash: string): Promise<void> {
    const strategy = set["spec"].updateStrategy;
    if (strategy?.type === "OnDelete") return;
    const pods = await claim(this.cluster, set, TYPE, PODS);
    const allowed = Math.max(
      1,
      resolveIntOrPercent(strategy?.rollingUpdate?.maxUnavailable ?? 1, wanted, true),
    );
    const now = this.clock.now();
    const available = (pod: KubeObject) =>
      !pod.metadata.deletionTimestamp && availableIn(pod, set["spec"].minReadySeconds ?? 0, now) === 0;
    let budget = allowed - (wanted - pods.filter(available).length);
    for (const pod of pods) {
      if (pod.metadata.deletionTimestamp || pod.metadata.labels?.[REVISION_LABEL] === hash) continue;
      // One that is down already costs nothing.
      if (available(pod) && budget-- <= 0) continue;
      await this.#remove(set, pod);
    }
  }

  async #create(set: KubeObject, node: KubeObject, hash: string): Promise<void> {
    const template = set["spec"].template;
    const spec = structuredClone(template.spec);
    const pinned = { matchFields: [{ key: "metadata.name", operator: "In", values: [node.metadata.name] }] };
    spec.affinity = {
      ...spec.affinity,
      nodeAffinity: {
        ...spec.affinity?.nodeAffinity,
        requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [pinned] },
      },
    };
    spec.tolerations = [...(spec.tolerations ?? []), ...TOLERATIONS];
    try {
      const pod = await this.cluster.create("", "pods", set.metadata.namespace, {
        apiVersion: "v1",
        kind: "Pod",
        metadata: podMetadata(set, controllerReference(set, TYPE.apiVersion, TYPE.kind), template, {
          labels: { [REVISION_LABEL]: hash },
        }),
        spec,
      });
      this.event(set, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    } catch (error) {
      this.event(set, "Warning", "FailedCreate", `Error creating: ${errorMessage(error)}`);
      throw error;
    }
  }

  async #remove(set: KubeObject, pod: KubeObject): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    await this.cluster.delete({ ...PODS, namespace, name }, { uid });
    this.event(set, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
  }

  async #status(key: string, set: KubeObject, wanted: readonly KubeObject[], hash: string): Promise<void> {
    const names = new Set(wanted.map((node) => node.metadata.name));
    const pods = (await claim(this.cluster, set, TYPE, PODS)).filter(
      (pod) => !isFinished(pod) && !pod.metadata.deletionTimestamp,
    );
    const right = pods.filter((pod) => names.has(nodeOf(pod)));
    const ready = right.filter(isReady);
    let available = 0;
    for (const pod of ready) {
      const wait = availableIn(pod, set["spec"].minReadySeconds ?? 0, this.clock.now());
      if (wait === 0) available += 1;
      else if (wait !== undefined) this.queue.addAfter(key, wait);
    }
    const updated = right.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === hash).length;
    const unavailable = names.size - available;
    await this.writeStatus(
      { group: "apps", resource: "daemonsets", ...splitKey(key) },
      {
        observedGeneration: set.metadata.generation,
        desiredNumberScheduled: names.size,
        currentNumberScheduled: right.length,
        numberMisscheduled: pods.length - right.length,
        numberReady: ready.length,
        ...(updated > 0 ? { updatedNumberScheduled: updated } : {}),
        ...(available > 0 ? { numberAvailable: available } : {}),
        ...(unavailable > 0 ? { numberUnavailable: unavailable } : {}),
      },
    );
  }
}

/** The node a daemon's pod is on or meant for. */
function nodeOf(pod: KubeObject): string {
  const required = pod["spec"].affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return pod["spec"].nodeName ?? required?.nodeSelectorTerms?.[0]?.matchFields?.[0]?.values?.[0] ?? "";
}

function shouldRun(set: KubeObject, node: KubeObject): boolean {
  const spec = set["spec"].template.spec;
  const labels = node.metadata.labels ?? {};
  if (Object.entries(spec.nodeSelector ?? {}).some(([key, value]) => labels[key] !== value)) return false;
  const terms =
    spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (
    terms &&
    !terms.some((term: Json) =>
      (term.matchExpressions ?? []).every((e: Json) => requirementMatches(e, labels)),
    )
  ) {
    return false;
  }
  const tolerations: Json[] = [...(spec.tolerations ?? []), ...TOLERATIONS];
  return (node["spec"]?.taints ?? []).every(
    (taint: Json) =>
      taint.effect === "PreferNoSchedule" ||
      tolerations.some(
        (toleration) =>
          (!toleration.effect || toleration.effect === taint.effect) &&
          (toleration.operator === "Exists"
            ? !toleration.key || toleration.key === taint.key
            : toleration.key === taint.key && (toleration.value ?? "") === (taint.value ?? "")),
      ),
  );
}
