// The metrics API as a process: watches pods, scrapes the meshed ones, answers questions.
//
// Environment: MESH_NAMESPACE (default: the pod's own), MESH_LOG_LEVEL, MESH_LOG_FORMAT (plain|json),
// MESH_METRICS_INTERVAL and MESH_METRICS_RETENTION (durations), MESH_METRICS_BUDGET_MB.
import { once } from "node:events";
import { KubeClient } from "../../kube/client.ts";
import { loadInCluster } from "../../kube/config.ts";
import { Reflector } from "../../kube/reflector.ts";
import type { Pod } from "../../kube/types.ts";
import { createLogger, parseLevel } from "../../log/logger.ts";
import { Registry } from "../../metrics/registry.ts";
import { systemClock } from "../../util/clock.ts";
import { parseDuration } from "../../util/duration.ts";
import { errorMessage } from "../../util/error.ts";
import { listenAdmin } from "../admin.ts";
import { type PodRecord, podRecord } from "./pod.ts";
import { Scraper } from "./scraper.ts";
import { createMetricsServer } from "./server.ts";
import { TrafficStore } from "./store.ts";

const PORT = 8085;
const ADMIN_PORT = 9992;

export async function main(env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const log = createLogger({
    level: parseLevel(env["MESH_LOG_LEVEL"]),
    format: env["MESH_LOG_FORMAT"] === "json" ? "json" : "plain",
  });
  const config = loadInCluster();
  const meshNamespace = env["MESH_NAMESPACE"] ?? config.namespace;
  const interval = parseDuration(env["MESH_METRICS_INTERVAL"] ?? "3s");
  const client = new KubeClient(config);
  const registry = new Registry();

  // Of a cluster's pods only a small record each is kept.
  const pods = new Map<string, PodRecord>();
  const key = (pod: Pod) => `${pod.metadata.namespace}/${pod.metadata.name}`;
  const put = (pod: Pod) => void pods.set(key(pod), podRecord(pod, meshNamespace));
  const reflector = new Reflector<Pod>(client, {
    path: "/api/v1/pods",
    transform: slim,
    onError: (error) => log.warn("watching pods failed, trying again", { error: errorMessage(error) }),
  });
  reflector.on({ added: put, updated: put, deleted: (pod) => void pods.delete(key(pod)) });

  const store = new TrafficStore<PodRecord>({
    interval,
    retention: parseDuration(env["MESH_METRICS_RETENTION"] ?? "5m"),
    budgetBytes: Number(env["MESH_METRICS_BUDGET_MB"] ?? 96) * 1024 * 1024,
  });
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
  const admin = await listenAdmin({ port: ADMIN_PORT, registry, ready: () => reflector.isSynced });
  server.listen(PORT);
  await once(server, "listening");
  reflector.start();
  log.info("metrics API is listening", { port: PORT, mesh: meshNamespace });

  const stop = (signal: string) => {
    log.info("stopping", { signal });
    reflector.stop();
    scraper.stop();
    for (const each of [server, admin]) each.close();
    for (const each of [server, admin]) each.closeIdleConnections();
    // Answers under way take milliseconds; connections kept open by clients must not hold the pod.
    setTimeout(() => process.exit(0), 2_000).unref();
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);

  await reflector.synced;
  scraper.start();
}

/** What {@link podRecord} reads of a pod. */
function slim(pod: Pod): Pod {
  const { name, namespace, uid, resourceVersion, labels, deletionTimestamp, ownerReferences } = pod.metadata;
  const { phase, podIP, reason, containerStatuses } = pod.status ?? {};
  const waiting = containerStatuses?.filter((status) => status.state?.waiting);
  return {
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
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
