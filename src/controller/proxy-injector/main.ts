// The proxy-injector as a process.
//
// Environment besides runController's and serveWebhook's: MESH_CONFIG_FILE (the effective values, JSON),
// MESH_TRUST_ROOTS_FILE.
import { isNotFound } from "../../kube/error.ts";
import { resourcePath } from "../../kube/path.ts";
import { essentialMetadata } from "../../kube/reflector.ts";
import type { Namespace } from "../../kube/types.ts";
import { INJECTOR_WEBHOOK_NAMES } from "../../manifests/names.ts";
import { mergeTrees, readValues, type Values } from "../../manifests/values.ts";
import { errorMessage } from "../../util/error.ts";
import { EventRecorder } from "../event-recorder.ts";
import { runController } from "../process.ts";
import { watchFiles } from "../watched-file.ts";
import { serveWebhook } from "../webhook.ts";
import { createReview } from "./review.ts";

/** Well below the webhook's own time limit, ms. */
const NAMESPACE_TIMEOUT = 3_000;

/** A workload's pods are many, and are made again and again when they cannot start; its events need not be, ms. */
const REPEAT_EVENTS_AFTER = 600_000;

export function main(run: typeof runController = runController): Promise<void> {
  return run("proxy-injector", { port: 8443, adminPort: 9995 }, async (process) => {
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
    const events = new EventRecorder(client, "linkerd-proxy-injector", log, {
      findUid: true,
      repeatAfter: REPEAT_EVENTS_AFTER,
      clock: process.clock,
    });
    const review = createReview({
      values: () => values!,
      annotationsOf: async (name) =>
        (namespaces.get(undefined, name) ?? (await askFor(name)))?.metadata.annotations ?? {},
      events,
      registry,
      log,
    });
    await namespaces.synced;
    await serveWebhook(process, { names: INJECTOR_WEBHOOK_NAMES, port: process.port, review, events });
    process.onStop(() => configuration.stop());
  });
}
