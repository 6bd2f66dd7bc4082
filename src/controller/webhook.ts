// An admission webhook from certificate to end: it serves what is mounted, and has it renewed unless it is somebody else's.
//
// Environment: MESH_TLS_DIR (tls.crt and tls.key), MESH_WEBHOOK_CERTIFICATE_LIFETIME (a duration; without it the
// certificate is somebody else's to renew).
import { once } from "node:events";
import { COMPONENTS, type WebhookNames } from "../manifests/names.ts";
import { parseDuration } from "../util/duration.ts";
import { errorMessage } from "../util/error.ts";
import type { EventRecorder } from "./event-recorder.ts";
import { type ControllerProcess, serveOn } from "./process.ts";
import { watchServingCertificate } from "./serving-certificate.ts";
import { keepWebhookCredentials } from "./webhook-credentials.ts";
import { createWebhookServer, type Review } from "./webhook-server.ts";

export interface WebhookOptions {
  readonly names: WebhookNames;
  readonly port: number;
  readonly review: Review;
  readonly events: Pick<EventRecorder, "record">;
}

/** @throws Error when there is no certificate that can be used, or the port is taken */
export async function serveWebhook(process: ControllerProcess, options: WebhookOptions): Promise<void> {
  const { env, log, client, registry, clock, namespace } = process;
  const { names, port, review, events } = options;
  const webhook = createWebhookServer(review, (error) =>
    log.error("a review failed", { webhook: names.service, error: errorMessage(error) }),
  );
  const certificate = watchServingCertificate(process, webhook, env["MESH_TLS_DIR"] ?? "");
  const lifetime = env["MESH_WEBHOOK_CERTIFICATE_LIFETIME"];
  if (lifetime !== undefined) {
    const stop = keepWebhookCredentials({
      election: process.elect(names.lease),
      client,
      namespace,
      service: names.service,
      secret: names.secret,
      verifiers: [names.verifier],
      owner: {
        apiVersion: "apps/v1",
        kind: "Deployment",
        name: COMPONENTS[names.component].workload,
        namespace,
      },
      events,
      registry,
      log,
      clock,
      lifetime: parseDuration(lifetime),
    });
    process.onStop(stop);
  }
  webhook.server.listen(port);
  await once(webhook.server, "listening");
  process.onHandover(serveOn(clock));
  process.onStop(() => {
    certificate.stop();
    webhook.server.close();
    webhook.server.closeIdleConnections();
  });
}
