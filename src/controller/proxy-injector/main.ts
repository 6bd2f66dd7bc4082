// The proxy-injector as a process.
//
// Environment besides runController's: MESH_CONFIG_FILE (the effective values, JSON), MESH_TRUST_ROOTS_FILE,
// MESH_TLS_DIR (tls.crt and tls.key of the webhook), MESH_WEBHOOK_CERTIFICATE_LIFETIME (a duration; without it the
// certificate is somebody else's to renew).
import { once } from "node:events";
import { isNotFound } from "../../kube/error.ts";
import { resourcePath } from "../../kube/path.ts";
import { essentialMetadata } from "../../kube/reflector.ts";
import type { Namespace } from "../../kube/types.ts";
import {
  COMPONENTS,
  INJECTOR_LEASE,
  INJECTOR_TLS_SECRET,
  INJECTOR_WEBHOOK_CONFIG,
} from "../../manifests/names.ts";
import { mergeTrees, readValues, type Values } from "../../manifests/values.ts";
import { parseDuration } from "../../util/duration.ts";
import { errorMessage } from "../../util/error.ts";
import { EventRecorder } from "../event-recorder.ts";
import { runController, serveOn } from "../process.ts";
import { watchServingCertificate } from "../serving-certificate.ts";
import { watchFiles } from "../watched-file.ts";
import { keepWebhookCredentials } from "../webhook-credentials.ts";
import { createReview } from "./review.ts";
import { createWebhookServer } from "./server.ts";

/** Well below the webhook's own time limit, ms. */
const NAMESPACE_TIMEOUT = 3_000;

export function main(): Promise<void> {
  return runController("proxy-injector", { port: 8443, adminPort: 9995 }, async (process) => {
    const { env, log, client, registry, namespace } = process;
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
      transform: (namespace) => {
        const { annotations } = namespace.metadata;
        return { metadata: { ...essentialMetadata(namespace), ...(annotations ? { annotations } : {}) } };
      },
    });
    // A pod may come right after its namespace, before our watch has told us of it.
    const askFor = async (name: string) => {
      const path = resourcePath({ apiVersion: "v1", resource: "namespaces", name });
      try {
        return (await client.request(path, { timeout: NAMESPACE_TIMEOUT })) as Namespace;
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    };
    const events = new EventRecorder(client, "linkerd-proxy-injector", log, { findUid: true });
    const review = createReview({
      values: () => values!,
      annotationsOf: async (name) =>
        (namespaces.get(undefined, name) ?? (await askFor(name)))?.metadata.annotations ?? {},
      events,
      registry,
      log,
    });
    const webhook = createWebhookServer(review, complain("a review failed"));
    const certificate = watchServingCertificate(process, webhook, env["MESH_TLS_DIR"] ?? "");
    const lifetime = env["MESH_WEBHOOK_CERTIFICATE_LIFETIME"];
    if (lifetime !== undefined) {
      const election = process.elect(INJECTOR_LEASE);
      const { workload, service } = COMPONENTS.proxyInjector;
      const stop = keepWebhookCredentials({
        election,
        client,
        namespace,
        service,
        secret: INJECTOR_TLS_SECRET,
        verifiers: [{ kind: "MutatingWebhookConfiguration", name: INJECTOR_WEBHOOK_CONFIG }],
        owner: { apiVersion: "apps/v1", kind: "Deployment", name: workload, namespace },
        events,
        registry,
        log,
        clock: process.clock,
        lifetime: parseDuration(lifetime),
      });
      process.onStop(stop);
    }
    await namespaces.synced;
    webhook.server.listen(process.port);
    await once(webhook.server, "listening");
    process.onHandover(serveOn(process.clock));
    process.onStop(async () => {
      configuration.stop();
      certificate.stop();
      webhook.server.close();
      webhook.server.closeIdleConnections();
    });
  });
}
