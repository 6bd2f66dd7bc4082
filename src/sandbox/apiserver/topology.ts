// How lists and maps merge: by key, as a set, or whole. Strategic merge patch and server-side apply ask here. Built-in
// kinds share one table by field name (from the `patchMergeKey` and `listMapKey` marks in k8s.io/api); CRDs say it in
// their schema.

import type { Json } from "../cluster.ts";

export type ListTopology =
  | { kind: "atomic" }
  | { kind: "set" }
  /** `keys` identify an item; `defaults` stand in for keys that an item leaves out. */
  | { kind: "map"; keys: readonly string[]; defaults?: Record<string, Json> };

/** Topology of one place in an object; `child` goes a field deeper, `item` into a list's items. */
export interface Topology {
  readonly list: ListTopology;
  /** A map or struct owned as a whole. */
  readonly atomic: boolean;
  child(field: string): Topology;
  readonly item: Topology;
  /** Key of strategic merge patch, where it differs from `list` (Service ports merge by port alone). */
  readonly mergeKey?: string | undefined;
}

const ATOMIC: ListTopology = { kind: "atomic" };
const SET: ListTopology = { kind: "set" };
const byName: ListTopology = { kind: "map", keys: ["name"] };

const LISTS: Record<string, ListTopology> = {
  containers: byName,
  initContainers: byName,
  ephemeralContainers: byName,
  volumes: byName,
  env: byName,
  imagePullSecrets: byName,
  secrets: byName,
  webhooks: byName,
  resourceClaims: byName,
  schedulingGates: byName,
  claims: byName,
  matchConditions: byName,
  volumeMounts: { kind: "map", keys: ["mountPath"] },
  volumeDevices: { kind: "map", keys: ["devicePath"] },
  hostAliases: { kind: "map", keys: ["ip"] },
  podIPs: { kind: "map", keys: ["ip"] },
  hostIPs: ATOMIC,
  topologySpreadConstraints: { kind: "map", keys: ["topologyKey", "whenUnsatisfiable"] },
  conditions: { kind: "map", keys: ["type"] },
  ownerReferences: { kind: "map", keys: ["uid"] },
  finalizers: SET,
};

/** Structs and maps that server-side apply owns whole (`+structType=atomic`, `+mapType=atomic`). */
const ATOMIC_MAPS = new Set([
  "selector",
  "nodeSelector",
  "configMapKeyRef",
  "secretKeyRef",
  "fieldRef",
  "resourceFieldRef",
  "labelSelector",
  "namespaceSelector",
  "objectSelector",
  "podSelector",
  "roleRef",
  "scaleTargetRef",
  "involvedObject",
  "targetRef",
  "claimRef",
]);

const CONTAINERS = new Set(["containers", "initContainers", "ephemeralContainers"]);

class BuiltIn implements Topology {
  readonly #path: readonly string[];
  readonly list: ListTopology;
  readonly atomic: boolean;
  readonly mergeKey: string | undefined;

  constructor(path: readonly string[]) {
    this.#path = path;
    const field = path.at(-1) ?? "";
    this.atomic = ATOMIC_MAPS.has(field) && !(field === "selector" && path.length < 2);
    this.mergeKey = undefined;
    if (field === "ports") {
      const parent = path.at(-2) ?? "";
      if (CONTAINERS.has(path.at(-3) ?? "")) {
        this.list = { kind: "map", keys: ["containerPort", "protocol"], defaults: { protocol: "TCP" } };
        this.mergeKey = "containerPort";
      } else if (parent === "spec") {
        this.list = { kind: "map", keys: ["port", "protocol"], defaults: { protocol: "TCP" } };
        this.mergeKey = "port";
      } else this.list = ATOMIC;
    } else if (field === "addresses") {
      this.list = path.at(-2) === "status" ? { kind: "map", keys: ["type"] } : ATOMIC;
      this.mergeKey = path.at(-2) === "status" ? "type" : undefined;
    } else if (field === "taints") {
      this.list = ATOMIC;
      this.mergeKey = "key";
    } else {
      this.list = LISTS[field] ?? ATOMIC;
      if (this.list.kind === "map") this.mergeKey = this.list.keys[0];
    }
  }

  child(field: string): Topology {
    return new BuiltIn([...this.#path, field]);
  }

  get item(): Topology {
    return new BuiltIn([...this.#path, "[]"]);
  }
}

/** Topology of every built-in kind. */
export const builtInTopology: Topology = new BuiltIn([]);

/** Topology of a CRD's objects from its structural schema; metadata follows the built-in table. */
export function schemaTopology(schema: Json, root = true): Topology {
  const listType = schema?.["x-kubernetes-list-type"];
  const list: ListTopology =
    listType === "map"
      ? {
          kind: "map",
          keys: schema["x-kubernetes-list-map-keys"] ?? [],
          defaults: Object.fromEntries(
            (schema["x-kubernetes-list-map-keys"] ?? [])
              .map((key: string) => [key, schema.items?.properties?.[key]?.default])
              .filter(([, value]: [string, Json]) => value !== undefined),
          ),
        }
      : listType === "set"
        ? SET
        : ATOMIC;
  return {
    list,
    atomic: schema?.["x-kubernetes-map-type"] === "atomic",
    child: (field) =>
      root && field === "metadata"
        ? builtInTopology.child("metadata")
        : schemaTopology(
            schema?.properties?.[field] ??
              (typeof schema?.additionalProperties === "object" ? schema.additionalProperties : undefined),
            false,
          ),
    get item() {
      return schemaTopology(schema?.items, false);
    },
  };
}
