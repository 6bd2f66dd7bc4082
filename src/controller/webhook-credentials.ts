// The certificate by which the API server knows a webhook or an aggregated API, renewed long before it ends, in an order
// in which nothing is refused in between:
//
//   1. whoever verifies (caBundle of webhook configurations and APIServices) trusts the old CA and a new one
//   2. a moment later, the Secret gets the new certificate; each replica reads it within some minutes
//   3. when all of them have it, the old CA is trusted no more
//
// One replica does this, the one that holds the Lease. Nothing but the objects themselves remembers how far it came: one
// that fails between two steps is followed by another that begins anew, and what verifies at that moment stays trusted.
import { X509Certificate } from "node:crypto";
import type { KubeClient } from "../kube/client.ts";
import type { LeaderElection } from "../kube/lease.ts";
import { resourcePath } from "../kube/path.ts";
import type { KubeObject, Secret } from "../kube/types.ts";
import type { Logger } from "../log/logger.ts";
import {
  createWebhookCredentials,
  type WebhookCredentials,
  webhookSecretData,
} from "../manifests/credentials.ts";
import type { Registry } from "../metrics/registry.ts";
import {
  CLOCK_SKEW_MS,
  notAfterOf,
  notBeforeOf,
  parseCertificates,
  parsePrivateKey,
  pemBlocks,
  verifyChain,
} from "../pki/index.ts";
import type { Clock, Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";
import type { EventRecorder, InvolvedObject } from "./event-recorder.ts";

export interface WebhookCredentialsOptions {
  /** Only the leader renews. */
  readonly election: Pick<LeaderElection, "isLeader" | "onChange" | "begin" | "end">;
  /** Not fenced yet. */
  readonly client: KubeClient;
  readonly namespace: string;
  /** The Service that the certificate names. */
  readonly service: string;
  /** A Secret of type kubernetes.io/tls in `namespace`. */
  readonly secret: string;
  /** Who verifies the certificate. */
  readonly verifiers: readonly VerifierRef[];
  /** What events are told of: the Deployment. */
  readonly owner: InvolvedObject;
  readonly events: Pick<EventRecorder, "record">;
  readonly registry: Registry;
  readonly log: Logger;
  readonly clock: Clock;
  /** Of a renewed certificate, ms. Default a year. */
  readonly lifetime?: number | undefined;
}

export interface VerifierRef {
  readonly kind: "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" | "APIService";
  readonly name: string;
}

const YEAR = 365 * 86_400_000;
/** A certificate is renewed when this part of its life is left: for one of a year, four months before its end. */
const RENEW_AT = 1 / 3;
/** The warning event about a failing renewal is written so often, ms. */
const WARN_INTERVAL = 600_000;
/** At most so many CAs are trusted at once: a renewal needs two. */
const MAX_TRUSTED = 8;

/** Times that go with a certificate's life, ms: for one of a year they are at their bounds. */
export function renewalTimes(lifetime: number): {
  /** Between two looks: somebody may have applied an old manifest over what we wrote. */
  readonly interval: number;
  /** From the wider trust to the new certificate: API servers hear of it by a watch. */
  readonly settle: number;
  /** From the new certificate to the end of the old trust: kubelets take up to two minutes. */
  readonly spread: number;
} {
  return {
    interval: Math.min(60_000, lifetime / 30),
    settle: Math.min(10_000, lifetime / 60),
    spread: Math.min(600_000, lifetime / 6),
  };
}

/** Looks after the credentials while we lead. @returns stops it */
export function keepWebhookCredentials(options: WebhookCredentialsOptions): () => void {
  const { election, clock, log, registry, events, owner } = options;
  const renewer = new Renewer(options);
  const { interval } = renewalTimes(options.lifetime ?? YEAR);
  const failures = registry
    .counter("webhook_credentials_failures_total", "Looks at the webhook's credentials that failed.")
    .labels();
  let timer: Timer | undefined;
  let busy = false;
  let warnAgain = 0;
  const look = async () => {
    if (busy || !election.isLeader) return;
    busy = true;
    try {
      await renewer.look();
    } catch (error) {
      failures.inc();
      log.warn("the webhook's credentials could not be looked after, trying again", {
        error: errorMessage(error),
      });
      if (renewer.urgent && clock.now() >= warnAgain) {
        warnAgain = clock.now() + WARN_INTERVAL;
        events.record(
          owner,
          "Warning",
          "WebhookCertificateRenewalFailed",
          `The webhook's certificate ends soon and could not be renewed: ${errorMessage(error)}`,
        );
      }
    } finally {
      busy = false;
    }
    clock.clear(timer);
    if (election.isLeader) timer = clock.after(interval, () => void look());
  };
  const unlisten = election.onChange((leading) => {
    clock.clear(timer);
    if (leading) void look();
  });
  return () => {
    unlisten();
    clock.clear(timer);
  };
}

class Renewer {
  readonly #options: WebhookCredentialsOptions;
  readonly #client: KubeClient;
  readonly #lifetime: number;
  readonly #renewals: { inc(): void };
  /** Made, and perhaps trusted already, but not served yet. */
  #next: WebhookCredentials | undefined;
  /** The certificate in use has little time left. */
  urgent = false;

  constructor(options: WebhookCredentialsOptions) {
    this.#options = options;
    this.#client = options.client.fencedBy(options.election);
    this.#lifetime = options.lifetime ?? YEAR;
    this.#renewals = options.registry
      .counter("webhook_credentials_renewals_total", "Certificates of the webhook that this replica made.")
      .labels();
  }

  /** Brings the objects nearer to what they should be. @throws KubeApiError, MeshError */
  async look(): Promise<void> {
    const { clock, namespace, secret: name, log } = this.#options;
    const path = resourcePath({ apiVersion: "v1", resource: "secrets", namespace, name });
    const secret = await this.#client.get<Secret>(path);
    const now = clock.now();
    const current = readCredentials(secret, this.#options.service, namespace, now);
    const ca = current.ca === undefined ? [] : [current.ca];
    this.urgent = current.problem !== undefined || now >= current.urgentAt;
    if (current.problem === undefined && now < current.renewAt) {
      this.#next = undefined;
      const spread = now < current.since + renewalTimes(this.#lifetime).spread;
      await this.#trust(ca, { others: spread });
      return;
    }
    log.info("renewing the webhook's certificate", { reason: current.problem ?? "it is due" });
    this.#next ??= createWebhookCredentials(this.#options.service, namespace, now, this.#lifetime);
    await this.#trust([...ca, this.#next.caBundle], { others: true });
    await new Promise<void>((resolve) => void clock.after(renewalTimes(this.#lifetime).settle, resolve));
    // Refused when somebody else wrote it meanwhile, or leads by now.
    await this.#client.replace<Secret>(path, {
      ...secret,
      data: { ...secret.data, ...webhookSecretData(this.#next) },
    });
    this.#next = undefined;
    this.#renewals.inc();
    this.#options.events.record(
      this.#options.owner,
      "Normal",
      "WebhookCertificateRenewed",
      `Renewed the webhook's certificate in Secret ${name}; the next one is due at ${new Date(now + this.#lifetime * (1 - RENEW_AT)).toISOString()}`,
    );
  }

  /** Has every verifier trust these CAs, and with `others` those that it trusts already and that still hold. */
  async #trust(wanted: readonly string[], { others }: { readonly others: boolean }): Promise<void> {
    const now = this.#options.clock.now();
    const trust = (bundle: string | undefined): string => {
      const known = others ? heldIn(bundle, now) : [];
      const all = [...wanted.flatMap(splitBundle), ...known];
      const unique = new Map(all.map((pem) => [new X509Certificate(pem).fingerprint256, pem]));
      const pems = [...unique.values()].slice(0, MAX_TRUSTED);
      return Buffer.from(pems.join("")).toString("base64");
    };
    if (wanted.length === 0) return;
    for (const verifier of this.#options.verifiers) {
      const path = verifierPath(verifier);
      const object = await this.#client.get<Verifier>(path);
      const before = JSON.stringify(object);
      for (const webhook of object.webhooks ?? [])
        webhook.clientConfig.caBundle = trust(webhook.clientConfig.caBundle);
      if (object.spec) object.spec.caBundle = trust(object.spec.caBundle);
      if (JSON.stringify(object) !== before) await this.#client.replace(path, object);
    }
  }
}

interface Verifier extends KubeObject {
  webhooks?: { clientConfig: { caBundle?: string } }[];
  spec?: { caBundle?: string };
}

export const verifierPath = ({ kind, name }: VerifierRef): string =>
  resourcePath({
    apiVersion: kind === "APIService" ? "apiregistration.k8s.io/v1" : "admissionregistration.k8s.io/v1",
    kind,
    name,
  });

interface Credentials {
  /** The CA that verifies the certificate; kept trusted even when something else is wrong. */
  readonly ca: string | undefined;
  /** Why it cannot be served, if it cannot. */
  readonly problem: string | undefined;
  /** ms since the epoch: when it began, when it is due, when it is late. */
  readonly since: number;
  readonly renewAt: number;
  readonly urgentAt: number;
}

/** What the Secret holds, and whether that can be served for this Service now. */
export function readCredentials(
  secret: Secret,
  service: string,
  namespace: string,
  now: number,
): Credentials {
  const text = (key: string) => Buffer.from(secret.data?.[key] ?? "", "base64").toString("utf8");
  const broken = (problem: string, ca?: string): Credentials => ({
    ca,
    problem,
    since: 0,
    renewAt: 0,
    urgentAt: 0,
  });
  let ca: string | undefined;
  try {
    const anchors = parseCertificates(text("ca.crt"));
    ca = text("ca.crt");
    const [certificate, ...intermediates] = parseCertificates(text("tls.crt"));
    if (!certificate!.checkPrivateKey(parsePrivateKey(text("tls.key"))))
      return broken("the key does not belong to the certificate", ca);
    const name = `${service}.${namespace}.svc`;
    if (certificate!.checkHost(name) === undefined) return broken(`it does not name ${name}`, ca);
    const chain = verifyChain(certificate!, intermediates, anchors, now);
    if (!chain.ok) return broken(chain.reason, ca);
    const since = notBeforeOf(certificate!) + CLOCK_SKEW_MS;
    const life = notAfterOf(certificate!) - since;
    return {
      ca,
      problem: undefined,
      since,
      renewAt: since + life * (1 - RENEW_AT),
      urgentAt: since + life * (1 - RENEW_AT / 2),
    };
  } catch (error) {
    return broken(errorMessage(error), ca);
  }
}

const splitBundle = (pem: string): string[] => pemBlocks(pem, "CERTIFICATE").map((block) => `${block}\n`);

/** The certificates of a base64 bundle that can be read and have not ended. */
function heldIn(bundle: string | undefined, now: number): string[] {
  return splitBundle(Buffer.from(bundle ?? "", "base64").toString("utf8")).filter((pem) => {
    try {
      return notAfterOf(new X509Certificate(pem)) > now;
    } catch {
      return false;
    }
  });
}
