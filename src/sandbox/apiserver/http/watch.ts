// Watch: the changes of a selection as a stream of JSON lines, resumable from a version that is still remembered.

import type { Json, KubeObject } from "../../cluster.ts";
import type { Change } from "../../store/store.ts";
import { shown, visible } from "../registry.ts";
import { apiVersionOf, type ResourceDef } from "../resource.ts";
import { expired, statusObject } from "../status.ts";
import type { Exchange } from "./exchange.ts";
import { matcherOf, namespaceOf, requestedVersion } from "./list.ts";
import { isTrue } from "./request.ts";
import { formed, formOf } from "./table.ts";

/** A client that lets this much wait unread is cut off; it can resume. */
const MAX_QUEUED = 16 * 1024 * 1024;
const BOOKMARK_EVERY = 60_000;
/** Watches without timeoutSeconds end after this long plus up to as much again, so that clients spread. */
const DEFAULT_TIMEOUT = 30 * 60_000;

export function watch(def: ResourceDef, exchange: Exchange): void {
  const { info, serving, request, response } = exchange;
  const { query } = info;
  const { registry, clock } = serving.cluster;
  const { store } = registry;
  const namespace = namespaceOf(def, exchange);
  let matches = matcherOf(def, namespace, query);
  const named = info.resource?.name;
  if (named) {
    const inner = matches;
    matches = (object) => object.metadata.name === named && inner(object);
  }
  const form = formOf(request.headers.accept, query.get("includeObject"));
  const version = requestedVersion(exchange);
  const bookmarks = isTrue(query.get("allowWatchBookmarks"));
  const initial = query.get("sendInitialEvents");

  response.writeHead(200, {
    "content-type": "application/json",
    "cache-control": "no-cache, private",
    "transfer-encoding": "chunked",
  });
  response.flushHeaders();

  let first = true;
  const write = (type: string, object: Json) => {
    response.write(`${JSON.stringify({ type, object })}\n`);
    if (response.writableLength > MAX_QUEUED) response.destroy();
  };
  const send = (type: string, object: KubeObject) => {
    write(type, formed(def, shown(def, object), form, clock.now(), first));
    first = false;
  };
  const bookmark = (annotations?: Record<string, string>) => {
    const metadata = { resourceVersion: String(store.version), ...(annotations ? { annotations } : {}) };
    const object = { kind: def.kind, apiVersion: apiVersionOf(def), metadata } as unknown as KubeObject;
    if (form.kind === "table") {
      write("BOOKMARK", {
        kind: "Table",
        apiVersion: `meta.k8s.io/${form.version}`,
        metadata: { resourceVersion: metadata.resourceVersion },
        columnDefinitions: null,
        rows: [],
      });
    } else write("BOOKMARK", form.kind === "metadata" ? formed(def, object, form, clock.now()) : object);
  };
  const deliver = (change: Change) => {
    if (change.collection !== def.collection) return;
    const event = visible(change, matches);
    if (event) send(event.type, event.object);
  };

  const replay = initial === null ? version === undefined : isTrue(initial);
  if (replay) {
    for (const object of registry.listStored(def.collection, namespace)) {
      if (matches(object)) send("ADDED", object);
    }
    if (isTrue(initial) && bookmarks) bookmark({ "k8s.io/initial-events-end": "true" });
  } else if (version !== undefined) {
    const missed = store.since(def.collection, version);
    if (!missed) {
      write("ERROR", statusObject(expired(`too old resource version: ${version} (${store.version})`)));
      response.end();
      return;
    }
    for (const change of missed) deliver(change);
  }

  const stop = store.listen(deliver);
  // A CRD that goes takes its watches with it.
  const withdrawn = () => {
    if (def.custom && !registry.find(def.group, def.version, def.resource)) end();
  };
  const stopServed = registry.onChange(withdrawn);
  const seconds = Number(query.get("timeoutSeconds") ?? 0);
  const timeout = clock.after(seconds > 0 ? seconds * 1000 : DEFAULT_TIMEOUT * (1 + clock.random()), () =>
    end(),
  );
  let ticker = bookmarks ? clock.after(BOOKMARK_EVERY, tick) : undefined;
  function tick() {
    bookmark();
    ticker = clock.after(BOOKMARK_EVERY, tick);
  }
  const end = () => response.end();
  const cleanUp = () => {
    stop();
    stopServed();
    clock.clear(timeout);
    clock.clear(ticker);
    serving.closing.removeEventListener("abort", end);
  };
  serving.closing.addEventListener("abort", end, { once: true });
  response.on("error", () => {});
  response.once("close", cleanUp);
}
