// A CRD's versions as kinds of the API server: schema rules, subresources, columns.

import type { Json, KubeObject } from "../../cluster.ts";
import { dnsSubdomain } from "../kinds/names.ts";
import { AGE, NAME } from "../printers.ts";
import { ALL_VERBS, type Column, collectionOf, type Printer, type ResourceDef } from "../resource.ts";
import { age } from "../text-forms.ts";
import { schemaTopology } from "../topology.ts";
import { parseJsonPath, readJsonPath } from "./json-path.ts";
import { applyDefaults, prune, schemaErrors } from "./schema.ts";

export function customKinds(crd: KubeObject): ResourceDef[] {
  const { group, scope, versions } = crd.spec;
  const names = crd.status?.acceptedNames ?? crd.spec.names;
  const served = versions.filter((v: Json) => v.served);
  const storage = versions.find((v: Json) => v.storage);
  const [preferred] = [...served].sort((a: Json, b: Json) => byPriority(a.name, b.name));
  return served.map((version: Json): ResourceDef => {
    const schema = version.schema.openAPIV3Schema;
    const root = withoutMetadata(schema);
    const { scale, status } = version.subresources ?? {};
    return {
      group,
      version: version.name,
      resource: names.plural,
      singular: names.singular ?? names.kind.toLowerCase(),
      kind: names.kind,
      namespaced: scope === "Namespaced",
      shortNames: names.shortNames ?? [],
      categories: names.categories ?? [],
      verbs: ALL_VERBS,
      collection: collectionOf(group, names.plural),
      status: status !== undefined,
      generation: true,
      ...(scale
        ? {
            scale: {
              specReplicas: scale.specReplicasPath.slice(1),
              statusReplicas: scale.statusReplicasPath.slice(1),
              ...(scale.labelSelectorPath ? { selector: scale.labelSelectorPath.slice(1) } : {}),
            },
          }
        : {}),
      extras: [],
      topology: schemaTopology(schema),
      validateName: dnsSubdomain,
      defaults: (object) => applyDefaults(object, root),
      prune: (object) => prune(object, root),
      validate: (object) => {
        const { metadata, apiVersion, kind, ...content } = object;
        return schemaErrors(content, { ...root, required: withoutTypeFields(root.required) });
      },
      toStored: (object) => ({ ...object, apiVersion: `${group}/${storage.name}` }),
      fromStored: (object) => ({ ...object, apiVersion: `${group}/${version.name}` }),
      printer: printer(version),
      custom: true,
      secondary: version !== preferred,
    };
  });
}

const withoutTypeFields = (required: string[] | undefined) =>
  (required ?? []).filter((name) => !["apiVersion", "kind", "metadata"].includes(name));

/** The root schema with metadata left to the general rules. */
function withoutMetadata(schema: Json): Json {
  return {
    ...schema,
    properties: {
      ...schema.properties,
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    },
  };
}

/** GA before beta before alpha, higher numbers first: k8s.io/apimachinery version.CompareKubeAwareVersionStrings. */
export function byPriority(a: string, b: string): number {
  const rank = (name: string) => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(name);
    if (!match) return undefined;
    const stage = match[2] === undefined ? 2 : match[2] === "beta" ? 1 : 0;
    return [stage, Number(match[1]), Number(match[3] ?? 0)] as const;
  };
  const [x, y] = [rank(a), rank(b)];
  if (!x || !y) return x ? -1 : y ? 1 : a < b ? -1 : 1;
  return y[0] - x[0] || y[1] - x[1] || y[2] - x[2];
}

function printer(version: Json): Printer {
  const declared: Json[] = version.additionalPrinterColumns ?? [
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  ];
  const columns: Column[] = [
    NAME,
    ...declared.map((column) => ({
      name: column.name,
      type: column.type === "date" ? AGE.type : column.type,
      ...(column.format ? { format: column.format } : {}),
      ...(column.description ? { description: column.description } : {}),
      priority: column.priority ?? 0,
    })),
  ];
  const paths = declared.map((column) => parseJsonPath(column.jsonPath ?? ""));
  return {
    columns,
    row: (object, now) => [
      object.metadata.name,
      ...declared.map((column, i) => cell(column, paths[i] ? readJsonPath(object, paths[i]) : [], now)),
    ],
  };
}

function cell(column: Json, found: Json[], now: number): unknown {
  const [first] = found;
  if (first === undefined || first === null) return null;
  switch (column.type) {
    case "date":
      return age(String(first), now);
    case "integer":
    case "number":
    case "boolean":
      return first;
    default:
      return found.map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(",");
  }
}
