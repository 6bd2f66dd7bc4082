// Whether a CRD's schema is structural: every value has one type, said outside of the logical junctors, so that objects
// can be pruned and defaulted without evaluating conditions (KEP-20190425-structural-openapi).

import type { Json } from "../../cluster.ts";
import { type FieldError, forbiddenField, invalidValue, required } from "../status.ts";
import { prune, schemaErrors } from "./schema.ts";

const JUNCTORS = ["allOf", "anyOf", "oneOf"] as const;
/** What may not stand inside a junctor: it would change what is kept, or how it is filled in. */
const OUTSIDE_ONLY = [
  "description",
  "type",
  "default",
  "title",
  "nullable",
  "additionalProperties",
  "x-kubernetes-preserve-unknown-fields",
  "x-kubernetes-embedded-resource",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
];
const TYPES = ["object", "array", "string", "integer", "number", "boolean"];
/** Ways to say twice that something is an integer or a string. */
const INT_OR_STRING = JSON.stringify([{ type: "integer" }, { type: "string" }]);

/** What keeps `schema` from being structural. @param at its path in the definition */
export function structuralErrors(schema: Json, at: string): FieldError[] {
  const errors: FieldError[] = [];
  node(schema, at, errors, true);
  return errors;
}

function node(schema: Json, at: string, errors: FieldError[], root = false): void {
  if (typeof schema !== "object" || schema === null) return;
  const intOrString = schema["x-kubernetes-int-or-string"] === true;
  const open = schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (schema.$ref !== undefined) errors.push(forbiddenField(`${at}.$ref`, "$ref is not supported"));
  if (schema.uniqueItems)
    errors.push(forbiddenField(`${at}.uniqueItems`, "uniqueItems cannot be set to true"));
  if (intOrString) {
    if (schema.type !== undefined)
      errors.push(forbiddenField(`${at}.type`, "must be empty if x-kubernetes-int-or-string is true"));
  } else if (schema.type === undefined) {
    if (!open || root) errors.push(required(`${at}.type`, "must not be empty for specified object fields"));
  } else if (!TYPES.includes(schema.type)) {
    errors.push(invalidValue(`${at}.type`, schema.type, `must be one of ${TYPES.join(", ")}`));
  }
  if (schema.properties && schema.additionalProperties !== undefined)
    errors.push(
      forbiddenField(
        `${at}.additionalProperties`,
        "additionalProperties and properties are mutual exclusive",
      ),
    );
  if (Array.isArray(schema.items))
    errors.push(forbiddenField(`${at}.items`, "items must be a schema object"));
  if (schema.type === "array" && !schema.items) errors.push(required(`${at}.items`, "must be specified"));
  listType(schema, at, errors);
  if (schema.default !== undefined) {
    for (const { message } of schemaErrors(schema.default, schema, "default"))
      errors.push(invalidValue(`${at}.default`, schema.default, message));
    const unknown = prune(structuredClone(schema.default), schema);
    if (unknown.length > 0)
      errors.push(
        invalidValue(`${at}.default`, schema.default, `must not have unknown fields: ${unknown.join(", ")}`),
      );
  }
  for (const junctor of JUNCTORS) {
    (schema[junctor] ?? []).forEach((inner: Json, i: number) => {
      if (junctor === "anyOf" && intOrString && JSON.stringify(schema.anyOf) === INT_OR_STRING) return;
      valueValidation(inner, schema, `${at}.${junctor}[${i}]`, errors);
    });
  }
  if (schema.not) valueValidation(schema.not, schema, `${at}.not`, errors);
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    node(property, `${at}.properties[${name}]`, errors);
  if (schema.items && !Array.isArray(schema.items)) node(schema.items, `${at}.items`, errors);
  if (typeof schema.additionalProperties === "object")
    node(schema.additionalProperties, `${at}.additionalProperties`, errors);
}

function listType(schema: Json, at: string, errors: FieldError[]): void {
  const type = schema["x-kubernetes-list-type"];
  const keys: Json = schema["x-kubernetes-list-map-keys"];
  if (type !== "map") {
    if (keys !== undefined)
      errors.push(
        invalidValue(
          `${at}.x-kubernetes-list-type`,
          type,
          "must be map if x-kubernetes-list-map-keys is non-empty",
        ),
      );
    return;
  }
  if (!Array.isArray(keys) || keys.length === 0) {
    errors.push(
      required(`${at}.x-kubernetes-list-map-keys`, "must not be empty if x-kubernetes-list-type is map"),
    );
    return;
  }
  for (const key of keys) {
    const property = schema.items?.properties?.[key];
    if (!property)
      errors.push(
        invalidValue(`${at}.x-kubernetes-list-map-keys`, key, "entries must all be names of item properties"),
      );
    else if (property.default === undefined && !schema.items.required?.includes(key))
      errors.push(
        required(
          `${at}.items.properties[${key}].default`,
          "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
      );
  }
}

/** Inside a junctor: only conditions, and only on what is described outside of it. */
function valueValidation(inner: Json, outer: Json, at: string, errors: FieldError[]): void {
  for (const name of OUTSIDE_ONLY) {
    if (inner[name] !== undefined)
      errors.push(forbiddenField(`${at}.${name}`, "must be empty to be structural"));
  }
  for (const [name, property] of Object.entries<Json>(inner.properties ?? {})) {
    const described = outer?.properties?.[name];
    if (!described) errors.push(required(`${at}.properties[${name}]`, "because it is defined in a junctor"));
    valueValidation(property, described, `${at}.properties[${name}]`, errors);
  }
  if (inner.items) {
    if (!outer?.items) errors.push(required(`${at}.items`, "because it is defined in a junctor"));
    valueValidation(inner.items, outer?.items, `${at}.items`, errors);
  }
  for (const junctor of JUNCTORS) {
    (inner[junctor] ?? []).forEach((each: Json, i: number) => {
      valueValidation(each, outer, `${at}.${junctor}[${i}]`, errors);
    });
  }
  if (inner.not) valueValidation(inner.not, outer, `${at}.not`, errors);
}
