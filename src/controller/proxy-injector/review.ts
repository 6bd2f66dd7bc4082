// One review from request to answer: what the decision needs is fetched, and what was decided is counted and told.

import type { Logger } from "../../log/logger.ts";
import type { Values } from "../../manifests/values.ts";
import type { Registry } from "../../metrics/registry.ts";
import { SKIP_TEXT } from "../../rules/injection.ts";
import type { AdmissionRequest } from "../admission-review.ts";
import type { EventRecorder } from "../event-recorder.ts";
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
  const report = (request: AdmissionRequest, { verdict, owner, problems }: Decision) => {
    if (!verdict) return;
    const namespace = request.namespace ?? "";
    const labels = { owner_kind: owner?.kind.toLowerCase() ?? "", namespace };
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
    if (request.dryRun || !owner || !OWNER_VERSIONS[owner.kind]) return;
    // Nobody asked for a proxy: an event for every pod of the cluster would only be noise.
    if (verdict.reasons[0] === "injection_enable_annotation_absent") return;
    const { kind, name } = owner;
    const involved = { apiVersion: OWNER_VERSIONS[kind]!, kind, name, namespace };
    if (verdict.inject) events.record(involved, "Normal", "Injected", "Linkerd sidecar proxy injected");
    else {
      const reason = SKIP_TEXT[verdict.reasons[0]!];
      events.record(involved, "Normal", "InjectionSkipped", `proxy not injected: ${reason}`);
    }
    for (const problem of problems) events.record(involved, "Warning", "InvalidSetting", problem);
  };
  return async (request) => {
    const namespace = request.namespace ?? "";
    const decision = decideAdmission(request, {
      values: values(),
      namespaceAnnotations: namespace === "" ? {} : await annotationsOf(namespace),
    });
    report(request, decision);
    return decision.response;
  };
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
