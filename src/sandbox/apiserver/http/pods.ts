// Pod subresources that only write: binding and eviction.

import type { Json, KubeObject } from "../../cluster.ts";
import type { ResourceDef } from "../resource.ts";
import { selectorMatches } from "../selectors.ts";
import { ApiError, badRequest, conflict } from "../status.ts";
import { readObject } from "./body.ts";
import { type Exchange, sendJson } from "./exchange.ts";
import { writeOptions } from "./resources.ts";

const SUCCESS = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" };

/** POST …/pods/NAME/binding and …/bindings: a scheduler's decision. */
export async function bind(def: ResourceDef, exchange: Exchange): Promise<void> {
  const body = await readObject(exchange.request);
  const { namespace, name } = exchange.info.resource as { namespace: string; name?: string };
  const pod = name ?? body?.metadata?.name;
  const node = body?.target?.name;
  if (!pod || !node) throw badRequest("a Binding needs metadata.name and target.name");
  await exchange.serving.cluster.writer.change(
    def,
    namespace,
    pod,
    (current) => {
      if (current.spec.nodeName) {
        throw conflict(
          "",
          "pods/binding",
          pod,
          `pod ${pod} is already assigned to node ${JSON.stringify(current.spec.nodeName)}`,
        );
      }
      current.spec.nodeName = node;
      delete current.metadata.resourceVersion;
      return current;
    },
    writeOptions(exchange),
  );
  sendJson(exchange, 201, { ...SUCCESS, code: 201 });
}

/** POST …/pods/NAME/eviction: a deletion that disruption budgets may refuse. */
export async function evict(def: ResourceDef, exchange: Exchange): Promise<void> {
  const body: Json = (await readObject(exchange.request)) ?? {};
  const { registry, deleter, writer } = exchange.serving.cluster;
  const { namespace, name } = exchange.info.resource as { namespace: string; name: string };
  const pod = registry.get(def, namespace, name);
  const options = writeOptions(exchange);
  const budgets = registry.preferred("policy", "poddisruptionbudgets")!;
  // A pod that does no work yet, or no more, is missed by nobody.
  const idle =
    ["Pending", "Succeeded", "Failed"].includes(pod.status?.phase) || pod.metadata.deletionTimestamp;
  for (const budget of idle ? [] : registry.listStored(budgets.collection, namespace)) {
    if (!selectorMatches(budget.spec?.selector, pod.metadata.labels)) continue;
    // Taken at once, not when the controller has seen it: two evictions must not both find the last one free.
    await writer.change(budgets, namespace, budget.metadata.name, takeDisruption, {
      ...options,
      subresource: "status",
    });
  }
  const { gracePeriodSeconds, preconditions, dryRun } = body.deleteOptions ?? {};
  await deleter.delete(
    def,
    namespace,
    name,
    { gracePeriodSeconds, uid: preconditions?.uid },
    { ...options, dryRun: options.dryRun || (dryRun ?? []).includes("All") },
  );
  sendJson(exchange, 201, { ...SUCCESS, code: 201 });
}

/** One disruption fewer is allowed. @throws ApiError 429 when there is none */
function takeDisruption(budget: KubeObject): KubeObject {
  const { disruptionsAllowed = 0, desiredHealthy = 0, currentHealthy = 0 } = budget.status ?? {};
  if (disruptionsAllowed <= 0) {
    const message = `The disruption budget ${budget.metadata.name} needs ${desiredHealthy} healthy pods and has ${currentHealthy} currently`;
    throw new ApiError(
      429,
      "TooManyRequests",
      "Cannot evict pod as it would violate the pod's disruption budget.",
      { causes: [{ reason: "DisruptionBudget", message }], retryAfterSeconds: 10 },
    );
  }
  budget.status.disruptionsAllowed = disruptionsAllowed - 1;
  delete budget.metadata.resourceVersion;
  return budget;
}
