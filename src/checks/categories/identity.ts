// Are the certificates sound, and will they be for a while?
import { createPrivateKey, type X509Certificate } from "node:crypto";
import type { KubeObject, Secret } from "../../kube/types.ts";
import {
  INJECTOR_WEBHOOK_NAMES,
  ISSUER_SECRET,
  PROXY_CONTAINER,
  VALIDATOR_WEBHOOK_NAMES,
  type WebhookNames,
} from "../../manifests/names.ts";
import { notAfterOf, parseCertificates, validityProblem, verifyChain } from "../../pki/index.ts";
import { type Category, type Check, type CheckContext, enumerate, expectNone, nameOf } from "../check.ts";

const DAY_MS = 86_400_000;
const SOON_DAYS = 60;

interface Issuer {
  readonly certificate: X509Certificate;
  readonly intermediates: readonly X509Certificate[];
}

/** File names in the issuer's Secret by scheme. */
const ISSUER_KEYS = {
  "linkerd.io/tls": { certificate: "crt.pem", key: "key.pem" },
  "kubernetes.io/tls": { certificate: "tls.crt", key: "tls.key" },
} as const;

async function secretText(context: CheckContext, name: string, key: string): Promise<string> {
  const secret = await context.find<Secret>("v1", "Secret", name, context.mesh);
  if (!secret) throw new Error(`Secret ${context.mesh}/${name} does not exist`);
  const data = secret.data?.[key];
  if (data === undefined) throw new Error(`Secret ${context.mesh}/${name} has no key ${key}`);
  return Buffer.from(data, "base64").toString("utf8");
}

async function issuerOf(context: CheckContext): Promise<Issuer> {
  const { identity } = await context.values();
  const keys = ISSUER_KEYS[identity.issuer.scheme];
  const [certificate, ...intermediates] = parseCertificates(
    await secretText(context, ISSUER_SECRET, keys.certificate),
  );
  const key = createPrivateKey(await secretText(context, ISSUER_SECRET, keys.key));
  if (!certificate!.checkPrivateKey(key)) {
    throw new Error(`the key in Secret ${context.mesh}/${ISSUER_SECRET} does not belong to its certificate`);
  }
  return { certificate: certificate!, intermediates };
}

const anchorsOf = async (context: CheckContext): Promise<X509Certificate[]> =>
  parseCertificates(await context.trustAnchors());

const describe = (certificate: X509Certificate): string =>
  `${certificate.subject.replaceAll("\n", ",")} (serial ${certificate.serialNumber.slice(0, 8)}…)`;

/** ECDSA P-256, or RSA of 2048 or 4096 bits where that is allowed. */
function cryptoProblem(certificate: X509Certificate, rsa: boolean): string | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = certificate.publicKey;
  if (type === "ec" && details?.namedCurve === "prime256v1") return undefined;
  if (rsa && type === "rsa" && [2048, 4096].includes(details?.modulusLength ?? 0)) return undefined;
  const what =
    type === "ec" ? `ECDSA ${details?.namedCurve}` : `${type} ${details?.modulusLength ?? ""}`.trim();
  return `${describe(certificate)} has a key of type ${what}`;
}

function expiringSoon(certificates: readonly X509Certificate[], now: number): void {
  expectNone(
    certificates
      .filter((certificate) => notAfterOf(certificate) - now < SOON_DAYS * DAY_MS)
      .map((certificate) => `${describe(certificate)} ends ${certificate.validTo}`),
    `ends within ${SOON_DAYS} days`,
  );
}

const invalid = (certificates: readonly X509Certificate[], now: number): string[] =>
  certificates.flatMap((certificate) => validityProblem(certificate, now) ?? []);

export const meshIdentity: Category = {
  id: "mesh-identity",
  checks: [
    {
      description: "certificate config is valid",
      anchor: "l5d-identity-cert-config-valid",
      fatal: true,
      run: async (context) => {
        await Promise.all([issuerOf(context), anchorsOf(context)]);
      },
    },
    {
      description: "trust anchors are using supported crypto algorithm",
      anchor: "l5d-identity-trustAnchors-use-supported-crypto",
      fatal: true,
      run: async (context) =>
        expectNone(
          (await anchorsOf(context)).flatMap((anchor) => cryptoProblem(anchor, true) ?? []),
          "not supported",
        ),
    },
    {
      description: "trust anchors are within their validity period",
      anchor: "l5d-identity-trustAnchors-are-time-valid",
      fatal: true,
      run: async (context) =>
        expectNone(invalid(await anchorsOf(context), context.options.now()), "not valid now"),
    },
    {
      description: "trust anchors are valid for at least 60 days",
      anchor: "l5d-identity-trustAnchors-not-expiring-soon",
      warning: true,
      run: async (context) => expiringSoon(await anchorsOf(context), context.options.now()),
    },
    {
      description: "issuer cert is using supported crypto algorithm",
      anchor: "l5d-identity-issuer-cert-uses-supported-crypto",
      fatal: true,
      run: async (context) => {
        const problem = cryptoProblem((await issuerOf(context)).certificate, false);
        if (problem) throw new Error(`not supported: ${problem}; it must be ECDSA P-256`);
      },
    },
    {
      description: "issuer cert is within its validity period",
      anchor: "l5d-identity-issuer-cert-is-time-valid",
      fatal: true,
      run: async (context) =>
        expectNone(invalid([(await issuerOf(context)).certificate], context.options.now()), "not valid now"),
    },
    {
      description: "issuer cert is valid for at least 60 days",
      anchor: "l5d-identity-issuer-cert-not-expiring-soon",
      warning: true,
      run: async (context) => {
        const { certificate } = await issuerOf(context);
        // One that was made to live shorter is renewed by whoever made it so.
        const lifetime = notAfterOf(certificate) - Date.parse(certificate.validFrom);
        const left = notAfterOf(certificate) - context.options.now();
        if (lifetime < SOON_DAYS * DAY_MS && left > lifetime / 3) return;
        expiringSoon([certificate], context.options.now());
      },
    },
    {
      description: "issuer cert is issued by the trust anchor",
      anchor: "l5d-identity-issuer-cert-issued-by-trust-anchor",
      run: async (context) => {
        const [{ certificate, intermediates }, anchors] = await Promise.all([
          issuerOf(context),
          anchorsOf(context),
        ]);
        const result = verifyChain(certificate, intermediates, anchors, context.options.now());
        if (!result.ok) throw new Error(`issuer ${describe(certificate)}: ${result.reason}`);
      },
    },
  ],
};

interface WebhookConfiguration extends KubeObject {
  webhooks?: { clientConfig?: { caBundle?: string } }[];
}

async function webhookCertificate(
  context: CheckContext,
  { verifier, secret, service }: WebhookNames,
): Promise<X509Certificate> {
  const config = await context.find<WebhookConfiguration>(
    "admissionregistration.k8s.io/v1",
    verifier.kind,
    verifier.name,
  );
  if (!config) throw new Error(`${verifier.kind} ${verifier.name} does not exist`);
  const bundle = config.webhooks?.[0]?.clientConfig?.caBundle;
  if (!bundle) throw new Error(`${verifier.name} has no caBundle`);
  const [certificate, ...intermediates] = parseCertificates(await secretText(context, secret, "tls.crt"));
  const key = createPrivateKey(await secretText(context, secret, "tls.key"));
  if (!certificate!.checkPrivateKey(key)) {
    throw new Error(`the key in Secret ${context.mesh}/${secret} does not belong to its certificate`);
  }
  const anchors = parseCertificates(Buffer.from(bundle, "base64").toString("utf8"));
  const chain = verifyChain(certificate!, intermediates, anchors, context.options.now());
  if (!chain.ok) throw new Error(`the certificate does not chain to the webhook's caBundle: ${chain.reason}`);
  const name = `${service}.${context.mesh}.svc`;
  if (certificate!.checkHost(name) === undefined) {
    throw new Error(`the certificate is not for ${name} but for ${certificate!.subjectAltName ?? "no name"}`);
  }
  return certificate!;
}

/** Names of the webhooks in checks, as Linkerd has them. */
const WEBHOOK_CHECKS = [
  ["proxy-injector", INJECTOR_WEBHOOK_NAMES],
  ["policy-validator", VALIDATOR_WEBHOOK_NAMES],
] as const;

export const meshWebhooks: Category = {
  id: "mesh-webhooks-and-apisvc-tls",
  checks: WEBHOOK_CHECKS.flatMap(([name, names]): Check[] => [
    {
      description: `${name} webhook has valid cert`,
      anchor: `l5d-${name}-webhook-cert-valid`,
      fatal: true,
      run: async (context) => {
        await webhookCertificate(context, names);
      },
    },
    {
      description: `${name} cert is valid for at least 60 days`,
      anchor: `l5d-${name}-webhook-cert-not-expiring-soon`,
      warning: true,
      run: async (context) => expiringSoon([await webhookCertificate(context, names)], context.options.now()),
    },
  ]),
};

const dataPlaneAnchors: Check = {
  description: "data plane proxies certificate match CA",
  anchor: "l5d-identity-data-plane-proxies-certs-match-ca",
  warning: true,
  run: async (context) => {
    const [current, pods] = await Promise.all([anchorsOf(context), context.dataPlanePods()]);
    const wanted = fingerprints(current);
    const stale = pods.filter((pod) => {
      const proxy = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(
        ({ name }) => name === PROXY_CONTAINER,
      );
      const pem = proxy?.env?.find(({ name }) => name === "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")?.value;
      try {
        return pem === undefined || fingerprints(parseCertificates(pem)) !== wanted;
      } catch {
        return true;
      }
    });
    if (stale.length > 0) {
      throw new Error(
        `these pods were started with other trust anchors and must be restarted: ${enumerate(stale.map(nameOf))}`,
      );
    }
  },
};

const fingerprints = (certificates: readonly X509Certificate[]): string =>
  certificates
    .map((certificate) => certificate.fingerprint256)
    .sort()
    .join(",");

export const meshIdentityDataPlane: Category = {
  id: "mesh-identity-data-plane",
  checks: [dataPlaneAnchors],
};
