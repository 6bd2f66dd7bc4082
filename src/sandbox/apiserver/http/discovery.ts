// What this server serves: versions, groups, resources; and just enough OpenAPI for kubectl to trust it.

import type { Json } from "../../cluster.ts";
import { byPriority } from "../crd/kinds.ts";
import type { Registry } from "../registry.ts";
import type { ResourceDef } from "../resource.ts";

/** The Kubernetes version whose API this is. */
const VERSION = { major: "1", minor: "32", gitVersion: "v1.32.0" };

export function versionInfo(): Json {
  return {
    ...VERSION,
    gitCommit: "0000000000000000000000000000000000000000",
    gitTreeState: "clean",
    buildDate: "2024-12-11T18:00:00Z",
    goVersion: "go1.23.3",
    compiler: "gc",
    platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
  };
}

/** GET /api. */
export function coreVersions(): Json {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

/** Versions of each group that is served here, the preferred one first. */
export function groupVersions(registry: Registry): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { group, version } of registry.all()) {
    if (group === "") continue;
    const versions = groups.get(group) ?? [];
    if (!versions.includes(version)) versions.push(version);
    groups.set(group, versions);
  }
  for (const versions of groups.values()) versions.sort(byPriority);
  return groups;
}

export function groupObject(group: string, versions: readonly string[]): Json {
  const shown = versions.map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: shown, preferredVersion: shown[0] };
}

/** GET /apis; `remote` are the groups of aggregated servers. */
export function groupList(registry: Registry, remote: ReadonlyMap<string, string[]>): Json {
  const groups = new Map([...groupVersions(registry), ...remote]);
  return {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: [...groups].map(([group, versions]) => groupObject(group, versions)),
  };
}

/** GET /api/v1, /apis/GROUP/VERSION; undefined when nothing is served there. */
export function resourceList(registry: Registry, group: string, version: string): Json {
  const defs = registry.all().filter((def) => def.group === group && def.version === version);
  if (defs.length === 0) return undefined;
  return {
    kind: "APIResourceList",
    ...(group === "" ? {} : { apiVersion: "v1" }),
    groupVersion: group === "" ? version : `${group}/${version}`,
    resources: defs.flatMap(entries),
  };
}

function entries(def: ResourceDef): Json[] {
  const { resource, namespaced, kind } = def;
  const sub = (name: string, verbs: readonly string[], more: Json = {}) => ({
    name: `${resource}/${name}`,
    singularName: "",
    namespaced,
    kind,
    verbs,
    ...more,
  });
  const out: Json[] = [
    {
      name: resource,
      singularName: def.singular,
      namespaced,
      kind,
      verbs: def.verbs,
      ...(def.shortNames.length ? { shortNames: def.shortNames } : {}),
      ...(def.categories.length ? { categories: def.categories } : {}),
    },
  ];
  if (def.status) out.push(sub("status", ["get", "patch", "update"]));
  if (def.scale) {
    out.push(
      sub("scale", ["get", "patch", "update"], { group: "autoscaling", version: "v1", kind: "Scale" }),
    );
  }
  for (const { name, verbs, ...more } of def.extras) out.push(sub(name, verbs, more));
  return out;
}

/** GET /openapi/v3: one document a group version. */
export function openApiIndex(registry: Registry): Json {
  const paths: Json = {};
  for (const def of registry.all()) {
    const root = rootOf(def);
    paths[root] ??= { serverRelativeURL: `/openapi/v3/${root}` };
  }
  return { paths };
}

const rootOf = (def: ResourceDef) => (def.group ? `apis/${def.group}/${def.version}` : `api/${def.version}`);

/** Query parameters that kubectl looks for before it relies on the server for validation and dry runs. */
const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation", "force"].map((name) => ({
  name,
  in: "query",
  schema: { type: "string" },
}));

/** GET /openapi/v3/ROOT: the write operations of each kind, without schemas. */
export function openApiDocument(registry: Registry, root: string): Json {
  const defs = registry.all().filter((def) => rootOf(def) === root);
  if (defs.length === 0) return undefined;
  const paths: Json = {};
  for (const def of defs) {
    const { group, version, kind } = def;
    const operation = {
      parameters: WRITE_PARAMETERS,
      responses: { "200": { description: "OK" } },
      "x-kubernetes-group-version-kind": { group, version, kind },
    };
    const base = `/${root}${def.namespaced ? "/namespaces/{namespace}" : ""}/${def.resource}`;
    paths[base] = { post: operation };
    paths[`${base}/{name}`] = { patch: operation, put: operation };
  }
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: VERSION.gitVersion },
    paths,
    components: { schemas: {} },
  };
}

/** GET /openapi/v2 as JSON. */
export function swagger(): Json {
  return {
    swagger: "2.0",
    info: { title: "Kubernetes", version: VERSION.gitVersion },
    paths: {},
    definitions: {},
  };
}

/**
 * GET /openapi/v2 as gnostic's protobuf `openapi.v2.Document`. It holds just what old clients look for: that each
 * kind's PATCH takes dryRun.
 */
export function swaggerProtobuf(registry: Registry): Buffer {
  const paths = registry
    .all()
    .filter((def) => def.verbs.includes("patch"))
    .map((def) => {
      const { group, version, kind } = def;
      const gvk = `group: "${group}"\nkind: ${kind}\nversion: ${version}\n`;
      const extension = nested(13, text(1, "x-kubernetes-group-version-kind"), nested(2, text(2, gvk)));
      const dryRun = nested(8, nested(1, nested(2, nested(3, text(2, "query"), text(4, "dryRun")))));
      const patch = nested(8, dryRun, extension);
      return nested(2, text(1, `/${rootOf(def)}/${def.resource}/{name}`), nested(2, patch));
    });
  const info = nested(2, text(1, "Kubernetes"), text(2, VERSION.gitVersion));
  return Buffer.concat([text(1, "2.0"), info, nested(8, ...paths), nested(9)]);
}

function nested(field: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = [(field << 3) | 2];
  let length = body.length;
  for (; length > 127; length >>>= 7) head.push((length & 127) | 128);
  return Buffer.concat([Buffer.from([...head, length]), body]);
}

const text = (field: number, value: string) => nested(field, Buffer.from(value));
