// From an authenticated, authorized request to its handler.

import type { ResourceDef, Verb } from "../resource.ts";
import { methodNotAllowed, noSuchPath } from "../status.ts";
import type { Aggregator } from "./aggregation.ts";
import type { Exchange } from "./exchange.ts";
import { list } from "./list.ts";
import { serveLog } from "./log.ts";
import { servePath } from "./paths.ts";
import { bind, evict } from "./pods.ts";
import { serveProxy } from "./proxy.ts";
import { create, get, patch, remove, removeAll, update } from "./resources.ts";
import { review, tokenRequest } from "./reviews.ts";
import { watch } from "./watch.ts";

const REVIEW_GROUPS = new Set(["authentication.k8s.io", "authorization.k8s.io"]);

export async function route(exchange: Exchange, aggregator: Aggregator): Promise<void> {
  const { info, serving } = exchange;
  if (aggregator.claims(info)) return aggregator.forward(exchange);
  if (!info.resource) return servePath(exchange, aggregator.groups());
  const { group, version, resource, subresource } = info.resource;
  const def = serving.cluster.registry.find(group, version, resource);
  if (!def) throw noSuchPath();
  if (subresource) return routeSubresource(def, subresource, exchange);
  if (REVIEW_GROUPS.has(group)) {
    if (info.verb !== "create") throw methodNotAllowed();
    return review(def, exchange);
  }
  if (def.collection === "/bindings") {
    return bind(serving.cluster.registry.find("", "v1", "pods") as ResourceDef, exchange);
  }
  if (!def.verbs.includes(info.verb as Verb)) throw methodNotAllowed();
  if (def.namespaced && !info.resource.namespace && info.resource.name) throw noSuchPath();
  switch (info.verb) {
    case "get":
      return get(def, exchange);
    case "list":
      return list(def, exchange);
    case "watch":
      return watch(def, exchange);
    case "create":
      return create(def, exchange);
    case "update":
      return update(def, exchange, undefined);
    case "patch":
      return patch(def, exchange, undefined);
    case "delete":
      return remove(def, exchange);
    case "deletecollection":
      return removeAll(def, exchange);
    default:
      throw methodNotAllowed();
  }
}

async function routeSubresource(def: ResourceDef, name: string, exchange: Exchange): Promise<void> {
  const { verb } = exchange.info;
  const writable = name === "status" ? def.status : name === "scale" ? def.scale !== undefined : false;
  const extra = def.extras.find((candidate) => candidate.name === name);
  if (!writable && !extra) throw noSuchPath();
  if (writable || name === "ephemeralcontainers" || name === "finalize") {
    const subresource = name as "status" | "scale" | "ephemeralcontainers" | "finalize";
    if (verb === "get") return get(def, exchange, name);
    if (verb === "update") return update(def, exchange, subresource);
    if (verb === "patch") return patch(def, exchange, subresource);
    throw methodNotAllowed();
  }
  if (name === "proxy") return serveProxy(def, exchange);
  if (name === "log" && verb === "get") return serveLog(exchange);
  if (verb !== "create") throw methodNotAllowed();
  if (name === "token") return tokenRequest(exchange);
  if (name === "binding") return bind(def, exchange);
  if (name === "eviction") return evict(def, exchange);
  // exec, attach and portforward arrive as upgrades.
  throw methodNotAllowed();
}
