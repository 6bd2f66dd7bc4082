// Which versions run in a cluster: the control plane's, and how many pods have which proxy.
import type { KubeClient } from "../kube/client.ts";
import type { Pod } from "../kube/types.ts";
import { installedConfig } from "../manifests/installed.ts";
import { CONFIG_KEY, KEYS, PROXY_CONTAINER } from "../manifests/names.ts";

export interface ProxyVersion {
  readonly version: string;
  readonly pods: number;
}

/** The control plane's version; undefined when the mesh is not installed in `meshNamespace`. */
export async function serverVersion(client: KubeClient, meshNamespace: string): Promise<string | undefined> {
  const config = await installedConfig(client, meshNamespace);
  if (!config) return undefined;
  // Not through the schema: an installation of another version may have values that we do not know.
  const values = JSON.parse(config.data?.[CONFIG_KEY] ?? "{}") as { image?: { version?: string } };
  return values.image?.version ?? "unknown";
}

/** Proxies of one mesh by version, the most frequent first. @param namespace undefined: all */
export async function proxyVersions(
  client: KubeClient,
  meshNamespace: string,
  namespace: string | undefined,
): Promise<ProxyVersion[]> {
  const path = namespace === undefined ? "/api/v1/pods" : `/api/v1/namespaces/${namespace}/pods`;
  const { items } = await client.list<Pod>(path, {
    labelSelector: `${KEYS.controlPlaneNs}=${meshNamespace}`,
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
  const proxy = containers.find(({ name }) => name === PROXY_CONTAINER);
  if (!proxy) return undefined;
  const image = proxy.image ?? "";
  const tag = image.slice(image.lastIndexOf("/") + 1).split(":")[1];
  return pod.metadata.annotations?.[KEYS.proxyVersion] ?? tag ?? "unknown";
}
