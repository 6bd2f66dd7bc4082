// ControllerRevisions: the pod templates that a StatefulSet or DaemonSet has had, for `kubectl rollout history/undo`.
import { isDeepStrictEqual } from "node:util";
import type { Cluster, Json, KubeObject } from "../cluster.ts";
import { templateHash } from "./deployment-math.ts";
import { claim, controllerReference } from "./ownership.ts";

const REVISIONS = { group: "apps", resource: "controllerrevisions" };
export const REVISION_LABEL = "controller-revision-hash";

/** A patch that brings the template back: what kubectl sends to undo. */
function dataOf(template: Json): Json {
  return { spec: { template: { ...template, $patch: "replace" } } };
}

/**
 * The revision of the owner's present template, newest of all; made if there is none yet. Revisions beyond the
 * history limit whose name is not in `inUse` are removed.
 * @returns its name, which is also the value of pods' `controller-revision-hash` (for DaemonSets: the hash alone).
 */
export async function currentRevision(
  cluster: Cluster,
  owner: KubeObject,
  type: { apiVersion: string; kind: string },
  inUse: ReadonlySet<string>,
): Promise<{ name: string; hash: string }> {
  const { namespace, name } = owner.metadata;
  const template = owner["spec"].template;
  const data = dataOf(template);
  const all = (await claim(cluster, owner, type, REVISIONS)).sort((a, b) => a["revision"] - b["revision"]);
  const newest = all.at(-1);
  let current = all.find((revision) => isDeepStrictEqual(revision["data"], data));
  if (!current) {
    for (let collisions = 0; !current; collisions++) {
      const hash = templateHash(template, collisions);
      const ref = { ...REVISIONS, namespace, name: `${name}-${hash}` };
      if (cluster.get(ref)) continue;
      current = await cluster.create("apps", "controllerrevisions", namespace, {
        apiVersion: "apps/v1",
        kind: "ControllerRevision",
        metadata: {
          name: ref.name,
          namespace: namespace!,
          labels: { ...template.metadata?.labels, [REVISION_LABEL]: hash },
          ...(owner.metadata.annotations?.["kubernetes.io/change-cause"]
            ? {
                annotations: {
                  "kubernetes.io/change-cause": owner.metadata.annotations["kubernetes.io/change-cause"],
                },
              }
            : {}),
          ownerReferences: [controllerReference(owner, type.apiVersion, type.kind)],
        },
        data,
        revision: (newest?.["revision"] ?? 0) + 1,
      });
    }
  } else if (newest && current !== newest) {
    const next = newest["revision"] + 1;
    await cluster.modify({ ...REVISIONS, namespace, name: current.metadata.name }, (revision) => ({
      ...revision,
      revision: next,
    }));
  }
  const kept = current.metadata.name;
  const spare = all.filter((each) => each.metadata.name !== kept && !inUse.has(each.metadata.name));
  const limit: number = owner["spec"].revisionHistoryLimit ?? 10;
  for (const old of spare.slice(0, Math.max(0, spare.length - limit))) {
    await cluster.delete({ ...REVISIONS, namespace, name: old.metadata.name });
  }
  return { name: kept, hash: current.metadata.labels?.[REVISION_LABEL] ?? kept };
}
