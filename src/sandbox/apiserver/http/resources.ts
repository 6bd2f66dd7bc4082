// The verbs on stored objects: get, create, update, patch, delete, deletecollection, on the object itself or on its
// status, finalize and scale.

import type { DeleteOptions, Json, KubeObject } from "../../cluster.ts";
import { applied } from "../apply/apply.ts";
import { unknownFields } from "../kinds/known-fields.ts";
import { jsonPatch, mergePatch } from "../patch/json-patch.ts";
import { strategicMergePatch } from "../patch/strategic.ts";
import { shown } from "../registry.ts";
import { apiVersionOf, keyOf, type ResourceDef } from "../resource.ts";
import { ApiError, badRequest, invalid, unsupportedMedia } from "../status.ts";
import type { ChangeOptions, WriteOptions } from "../writer.ts";
import { json, mediaType, readBody, readObject, yaml } from "./body.ts";
import { type Exchange, sendJson } from "./exchange.ts";
import { matcherOf, namespaceOf } from "./list.ts";
import { scaleOf, withScale } from "./scale.ts";
import { formed, formOf } from "./table.ts";

export function writeOptions({ info, user, request, warnings }: Exchange): WriteOptions {
  const dryRun = info.query.getAll("dryRun");
  if (dryRun.some((value) => value !== "All" && value !== "")) {
    throw badRequest(
      `Invalid value: dryRun: Unsupported value: ${JSON.stringify(dryRun[0])}: supported values: "All"`,
    );
  }
  const agent = (request.headers["user-agent"] ?? "unknown").split("/")[0]?.slice(0, 128) || "unknown";
  return {
    user,
    dryRun: dryRun.includes("All"),
    manager: info.query.get("fieldManager") || agent,
    warnings,
  };
}

function send(def: ResourceDef, exchange: Exchange, object: KubeObject, status = 200): void {
  const { request, info, serving } = exchange;
  const form = formOf(request.headers.accept, info.query.get("includeObject"));
  sendJson(exchange, status, formed(def, object, form, serving.cluster.clock.now()));
}

export function get(def: ResourceDef, exchange: Exchange, subresource?: string): void {
  const { name } = exchange.info.resource as { name: string };
  const object = exchange.serving.cluster.registry.get(def, namespaceOf(def, exchange), name);
  if (subresource === "scale") sendJson(exchange, 200, scaleOf(def, object));
  else send(def, exchange, object);
}

export async function create(def: ResourceDef, exchange: Exchange): Promise<void> {
  const body = expectKind(def, await readObject(exchange.request));
  const namespace = namespaceOf(def, exchange);
  if (def.namespaced && !namespace) {
    throw badRequest("an empty namespace may not be set during creation");
  }
  checkFields(def, exchange, body);
  const { writer } = exchange.serving.cluster;
  send(def, exchange, await writer.create(def, namespace, body, writeOptions(exchange)), 201);
}

type Subresource = ChangeOptions["subresource"];

export async function update(def: ResourceDef, exchange: Exchange, subresource: Subresource): Promise<void> {
  const { writer } = exchange.serving.cluster;
  const { name } = exchange.info.resource as { name: string };
  const body = await readObject(exchange.request);
  const namespace = namespaceOf(def, exchange);
  const options = writeOptions(exchange);
  if (subresource === "scale") {
    const result = await writer.change(
      def,
      namespace,
      name,
      (current) => withScale(def, current, body),
      options,
    );
    sendJson(exchange, 200, scaleOf(def, result));
    return;
  }
  expectKind(def, body);
  if (!subresource) checkFields(def, exchange, body);
  if (body.metadata?.name === undefined) throw badRequest("name must be provided");
  const result = await writer.change(def, namespace, name, () => structuredClone(body), {
    ...options,
    subresource,
  });
  send(def, exchange, result);
}

export async function patch(def: ResourceDef, exchange: Exchange, subresource: Subresource): Promise<void> {
  const { writer } = exchange.serving.cluster;
  const { name } = exchange.info.resource as { name: string };
  const namespace = namespaceOf(def, exchange);
  const type = mediaType(exchange.request);
  const bytes = await readBody(exchange.request);
  const options = writeOptions(exchange);
  if (type === "application/apply-patch+yaml" || type === "application/apply-patch+json") {
    await apply(def, exchange, yaml(bytes), subresource);
    return;
  }
  const change = patchFunction(def, type, json(bytes));
  if (subresource === "scale") {
    const result = await writer.change(
      def,
      namespace,
      name,
      (current) => withScale(def, current, change(scaleOf(def, current))),
      options,
    );
    sendJson(exchange, 200, scaleOf(def, result));
    return;
  }
  const result = await writer.change(
    def,
    namespace,
    name,
    (current) => {
      const next = expectKind(def, change(current));
      checkFields(def, exchange, next);
      // A patch that does not speak of the version is meant for whatever is there.
      if (next.metadata?.resourceVersion === current.metadata.resourceVersion)
        delete next.metadata.resourceVersion;
      return next;
    },
    { ...options, subresource },
  );
  send(def, exchange, result);
}

function patchFunction(def: ResourceDef, type: string, body: Json): (current: Json) => Json {
  switch (type) {
    case "application/json-patch+json":
      return (current) => jsonPatch(current, body);
    case "application/merge-patch+json":
      return (current) => mergePatch(current, body);
    case "application/strategic-merge-patch+json":
      if (def.custom) break;
      return (current) => strategicMergePatch(current, body, def.topology);
  }
  throw unsupportedMedia(
    `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml`,
  );
}

async function apply(
  def: ResourceDef,
  exchange: Exchange,
  body: Json,
  subresource: Subresource,
): Promise<void> {
  const { cluster } = exchange.serving;
  const { query, resource } = exchange.info;
  const { name } = resource as { name: string };
  const namespace = namespaceOf(def, exchange);
  const manager = query.get("fieldManager");
  if (!manager) {
    throw invalid("meta.k8s.io", "PatchOptions", "", [
      {
        field: "fieldManager",
        reason: "FieldValueRequired",
        message: "Required value: is required for apply patch",
      },
    ]);
  }
  if (typeof body !== "object" || body === null || !body.apiVersion || !body.kind) {
    throw badRequest("the applied object must name its apiVersion and kind");
  }
  expectKind(def, body);
  checkFields(def, exchange, body);
  body.metadata ??= {};
  if (body.metadata.name !== undefined && body.metadata.name !== name) {
    throw badRequest(
      `the name of the object (${body.metadata.name}) does not match the name on the URL (${name})`,
    );
  }
  body.metadata.name = name;
  if (def.namespaced) body.metadata.namespace ??= namespace;
  const force = query.get("force") === "true";
  const options = { ...writeOptions(exchange), manager };
  const applyOptions = { manager, force, subresource: subresource ?? "", now: cluster.clock.now() };
  const exists = () => cluster.registry.store.get(def.collection, keyOf(namespace, name)) !== undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      if (!exists() && !subresource) {
        const fresh = applied(def, undefined, body, applyOptions);
        const { managedFields } = fresh.metadata;
        send(
          def,
          exchange,
          await cluster.writer.create(def, namespace, fresh, { ...options, managedFields }),
          201,
        );
        return;
      }
      const result = await cluster.writer.change(
        def,
        namespace,
        name,
        (current) => {
          const next = applied(def, current, body, applyOptions);
          if (body.metadata.resourceVersion === undefined) delete next.metadata.resourceVersion;
          return next;
        },
        { ...options, subresource, owned: true },
      );
      send(def, exchange, result);
      return;
    } catch (error) {
      // Created or deleted by someone else between the look and the write.
      const raced =
        error instanceof ApiError && ["AlreadyExists", "NotFound"].includes(error.reason) && !subresource;
      if (!raced || attempt > 2 || (error.reason === "NotFound" && error.details?.name !== name)) throw error;
    }
  }
}

export async function remove(def: ResourceDef, exchange: Exchange): Promise<void> {
  const { name } = exchange.info.resource as { name: string };
  const { deletion, dryRun } = await deleteOptions(exchange);
  const options = writeOptions(exchange);
  const { object, gone } = await exchange.serving.cluster.deleter.delete(
    def,
    namespaceOf(def, exchange),
    name,
    deletion,
    { ...options, dryRun: options.dryRun || dryRun },
  );
  if (!gone) {
    send(def, exchange, object);
    return;
  }
  sendJson(exchange, 200, {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Success",
    details: {
      name,
      ...(def.group ? { group: def.group } : {}),
      kind: def.resource,
      uid: object.metadata.uid,
    },
  });
}

export async function removeAll(def: ResourceDef, exchange: Exchange): Promise<void> {
  const { registry, deleter } = exchange.serving.cluster;
  const { deletion, dryRun } = await deleteOptions(exchange);
  const options = writeOptions(exchange);
  const namespace = namespaceOf(def, exchange);
  const matches = matcherOf(def, namespace, exchange.info.query);
  const items: KubeObject[] = [];
  for (const found of registry.listStored(def.collection, namespace).filter(matches)) {
    const { namespace: home, name } = found.metadata;
    try {
      const removal = { ...options, dryRun: options.dryRun || dryRun };
      items.push((await deleter.delete(def, home, name, deletion, removal)).object);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
  sendJson(exchange, 200, {
    kind: `${def.kind}List`,
    apiVersion: apiVersionOf(def),
    metadata: { resourceVersion: String(registry.store.version) },
    items: items.map((object) => shown(def, object)),
  });
}

/** From the body (DeleteOptions) or, without one, from the query. */
async function deleteOptions(exchange: Exchange): Promise<{ deletion: DeleteOptions; dryRun: boolean }> {
  const { query } = exchange.info;
  const body = (await readObject(exchange.request)) ?? {
    propagationPolicy: query.get("propagationPolicy") ?? undefined,
    gracePeriodSeconds: query.has("gracePeriodSeconds") ? Number(query.get("gracePeriodSeconds")) : undefined,
    orphanDependents: query.has("orphanDependents") ? query.get("orphanDependents") === "true" : undefined,
  };
  const { propagationPolicy, orphanDependents, gracePeriodSeconds, preconditions, dryRun } = body;
  const policies = ["Background", "Foreground", "Orphan"];
  if (propagationPolicy && !policies.includes(propagationPolicy)) {
    throw badRequest(`propagationPolicy: Unsupported value: ${JSON.stringify(propagationPolicy)}`);
  }
  const legacy = orphanDependents === undefined ? undefined : orphanDependents ? "Orphan" : "Background";
  return {
    deletion: {
      propagationPolicy: propagationPolicy ?? legacy,
      gracePeriodSeconds: Number.isInteger(gracePeriodSeconds) ? gracePeriodSeconds : undefined,
      uid: preconditions?.uid,
      resourceVersion: preconditions?.resourceVersion,
    },
    dryRun: (dryRun ?? []).includes("All"),
  };
}

/** The body, if it is of the kind that this URL is for. */
function expectKind(def: ResourceDef, body: Json): Json {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw badRequest("the body of the request must be an object");
  }
  const apiVersion = apiVersionOf(def);
  if (body.kind !== undefined && body.kind !== def.kind) {
    throw badRequest(
      `the object provided is unrecognized: ${body.kind} in version ${JSON.stringify(body.apiVersion)} cannot be handled as a ${def.kind}`,
    );
  }
  if (body.apiVersion !== undefined && body.apiVersion !== apiVersion) {
    throw badRequest(
      `the API version in the data (${body.apiVersion}) does not match the expected API version (${apiVersion})`,
    );
  }
  return body;
}

/** Fields that the kind does not know: an error or a warning, as the client asked with fieldValidation. */
function checkFields(def: ResourceDef, exchange: Exchange, body: Json): void {
  const wanted = exchange.info.query.get("fieldValidation");
  if (!wanted || wanted === "Ignore") return;
  const paths = def.prune ? def.prune(structuredClone(body)) : unknownFields(def.group, def.kind, body);
  const dropped = paths.map((path) => `unknown field ${JSON.stringify(path)}`);
  if (dropped.length === 0) return;
  if (wanted === "Strict") {
    throw badRequest(
      `${def.kind} in version ${JSON.stringify(def.version)} cannot be handled as a ${def.kind}: strict decoding error: ${dropped.join(", ")}`,
    );
  }
  exchange.warnings.push(...dropped);
}
