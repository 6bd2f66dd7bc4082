// The validating webhook as an API server calls it: over TLS, by the configuration that an installation renders.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createValidator } from "../../src/controller/policy-validator/review.ts";
import { createWebhookServer, type Review } from "../../src/controller/webhook-server.ts";
import { definitionOf, KINDS, kindOf } from "../../src/crds/index.ts";
import { createLogger } from "../../src/log/logger.ts";
import {
  controlPlane,
  createAllWebhookCredentials,
  createIdentityCredentials,
  DEFAULT_VALUES,
} from "../../src/manifests/index.ts";
import { Registry } from "../../src/metrics/registry.ts";
import type { Json } from "../../src/sandbox/cluster.ts";
import { parse } from "../../src/util/yaml.ts";
import { changed, MISTAKES, VALID } from "../crds/objects.ts";
import { type Harness, startHarness } from "../sandbox/apiserver/harness.ts";
import { until } from "../support/until.ts";

interface Context {
  api: Harness;
  registry: Registry;
  webhook: ReturnType<typeof createWebhookServer>;
}

const test = suite<Context>("policy validator");
const HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/** The collection of an object's kind. */
function pathOf({ apiVersion, kind, metadata }: Json): string {
  const plural = kindOf(apiVersion.split("/")[0], kind)?.plural ?? `${kind.toLowerCase()}s`;
  const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return metadata.namespace ? `${base}/namespaces/${metadata.namespace}/${plural}` : `${base}/${plural}`;
}

const create = (api: Harness, object: Json) => api.call("POST", pathOf(object), { body: object });

test.before(async (context) => {
  const api = await startHarness();
  const now = Date.now();
  const registry = new Registry();
  const webhook = createWebhookServer(
    createValidator({ registry, log: createLogger({ level: "off" }) }),
    (error) => {
      throw error;
    },
  );
  const { cert, key } = api.certificate({ dns: ["localhost"], ip: ["127.0.0.1"] });
  webhook.setCertificate(cert, key);
  webhook.server.listen(0, "127.0.0.1");
  await once(webhook.server, "listening");
  const { port } = webhook.server.address() as AddressInfo;
  for (const kind of KINDS)
    await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
      body: definitionOf(kind, {}),
    });
  const namespaces = new Set(Object.values(VALID).map((text) => parse(text).metadata.namespace));
  for (const name of [...namespaces, "other"])
    await api.call("POST", "/api/v1/namespaces", { body: { metadata: { name } } });
  const configuration: Json = controlPlane({
    values: { ...DEFAULT_VALUES, webhookFailurePolicy: "Fail" },
    identity: createIdentityCredentials({ namespace: "mesh-system", trustDomain: "cluster.local" }, now),
    webhooks: createAllWebhookCredentials("mesh-system", now),
  }).find(({ kind }) => kind === "ValidatingWebhookConfiguration");
  for (const hook of configuration.webhooks)
    hook.clientConfig = {
      url: `https://127.0.0.1:${port}/`,
      caBundle: Buffer.from(api.ca).toString("base64"),
    };
  assert.is((await api.call("POST", HOOKS, { body: configuration })).status, 201);
  await until(() => KINDS.every((kind) => api.cluster.registry.preferred(kind.group, kind.plural)));
  Object.assign(context, { api, registry, webhook });
});

test.after(async ({ api, webhook }) => {
  webhook.server.close();
  webhook.server.closeAllConnections();
  await api.close();
});

test("every valid object is stored as it was written", async ({ api }) => {
  let count = 0;
  for (const [name, text] of Object.entries(VALID)) {
    count += 1;
    const object = parse(text);
    object.metadata.name = `n${count}.${object.metadata.name}`;
    const { status, body } = await create(api, object);
    assert.is(status, 201, `${name}: ${body.message}`);
  }
});

test("every invalid object is refused with the path of what is wrong", async ({ api }) => {
  for (const { of, set, path, schema } of MISTAKES) {
    const object = changed(parse(VALID[of]!), set);
    object.metadata.name = "wrong";
    const { status, body } = await create(api, object);
    const what = `${of} ${JSON.stringify(set)}: ${body.message}`;
    assert.ok(status === 422 || status === 403, `${status} ${what}`);
    if (!schema) {
      assert.match(body.message, /admission webhook "linkerd-.*" denied the request: /);
      assert.ok(body.message.includes(`${path}: `), what);
    }
  }
});

test("what is strange is stored with a warning", async ({ api }) => {
  for (const [object, says] of [
    [
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { namespace: "other", name: "a", annotations: { "retry.linkerd.io/htpp": "5xx" } },
        spec: { ports: [{ port: 80 }] },
      },
      'metadata.annotations[\\"retry.linkerd.io/htpp\\"]: it is not known and has no effect; did you mean retry.linkerd.io/http?',
    ],
    [
      {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: "strange", annotations: { "config.linkerd.io/opaque-port": "25" } },
      },
      "did you mean config.linkerd.io/opaque-ports?",
    ],
    [
      {
        ...parse(VALID["policy HTTPRoute of a Server"]!),
        metadata: {
          namespace: "other",
          name: "r",
          annotations: { "balancer.linkerd.io/failure-accrual": "consecutive" },
        },
      },
      "it belongs on the Service",
    ],
    [
      {
        ...parse(VALID["ServerAuthorization of networks"]!),
        metadata: { namespace: "other", name: "s" },
        spec: { server: { name: "web" }, client: {} },
      },
      "it authorizes nobody",
    ],
  ] as [Json, string][]) {
    const { status, headers, body } = await create(api, object);
    assert.is(status, 201, body.message);
    assert.ok(String(headers["warning"]).includes(says), String(headers["warning"]));
  }
});

const SERVER = VALID["Server by pod labels and port name"]!;
const review = (api: Context, request: object) => {
  const validator: Review = createValidator({ registry: api.registry, log: createLogger({ level: "off" }) });
  return validator({ uid: "u", kind: { group: "policy.linkerd.io", kind: "Server" }, ...request });
};

test("what was stored before a rule was made can still be relabelled and deleted, but not changed", async (context) => {
  const old = changed(parse(SERVER), { "spec.port": 0 });
  const update = (object: Json) =>
    review(context, { operation: "UPDATE", namespace: "emojivoto", object, oldObject: old });
  const relabelled = await update({ ...old, metadata: { ...old.metadata, labels: { a: "b" } } });
  assert.is(relabelled.allowed, true);
  assert.match(relabelled.warnings![0]!, "spec.port: ");
  const leaving = { ...old, metadata: { ...old.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } };
  assert.equal(await update(leaving), { uid: "u", allowed: true });
  assert.is((await update(changed(old, { "spec.proxyProtocol": "opaque" }))).allowed, false);
});

test("an answer is bounded, however much is wrong", async (context) => {
  const object = parse(VALID["NetworkAuthentication"]!);
  object.spec.networks = Array.from({ length: 1000 }, () => ({ cidr: "x".repeat(5_000) }));
  const { allowed, status } = await review(context, { operation: "CREATE", object });
  assert.is(allowed, false);
  assert.ok(status!.message.length < 6_000, String(status!.message.length));
  assert.match(status!.message, /; and 990 more$/);
});

test("what is not the mesh's, and what cannot be read, passes or is told", async (context) => {
  const other = { apiVersion: "example.com/v1", kind: "Server", metadata: { name: "x" }, spec: 1 };
  assert.equal(await review(context, { operation: "CREATE", object: other }), { uid: "u", allowed: true });
  assert.equal(await review(context, { operation: "DELETE", object: parse(SERVER) }), {
    uid: "u",
    allowed: true,
  });
  for (const spec of [null, 1, "x", [], undefined]) {
    const { allowed } = await review(context, { operation: "CREATE", object: { ...parse(SERVER), spec } });
    assert.is(allowed, false, JSON.stringify(spec));
  }
});

test("answers are counted by kind", async ({ registry }) => {
  const text = registry.expose();
  assert.match(
    text,
    /policy_validator_admission_requests_total\{kind="Server.policy.linkerd.io",operation="CREATE",allowed="false"\} \d+/,
  );
  assert.match(text, /policy_validator_admission_warnings_total\{kind="Service"\} 1/);
});

test.run();
