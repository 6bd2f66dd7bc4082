// The mesh's custom resource definitions: Linkerd's groups, versions and names, made of what src/crds describes.
import { type CustomResourceDefinition, definitionOf, KINDS, type Kind } from "../crds/index.ts";
import type { KubeClient } from "../kube/client.ts";
import { CRDS_PATH } from "./installed.ts";
import { KEYS } from "./names.ts";

export type { CustomResourceDefinition };

/**
 * Definitions that a cluster usually has from another product, whose Helm chart would refuse to install over ours, and whose
 * stored version ours might change: linkerd-smi's TrafficSplit, and Link of Linkerd's multicluster. They are installed for
 * who asks, where nobody else has.
 */
export const OPTIONAL_APIS = ["smi", "multicluster"] as const;
export type OptionalApi = (typeof OPTIONAL_APIS)[number];

/** All that are the mesh's own, in the order of installation, and then those of optional APIs. */
export const customResourceDefinitions = (
  namespace: string,
  also: readonly OptionalApi[] = [],
): CustomResourceDefinition[] => {
  const owners: readonly Kind["owner"][] = ["mesh", ...also];
  return KINDS.filter(({ owner }) => owners.includes(owner)).map((kind) =>
    definitionOf(kind, { [KEYS.controlPlaneNs]: namespace }),
  );
};

/** Names of those among `definitions` of optional APIs that the cluster has from somebody else. */
export async function foreignDefinitions(
  client: KubeClient,
  definitions: readonly CustomResourceDefinition[],
): Promise<string[]> {
  const optional = definitions.filter(({ spec }) =>
    KINDS.some(
      ({ group, plural, owner }) =>
        group === spec.group &&
        plural === spec.names.plural &&
        (OPTIONAL_APIS as readonly string[]).includes(owner),
    ),
  );
  if (optional.length === 0) return [];
  const { items } = await client.list(CRDS_PATH);
  const labels = new Map(items.map(({ metadata }) => [metadata.name, metadata.labels]));
  return optional
    .filter(({ metadata }) => {
      const { name, labels: own } = metadata;
      return labels.has(name) && labels.get(name)?.[KEYS.controlPlaneNs] !== own?.[KEYS.controlPlaneNs];
    })
    .map(({ metadata }) => metadata.name);
}
