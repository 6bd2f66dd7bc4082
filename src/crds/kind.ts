// What the description of a kind holds, and the CustomResourceDefinition that it makes.
import { type Checked, check, type OpenApi, type Schema, text } from "../schema/index.ts";
import type { KubeObject } from "./object.ts";

interface KindVersion {
  readonly name: string;
  readonly spec: Schema<unknown>;
  /** What to use instead; the API server tells whoever still uses this version. */
  readonly deprecated?: string;
}

export interface Column {
  readonly name: string;
  readonly path: string;
  readonly type?: "string" | "integer";
}

export interface Kind {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  /** Whose definition it is: `mesh` ones are installed with the mesh. */
  readonly owner: "mesh" | "multicluster" | "gateway-api" | "smi";
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  /** Served versions, oldest first; the last one is stored. */
  readonly versions: readonly KindVersion[];
  readonly status?: Schema<unknown>;
  /** Further columns of `kubectl get`. */
  readonly columns?: readonly Column[];
}

/** `group/version` of the stored version. */
export const apiVersionOf = (kind: Kind): string => `${kind.group}/${kind.versions.at(-1)!.name}`;

/** Name of the CustomResourceDefinition. */
const definitionName = (kind: Kind): string => `${kind.plural}.${kind.group}`;

export interface CustomResourceDefinition extends KubeObject {
  readonly spec: {
    readonly group: string;
    readonly scope: "Namespaced";
    readonly names: {
      readonly kind: string;
      readonly listKind: string;
      readonly plural: string;
      readonly singular: string;
    };
    readonly versions: readonly {
      readonly name: string;
      readonly served: boolean;
      readonly storage: boolean;
      readonly schema: { readonly openAPIV3Schema: OpenApi };
    }[];
  };
}

export function definitionOf(kind: Kind, labels: Record<string, string>): CustomResourceDefinition {
  const { group, plural, versions } = kind;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: definitionName(kind), labels },
    spec: {
      group,
      scope: "Namespaced",
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural,
        singular: kind.kind.toLowerCase(),
        ...(kind.shortNames ? { shortNames: kind.shortNames } : {}),
        ...(kind.categories ? { categories: kind.categories } : {}),
      },
      versions: versions.map(({ name, spec, deprecated }, index) => ({
        name,
        served: true,
        storage: index === versions.length - 1,
        ...(deprecated === undefined
          ? {}
          : {
              deprecated: true,
              deprecationWarning: `${group}/${name} ${kind.kind} is deprecated; use ${deprecated}`,
            }),
        schema: { openAPIV3Schema: rootSchema(kind, spec) },
        ...(kind.status ? { subresources: { status: {} } } : {}),
        additionalPrinterColumns: [
          ...(kind.columns ?? []).map(({ name: column, path, type = "string" }) => ({
            name: column,
            type,
            jsonPath: path,
          })),
          { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
        ],
      })),
    },
  };
}

function rootSchema(kind: Kind, spec: Schema<unknown>): OpenApi {
  return {
    type: "object",
    ...(spec.presence === "required" ? { required: ["spec"] } : {}),
    properties: {
      apiVersion: text().openApi(),
      kind: text().openApi(),
      metadata: { type: "object" },
      spec: spec.openApi(),
      ...(kind.status ? { status: kind.status.openApi() } : {}),
    },
  };
}

/** The version of `kind` that an object is written in. */
export function versionOf(kind: Kind, apiVersion: string | undefined): KindVersion | undefined {
  const version = apiVersion?.split("/")[1];
  return kind.versions.find(({ name }) => name === version);
}

/**
 * Checks the spec of an object by the version that it is written in; `value` has defaults filled in.
 * A version that is not described here is checked as the newest: it comes from whoever owns the kind.
 */
export function checkSpec(kind: Kind, input: unknown, withRules = true): Checked<unknown> {
  const { apiVersion, spec } = (input ?? {}) as { apiVersion?: string; spec?: unknown };
  const version = versionOf(kind, apiVersion) ?? kind.versions.at(-1)!;
  return check(version.spec, spec, "spec", withRules);
}
