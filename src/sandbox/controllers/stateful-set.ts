// StatefulSets: pods with stable names, made in order and removed in reverse order.

import { errorMessage } from "../../util/error.ts";
import type { Json, KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey } from "./controller.ts";
import { claim, concerned, controllerReference, podMetadata } from "./ownership.ts";
import { availableIn, isFinished, isReady } from "./pods.ts";
import { currentRevision, REVISION_LABEL } from "./revisions.ts";

const TYPE = { apiVersion: "apps/v1", kind: "StatefulSet" };
const OWNER = { group: "apps", resource: "statefulsets", kind: "StatefulSet" };
const PODS = { group: "", resource: "pods" };
const POD_NAME = "statefulset.kubernetes.io/pod-name";
const POD_INDEX = "apps.kubernetes.io/pod-index";

export class StatefulSetController extends Controller {
  constructor(context: ControllerContext) {
    super("statefulset-controller", context);
  }

  start(): void {
    this.watch("apps", "statefulsets", (type, set) => {
      if (type !== "DELETED") this.queue.add(keyOf(set));
    });
    this.watch("", "pods", (_, pod) => {
      for (const key of concerned(this.cluster, pod, OWNER)) this.queue.add(key);
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "apps", resource: "statefulsets", ...splitKey(key) };
    const set = this.cluster.get(ref);
    if (!set || set.metadata.deletionTimestamp) return;
    const pods = await claim(this.cluster, set, TYPE, PODS);
    const inUse = new Set(pods.map((pod) => pod.metadata.labels?.[REVISION_LABEL] ?? ""));
    if (set["status"]?.currentRevision) inUse.add(set["status"].currentRevision);
    const { name: revision } = await currentRevision(this.cluster, set, TYPE, inUse);
    let failure: unknown;
    try {
      await this.#step(key, set, pods, revision);
    } catch (error) {
      failure = error;
    }
    await this.#status(key, set, revision);
    if (failure) throw failure;
  }

  /** One step towards the goal; with OrderedReady, the next waits until all before it are available. */
  async #step(key: string, set: KubeObject, pods: readonly KubeObject[], revision: string): Promise<void> {
    const spec = set["spec"];
    const start: number = spec.ordinals?.start ?? 0;
    const parallel = spec.podManagementPolicy === "Parallel";
    const byOrdinal = new Map(pods.map((pod) => [ordinalOf(set, pod), pod]));
    const minReady: number = spec.minReadySeconds ?? 0;
    const settled = (pod: KubeObject): boolean => {
      const wait = availableIn(pod, minReady, this.clock.now());
      if (wait) this.queue.addAfter(key, wait);
      return wait === 0 && !pod.metadata.deletionTimestamp;
    };

    for (let ordinal = start; ordinal < start + spec.replicas; ordinal++) {
      const pod = byOrdinal.get(ordinal);
      if (!pod) await this.#create(set, ordinal, this.#revisionFor(set, ordinal, revision));
      else if (isFinished(pod) && !pod.metadata.deletionTimestamp) await this.#remove(set, pod);
      else if (settled(pod)) continue;
      if (!parallel) return;
    }
    const surplus = [...byOrdinal]
      .filter(([ordinal]) => ordinal < start || ordinal >= start + spec.replicas)
      .sort(([a], [b]) => b - a);
    for (const [, pod] of surplus) {
      if (!pod.metadata.deletionTimestamp) await this.#remove(set, pod);
      if (!parallel) return;
    }
    if (spec.updateStrategy?.type === "OnDelete") return;
    const partition: number = spec.updateStrategy?.rollingUpdate?.partition ?? 0;
    for (let ordinal = start + spec.replicas - 1; ordinal >= start + partition; ordinal--) {
      const pod = byOrdinal.get(ordinal);
      if (!pod) return;
      if (pod.metadata.labels?.[REVISION_LABEL] !== revision) {
        if (!pod.metadata.deletionTimestamp) await this.#remove(set, pod);
        return;
      }
      if (!settled(pod)) return;
    }
  }

  /** Below the partition a pod comes back as it was. */
  #revisionFor(set: KubeObject, ordinal: number, revision: string): string {
    const partition: number = set["spec"].updateStrategy?.rollingUpdate?.partition ?? 0;
    return ordinal < partition ? (set["status"]?.currentRevision ?? revision) : revision;
  }

  async #create(set: KubeObject, ordinal: number, revision: string): Promise<void> {
    const { namespace, name } = set.metadata;
    const template = this.#templateOf(set, revision);
    const podName = `${name}-${ordinal}`;
    const labels = { [REVISION_LABEL]: revision, [POD_NAME]: podName, [POD_INDEX]: String(ordinal) };
    const spec: Json = {
      ...structuredClone(template.spec),
      hostname: podName,
      subdomain: set["spec"].serviceName,
    };
    if (!spec.subdomain) delete spec.subdomain;
    try {
      await this.cluster.create("", "pods", namespace, {
        apiVersion: "v1",
        kind: "Pod",
        metadata: podMetadata(set, controllerReference(set, TYPE.apiVersion, TYPE.kind), template, {
          name: podName,
          labels,
        }),
        spec,
      });
      const message = `create Pod ${podName} in StatefulSet ${name} successful`;
      this.event(set, "Normal", "SuccessfulCreate", message);
    } catch (error) {
      const message = `create Pod ${podName} in StatefulSet ${name} failed error: ${errorMessage(error)}`;
      this.event(set, "Warning", "FailedCreate", message);
      throw error;
    }
  }

  #templateOf(set: KubeObject, revision: string): Json {
    const { namespace } = set.metadata;
    const stored = this.cluster.get({
      group: "apps",
      resource: "controllerrevisions",
      namespace,
      name: revision,
    });
    const { $patch: _, ...template } = stored?.["data"]?.spec?.template ?? set["spec"].template;
    return template;
  }

  async #remove(set: KubeObject, pod: KubeObject): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    await this.cluster.delete({ ...PODS, namespace, name }, { uid });
    const message = `delete Pod ${name} in StatefulSet ${set.metadata.name} successful`;
    this.event(set, "Normal", "SuccessfulDelete", message);
  }

  async #status(key: string, set: KubeObject, updateRevision: string): Promise<void> {
    const pods = (await claim(this.cluster, set, TYPE, PODS)).filter((pod) => !isFinished(pod));
    const now = this.clock.now();
    const alive = pods.filter((pod) => !pod.metadata.deletionTimestamp);
    const updated = alive.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === updateRevision);
    const ready = pods.filter(isReady);
    const available = ready.filter((pod) => availableIn(pod, set["spec"].minReadySeconds ?? 0, now) === 0);
    const before = set["status"] ?? {};
    const done =
      updated.length === set["spec"].replicas &&
      pods.length === updated.length &&
      ready.length === pods.length;
    const present: string = done ? updateRevision : (before.currentRevision ?? updateRevision);
    await this.writeStatus(
      { group: "apps", resource: "statefulsets", ...splitKey(key) },
      {
        observedGeneration: set.metadata.generation,
        replicas: pods.length,
        readyReplicas: ready.length,
        availableReplicas: available.length,
        currentReplicas: alive.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === present).length,
        updatedReplicas: updated.length,
        currentRevision: present,
        updateRevision,
        collisionCount: 0,
      },
    );
  }
}

function ordinalOf(set: KubeObject, pod: KubeObject): number {
  return Number(pod.metadata.name.slice(set.metadata.name.length + 1));
}
