// What a request is about, read from its method and URL.

import type { IncomingMessage } from "node:http";
import type { Attributes } from "../auth/rbac.ts";
import { singleName } from "../selectors.ts";

export interface RequestInfo {
  path: string;
  query: URLSearchParams;
  /** Kubernetes' verb: get, list, watch, create, update, patch, delete, deletecollection; the method otherwise. */
  verb: string;
  /** Absent: a path that is no resource (discovery, health …). */
  resource?: {
    group: string;
    version: string;
    resource: string;
    namespace: string | undefined;
    name: string | undefined;
    subresource: string | undefined;
    /** What follows the subresource: the path behind …/proxy/. */
    rest: string;
  };
}

export function requestInfo(request: IncomingMessage): RequestInfo {
  const url = new URL(request.url ?? "/", "https://kubernetes");
  const path = url.pathname;
  const query = url.searchParams;
  const parts = path.split("/").slice(1).map(decode);
  const core = parts[0] === "api";
  if (!core && parts[0] !== "apis") return { path, query, verb: (request.method ?? "GET").toLowerCase() };
  const [group, version, ...rest] = core ? ["", ...parts.slice(1)] : parts.slice(1);
  if (version === undefined || rest.length === 0 || rest[0] === "") {
    return { path, query, verb: (request.method ?? "GET").toLowerCase() };
  }
  let watchPath = false;
  if (rest[0] === "watch") {
    rest.shift();
    watchPath = true;
  }
  let namespace: string | undefined;
  if (rest[0] === "namespaces" && rest.length > 2 && !NAMESPACE_SUBRESOURCES.has(rest[2] as string)) {
    namespace = rest[1];
    rest.splice(0, 2);
  }
  const [resource = "", name, subresource, ...tail] = rest;
  // A Namespace's own requests are authorized within it, as Kubernetes does.
  if (resource === "namespaces" && group === "" && name) namespace = name;
  return {
    path,
    query,
    verb: verbOf(request.method ?? "GET", name, query, watchPath),
    resource: {
      group: group as string,
      version,
      resource,
      namespace,
      name: name || undefined,
      subresource: subresource || undefined,
      rest: tail.join("/"),
    },
  };
}

const NAMESPACE_SUBRESOURCES = new Set(["status", "finalize"]);

function verbOf(
  method: string,
  name: string | undefined,
  query: URLSearchParams,
  watchPath: boolean,
): string {
  switch (method) {
    case "GET":
    case "HEAD":
      if (watchPath || isTrue(query.get("watch"))) return "watch";
      return name ? "get" : "list";
    case "POST":
      return "create";
    case "PUT":
      return "update";
    case "PATCH":
      return "patch";
    case "DELETE":
      return name ? "delete" : "deletecollection";
    default:
      return method.toLowerCase();
  }
}

export function isTrue(text: string | null): boolean {
  return text === "true" || text === "1" || text === "t" || text === "True";
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** What authorization decides on. */
export function attributesOf(info: RequestInfo): Attributes {
  if (!info.resource) return { verb: info.verb, path: info.path };
  const { group, version, resource, namespace, subresource } = info.resource;
  let { name } = info.resource;
  if (!name && (info.verb === "list" || info.verb === "watch" || info.verb === "deletecollection")) {
    name = singleName(info.query.get("fieldSelector") ?? undefined);
  }
  return { verb: info.verb, group, version, resource, subresource, namespace, name };
}
