// Pods that no kubelet will ever end: bound to a node that is gone.
import type { KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey } from "./controller.ts";

export class PodGarbageCollector extends Controller {
  constructor(context: ControllerContext) {
    super("pod-garbage-collector", context);
  }

  start(): void {
    this.watch("", "pods", (type, pod, previous) => {
      if (
        type !== "DELETED" &&
        pod["spec"]?.nodeName &&
        previous?.["spec"]?.nodeName !== pod["spec"].nodeName
      ) {
        this.queue.add(keyOf(pod));
      }
    });
    this.watch("", "nodes", (type, node) => {
      if (type !== "DELETED") return;
      for (const pod of this.cluster.list("", "pods")) if (isOn(pod, node)) this.queue.add(keyOf(pod));
    });
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "", resource: "pods", ...splitKey(key) };
    const pod = this.cluster.get(ref);
    const node: string | undefined = pod?.["spec"]?.nodeName;
    if (!pod || !node || this.cluster.get({ group: "", resource: "nodes", name: node })) return;
    this.log.info("deleting a pod whose node is gone", { pod: key, node });
    await this.cluster.delete(ref, { uid: pod.metadata.uid, gracePeriodSeconds: 0 });
  }
}

function isOn(pod: KubeObject, node: KubeObject): boolean {
  return pod["spec"]?.nodeName === node.metadata.name;
}
