// List: selection, pages, and the version from which a watch continues.

import type { KubeObject } from "../../cluster.ts";
import { shown } from "../registry.ts";
import type { ResourceDef } from "../resource.ts";
import { type Matcher, parseFieldSelector, parseLabelSelector } from "../selectors.ts";
import { ApiError, badRequest, expired } from "../status.ts";
import { type Exchange, sendJson } from "./exchange.ts";
import { formedList, formOf } from "./table.ts";

/** What a list or watch selects, from its query. */
export function matcherOf(def: ResourceDef, namespace: string | undefined, query: URLSearchParams): Matcher {
  const labels = parseLabelSelector(query.get("labelSelector") ?? undefined);
  const fields = parseFieldSelector(query.get("fieldSelector") ?? undefined, def.collection);
  return (object) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (!labels || labels(object.metadata.labels ?? {})) &&
    (!fields || fields(object));
}

/** The namespace that a request's collection lies in; undefined for all. */
export function namespaceOf(def: ResourceDef, exchange: Exchange): string | undefined {
  return def.namespaced ? exchange.info.resource?.namespace : undefined;
}

/** A requested resource version, or undefined for "any". Throws 400 for nonsense, 504 for the future. */
export function requestedVersion(exchange: Exchange): number | undefined {
  const text = exchange.info.query.get("resourceVersion");
  if (!text || text === "0") return undefined;
  const version = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(version)) {
    throw badRequest(`Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing: invalid syntax`);
  }
  const current = exchange.serving.cluster.registry.store.version;
  if (version > current) {
    throw new ApiError(504, "Timeout", `Too large resource version: ${version}, current: ${current}`, {
      causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
      retryAfterSeconds: 1,
    });
  }
  return version;
}

interface Continue {
  /** Version of the first page. */
  v: number;
  /** Key of the last object sent. */
  k: string;
}

export function list(def: ResourceDef, exchange: Exchange): void {
  const { info, serving, request } = exchange;
  const { query } = info;
  const { registry, clock } = serving.cluster;
  const version = requestedVersion(exchange);
  if (query.get("resourceVersionMatch") === "Exact" && version !== registry.store.version) {
    throw expired("The resourceVersion for the provided list is too old.");
  }
  const namespace = namespaceOf(def, exchange);
  const matches = matcherOf(def, namespace, query);
  const next = decodeContinue(query.get("continue"));
  let found: KubeObject[] = registry.listStored(def.collection, namespace).filter(matches);
  if (next) {
    found = found.filter((object) => position(object) > next.k);
  }
  const limit = Number(query.get("limit") ?? 0);
  const listVersion = next?.v ?? registry.store.version;
  const metadata: Record<string, unknown> = { resourceVersion: String(listVersion) };
  if (limit > 0 && found.length > limit) {
    const last = found[limit - 1] as KubeObject;
    metadata.continue = Buffer.from(JSON.stringify({ v: listVersion, k: position(last) })).toString(
      "base64url",
    );
    if (!query.get("labelSelector") && !query.get("fieldSelector")) {
      metadata.remainingItemCount = found.length - limit;
    }
    found = found.slice(0, limit);
  }
  const form = formOf(request.headers.accept, query.get("includeObject"));
  sendJson(
    exchange,
    200,
    formedList(
      def,
      found.map((object) => shown(def, object)),
      metadata,
      form,
      clock.now(),
    ),
  );
}

/** The order of lists, as one string. */
function position({ metadata: { namespace, name } }: KubeObject): string {
  return namespace ? `${namespace}/${name}` : name;
}

function decodeContinue(token: string | null): Continue | undefined {
  if (!token) return undefined;
  try {
    const { v, k } = JSON.parse(Buffer.from(token, "base64url").toString());
    if (Number.isSafeInteger(v) && typeof k === "string") return { v, k };
  } catch {}
  throw badRequest("continue key is not valid: incorrect encoding");
}
