// The cluster's certificate authority, kept in the state directory, and what is issued anew at every start: the API
// server's certificate, the administrator's and the front proxy's.
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Authority,
  createClientCertificate,
  createRoot,
  createServerCertificate,
  parsePrivateKey,
} from "../../pki/index.ts";
import { GATEWAY_IP, KUBERNETES_SERVICE_IP } from "../network/index.ts";

const YEAR_MS = 365 * 24 * 3_600_000;
const CA_LIFETIME_MS = 10 * YEAR_MS;

export interface Credentials {
  /** PEM of the CA: clients, pods and webhooks verify the API server with it. */
  readonly ca: string;
  readonly server: { readonly cert: string; readonly key: string };
  readonly admin: { readonly cert: string; readonly key: string };
  readonly frontProxy: { readonly cert: string; readonly key: string; readonly ca: string };
}

/** `directory` is made when absent; the CA in it is kept. */
export function openCredentials(directory: string, now: number): Credentials {
  const { pem, authority } = openAuthority(directory, now);
  const server = createServerCertificate({
    authority,
    commonName: "kube-apiserver",
    names: {
      dns: [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
      ],
      ip: ["127.0.0.1", KUBERNETES_SERVICE_IP, GATEWAY_IP],
    },
    lifetimeMs: YEAR_MS,
    now,
  });
  const client = (user: string, groups: readonly string[]) => {
    const { pem: cert, keyPem: key } = createClientCertificate({
      authority,
      user,
      groups,
      lifetimeMs: YEAR_MS,
      now,
    });
    return { cert, key };
  };
  return {
    ca: pem,
    server: { cert: server.pem, key: server.keyPem },
    admin: client("mesh-sandbox-admin", ["system:masters"]),
    frontProxy: { ...client("front-proxy-client", []), ca: pem },
  };
}

function openAuthority(directory: string, now: number): { pem: string; authority: Authority } {
  const files = { cert: join(directory, "ca.crt"), key: join(directory, "ca.key") };
  if (!existsSync(files.cert) || !existsSync(files.key)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const root = createRoot({ commonName: "mesh-sandbox-ca", lifetimeMs: CA_LIFETIME_MS, now });
    // The certificate last: where it is, the key is too.
    writeDurably(files.key, root.keyPem);
    writeDurably(files.cert, root.pem);
  }
  const pem = readFileSync(files.cert, "utf8");
  return {
    pem,
    authority: {
      certificate: new X509Certificate(pem),
      privateKey: parsePrivateKey(readFileSync(files.key, "utf8")),
    },
  };
}

/** Whole or not at all, readable by its owner only. */
export function writeDurably(path: string, content: string): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
