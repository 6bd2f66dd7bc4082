// What the cluster says about an installation: its values, its definitions, what would be removed with it.
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import { resourcePath } from "../kube/path.ts";
import type { ConfigMap, KubeObject, Pod } from "../kube/types.ts";
import { errorMessage, MeshError } from "../util/error.ts";
import { CONFIG_KEY, CONFIG_MAP, KEYS } from "./names.ts";
import { readValues, type Values } from "./values.ts";

/** The ConfigMap that marks an installation, if there is one. */
export async function installedConfig(client: KubeClient, namespace: string): Promise<ConfigMap | undefined> {
  try {
    return await client.get<ConfigMap>(
      resourcePath({ apiVersion: "v1", kind: "ConfigMap", namespace, name: CONFIG_MAP }),
    );
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The values of the installation in `namespace`. @throws MeshError when there is none or it cannot be read */
export async function installedValues(client: KubeClient, namespace: string): Promise<Values> {
  const config = await installedConfig(client, namespace);
  if (!config) {
    throw new MeshError(`the mesh is not installed in namespace ${namespace}`, {
      hints: [
        "install it: kubectl mesh install --help",
        "installed elsewhere? name it with --mesh-namespace",
      ],
    });
  }
  return valuesOf(config);
}

/** @throws MeshError */
export function valuesOf(config: ConfigMap): Values {
  const source = `ConfigMap ${config.metadata.namespace}/${config.metadata.name}`;
  const text = config.data?.[CONFIG_KEY];
  if (text === undefined) throw new MeshError(`${source} has no key ${CONFIG_KEY}`);
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch (cause) {
    throw new MeshError(`${source}: ${CONFIG_KEY} is not JSON: ${errorMessage(cause)}`, { cause });
  }
  return readValues(tree, source);
}

const CRDS = { apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition" };
export const CRDS_PATH = resourcePath(CRDS);

/** Cluster-wide kinds of an installation, in the order in which they are best deleted: the webhooks first. */
const CLUSTER_KINDS = [
  { apiVersion: "admissionregistration.k8s.io/v1", kind: "MutatingWebhookConfiguration" },
  { apiVersion: "admissionregistration.k8s.io/v1", kind: "ValidatingWebhookConfiguration" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRoleBinding" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole" },
  CRDS,
  { apiVersion: "v1", kind: "Namespace" },
];

/** References to everything cluster-wide that belongs to the mesh in `namespace`; the rest goes with the namespace. */
export async function clusterObjects(client: KubeClient, namespace: string): Promise<KubeObject[]> {
  const labelSelector = `${KEYS.controlPlaneNs}=${namespace}`;
  const lists = await Promise.all(
    CLUSTER_KINDS.map(async (type) => {
      const { items } = await client.list(resourcePath(type), { labelSelector });
      return items.map(({ metadata }) => ({ ...type, metadata: { name: metadata.name } }));
    }),
  );
  return lists.flat();
}

/** Pods outside the control plane that run with a proxy of this mesh. */
export async function meshedPods(client: KubeClient, namespace: string): Promise<Pod[]> {
  const { items } = await client.list<Pod>(resourcePath({ apiVersion: "v1", kind: "Pod" }), {
    labelSelector: `${KEYS.controlPlaneNs}=${namespace}`,
  });
  return items.filter((pod) => pod.metadata.namespace !== namespace);
}
