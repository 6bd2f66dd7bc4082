// The scale subresource: autoscaling/v1 Scale over whatever fields a kind scales by.

import type { Json, KubeObject } from "../../cluster.ts";
import { at, type ResourceDef, setAt } from "../resource.ts";
import { badRequest, conflict, invalid, invalidValue } from "../status.ts";
import { selectorText } from "../text-forms.ts";

export function scaleOf(def: ResourceDef, object: KubeObject): Json {
  const { specReplicas, statusReplicas, selector } = def.scale as NonNullable<ResourceDef["scale"]>;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const found = selector ? at(object, selector) : undefined;
  const text =
    typeof found === "string"
      ? found
      : found
        ? selectorText(found.matchLabels || found.matchExpressions ? found : { matchLabels: found })
        : undefined;
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: at(object, specReplicas) ?? 0 },
    status: { replicas: at(object, statusReplicas) ?? 0, ...(text === undefined ? {} : { selector: text }) },
  };
}

/** The object with the replicas that a Scale asks for. */
export function withScale(def: ResourceDef, current: KubeObject, scale: Json): KubeObject {
  const replicas = scale?.spec?.replicas ?? 0;
  const { name, resourceVersion } = current.metadata;
  if (typeof scale !== "object" || scale === null) throw badRequest("the body must be a Scale");
  if (!Number.isInteger(replicas) || replicas < 0) {
    throw invalid("autoscaling", "Scale", name, [
      invalidValue("spec.replicas", replicas, "must be greater than or equal to 0"),
    ]);
  }
  if (scale.metadata?.resourceVersion && scale.metadata.resourceVersion !== resourceVersion) {
    throw conflict(def.group, def.resource, name);
  }
  setAt(current, (def.scale as NonNullable<ResourceDef["scale"]>).specReplicas, replicas);
  delete current.metadata.resourceVersion;
  return current;
}
