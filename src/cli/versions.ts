// Which versions run in a cluster: the control plane's, and how many pods have which proxy.
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import type { ConfigMap, Pod } from "../kube/types.ts";

export interface ProxyVersion {
  readonly version: string;
  readonly pods: number;
}

const CONFIG_MAP = "mesh-config";
const PROXY = "linkerd-proxy";
const VERSION_ANNOTATION = "linkerd.io/proxy-version";

/** The control plane's version; undefined when the mesh is not installed in `meshNamespace`. */
export async function serverVersion(client: KubeClient, meshNamespace: string): Promise<string | undefined> {
  try {
    const config = await client.get<ConfigMap>(
      `/api/v1/namespaces/${meshNamespace}/configmaps/${CONFIG_MAP}`,
    );
    const { parse } = await import("../util/yaml.ts");
    const values = parse(config.data?.["values"] ?? "") as { image?: { version?: string } } | null;
    return values?.image?.version;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Proxies of one mesh by version, the most frequent first. @param namespace undefined: all */
export async function proxyVersions(
  client: KubeClient,
  meshNamespace: string,
  namespace: string | undefined,
): Promise<ProxyVersion[]> {
  const path = namespace === undefined ? "/api/v1/pods" : `/api/v1/namespaces/${namespace}/pods`;
  const { items } = await client.list<Pod>(path, {
    labelSelector: `linkerd.io/control-plane-ns=${meshNamespace}`,
  });
  const counts = new Map<string, number>();
  for (const pod of items) {
    const version = proxyVersion(pod);
    if (version !== undefined) counts.set(version, (counts.get(version) ?? 0) + 1);
  }
  return [...counts]
    .map(([version, pods]) => ({ version, pods }))
    .sort((a, b) => b.pods - a.pods || (a.version < b.version ? -1 : 1));
}

function proxyVersion(pod: Pod): string | undefined {
  const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const proxy = containers.find(({ name }) => name === PROXY);
  if (!proxy) return undefined;
  const image = proxy.image ?? "";
  const tag = image.slice(image.lastIndexOf("/") + 1).split(":")[1];
  return pod.metadata.annotations?.[VERSION_ANNOTATION] ?? tag ?? "unknown";
}
