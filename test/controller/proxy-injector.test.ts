// The webhook over real TLS: pods and Services in AdmissionReviews, certificates replaced while it runs, bad input.
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { request as httpsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { connect } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EventRecorder, type InvolvedObject } from "../../src/controller/event-recorder.ts";
import { createReview } from "../../src/controller/proxy-injector/review.ts";
import { createWebhookServer, type WebhookServer } from "../../src/controller/webhook-server.ts";
import { applyPatch, type Operation } from "../../src/inject/index.ts";
import { createLogger } from "../../src/log/logger.ts";
import { readValues } from "../../src/manifests/values.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { createRoot, createServerCertificate } from "../../src/pki/index.ts";
import { ManualClock } from "../support/clock.ts";
import { until } from "../support/until.ts";

const test = suite("proxy-injector");
const HOST = "mesh-proxy-injector.mesh-system.svc";
const now = Date.now();
const root = createRoot({ commonName: "webhook", lifetimeMs: 3_600_000, now });
const authority = { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey };
const certificateFor = (commonName: string) =>
  createServerCertificate({ authority, commonName, names: { dns: [HOST] }, lifetimeMs: 3_600_000, now });

interface Answer {
  readonly status: number;
  readonly body: string;
}

interface Rig {
  readonly webhook: WebhookServer;
  readonly port: number;
  readonly events: { involved: InvolvedObject; reason: string; message: string }[];
  readonly failures: unknown[];
  readonly registry: Registry;
  /** Namespace → annotations; "down" cannot be asked for. */
  readonly namespaces: Map<string, Record<string, string>>;
  post(body: string | Buffer, method?: string): Promise<Answer>;
  /** The object as it is after the webhook. */
  admit(
    kind: string,
    object: object,
    change?: object,
  ): Promise<{ object: Pod; warnings: string[]; patched: boolean }>;
}

// biome-ignore lint/suspicious/noExplicitAny: any Kubernetes object.
type Pod = any;

async function withWebhook(run: (rig: Rig) => Promise<void>): Promise<void> {
  const registry = new Registry();
  const events: Rig["events"] = [];
  const failures: unknown[] = [];
  const namespaces: Rig["namespaces"] = new Map([["emoji", { "linkerd.io/inject": "enabled" }]]);
  const review = createReview({
    values: () => readValues({ identityTrustAnchorsPEM: root.pem }),
    annotationsOf: async (name) => {
      if (name === "down") throw new Error("the API server is away");
      return namespaces.get(name) ?? {};
    },
    events: { record: (involved, _type, reason, message) => void events.push({ involved, reason, message }) },
    registry,
    log: createLogger({ level: "off" }),
  });
  const webhook = createWebhookServer(review, (error) => failures.push(error));
  const first = certificateFor("first");
  webhook.setCertificate(first.pem, first.keyPem);
  webhook.server.listen(0, "127.0.0.1");
  await once(webhook.server, "listening");
  const { port } = webhook.server.address() as AddressInfo;
  const post: Rig["post"] = (body, method = "POST") =>
    new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          host: "127.0.0.1",
          port,
          servername: HOST,
          ca: root.pem,
          method,
          agent: false,
          path: "/?timeout=10s",
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk) => chunks.push(chunk));
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
          );
        },
      );
      request.on("error", reject);
      request.end(body);
    });
  const admit: Rig["admit"] = async (kind, object, change = {}) => {
    const request = {
      uid: "u-1",
      kind: { group: "", version: "v1", kind },
      operation: "CREATE",
      namespace: "emoji",
      object,
      ...change,
    };
    const { status, body } = await post(
      JSON.stringify({ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request }),
    );
    assert.is(status, 200, body);
    const { response } = JSON.parse(body);
    assert.is(response.uid, "u-1");
    assert.is(response.allowed, true);
    if (response.patch === undefined) return { object, warnings: response.warnings ?? [], patched: false };
    assert.is(response.patchType, "JSONPatch");
    const operations = JSON.parse(Buffer.from(response.patch, "base64").toString()) as Operation[];
    return { object: applyPatch(object, operations), warnings: response.warnings ?? [], patched: true };
  };
  try {
    await run({ webhook, port, events, failures, registry, namespaces, post, admit });
  } finally {
    webhook.server.closeAllConnections();
    webhook.server.close();
  }
}

const pod = (annotations: Record<string, string> = {}, spec: object = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    generateName: "web-abc-",
    annotations,
    labels: { "pod-template-hash": "abc" },
    ownerReferences: [
      { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-abc", uid: "r", controller: true },
    ],
  },
  spec: { containers: [{ name: "c", image: "web", ports: [{ containerPort: 8080 }] }], ...spec },
});

test("a pod of an enabled namespace gets its proxy, an event for its Deployment, and is counted", () =>
  withWebhook(async ({ admit, events, registry }) => {
    const { object } = await admit("Pod", pod());
    assert.equal(
      object.spec.initContainers.map((c: Pod) => c.name),
      ["linkerd-init", "linkerd-proxy"],
    );
    assert.is(object.metadata.labels["linkerd.io/control-plane-ns"], "mesh-system");
    assert.is(object.metadata.labels["linkerd.io/proxy-deployment"], "web");
    assert.is(object.metadata.labels["linkerd.io/workload-ns"], "emoji");
    const env = object.spec.initContainers[1].env as { name: string; value: string }[];
    assert.is(env.find((e) => e.name === "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")?.value, root.pem);
    assert.equal(events, [
      {
        involved: { apiVersion: "apps/v1", kind: "Deployment", name: "web", namespace: "emoji" },
        reason: "Injected",
        message: "Linkerd sidecar proxy injected",
      },
    ]);
    const metrics = registry.expose();
    assert.match(
      metrics,
      /proxy_inject_admission_requests_total\{owner_kind="deployment",namespace="emoji"\} 1/,
    );
    assert.match(
      metrics,
      /proxy_inject_admission_responses_total\{[^}]*skip="false"[^}]*annotation_at="namespace"\} 1/,
    );
  }));

test("a pod that says no, or that cannot have a proxy, is left alone and it is said why", () =>
  withWebhook(async ({ admit, events }) => {
    assert.not((await admit("Pod", pod({ "linkerd.io/inject": "disabled" }))).patched);
    assert.not((await admit("Pod", pod({}, { hostNetwork: true }))).patched);
    assert.equal(
      events.map((e) => e.reason),
      ["InjectionSkipped", "InjectionSkipped"],
    );
    assert.match(events[1]!.message, /hostNetwork/);
  }));

test("where nobody asked nothing is done and nothing is told; a dry run tells nothing either", () =>
  withWebhook(async ({ admit, events, registry }) => {
    assert.not((await admit("Pod", pod(), { namespace: "other" })).patched);
    assert.not((await admit("Pod", pod({}, { hostNetwork: true }), { namespace: "other" })).patched);
    assert.ok((await admit("Pod", pod(), { dryRun: true })).patched);
    assert.equal(events, []);
    assert.match(registry.expose(), /skip_reason="injection_enable_annotation_absent"/);
  }));

test("a pod without a workload has its events itself; what is set is counted by name, never by value", () =>
  withWebhook(async ({ admit, events, registry, namespaces }) => {
    namespaces.set("emoji", { "linkerd.io/inject": "enabled", "config.linkerd.io/proxy-log-level": "debug" });
    const bare = { apiVersion: "v1", kind: "Pod", metadata: { name: "bare" }, spec: pod().spec };
    await admit("Pod", {
      ...bare,
      metadata: { ...bare.metadata, annotations: { "config.linkerd.io/proxy-uid": "9" } },
    });
    assert.equal(
      events.map(({ involved, reason }) => `${involved.kind}/${involved.name} ${reason}`),
      ["Pod/bare Injected"],
    );
    await admit("Pod", { ...bare, metadata: { generateName: "bare-" } });
    assert.is(events.length, 1, "one without a name cannot be told of");
    const metrics = registry.expose();
    assert.match(metrics, /requests_total\{owner_kind="",namespace="emoji",[^}]*proxy_uid="true"[^}]*\} 1/);
    assert.match(
      metrics,
      /requests_total\{owner_kind="",namespace="emoji",[^}]*proxy_log_level="true"[^}]*\} 1/,
    );
    assert.not.match(metrics, "debug");
  }));

test("the same event about the same object is written once in a while", async () => {
  const clock = new ManualClock();
  const written: string[] = [];
  const client = {
    request: async (_path: string, { body }: { body: { reason: string; involvedObject: InvolvedObject } }) =>
      void written.push(`${body.involvedObject.name} ${body.reason}`),
  };
  const recorder = new EventRecorder(client as never, "test", createLogger({ level: "off" }), {
    clock,
    repeatAfter: 60_000,
  });
  const about = (name: string) => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    name,
    namespace: "emoji",
    uid: "u",
  });
  for (let i = 0; i < 5; i += 1) recorder.record(about("web"), "Normal", "Injected", "done");
  recorder.record(about("api"), "Normal", "Injected", "done");
  recorder.record(about("web"), "Warning", "InvalidSetting", "a");
  recorder.record(about("web"), "Warning", "InvalidSetting", "b");
  await until(() => written.length === 4);
  await clock.advance(60_000);
  recorder.record(about("web"), "Normal", "Injected", "done");
  await until(() => written.length === 5);
  assert.equal(written, [
    "web Injected",
    "api Injected",
    "web InvalidSetting",
    "web InvalidSetting",
    "web Injected",
  ]);
});

test("a setting that is wrong warns whoever created the pod", () =>
  withWebhook(async ({ admit }) => {
    const { warnings, patched } = await admit("Pod", pod({ "config.linkerd.io/proxy-log-lvl": "debug" }));
    assert.ok(patched);
    assert.match(warnings.join(), /did you mean config\.linkerd\.io\/proxy-log-level/);
  }));

test("a Service learns which of its ports are opaque, unless it says so itself", () =>
  withWebhook(async ({ admit, namespaces }) => {
    const service = (ports: object[], annotations?: Record<string, string>) => ({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "db", ...(annotations ? { annotations } : {}) },
      spec: { ports },
    });
    const of = async (object: object) =>
      (await admit("Service", object)).object.metadata.annotations?.["config.linkerd.io/opaque-ports"];
    assert.is(await of(service([{ port: 3306 }, { port: 80 }])), "3306");
    assert.is(await of(service([{ port: 80, targetPort: 5432 }])), "5432");
    assert.is(await of(service([{ port: 3306, targetPort: "mysql" }])), undefined);
    assert.is(await of(service([{ port: 80 }], { a: "b" })), undefined);
    assert.is(await of(service([{ port: 3306 }], { "config.linkerd.io/opaque-ports": "" })), "");
    namespaces.set("emoji", { "config.linkerd.io/opaque-ports": "9000" });
    assert.is(await of(service([{ port: 3306 }], { a: "b" })), "9000");
  }));

test("other kinds and operations pass unchanged", () =>
  withWebhook(async ({ admit }) => {
    assert.not((await admit("Pod", pod(), { operation: "UPDATE" })).patched);
    assert.not((await admit("ConfigMap", { metadata: { name: "x" } })).patched);
    assert.not((await admit("Pod", pod(), { kind: { group: "other.example", kind: "Pod" } })).patched);
    assert.not((await admit("Pod", pod(), { object: null })).patched);
  }));

test("what is no review is refused; what we cannot decide is left to the API server's failurePolicy", () =>
  withWebhook(async ({ post, admit, failures }) => {
    assert.is((await post("{}", "GET")).status, 405);
    assert.is((await post("nonsense")).status, 400);
    assert.is((await post("null")).status, 400);
    assert.is((await post('{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}')).status, 400);
    assert.equal(failures, []);
    const request = {
      uid: "u",
      operation: "CREATE",
      kind: { kind: "Pod" },
      namespace: "down",
      object: pod(),
    };
    const body = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request };
    const answer = await post(JSON.stringify(body));
    assert.is(answer.status, 500);
    assert.not.match(answer.body, /away/);
    assert.match(String(failures[0]), /the API server is away/);
    assert.ok((await admit("Pod", pod())).patched, "it serves on");
  }));

test("a body that is too large is refused", () =>
  withWebhook(async ({ post, admit }) => {
    const answer = await post(Buffer.alloc(9 * 1024 * 1024, 0x20)).catch(
      (error: NodeJS.ErrnoException) => error.code,
    );
    // The refusal may be lost when the connection closes while the caller still writes.
    if (typeof answer === "object") assert.is(answer.status, 413);
    else assert.match(String(answer), /EPIPE|ECONNRESET/);
    assert.ok((await admit("Pod", pod())).patched);
  }));

test("a new certificate holds for new connections", () =>
  withWebhook(async ({ webhook, port, admit }) => {
    const peer = async () => {
      const socket = connect({ port, host: "127.0.0.1", servername: HOST, ca: root.pem });
      await once(socket, "secureConnect");
      const name = socket.getPeerCertificate().subject.CN;
      const protocol = socket.getProtocol();
      socket.destroy();
      return `${name} ${protocol}`;
    };
    assert.is(await peer(), "first TLSv1.3");
    const second = certificateFor("second");
    webhook.setCertificate(second.pem, second.keyPem);
    assert.is(await peer(), "second TLSv1.3");
    assert.throws(() => webhook.setCertificate("no", "no"));
    assert.is(await peer(), "second TLSv1.3");
    assert.ok((await admit("Pod", pod())).patched);
  }));

test.run();
