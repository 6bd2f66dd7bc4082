// Waits until Deployments run what they say, and tells what holds them up when they do not.
import type { KubeClient } from "../kube/client.ts";
import type { Deployment, Pod } from "../kube/types.ts";
import { MeshError } from "../util/error.ts";

export interface RolloutOptions {
  /** ms. */
  readonly timeout: number;
  readonly onProgress?: (ready: number, total: number) => void;
}

const POLL = 250;

/** Whether every replica is of the current template and available. */
export function isRolledOut({ metadata, spec, status }: Deployment): boolean {
  const wanted = spec.replicas ?? 1;
  return (
    (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    (status?.updatedReplicas ?? 0) === wanted &&
    (status?.availableReplicas ?? 0) === wanted &&
    (status?.replicas ?? 0) === wanted
  );
}

/** All Deployments of a namespace. @throws MeshError naming those that are late and the state of their pods */
export async function waitForRollout(
  client: KubeClient,
  namespace: string,
  options: RolloutOptions,
): Promise<void> {
  const path = `/apis/apps/v1/namespaces/${namespace}/deployments`;
  const deadline = Date.now() + options.timeout;
  for (;;) {
    const { items } = await client.list<Deployment>(path);
    const late = items.filter((deployment) => !isRolledOut(deployment));
    options.onProgress?.(items.length - late.length, items.length);
    if (items.length > 0 && late.length === 0) return;
    if (Date.now() > deadline) throw await lateError(client, namespace, late, options.timeout);
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

async function lateError(
  client: KubeClient,
  namespace: string,
  late: readonly Deployment[],
  timeout: number,
): Promise<MeshError> {
  const { items } = await client.list<Pod>(`/api/v1/namespaces/${namespace}/pods`);
  const states = items.map((pod) => {
    const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
    const waiting = statuses.find((status) => !status.ready);
    const reason = waiting?.state?.waiting?.reason ?? waiting?.state?.terminated?.reason;
    const where = waiting ? `, container ${waiting.name} not ready${reason ? ` (${reason})` : ""}` : "";
    return `pod ${pod.metadata.name}: ${pod.status?.phase ?? "Unknown"}${where}`;
  });
  const names = late.map((deployment) => deployment.metadata.name).join(", ");
  return new MeshError(
    `not ready after ${timeout / 1000} s in namespace ${namespace}: ${names || "no Deployments"}`,
    {
      hints: [...states, `look closer: kubectl -n ${namespace} describe pods`],
    },
  );
}
