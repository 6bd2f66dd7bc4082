// One review from request to answer: what the decision needs is fetched, and what was decided is counted and told.

import { SETTING_KEYS } from "../../inject/index.ts";
import type { Logger } from "../../log/logger.ts";
import type { Values } from "../../manifests/values.ts";
import type { Registry } from "../../metrics/registry.ts";
import { SKIP_TEXT } from "../../rules/injection.ts";
import type { AdmissionRequest } from "../admission-review.ts";
import type { EventRecorder, InvolvedObject } from "../event-recorder.ts";
import type { Review } from "../webhook-server.ts";
import { type Decision, decideAdmission } from "./admission.ts";

export interface ReviewOptions {
  /** The values in force now. */
  readonly values: () => Values;
  /** Annotations of a namespace, none for one that does not exist. May reject: then nothing is decided. */
  readonly annotationsOf: (namespace: string) => Promise<Readonly<Record<string, string>>>;
  readonly events: Pick<EventRecorder, "record">;
  readonly registry: Registry;
  readonly log: Logger;
}

export function createReview({ values, annotationsOf, events, registry, log }: ReviewOptions): Review {
  const requests = registry.counter(
    "proxy_inject_admission_requests_total",
    "Pods that the webhook was asked about.",
  );
  const responses = registry.counter(
    "proxy_inject_admission_responses_total",
    "Answers about pods, with what was decided.",
  );
  const report = (
    request: AdmissionRequest,
    { verdict, owner, problems }: Decision,
    inherited: Readonly<Record<string, string>>,
  ) => {
    if (!verdict) return;
    const namespace = request.namespace ?? "";
    const labels = {
      owner_kind: owner?.kind.toLowerCase() ?? "",
      namespace,
      ...settingLabels(inherited, request.object?.metadata?.annotations ?? {}),
    };
    requests.labels(labels).inc();
    responses
      .labels({
        ...labels,
        skip: String(!verdict.inject),
        skip_reason: verdict.reasons.join(","),
        annotation_at: verdict.annotationAt,
      })
      .inc();
    const subject = `${namespace}/${owner?.name ?? request.object?.metadata?.name ?? "pod"}`;
    log.info(verdict.inject ? "injected" : "not injected", { subject, reason: verdict.reasons[0] });
    for (const problem of problems) log.warn("a setting has no effect", { subject, problem });
    const involved = involvedObject(request, owner);
    if (request.dryRun || !involved) return;
    // Nobody asked for a proxy, whatever else forbids it: an event for every pod of the cluster would only be noise.
    if (verdict.reasons.includes("injection_enable_annotation_absent")) return;
    if (verdict.inject) events.record(involved, "Normal", "Injected", "Linkerd sidecar proxy injected");
    else {
      const reason = SKIP_TEXT[verdict.reasons[0]!];
      events.record(involved, "Normal", "InjectionSkipped", `proxy not injected: ${reason}`);
    }
    for (const problem of problems) events.record(involved, "Warning", "InvalidSetting", problem);
  };
  return async (request) => {
    const namespace = request.namespace ?? "";
    const namespaceAnnotations = namespace === "" ? {} : await annotationsOf(namespace);
    const decision = decideAdmission(request, { values: values(), namespaceAnnotations });
    report(request, decision, namespaceAnnotations);
    return decision.response;
  };
}

/** One label a setting that is given, by namespace or pod. Not its value: of values there is no end. */
function settingLabels(...annotations: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  const given = SETTING_KEYS.filter((key) => annotations.some((each) => each[key] !== undefined));
  return Object.fromEntries(
    given.map((key) => [key.slice(key.indexOf("/") + 1).replaceAll(/[^a-z0-9]/g, "_"), "true"]),
  );
}

/** Whose events tell of a pod: its workload, or itself when it has none; undefined for one without a name yet. */
function involvedObject(
  { namespace = "", object }: AdmissionRequest,
  owner: Decision["owner"],
): InvolvedObject | undefined {
  if (!owner) {
    const name = object?.metadata?.name;
    return name === undefined ? undefined : { apiVersion: "v1", kind: "Pod", name, namespace };
  }
  const apiVersion = OWNER_VERSIONS[owner.kind];
  return apiVersion === undefined ? undefined : { apiVersion, ...owner, namespace };
}

/** API versions of the kinds that own pods. */
const OWNER_VERSIONS: Readonly<Record<string, string>> = {
  Deployment: "apps/v1",
  ReplicaSet: "apps/v1",
  StatefulSet: "apps/v1",
  DaemonSet: "apps/v1",
  Job: "batch/v1",
  CronJob: "batch/v1",
  ReplicationController: "v1",
};
