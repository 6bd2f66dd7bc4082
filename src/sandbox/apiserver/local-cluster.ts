// The cluster in this process: store, kinds, admission and tokens put together behind the `Cluster` interface.

import { createHash } from "node:crypto";
import { createLogger, type Logger } from "../../log/logger.ts";
import { type Clock, systemClock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Cluster, KubeObject, Ref } from "../cluster.ts";
import { openJournal } from "../store/journal.ts";
import { type Change, Store } from "../store/store.ts";
import { AdmissionChain } from "./admission/admission.ts";
import { namespaceLifecycle, podPlacement, serviceAccounts } from "./admission/built-in.ts";
import { webhooks } from "./admission/webhooks.ts";
import { trackUpdate } from "./apply/ownership.ts";
import { signingKey, TokenAuthority } from "./auth/tokens.ts";
import { SYSTEM } from "./auth/user.ts";
import { bootstrap } from "./bootstrap.ts";
import { cleanUpDefinitions } from "./crd/cleanup.ts";
import { customResources } from "./crd/definitions.ts";
import { Deleter } from "./deletion.ts";
import { builtInKinds } from "./kinds/index.ts";
import { Registry } from "./registry.ts";
import { keyOf, type ResourceDef, timestamp } from "./resource.ts";
import { ApiError, noSuchPath } from "./status.ts";
import { Writer } from "./writer.ts";

export interface ClusterOptions {
  /** Where the state lives; without it nothing outlives the process. */
  dir?: string | undefined;
  clock?: Clock | undefined;
  log?: Logger | undefined;
}

/** A `Cluster` with what the HTTP side needs besides. */
export interface LocalCluster extends Cluster {
  readonly registry: Registry;
  readonly writer: Writer;
  readonly deleter: Deleter;
  readonly admission: AdmissionChain;
  readonly tokens: TokenAuthority;
  readonly clock: Clock;
  readonly log: Logger;
  /** Forgets what was before now: watches from then are answered by 410. */
  compact(): void;
  /** Flushes and closes the state directory. */
  close(): Promise<void>;
}

const EVENT_NAME_HASH = 16;

export async function createCluster(options: ClusterOptions = {}): Promise<LocalCluster> {
  const clock = options.clock ?? systemClock;
  const log = options.log ?? createLogger({ level: "warn" });
  const store = new Store();
  const journal = options.dir ? openJournal(options.dir, store, log) : undefined;
  const registry = new Registry(store, clock);
  for (const def of builtInKinds) registry.serve(def);
  const admission = new AdmissionChain();
  admission.add(namespaceLifecycle(registry));
  admission.add(serviceAccounts(registry));
  admission.add(podPlacement(registry));
  admission.add(customResources(registry));
  admission.add(webhooks(registry, log));
  const writer = new Writer(registry, admission, trackUpdate);
  const deleter = new Deleter(registry, admission);
  const tokens = new TokenAuthority(store, clock, signingKey(options.dir));

  const kindOf = (group: string, resource: string): ResourceDef => {
    const def = registry.preferred(group, resource);
    if (!def) throw noSuchPath();
    return def;
  };

  const cluster: LocalCluster = {
    registry,
    writer,
    deleter,
    admission,
    tokens,
    clock,
    log,
    get: (ref) => store.get(`${ref.group}/${ref.resource}`, keyOf(ref.namespace, ref.name)),
    list: (group, resource, namespace) => registry.listStored(`${group}/${resource}`, namespace),
    create: (group, resource, namespace, object) =>
      writer.create(kindOf(group, resource), namespace, structuredClone(object), { user: SYSTEM }),
    update: (group, resource, namespace, object, update) =>
      writer.change(kindOf(group, resource), namespace, object.metadata.name, () => structuredClone(object), {
        user: SYSTEM,
        subresource: update?.subresource,
      }),
    modify: (ref, change, update) => modify(writer, kindOf(ref.group, ref.resource), ref, change, update),
    async delete(ref, deletion = {}) {
      try {
        await deleter.delete(kindOf(ref.group, ref.resource), ref.namespace, ref.name, deletion, {
          user: SYSTEM,
        });
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
    },
    finalizeDelete: (ref) => deleter.finalize(kindOf(ref.group, ref.resource), ref.namespace, ref.name),
    watch(group, resource, handler, where) {
      const collection = `${group}/${resource}`;
      const wanted = (object: KubeObject) =>
        !where?.namespace || object.metadata.namespace === where.namespace;
      for (const object of registry.listStored(collection)) if (wanted(object)) handler("ADDED", object);
      return follow(store, (change) => {
        if (change.collection === collection && wanted(change.object)) {
          handler(change.type, change.object, change.previous);
        }
      });
    },
    watchAll(handler) {
      const refOf = (collection: string, object: KubeObject): Ref => {
        const slash = collection.indexOf("/");
        const { namespace, name } = object.metadata;
        return { group: collection.slice(0, slash), resource: collection.slice(slash + 1), namespace, name };
      };
      for (const collection of store.collections()) {
        for (const object of registry.listStored(collection)) {
          handler("ADDED", object, refOf(collection, object));
        }
      }
      return follow(store, (change) =>
        handler(change.type, change.object, refOf(change.collection, change.object), change.previous),
      );
    },
    resources: () =>
      registry
        .preferredAll()
        .filter((def) => def.verbs.includes("list"))
        .map(({ group, version, resource, kind, namespaced }) => ({
          group,
          version,
          resource,
          kind,
          namespaced,
        })),
    recordEvent(involved, event) {
      record(cluster, involved, event).catch((error: unknown) =>
        log.warn("cannot record an event", { reason: event.reason, error: errorMessage(error) }),
      );
    },
    requestToken: async (namespace, name, token) => tokens.issue(namespace, name, token),
    compact: () => store.compact(),
    close: async () => journal?.close(),
  };
  await bootstrap(cluster);
  cleanUpDefinitions(cluster);
  return cluster;
}

async function modify(
  writer: Writer,
  def: ResourceDef,
  ref: Ref,
  change: (object: KubeObject) => KubeObject | undefined,
  options: Parameters<Cluster["modify"]>[2],
): Promise<KubeObject | undefined> {
  try {
    return await writer.change(
      def,
      ref.namespace,
      ref.name,
      (current) => {
        const next = change(structuredClone(current)) ?? current;
        // Tried again on conflict by the writer: this closure always starts from the current object.
        delete next.metadata.resourceVersion;
        return structuredClone(next);
      },
      { user: SYSTEM, subresource: options?.subresource },
    );
  } catch (error) {
    if (error instanceof ApiError && error.status === 404 && error.details?.name === ref.name)
      return undefined;
    throw error;
  }
}

/** Delivers changes in order, after the call that made them has returned. */
function follow(store: Store, deliver: (change: Change) => void): () => void {
  let queue: Change[] = [];
  let stopped = false;
  const drain = () => {
    const batch = queue;
    queue = [];
    for (const change of batch) {
      if (stopped) return;
      deliver(change);
    }
  };
  const stop = store.listen((change) => {
    if (queue.push(change) === 1) queueMicrotask(drain);
  });
  return () => {
    stopped = true;
    stop();
  };
}

async function record(
  cluster: LocalCluster,
  involved: KubeObject,
  event: Parameters<Cluster["recordEvent"]>[1],
): Promise<void> {
  const now = cluster.clock.now();
  const { name, namespace, uid, resourceVersion } = involved.metadata;
  const key = createHash("sha256")
    .update([uid, event.type, event.reason, event.message, event.component].join("\0"))
    .digest("hex")
    .slice(0, EVENT_NAME_HASH);
  const home = namespace ?? "default";
  const ref: Ref = { group: "", resource: "events", namespace: home, name: `${name}.${key}` };
  const repeat = () =>
    cluster.modify(ref, (known) => ({
      ...known,
      count: (known.count ?? 1) + 1,
      lastTimestamp: timestamp(now),
    }));
  if (await repeat()) return;
  try {
    await cluster.create("", "events", home, {
      metadata: { name: ref.name },
      involvedObject: {
        kind: involved.kind,
        apiVersion: involved.apiVersion,
        namespace,
        name,
        uid,
        resourceVersion,
      },
      reason: event.reason,
      message: event.message,
      type: event.type,
      source: { component: event.component },
      reportingComponent: event.component,
      reportingInstance: "",
      firstTimestamp: timestamp(now),
      lastTimestamp: timestamp(now),
      count: 1,
    });
  } catch (error) {
    if (error instanceof ApiError && error.status === 409) await repeat();
    // The namespace has ended meanwhile.
    else if (!(error instanceof ApiError && [403, 404].includes(error.status))) throw error;
  }
}
