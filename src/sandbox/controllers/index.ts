// The cluster's controllers, all in one process: what kube-controller-manager is to a real cluster.
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import type { Cluster } from "../cluster.ts";
import type { Controller } from "./controller.ts";
import { CronJobController } from "./cron-job.ts";
import { DaemonSetController } from "./daemon-set.ts";
import { DeploymentController } from "./deployment.ts";
import { DisruptionController } from "./disruption.ts";
import { publishDnsService } from "./dns-service.ts";
import { EndpointsController } from "./endpoints.ts";
import { GarbageCollector } from "./garbage-collector.ts";
import { JobController } from "./job.ts";
import { NamespaceContentController, NamespaceController } from "./namespace.ts";
import { NodeHeartbeat } from "./nodes.ts";
import { PodGarbageCollector } from "./pod-gc.ts";
import { ReplicaSetController } from "./replica-set.ts";
import { StatefulSetController } from "./stateful-set.ts";

export { nodeName } from "./nodes.ts";

export interface ControllersOptions {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
  /** How many nodes the cluster has. */
  readonly nodes: number;
  /** PEM of the CA that pods verify the API server with. */
  readonly rootCa: string;
}

/**
 * Resolves when the nodes are registered and every controller watches. The system namespaces must exist (the API
 * server's bootstrap makes them).
 */
export async function startControllers(options: ControllersOptions): Promise<{ stop(): Promise<void> }> {
  const { nodes, rootCa, ...context } = options;
  const heartbeat = new NodeHeartbeat(context, nodes);
  await publishDnsService(context.cluster);
  await heartbeat.start();
  const controllers: Controller[] = [
    new NamespaceContentController(context, rootCa),
    new NamespaceController(context),
    new GarbageCollector(context),
    new PodGarbageCollector(context),
    new DisruptionController(context),
    new EndpointsController(context),
    new ReplicaSetController(context),
    new DeploymentController(context),
    new StatefulSetController(context),
    new DaemonSetController(context),
    new JobController(context),
    new CronJobController(context),
  ];
  for (const controller of controllers) controller.start();
  return {
    async stop() {
      heartbeat.stop();
      await Promise.all(controllers.map((controller) => controller.stop()));
    },
  };
}
