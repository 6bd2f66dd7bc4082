// The metrics API as a process: watches pods, scrapes the meshed ones, answers questions.
//
// Environment besides that of every controller: MESH_METRICS_INTERVAL and MESH_METRICS_RETENTION (durations),
// MESH_METRICS_BUDGET_MB.
import { once } from "node:events";
import { essentialMetadata, keyOf } from "../../kube/reflector.ts";
import type { Pod } from "../../kube/types.ts";
import { systemClock } from "../../util/clock.ts";
import { parseDuration } from "../../util/duration.ts";
import { runController, serveOn } from "../process.ts";
import { type PodRecord, podRecord } from "./pod.ts";
import { Scraper } from "./scraper.ts";
import { createMetricsServer } from "./server.ts";
import { TrafficStore } from "./store.ts";

export function main(run: typeof runController = runController): Promise<void> {
  return run("metrics-api", { port: 8085, adminPort: 9992 }, async (controller) => {
    const { env, log, registry } = controller;
    const interval = parseDuration(env["MESH_METRICS_INTERVAL"] ?? "3s");
    const store = new TrafficStore<PodRecord>({
      interval,
      retention: parseDuration(env["MESH_METRICS_RETENTION"] ?? "5m"),
      budgetBytes: Number(env["MESH_METRICS_BUDGET_MB"] ?? 192) * 1024 * 1024,
    });

    const pods = new Map<string, PodRecord>();
    const put = (pod: Pod) => void pods.set(keyOf(pod), podRecord(pod, controller.namespace));
    const reflector = controller.reflect<Pod>({ path: "/api/v1/pods", transform: slim });
    reflector.on({ added: put, updated: put, deleted: (pod) => void pods.delete(keyOf(pod)) });

    const scraper = new Scraper({
      store,
      pods: () => pods.values(),
      registry,
      clock: systemClock,
      log,
      interval,
    });
    const server = createMetricsServer(
      () => ({ store, pods: () => pods.values(), now: systemClock.now() }),
      log,
    );
    server.listen(controller.port);
    await once(server, "listening");
    void reflector.synced.then(() => scraper.start());
    controller.onHandover(serveOn(controller.clock));
    controller.onStop(() => {
      scraper.stop();
      server.close();
      server.closeIdleConnections();
    });
  });
}

/** What {@link podRecord} reads of a pod. */
function slim(pod: Pod): Pod {
  const { labels, deletionTimestamp, ownerReferences } = pod.metadata;
  const { phase, podIP, reason, containerStatuses } = pod.status ?? {};
  const waiting = containerStatuses?.filter((status) => status.state?.waiting);
  return {
    metadata: {
      ...essentialMetadata(pod),
      ...(labels === undefined ? {} : { labels }),
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
      ...(ownerReferences === undefined ? {} : { ownerReferences }),
    },
    spec: { containers: [] },
    status: {
      ...(phase === undefined ? {} : { phase }),
      ...(podIP === undefined ? {} : { podIP }),
      ...(reason === undefined ? {} : { reason }),
      ...(waiting?.length ? { containerStatuses: waiting } : {}),
    },
  };
}
