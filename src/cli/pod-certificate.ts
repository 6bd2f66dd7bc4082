// The certificate that a pod's proxy shows, read the way a peer sees it: TLS to the pod with the pod's own
// identity as server name.
import { X509Certificate } from "node:crypto";
import type { Duplex } from "node:stream";
import { connect } from "node:tls";
import type { Pod } from "../kube/types.ts";
import { MeshError } from "../util/error.ts";

const PROXY = "linkerd-proxy";
const LOCAL_NAME = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME";
/** ALPN of proxy to proxy connections; the admin port does not mind. */
const ALPN = "transport.l5d.io/v1";
const HANDSHAKE_TIMEOUT = 10_000;

/** The identity that a pod's proxy has. @throws MeshError for a pod without a proxy */
export function podIdentity(pod: Pod): string {
  const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const proxy = containers.find(({ name }) => name === PROXY);
  const name = proxy?.env?.find((variable) => variable.name === LOCAL_NAME)?.value;
  if (name === undefined) {
    throw new MeshError(
      `pod ${pod.metadata.namespace}/${pod.metadata.name} has no proxy, so it has no identity`,
      {
        hints: [
          "mesh its workload: kubectl get deploy NAME -o yaml | kubectl mesh inject - | kubectl apply -f -",
        ],
      },
    );
  }
  return name
    .replaceAll("$(_pod_sa)", pod.spec.serviceAccountName ?? "default")
    .replaceAll("$(_pod_ns)", pod.metadata.namespace ?? "default")
    .replace(/\.$/, "");
}

/**
 * The leaf certificate of whoever answers on `stream`. It is shown, not trusted: nothing is verified here.
 * @throws MeshError when there is no TLS on the other side
 */
export function readCertificate(stream: Duplex, serverName: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: stream,
      servername: serverName,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN],
      minVersion: "TLSv1.3",
    });
    const fail = (why: string) => {
      clearTimeout(timer);
      socket.destroy();
      stream.destroy();
      reject(new MeshError(`no certificate for ${serverName}: ${why}`));
    };
    const timer = setTimeout(() => fail(`no answer within ${HANDSHAKE_TIMEOUT / 1000} s`), HANDSHAKE_TIMEOUT);
    stream.once("error", (error) => fail(error.message));
    socket.once("error", (error) => fail(error.message));
    socket.once("close", () => fail("the connection was closed"));
    socket.once("secureConnect", () => {
      const raw = socket.getPeerCertificate(true)?.raw;
      if (!raw) return fail("the other side showed none");
      clearTimeout(timer);
      resolve(new X509Certificate(raw));
      socket.removeAllListeners("close");
      socket.on("error", () => {});
      socket.destroy();
      stream.destroy();
    });
  });
}

/** What `-o json` shows of a certificate. Times are RFC 3339. */
export interface CertificateJson {
  readonly pod: string;
  readonly namespace: string;
  readonly subject: string;
  readonly subjectAltNames: readonly string[];
  readonly issuer: string;
  readonly serialNumber: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly publicKey: string;
  readonly sha256: string;
}

export function certificateJson(pod: Pod, certificate: X509Certificate): CertificateJson {
  const key = certificate.publicKey;
  return {
    pod: pod.metadata.name,
    namespace: pod.metadata.namespace ?? "default",
    subject: oneLine(certificate.subject),
    subjectAltNames: (certificate.subjectAltName ?? "").split(", ").filter((name) => name !== ""),
    issuer: oneLine(certificate.issuer),
    serialNumber: certificate.serialNumber.toLowerCase(),
    notBefore: new Date(certificate.validFrom).toISOString(),
    notAfter: new Date(certificate.validTo).toISOString(),
    publicKey: [key.asymmetricKeyType, key.asymmetricKeyDetails?.namedCurve].filter(Boolean).join(" "),
    sha256: certificate.fingerprint256.toLowerCase(),
  };
}

function oneLine(name: string | undefined): string {
  return (name ?? "").replaceAll("\n", ", ");
}

/** Text for a person. @param now ms, to say how long it is still valid */
export function certificateText(json: CertificateJson, now: number): string {
  const left = Date.parse(json.notAfter) - now;
  const rows: [string, string][] = [
    ["Subject", json.subject],
    ["Subject alternative names", json.subjectAltNames.join(", ")],
    ["Issuer", json.issuer],
    ["Serial number", json.serialNumber],
    ["Not before", json.notBefore],
    ["Not after", `${json.notAfter} (${left < 0 ? "expired" : `${span(left)} left`})`],
    ["Public key", json.publicKey],
    ["SHA-256 fingerprint", json.sha256],
  ];
  return rows.map(([label, value]) => `  ${`${label}:`.padEnd(27)}${value === "" ? "-" : value}\n`).join("");
}

function span(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h${minutes % 60}m` : `${Math.floor(hours / 24)}d`;
}
