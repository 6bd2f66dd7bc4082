// Pod subresources that only write: binding and eviction.

import type { Json } from "../../cluster.ts";
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
  const { registry, deleter } = exchange.serving.cluster;
  const { namespace, name } = exchange.info.resource as { namespace: string; name: string };
  const pod = registry.get(def, namespace, name);
  for (const budget of registry.listStored("policy/poddisruptionbudgets", namespace)) {
    if (!selectorMatches(budget.spec?.selector, pod.metadata.labels)) continue;
    if ((budget.status?.disruptionsAllowed ?? 0) > 0) continue;
    throw new ApiError(
      429,
      "TooManyRequests",
      "Cannot evict pod as it would violate the pod's disruption budget.",
      {
        causes: [
          {
            reason: "DisruptionBudget",
            message: `The disruption budget ${budget.metadata.name} needs ${budget.status?.desiredHealthy ?? 0} healthy pods and has ${budget.status?.currentHealthy ?? 0} currently`,
          },
        ],
        retryAfterSeconds: 10,
      },
    );
  }
  const options = writeOptions(exchange);
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
