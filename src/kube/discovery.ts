// What resources a server has, and which one a word such as `deploy`, `po` or `svc` means.
import { MeshError } from "../util/error.ts";
import type { KubeClient } from "./client.ts";

export interface ApiResource {
  readonly group: string;
  readonly apiVersion: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly singular: string;
}

interface ResourceList {
  groupVersion: string;
  resources: {
    name: string;
    kind: string;
    namespaced: boolean;
    singularName?: string;
    shortNames?: string[];
  }[];
}

/** Every resource of the server's preferred versions; subresources left out. Groups that cannot be read are skipped. */
export async function discover(client: KubeClient): Promise<ApiResource[]> {
  const groups = (await client.request("/apis")) as {
    groups: { preferredVersion: { groupVersion: string } }[];
  };
  const versions = ["v1", ...groups.groups.map((group) => group.preferredVersion.groupVersion)];
  const lists = await Promise.all(
    versions.map((version) =>
      // An aggregated API whose server is down must not hide all others.
      (client.request(version === "v1" ? "/api/v1" : `/apis/${version}`) as Promise<ResourceList>).catch(
        () => undefined,
      ),
    ),
  );
  return lists.flatMap((list) =>
    (list?.resources ?? [])
      .filter((resource) => !resource.name.includes("/"))
      .map((resource) => ({
        group: list!.groupVersion.includes("/") ? list!.groupVersion.split("/")[0]! : "",
        apiVersion: list!.groupVersion,
        resource: resource.name,
        kind: resource.kind,
        namespaced: resource.namespaced,
        shortNames: resource.shortNames ?? [],
        singular: resource.singularName || resource.kind.toLowerCase(),
      })),
  );
}

/** The resource that `word` names: plural, singular, kind, short name, or `plural.group`. @throws MeshError */
export function findResource(resources: readonly ApiResource[], word: string): ApiResource {
  const name = word.toLowerCase();
  const found = resources.find(
    (r) =>
      r.resource === name ||
      r.singular === name ||
      r.kind.toLowerCase() === name ||
      r.shortNames.includes(name) ||
      `${r.resource}.${r.group}` === name,
  );
  if (found) return found;
  throw new MeshError(`the cluster has no resource type ${JSON.stringify(word)}`, {
    hints: ["See which it has: kubectl api-resources"],
  });
}
