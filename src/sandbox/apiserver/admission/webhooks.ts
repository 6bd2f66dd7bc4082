// Admission webhooks: which configured hooks a request concerns, calling them over TLS, and applying what they answer.

import { randomUUID } from "node:crypto";
import type { Logger } from "../../../log/logger.ts";
import { errorMessage } from "../../../util/error.ts";
import type { Json, KubeObject } from "../../cluster.ts";
import { jsonPatch } from "../patch/json-patch.ts";
import type { Registry } from "../registry.ts";
import { shown } from "../registry.ts";
import { deepEqual, keyOf, type ResourceDef } from "../resource.ts";
import { selectorMatches } from "../selectors.ts";
import { ApiError, badRequest, internal } from "../status.ts";
import { decodeBundle, postJson, serviceTarget, type Target } from "../upstream.ts";
import type { AdmissionRequest, AdmissionStage } from "./admission.ts";

const MUTATING = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING = "admissionregistration.k8s.io/validatingwebhookconfigurations";
const MAX_ANSWER = 3 * 1024 * 1024;

export function webhooks(registry: Registry, log: Logger): AdmissionStage {
  return {
    async mutate(request) {
      const called: Json[] = [];
      const run = async (hook: Json, again: boolean) => {
        const before = request.object;
        await mutateBy(registry, log, hook, request);
        if (!deepEqual(before, request.object) && !again) {
          // A later change calls earlier hooks again that asked for it, once.
          for (const earlier of called) {
            if (earlier.reinvocationPolicy === "IfNeeded" && concerns(registry, earlier, request)) {
              await run(earlier, true);
            }
          }
        }
      };
      for (const hook of hooksOf(registry, MUTATING)) {
        if (!concerns(registry, hook, request)) continue;
        await run(hook, false);
        called.push(hook);
      }
    },
    async validate(request) {
      const concerned = hooksOf(registry, VALIDATING).filter((hook) => concerns(registry, hook, request));
      await Promise.all(concerned.map((hook) => call(registry, log, hook, request)));
    },
  };
}

/** Configured webhooks in the order of their configurations' names. */
function hooksOf(registry: Registry, collection: string): Json[] {
  if (!registry.store.has(collection)) return [];
  return registry.listStored(collection).flatMap((configuration) => configuration.webhooks ?? []);
}

function concerns(registry: Registry, hook: Json, request: AdmissionRequest): boolean {
  const { def } = request;
  // Webhooks may not lock themselves in: their own configurations are never subject to webhooks.
  if (def.collection === MUTATING || def.collection === VALIDATING) return false;
  if (!(hook.rules ?? []).some((rule: Json) => ruleMatches(rule, request))) return false;
  if (!namespaceMatches(registry, hook.namespaceSelector, request)) return false;
  const labels = (object: KubeObject | undefined) =>
    object !== undefined && selectorMatches(hook.objectSelector ?? {}, object.metadata.labels);
  return labels(request.object) || labels(request.old) || (!request.object && !request.old);
}

function ruleMatches(rule: Json, { operation, def, subresource }: AdmissionRequest): boolean {
  const has = (list: string[] | undefined, value: string) =>
    !!list && (list.includes("*") || list.includes(value));
  if (!has(rule.operations, operation) || !has(rule.apiGroups, def.group)) return false;
  if (!has(rule.apiVersions, def.version)) return false;
  if (rule.scope && rule.scope !== "*" && (rule.scope === "Namespaced") !== def.namespaced) return false;
  return (rule.resources ?? []).some((pattern: string) => {
    const [resource, sub] = pattern.split("/");
    if (resource !== "*" && resource !== def.resource) return false;
    if (pattern === "*/*") return true;
    if (sub === undefined) return subresource === undefined;
    return subresource !== undefined && (sub === "*" || sub === subresource);
  });
}

function namespaceMatches(registry: Registry, selector: Json, request: AdmissionRequest): boolean {
  if (!selector || Object.keys(selector).length === 0) return true;
  const { def, namespace, object, old } = request;
  if (def.collection === "/namespaces") return selectorMatches(selector, (object ?? old)?.metadata.labels);
  if (!def.namespaced || !namespace) return true;
  return selectorMatches(
    selector,
    registry.store.get("/namespaces", keyOf(undefined, namespace))?.metadata.labels,
  );
}

async function mutateBy(
  registry: Registry,
  log: Logger,
  hook: Json,
  request: AdmissionRequest,
): Promise<void> {
  const response = await call(registry, log, hook, request);
  if (!response?.patch || !request.object) return;
  if (response.patchType !== "JSONPatch") {
    throw internal(`webhook ${JSON.stringify(hook.name)} answered with an unknown patch type`);
  }
  const { def } = request;
  try {
    const patch = JSON.parse(Buffer.from(response.patch, "base64").toString());
    const patched = jsonPatch(shown(def, request.object), patch);
    const { name, namespace, uid, resourceVersion } = request.object.metadata;
    Object.assign(patched.metadata, { name, namespace, uid, resourceVersion });
    for (const key of Object.keys(patched.metadata)) {
      if (patched.metadata[key] === undefined) delete patched.metadata[key];
    }
    request.object = def.toStored ? def.toStored(patched) : patched;
  } catch (error) {
    throw internal(`webhook ${JSON.stringify(hook.name)} answered with a bad patch: ${errorMessage(error)}`);
  }
}

/** Asks one webhook. Returns its response when it allows; undefined when it failed and may be ignored. */
async function call(registry: Registry, log: Logger, hook: Json, request: AdmissionRequest): Promise<Json> {
  if (request.dryRun && !["None", "NoneOnDryRun"].includes(hook.sideEffects)) {
    throw badRequest(`admission webhook ${JSON.stringify(hook.name)} does not support dry run`);
  }
  const uid = randomUUID();
  let response: Json;
  try {
    const review = reviewOf(uid, request);
    const answer = await postJson(
      targetOf(registry, hook.clientConfig),
      review,
      (hook.timeoutSeconds ?? 10) * 1000,
      MAX_ANSWER,
    );
    response = answer?.response;
    if (
      answer?.kind !== "AdmissionReview" ||
      response?.uid !== uid ||
      typeof response.allowed !== "boolean"
    ) {
      throw new Error("the answer is not an AdmissionReview for this request");
    }
  } catch (error) {
    const why = errorMessage(error);
    log.warn("admission webhook failed", { webhook: hook.name, error: why });
    if (hook.failurePolicy === "Ignore") return undefined;
    throw internal(`failed calling webhook ${JSON.stringify(hook.name)}: failed to call webhook: ${why}`);
  }
  for (const warning of response.warnings ?? []) request.warnings.push(String(warning));
  if (!response.allowed) throw denied(hook.name, response.status);
  return response;
}

function denied(name: string, status: Json): ApiError {
  const why = status?.message || status?.reason;
  const code = status?.code >= 400 && status.code < 600 ? status.code : 403;
  return new ApiError(
    code,
    status?.reason || (code === 403 ? "Forbidden" : ""),
    `admission webhook ${JSON.stringify(name)} denied the request${why ? `: ${why}` : " without explanation"}`,
    status?.details,
  );
}

function targetOf(registry: Registry, config: Json): Target {
  if (config.service) return serviceTarget(registry.store, config.service, config.caBundle);
  const url = new URL(config.url);
  if (url.protocol !== "https:") throw new Error("the url of a webhook must be https");
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port || 443),
    path: url.pathname + url.search,
    servername: url.hostname,
    ca: decodeBundle(config.caBundle),
  };
}

function reviewOf(uid: string, request: AdmissionRequest): Json {
  const { def, subresource, namespace, name, operation, object, old, user, dryRun } = request;
  const kind = { group: def.group, version: def.version, kind: def.kind };
  const resource = { group: def.group, version: def.version, resource: def.resource };
  const requestedKind =
    subresource === "scale" ? { group: "autoscaling", version: "v1", kind: "Scale" } : kind;
  return {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid,
      kind: requestedKind,
      resource,
      ...(subresource ? { subResource: subresource, requestSubResource: subresource } : {}),
      requestKind: requestedKind,
      requestResource: resource,
      name,
      ...(namespace ? { namespace } : {}),
      operation,
      userInfo: { username: user.name, uid: user.uid ?? "", groups: user.groups, extra: user.extra },
      object: asShown(def, object),
      oldObject: asShown(def, old),
      dryRun,
      options: request.options ?? optionsOf(operation),
    },
  };
}

const asShown = (def: ResourceDef, object: KubeObject | undefined) => (object ? shown(def, object) : null);

function optionsOf(operation: AdmissionRequest["operation"]): Json {
  if (operation === "CONNECT") return null;
  const kind = { CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions" }[operation];
  return { kind, apiVersion: "meta.k8s.io/v1" };
}
