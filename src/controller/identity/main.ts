// The identity controller as a process: Certify over gRPC, issuer and anchors followed as they change.
//
// Environment besides runController's: MESH_ISSUER_DIR, MESH_ISSUER_SCHEME (linkerd.io/tls, kubernetes.io/tls),
// MESH_TRUST_ROOTS_FILE, MESH_TRUST_DOMAIN, MESH_ISSUANCE_LIFETIME, MESH_CLOCK_SKEW_ALLOWANCE (durations).
import { parseDuration } from "../../util/duration.ts";
import { errorMessage } from "../../util/error.ts";
import { EventRecorder } from "../event-recorder.ts";
import { type ControllerProcess, runController } from "../process.ts";
import { type ReadFile, watchFiles } from "../watched-file.ts";
import type { CertifyPolicy } from "./certifier.ts";
import { IssuerSource } from "./issuer-source.ts";
import { serveIdentity } from "./service.ts";
import { reviewToken } from "./token-review.ts";

const FILES: Readonly<Record<string, readonly [string, string]>> = {
  "linkerd.io/tls": ["crt.pem", "key.pem"],
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
};

export function main(run: typeof runController = runController): Promise<void> {
  return run("identity", { port: 8080, adminPort: 9990 }, (process) => setUpIdentity(process));
}

/**
 * Resolves when it serves.
 * @param readFile default: from the file system
 */
export async function setUpIdentity(process: ControllerProcess, readFile?: ReadFile): Promise<void> {
  const { env, log, client, registry, clock, namespace } = process;
  const policy: CertifyPolicy = {
    trustDomain: env["MESH_TRUST_DOMAIN"] ?? "cluster.local",
    meshNamespace: namespace,
    lifetimeMs: parseDuration(env["MESH_ISSUANCE_LIFETIME"] ?? "24h"),
    skewMs: parseDuration(env["MESH_CLOCK_SKEW_ALLOWANCE"] ?? "20s"),
  };
  const events = new EventRecorder(client, "linkerd-identity", log, { findUid: true, clock });
  const deployment = { apiVersion: "apps/v1", kind: "Deployment", name: "mesh-identity", namespace };
  const issuer = new IssuerSource({ events, owner: deployment, registry, log, clock });
  const directory = env["MESH_ISSUER_DIR"] ?? "/var/run/linkerd/identity/issuer";
  const scheme = env["MESH_ISSUER_SCHEME"] ?? "linkerd.io/tls";
  const names = FILES[scheme];
  if (!names)
    throw new Error(`expected an issuer scheme of ${Object.keys(FILES).join(" or ")}, got ${scheme}`);
  const watched = watchFiles(
    [...names.map((name) => `${directory}/${name}`), env["MESH_TRUST_ROOTS_FILE"] ?? ""],
    ([certificate = "", key = "", anchors = ""]) => issuer.take(certificate, key, anchors),
    (error) =>
      issuer.refuse(
        new Error(`the Secret needs ${names.join(" and ")} (scheme ${scheme}): ${errorMessage(error)}`),
      ),
    // A Secret that is wrong is mended without a restart.
    { patient: true, clock, readFile },
  );
  // Once it had one it answers, be it with what is wrong: an issuer that ended is told to whoever asks.
  process.readyWhen("an issuer that chains to the trust anchors", () => issuer.current !== undefined);

  const server = process.grpcServer();
  serveIdentity(server, {
    review: (token) => reviewToken(client, token),
    issuer,
    policy,
    events,
    registry,
    log,
    clock,
  });
  process.onStop(() => watched.stop());
  await process.serve(server);
}
