// Deleting: at once, gracefully (pods), or in two steps when finalizers hold the object.

import type { DeleteOptions, KubeObject } from "../cluster.ts";
import type { Store } from "../store/store.ts";
import type { AdmissionChain, AdmissionRequest } from "./admission/admission.ts";
import type { Registry } from "./registry.ts";
import { shown } from "./registry.ts";
import { keyOf, type ResourceDef, timestamp } from "./resource.ts";
import { conflict, forbidden, notFound } from "./status.ts";
import type { WriteOptions } from "./writer.ts";

const FOREGROUND = "foregroundDeletion";
const ORPHAN = "orphan";
/** Namespaces without which the cluster does not work. */
const IMMORTAL = new Set(["default", "kube-system", "kube-public"]);

export interface Deleted {
  object: KubeObject;
  /** False: only marked; finalizers or a grace period still hold it. */
  gone: boolean;
}

/** Whether nothing holds an object any more that is marked for deletion. */
export function mayBeRemoved(def: ResourceDef, object: KubeObject): boolean {
  if ((object.metadata.finalizers ?? []).length > 0) return false;
  if (def.collection === "/namespaces") return (object.spec?.finalizers ?? []).length === 0;
  if (def.collection === "/pods") return object.metadata.deletionGracePeriodSeconds === 0;
  return true;
}

/** Removes an object from the store in its last state. */
export function finishDeletion(store: Store, def: ResourceDef, key: string, last: KubeObject): KubeObject {
  return store.remove(def.collection, key, last) as KubeObject;
}

export class Deleter {
  readonly #registry: Registry;
  readonly #admission: AdmissionChain;

  constructor(registry: Registry, admission: AdmissionChain) {
    this.#registry = registry;
    this.#admission = admission;
  }

  /** Throws 404, 409 for failed preconditions, or what admission says. */
  async delete(
    def: ResourceDef,
    namespace: string | undefined,
    name: string,
    deletion: DeleteOptions,
    options: WriteOptions,
  ): Promise<Deleted> {
    const { store, clock } = this.#registry;
    const key = keyOf(def.namespaced ? namespace : undefined, name);
    const read = () => {
      const found = store.get(def.collection, key);
      if (!found) throw notFound(def.group, def.resource, name);
      const { uid, resourceVersion } = found.metadata;
      if (deletion.uid && deletion.uid !== uid) {
        throw precondition(def, name, "UID", deletion.uid, uid);
      }
      if (deletion.resourceVersion && deletion.resourceVersion !== resourceVersion) {
        throw precondition(def, name, "ResourceVersion", deletion.resourceVersion, resourceVersion);
      }
      return found;
    };
    if (def.collection === "/namespaces" && IMMORTAL.has(name)) {
      throw forbidden("", "namespaces", name, "this namespace may not be deleted");
    }
    const request: AdmissionRequest = {
      operation: "DELETE",
      def,
      namespace,
      name,
      old: read(),
      user: options.user,
      dryRun: options.dryRun ?? false,
      warnings: options.warnings ?? [],
    };
    await this.#admission.mutate(request);
    await this.#admission.validate(request);
    const current = read();
    const next = marked(def, current, deletion, clock.now());
    if (options.dryRun) return { object: shown(def, next), gone: mayBeRemoved(def, next) };
    if (mayBeRemoved(def, next)) {
      return { object: shown(def, finishDeletion(store, def, key, next)), gone: true };
    }
    if (JSON.stringify(next) === JSON.stringify(current)) {
      return { object: shown(def, current), gone: false };
    }
    return { object: shown(def, store.put(def.collection, key, next)), gone: false };
  }

  /** The kubelet's last word on a pod. */
  finalize(def: ResourceDef, namespace: string | undefined, name: string): void {
    const { store } = this.#registry;
    const key = keyOf(namespace, name);
    const current = store.get(def.collection, key);
    if (!current?.metadata.deletionTimestamp) return;
    const next = structuredClone(current);
    next.metadata.deletionGracePeriodSeconds = 0;
    if (mayBeRemoved(def, next)) finishDeletion(store, def, key, next);
    else if (current.metadata.deletionGracePeriodSeconds !== 0) store.put(def.collection, key, next);
  }
}

/** The object with its deletion begun, or moved forward. */
function marked(def: ResourceDef, current: KubeObject, deletion: DeleteOptions, now: number): KubeObject {
  const next = structuredClone(current);
  const meta = next.metadata;
  const finalizers = new Set(meta.finalizers ?? []);
  if (deletion.propagationPolicy === "Foreground") finalizers.add(FOREGROUND).delete(ORPHAN);
  else if (deletion.propagationPolicy === "Orphan") {
    finalizers.add(ORPHAN);
    finalizers.delete(FOREGROUND);
  } else if (deletion.propagationPolicy === "Background") {
    finalizers.delete(FOREGROUND);
    finalizers.delete(ORPHAN);
  }
  if (finalizers.size > 0) meta.finalizers = [...finalizers];
  else delete meta.finalizers;

  const grace = graceOf(def, next, deletion.gracePeriodSeconds);
  const before = meta.deletionTimestamp ? (meta.deletionGracePeriodSeconds ?? 0) : Number.POSITIVE_INFINITY;
  if (grace < before) {
    meta.deletionTimestamp = timestamp(now + grace * 1000);
    meta.deletionGracePeriodSeconds = grace;
    if (def.generation || def.custom) meta.generation = (meta.generation ?? 0) + 1;
  }
  if (def.collection === "/namespaces") next.status = { ...next.status, phase: "Terminating" };
  return next;
}

/** Seconds that a pod gets to end. Other kinds have none. */
function graceOf(def: ResourceDef, object: KubeObject, asked: number | undefined): number {
  if (def.collection !== "/pods") return 0;
  if (!object.spec?.nodeName || ["Succeeded", "Failed"].includes(object.status?.phase)) return 0;
  return Math.max(0, asked ?? object.spec.terminationGracePeriodSeconds ?? 30);
}

function precondition(
  def: ResourceDef,
  name: string,
  what: string,
  wanted: string,
  found: string | undefined,
) {
  return conflict(
    def.group,
    def.resource,
    name,
    `Precondition failed: ${what} in precondition: ${wanted}, ${what} in object meta: ${found}`,
  );
}
