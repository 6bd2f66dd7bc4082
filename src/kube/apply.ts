// Applies many objects in an order that works on any cluster, and waits for what later ones need.
import type { ApplyOptions, KubeClient } from "./client.ts";
import { isNotFound } from "./error.ts";
import { objectPath } from "./path.ts";
import type { Condition, KubeObject } from "./types.ts";

/** Kinds that others need to exist first, and webhooks last so that they never meet a server that is not there. */
const ORDER = [
  "Namespace",
  "CustomResourceDefinition",
  "ServiceAccount",
  "ClusterRole",
  "ClusterRoleBinding",
  "Role",
  "RoleBinding",
  "ConfigMap",
  "Secret",
  "Service",
];
const LAST = ["APIService", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];

const rank = (object: KubeObject): number => {
  const kind = object.kind ?? "";
  const first = ORDER.indexOf(kind);
  if (first >= 0) return first;
  const last = LAST.indexOf(kind);
  return last >= 0 ? ORDER.length + 1 + last : ORDER.length;
};

/** A stable copy in the order in which the objects can be created. */
export const inApplyOrder = <T extends KubeObject>(objects: readonly T[]): T[] =>
  [...objects].sort((a, b) => rank(a) - rank(b));

export interface ApplyAllOptions extends ApplyOptions {
  /** Told after each object. */
  readonly onApplied?: (object: KubeObject, done: number, total: number) => void;
  /** How long a custom resource definition may take to be served, ms. Default 30 s. */
  readonly timeout?: number;
}

/** Server-side applies all objects in order; custom resource definitions are waited for. @throws KubeApiError, MeshError */
export async function applyAll(
  client: KubeClient,
  objects: readonly KubeObject[],
  options: ApplyAllOptions = {},
): Promise<void> {
  const ordered = inApplyOrder(objects);
  for (const [index, object] of ordered.entries()) {
    await client.apply(object, options);
    if (object.kind === "CustomResourceDefinition" && !options.dryRun) {
      await waitForCondition(client, objectPath(object), "Established", options.timeout ?? 30_000);
    }
    options.onApplied?.(object, index + 1, ordered.length);
  }
}

/** Deletes all objects in the reverse order; those that are gone already do not matter. */
export async function deleteAll(client: KubeClient, objects: readonly KubeObject[]): Promise<void> {
  for (const object of inApplyOrder(objects).reverse()) {
    try {
      await client.delete(objectPath(object), { propagationPolicy: "Background" });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

/** Polls until the object's condition is True. @throws Error after `timeout` ms. */
async function waitForCondition(
  client: KubeClient,
  path: string,
  type: string,
  timeout: number,
): Promise<void> {
  const deadline = Date.now() + timeout;
  for (;;) {
    const object = await client.get<KubeObject & { status?: { conditions?: Condition[] } }>(path);
    if (object.status?.conditions?.some((c) => c.type === type && c.status === "True")) return;
    if (Date.now() > deadline)
      throw new Error(`${object.kind} ${object.metadata.name} is not ${type} after ${timeout / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
