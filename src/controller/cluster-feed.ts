// Feeds an index with the cluster's objects as small records.
import { essentialMetadata } from "../kube/reflector.ts";
import type { EndpointSlice, KubeObject, Namespace, Node, ObjectMeta, Pod, Service } from "../kube/types.ts";
import {
  type NamespaceRecord,
  type NodeRecord,
  namespaceRecord,
  nodeRecord,
  type PodRecord,
  podRecord,
  type ServiceRecord,
  type SliceRecord,
  serviceRecord,
  sliceRecord,
} from "./cluster-objects.ts";
import type { ControllerProcess } from "./process.ts";
import { type ServedKind, ServedKinds } from "./served-kinds.ts";

/** While changes pour in, proxies are told this often, ms: each write to a connection then carries several of them. */
export const TELLING_PACE = 50;

interface Sink<R> {
  put(record: R, metadata: ObjectMeta): void;
  remove(namespace: string, name: string): void;
}

export interface ClusterSinks {
  readonly service?: Sink<ServiceRecord>;
  readonly slice?: Sink<SliceRecord>;
  readonly pod?: Sink<PodRecord>;
  readonly namespace?: Sink<NamespaceRecord>;
  readonly node?: Sink<NodeRecord>;
}

/** An object of which only the record is kept; the rest is let go at once. */
interface Recorded<R> extends KubeObject {
  readonly record: R;
}

/** Starts following what there is a sink for; resolves when all of it is known. */
export async function followCluster(process: ControllerProcess, sinks: ClusterSinks): Promise<void> {
  const follow = <T extends KubeObject, R>(
    path: string,
    sink: Sink<R> | undefined,
    toRecord: (object: T, old: R | undefined) => R,
  ) => {
    if (!sink) return undefined;
    const reflector = process.reflect<Recorded<R>>({
      path,
      transform: (object, old) => ({
        metadata: essentialMetadata(object),
        record: toRecord(object as unknown as T, old?.record),
      }),
    });
    reflector.on({
      added: ({ record, metadata }) => sink.put(record, metadata),
      updated: ({ record, metadata }) => sink.put(record, metadata),
      deleted: ({ metadata }) => sink.remove(metadata.namespace ?? "", metadata.name),
    });
    return reflector.synced;
  };
  await Promise.all([
    follow<Namespace, NamespaceRecord>("/api/v1/namespaces", sinks.namespace, namespaceRecord),
    follow<Service, ServiceRecord>("/api/v1/services", sinks.service, serviceRecord),
    follow<Pod, PodRecord>("/api/v1/pods", sinks.pod, podRecord),
    follow<Node, NodeRecord>("/api/v1/nodes", sinks.node, nodeRecord),
    follow<EndpointSlice, SliceRecord>("/apis/discovery.k8s.io/v1/endpointslices", sinks.slice, sliceRecord),
  ]);
}

/** Starts following kinds that may come and go; the process is not ready before those that are served are known. */
export function followKinds(
  process: ControllerProcess,
  kinds: readonly ServedKind[],
  what: string,
): ServedKinds {
  const { client, clock, log } = process;
  const served = new ServedKinds({
    client,
    kinds,
    reflector: (options) => process.reflector(options),
    clock,
    log,
  }).start();
  process.readyWhen(what, () => served.isSynced);
  process.onStop(() => served.stop());
  return served;
}

/**
 * To be called once the first lists were read: only a tenth of them is kept, V8 would grow with the rest of it, and what it
 * has collected it would keep for later. Nothing without --expose-gc; Node 20 does not know of flavors, and gives the
 * memory back all the same.
 */
export function collectLists(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}
