// Who belongs to whom: label selectors, controller references, adoption and release.
import { type LabelSelector, selectorMatches } from "../../rules/label-selector.ts";
import type { Cluster, KubeObject, ObjectMeta, OwnerReference } from "../cluster.ts";

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller);
}

export function isControlledBy(object: KubeObject, owner: KubeObject): boolean {
  return controllerOf(object)?.uid === owner.metadata.uid;
}

export function controllerReference(owner: KubeObject, apiVersion: string, kind: string): OwnerReference {
  return {
    apiVersion,
    kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid!,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/**
 * The objects of `resource` that `owner` controls. Orphans that its selector takes are adopted, children that it
 * no longer takes are released, as long as the owner is not being deleted.
 */
export async function claim(
  cluster: Cluster,
  owner: KubeObject,
  ownerType: { apiVersion: string; kind: string },
  child: { group: string; resource: string },
): Promise<KubeObject[]> {
  const { namespace } = owner.metadata;
  const selector: LabelSelector | undefined = owner["spec"]?.selector;
  const claimed: KubeObject[] = [];
  for (const object of cluster.list(child.group, child.resource, namespace)) {
    const controller = controllerOf(object);
    const matches = selectorMatches(selector, object.metadata.labels);
    const mine = controller?.uid === owner.metadata.uid;
    if (mine && (matches || owner.metadata.deletionTimestamp)) {
      claimed.push(object);
      continue;
    }
    if (mine) {
      await changeOwners(cluster, child, object, (owners) =>
        owners.filter((reference) => reference.uid !== owner.metadata.uid),
      );
    } else if (
      !controller &&
      matches &&
      !owner.metadata.deletionTimestamp &&
      !object.metadata.deletionTimestamp
    ) {
      const reference = controllerReference(owner, ownerType.apiVersion, ownerType.kind);
      const adopted = await changeOwners(cluster, child, object, (owners) =>
        owners.some((other) => other.controller) ? undefined : [...owners, reference],
      );
      if (adopted && isControlledBy(adopted, owner)) claimed.push(adopted);
    }
  }
  return claimed;
}

/** Rewrites the owner references of this very object (by uid); undefined from `change` leaves it alone. */
export function changeOwners(
  cluster: Cluster,
  type: { group: string; resource: string },
  object: KubeObject,
  change: (owners: OwnerReference[]) => OwnerReference[] | undefined,
): Promise<KubeObject | undefined> {
  const { namespace, name, uid } = object.metadata;
  return cluster.modify({ ...type, namespace, name }, (current) => {
    if (current.metadata.uid !== uid) return undefined;
    const owners = change(current.metadata.ownerReferences ?? []);
    if (!owners) return undefined;
    const { ownerReferences: _, ...metadata } = current.metadata;
    return { ...current, metadata: owners.length > 0 ? { ...metadata, ownerReferences: owners } : metadata };
  });
}

/** Keys of the owners of `kind` that an object's change concerns: its controller, or whoever might adopt it. */
export function concerned(
  cluster: Cluster,
  object: KubeObject,
  owner: { group: string; resource: string; kind: string },
): string[] {
  const { namespace } = object.metadata;
  const controller = controllerOf(object);
  if (controller) return controller.kind === owner.kind ? [`${namespace}/${controller.name}`] : [];
  return cluster
    .list(owner.group, owner.resource, namespace)
    .filter((candidate) => selectorMatches(candidate["spec"]?.selector, object.metadata.labels))
    .map((candidate) => `${namespace}/${candidate.metadata.name}`);
}

/** Metadata of a pod made from a template: its labels and annotations, the owner, a generated name. */
export function podMetadata(
  owner: KubeObject,
  reference: OwnerReference,
  template: { metadata?: Partial<ObjectMeta> },
  extra: { name?: string; labels?: Record<string, string>; annotations?: Record<string, string> } = {},
): Partial<ObjectMeta> {
  const labels = { ...template.metadata?.labels, ...extra.labels };
  const annotations = { ...template.metadata?.annotations, ...extra.annotations };
  return {
    ...(extra.name ? { name: extra.name } : { generateName: `${owner.metadata.name.slice(0, 57)}-` }),
    namespace: owner.metadata.namespace!,
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    ...(template.metadata?.finalizers ? { finalizers: [...template.metadata.finalizers] } : {}),
    ownerReferences: [reference],
  };
}
