// A cluster in memory with all controllers, the scheduler and a kubelet that only says what a kubelet would say.
import { createLogger } from "../../src/log/logger.ts";
import { bootstrap } from "../../src/sandbox/apiserver/bootstrap.ts";
import { createCluster } from "../../src/sandbox/apiserver/local-cluster.ts";
import type { Cluster, Json, KubeObject, NewObject } from "../../src/sandbox/cluster.ts";
import { startControllers } from "../../src/sandbox/controllers/index.ts";
import { startScheduler } from "../../src/sandbox/scheduler/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { until } from "./until.ts";

/** What the pretended kubelet does with a pod: `run`, fail to become ready, or end with a result. */
export type Fate = "ready" | "unready" | "succeed" | "fail" | "held";

export interface TestCluster {
  readonly cluster: Cluster;
  /** Decides each pod's fate when it is bound; default: it becomes ready. */
  fate: (pod: KubeObject) => Fate;
  /** Pods that a stuck kubelet does not let go of. */
  readonly stuck: Set<string>;
  /** What the controllers have complained about in the log. */
  readonly warnings: readonly string[];
  create(group: string, resource: string, object: Json): Promise<KubeObject>;
  settle(pod: KubeObject, fate: Fate): Promise<void>;
  pods(labels?: Record<string, string>): KubeObject[];
  events(name: string): string[];
  close(): Promise<void>;
}

export async function startTestCluster(nodes = 1): Promise<TestCluster> {
  const warnings: string[] = [];
  const log = createLogger({ level: "warn", write: (line) => warnings.push(line) });
  const cluster = await createCluster({ log });
  await bootstrap(cluster);
  const context = { cluster, clock: systemClock, log };
  const controllers = await startControllers({ ...context, nodes, rootCa: "PEM" });
  const scheduler = startScheduler(context);
  const seen = new Set<string>();
  const stuck = new Set<string>();
  let lastIp = 1;

  const settle = async (pod: KubeObject, fate: Fate) => {
    const { namespace, name } = pod.metadata;
    if (fate === "held") return;
    const ended = fate === "succeed" || fate === "fail";
    const now = new Date().toISOString();
    const ready = { type: "Ready", status: fate === "ready" ? "True" : "False", lastTransitionTime: now };
    lastIp += 1;
    const podIP = `10.244.0.${lastIp}`;
    await cluster.modify(
      { group: "", resource: "pods", namespace, name },
      (current) => ({
        ...current,
        status: {
          ...current["status"],
          phase: ended ? (fate === "succeed" ? "Succeeded" : "Failed") : "Running",
          podIP: current["status"]?.podIP ?? podIP,
          conditions: [
            ...(current["status"]?.conditions ?? []).filter((each: Json) => each.type !== "Ready"),
            ready,
          ],
          ...(ended
            ? { containerStatuses: [{ name: "c", state: { terminated: { finishedAt: now } } }] }
            : {}),
        },
      }),
      { subresource: "status" },
    );
  };

  const made: TestCluster = {
    cluster,
    fate: () => "ready",
    stuck,
    warnings,
    settle,
    async create(group, resource, object) {
      const namespace =
        object.metadata.namespace === null ? undefined : (object.metadata.namespace ?? "default");
      return cluster.create(group, resource, namespace, object as NewObject);
    },
    pods: (labels = {}) =>
      cluster
        .list("", "pods", "default")
        .filter((pod) =>
          Object.entries(labels).every(([key, value]) => pod.metadata.labels?.[key] === value),
        ),
    events: (name) =>
      cluster
        .list("", "events", "default")
        .filter((event) => event["involvedObject"].name === name)
        .map((event) => `${event["reason"]}: ${event["message"]}`),
    async close() {
      unwatch();
      await controllers.stop();
      await scheduler.stop();
      await cluster.close();
    },
  };
  const unwatch = cluster.watch("", "pods", (type, pod) => {
    if (type === "DELETED" || !pod["spec"].nodeName) return;
    const { uid, namespace, name } = pod.metadata;
    if (pod.metadata.deletionTimestamp) {
      if (!stuck.has(name)) cluster.finalizeDelete({ group: "", resource: "pods", namespace, name });
    } else if (!seen.has(uid!)) {
      seen.add(uid!);
      void settle(pod, made.fate(pod));
    }
  });
  // The default ServiceAccount comes from a controller, as everything else here.
  await eventually(() =>
    Boolean(cluster.get({ group: "", resource: "serviceaccounts", namespace: "default", name: "default" })),
  );
  return made;
}

/** Waits until `check` is true. */
export async function eventually(
  check: () => boolean | Promise<boolean>,
  what = "the expected state",
): Promise<void> {
  await until(check, 10_000, what);
}
