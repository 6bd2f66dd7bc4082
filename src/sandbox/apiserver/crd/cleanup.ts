// The end of a CustomResourceDefinition: its objects are deleted first, and when the last has gone so does it.

import { errorMessage } from "../../../util/error.ts";
import type { Json, KubeObject } from "../../cluster.ts";
import { SYSTEM } from "../auth/user.ts";
import type { LocalCluster } from "../local-cluster.ts";
import { collectionOf } from "../resource.ts";
import { ApiError } from "../status.ts";
import { CLEANUP_FINALIZER, CRDS } from "./definitions.ts";

/** Follows definitions that are being deleted. Returns the stop function. */
export function cleanUpDefinitions(cluster: LocalCluster): () => void {
  const { registry, log } = cluster;
  const follow = (crd: KubeObject) => {
    const held = crd.metadata.deletionTimestamp && crd.metadata.finalizers?.includes(CLEANUP_FINALIZER);
    if (!held) return;
    sweep(cluster, crd).catch((error: unknown) =>
      log.warn("cannot clean up a CustomResourceDefinition", {
        name: crd.metadata.name,
        error: errorMessage(error),
      }),
    );
  };
  return cluster.watchAll((type, object, ref) => {
    if (`${ref.group}/${ref.resource}` === CRDS) {
      if (type !== "DELETED") follow(object);
    } else if (type === "DELETED") {
      const crd = registry.store.get(CRDS, `${ref.resource}.${ref.group}`);
      if (crd) follow(crd);
    }
  });
}

async function sweep(cluster: LocalCluster, crd: KubeObject): Promise<void> {
  const { registry, deleter } = cluster;
  const { group, names } = crd.spec;
  const collection = collectionOf(group, names.plural);
  const def = registry.preferred(group, names.plural);
  for (const { metadata } of registry.listStored(collection)) {
    if (metadata.deletionTimestamp || !def?.custom) continue;
    try {
      await deleter.delete(def, metadata.namespace, metadata.name, {}, { user: SYSTEM });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
  if (registry.store.has(collection)) return;
  const ref = {
    group: "apiextensions.k8s.io",
    resource: "customresourcedefinitions",
    name: crd.metadata.name,
  };
  await cluster.modify(ref, (current: Json) => {
    current.metadata.finalizers = (current.metadata.finalizers ?? []).filter(
      (finalizer: string) => finalizer !== CLEANUP_FINALIZER,
    );
    return current;
  });
}
