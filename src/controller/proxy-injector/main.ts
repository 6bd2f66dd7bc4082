// The proxy-injector as a process.
//
// Environment besides runController's: MESH_CONFIG_FILE (the effective values, JSON), MESH_TRUST_ROOTS_FILE,
// MESH_TLS_DIR (tls.crt and tls.key of the webhook).
import { once } from "node:events";
import type { Namespace } from "../../kube/types.ts";
import { mergeTrees, readValues, type Values } from "../../manifests/values.ts";
import { SKIP_TEXT } from "../../rules/injection.ts";
import { errorMessage } from "../../util/error.ts";
import { EventRecorder } from "../event-recorder.ts";
import { runController } from "../process.ts";
import { watchFiles } from "../watched-file.ts";
import {
  type AdmissionRequest,
  type AdmissionResponse,
  type Decision,
  decideAdmission,
} from "./admission.ts";
import { createWebhookServer } from "./server.ts";

export function main(): Promise<void> {
  return runController("proxy-injector", { port: 8443, adminPort: 9995 }, async (process) => {
    const { env, log, client, registry } = process;
    const complain = (what: string) => (error: unknown) => log.error(what, { error: errorMessage(error) });
    let values: Values | undefined;
    const configuration = watchFiles(
      [env["MESH_CONFIG_FILE"] ?? "", env["MESH_TRUST_ROOTS_FILE"] ?? ""],
      ([config = "", anchors = ""]) => {
        values = readValues(
          mergeTrees(JSON.parse(config), { identityTrustAnchorsPEM: anchors }),
          "mesh-config",
        );
      },
      complain("the new configuration is refused, the old one stays"),
    );
    const namespaces = process.reflect<Namespace>({
      path: "/api/v1/namespaces",
      transform: ({ metadata: { name, resourceVersion, annotations } }) => ({
        metadata: {
          name,
          ...(resourceVersion ? { resourceVersion } : {}),
          ...(annotations ? { annotations } : {}),
        },
      }),
    });
    const events = new EventRecorder(client, "linkerd-proxy-injector", log);
    const requests = registry.counter(
      "proxy_inject_admission_requests_total",
      "Pods that the webhook was asked about.",
    );
    const responses = registry.counter(
      "proxy_inject_admission_responses_total",
      "Answers about pods, with what was decided.",
    );

    const review = (request: AdmissionRequest): AdmissionResponse => {
      const decision = decideAdmission(request, {
        values: values!,
        namespaceAnnotations: (name) => namespaces.get(undefined, name)?.metadata.annotations,
      });
      report(request, decision);
      return decision.response;
    };
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
      const involved = {
        apiVersion: OWNER_VERSIONS[owner.kind]!,
        kind: owner.kind,
        name: owner.name,
        namespace,
      };
      if (verdict.inject) events.record(involved, "Normal", "Injected", "Linkerd sidecar proxy injected");
      else
        events.record(
          involved,
          "Normal",
          "InjectionSkipped",
          `proxy not injected: ${SKIP_TEXT[verdict.reasons[0]!]}`,
        );
      for (const problem of problems) events.record(involved, "Warning", "InvalidSetting", problem);
    };

    const webhook = createWebhookServer(review);
    const directory = env["MESH_TLS_DIR"] ?? "";
    const certificate = watchFiles(
      [`${directory}/tls.crt`, `${directory}/tls.key`],
      ([cert = "", key = ""]) => webhook.setCertificate(cert, key),
      complain("the new webhook certificate is refused, the old one stays"),
    );
    await namespaces.synced;
    webhook.server.listen(process.port);
    await once(webhook.server, "listening");
    process.onStop(async () => {
      configuration.stop();
      certificate.stop();
      webhook.server.close();
      webhook.server.closeIdleConnections();
    });
  });
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
