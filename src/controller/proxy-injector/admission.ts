// One AdmissionReview in, one out: whether the pod or Service is changed, and how. Pure but for the trace of
// what was decided, which the caller counts and reports.
import {
  defaultOpaquePorts,
  injectPod,
  type Operation,
  ownerOf,
  type PodTemplate,
  type Resource,
} from "../../inject/index.ts";
import { KEYS } from "../../manifests/names.ts";
import type { Values } from "../../manifests/values.ts";
import type { InjectionVerdict } from "../../rules/injection.ts";
import { VERSION } from "../../util/version.ts";
import { type AdmissionRequest, type AdmissionResponse, warned } from "../admission-review.ts";

export interface Decision {
  readonly response: AdmissionResponse;
  /** What was decided about a pod; undefined for a Service. */
  readonly verdict?: InjectionVerdict;
  readonly owner?: { readonly kind: string; readonly name: string } | undefined;
  readonly problems: readonly string[];
}

export interface AdmissionContext {
  readonly values: Values;
  /** Of the request's namespace. */
  readonly namespaceAnnotations: Readonly<Record<string, string>>;
}

/** Decides one request. Nothing is ever refused: what is not for us passes unchanged. */
export function decideAdmission(request: AdmissionRequest, context: AdmissionContext): Decision {
  const namespace = request.namespace ?? "";
  const annotations = context.namespaceAnnotations;
  const { object } = request;
  if (!object || request.operation !== "CREATE" || (request.kind?.group ?? "") !== "")
    return unchanged(request);
  if (request.kind?.kind === "Service") return service(request, object, annotations, context.values);
  if (request.kind?.kind !== "Pod") return unchanged(request);
  const owner = object.metadata ? ownerOf(object.metadata) : undefined;
  const { verdict, operations, problems } = injectPod({
    template: object as PodTemplate,
    path: "",
    namespace: { name: namespace, annotations },
    owner,
    values: context.values,
    origin: "webhook",
    createdBy: `linkerd/proxy-injector ${VERSION}`,
  });
  return { response: answer(request, operations, problems), verdict, owner, problems };
}

const unchanged = (request: AdmissionRequest): Decision => ({
  response: { uid: request.uid, allowed: true },
  problems: [],
});

/** A Service of a meshed namespace carries which of its ports are opaque, so that clients need not look further. */
function service(
  request: AdmissionRequest,
  object: Resource,
  inherited: Readonly<Record<string, string>>,
  values: Values,
): Decision {
  const own = object.metadata?.annotations;
  if (own?.[KEYS.opaquePorts] !== undefined) return unchanged(request);
  const ports =
    (object.spec as { ports?: { port: number; targetPort?: number | string }[] } | undefined)?.ports ?? [];
  // Linkerd's rule: the port itself where there is no target, else a numeric target; a named target never matches.
  const numbers = ports.flatMap(({ port, targetPort }) =>
    targetPort === undefined || targetPort === 0
      ? [port]
      : typeof targetPort === "number"
        ? [targetPort]
        : [],
  );
  const opaque = inherited[KEYS.opaquePorts] ?? defaultOpaquePorts(values, numbers).join(",");
  if (opaque === "") return unchanged(request);
  const path = `/metadata/annotations`;
  const key = KEYS.opaquePorts.replace("/", "~1");
  const operations: Operation[] = own
    ? [{ op: "add", path: `${path}/${key}`, value: opaque }]
    : [{ op: "add", path, value: { [KEYS.opaquePorts]: opaque } }];
  return { response: answer(request, operations, []), problems: [] };
}

function answer(
  request: AdmissionRequest,
  operations: readonly Operation[],
  problems: readonly string[],
): AdmissionResponse {
  return {
    uid: request.uid,
    allowed: true,
    ...(operations.length > 0
      ? { patchType: "JSONPatch" as const, patch: Buffer.from(JSON.stringify(operations)).toString("base64") }
      : {}),
    ...warned(problems),
  };
}
