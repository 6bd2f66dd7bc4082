// What extends the API: custom kinds, admission webhooks, aggregated servers.

import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Json } from "../../../src/sandbox/cluster.ts";
import { until } from "../../support/until.ts";
import { type Harness, startHarness } from "./harness.ts";

const test = suite<{ api: Harness; hook: Server }>("extensions");
let answer: (request: Json) => Json = () => ({ allowed: true });

test.before(async (context) => {
  const api = await startHarness();
  context.api = api;
  context.hook = createServer(
    api.certificate({ dns: ["localhost"], ip: ["127.0.0.1"] }),
    async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      response.setHeader("content-type", "application/json");
      if (request.method === "GET") {
        response.end(JSON.stringify({ kind: "APIResourceList", user: request.headers["x-remote-user"] }));
        return;
      }
      const review = JSON.parse(text);
      response.end(
        JSON.stringify({
          apiVersion: "admission.k8s.io/v1",
          kind: "AdmissionReview",
          response: { uid: review.request.uid, ...answer(review.request) },
        }),
      );
    },
  );
  await new Promise<void>((resolve) => context.hook.listen(0, "127.0.0.1", resolve));
});
test.after(async ({ api, hook }) => {
  await api.close();
  await new Promise((resolve) => hook.close(resolve));
});

const crd = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "widgets.example.com" },
  spec: {
    group: "example.com",
    scope: "Namespaced",
    names: { plural: "widgets", kind: "Widget", shortNames: ["wd"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: [{ name: "Size", type: "integer", jsonPath: ".spec.size" }],
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: {
              spec: {
                type: "object",
                required: ["size"],
                properties: {
                  size: { type: "integer", minimum: 1 },
                  color: { type: "string", default: "red", enum: ["red", "blue"] },
                  port: { "x-kubernetes-int-or-string": true },
                },
              },
              status: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
            },
          },
        },
      },
      {
        name: "v1beta1",
        served: true,
        storage: false,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};
const WIDGETS = "/apis/example.com/v1/namespaces/default/widgets";

test("a custom kind is served at once: defaults, pruning, validation, versions, columns", async ({ api }) => {
  const { body } = await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
    body: crd,
  });
  assert.equal(
    body.status.conditions.map((c: Json) => `${c.type}=${c.status}`),
    ["NamesAccepted=True", "Established=True"],
  );
  const created = await api.call("POST", WIDGETS, {
    body: { metadata: { name: "w" }, spec: { size: 2, unknown: 1, port: "http" } },
  });
  assert.equal(created.body.spec, { size: 2, port: "http", color: "red" });
  const invalid = await api.call("POST", WIDGETS, {
    body: { metadata: { name: "x" }, spec: { size: 0, color: "green" } },
  });
  assert.is(invalid.status, 422);
  assert.match(invalid.body.message, /spec\.size in body should be greater than or equal to 1/);
  assert.match(invalid.body.message, /Unsupported value: "green": supported values: "red", "blue"/);
  const strict = await api.call("POST", `${WIDGETS}?fieldValidation=Strict`, {
    body: { metadata: { name: "y" }, spec: { size: 1, typo: true } },
  });
  assert.match(strict.body.message, /strict decoding error: unknown field "spec.typo"/);
  const old = await api.call("GET", "/apis/example.com/v1beta1/namespaces/default/widgets/w");
  assert.is(old.body.apiVersion, "example.com/v1beta1");
  const table = await api.call("GET", WIDGETS, {
    headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
  });
  assert.equal(table.body.rows[0].cells, ["w", 2]);
  const discovery = await api.call("GET", "/apis/example.com/v1");
  assert.equal(discovery.body.resources[0].shortNames, ["wd"]);
  const smp = await api.call("PATCH", `${WIDGETS}/w`, {
    body: {},
    headers: { "content-type": "application/strategic-merge-patch+json" },
  });
  assert.is(smp.status, 415);
});

test("a definition whose schema is not structural is refused", async ({ api }) => {
  const spec = (properties: Json, more: Json = {}) => ({ spec: { type: "object", properties, ...more } });
  for (const [properties, says] of [
    [{ spec: {} }, "properties[spec].type: Required value: must not be empty for specified object fields"],
    [spec({ a: { type: "text" } }), 'properties[spec].properties[a].type: Invalid value: "text"'],
    [spec({ a: { type: "array" } }), "properties[a].items: Required value: must be specified"],
    [spec({ a: { type: "integer", "x-kubernetes-int-or-string": true } }), "properties[a].type: Forbidden"],
    [spec({ a: { type: "integer", default: "one" } }), "properties[a].default: Invalid value"],
    [spec({ a: { type: "object", properties: {}, default: { b: 1 } } }), "must not have unknown fields: b"],
    [spec({}, { oneOf: [{ properties: { b: {} } }] }), "oneOf[0].properties[b]: Required value"],
    [
      spec({ a: { type: "string" } }, { anyOf: [{ properties: { a: { type: "string" } } }] }),
      "anyOf[0].properties[a].type: Forbidden",
    ],
    [spec({}, { additionalProperties: true }), "additionalProperties: Forbidden"],
    [
      spec({
        a: {
          type: "array",
          items: { type: "object", properties: { k: { type: "string" } } },
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["k"],
        },
      }),
      "properties[k].default: Required value",
    ],
  ] as [Json, string][]) {
    const wrong = structuredClone(crd) as Json;
    wrong.metadata.name = "wrongs.example.com";
    wrong.spec.names = { plural: "wrongs", kind: "Wrong" };
    wrong.spec.versions[0].schema.openAPIV3Schema.properties = properties;
    const { status, body } = await api.call(
      "POST",
      "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
      { body: wrong },
    );
    assert.is(status, 422, says);
    assert.ok(body.message.includes(says), `${says}\n${body.message}`);
  }
});

test("a definition takes its objects with it, after their finalizers", async ({ api }) => {
  const { cluster } = api;
  const ref = { group: "example.com", resource: "widgets", namespace: "default", name: "held" };
  await api.call("POST", WIDGETS, {
    body: { metadata: { name: "held", finalizers: ["example.com/hold"] }, spec: { size: 1 } },
  });
  const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
  await api.call("DELETE", path);
  await until(() => cluster.get(ref)?.metadata.deletionTimestamp !== undefined);
  assert.is((await api.call("GET", path)).status, 200);
  await cluster.modify(ref, (held) => ({ ...held, metadata: { ...held.metadata, finalizers: [] } }));
  await until(() => cluster.list("apiextensions.k8s.io", "customresourcedefinitions").length === 0);
  assert.is((await api.call("GET", WIDGETS)).status, 404);
});

const configuration = (kind: string, port: number, ca: string, more: Json = {}) => ({
  apiVersion: "admissionregistration.k8s.io/v1",
  kind,
  metadata: { name: "hook" },
  webhooks: [
    {
      name: "hook.example.com",
      clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(ca).toString("base64") },
      rules: [{ operations: ["CREATE"], apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"] }],
      sideEffects: "None",
      admissionReviewVersions: ["v1"],
      namespaceSelector: { matchLabels: { hooked: "yes" } },
      ...more,
    },
  ],
});
const HOOKS = "/apis/admissionregistration.k8s.io/v1";
const MAPS = "/api/v1/namespaces/hooked/configmaps";

test("webhooks change and refuse what they are asked about, and nothing else", async ({ api, hook }) => {
  const { port } = hook.address() as AddressInfo;
  await api.call("POST", "/api/v1/namespaces", {
    body: { metadata: { name: "hooked", labels: { hooked: "yes" } } },
  });
  const mutating = configuration("MutatingWebhookConfiguration", port, api.ca);
  await api.call("POST", `${HOOKS}/mutatingwebhookconfigurations`, { body: mutating });
  const patch = [{ op: "add", path: "/data", value: { by: "hook" } }];
  answer = () => ({
    allowed: true,
    patchType: "JSONPatch",
    patch: Buffer.from(JSON.stringify(patch)).toString("base64"),
    warnings: ["mind the hook"],
  });
  const changed = await api.call("POST", MAPS, { body: { metadata: { name: "a" } } });
  assert.equal(changed.body.data, { by: "hook" });
  assert.match(String(changed.headers.warning), /mind the hook/);
  const elsewhere = await api.call("POST", "/api/v1/namespaces/default/configmaps", {
    body: { metadata: { name: "a" } },
  });
  assert.is(elsewhere.body.data, undefined);
  answer = () => ({ allowed: false, status: { message: "not today" } });
  const refused = await api.call("POST", MAPS, { body: { metadata: { name: "b" } } });
  assert.is(refused.status, 403);
  assert.is(refused.body.message, 'admission webhook "hook.example.com" denied the request: not today');
  const viaCluster = await api.cluster.create("", "configmaps", "hooked", { metadata: { name: "c" } }).then(
    () => "created",
    (error: Error) => error.message,
  );
  assert.match(viaCluster, /denied the request/);
  await api.call("DELETE", `${HOOKS}/mutatingwebhookconfigurations/hook`);
});

test("an unreachable webhook fails or is ignored, by its policy", async ({ api }) => {
  const broken = configuration("ValidatingWebhookConfiguration", 1, api.ca);
  await api.call("POST", `${HOOKS}/validatingwebhookconfigurations`, { body: broken });
  const failed = await api.call("POST", MAPS, { body: { metadata: { name: "d" } } });
  assert.is(failed.status, 500);
  assert.match(failed.body.message, /failed calling webhook "hook.example.com"/);
  await api.call("DELETE", `${HOOKS}/validatingwebhookconfigurations/hook`);
  await api.call("POST", `${HOOKS}/validatingwebhookconfigurations`, {
    body: configuration("ValidatingWebhookConfiguration", 1, api.ca, { failurePolicy: "Ignore" }),
  });
  assert.is((await api.call("POST", MAPS, { body: { metadata: { name: "d" } } })).status, 201);
  await api.call("DELETE", `${HOOKS}/validatingwebhookconfigurations/hook`);
});

test("an aggregated group is passed to its Service with the user's name", async ({ api, hook }) => {
  const { port } = hook.address() as AddressInfo;
  const { cluster } = api;
  // The loopback address stands in for a pod: a headless Service is dialled at its endpoint.
  await cluster.create("", "services", "default", {
    metadata: { name: "extra" },
    spec: { clusterIP: "None", ports: [{ port: 443 }] },
  });
  await cluster.create("discovery.k8s.io", "endpointslices", "default", {
    metadata: { name: "extra", labels: { "kubernetes.io/service-name": "extra" } },
    addressType: "IPv4",
    ports: [{ port }],
    endpoints: [{ addresses: ["127.0.0.1"], conditions: { ready: true } }],
  });
  await api.call("POST", "/apis/apiregistration.k8s.io/v1/apiservices", {
    body: {
      metadata: { name: "v1.extra.example.com" },
      spec: {
        group: "extra.example.com",
        version: "v1",
        insecureSkipTLSVerify: true,
        groupPriorityMinimum: 1,
        versionPriority: 1,
        service: { namespace: "default", name: "extra" },
      },
    },
  });
  const { body } = await api.call("GET", "/apis/extra.example.com/v1");
  assert.is(body.user, "admin");
  const ref = { group: "apiregistration.k8s.io", resource: "apiservices", name: "v1.extra.example.com" };
  const available = () => cluster.get(ref)?.status?.conditions?.[0]?.status;
  const deadline = Date.now() + 10_000;
  while (available() !== "True" && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(available(), "True");
  const groups = (await api.call("GET", "/apis")).body.groups.map((group: Json) => group.name);
  assert.ok(groups.includes("extra.example.com"));
});

test.run();
