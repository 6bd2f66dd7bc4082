// Owner references: what belongs to nobody any more is deleted; an owner deleted in the foreground waits for its
// dependents, one deleted as "orphan" lets them go first.
import type { Cluster, KubeObject, OwnerReference, Ref } from "../cluster.ts";
import { Controller, type ControllerContext } from "./controller.ts";
import { changeOwners } from "./ownership.ts";

const FOREGROUND = "foregroundDeletion";
const ORPHAN = "orphan";

/** A key of the queue: what to look at, as JSON of a Ref. */
function keyOfRef(ref: Ref): string {
  return JSON.stringify([ref.group, ref.resource, ref.namespace ?? "", ref.name]);
}

function refOfKey(key: string): Ref {
  const [group, resource, namespace, name] = JSON.parse(key) as [string, string, string, string];
  return { group, resource, namespace: namespace || undefined, name };
}

export class GarbageCollector extends Controller {
  /** Keys of the objects that name an owner, by the owner's uid. */
  readonly #dependents = new Map<string, Set<string>>();

  constructor(context: ControllerContext) {
    super("garbage-collector-controller", context, { workers: 8 });
  }

  start(): void {
    this.onStop(
      this.cluster.watchAll((type, object, ref, previous) => {
        const key = keyOfRef(ref);
        const gone = type === "DELETED";
        const before =
          previous?.metadata.ownerReferences ?? (gone ? object.metadata.ownerReferences : undefined);
        for (const { uid } of before ?? []) this.#unlink(uid, key);
        if (!gone) {
          for (const { uid } of object.metadata.ownerReferences ?? []) this.#link(uid, key);
          if (object.metadata.ownerReferences || held(object)) this.queue.add(key);
        } else {
          const dependents = this.#dependents.get(object.metadata.uid ?? "");
          for (const dependent of dependents ?? []) this.queue.add(dependent);
          // An owner in foreground deletion waits for this one.
          for (const owner of object.metadata.ownerReferences ?? []) {
            const ownerRef = this.#refOf(owner, object.metadata.namespace);
            if (ownerRef) this.queue.add(keyOfRef(ownerRef));
          }
        }
      }),
    );
  }

  protected async sync(key: string): Promise<void> {
    const ref = refOfKey(key);
    const object = this.cluster.get(ref);
    if (!object) return;
    if (object.metadata.deletionTimestamp) {
      if (object.metadata.finalizers?.includes(ORPHAN)) await this.#orphan(ref, object);
      else if (object.metadata.finalizers?.includes(FOREGROUND)) await this.#foreground(ref, object);
      return;
    }
    const owners = object.metadata.ownerReferences ?? [];
    if (owners.length === 0) return;
    const standing = owners.map((owner) => this.#standing(owner, object.metadata.namespace));
    if (standing.includes("solid")) {
      const dangling = new Set(owners.filter((_, i) => standing[i] === "gone").map((owner) => owner.uid));
      if (dangling.size > 0) {
        await changeOwners(this.cluster, ref, object, (all) =>
          all.filter((owner) => !dangling.has(owner.uid)),
        );
      }
      return;
    }
    // Whoever waits for this in the foreground also waits for what this owns.
    const foreground = standing.includes("waiting") && this.#living(object).length > 0;
    await this.cluster.delete(ref, {
      uid: object.metadata.uid,
      propagationPolicy: foreground ? "Foreground" : "Background",
    });
  }

  #standing(owner: OwnerReference, namespace: string | undefined): "solid" | "waiting" | "gone" {
    const ref = this.#refOf(owner, namespace);
    // A kind that is not served may come back with its CRD: never delete on a guess.
    if (!ref) return "solid";
    const object = this.cluster.get(ref);
    if (!object || object.metadata.uid !== owner.uid) return "gone";
    const waits = object.metadata.deletionTimestamp && object.metadata.finalizers?.includes(FOREGROUND);
    return waits ? "waiting" : "solid";
  }

  #living(object: KubeObject): { ref: Ref; object: KubeObject; owner: OwnerReference }[] {
    const found = [];
    for (const key of this.#dependents.get(object.metadata.uid!) ?? []) {
      const ref = refOfKey(key);
      const dependent = this.cluster.get(ref);
      const owner = dependent?.metadata.ownerReferences?.find(({ uid }) => uid === object.metadata.uid);
      if (dependent && owner) found.push({ ref, object: dependent, owner });
    }
    return found;
  }

  async #foreground(ref: Ref, object: KubeObject): Promise<void> {
    const dependents = this.#living(object);
    for (const dependent of dependents) this.queue.add(keyOfRef(dependent.ref));
    if (dependents.some(({ owner }) => owner.blockOwnerDeletion)) return;
    await removeFinalizer(this.cluster, ref, object, FOREGROUND);
  }

  async #orphan(ref: Ref, object: KubeObject): Promise<void> {
    for (const dependent of this.#living(object)) {
      await changeOwners(this.cluster, dependent.ref, dependent.object, (owners) =>
        owners.filter(({ uid }) => uid !== object.metadata.uid),
      );
    }
    await removeFinalizer(this.cluster, ref, object, ORPHAN);
  }

  #refOf(owner: OwnerReference, namespace: string | undefined): Ref | undefined {
    const group = owner.apiVersion.includes("/")
      ? owner.apiVersion.slice(0, owner.apiVersion.indexOf("/"))
      : "";
    const info = this.cluster.resources().find((each) => each.group === group && each.kind === owner.kind);
    if (!info) return undefined;
    return {
      group,
      resource: info.resource,
      namespace: info.namespaced ? namespace : undefined,
      name: owner.name,
    };
  }

  #link(uid: string, key: string): void {
    const keys = this.#dependents.get(uid);
    if (keys) keys.add(key);
    else this.#dependents.set(uid, new Set([key]));
  }

  #unlink(uid: string, key: string): void {
    const keys = this.#dependents.get(uid);
    keys?.delete(key);
    if (keys?.size === 0) this.#dependents.delete(uid);
  }
}

function held(object: KubeObject): boolean {
  const { deletionTimestamp, finalizers } = object.metadata;
  return Boolean(deletionTimestamp && (finalizers?.includes(FOREGROUND) || finalizers?.includes(ORPHAN)));
}

async function removeFinalizer(cluster: Cluster, ref: Ref, object: KubeObject, name: string): Promise<void> {
  await cluster.modify(ref, (current) => {
    if (current.metadata.uid !== object.metadata.uid || !current.metadata.finalizers?.includes(name))
      return undefined;
    const { finalizers, ...metadata } = current.metadata;
    const left = finalizers.filter((finalizer) => finalizer !== name);
    return { ...current, metadata: left.length > 0 ? { ...metadata, finalizers: left } : metadata };
  });
}
