// The embedded cluster as its own parts see it: controllers, scheduler and kubelet use this instead of HTTP, and get
// the same validation, defaulting, admission and events as any client. Built by `createCluster` in apiserver/.
import type { ObjectMeta as ReadMeta } from "../kube/types.ts";

export type { OwnerReference } from "../kube/types.ts";

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects are open JSON; their shape is checked by validation.
export type Json = any;

/** All of an object's metadata: the sandbox also keeps what the mesh does not read. */
export interface ObjectMeta extends ReadMeta {
  generateName?: string;
  deletionGracePeriodSeconds?: number;
  finalizers?: string[];
  managedFields?: Json[];
}

/** Any object. What the cluster hands out is shared and frozen: copy (`structuredClone`) before changing it. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: Json;
}

/** What a caller gives to create: `metadata.name` may be left out for `generateName`. */
export interface NewObject {
  apiVersion?: string;
  kind?: string;
  metadata: Partial<ObjectMeta>;
  [field: string]: Json;
}

/** Names one object. `group` is "" for the core group; `namespace` is absent for cluster-scoped kinds. */
export interface Ref {
  group: string;
  resource: string;
  namespace?: string | undefined;
  name: string;
}

export type EventType = "ADDED" | "MODIFIED" | "DELETED";
export type PropagationPolicy = "Foreground" | "Background" | "Orphan";

export interface DeleteOptions {
  /** Default: Background (Orphan is never a default of the kinds here). */
  propagationPolicy?: PropagationPolicy | undefined;
  /** Pods only. 0 removes the object at once. Default: the pod's terminationGracePeriodSeconds. */
  gracePeriodSeconds?: number | undefined;
  /** Precondition: delete only this very object (409 otherwise). */
  uid?: string | undefined;
  resourceVersion?: string | undefined;
}

export interface UpdateOptions {
  /** `status` changes only the status; `finalize` (namespaces) only spec.finalizers. */
  subresource?: "status" | "finalize" | "ephemeralcontainers" | undefined;
}

/** A kind that is served now: built in or from a CRD. */
export interface ResourceInfo {
  group: string;
  version: string;
  resource: string;
  kind: string;
  namespaced: boolean;
}

export interface TokenOptions {
  /** Default: the API server's own audience. */
  audiences?: string[] | undefined;
  /** Default 3600, at least 600. */
  expirationSeconds?: number | undefined;
  /** The pod that the token is bound to: it dies with the pod. */
  pod?: { name: string; uid: string } | undefined;
}

export interface Cluster {
  get(ref: Ref): KubeObject | undefined;
  list(group: string, resource: string, namespace?: string): KubeObject[];
  /** Throws ApiError (apiserver/status.ts): 404, 409 AlreadyExists, 422 Invalid, 403 by admission. */
  create(
    group: string,
    resource: string,
    namespace: string | undefined,
    object: NewObject,
  ): Promise<KubeObject>;
  /** Replaces; 409 Conflict if `metadata.resourceVersion` is given and stale. */
  update(
    group: string,
    resource: string,
    namespace: string | undefined,
    object: KubeObject,
    options?: UpdateOptions,
  ): Promise<KubeObject>;
  /**
   * Read, change, write, again on conflict. `change` gets its own copy; undefined from it means "leave as is".
   * Resolves to the stored object, or undefined if it does not exist (any more).
   */
  modify(
    ref: Ref,
    change: (object: KubeObject) => KubeObject | undefined,
    options?: UpdateOptions,
  ): Promise<KubeObject | undefined>;
  /** Deletes, or marks for deletion (finalizers, graceful pods, Foreground). An absent object is no error. */
  delete(ref: Ref, options?: DeleteOptions): Promise<void>;
  /** The kubelet's word that a pod marked for deletion is really gone. Finalizers still hold it. */
  finalizeDelete(ref: Ref): void;
  /**
   * Replays what exists as ADDED before returning, then calls `handler` for each change, in order, never from within
   * the call that made the change. `previous` is the object before (MODIFIED, DELETED). Returns the stop function.
   */
  watch(
    group: string,
    resource: string,
    handler: (type: EventType, object: KubeObject, previous?: KubeObject) => void,
    options?: { namespace?: string | undefined },
  ): () => void;
  /** The same over every kind, present and future: for garbage collection and namespace deletion. */
  watchAll(
    handler: (type: EventType, object: KubeObject, ref: Ref, previous?: KubeObject) => void,
  ): () => void;
  /** Every kind served now. */
  resources(): ResourceInfo[];
  /** Records an Event (aggregated by count when it repeats); never throws. */
  recordEvent(
    involved: KubeObject,
    event: { type: "Normal" | "Warning"; reason: string; message: string; component: string },
  ): void;
  /** A signed ServiceAccount token, as `TokenRequest` gives. */
  requestToken(
    namespace: string,
    serviceAccount: string,
    options?: TokenOptions,
  ): Promise<{ token: string; expirationTimestamp: string }>;
}
