// Which container of a pod a log or exec request means.

import type { Json, KubeObject } from "../../cluster.ts";
import { badRequest } from "../status.ts";

/** The named container, or the only one. Throws 400 with kubectl's familiar texts. */
export function containerOf(pod: KubeObject, wanted: string | null): string {
  const { name } = pod.metadata;
  const { spec } = pod;
  const regular: string[] = spec.containers.map((container: Json) => container.name);
  const all = [
    ...regular,
    ...(spec.initContainers ?? []).map((container: Json) => container.name),
    ...(spec.ephemeralContainers ?? []).map((container: Json) => container.name),
  ];
  if (wanted) {
    if (!all.includes(wanted)) throw badRequest(`container ${wanted} is not valid for pod ${name}`);
    return wanted;
  }
  const annotated = pod.metadata.annotations?.["kubectl.kubernetes.io/default-container"];
  if (annotated && all.includes(annotated)) return annotated;
  if (regular.length === 1) return regular[0] as string;
  const init = (spec.initContainers ?? []).map((container: Json) => container.name);
  throw badRequest(
    `a container name must be specified for pod ${name}, choose one of: [${regular.join(" ")}]${init.length ? ` or one of the init containers: [${init.join(" ")}]` : ""}`,
  );
}
