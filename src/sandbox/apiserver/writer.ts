// Creating and changing objects: metadata, defaults, admission, validation, then one atomic store operation.

import { randomInt, randomUUID } from "node:crypto";
import type { Json, KubeObject } from "../cluster.ts";
import type { AdmissionChain, AdmissionRequest } from "./admission/admission.ts";
import type { User } from "./auth/user.ts";
import { finishDeletion, mayBeRemoved } from "./deletion.ts";
import { metadataErrors } from "./kinds/names.ts";
import type { Registry } from "./registry.ts";
import { shown } from "./registry.ts";
import { apiVersionOf, deepEqual, keyOf, type ResourceDef, timestamp } from "./resource.ts";
import { type ServiceAddresses, serviceAddresses } from "./service-addresses.ts";
import {
  ApiError,
  alreadyExists,
  badRequest,
  conflict,
  type FieldError,
  invalid,
  invalidValue,
  notFound,
  required,
} from "./status.ts";

export interface WriteOptions {
  user: User;
  dryRun?: boolean | undefined;
  /** Who the changed fields belong to; without it ownership is left alone. */
  manager?: string | undefined;
  /** Ownership as server-side apply worked it out; then `manager` is not looked at. */
  managedFields?: Json[] | undefined;
  /** Collects warnings for the client. */
  warnings?: string[] | undefined;
}

export interface ChangeOptions extends WriteOptions {
  subresource?: "status" | "finalize" | "scale" | "ephemeralcontainers" | undefined;
  /** The object that `change` returns says itself who owns what (server-side apply). */
  owned?: boolean | undefined;
}

/** Updates the managed fields of `next`, written by `manager` over `current`. */
export type FieldTracker = (
  def: ResourceDef,
  current: KubeObject | undefined,
  next: KubeObject,
  manager: string,
  subresource: string,
  now: number,
) => void;

/** How often a change without resourceVersion is tried again when others write in between. */
const RETRIES = 10;
const SUFFIX = "bcdfghjklmnpqrstvwxz2456789";

export class Writer {
  readonly registry: Registry;
  readonly admission: AdmissionChain;
  readonly #track: FieldTracker;
  readonly #addresses: ServiceAddresses;

  constructor(registry: Registry, admission: AdmissionChain, track: FieldTracker) {
    this.registry = registry;
    this.admission = admission;
    this.#track = track;
    this.#addresses = serviceAddresses(registry);
  }

  /** Takes over `object`. Returns it as this version shows it. */
  async create(
    def: ResourceDef,
    namespace: string | undefined,
    object: Json,
    options: WriteOptions,
  ): Promise<KubeObject> {
    const { clock, store } = this.registry;
    const now = clock.now();
    let next = this.#decoded(def, object);
    this.#newMetadata(def, namespace, next, now);
    const name = next.metadata.name;
    if (def.status) delete next.status;
    shielded(() => def.defaults?.(next, now));
    const request: AdmissionRequest = {
      operation: "CREATE",
      def,
      namespace,
      name,
      object: next,
      user: options.user,
      dryRun: options.dryRun ?? false,
      warnings: options.warnings ?? [],
    };
    const key = keyOf(namespace, name);
    if (store.get(def.collection, key)) throw alreadyExists(def.group, def.resource, name);
    await this.#mutate(request);
    next = request.object as KubeObject;
    shielded(() => def.defaults?.(next, now));
    def.prune?.(next);
    this.#check(def, next, undefined);
    await this.admission.validate(request);
    if (store.get(def.collection, key)) throw alreadyExists(def.group, def.resource, name);
    if (options.managedFields) next.metadata.managedFields = options.managedFields;
    else if (options.manager) this.#track(def, undefined, next, options.manager, "", now);
    if (def.collection === "/services") this.#addresses.assign(next, undefined);
    if (options.dryRun) return shown(def, next);
    return shown(def, store.put(def.collection, key, next));
  }

  /**
   * Writes what `change` makes of the current object (a copy it may alter). If it returns an object with a
   * resourceVersion that is not the current one, that is a conflict; without one it is tried again.
   */
  async change(
    def: ResourceDef,
    namespace: string | undefined,
    name: string,
    change: (current: KubeObject) => Json,
    options: ChangeOptions,
  ): Promise<KubeObject> {
    const { store } = this.registry;
    const key = keyOf(def.namespaced ? namespace : undefined, name);
    for (let attempt = 0; ; attempt++) {
      const current = store.get(def.collection, key);
      if (!current) throw notFound(def.group, def.resource, name);
      const given = change(structuredClone(shown(def, current)));
      const fixed = given.metadata?.resourceVersion;
      if (fixed && fixed !== current.metadata.resourceVersion) {
        throw conflict(def.group, def.resource, name);
      }
      const next = await this.#prepare(def, namespace, name, current, given, options);
      if (store.get(def.collection, key) !== current) {
        if (attempt < RETRIES) continue;
        throw conflict(def.group, def.resource, name);
      }
      if (sameButVersion(current, next)) return shown(def, current);
      if (options.dryRun) return shown(def, next);
      if (next.metadata.deletionTimestamp && mayBeRemoved(def, next)) {
        return shown(def, finishDeletion(store, def, key, next));
      }
      return shown(def, store.put(def.collection, key, next));
    }
  }

  /** From what a client gave to what may be stored: everything but the final check that nobody wrote meanwhile. */
  async #prepare(
    def: ResourceDef,
    namespace: string | undefined,
    name: string,
    current: KubeObject,
    given: Json,
    options: ChangeOptions,
  ): Promise<KubeObject> {
    const now = this.registry.clock.now();
    let next = merged(def, current, this.#decoded(def, given), options.subresource);
    this.#keptMetadata(def, namespace, name, current, next);
    shielded(() => def.defaults?.(next, now));
    if (def.collection === "/services") this.#addresses.keep(next, current);
    const request: AdmissionRequest = {
      operation: "UPDATE",
      def,
      subresource: options.subresource,
      namespace,
      name,
      object: next,
      old: current,
      user: options.user,
      dryRun: options.dryRun ?? false,
      warnings: options.warnings ?? [],
    };
    await this.#mutate(request);
    next = request.object as KubeObject;
    shielded(() => def.defaults?.(next, now));
    def.prune?.(next);
    bumpGeneration(def, current, next);
    this.#check(def, next, current);
    await this.admission.validate(request);
    if (def.collection === "/services") this.#addresses.assign(next, current);
    if (options.manager && !options.owned) {
      this.#track(def, current, next, options.manager, options.subresource ?? "", now);
    }
    if (next.metadata.managedFields?.length === 0) delete next.metadata.managedFields;
    return next;
  }

  async #mutate(request: AdmissionRequest): Promise<void> {
    try {
      await this.admission.mutate(request);
    } catch (error) {
      shielded(() => {
        throw error;
      });
    }
  }

  #decoded(def: ResourceDef, object: Json): KubeObject {
    if (typeof object !== "object" || object === null || Array.isArray(object)) {
      throw badRequest("the body of the request must be a JSON object");
    }
    let next = object;
    next.metadata ??= {};
    if (typeof next.metadata !== "object") throw badRequest("metadata must be an object");
    if (def.custom) dropNulls(next.metadata);
    else dropNulls(next);
    for (const field of ["labels", "annotations"]) {
      for (const [key, value] of Object.entries(next.metadata[field] ?? {})) {
        if (typeof value !== "string") {
          throw badRequest(
            `${def.kind} in version ${JSON.stringify(def.version)} cannot be handled as a ${def.kind}: json: cannot unmarshal ${typeof value} into Go struct field ObjectMeta.metadata.${field} of type string (key ${JSON.stringify(key)})`,
          );
        }
      }
    }
    delete next.metadata.selfLink;
    if (def.toStored) next = def.toStored(next);
    else next.apiVersion = apiVersionOf(def);
    next.kind = def.kind;
    return next;
  }

  #newMetadata(def: ResourceDef, namespace: string | undefined, object: KubeObject, now: number): void {
    const meta = object.metadata;
    if (meta.resourceVersion) throw badRequest("resourceVersion should not be set on objects to be created");
    if (def.namespaced) {
      if (meta.namespace && meta.namespace !== namespace) throw namespaceMismatch();
      meta.namespace = namespace as string;
    } else delete meta.namespace;
    if (!meta.name && meta.generateName) {
      const base = meta.generateName.slice(0, 58);
      const key = (name: string) => keyOf(namespace, name);
      do meta.name = base + randomSuffix();
      while (this.registry.store.get(def.collection, key(meta.name)));
    }
    if (!meta.name) {
      throw invalid(def.group, def.kind, "", [required("metadata.name", "name or generateName is required")]);
    }
    const bad = def.validateName?.(meta.name);
    if (bad) throw invalid(def.group, def.kind, meta.name, [invalidValue("metadata.name", meta.name, bad)]);
    meta.uid = randomUUID();
    meta.creationTimestamp = timestamp(now);
    delete meta.deletionTimestamp;
    delete meta.deletionGracePeriodSeconds;
    delete meta.managedFields;
    if (def.generation || def.custom) meta.generation = 1;
    else delete meta.generation;
  }

  #keptMetadata(
    def: ResourceDef,
    namespace: string | undefined,
    name: string,
    current: KubeObject,
    next: KubeObject,
  ): void {
    const meta = next.metadata;
    if (meta.name !== undefined && meta.name !== name) {
      throw badRequest(`the name of the object (${meta.name}) does not match the name on the URL (${name})`);
    }
    if (def.namespaced && meta.namespace !== undefined && meta.namespace !== namespace) {
      throw namespaceMismatch();
    }
    if (meta.uid && meta.uid !== current.metadata.uid) {
      throw conflict(
        def.group,
        def.resource,
        name,
        `Precondition failed: UID in precondition: ${meta.uid}, UID in object meta: ${current.metadata.uid}`,
      );
    }
    const kept = [
      "name",
      "generateName",
      "namespace",
      "uid",
      "resourceVersion",
      "generation",
      "creationTimestamp",
      "deletionTimestamp",
      "deletionGracePeriodSeconds",
    ] as const;
    for (const field of kept) {
      const value = current.metadata[field];
      if (value === undefined) delete meta[field];
      else (meta as Json)[field] = value;
    }
    if (meta.managedFields === undefined && current.metadata.managedFields) {
      meta.managedFields = structuredClone(current.metadata.managedFields);
    }
    if (meta.deletionTimestamp) {
      const added = (meta.finalizers ?? []).filter((f) => !current.metadata.finalizers?.includes(f));
      if (added.length > 0) {
        throw invalid(def.group, def.kind, name, [
          {
            field: "metadata.finalizers",
            reason: "FieldValueForbidden",
            message: `Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
          },
        ]);
      }
    }
  }

  #check(def: ResourceDef, object: KubeObject, old: KubeObject | undefined): void {
    const errors: FieldError[] = metadataErrors(object.metadata);
    errors.push(...shielded(() => def.validate?.(object, old) ?? []));
    if (errors.length > 0) throw invalid(def.group, def.kind, object.metadata.name, errors);
  }
}

/** A manifest with a string where a list belongs must be a client error, whatever rule stumbles over it. */
function shielded<T>(rule: () => T): T {
  try {
    return rule();
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (error instanceof TypeError) {
      throw badRequest(`the object cannot be decoded: a field has the wrong type (${error.message})`);
    }
    throw error;
  }
}

function merged(
  def: ResourceDef,
  current: KubeObject,
  given: KubeObject,
  subresource: ChangeOptions["subresource"],
): KubeObject {
  if (subresource === "status") {
    const next = structuredClone(current);
    if (given.status === undefined) delete next.status;
    else next.status = given.status;
    if (given.metadata.managedFields) next.metadata.managedFields = given.metadata.managedFields;
    if (given.metadata.uid) next.metadata.uid = given.metadata.uid;
    return next;
  }
  if (subresource === "finalize") {
    const next = structuredClone(current);
    next.spec = { ...next.spec, finalizers: given.spec?.finalizers ?? [] };
    return next;
  }
  if (subresource === "ephemeralcontainers") {
    const next = structuredClone(current);
    next.spec.ephemeralContainers = given.spec?.ephemeralContainers ?? [];
    return next;
  }
  if (def.status) {
    if (current.status === undefined) delete given.status;
    else given.status = structuredClone(current.status);
  }
  return given;
}

function bumpGeneration(def: ResourceDef, current: KubeObject, next: KubeObject): void {
  if (!def.generation && !def.custom) return;
  const content = ({ metadata, status, ...rest }: KubeObject) =>
    def.status || !def.custom ? rest : { ...rest, status };
  if (!deepEqual(content(current), content(next))) {
    next.metadata.generation = (current.metadata.generation ?? 0) + 1;
  }
}

function sameButVersion(current: KubeObject, next: KubeObject): boolean {
  const plain = (object: KubeObject) => ({
    ...object,
    metadata: { ...object.metadata, managedFields: withoutTimes(object.metadata.managedFields) },
  });
  return deepEqual(plain(current), plain(next));
}

function withoutTimes(managed: Json[] | undefined): Json[] {
  return (managed ?? []).map(({ time, ...rest }) => rest);
}

const namespaceMismatch = () =>
  badRequest("the namespace of the provided object does not match the namespace sent on the request");

function randomSuffix(): string {
  let out = "";
  for (let i = 0; i < 5; i++) out += SUFFIX[randomInt(SUFFIX.length)];
  return out;
}

/** Go's decoder treats null as absent; so does everything after this. In place. */
export function dropNulls(value: Json): void {
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === "object" && item !== null) dropNulls(item);
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    if (item === null) delete value[key];
    else if (typeof item === "object") dropNulls(item);
  }
}
