// The webhook's certificate is renewed under the eyes of an API server that asks the webhook all the time.
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { AdmissionResponse } from "../../src/controller/admission-review.ts";
import {
  keepWebhookCredentials,
  readCredentials,
  renewalTimes,
  type VerifierRef,
  verifierPath,
} from "../../src/controller/webhook-credentials.ts";
import { createWebhookServer, type WebhookServer } from "../../src/controller/webhook-server.ts";
import { KubeClient, NotLeaderError, type Secret } from "../../src/kube/index.ts";
import { createLogger } from "../../src/log/logger.ts";
import { createWebhookCredentials, webhookSecretData } from "../../src/manifests/credentials.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { parseCertificates } from "../../src/pki/index.ts";
import { startHarness } from "../sandbox/apiserver/harness.ts";
import { ManualClock } from "../support/clock.ts";
import { until } from "../support/until.ts";

const test = suite("webhook credentials");
const DAY = 86_400_000;
const LIFETIME = 120 * DAY;
const SECRET = "/api/v1/namespaces/mesh-system/secrets/hook-tls";
const VERIFIERS: readonly VerifierRef[] = [
  { kind: "MutatingWebhookConfiguration", name: "hook" },
  { kind: "ValidatingWebhookConfiguration", name: "hook" },
  { kind: "APIService", name: "v1.things.example.com" },
];

/** A Lease that the test gives and takes. */
class Lead {
  #leading = false;
  #listeners: ((leading: boolean) => void)[] = [];
  get isLeader(): boolean {
    return this.#leading;
  }
  set(leading: boolean): void {
    this.#leading = leading;
    for (const listener of this.#listeners) listener(leading);
  }
  onChange(fn: (leading: boolean) => void): () => void {
    this.#listeners.push(fn);
    return () => {
      this.#listeners = this.#listeners.filter((each) => each !== fn);
    };
  }
  begin(): AbortSignal {
    if (!this.#leading) throw new NotLeaderError("hook");
    return new AbortController().signal;
  }
  end(): void {}
}

interface Rig {
  readonly clock: ManualClock;
  /** Events. */
  readonly told: string[];
  readonly registry: Registry;
  readonly client: KubeClient;
  /** Another candidate, leading or not. */
  candidate(): Lead;
  secret(): Promise<Secret>;
  /** What each verifier trusts. */
  trusted(): Promise<string[][]>;
  /** A replica's kubelet brings what the Secret holds now. */
  reload(replica: number): Promise<void>;
  /** Both replicas answer the API server, asked for both kinds of admission. */
  answered(): Promise<void>;
}

/**
 * Two replicas of a webhook with failurePolicy Fail behind a real API server. The clock begins 100 days before today, so
 * that certificates of 120 days hold today, of both generations.
 */
async function withWebhook(run: (rig: Rig) => Promise<void>): Promise<void> {
  const api = await startHarness();
  const began = Date.now() - 100 * DAY;
  const clock = new (class extends ManualClock {
    override now = () => began + this.monotonic();
  })();
  const registry = new Registry();
  const told: string[] = [];
  const asked: number[] = [];
  const client = new KubeClient(api.config());
  const first = createWebhookCredentials("hook", "mesh-system", clock.now(), LIFETIME);
  const caBundle = Buffer.from(first.caBundle).toString("base64");
  const servers: WebhookServer[] = [];
  const stops: (() => void)[] = [];
  const namespace = "mesh-system";
  const post = async (path: string, body: object) => {
    const answer = await api.call("POST", path, { body });
    assert.is(answer.status, 201, JSON.stringify(answer.body));
  };
  await post("/api/v1/namespaces", { metadata: { name: namespace } });
  await post(`/api/v1/namespaces/${namespace}/secrets`, {
    metadata: { name: "hook-tls" },
    type: "kubernetes.io/tls",
    data: webhookSecretData(first),
  });
  // One Service, and a port of it for each replica, so that every request asks both.
  await post(`/api/v1/namespaces/${namespace}/services`, {
    metadata: { name: "hook" },
    spec: { clusterIP: "None", ports: [0, 1].map((index) => ({ name: `r${index}`, port: 443 + index })) },
  });
  for (const index of [0, 1]) {
    const review = async ({ uid }: { uid: string }): Promise<AdmissionResponse> => {
      asked.push(index);
      return { uid, allowed: true };
    };
    const server = createWebhookServer(review, () => {});
    server.setCertificate(first.certificate, first.key);
    server.server.listen(0, "127.0.0.1");
    await once(server.server, "listening");
    servers.push(server);
    await post(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, {
      metadata: { name: `hook-${index}`, labels: { "kubernetes.io/service-name": "hook" } },
      addressType: "IPv4",
      ports: [{ name: `r${index}`, port: (server.server.address() as AddressInfo).port, protocol: "TCP" }],
      endpoints: [{ addresses: ["127.0.0.1"], conditions: { ready: true } }],
    });
  }
  for (const kind of ["mutating", "validating"])
    await post(`/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations`, {
      metadata: { name: "hook" },
      webhooks: [0, 1].map((index) => ({
        name: `${kind}-${index}.example.com`,
        clientConfig: { service: { name: "hook", namespace, port: 443 + index }, caBundle },
        failurePolicy: "Fail",
        admissionReviewVersions: ["v1"],
        sideEffects: "None",
        rules: [{ operations: ["CREATE"], apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"] }],
      })),
    });
  await post("/apis/apiregistration.k8s.io/v1/apiservices", {
    metadata: { name: "v1.things.example.com" },
    spec: {
      group: "things.example.com",
      version: "v1",
      groupPriorityMinimum: 1_000,
      versionPriority: 10,
      service: { name: "hook", namespace, port: 443 },
      caBundle,
    },
  });
  let made = 0;
  const rig: Rig = {
    clock,
    told,
    registry,
    client,
    secret: () => client.get<Secret>(SECRET),
    async trusted() {
      const all: string[][] = [];
      for (const verifier of VERIFIERS) {
        const { body } = await api.call("GET", verifierPath(verifier));
        const bundles: string[] = body.spec
          ? [body.spec.caBundle]
          : body.webhooks.map((each: { clientConfig: { caBundle: string } }) => each.clientConfig.caBundle);
        for (const bundle of bundles)
          all.push(parseCertificates(Buffer.from(bundle, "base64").toString()).map((c) => c.fingerprint256));
      }
      return all;
    },
    async reload(replica) {
      const { data = {} } = await rig.secret();
      const text = (key: string) => Buffer.from(data[key]!, "base64").toString();
      servers[replica]!.setCertificate(text("tls.crt"), text("tls.key"));
    },
    async answered() {
      asked.length = 0;
      made += 1;
      await post(`/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name: `made-${made}` } });
      assert.equal([...asked].sort(), [0, 0, 1, 1]);
    },
    candidate() {
      const lead = new Lead();
      stops.push(
        keepWebhookCredentials({
          election: lead,
          client,
          namespace,
          service: "hook",
          secret: "hook-tls",
          verifiers: VERIFIERS,
          owner: { apiVersion: "apps/v1", kind: "Deployment", name: "hook", namespace },
          events: { record: (_, type, reason) => void told.push(`${type} ${reason}`) },
          registry,
          log: createLogger({ level: "off" }),
          clock,
          lifetime: LIFETIME,
        }),
      );
      return lead;
    },
  };
  try {
    await run(rig);
  } finally {
    for (const stop of stops) stop();
    for (const { server } of servers) server.close();
    client.close();
    await api.close();
  }
}

const certificateOf = ({ data }: Secret) =>
  new X509Certificate(Buffer.from(data!["tls.crt"]!, "base64")).fingerprint256;
const { interval, settle, spread } = renewalTimes(LIFETIME);

test("in its first two thirds of life nothing is written", () =>
  withWebhook(async ({ candidate, clock, secret, trusted, told }) => {
    const before = await secret();
    const lead = candidate();
    lead.set(true);
    await clock.advance(60 * DAY);
    await until(() => !clock.idle);
    await clock.advance(interval);
    assert.equal(await secret(), before);
    assert.ok((await trusted()).every((trust) => trust.length === 1));
    assert.equal(told, []);
  }));

test("a renewal: trust first, then the certificate, then the old trust ends; no request is refused at any step", () =>
  withWebhook(async ({ candidate, clock, secret, trusted, told, reload, answered, registry }) => {
    const before = certificateOf(await secret());
    const [oldCa] = (await trusted())[0]!;
    await answered();
    await clock.advance(81 * DAY);
    const idle = candidate();
    const lead = candidate();
    lead.set(true);
    // Trust in both, everywhere, while the old certificate is served.
    await until(async () => (await trusted()).every((trust) => trust.length === 2), 10_000, "trust in both");
    await answered();
    assert.is(certificateOf(await secret()), before, "the Secret waits until the trust has spread");
    await until(() => !clock.idle);
    await clock.advance(settle);
    await until(async () => certificateOf(await secret()) !== before, 10_000, "a new certificate");
    await answered();
    // One replica has it already, the other not yet.
    await reload(1);
    await answered();
    await until(() => told.length > 0);
    assert.equal(told, ["Normal WebhookCertificateRenewed"]);
    await clock.advance(interval);
    await answered();
    assert.ok(
      (await trusted()).every((trust) => trust.length === 2),
      "the slow replica is still trusted",
    );
    await reload(0);
    await answered();
    await clock.advance(spread);
    await until(
      async () => (await trusted()).every((trust) => trust.length === 1),
      10_000,
      "trust in the new",
    );
    assert.not.equal((await trusted())[0], [oldCa]);
    await answered();
    assert.not(idle.isLeader);
    assert.match(registry.expose(), /webhook_credentials_renewals_total 1/);
    assert.is(
      readCredentials(await secret(), "hook", "mesh-system", clock.now()).problem,
      undefined,
      "and the next is due in its time",
    );
  }));

test("a leader that fails between the steps is followed by one that ends the renewal", () =>
  withWebhook(async ({ candidate, clock, secret, trusted, answered, reload }) => {
    const before = certificateOf(await secret());
    await clock.advance(81 * DAY);
    const first = candidate();
    first.set(true);
    await until(async () => (await trusted()).every((trust) => trust.length === 2), 10_000, "trust in both");
    first.set(false);
    await until(() => !clock.idle);
    await clock.advance(settle);
    const second = candidate();
    second.set(true);
    await until(async () => (await trusted()).every((trust) => trust.length === 3), 10_000, "its own CA");
    assert.is(certificateOf(await secret()), before, "the first wrote nothing after it lost the Lease");
    await answered();
    await until(() => !clock.idle);
    await clock.advance(settle);
    await until(async () => certificateOf(await secret()) !== before, 10_000, "a new certificate");
    await answered();
    await reload(0);
    await reload(1);
    await clock.advance(spread + interval);
    await until(async () => (await trusted()).every((trust) => trust.length === 1), 10_000, "one CA");
    await answered();
  }));

test("a trust that somebody overwrote with an old manifest is mended at the next look", () =>
  withWebhook(async ({ candidate, clock, client, trusted, answered }) => {
    const lead = candidate();
    lead.set(true);
    await until(() => !clock.idle);
    const path = verifierPath(VERIFIERS[0]!);
    const other = createWebhookCredentials("hook", "mesh-system", clock.now(), LIFETIME);
    const spoilt = Buffer.from(other.caBundle).toString("base64");
    const hook = await client.get<{ metadata: { name: string }; webhooks: { clientConfig: object }[] }>(path);
    for (const webhook of hook.webhooks) Object.assign(webhook.clientConfig, { caBundle: spoilt });
    await client.replace(path, hook);
    await clock.advance(interval);
    await until(
      async () => (await trusted())[0]!.includes((await trusted()).at(-1)![0]!),
      10_000,
      "the CA in use is trusted again",
    );
    await answered();
  }));

test("a certificate that cannot be served, for whatever reason, is replaced at once", () =>
  withWebhook(async ({ candidate, clock, client, secret, reload, answered, told }) => {
    const lead = candidate();
    const other = createWebhookCredentials("other", "mesh-system", clock.now(), LIFETIME);
    const ended = createWebhookCredentials("hook", "mesh-system", clock.now() - 2 * LIFETIME, LIFETIME);
    const good = webhookSecretData(createWebhookCredentials("hook", "mesh-system", clock.now(), LIFETIME));
    const broken: [string, Record<string, string>, RegExp][] = [
      ["another's name", webhookSecretData(other), /does not name hook\.mesh-system\.svc/],
      ["at its end", webhookSecretData(ended), /expired/],
      ["no certificate", { ...good, "tls.crt": "" }, /PEM CERTIFICATE/],
      ["another's key", { ...good, "tls.key": webhookSecretData(other)["tls.key"]! }, /does not belong/],
      ["another's CA", { ...good, "ca.crt": webhookSecretData(other)["ca.crt"]! }, /trust anchor|signature/],
    ];
    for (const [what, data, problem] of broken) {
      lead.set(false);
      await client.replace(SECRET, { ...(await secret()), data } as Secret);
      assert.match(readCredentials(await secret(), "hook", "mesh-system", clock.now()).problem!, problem);
      told.length = 0;
      lead.set(true);
      await until(
        async () => {
          await clock.advance(settle);
          return told.length > 0;
        },
        10_000,
        what,
      );
      assert.equal(told, ["Normal WebhookCertificateRenewed"], what);
      await reload(0);
      await reload(1);
      await answered();
    }
  }));

test("a renewal that keeps failing is told by an event while there is still time, and not again each minute", () =>
  withWebhook(async ({ candidate, clock, client, told, registry }) => {
    await client.delete(verifierPath(VERIFIERS[1]!));
    const lead = candidate();
    await clock.advance(81 * DAY);
    lead.set(true);
    await until(() => /webhook_credentials_failures_total 1/.test(registry.expose()));
    assert.equal(told, [], "there are 39 days left");
    lead.set(false);
    await clock.advance(20 * DAY);
    lead.set(true);
    await until(() => told.length > 0);
    await until(() => !clock.idle);
    await clock.advance(interval);
    await until(() => /webhook_credentials_failures_total 3/.test(registry.expose()));
    assert.equal(told, ["Warning WebhookCertificateRenewalFailed"]);
  }));

test("the times of a short-lived certificate are short too, and of a long one bounded", () => {
  assert.equal(renewalTimes(365 * DAY), { interval: 60_000, settle: 10_000, spread: 600_000 });
  assert.equal(renewalTimes(120_000), { interval: 4_000, settle: 2_000, spread: 20_000 });
});

test.run();
