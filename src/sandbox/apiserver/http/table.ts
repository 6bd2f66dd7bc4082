// The forms in which objects leave: plain, as Table rows, or as metadata alone; chosen by the Accept header.

import type { Json, KubeObject } from "../../cluster.ts";
import { plainPrinter } from "../printers.ts";
import { apiVersionOf, type Printer, type ResourceDef } from "../resource.ts";

export interface Form {
  kind: "object" | "table" | "metadata";
  /** meta.k8s.io version of tables and metadata. */
  version: string;
  /** What a table row carries: None, Metadata or Object. */
  includeObject: string;
}

const PLAIN: Form = { kind: "object", version: "v1", includeObject: "Metadata" };

/** The first acceptable form; an Accept header that names none of ours gets plain JSON. */
export function formOf(accept: string | undefined, includeObject: string | null): Form {
  for (const part of (accept ?? "").split(",")) {
    const [type, ...parameters] = part.split(";").map((text) => text.trim());
    const options = Object.fromEntries(parameters.map((p) => p.split("=", 2) as [string, string]));
    if (type !== "application/json" && type !== "*/*" && type !== "application/*") continue;
    if (!options.as) return PLAIN;
    if (options.g !== "meta.k8s.io" || (options.v !== "v1" && options.v !== "v1beta1")) continue;
    if (options.as === "Table") {
      return { kind: "table", version: options.v, includeObject: includeObject ?? "Metadata" };
    }
    if (options.as === "PartialObjectMetadata" || options.as === "PartialObjectMetadataList") {
      return { kind: "metadata", version: options.v, includeObject: "None" };
    }
  }
  return PLAIN;
}

const metadataOnly = (object: KubeObject, version: string): Json => ({
  kind: "PartialObjectMetadata",
  apiVersion: `meta.k8s.io/${version}`,
  metadata: object.metadata,
});

/** One object in the wanted form. */
export function formed(def: ResourceDef, object: KubeObject, form: Form, now: number, header = true): Json {
  if (form.kind === "metadata") return metadataOnly(object, form.version);
  if (form.kind === "object") return object;
  return tableOf(def, [object], { resourceVersion: object.metadata.resourceVersion }, form, now, header);
}

/** A list in the wanted form. */
export function formedList(
  def: ResourceDef,
  objects: KubeObject[],
  metadata: Json,
  form: Form,
  now: number,
): Json {
  if (form.kind === "table") return tableOf(def, objects, metadata, form, now, true);
  if (form.kind === "metadata") {
    return {
      kind: "PartialObjectMetadataList",
      apiVersion: `meta.k8s.io/${form.version}`,
      metadata,
      items: objects.map((object) => metadataOnly(object, form.version)),
    };
  }
  return {
    kind: `${def.kind}List`,
    apiVersion: apiVersionOf(def),
    metadata,
    items: def.custom ? objects : objects.map(({ kind, apiVersion, ...rest }) => rest),
  };
}

function tableOf(
  def: ResourceDef,
  objects: KubeObject[],
  metadata: Json,
  form: Form,
  now: number,
  header: boolean,
): Json {
  const printer = def.printer ?? plainPrinter;
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${form.version}`,
    metadata,
    columnDefinitions: header
      ? printer.columns.map(({ name, type, format = "", description = "", priority = 0 }) => ({
          name,
          type,
          format,
          description,
          priority,
        }))
      : null,
    rows: objects.map((object) => ({
      cells: cellsOf(printer, object, now),
      ...rowObject(object, form),
    })),
  };
}

function rowObject(object: KubeObject, form: Form): Json {
  if (form.includeObject === "None") return {};
  return { object: form.includeObject === "Object" ? object : metadataOnly(object, form.version) };
}

/** A half-filled object still gets a row: its name. */
function cellsOf(printer: Printer, object: KubeObject, now: number): unknown[] {
  try {
    return printer.row(object, now);
  } catch {
    return printer.columns.map((column) => (column.format === "name" ? object.metadata.name : ""));
  }
}
