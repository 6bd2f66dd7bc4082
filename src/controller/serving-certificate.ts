// The certificate that a replica shows to the API server: read from its mounted Secret, and again when that changes.
import { X509Certificate } from "node:crypto";
import { notAfterOf } from "../pki/index.ts";
import { errorMessage } from "../util/error.ts";
import type { ControllerProcess } from "./process.ts";
import { type WatchedFiles, watchFiles } from "./watched-file.ts";

/**
 * Hands `tls.crt` and `tls.key` of `directory` to the server now and whenever they change. The process is ready only
 * while the certificate that it serves has not ended.
 * @throws Error when there is none that can be used
 */
export function watchServingCertificate(
  process: Pick<ControllerProcess, "log" | "registry" | "clock" | "readyWhen">,
  server: { setCertificate(certificate: string, key: string): void },
  directory: string,
  interval?: number,
): WatchedFiles {
  const { log, registry, clock } = process;
  let ends = 0;
  const watched = watchFiles(
    [`${directory}/tls.crt`, `${directory}/tls.key`],
    ([certificate = "", key = ""]) => {
      const read = new X509Certificate(certificate);
      server.setCertificate(certificate, key);
      ends = notAfterOf(read);
      log.info("the webhook's certificate is in use", { expires: read.validTo });
    },
    (error) =>
      log.error("the new webhook certificate is refused, the old one stays", { error: errorMessage(error) }),
    { interval },
  );
  const ttl = registry
    .gauge("webhook_cert_ttl_seconds", "How long the certificate that this replica serves is still valid.")
    .labels();
  registry.onCollect(() => ttl.set((ends - clock.now()) / 1_000));
  process.readyWhen("a webhook certificate that has not ended", () => clock.now() < ends);
  return watched;
}
